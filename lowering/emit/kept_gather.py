"""Write a product with what is kept of a tensor for a GPU, gathering from shared memory.

    C[m, n] += V[m, N*g + s] * X[M*g + code(m, g, s), n]

    a task does some rows m of a strip of n: for k a block at a time, that
    tile.copy X[%k, %left] to %block
    %sum += splat(V) * tile.load %block[M*g + code, 0]       for each of its rows and entries

Enters: a `KeptProduct` whose dense tensor has the lanes last, and where its tensors are. Leaves:
the body of its kernel. All threads read one row of the block at a time, neighbours next to each
other, so that no two are in one bank, whatever the codes are. An entry that is 0 adds nothing,
whatever it would be multiplied with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import gcd, lcm
from typing import cast

from xdsl.dialects.builtin import VectorType
from xdsl.ir import Attribute, SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LoadOp, StoreOp
from hectorite.dialects.tile_async import CopyOp, SharedOp
from hectorite.dialects.tile_layout import BarrierOp
from hectorite.ir.element import element_of
from hectorite.ir.space import Dim, TensorType
from hectorite.ir.tensor_format import Nm
from hectorite.lowering.kernels.kept_codes import EntryCodes, split_point
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.match.kept import KeptProduct

MOST_ROWS, COPIES = 16, 64
"""The most rows of a task, which use what is copied, and entries of theirs that are written out."""

BLOCK_BYTES, MOST_BYTES = 16 << 10, 64 << 10
"""Bytes of a block in shared memory, and at most, where one unit of entries needs more."""

LANES, LEAST_LANES = 128, 32
"""The most and the least lanes of a strip."""


def fits_gather(product: KeptProduct, statement: StatementOp) -> bool:
    """Whether a product is done so: with lanes that lie side by side."""
    if product.lanes is None or product.dense.access.data[-1].variable != product.lanes:
        return False
    lanes = dict(statement.variables.data)[product.lanes]
    _, steps = _unit_of(product.format)
    block = steps * LEAST_LANES * product.dense.type.element_type.storage.itemsize
    fits = isinstance(lanes, int) and lanes >= LEAST_LANES and block <= MOST_BYTES
    return fits and product.groups > 0


def _unit_of(format: Nm) -> tuple[int, int]:
    """Entries that begin a group as well as a byte, and steps k that they are of."""
    entries = lcm(8 // gcd(8, format.bits), format.keep)
    return entries, entries // format.keep * format.group


@dataclass
class GatherEmitter:
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
    known: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])

    def __post_init__(self) -> None:
        self.dims: dict[str, Dim] = dict(self.statement.variables.data)
        extent, depth = self.dims[str(self.product.lanes)], self._depth
        assert isinstance(extent, int)
        self.extent = extent
        self.unit, self.unit_steps = _unit_of(self.product.format)
        item = self.product.dense.type.element_type.storage.itemsize
        lanes = min(LANES, 1 << (extent - 1).bit_length())
        while lanes > LEAST_LANES and self.unit_steps * lanes * item > BLOCK_BYTES:
            lanes //= 2
        self.lanes = lanes
        self.task_rows = max(1, min(MOST_ROWS, COPIES // self.unit))
        units = max(1, BLOCK_BYTES // (self.unit_steps * lanes * item))
        self.units = min(units, -(-depth // self.unit_steps))
        self.steps = self.units * self.unit_steps

    @property
    def _depth(self) -> int:
        depth = self.product.dense.type.dims[self.product.inner_axis]
        assert isinstance(depth, int)
        return depth

    @property
    def type(self) -> Attribute:
        return self.statement.value.type

    @property
    def row(self) -> VectorType[Attribute]:
        return VectorType(self.type, [self.lanes])

    def tasks(self, size: Callable[[Dim], SSAValue], code: Code) -> SSAValue:
        """The number of tasks, in the host program."""
        rows = code.plus(size(self.dims[self.product.rows]), self.task_rows - 1)
        tasks = code.scalar("floordiv", rows, code.constant(self.task_rows))
        for name in self.product.loops:
            tasks = code.scalar("mul", tasks, size(self.dims[name]))
        return code.scalar("mul", tasks, code.constant(-(-self.extent // self.lanes)))

    def emit(self) -> None:
        """The whole kernel."""
        builder, product, code = self.builder, self.product, self.builder.code
        builder.threads = max(32, min(128, self.lanes))
        strips = code.constant(-(-self.extent // self.lanes))
        strip = code.scalar("mod", builder.task, strips)
        rest = code.scalar("floordiv", builder.task, strips)
        rows = builder.size(self.dims[product.rows])
        blocks = code.scalar(
            "floordiv", code.plus(rows, self.task_rows - 1), code.constant(self.task_rows)
        )
        block = code.scalar("mod", rest, blocks)
        first = code.scalar("mul", block, code.constant(self.task_rows))
        rest = code.scalar("floordiv", rest, blocks)
        self.known = split_point(code, builder, rest, product.loops, self.dims)
        self.left = code.scalar("mul", strip, code.constant(self.lanes))
        there = code.scalar("sub", code.constant(self.extent), self.left)
        self.valid = code.scalar("min", there, code.constant(self.lanes))
        last = code.plus(rows, -1)
        self.rows = [code.scalar("min", code.plus(first, n), last) for n in range(self.task_rows)]
        self.block = SharedOp(TensorType.of(product.dense.type.element, (self.steps, self.lanes)))
        entry = code.entry.first_op
        assert entry is not None
        code.entry.insert_op_before(self.block, entry)
        sums = [self._first(code, row) for row in self.rows]
        whole = product.groups * product.format.keep // self.unit
        if whole:
            bound = code.constant(whole)

            def step(inner: Code, at: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
                count = inner.scalar("sub", bound, at)
                count = inner.scalar("min", count, inner.constant(self.units))
                return self._block(inner, at, count, carried)

            sums = list(code.loop(code.constant(0), bound, self.units, sums, step))
        if rest_groups := product.groups % (self.unit // product.format.keep):
            self._copy(code, code.constant(whole))
            at = code.constant(0)
            sums = self._unit(code, code.constant(whole), at, rest_groups, sums)
        for row, total in zip(self.rows, sums, strict=True):
            self._store(code, row, total)

    def _block(
        self, code: Code, first: SSAValue, count: SSAValue, sums: Sequence[SSAValue]
    ) -> Sequence[SSAValue]:
        """Copy a block of the dense tensor, and add what its units give."""
        self._copy(code, first)
        groups = self.unit // self.product.format.keep

        def unit(inner: Code, number: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            at = inner.scalar("add", first, number)
            base = inner.scalar("mul", number, inner.constant(self.unit_steps))
            return self._unit(inner, at, base, groups, carried)

        sums = code.loop(code.constant(0), count, 1, sums, unit)
        code.add(BarrierOp())
        return sums

    def _copy(self, code: Code, unit: SSAValue) -> None:
        product, zero = self.product, code.constant(0)
        k = code.scalar("mul", unit, code.constant(self.unit_steps))
        names = [str(index.variable) for index in product.dense.access.data]
        places = [
            k
            if i == product.inner_axis
            else self.left
            if name == product.lanes
            else self.known[name]
            for i, name in enumerate(names)
        ]
        steps = code.scalar("sub", code.constant(self._depth), k)
        steps = code.scalar("min", steps, code.constant(self.steps))
        shape = self.steps, self.lanes
        code.add(
            CopyOp(
                self.dense,
                places,
                len(names) - 1,
                self.block.results[0],
                [zero, zero],
                shape,
                row_axis=product.inner_axis,
                valid=(steps, self.valid),
            )
        )
        code.add(BarrierOp())

    def _unit(
        self,
        code: Code,
        unit: SSAValue,
        base: SSAValue,
        groups: int,
        sums: Sequence[SSAValue],
    ) -> list[SSAValue]:
        """Add the entries of the first `groups` groups of a unit to the sums of all rows. `base` is
        where its steps begin in the block."""
        product, (keep, group) = self.product, (self.product.format.keep, self.product.format.group)
        zero = code.constant(0, self.type)
        zeros = code.constant(0, self.row)
        first = code.scalar("mul", unit, code.constant(self.unit))
        new: list[SSAValue] = []
        for row, total in zip(self.rows, sums, strict=True):
            known = {**self.known, product.rows: row}
            outer = [known[str(index.variable)] for index in product.outer]
            codes = EntryCodes(product.format, self.unit, self.codes, code, outer, unit)
            for entry in range(groups * keep):
                place = [*outer, code.plus(first, entry)]
                value = code.add(LoadOp(self.values, place, product.values.type.element))
                value = code.cast(value, self.type)
                k = code.scalar("add", code.plus(base, entry // keep * group), codes.code(entry))
                lanes = VectorType(product.dense.type.element, [self.lanes])
                dense = LoadOp(self.block.results[0], [k, code.constant(0)], lanes, 1)
                term = code.scalar(
                    "mul", code.spread(value, self.lanes), code.cast(code.add(dense), self.type)
                )
                if element_of(self.type).is_float:
                    is_kept = code.spread(code.scalar("ne", value, zero), self.lanes)
                    term = code.scalar("select", is_kept, term, zeros)
                total = code.scalar("add", total, term)
            new.append(total)
        return new

    def _places(self, row: SSAValue) -> tuple[list[SSAValue], int]:
        """Indices of a row in the result, and the dimension of the lanes."""
        known = {**self.known, self.product.rows: row, str(self.product.lanes): self.left}
        names = [str(index.variable) for index in self.statement.access.data]
        return [known[name] for name in names], names.index(str(self.product.lanes))

    def _first(self, code: Code, row: SSAValue) -> SSAValue:
        if self.start is None:
            return code.constant(0, self.row)
        places, axis = self._places(row)
        type = cast(TensorType, self.start.type)
        stored = VectorType(type.element, [self.lanes])
        return code.cast(
            code.add(LoadOp(self.start, places, stored, axis, valid=self.valid)), self.type
        )

    def _store(self, code: Code, row: SSAValue, total: SSAValue) -> None:
        places, axis = self._places(row)
        type = cast(TensorType, self.target.type)
        value = code.cast(total, type.element)
        code.block.add_op(StoreOp(value, self.target, places, axis, valid=self.valid))
