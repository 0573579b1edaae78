"""Write operations of the `ptx` dialect: a cursor that moves through the blocks of one kernel.

    code = PtxCode.kernel("scale", ["x", "n"], ["b64", "b32"], threads=128)
    x, n = code.parameters
    i = code.special("tid.x")

    def body():
        at = At(code.op("mad.wide.s32", i, 4, x))
        v = code.op("ld.global.f32", at)
        code.op("st.global.f32", at, code.op("add.f32", v, v))
        return ()

    code.when(code.op("setp.lt.s32", i, n), body)
    kernel = code.finish()

Operands of `op` are values, numbers, addresses (`At`) and lists, which are operands in braces.
Loops and conditions leave the cursor in the block that follows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.ir import Block, Region, SSAValue

from hectorite.dialects.ptx import (
    BranchOp,
    BraOp,
    CommentOp,
    ConstantOp,
    KernelOp,
    RetOp,
    SpecialOp,
    VariableOp,
)
from hectorite.dialects.ptx_instruction import OPERATIONS, RegisterType, Slot, kind_of
from hectorite.ir.ptx.isa import register_kind, result_registers, split, types_of


@dataclass(frozen=True)
class At:
    """An address: a register and an offset in bytes, for tensor copies with coordinates."""

    base: SSAValue
    offset: int = 0
    coordinates: tuple[SSAValue, ...] = ()

    def plus(self, offset: int) -> At:
        """So many bytes further."""
        return At(self.base, self.offset + offset, self.coordinates)


Operand = SSAValue | int | float | At | Sequence[SSAValue]
Values = Sequence[SSAValue]

_OWN_WIDTH = ("shl", "shr", "bfe", "bfi")
"""Instructions whose numbers have 32 bits whatever their type: distances and lengths of bits."""


class PtxCode:
    """A cursor at the end of a block of a kernel."""

    def __init__(self, kernel: KernelOp):
        self.kernel_op = kernel
        self.region = kernel.body
        self.block = kernel.body.blocks[0]
        self._constants: dict[tuple[Block, str, str, bool], SSAValue] = {}

    @classmethod
    def kernel(
        cls, name: str, names: Sequence[str], kinds: Sequence[str], threads: int | None = None
    ) -> PtxCode:
        """The start of a kernel with these parameters."""
        entry = Block(arg_types=[RegisterType(kind) for kind in kinds])
        for argument, hint in zip(entry.args, names, strict=True):
            argument.name_hint = hint
        return cls(KernelOp(name, Region(entry), threads))

    @property
    def parameters(self) -> tuple[SSAValue, ...]:
        """What a launch passes."""
        return tuple(self.region.blocks[0].args)

    def finish(self) -> KernelOp:
        """The kernel, its last block ended."""
        self.block.add_op(RetOp())
        return self.kernel_op

    # Straight code -----------------------------------------------------------------------------

    def op(
        self,
        mnemonic: str,
        *operands: Operand,
        guard: SSAValue | None = None,
        guard_not: SSAValue | None = None,
        otherwise: Values = (),
        results: Sequence[str] | None = None,
    ) -> Any:
        """One instruction: its result, a tuple of several, or None.

        `guard` (`guard_not`) is a predicate that must be true (false) for it to happen; it then
        needs `otherwise`, the values of its results where it does not. `results` gives the kinds
        of results where the mnemonic alone does not tell (unpacking moves, `setp` with two).
        """
        name, suffix = split(mnemonic)
        kinds = result_registers(name, suffix) if results is None else tuple(results)
        slots: list[Slot] = []
        values: list[SSAValue] = []
        for operand in operands:
            slot, found = self._operand(operand, () if name in _OWN_WIDTH else suffix)
            slots.append(slot)
            values += found
        predicate = guard if guard_not is None else guard_not
        op = OPERATIONS[name](
            ".".join(suffix), slots, values, kinds, predicate, guard_not is not None, otherwise
        )
        self.block.add_op(op)
        if not op.registers:
            return None
        return op.registers[0] if len(op.registers) == 1 else tuple(op.registers)

    def _operand(self, operand: Operand, suffix: tuple[str, ...]) -> tuple[Slot, list[SSAValue]]:
        if isinstance(operand, SSAValue):
            return Slot(), [operand]
        if isinstance(operand, At):
            values = [operand.base, *operand.coordinates]
            return Slot(len(values), offset=operand.offset), values
        if isinstance(operand, int | float):
            return Slot(), [self._number(operand, suffix)]
        values = [
            self._number(item, suffix) if isinstance(item, int | float) else item
            for item in operand
        ]
        # One value is written without braces, which every instruction allows.
        return Slot(len(values), braces=len(values) > 1), values

    def _number(self, number: float | int, suffix: tuple[str, ...]) -> SSAValue:
        """A number that stands in the text: it is not one that may be in a register instead."""
        types = [register_kind(type) for type in types_of(suffix)]
        if isinstance(number, float):
            kind = next((k for k in reversed(types) if k in ("f32", "f64")), "f32")
        else:
            last = types[-1] if types else None
            kind = "b32" if last is None or last == "pred" else last
        return self._constant(number, kind, is_written=True)

    def constant(self, number: float | int, kind: str = "b32") -> SSAValue:
        """A number; the same one again where this block has it already."""
        return self._constant(number, kind, is_written=False)

    def _constant(self, number: float | int, kind: str, is_written: bool) -> SSAValue:
        key = (self.block, repr(number), kind, is_written)
        if key not in self._constants:
            op = ConstantOp(number, kind)
            self.block.add_op(op)
            self._constants[key] = op.result
        return self._constants[key]

    def immediate(self, number: int) -> SSAValue:
        """A number of its own, for operands that may not be registers: no loop carries it."""
        op = ConstantOp(number, "b32")
        self.block.add_op(op)
        return op.result

    def special(self, register: str, kind: str = "b32") -> SSAValue:
        """A special register: `tid.x`, `ctaid.x`, `laneid`."""
        op = SpecialOp(register, kind)
        self.block.add_op(op)
        return op.result

    def shared(self, name: str, bytes: int, align: int = 16) -> SSAValue:
        """The address of shared memory of a block; 0 bytes: as many as the launch gives."""
        return self._variable("shared", name, bytes, align)

    def local(self, name: str, bytes: int, align: int = 16) -> SSAValue:
        """The address of memory of a thread, in the local space."""
        return self._variable("local", name, bytes, align)

    def _variable(self, space: str, name: str, bytes: int, align: int) -> SSAValue:
        op = VariableOp(space, name, bytes, align)
        self.block.add_op(op)
        return op.result

    def comment(self, text: str) -> None:
        """A line of comment in the text."""
        self.block.add_op(CommentOp(text))

    # Control -----------------------------------------------------------------------------------

    def jump(self, block: Block, values: Values = ()) -> None:
        """End the cursor's block with a jump, and go on in that block."""
        self.block.add_op(BraOp(block, values))
        self.block = block

    def branch(
        self,
        condition: SSAValue,
        then_block: Block,
        then_values: Values,
        else_block: Block,
        else_values: Values,
    ) -> None:
        """End the cursor's block with a jump to one of two."""
        self.block.add_op(BranchOp(condition, then_block, then_values, else_block, else_values))

    def loop(
        self,
        lower: SSAValue | int,
        upper: SSAValue | int,
        step: SSAValue | int,
        carried: Values,
        body: Callable[[SSAValue, tuple[SSAValue, ...]], Values],
    ) -> tuple[SSAValue, ...]:
        """`for i = lower to upper step step`, 32-bit and signed, with values that it carries.

        The test is at the end and before the loop, so that an iteration has one branch.
        """
        lower, upper, step = self._index(lower), self._index(upper), self._index(step)
        kinds = [kind_of(value) for value in carried]
        inside = Block(arg_types=[RegisterType(kind) for kind in ["b32", *kinds]])
        after = Block(arg_types=[RegisterType(kind) for kind in kinds])
        first = self.op("setp.lt.s32", lower, upper)
        self.branch(first, inside, [lower, *carried], after, carried)
        self.region.add_block(inside)
        self.block = inside
        index, *values = inside.args
        new = list(body(index, tuple(values)))
        following = self.op("add.s32", index, step)
        again = self.op("setp.lt.s32", following, upper)
        self.branch(again, inside, [following, *new], after, new)
        self.region.add_block(after)
        self.block = after
        return tuple(after.args)

    def _index(self, value: SSAValue | int) -> SSAValue:
        return self.constant(value, "b32") if isinstance(value, int) else value

    def when(
        self,
        condition: SSAValue,
        then: Callable[[], Values],
        otherwise: Callable[[], Values] | None = None,
    ) -> tuple[SSAValue, ...]:
        """Values of `then()` where a predicate holds, else of `otherwise()`."""
        yes, no = Block(), Block() if otherwise is not None else None
        start = self.block
        self.region.add_block(yes)
        self.block = yes
        values = list(then())
        after = Block(arg_types=[value.type for value in values])
        self.block.add_op(BraOp(after, values))
        if no is None or otherwise is None:
            start.add_op(BranchOp(condition, yes, (), after, ()))
        else:
            start.add_op(BranchOp(condition, yes, (), no, ()))
            self.region.add_block(no)
            self.block = no
            others = list(otherwise())  # moves the cursor
            self.block.add_op(BraOp(after, others))
        self.region.add_block(after)
        self.block = after
        return tuple(after.args)
