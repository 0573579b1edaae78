"""Named forms: what a statement is called in the field.

Enters: statements of the `graph` dialect. Leaves: the `Form` of each that has a name, for printing,
for `explain` and for choosing kernels. A form is recognised from accesses and bodies alone and
means nothing of its own.

    contraction         C[b, m, n] += A[b, m, k] * B[b, k, n]            sums over dense k
    typed-linear        z[u, o] += h[u.src, i] * W[u.type, i, o]         its weights chosen by a map
    sampled-product     S[z] += A[z] * P[z.row, k] * Q[z.col, k]         a dot product per entry
    sparse-product      C[z.row, j] += A[z] * B[z.col, j]                a sum over entries
    segment-reduction   m[e.dst] max= s[e]                               a reduction by a map
    reduction           s[n] += x[n, i]                                  a reduction of an axis
    gather, copy        t[e, o] = x[e.src, o]                            only reads, with or without
    elementwise         y[e] = exp(a[e.src] + b[e])                      each element from its place
    segment-softmax     the four statements that `expand-softmax` makes
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import OpResult, SSAValue

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.scalar import CastOp, ScalarOp
from hectorite.ir.schema import Schema
from hectorite.lowering.graph.merge_statements import value_spelling
from hectorite.lowering.graph.statement_body import product_of, statements, variables_of

Names = tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """The name of a statement's form, and the index variables in each role of it.

    Products have the roles `batch` (in both factors and the result), `m` and `n` (in one factor and
    the result) and `k` (summed); a typed linear has `by`, the paths that choose its weights; what
    reduces by a map has `by`, its paths on the left. Roles without variables are left out.
    """

    name: str
    roles: dict[str, Names] = field(default_factory=dict[str, Names])

    def __str__(self) -> str:
        parts = [f"{role}=({', '.join(names)})" for role, names in self.roles.items()]
        return " ".join((self.name, *parts))


def recognise_all(module: ModuleOp) -> dict[StatementOp, Form]:
    """The form of each statement that has one."""
    schema = schema_of(module)
    found = dict[StatementOp, Form]()
    for func in module.ops:
        if not isinstance(func, FuncOp):
            continue
        for op in statements(func):
            if (form := recognise(op, schema)) is not None:
                found[op] = form
        for group in softmax_groups(func):
            for part, op in zip(("max", "exp", "sum", "quotient"), group, strict=True):
                found[op] = Form("segment-softmax", {"part": (part,)})
    return found


def recognise(op: StatementOp, schema: Schema) -> Form | None:
    """The form of one statement by itself."""
    if op.kind.data == "assign":
        return _pointwise(op)
    if op.kind.data == "add" and (form := _product(op, schema)) is not None:
        return form
    by = _left_paths(op)
    if by:
        return Form("segment-reduction", {"by": by})
    return Form("reduction", {"k": op.reduced}) if op.reduced else None


def softmax_groups(func: FuncOp) -> Iterator[tuple[StatementOp, ...]]:
    """Maximum, exponential, sum and quotient of each segment softmax."""
    for quotient in statements(func):
        power, total = _read_ops(_applied(quotient.value, "div"))
        if power is None or total is None:
            continue
        exponent = _applied(power.value, "exp")
        x, shift = _applied(exponent[0], "sub") or (None, None) if exponent else (None, None)
        top = None if shift is None else _read_statement(shift)
        if x is None or top is None or (top.kind.data, total.kind.data) != ("max", "add"):
            continue
        same_keys = top.access == total.access and top.variables == total.variables
        if same_keys and _read_statement(total.value) is power and _same_value(x, power, top):
            yield top, power, total, quotient


def _same_value(x: SSAValue, power: StatementOp, top: StatementOp) -> bool:
    """Whether the maximum is taken over what is exponentiated."""
    numbers = dict[SSAValue, int]()
    spelled = [
        value_spelling(
            value, {name: f"v{i}" for i, (name, _) in enumerate(op.variables.data)}, numbers
        )
        for value, op in ((x, power), (top.value, top))
    ]
    return spelled[0] == spelled[1]


def _applied(value: SSAValue, name: str) -> tuple[SSAValue, ...]:
    """The operands, if a value is this function of them; casts are looked through."""
    op = _without_casts(value)
    if isinstance(op, OpResult) and isinstance(op.op, ScalarOp) and op.op.FUNCTION.name == name:
        return tuple(op.op.operands)
    return ()


def _without_casts(value: SSAValue) -> SSAValue:
    while isinstance(value, OpResult) and isinstance(value.op, CastOp):
        value = value.op.input
    return value


def _read_statement(value: SSAValue) -> StatementOp | None:
    """The statement whose result a value is read from."""
    value = _without_casts(value)
    if isinstance(value, OpResult) and isinstance(value.op, ReadOp):
        owner = value.op.tensor.owner
        return owner if isinstance(owner, StatementOp) else None
    return None


def _read_ops(values: Sequence[SSAValue]) -> tuple[StatementOp | None, StatementOp | None]:
    if len(values) != 2:
        return None, None
    return _read_statement(values[0]), _read_statement(values[1])


def _left_paths(op: StatementOp) -> Names:
    """The paths on the left that follow a map."""
    paths = (path for index in op.access.data for path in index.paths if path.fields)
    return tuple(dict.fromkeys(map(str, paths)))


def _pointwise(op: StatementOp) -> Form:
    value = _without_casts(op.value)
    if isinstance(value, OpResult) and isinstance(value.op, ReadOp):
        by = tuple(
            str(path) for index in value.op.access.data for path in index.paths if path.fields
        )
        return Form("gather", {"by": by}) if by else Form("copy")
    return Form("elementwise")


def _product(op: StatementOp, schema: Schema) -> Form | None:
    """A sum of products of at least two factors."""
    product = product_of(op.value)
    if len(product.factors) < 2 or product.divisors:
        return None
    sets = schema.sets
    over = dict(op.variables.data)
    left = {name for index in op.access.data for name in index.variables}
    dense = tuple(name for name in op.reduced if name not in left and over[name] not in sets)
    by = _left_paths(op)
    if not dense:
        return Form("sparse-product", {"by": by}) if by else None
    inside = [factor for factor in product.factors if variables_of(factor) & set(dense)]
    if len(inside) != 2:
        return None
    rows = [name for name in over if over[name] in sets]
    chosen = [_paths_from(factor, rows) for factor in inside]
    if _are_weights(inside[0], inside[1], chosen[0], left, rows):
        inside.reverse()
        chosen.reverse()
    typed = chosen[1] if _are_weights(inside[1], inside[0], chosen[1], left, rows) else ()
    roles = _roles(op, inside, dense, {path.split(".")[0] for path in typed})
    if all(chosen) and chosen[0] != chosen[1] and "n" not in roles:
        return Form("sampled-product", {"k": dense})
    if by:
        return Form("segment-reduction", {"by": by, "k": dense})
    return Form("typed-linear", {**roles, "by": typed}) if typed else Form("contraction", roles)


def _paths_from(value: SSAValue, rows: Sequence[str]) -> Names:
    """The maps along which a factor is read, if it is a read."""
    read = _without_casts(value)
    if not (isinstance(read, OpResult) and isinstance(read.op, ReadOp)):
        return ()
    paths = (path for index in read.op.access.data for path in index.paths)
    return tuple(str(path) for path in paths if path.fields and path.variable in rows)


def _are_weights(
    one: SSAValue, other: SSAValue, chosen: Names, left: set[str], rows: Sequence[str]
) -> bool:
    """Whether a factor is read at a map and has a dense variable of the result of its own."""
    own = (variables_of(one) - variables_of(other)) & left
    return bool(chosen) and bool(own - set(rows))


def _roles(
    op: StatementOp, factors: Sequence[SSAValue], dense: Names, typed: set[str]
) -> dict[str, Names]:
    """Roles in a product of two factors; variables in `typed` choose the weights, the second."""
    first, second = (variables_of(factor) for factor in factors)
    kept = [name for name, _ in op.variables.data if name not in op.reduced]
    roles = {
        "batch": tuple(name for name in kept if name in (first & second) - typed),
        "m": tuple(name for name in kept if name in (first - second) | (typed & first)),
        "n": tuple(name for name in kept if name in second - first),
        "k": dense,
    }
    return {role: names for role, names in roles.items() if names}
