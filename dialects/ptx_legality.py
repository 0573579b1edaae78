"""Whether an instruction may be used on the target that its module names.

    builtin.module attributes {ptx.target = "sm_90"} { ... }

An instruction that the target lacks is an error. So is one that it only emulates with many machine
instructions, unless the module has the attribute `ptx.allow_emulated`. A module without a target
is not checked: text of other compilers is read before anybody says where it is to run.
"""

from __future__ import annotations

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import Operation
from xdsl.utils.exceptions import VerifyException

from hectorite.ir.ptx.limits import machine_instructions, why_not

TARGET = "ptx.target"
ALLOW_EMULATED = "ptx.allow_emulated"


def target_of(op: Operation) -> str | None:
    """The target of the module that an operation is in."""
    target = _top(op).attributes.get(TARGET)
    return target.data if isinstance(target, StringAttr) else None


def check_target(op: Operation, mnemonic: str, operands: int) -> None:
    """Raises `VerifyException` if the operation's target lacks or only emulates an instruction.

    `operands` is how many it has, results not counted.
    """
    target = target_of(op)
    if target is None:
        return
    where = why_not(mnemonic, target, operands)
    if where is not None:
        raise VerifyException(f"{target} has no {mnemonic}: it is of {where}")
    count = machine_instructions(mnemonic, target)
    if count is not None and ALLOW_EMULATED not in _top(op).attributes:
        raise VerifyException(f"{target} only emulates {mnemonic}, with about {count} instructions")


def _top(op: Operation) -> Operation:
    while (parent := op.parent_op()) is not None:
        op = parent
    return op
