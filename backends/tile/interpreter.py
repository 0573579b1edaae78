"""Runs a module of the `tile` dialect on NumPy arrays, one task after the other, and checks it.

Enters: a module with one `tile.program` and its kernels, bound sets, and arguments. Leaves: the
results, in storage types; arithmetic is done in the types of the program. An access outside its
tensor, a read of what was never written, and a race between tasks are errors that name the kernel.

Each operation of a kernel becomes one Python closure (`steps.py`), and loops run closures
again: slow next to machine code, and fast enough to check it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from hectorite.backends.arrays import as_array
from hectorite.backends.bound.binding import Binding
from hectorite.backends.tile.steps import ARITHMETIC, TASK, KernelSteps, Slots
from hectorite.backends.tile.watched_memory import Memory
from hectorite.dialects.graph_sets import schema_of
from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_program import (
    AllocateOp,
    LaunchOp,
    LayoutOp,
    LengthOp,
    ProgramOp,
    ReturnOp,
)
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, fail
from hectorite.ir.element import element_of
from hectorite.ir.space import Dim, TensorType

Array = np.ndarray[Any, Any]


def run_tile(
    module: ModuleOp,
    binding: Binding,
    arguments: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
) -> tuple[Array, ...]:
    """Results of the program of a module, as arrays of their storage types.

    `arguments` gives every tensor (any array of the declared type) and scalar by name; `sizes` the
    sizes that neither the binding nor the module fixes. Raises `HectoriteError` for wrong arguments
    and for every fault described above.
    """
    programs = [op for op in module.ops if isinstance(op, ProgramOp)]
    if len(programs) != 1:
        raise fail(f"expected one tile.program, got {len(programs)}")
    binding.extend(schema_of(module))
    with np.errstate(all="ignore"):
        return _Host(module, binding, dict(sizes or {})).run(programs[0], arguments)


class _Host:
    """Runs the program, which allocates, asks for layouts and launches."""

    def __init__(self, module: ModuleOp, binding: Binding, sizes: dict[str, int]):
        self.binding = binding
        self.sizes = sizes
        self.kernels = {op.sym_name.data: op for op in module.ops if isinstance(op, KernelOp)}
        self.values: dict[SSAValue, Any] = {}

    def size(self, dim: Dim) -> int:
        """Extent of a dimension."""
        if isinstance(dim, int):
            return dim
        return self.sizes[dim] if dim in self.sizes else self.binding.size(dim)

    def run(self, program: ProgramOp, arguments: Mapping[str, Any]) -> tuple[Array, ...]:
        for name, argument in zip(program.names, program.body.block.args, strict=True):
            if name not in arguments:
                raise fail(f"the argument `{name}` is missing")
            self.values[argument] = self._argument(name, argument, arguments[name])
        for op in program.body.block.ops:
            if isinstance(op, ReturnOp):
                return tuple(self._result(self.values[value]) for value in op.values)
            self._operation(op)
        raise AssertionError("a program ends in tile.return")

    def _argument(self, name: str, argument: SSAValue, value: Any) -> Any:
        type = argument.type
        if not isinstance(type, TensorType):
            element = element_of(type)
            return ARITHMETIC.load(as_array(value, element, (), name), element)[0]
        dims = [(str(dim), self.size(dim)) for dim in type.dims]
        array = as_array(value, type.element_type, dims, name)
        return Memory(name, type.element_type, array, writable=False)

    def _operation(self, op: Operation) -> None:
        if isinstance(op, LaunchOp):
            self._launch(op)
        elif isinstance(op, LayoutOp):
            self.values[op.result] = self._layout(op)
        elif isinstance(op, LengthOp):
            self.values[op.result] = len(self.values[op.layout].flat)
        elif isinstance(op, AllocateOp):
            self.values[op.result] = self.allocate(op.result)
        else:
            slots = [self.values[operand] for operand in op.operands]
            places = {operand: i for i, operand in enumerate(op.operands)}
            KernelSteps(self.size, self.allocate, places, slots).step(op)(slots)
            self.values[op.results[0]] = slots[-1]

    def allocate(self, value: SSAValue) -> Memory:
        type = cast(TensorType, value.type)
        shape = tuple(self.size(dim) for dim in type.dims)
        element = type.element_type
        name = value.name_hint or "allocated"
        return Memory(name, element, np.zeros(shape, element.storage), writable=True)

    def _layout(self, op: LayoutOp) -> Memory:
        limit = None if op.limit is None else op.limit.value.data
        path = None if op.path is None else op.path.data[0]
        array = self.binding.layout(op.what.data, op.of.data, op.keys.data, path, limit)
        element = op.result.type.element_type
        return Memory(op.result.name_hint or op.what.data, element, array, writable=False)

    def _result(self, value: Any) -> Array:
        if not isinstance(value, Memory):
            return np.asarray(value)
        if value.written is not None and not value.written.all():
            place = value.element_name(int(np.argmin(value.written)))
            raise fail(f"`{place}` is returned, but nothing has written it")
        return value.array

    def _launch(self, op: LaunchOp) -> None:
        name = op.kernel.string_value()
        kernel = self.kernels.get(name)
        if kernel is None:
            raise fail(f"there is no kernel `{name}`")
        arguments = [self.values[argument] for argument in op.arguments]
        slots: Slots = [0, *arguments]
        places: dict[SSAValue, int] = {value: i for i, value in enumerate(kernel.body.block.args)}
        compiler = KernelSteps(self.size, self.allocate, places, slots)
        steps = compiler.block(kernel.body.block)
        watched = [memory for memory in arguments if isinstance(memory, Memory)]
        watched = [memory for memory in watched if memory.writable]
        for memory in watched:
            memory.watch()
        try:
            for task in range(self.values[op.tasks]):
                slots[TASK] = task
                for step in steps:
                    step(slots)
        except HectoriteError as error:
            said = error.diagnostics[0].message
            message = f"kernel `{name}`, task {slots[TASK]}: {said}"
            raise HectoriteError([Diagnostic(message)]) from error
        for memory in watched:
            memory.rest()
