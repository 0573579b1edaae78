"""Write a product with what is kept of a tensor where no dense axis makes lanes, for a CPU.

    y[m] += V[m, g, s] * x[4*g + code(m, g, s)]

    a task does some rows m, each a chunk of entries at a time:
    %sum0 += V[m, .., 0] * x[..];  %sum1 += V[m, .., 1] * x[..];  ...      four sums in turn

Enters: a `KeptProduct` without lanes, and where its tensors are. Leaves: the body of its kernel.
An entry that is 0 adds nothing, whatever it would be multiplied with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LoadOp, StoreOp
from hectorite.ir.element import element_of
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.kernels.kept_codes import EntryCodes, split_point
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.match.kept import KeptProduct

TASK_ROWS = 64
"""Rows of a task."""

SUMS = 4
"""Sums of a row, which do not wait for each other."""


def dot_tasks(
    product: KeptProduct, statement: StatementOp, size: Callable[[Dim], SSAValue], code: Code
) -> SSAValue:
    """The number of tasks, in the host program."""
    dims = dict(statement.variables.data)
    rows = code.plus(size(dims[product.rows]), TASK_ROWS - 1)
    tasks = code.scalar("floordiv", rows, code.constant(TASK_ROWS))
    for name in product.loops:
        tasks = code.scalar("mul", tasks, size(dims[name]))
    return tasks


@dataclass
class DotEmitter:
    """Writes the kernel. All tensors are its parameters; `start` is what the result goes on
    from."""

    product: KeptProduct
    statement: StatementOp
    builder: KernelBuilder
    values: SSAValue
    codes: SSAValue
    dense: SSAValue
    target: SSAValue
    start: SSAValue | None

    def emit(self) -> None:
        """The whole kernel."""
        builder, product, code = self.builder, self.product, self.builder.code
        dims = dict(self.statement.variables.data)
        rows = builder.size(dims[product.rows])
        blocks = code.scalar("floordiv", code.plus(rows, TASK_ROWS - 1), code.constant(TASK_ROWS))
        first = code.scalar(
            "mul", code.scalar("mod", builder.task, blocks), code.constant(TASK_ROWS)
        )
        last = code.scalar("min", code.plus(first, TASK_ROWS), rows)
        rest = code.scalar("floordiv", builder.task, blocks)
        self.at = split_point(code, builder, rest, product.loops, dims)

        def row(inner: Code, number: SSAValue, _: object) -> tuple[()]:
            self._row(inner, number)
            return ()

        code.loop(first, last, 1, (), row)

    def _row(self, code: Code, row: SSAValue) -> None:
        product, type = self.product, self.statement.value.type
        groups = product.groups
        each = product.chunk // product.format.keep
        known = {**self.at, product.rows: row}
        sums: Sequence[SSAValue] = [code.constant(0, type)] * SUMS
        if whole := groups // each:

            def chunk(inner: Code, at: SSAValue, sums: Sequence[SSAValue]) -> Sequence[SSAValue]:
                return self._entries(inner, known, at, each, sums)

            sums = code.loop(code.constant(0), code.constant(whole), 1, sums, chunk)
        if groups % each:
            sums = self._entries(code, known, code.constant(whole), groups % each, sums)
        total = sums[0]
        for other in sums[1:]:
            total = code.scalar("add", total, other)
        places = [known[str(e.variable)] for e in self.statement.access.data]
        if self.start is not None:
            old = cast(TensorType, self.start.type)
            loaded = code.add(LoadOp(self.start, places, old.element))
            total = code.scalar("add", total, code.cast(loaded, type))
        target = cast(TensorType, self.target.type)
        code.block.add_op(StoreOp(code.cast(total, target.element), self.target, places))

    def _entries(
        self,
        code: Code,
        known: dict[str, SSAValue],
        chunk: SSAValue,
        groups: int,
        sums: Sequence[SSAValue],
    ) -> Sequence[SSAValue]:
        """Add the entries of the first `groups` groups of a chunk, in turn to each sum."""
        product, type = self.product, self.statement.value.type
        keep, group = product.format.keep, product.format.group
        outer = [known[str(e.variable)] for e in product.outer]
        codes = EntryCodes(product.format, product.chunk, self.codes, code, outer, chunk)
        first = code.scalar("mul", chunk, code.constant(product.chunk))
        base = code.scalar("mul", chunk, code.constant(product.chunk // keep * group))
        zero, new = code.constant(0, type), list(sums)
        for entry in range(groups * keep):
            place = [*outer, code.plus(first, entry)]
            value = code.add(LoadOp(self.values, place, product.values.type.element))
            value = code.cast(value, type)
            k = code.scalar("add", code.plus(base, entry // keep * group), codes.code(entry))
            at = [
                k if i == product.inner_axis else known[str(e.variable)]
                for i, e in enumerate(product.dense.access.data)
            ]
            dense = code.cast(code.add(LoadOp(self.dense, at, product.dense.type.element)), type)
            term = code.scalar("mul", value, dense)
            if element_of(type).is_float:
                term = code.scalar("select", code.scalar("ne", value, zero), term, zero)
            new[entry % SUMS] = code.scalar("add", new[entry % SUMS], term)
        return new
