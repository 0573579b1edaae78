"""`expand-softmax`: write a softmax as four statements.

Enters: the `graph` dialect. Leaves: the same without `graph.softmax`. The powers and their sum are
kept in the type that the element computes in, so that only the quotient is rounded to 16 bits. A
group without elements gets a maximum and a sum that nothing reads. Several keys that are paths out
of one set become one path, into the set of their distinct tuples: a table over all combinations of
two sets could be far larger than the data.

    a[e] = softmax(s[e] by e.dst)

becomes

    a_max[e.dst] max= s[e]
    a_exp[e] = exp(s[e] - a_max[e.dst])
    a_sum[e.dst] += a_exp[e]
    a[e] = a_exp[e] / a_sum[e.dst]
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import SoftmaxOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.diagnostics import fail
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.lowering.graph.derived_sets import derive
from hectorite.lowering.graph.statement_body import Body, hint, plain, replace_statement, temporary


@dataclass(frozen=True)
class ExpandSoftmax(ModulePass):
    """Write every softmax as maximum, exponential, sum and quotient."""

    name = "expand-softmax"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for softmax in [inner for inner in op.walk() if isinstance(inner, SoftmaxOp)]:
            keys = _keys(op, softmax)
            _expand(softmax, [key for key, _ in keys], [dim for _, dim in keys])


def _expand(op: SoftmaxOp, keys: Sequence[IndexExpr], dims: Sequence[Dim]) -> None:
    variables, access = op.variables.data, op.access.data
    element = op.type.element_type.compute.xdsl
    by_key, by_point = temporary(element, dims), temporary(element, op.type.dims)

    body = Body()
    value = body.cast(body.read(op.input, access), element)
    top = body.statement("max", keys, variables, by_key, value, name=hint(op.result, "max"))

    body = Body()
    value = body.cast(body.read(op.input, access), element)
    value = body.apply("exp", body.apply("sub", value, body.read(top.result, keys)))
    power = body.statement(
        "assign", access, variables, by_point, value, name=hint(op.result, "exp")
    )

    body = Body()
    value = body.read(power.result, plain(variables))
    total = body.statement("add", keys, variables, by_key, value, name=hint(op.result, "sum"))

    body = Body()
    value = body.apply("div", body.read(power.result, access), body.read(total.result, keys))
    value = body.cast(value, op.type.element)
    quotient = body.statement("assign", access, variables, op.type, value)
    replace_statement(op, top, power, total, quotient)


def _keys(module: ModuleOp, op: SoftmaxOp) -> list[tuple[IndexExpr, Dim]]:
    """The keys without repetition, with the extent that each ranges over."""
    over = dict(op.variables.data)
    keys = list(dict.fromkeys(op.keys.data))
    for variable in over:
        own = [key for key in keys if key.path and key.path.variable == variable]
        paths = [key.path.fields for key in own if key.path is not None]
        if () in paths:
            # A key that is the variable itself determines all others of that variable.
            keys = [key for key in keys if key not in own or key.variable is not None]
        elif len(paths) > 1:
            factor = derive(module, str(over[variable]), paths)
            keys = [key for key in keys if key not in own[1:]]
            keys[keys.index(own[0])] = IndexExpr.of(variable, *factor.position)
    schema = schema_of(module)
    return [_with_extent(schema, over, key) for key in keys]


def _with_extent(schema: Schema, over: dict[str, Dim], key: IndexExpr) -> tuple[IndexExpr, Dim]:
    """A key with an extent that holds its values. Only which keys are equal matters, so one that
    starts below zero may be moved."""
    whole = IndexExpr.make(key.terms, key.constant)
    path, divisor = whole.path, key.division[1] if key.division else 1
    if path is not None and (isinstance(divisor, str) or divisor > 0):
        # Neither a quotient nor a remainder exceeds a value that is not negative.
        start = over[path.variable]
        return key, schema.follow(str(start), path.fields) if path.fields else start
    low, high = whole.constant, whole.constant
    for term in whole.terms:
        extent = None if term.path is None or term.path.fields else over[term.path.variable]
        if not isinstance(extent, int) or term.sizes or key.division is not None:
            raise fail(
                f"softmax by `{key}` has no known number of groups",
                expected="a path or a variable, which may be divided",
                hint="write the key as a field of the set",
            )
        reach = term.coefficient * max(0, extent - 1)
        low, high = low + min(0, reach), high + max(0, reach)
    return IndexExpr.make(key.terms, key.constant - low), high - low + 1
