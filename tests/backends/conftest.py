"""What tests of several backends share: one kernel written as text, run on the CPU."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
from xdsl.parser import Parser

from hectorite.backends.binding import Binding
from hectorite.backends.cpu import CpuExecutable, build
from hectorite.dialects.context import make_context


@pytest.fixture
def program_text() -> Callable[..., str]:
    """`program_text(body, inputs, outputs, tasks=1)`: a program that launches one kernel with this
    body; types are given as `f32[n, 4]`, those of numbers as `f32`."""
    return one_kernel


def one_kernel(
    body: str, inputs: Mapping[str, str], outputs: Mapping[str, str], tasks: int = 1
) -> str:
    types = {
        name: f"!hec.tensor<{type}>" if "[" in type else type
        for name, type in {**inputs, **outputs}.items()
    }
    names = ", ".join(f"%{name}" for name in types)
    given = ", ".join(f"%{name}: {types[name]}" for name in inputs)
    returned = ", ".join(types[name] for name in outputs)
    allocated = "\n".join(f"  %{name} = tile.allocate : {types[name]}" for name in outputs)
    parameters = "".join(f", %{name}: {type}" for name, type in types.items())
    return f"""
        tile.program @main({given}) -> ({returned}) {{
          {allocated}
          %tasks = scalar.constant {tasks} : index
          tile.launch @k({names}) tasks %tasks : ({", ".join(types.values())})
          tile.return {", ".join(f"%{name}" for name in outputs)} : {returned}
        }}
        tile.kernel @k(%task: index{parameters}) {{
          %zero = scalar.constant 0 : index
          %one = scalar.constant 1 : index
          {body}
          tile.end
        }}
    """


@cache
def compiled(text: str) -> CpuExecutable:
    """The executable of a tile module; each text is compiled once."""
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return build(module)


@pytest.fixture
def run_kernel() -> Callable[..., tuple[Any, ...]]:
    """`run_kernel(body, inputs, outputs, arguments, tasks=1, **sets)` gives the outputs."""

    def run(
        body: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        arguments: Mapping[str, Any],
        tasks: int = 1,
        **sets: int,
    ) -> tuple[Any, ...]:
        declarations = "".join(f"graph.set @{name}\n" for name in sets)
        executable = compiled(declarations + one_kernel(body, inputs, outputs, tasks))
        return executable.run(Binding(executable.schema, sets), arguments)

    return run
