"""`split-contraction`: do a dense contraction before it is scattered.

Enters: the `graph` dialect. Leaves: the same, where a sum of products that is scattered, or summed
over a set, has its dense contraction in a statement of its own, so that what does not depend on
each element can be computed less often (`factor-through-maps`). Only contractions that depend on
some set through maps alone are taken out: no other is computed less often.

    y[e.dst, o] += h[e.src, i] * W[e.type, i, o] * norm[e]

becomes

    y_part[e, o] += h[e.src, i] * W[e.type, i, o]
    y[e.dst, o] += y_part[e, o] * norm[e]

Floats are added in another order by this; `reassociate=false` forbids it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.element import element_of
from hectorite.ir.scalar import ScalarOp
from hectorite.ir.space import Dim
from hectorite.lowering.factor_through_maps import gains, known_sizes
from hectorite.lowering.statement_body import (
    Body,
    hint,
    inner_op,
    paths_of,
    plain,
    replace_statement,
    temporary,
    variables_of,
)

Pair = tuple[str, Dim]


@dataclass(frozen=True)
class SplitContraction(ModulePass):
    """Do a dense contraction before it is scattered."""

    name = "split-contraction"

    reassociate: bool = True
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        known = known_sizes(self.cardinalities)
        for statement in [inner for inner in op.walk() if isinstance(inner, StatementOp)]:
            exact = not element_of(statement.value.type).is_float
            if statement.kind.data == "add" and (exact or self.reassociate):
                _split(op, statement, known)


@dataclass(frozen=True)
class Product:
    """A product as it stands in a body: its sign, what is multiplied and what it is divided by."""

    negative: bool
    factors: tuple[SSAValue, ...]
    divisors: tuple[SSAValue, ...] = ()


def product_of(value: SSAValue) -> Product:
    """The factors of a value, which itself is the only one if it is no product."""
    op = inner_op(value)
    name = op.FUNCTION.name if isinstance(op, ScalarOp) else ""
    if name not in ("mul", "neg", "div"):
        return Product(False, (value,))
    assert op is not None
    first = product_of(op.operands[0])
    if name == "neg":
        return Product(not first.negative, first.factors, first.divisors)
    if name == "div":
        return Product(first.negative, first.factors, (*first.divisors, op.operands[1]))
    second = product_of(op.operands[1])
    return Product(
        first.negative != second.negative,
        (*first.factors, *second.factors),
        (*first.divisors, *second.divisors),
    )


def _split(module: ModuleOp, op: StatementOp, known: Mapping[str, int]) -> None:
    sets = schema_of(module).sets
    left = {name for index in op.access.data for name in index.variables}
    dense = {name for name, dim in op.variables.data if name not in left and dim not in sets}
    over = dict(op.variables.data)
    summed = [name for name in op.reduced if name not in dense]
    if not dense or not any(over[name] in sets for name in summed):
        return
    product = product_of(op.value)
    inner = [factor for factor in product.factors if variables_of(factor) & dense]
    divisors = [divisor for divisor in product.divisors if variables_of(divisor) & dense]
    used = variables_of(*inner, *divisors)
    if len(inner) + len(divisors) < 2 or not dense <= used:
        return
    kept = [pair for pair in op.variables.data if pair[0] in used - dense]
    if _is_shared(module, kept, [*inner, *divisors], summed, known):
        _take_out(op, product, kept, dense)


def _is_shared(
    module: ModuleOp,
    kept: Sequence[Pair],
    values: Sequence[SSAValue],
    summed: Sequence[str],
    known: Mapping[str, int],
) -> bool:
    """Whether the contraction is the same for several elements of a set that is summed over."""
    over = dict(kept)
    for name in summed:
        paths = [path.fields for path in paths_of(name, *values)]
        if not paths:
            return True
        if () not in paths and gains(module, str(over[name]), paths, known):
            return True
    return False


def _take_out(op: StatementOp, product: Product, kept: Sequence[Pair], dense: set[str]) -> None:
    """Two statements: the factors with dense variables, then the others times their sum."""
    element = op.value.type
    inside = [pair for pair in op.variables.data if pair in kept or pair[0] in dense]
    body = Body()
    value = _times(
        body,
        None,
        [factor for factor in product.factors if variables_of(factor) & dense],
        [divisor for divisor in product.divisors if variables_of(divisor) & dense],
    )
    type = temporary(element, [dim for _, dim in kept])
    name = hint(op.result, "part")
    part = body.statement("add", plain(kept), inside, type, value, name=name)

    body = Body()
    value = _times(
        body,
        body.read(part.result, plain(kept)),
        [factor for factor in product.factors if not variables_of(factor) & dense],
        [divisor for divisor in product.divisors if not variables_of(divisor) & dense],
    )
    if product.negative:
        value = body.apply("neg", value)
    outside = [pair for pair in op.variables.data if pair[0] not in dense]
    whole = body.statement("add", op.access.data, outside, op.type, value, op.init)
    replace_statement(op, part, whole)


def _times(
    body: Body, start: SSAValue | None, factors: Sequence[SSAValue], divisors: Sequence[SSAValue]
) -> SSAValue:
    value = start
    for factor in factors:
        copied = body.copy(factor)
        value = copied if value is None else body.apply("mul", value, copied)
    for divisor in divisors:
        if value is None:
            value = body.constant(1, divisor.type)
        value = body.apply("div", value, body.copy(divisor))
    assert value is not None
    return value
