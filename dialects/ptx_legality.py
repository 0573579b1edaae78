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

from hectorite.ir.ptx_isa import Row

TARGET = "ptx.target"
ALLOW_EMULATED = "ptx.allow_emulated"


def target_of(op: Operation) -> str | None:
    """The target of the module that an operation is in."""
    top = op
    while (parent := top.parent_op()) is not None:
        top = parent
    target = top.attributes.get(TARGET)
    return target.data if isinstance(target, StringAttr) else None


def capability(target: str) -> int:
    """`sm_90a` -> 90."""
    return int("".join(c for c in target if c.isdigit()))


def exists(row: Row, target: str) -> bool:
    """Whether a target has the instructions of a row."""
    return target in row.only if row.only else capability(target) >= row.since


def is_native(row: Row, target: str) -> bool:
    """Whether a target has machine instructions of its own for a row."""
    return exists(row, target) and target not in row.emulated


def check_target(op: Operation, row: Row) -> None:
    """Raises `VerifyException` if the operation's target lacks or only emulates a row."""
    target = target_of(op)
    if target is None:
        return
    mnemonic = getattr(op, "mnemonic", op.name)
    if not exists(row, target):
        where = ", ".join(row.only) if row.only else f"sm_{row.since} and later"
        raise VerifyException(f"{target} has no {mnemonic}: it is of {where}")
    if not is_native(row, target) and ALLOW_EMULATED not in _top(op).attributes:
        raise VerifyException(f"{target} only emulates {mnemonic}, with many instructions")


def _top(op: Operation) -> Operation:
    while (parent := op.parent_op()) is not None:
        op = parent
    return op
