"""`split-sum`: sum the parts of a sum that depend on an element through different maps apart.

Enters: the `graph` dialect. Leaves: the same, where a reduction of a sum is the sum of reductions,
if one of them can then be computed on the image of a map (`factor-through-maps`). Parts that depend
on the kept variables alike stay together. Each part keeps all reduced variables, so that a part
which does not depend on one is still added once for each of its values.

    s[e] += z[e.src, o] * al[o] + z[e.dst, o] * ar[o]

becomes

    s_part1[e] += z[e.src, o] * al[o]
    s_part2[e] += z[e.dst, o] * ar[o]
    s[e] = s_part1[e] + s_part2[e]

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
from hectorite.lowering.derived_sets import independent
from hectorite.lowering.factor_through_maps import gains, known_sizes
from hectorite.lowering.statement_body import (
    Body,
    hint,
    inner_op,
    paths_of,
    plain_left,
    replace_statement,
    temporary,
)

Term = tuple[bool, SSAValue]
"""A summand, and whether it is subtracted."""


@dataclass(frozen=True)
class SplitSum(ModulePass):
    """Sum the parts of a sum that depend on an element through different maps apart."""

    name = "split-sum"

    reassociate: bool = True
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        known = known_sizes(self.cardinalities)
        for statement in [inner for inner in op.walk() if isinstance(inner, StatementOp)]:
            exact = not element_of(statement.value.type).is_float
            if _is_reduced_sum(statement) and (exact or self.reassociate):
                _split(op, statement, known)


def terms_of(value: SSAValue) -> list[Term]:
    """The summands of a value, which itself is the only one if it is no sum."""
    op = inner_op(value)
    name = op.FUNCTION.name if isinstance(op, ScalarOp) else ""
    if name not in ("add", "sub", "neg"):
        return [(False, value)]
    assert op is not None
    first = terms_of(op.operands[0])
    if name == "neg":
        return [(not negative, term) for negative, term in first]
    second = terms_of(op.operands[1])
    return first + [(negative != (name == "sub"), term) for negative, term in second]


def _is_reduced_sum(op: StatementOp) -> bool:
    return op.kind.data == "add" and plain_left(op) and bool(op.reduced)


def _split(module: ModuleOp, op: StatementOp, known: Mapping[str, int]) -> None:
    groups = dict[str, list[Term]]()
    for term in terms_of(op.value):
        groups.setdefault(_signature(module, op, term[1]), []).append(term)
    if len(groups) < 2 or not any(
        _gains(module, op, [value for _, value in group], known) for group in groups.values()
    ):
        return
    element = op.value.type
    kept = [pair for pair in op.variables.data if pair[0] not in op.reduced]
    parts = list[StatementOp]()
    for number, group in enumerate(groups.values(), 1):
        body = Body()
        value = _sum(body, group)
        type = temporary(element, op.type.dims)
        name = hint(op.result, f"part{number}")
        parts.append(
            body.statement("add", op.access.data, op.variables.data, type, value, name=name)
        )
    body = Body()
    value = None
    if op.init is not None:
        value = body.cast(body.read(op.init, op.access.data), element)
    for part in parts:
        read = body.read(part.result, op.access.data)
        value = read if value is None else body.apply("add", value, read)
    assert value is not None
    total = body.statement("assign", op.access.data, kept, op.type, value)
    replace_statement(op, *parts, total)


def _sum(body: Body, terms: Sequence[Term]) -> SSAValue:
    value = None
    for negative, term in terms:
        copied = body.copy(term)
        if value is None:
            value = body.apply("neg", copied) if negative else copied
        else:
            value = body.apply("sub" if negative else "add", value, copied)
    assert value is not None
    return value


def _signature(module: ModuleOp, op: StatementOp, value: SSAValue) -> str:
    """Through which paths a value depends on each kept variable."""
    schema, found = schema_of(module), list[str]()
    for name, over in op.variables.data:
        paths = [path.fields for path in paths_of(name, value)]
        if name not in op.reduced and paths:
            core = independent(schema, str(over), paths) if paths != [()] else paths
            found += [".".join((name, *path)) for path in core]
    return " ".join(found)


def _gains(
    module: ModuleOp, op: StatementOp, values: Sequence[SSAValue], known: Mapping[str, int]
) -> bool:
    """Whether the values are the same for several elements of a kept variable."""
    for name, over in op.variables.data:
        paths = [path.fields for path in paths_of(name, *values)]
        if name in op.reduced or () in paths:
            continue
        if not paths or gains(module, str(over), paths, known):
            return True
    return False
