"""`simplify-access`: follow paths without detours.

Enters: the `graph` dialect. Leaves: the same, with shorter index expressions: a field of a derived
set that is reached through the position map into it is the key it was made from, and division by
one is left out.

With a set `pair {src: node, type: etype}` of the `distinct(e.src, e.type) for e: edge`

    y[e, i] = h[e.pair.src, i // 1]

becomes

    y[e, i] = h[e.src, i]
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import IndexOp, ReadOp, SoftmaxOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema
from hectorite.ir.space import AccessAttr, VariablesAttr
from hectorite.lowering.graph.derived_sets import resolve


@dataclass(frozen=True)
class SimplifyAccess(ModulePass):
    """Follow paths without detours."""

    name = "simplify-access"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        schema = schema_of(op)
        for inner in op.walk():
            if isinstance(inner, StatementOp | SoftmaxOp):
                _simplify(schema, inner.variables, inner)
            elif isinstance(inner, ReadOp | IndexOp):
                parent = inner.parent_op()
                assert isinstance(parent, StatementOp)
                _simplify(schema, parent.variables, inner)


def _simplify(
    schema: Schema, variables: VariablesAttr, op: StatementOp | SoftmaxOp | ReadOp | IndexOp
) -> None:
    for name, attribute in op.properties.items():
        if isinstance(attribute, AccessAttr):
            simpler = tuple(simplified(schema, variables, index) for index in attribute.data)
            op.properties[name] = AccessAttr(simpler)


def simplified(schema: Schema, variables: VariablesAttr, index: IndexExpr) -> IndexExpr:
    """An index expression of the same value, with the shortest paths."""
    over = dict(variables.data)
    try:
        index = index.substitute(
            lambda path: (
                resolve(schema, str(over[path.variable]), path)
                if path.fields
                else IndexExpr.of(path.variable)
            )
        )
    except ValueError:
        return index
    if index.division == ("floordiv", 1):
        return IndexExpr.make(index.terms, index.constant)
    return IndexExpr.make(()) if index.division == ("mod", 1) else index
