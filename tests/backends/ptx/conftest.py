"""Single instructions run by the executor: values of registers in, values of registers out.

With `--target cuda` they run on the device instead, and have to give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.machine import Launch, execute
from hectorite.ir.ptx.isa import register_kind
from hectorite.ir.ptx.parse import parse_ptx
from tests.driver import on_device

Array = np.ndarray[Any, Any]
Evaluate = Callable[..., dict[str, Array]]


def kernel_text(statements: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """A kernel in which each thread loads the inputs, runs the statements, stores the outputs."""
    names = [*inputs, *outputs]
    types = [*inputs.values(), *outputs.values()]
    parameters = ", ".join(f".param .u64 p{number}" for number in range(len(names)))
    lines = [f".reg .{'pred' if t == 'pred' else register_kind(t)} %{n};" for n, t in
             zip(names, types, strict=True)]  # fmt: skip
    lines += [".reg .b32 %index, %bool; .reg .b64 %place, %step;", "mov.u32 %index, %tid.x;"]
    for number, (name, type) in enumerate(zip(names, types, strict=True)):
        size = 4 if type == "pred" else np.dtype(DTYPES[type][0]).itemsize * DTYPES[type][1]
        lines.append(f"ld.param.u64 %place, [p{number}];")
        lines.append(f"mad.wide.u32 %place, %index, {size}, %place;")
        if number == len(inputs):
            lines.append(statements)
            lines.append(f"ld.param.u64 %place, [p{number}];")
            lines.append(f"mad.wide.u32 %place, %index, {size}, %place;")
        if number < len(inputs) and type == "pred":
            lines.append(f"ld.global.u32 %bool, [%place]; setp.ne.u32 %{name}, %bool, 0;")
        elif number < len(inputs):
            lines.append(f"ld.global.b{8 * size} %{name}, [%place];")
        elif type == "pred":
            lines.append(f"selp.u32 %bool, 1, 0, %{name}; st.global.u32 [%place], %bool;")
        else:
            lines.append(f"st.global.b{8 * size} [%place], %{name};")
    body = "\n".join(lines)
    return (
        ".version 8.7\n.target sm_90a\n.address_size 64\n"
        f".visible .entry k({parameters})\n{{\n{body}\nret;\n}}\n"
    )


@pytest.fixture
def evaluate() -> Evaluate:
    """evaluate("add.s32 %d, %a, %b;", {"d": "s32"}, a=("s32", array), b=...) -> {"d": array}.

    Arrays have one entry (or one row of a pair) for each thread; predicates are uint32.
    """

    def run(
        statements: str,
        outputs: Mapping[str, str],
        schedule: str = "lockstep",
        **inputs: tuple[str, Any],
    ) -> dict[str, Array]:
        given: list[Array] = []
        threads = 32
        for type, values in inputs.values():
            dtype, count = ("u4", 1) if type == "pred" else DTYPES[type]
            array = np.ascontiguousarray(values).astype(dtype, copy=False)
            threads = max(threads, len(array))
            given.append(array)
        filled = []
        for array in given:
            rows = np.zeros((threads, *array.shape[1:]), array.dtype)
            rows[: len(array)] = array
            filled.append(rows)
        results = {}
        for name, type in outputs.items():
            dtype, count = ("u4", 1) if type == "pred" else DTYPES[type]
            results[name] = np.zeros((threads, count) if count > 1 else threads, dtype)
        types = {name: type for name, (type, _) in inputs.items()}
        text, arguments = kernel_text(statements, types, outputs), [*filled, *results.values()]
        if not on_device.run(text, "k", (1,), (threads,), arguments):
            execute(Launch(parse_ptx(text), "k", (1,), (threads,), arguments), schedule)
        most = max((len(array) for array in given), default=threads)
        return {name: values[:most] for name, values in results.items()}

    return run
