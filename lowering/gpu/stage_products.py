"""`stage-products`: large products multiply blocks that the threads of a task have brought close.

Enters: tile IR scheduled for a GPU. Leaves: each `tile.product` with at least 16 rows and 8 columns
as a loop over blocks of k, which copies a block of either operand to shared memory and multiplies
what is there. Rows gathered by a vector of indices are gathered by the copy; an operand with k in
front of its rows is copied as it lies; past the end of k, and past `columns`, blocks are zero.
Operands that lie packed (`pack_operands.py`) come from there, panel by panel.

    %p = tile.product %x[%rows, %zero] k 1, %w[%zero, %zero] k 0 to %extent

becomes, with %a and %b of the type tile.shared

    %p = scf.for %k = %zero to %extent step %c32 iter_args(%sum = %zeros) {
      %left = scalar.sub %extent, %k
      tile.copy %x[%rows, %k] axis 1 valid %c16, %left to %a[%zero, %zero] shape [16, 32]
      tile.copy %w[%k, %zero] rows 0 axis 1 valid %left, %c64 to %b[%zero, %zero] shape [32, 64]
      tile.barrier
      %next = tile.product %sum + %a[%lanes, %zero] k 1, %b[%zero, %zero] k 0 to %c32
      tile.barrier
      scf.yield %next
    }
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr, VectorType
from xdsl.dialects.scf import ForOp
from xdsl.ir import Block, SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.tile import KernelOp, LanesOp, ProductOp
from hectorite.dialects.tile_async import CopyOp, SharedOp
from hectorite.dialects.tile_layout import BarrierOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.scalar import ConstantOp
from hectorite.ir.space import TensorType
from hectorite.ir.target import DEFAULT_TARGET, Target, target
from hectorite.lowering.gpu.panel_copies import Operand, PanelCopies, left_operand, right_operand
from hectorite.lowering.kernels.row_runs import first_of_run
from hectorite.lowering.kernels.tile_code import Code

LEAST_ROWS, LEAST_COLUMNS = 16, 8
"""The smallest product that a tensor instruction does."""

ROW_BYTES = 64
"""Bytes of k that one block has of each row: two instructions deep, whatever the type."""

LEAST_DEPTH = 16
GROUP = 128
"""Threads of four warps, which do a product together where they can."""

TENSOR_TYPES = {"i8": "s8", "u8": "s8"}
"""What rates of targets call element types."""

UNIT = "unit"
"""The attribute of a product that groups of warps may do, on targets where they can."""

BLOCK_K, STAGES = "block_k", "stages"
"""Attributes of a product that choose for it: elements of k in a block, stages of the loop."""

IN_FLIGHT = "in_flight"
"""The attribute of a product by groups of warps that says how many may still be under way, itself
among them, when the next operation begins (`tile.finish`)."""

PACKED_A, PACKED_B = "packed_a", "packed_b"
"""Attributes of a product an operand of which lies packed, in the parameter of that number."""


@dataclass(frozen=True)
class StageProducts(ModulePass):
    """Large products multiply blocks that the threads of a task have brought close."""

    name = "stage-products"

    target: str = DEFAULT_TARGET

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for kernel in op.ops:
            if isinstance(kernel, KernelOp):
                products = [inner for inner in kernel.walk() if isinstance(inner, ProductOp)]
                for product in products:
                    if is_large(product):
                        _Staging(kernel, product, target(self.target)).run()


def is_shared(tensor: SSAValue) -> bool:
    """Whether a tensor is memory that the threads of a task share."""
    return isinstance(tensor.owner, SharedOp)


def is_large(op: ProductOp) -> bool:
    """Whether a product is worth blocks in shared memory."""
    rows, columns = shape_of(op.result.type)
    if rows % LEAST_ROWS or columns % LEAST_COLUMNS or is_shared(op.a) or is_shared(op.b):
        return False
    return any(shape_of(index.type) for index in op.a_indices)


def constant_value(value: SSAValue) -> int | None:
    """The number that an index is known to be."""
    owner = value.owner
    return int(owner.number) if isinstance(owner, ConstantOp) else None


def block_depth(op: ProductOp, target: Target) -> int:
    """How many elements of k a block has."""
    chosen = op.attributes.get(BLOCK_K)
    if isinstance(chosen, IntegerAttr):
        return chosen.value.data
    elements = [cast(TensorType, t.type).element_type for t in (op.a, op.b)]
    return depth_of(elements, constant_value(op.extent), target)


def depth_of(elements: Sequence[ElementType], extent: int | None, target: Target) -> int:
    """The same for operands of these types, and so many elements of k in all."""
    size = max(element.storage.itemsize for element in elements)
    # Groups of warps are waited for after each block, so theirs are twice as deep.
    deep = all(TENSOR_TYPES.get(e.name, e.name) in target.wgmma for e in elements)
    depth = max(LEAST_DEPTH, (2 * ROW_BYTES if deep else ROW_BYTES) // size)
    while extent is not None and depth >= 2 * extent and depth > LEAST_DEPTH:
        depth //= 2
    return depth


class _Staging:
    """One product becomes a loop."""

    def __init__(self, kernel: KernelOp, op: ProductOp, target: Target):
        self.op = op
        self.target = target
        self.threads = kernel.thread_count
        self.entry = kernel.body.block
        self.block = Block()
        self.code = Code(self.block, self.entry)
        self.rows, self.columns = shape_of(op.result.type)
        self.extent = constant_value(op.extent)
        self.depth = block_depth(op, target)
        self.a_depth = self.depth if op.codes is None else self.depth // 2
        self.zero = self.code.constant(0)
        self.panels_a = self._panels(kernel, PACKED_A, left_operand(op))
        self.panels_b = self._panels(kernel, PACKED_B, right_operand(op))

    def _panels(self, kernel: KernelOp, name: str, operand: Operand | None) -> PanelCopies | None:
        number = self.op.attributes.get(name)
        if operand is None or not isinstance(number, IntegerAttr):
            return None
        return PanelCopies(self.code, operand, kernel.parameters[number.value.data])

    def run(self) -> None:
        op, code = self.op, self.code
        start = op.init or code.constant(_zero(op.result.type), op.result.type)
        (result,) = code.loop(self.zero, op.extent, self.depth, [start], self._step)
        loop = cast(ForOp, result.owner)
        if STAGES in op.attributes:
            loop.attributes[STAGES] = op.attributes[STAGES]
        for each in list(self.block.ops):
            each.detach()
            cast(Block, op.parent).insert_op_before(each, op)
        result.name_hint = op.result.name_hint
        op.result.replace_all_uses_with(result)
        op.detach()
        op.erase()

    def _step(self, code: Code, k: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        left = None
        if self.extent is None or self.extent % self.depth:
            left = code.scalar("sub", self.op.extent, k)
        codes = self.op.codes
        if codes is None:
            code_indices, a_k, a_left = [], k, left
        else:
            # Half of the steps are kept, and a byte has the codes of eight steps.
            a_k = code.scalar("floordiv", k, code.constant(2))
            byte, a_left = code.scalar("floordiv", k, code.constant(8)), None
            code_indices = _moved(code, self.op.code_indices, len(self.op.code_indices) - 1, byte)
        a, a_indices, a_axis = self._copy_a(code, a_k, a_left)
        b, b_axis, n_axis = self._copy_b(code, k, left)
        code.add(BarrierOp())
        product = ProductOp(
            carried[0],
            a,
            a_indices,
            a_axis,
            b,
            [self.zero, self.zero],
            b_axis,
            code.constant(self.depth),
            self.op.result.type,
            n_axis=n_axis,
            codes=codes,
            code_indices=code_indices,
        )
        if self.target.has("wgmma") and codes is None:
            product.attributes[UNIT] = StringAttr("wgmma")
        result = code.add(product)
        code.add(BarrierOp())
        return [result]

    def _shared(self, like: SSAValue, shape: tuple[int, int]) -> SSAValue:
        type = TensorType.of(cast(TensorType, like.type).element, shape)
        op = SharedOp(type)
        first = self.entry.first_op
        assert first is not None
        self.entry.insert_op_before(op, first)
        op.result.name_hint = f"{like.name_hint}_block" if like.name_hint else None
        return op.result

    def _copy_a(
        self, code: Code, k: SSAValue, left: SSAValue | None
    ) -> tuple[SSAValue, list[SSAValue], int]:
        """The block of `a` in shared memory, the indices of its rows there, and where k is."""
        op, axis = self.op, self.op.a_axis.value.data
        lanes = code.add(LanesOp(self.rows))
        if self.panels_a is not None:
            return self._packed(code, k, self.panels_a), [lanes, self.zero], 1
        indices = _moved(code, op.a_indices, axis, k)
        last = len(indices) - 1
        # Rows that repeat another cannot be neighbours in shared memory, so they are gathered.
        first = first_of_run(indices[last]) if axis != last else None
        if first is None or any(shape_of(i.type) for i in indices[:last]):
            shape = self.rows, self.a_depth
            shared = self._shared(op.a, shape)
            valid = None if left is None else (code.constant(self.rows), left)
            self._copy(code, op.a, indices, axis, shared, shape, None, valid)
            return shared, [lanes, self.zero], 1
        shared = self._shared(op.a, (self.depth, self.rows))
        indices[last] = first
        valid = None if left is None else (left, code.constant(self.rows))
        self._copy(code, op.a, indices, last, shared, (self.depth, self.rows), axis, valid)
        return shared, [self.zero, lanes], 0

    def _packed(self, code: Code, k: SSAValue, panels: PanelCopies) -> SSAValue:
        shared = self._shared(panels.operand.tensor, panels.operand.extents(self.depth))
        panels.write(code, k, self.depth, shared)
        return shared

    def _copy_b(self, code: Code, k: SSAValue, left: SSAValue | None) -> tuple[SSAValue, int, int]:
        """The block of `b` in shared memory, and along which dimensions k and the columns are."""
        op, axis = self.op, self.op.b_axis.value.data
        if self.panels_b is not None:
            shared = self._packed(code, k, self.panels_b)
            return (shared, 0, 1) if self.panels_b.operand.k_first else (shared, 1, 0)
        indices = _moved(code, op.b_indices, axis, k)
        counts = left, op.columns
        extents = self.depth, self.columns
        axes = axis, op.column_axis
        k_first = op.column_axis == len(indices) - 1
        if not k_first:
            counts, extents, axes = (op.columns, left), (self.columns, self.depth), axes[::-1]
        shared = self._shared(op.b, extents)
        valid = None
        if counts != (None, None):
            first, second = (
                code.constant(extent) if count is None else count
                for count, extent in zip(counts, extents, strict=True)
            )
            valid = first, second
        self._copy(code, op.b, indices, axes[1], shared, extents, axes[0], valid)
        return (shared, 0, 1) if k_first else (shared, 1, 0)

    def _copy(
        self,
        code: Code,
        source: SSAValue,
        indices: Sequence[SSAValue],
        axis: int,
        shared: SSAValue,
        shape: tuple[int, int],
        row_axis: int | None,
        valid: tuple[SSAValue, SSAValue] | None,
    ) -> None:
        places = [self.zero, self.zero]
        code.add(
            CopyOp(source, indices, axis, shared, places, shape, row_axis=row_axis, valid=valid)
        )


def _moved(code: Code, indices: Sequence[SSAValue], axis: int, k: SSAValue) -> list[SSAValue]:
    """Indices with k added to that of one dimension."""
    moved = list(indices)
    moved[axis] = k if constant_value(moved[axis]) == 0 else code.scalar("add", moved[axis], k)
    return moved


def _zero(type: VectorType) -> float | int:
    return 0.0 if element_of(type.get_element_type()).is_float else 0
