"""`reuse-values`: compute once, and load once, what a kernel needs several times.

Enters: the `tile` dialect. Leaves: the same, where a value that is computed or loaded already is
used again, in the same block or one inside of it. Memory that the kernel writes is not loaded
again where the last store to it in the block was of that very tile.

    %a = tile.load %ends[%i] axis 0 valid %n : !hec.tensor<i32[_]> -> vector<32xi32>
    tile.store %v, %s[%i] axis 0 valid %n : !hec.tensor<f32[edge]>, vector<32xf32>
    %b = tile.load %ends[%i] axis 0 valid %n : !hec.tensor<i32[_]> -> vector<32xi32>
    %w = tile.load %s[%i] axis 0 valid %n : !hec.tensor<f32[edge]> -> vector<32xf32>

becomes, with %a for %b and %v for %w,

    %a = tile.load %ends[%i] axis 0 valid %n : !hec.tensor<i32[_]> -> vector<32xi32>
    tile.store %v, %s[%i] axis 0 valid %n : !hec.tensor<f32[edge]>, vector<32xf32>
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.traits import is_side_effect_free

from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_memory import ElementAccess, LoadOp, StoreOp

Key = tuple[object, ...]


@dataclass(frozen=True)
class ReuseValues(ModulePass):
    """Compute and load once what a kernel needs several times."""

    name = "reuse-values"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for kernel in op.ops:
            if isinstance(kernel, KernelOp):
                # What others than loads and stores touch, such as copies, is left alone.
                written = {
                    operand
                    for inner in kernel.walk()
                    if not isinstance(inner, LoadOp) and not is_side_effect_free(inner)
                    for operand in inner.operands
                }
                _block(kernel.body.block, {}, written)


def _block(block: Block, known: dict[Key, SSAValue], written: set[SSAValue]) -> None:
    """Reuse within a block; `known` are values from outside, which stay as they are."""
    known, stored = dict(known), dict[SSAValue, tuple[Key, SSAValue]]()
    for op in list(block.ops):
        if isinstance(op, StoreOp):
            stored.pop(op.tensor, None)
            if op.combine is None:
                stored[op.tensor] = _place(op, op.value), op.value
            continue
        if op.regions:
            for region in op.regions:
                for inner in region.blocks:
                    _block(inner, known, written)
            for store in op.walk():
                if isinstance(store, StoreOp):
                    stored.pop(store.tensor, None)
            continue
        value = _known(op, known, stored, written)
        if value is not None:
            op.results[0].replace_all_uses_with(value)
            op.detach()
            op.erase()


def _known(
    op: Operation,
    known: dict[Key, SSAValue],
    stored: dict[SSAValue, tuple[Key, SSAValue]],
    written: set[SSAValue],
) -> SSAValue | None:
    """The value that an operation would make again; otherwise it is noted."""
    if len(op.results) != 1:
        return None
    if isinstance(op, LoadOp) and op.tensor in written:
        place, value = stored.get(op.tensor, ((), None))
        return value if place == _place(op, op.result) else None
    if not isinstance(op, LoadOp) and not is_side_effect_free(op):
        return None
    properties = tuple(sorted(op.properties.items(), key=lambda item: item[0]))
    key = (op.name, tuple(op.operands), properties, op.results[0].type)
    if key not in known:
        known[key] = op.results[0]
        return None
    return known[key]


def _place(op: ElementAccess, tile: SSAValue) -> Key:
    """Which elements of which tensor a load or store is about."""
    access = (op.axis, op.step, op.pad)
    return (op.tensor, tuple(op.indices), op.valid, access, tile.type)
