"""Write a product with two of each four elements of a tensor for the tensor instructions of a GPU.

    C[m, n] += V[m, 2*g + s] * X[4*g + code(m, g, s), n]        V, X: f16

    %p = tile.product %V[%rows, %zero] k 1, %X[%zero, %left] k 0 to %k codes %codes[%rows, %zero]

Enters: a `KeptProduct` in the format `nm(2, 4)` of short floats, and where its tensors are. Leaves:
the body of its kernel, a task for each block of rows and strip of lanes. The codes go to the
instruction as they are stored. It multiplies what fills up a group with what stands there: so only
where 0 times anything may be taken for 0, and elsewhere such products are done as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import VectorType
from xdsl.ir import Attribute, SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LoadOp, ProductOp, StoreOp
from hectorite.ir.element import element_of
from hectorite.ir.space import Dim, TensorType
from hectorite.ir.tensor_format import Nm
from hectorite.lowering.formats.nm import FINITE
from hectorite.lowering.kernels.kept_codes import split_point
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.product_shape import LEAST_ROWS, BlockShape, block_shape
from hectorite.lowering.kernels.row_order import RowOrder
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.kept import KeptProduct

STEP_BYTES = 128
"""Bytes of the steps k, were all kept, that are a multiple of what any block has."""

SHORT = {"f16": "f32", "bf16": "f32", "i8": "i32"}
"""Types that sparse tensor instructions multiply, with what they add up in."""


def fits_block(product: KeptProduct, statement: StatementOp) -> bool:
    """Whether tensor instructions for two of four do a product."""
    result = element_of(statement.value.type)
    if product.lanes is None or product.format != Nm(2, 4):
        return False
    if result.is_float and FINITE not in statement.attributes:
        return False
    element, dense = product.values.type.element_type, product.dense.type
    if dense.element_type != element or SHORT.get(element.name) != result.name:
        return False
    dims = dict(statement.variables.data)
    rows, depth = dims[product.rows], dense.dims[product.inner_axis]
    access = _names(product)
    axes = {product.inner_axis, access.index(product.lanes)}
    if axes != {len(access) - 2, len(access) - 1} or not isinstance(depth, int):
        return False
    enough = isinstance(rows, int) and rows >= LEAST_ROWS
    whole = depth * element.storage.itemsize % STEP_BYTES == 0
    return enough and whole and depth == 4 * product.groups


def _names(product: KeptProduct) -> list[str | None]:
    return [index.variable for index in product.dense.access.data]


@dataclass
class BlockEmitter:
    """Writes the kernel. All tensors are its parameters; `start` is what the result goes on
    from."""

    product: KeptProduct
    statement: StatementOp
    builder: KernelBuilder
    machine: Machine
    values: SSAValue
    codes: SSAValue
    dense: SSAValue
    target: SSAValue
    start: SSAValue | None

    @property
    def dims(self) -> dict[str, Dim]:
        return dict(self.statement.variables.data)

    @property
    def lanes(self) -> int:
        extent = self.dims[str(self.product.lanes)]
        assert isinstance(extent, int)
        return extent

    @property
    def shape(self) -> BlockShape:
        rows, type = self.dims[self.product.rows], self.statement.value.type
        return block_shape(rows, self.lanes, type, False, self.machine)

    def tasks(self, size: Callable[[Dim], SSAValue], code: Code) -> SSAValue:
        """The number of tasks, in the host program."""
        rows, shape = self.dims[self.product.rows], self.shape
        assert isinstance(rows, int)
        total = code.constant(-(-rows // shape.rows) * -(-self.lanes // shape.lanes))
        for name in self.product.loops:
            total = code.scalar("mul", total, size(self.dims[name]))
        return total

    def emit(self) -> None:
        """The whole kernel."""
        builder, product, shape, code = self.builder, self.product, self.shape, self.builder.code
        builder.threads = shape.threads
        rows, depth = self.dims[product.rows], 4 * product.groups
        assert isinstance(rows, int)
        strips, blocks = -(-self.lanes // shape.lanes), -(-rows // shape.rows)
        strip = code.scalar("mod", builder.task, code.constant(strips))
        rest = code.scalar("floordiv", builder.task, code.constant(strips))
        first = code.scalar(
            "mul", code.scalar("mod", rest, code.constant(blocks)), code.constant(shape.rows)
        )
        rest = code.scalar("floordiv", rest, code.constant(blocks))
        known = split_point(code, builder, rest, product.loops, self.dims)
        order = RowOrder(first, code.constant(rows))
        known[product.rows] = order.row(code, builder, order.block(code, first, shape.rows))
        left = code.scalar("mul", strip, code.constant(shape.lanes))
        known[str(product.lanes)] = left
        valid = None
        if self.lanes % shape.lanes:
            there = code.scalar("sub", code.constant(self.lanes), left)
            valid = code.scalar("min", there, code.constant(shape.lanes))
        zero = code.constant(0)
        outer = [known[str(index.variable)] for index in product.outer]
        names = _names(product)
        dense = [
            zero if axis == product.inner_axis else known[str(name)]
            for axis, name in enumerate(names)
        ]
        tile = VectorType(self.statement.value.type, [shape.rows, shape.lanes])
        op = ProductOp(
            self._start(code, known, valid, tile),
            self.values,
            [*outer, zero],
            len(outer),
            self.dense,
            dense,
            product.inner_axis,
            code.constant(depth),
            tile,
            valid,
            names.index(product.lanes),
            self.codes,
            [*outer, zero],
        )
        self._store(code, known, valid, code.add(op))

    def _places(self, known: dict[str, SSAValue]) -> tuple[list[SSAValue], int]:
        """Indices of the block in the result, and the dimension of the lanes."""
        names = [str(index.variable) for index in self.statement.access.data]
        return [known[name] for name in names], names.index(str(self.product.lanes))

    def _start(
        self,
        code: Code,
        known: dict[str, SSAValue],
        valid: SSAValue | None,
        tile: VectorType[Attribute],
    ) -> SSAValue | None:
        if self.start is None:
            return None
        places, axis = self._places(known)
        type = cast(TensorType, self.start.type)
        stored = VectorType(type.element, tile.get_shape())
        old = code.add(LoadOp(self.start, places, stored, axis, valid=valid))
        return code.cast(old, self.statement.value.type)

    def _store(
        self, code: Code, known: dict[str, SSAValue], valid: SSAValue | None, total: SSAValue
    ) -> None:
        places, axis = self._places(known)
        type = cast(TensorType, self.target.type)
        value = code.cast(total, type.element)
        code.block.add_op(StoreOp(value, self.target, places, axis, valid=valid))
