"""What tests of several backends share: one kernel written as text, run on the CPU and as PTX."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import pytest
from xdsl.dialects.builtin import IntegerAttr
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cpu.program import CpuExecutable, build
from hectorite.backends.cuda.driver import device
from hectorite.backends.cuda.program import CudaExecutable
from hectorite.backends.cuda.program import build as build_cuda
from hectorite.backends.ptx.device import PtxExecutable
from hectorite.backends.ptx.device import build as build_ptx
from hectorite.backends.ptx.module import to_ptx_text
from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import schema_of
from hectorite.dialects.tile import KernelOp
from hectorite.frontend.compiled.targets import default_target
from hectorite.ir.target import target


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


@cache
def ptx_of(text: str, threads: int) -> str:
    """The PTX of a tile module whose tasks take so many threads."""
    module = Parser(make_context(), text).parse_module()
    for op in module.ops:
        if isinstance(op, KernelOp):
            op.threads = IntegerAttr(threads, 64)
    module.verify()
    return to_ptx_text(module, target("sm_80"))


@cache
def executed(text: str, threads: int) -> PtxExecutable | CudaExecutable:
    """The same as an executable: on a GPU with `--target cuda`, else of the executor."""
    if default_target().startswith("cuda"):
        return build_cuda(ptx_of(text, threads), device())
    return build_ptx(ptx_of(text, threads))


ON_PTX = {"test_llvm_memory": 32, "test_llvm_kernel": 128}
"""Modules whose kernels run also as PTX, and the threads of a task."""

CPU_ALONE = {"test_pad", "test_type_without_code", "test_offsets_beyond_31_bits"}
"""Tests of messages of the CPU, and of indices that do not fit in 32 bits."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "run_kernel" in metafunc.fixturenames:
        threads = ON_PTX.get(metafunc.module.__name__.rpartition(".")[2])
        machines = [None, threads] if threads else [None]
        if metafunc.function.__name__ in CPU_ALONE:
            machines = [None]
        names = ["cpu" if machine is None else "ptx" for machine in machines]
        metafunc.parametrize("run_kernel", machines, ids=names, indirect=True)


@pytest.fixture
def run_kernel(request: pytest.FixtureRequest) -> Callable[..., tuple[Any, ...]]:
    """`run_kernel(body, inputs, outputs, arguments, tasks=1, **sets)` gives the outputs."""
    return lambda *given, **more: run_on(request.param, *given, **more)


@pytest.fixture
def run_ptx() -> Callable[..., tuple[Any, ...]]:
    """The same as PTX; what comes first is the number of threads of a task."""
    return run_on


@pytest.fixture
def kernel_ptx() -> Callable[..., str]:
    """`kernel_ptx(threads, body, inputs, outputs, *sets)` is the PTX of one kernel."""

    def emitted(threads: int, body: str, inputs: Any, outputs: Any, *sets: str) -> str:
        declarations = "".join(f"graph.set @{name}\n" for name in sets)
        return ptx_of(declarations + one_kernel(body, inputs, outputs), threads)

    return emitted


def run_on(
    threads: int | None,
    body: str,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    arguments: Mapping[str, Any],
    tasks: int = 1,
    **sets: int,
) -> tuple[Any, ...]:
    declarations = "".join(f"graph.set @{name}\n" for name in sets)
    text = declarations + one_kernel(body, inputs, outputs, tasks)
    executable = compiled(text) if threads is None else executed(text, threads)
    schema = schema_of(Parser(make_context(), text).parse_module())
    return executable.run(Binding(schema, sets), arguments)
