"""Barrier objects in shared memory (mbarrier) of compiled PTX.

Enters: a `Step` and an instruction. Leaves: code. All threads of a block run on one thread of the
machine, so the object is 64 ordinary bits, ours to lay out:

    bit 0: phase; 1 to 20: arrivals expected; 21 to 40: still pending; 41 to 63: bytes pending
"""

from __future__ import annotations

from hectorite.backends.ptx.jit_step import Step
from hectorite.backends.ptx.jit_text import Code, V, helper, i64
from hectorite.ir.ptx.syntax import Address, Immediate, Instruction, Operand

COUNT = (1 << 20) - 1
EXPECTED, PENDING, BYTES = 1, 21, 41


def written(step: Step, instruction: Instruction) -> None:
    """One mbarrier instruction."""
    code, operands = step.code, instruction.operands
    kind = instruction.suffix[0]
    at = next(i for i, operand in enumerate(operands) if isinstance(operand, Address))
    rest = operands[at + 1 :]
    if kind == "init":
        count = step.read(rest[0], "i64")
        both = code.op("or", code.op("shl", count, i64(EXPECTED)),
                       code.op("shl", count, i64(PENDING)))  # fmt: skip
        code.store(both, _place(step, operands[at]), 8)
    elif kind in ("inval", "pending_count"):
        if kind == "pending_count":
            raise step.wrong(instruction)
    elif kind == "expect_tx":
        _change(step, operands[at], "hec.mbar.bytes", step.read(rest[0], "i64"))
    elif kind == "complete_tx":
        complete_bytes(step, operands[at], step.read(rest[0], "i64"))
    elif kind in ("arrive", "arrive_drop"):
        _arrive(step, instruction, at, rest)
    elif kind in ("test_wait", "try_wait"):
        _test(step, instruction, at, rest)
    else:
        raise step.wrong(instruction)


def _place(step: Step, operand: Operand) -> V:
    return step.pointer(operand, "shared", 8, 8)


def _arrive(step: Step, instruction: Instruction, at: int, rest: tuple[Operand, ...]) -> None:
    code = step.code
    if instruction.suffix[0] == "arrive_drop":
        raise step.wrong(instruction)
    count = i64(1)
    if "expect_tx" in instruction.suffix:
        _change(step, instruction.operands[at], "hec.mbar.bytes", step.read(rest[0], "i64"))
    elif rest:
        count = step.read(rest[0], "i64")
    before = arrive(step, instruction.operands[at], count)
    if at:
        step.write(instruction.operands[0], code.op("and", before, i64(1)))


def arrive(step: Step, operand: Operand, count: V) -> V:
    """`count` threads arrive; the object before."""
    return _change(step, operand, "hec.mbar.arrive", count)


def complete_bytes(step: Step, operand: Operand, count: V) -> None:
    """So many bytes have come."""
    negative = step.code.op("sub", i64(0), count)
    _change(step, operand, "hec.mbar.bytes", negative)


def _change(step: Step, operand: Operand, name: str, amount: V) -> V:
    """Arrivals or bytes; the phase ends when neither is pending."""
    place = _place(step, operand)
    shift, sign = (PENDING, "sub") if name.endswith("arrive") else (BYTES, "add")

    def body(code: Code, given: list[V]) -> V:
        at, count = given
        before = code.load("i64", at, 8)
        after = code.op(sign, before, code.op("shl", count, i64(shift)))
        # Bytes that are announced are no end of a phase, even if nothing else is pending.
        pending = code.op("lshr", after, i64(PENDING))
        over = code.compare("eq", pending, i64(0))
        if name.endswith("bytes"):
            over = code.op("and", over, code.compare("slt", count, i64(0)))
        expected = code.op("and", code.op("lshr", after, i64(EXPECTED)), i64(COUNT))
        kept = code.op("and", after, i64((1 << PENDING) - 1))
        renewed = code.op("or", kept, code.op("shl", expected, i64(PENDING)))
        renewed = code.op("xor", renewed, i64(1))
        code.store(code.select(over, renewed, after), at, 8)
        return before

    helper(step.pieces, name, "i64", [("ptr", "at"), ("i64", "count")], body, "nounwind")
    return step.code.call("i64", name, place, amount)


def _test(step: Step, instruction: Instruction, at: int, rest: tuple[Operand, ...]) -> None:
    """Whether a phase is over: the one of a state, or the one of a parity."""
    code = step.code
    if not rest or (isinstance(rest[0], Immediate) and "parity" not in instruction.suffix):
        raise step.wrong(instruction, "no phase")
    wanted = code.op("and", step.read(rest[0], "i64"), i64(1))
    now = code.op("and", code.load("i64", _place(step, instruction.operands[at]), 8), i64(1))
    step.write(instruction.operands[0], code.compare("ne", now, wanted))
