"""Where the variables of a kernel live, and module variables put into memory.

Enters: a module and one of its kernels, calls replaced. Leaves: a `Layout`: offsets of shared,
local and parameter variables, and the global addresses of the module's variables.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.memory import DeviceMemory
from hectorite.backends.ptx.thread_code import Layout
from hectorite.ir.ptx.syntax import Function, Module, Symbol, Variable


def element_size(type: str) -> int:
    dtype, count = DTYPES[type]
    return np.dtype(dtype).itemsize * count


def size_of(variable: Variable) -> int:
    """Bytes of a variable; 0 for one that the launch sizes."""
    return element_size(variable.type) * (1 if variable.count is None else variable.count)


def align_of(variable: Variable) -> int:
    return variable.align or element_size(variable.type)


def _place(offset: int, variable: Variable) -> tuple[int, int]:
    """Where a variable begins at or after an offset, and where it ends."""
    align = align_of(variable)
    start = -(-offset // align) * align
    return start, start + size_of(variable)


def parameter_offsets(parameters: tuple[Variable, ...]) -> tuple[dict[str, int], int]:
    """Byte offsets of a kernel's parameters, and where the last ends."""
    offsets: dict[str, int] = {}
    end = 0
    for variable in parameters:
        offsets[variable.name], end = _place(end, variable)
    return offsets, end


def layout_of(module: Module, kernel: Function, addresses: Mapping[str, int]) -> Layout:
    """The layout of a kernel whose module's variables lie at `addresses`.

    Dynamic shared memory begins behind the static one; `dynamic_offset` is where.
    """
    layout = Layout(addresses=dict(addresses))
    layout.parameters, layout.parameter_bytes = parameter_offsets(kernel.parameters)
    shared_end = local_end = 0
    dynamic: list[Variable] = []
    for variable in (*module.variables, *kernel.variables):
        if variable.space == "shared":
            if variable.count == 0 or variable.is_extern:
                dynamic.append(variable)
            else:
                layout.shared[variable.name], shared_end = _place(shared_end, variable)
        elif variable.space in ("local", "param"):
            layout.local[variable.name], local_end = _place(local_end, variable)
    align = max([16, *(align_of(variable) for variable in dynamic)])
    layout.dynamic_offset = -(-shared_end // align) * align if dynamic else shared_end
    for variable in dynamic:
        layout.shared[variable.name] = layout.dynamic_offset
    layout.local_bytes = local_end
    return layout


def place_variables(module: Module, memory: DeviceMemory) -> dict[str, int]:
    """Allocate the global and constant variables of a module, with their initial values."""
    addresses: dict[str, int] = {}
    kept = [v for v in module.variables if v.space in ("global", "const") and not v.is_extern]
    for variable in kept:
        addresses[variable.name] = memory.allocate(size_of(variable), variable.name)
    for variable in kept:
        if size_of(variable):
            _fill(variable, addresses, memory)
    return addresses


def _fill(variable: Variable, addresses: dict[str, int], memory: DeviceMemory) -> None:
    dtype = np.dtype(DTYPES[variable.type][0])
    view = memory.view(addresses[variable.name], size_of(variable), dtype)
    view[:] = 0
    for index, value in enumerate(variable.values):
        if isinstance(value, Symbol):
            value = addresses[value.name] + value.offset
        if isinstance(value, int) and dtype.kind in "ui":
            unsigned = value % (1 << (8 * dtype.itemsize))
            view[index] = np.array(unsigned, f"u{dtype.itemsize}").view(dtype)
        else:
            view[index] = value
    memory.mark_written(addresses[variable.name], size_of(variable))
