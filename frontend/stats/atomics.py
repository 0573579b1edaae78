"""How often the tasks of a GPU add to results that they share, on bound data.

Enters: a tile module for a GPU, and the values of its plan on the data. Leaves: for each set, how
many rows are added to memory, each of whose elements is one atomic operation.

    work(split)     a part of a row for each window of elements that it has a part in
    two steps       each element of a group, for each group that is summed
    scattered rows  each row of a product

It is derived from what the kernels do: a store that combines is counted, whoever asked for it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hectorite.backends.host.plan import program_of
from hectorite.backends.host.plan_values import Launch, PlanValues
from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_memory import StoreOp
from hectorite.dialects.tile_program import LaunchOp, LayoutOp
from hectorite.ir.schema import Schema
from hectorite.lowering.machine import Machine

Array = np.ndarray[Any, Any]


def added_rows(module: Any, values: PlanValues, machine: Machine) -> dict[str, int]:
    """Rows that are added to memory, by the set whose elements are added up."""
    program = program_of(module)
    kernels = {op.sym_name.data: op for op in module.ops if isinstance(op, KernelOp)}
    launches = [op for op in program.body.block.ops if isinstance(op, LaunchOp)]
    found = dict[str, int]()
    for op, launch in zip(launches, values.launches, strict=True):
        kernel = kernels[op.kernel.root_reference.data]
        targets = {
            store.tensor
            for store in kernel.walk()
            if isinstance(store, StoreOp) and store.combine is not None and store.own is None
        }
        layouts = [each.owner for each in op.arguments if isinstance(each.owner, LayoutOp)]
        if targets and layouts:
            name = base_set(values.binding.schema, layouts[0].of.data)
            each = _rows(kernel, op, launch, values, machine)
            found[name] = found.get(name, 0) + len(targets) * each
    return found


def base_set(schema: Schema, name: str) -> str:
    """The set that a position set is a part of a format of."""
    encoded = schema.sets[name].encoded
    return name if encoded is None else base_set(schema, encoded.of)


def _rows(
    kernel: KernelOp, op: LaunchOp, launch: Launch, values: PlanValues, machine: Machine
) -> int:
    """Rows that the tasks of one launch add to each of their tensors."""
    by_name: dict[str, tuple[LayoutOp, Array]] = {}
    for argument, value in zip(op.arguments, launch.arguments, strict=True):
        if isinstance(argument.owner, LayoutOp):
            assert isinstance(value, np.ndarray)
            by_name.setdefault(argument.owner.what.data, (argument.owner, value))
    if "pairs" in by_name:
        stretches = by_name["pairs"][1].reshape(-1, 4)
        return int((stretches[:, 3] - stretches[:, 2]).sum())
    if kernel.work is not None and kernel.work.data == "split" and "segments" in by_name:
        return parts_of_rows(by_name["segments"][1], machine.split_elements)
    (layout, _) = next(iter(by_name.values()))
    return values.size(layout.of.data)


def parts_of_rows(pointers: Array, size: int) -> int:
    """Into how many parts windows of so many elements cut the rows that have elements."""
    begins = pointers[:-1][np.diff(pointers) > 0]
    windows = np.arange(0, int(pointers[-1]), size)
    return len(np.union1d(begins, windows))
