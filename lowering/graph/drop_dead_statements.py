"""`drop-dead-statements`: drop what does not reach a result.

Enters: the `graph` dialect. Leaves: the same without statements, and operations inside of them,
whose value nothing uses. The `dce` of xDSL keeps what a dead statement reads: it takes the end of
every body for live.

    a[n] += exp(x[n])
    b[n] = a[n]
    c[n] = x[n]

becomes, if c alone is returned,

    c[n] = x[n]
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, StatementOp


@dataclass(frozen=True)
class DropDeadStatements(ModulePass):
    """Drop what does not reach a result."""

    name = "drop-dead-statements"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for func in op.ops:
            if isinstance(func, FuncOp):
                _drop(func.body.block)


def _drop(block: Block) -> None:
    for op in reversed(list(block.ops)):
        if op.results and not any(result.uses for result in op.results):
            op.detach()
            op.erase()
        elif isinstance(op, StatementOp):
            _drop(op.body.block)
