"""Give results that are parameters of the function a statement that rounds them.

    return x        with x: tf32[node, 8]

becomes

    x_1[d0, d1] = x[d0, d1]
    return x_1

Enters: a function at the graph level. Leaves: the same, with a statement for each such result whose
type rounds what memory holds. Elsewhere a result is what a kernel has stored, which is rounded;
callers may pass anything that the type is stored as.
"""

from typing import cast

from xdsl.dialects.builtin import FloatTF32Type
from xdsl.ir import SSAValue

from hectorite.dialects.graph import FuncOp
from hectorite.ir.space import TensorType
from hectorite.lowering.graph.statement_body import Body, plain


def round_parameters(function: FuncOp) -> None:
    """Rewrite a function in place."""
    block, end = function.body.block, function.return_op
    made: dict[SSAValue, SSAValue] = {}
    for position, value in enumerate(end.operands):
        if value not in block.args or not _is_rounded(value):
            continue
        if value not in made:
            made[value] = _copied(function, value)
        end.operands[position] = made[value]


def _is_rounded(value: SSAValue) -> bool:
    return isinstance(value.type, TensorType) and isinstance(value.type.element, FloatTF32Type)


def _copied(function: FuncOp, value: SSAValue) -> SSAValue:
    type = cast(TensorType, value.type)
    variables = [(f"d{position}", dim) for position, dim in enumerate(type.dims)]
    body = Body()
    element = body.read(value, plain(variables))
    copy = body.statement("assign", plain(variables), variables, type, element)
    copy.result.name_hint = value.name_hint
    function.body.block.insert_op_before(copy, function.return_op)
    return copy.result
