"""`reassociate-products`: contract with the small factor first.

Enters: the `graph` dialect. Leaves: the same, where a contraction whose result is only contracted
again is done in the other order, if its weights can then be contracted once for all elements that
share them (`factor-through-maps` sees to that).

    z[e, o] += h[e.dst, i] * W[e.type, i, o]
    s[e] += z[e, o] * a[e.type, o]

becomes

    s_weights[e, i] += W[e.type, i, o] * a[e.type, o]
    s[e] += h[e.dst, i] * s_weights[e, i]

Floats are added in another order by this; `reassociate=false` forbids it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim, VariablesAttr
from hectorite.lowering.factor_through_maps import gains, known_sizes
from hectorite.lowering.hoist_factors import Factor, factors_of
from hectorite.lowering.simplify_access import simplified
from hectorite.lowering.statement_body import (
    Body,
    hint,
    indices_of,
    inner_op,
    plain_left,
    replace_statement,
    temporary,
    variables_of,
)


@dataclass(frozen=True)
class ReassociateProducts(ModulePass):
    """Contract with the small factor first."""

    name = "reassociate-products"

    reassociate: bool = True
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        known = known_sizes(self.cardinalities)
        for statement in [inner for inner in op.walk() if isinstance(inner, StatementOp)]:
            if self.reassociate or not element_of(statement.value.type).is_float:
                _reassociate(op, statement, known)


def _reassociate(module: ModuleOp, outer: StatementOp, known: Mapping[str, int]) -> None:
    if outer.kind.data != "add" or not plain_left(outer):
        return
    parts = factors_of(outer.value)
    for part in parts:
        inner = _contraction(part, outer)
        if inner is None or part[0] != "mul":
            continue
        others = [other for other in parts if other is not part]
        chain = _Chain.of(module, outer, inner, inner_op(part[1]), others)
        if chain is not None and chain.pays(known):
            chain.write()
            return


def _contraction(part: Factor, outer: StatementOp) -> StatementOp | None:
    """The statement whose result a factor reads, if it is a sum that nothing else reads and that
    no rounding separates from its reader."""
    read = inner_op(part[1])
    inner = read.tensor.owner if isinstance(read, ReadOp) else None
    if not isinstance(inner, StatementOp) or inner.kind.data != "add" or inner.init is not None:
        return None
    alone = len(list(inner.result.uses)) == 1 and plain_left(inner) and bool(inner.reduced)
    exact = inner.value.type == inner.type.element == outer.value.type
    return inner if alone and exact and inner.type.pad_value is None else None


@dataclass(frozen=True)
class _Chain:
    """sum over `summed` of (kept * sum over k of (rows * weights)) * scales, where the weights and
    scales depend on `summed` and the other factors do not."""

    module: ModuleOp
    outer: StatementOp
    inner: StatementOp
    names: Mapping[str, IndexExpr]
    """What the inner statement's variables are in the outer one."""
    summed: tuple[str, ...]
    rows: tuple[Factor, ...]
    weights: tuple[Factor, ...]
    scales: tuple[Factor, ...]
    kept: tuple[Factor, ...]

    @staticmethod
    def of(
        module: ModuleOp,
        outer: StatementOp,
        inner: StatementOp,
        read: object,
        others: Sequence[Factor],
    ) -> "_Chain | None":
        assert isinstance(read, ReadOp)
        left = zip(inner.access.data, read.access.data, strict=True)
        names = {str(mine.variable): index for mine, index in left}
        taken = {name for name, _ in outer.variables.data}
        for name in inner.reduced:
            names[name] = IndexExpr.of(_fresh(name, taken))
        reduced = set(outer.reduced)
        pairs = [(own, index.variable) for own, index in names.items() if index.variable]
        summed = {own: name for own, name in pairs if name in reduced}
        if not summed:
            return None
        terms = factors_of(inner.value)
        weights = tuple(f for f in terms if variables_of(f[1]) & set(summed))
        rows = tuple(f for f in terms if f not in weights)
        over = set(summed.values())
        scales = tuple(f for f in others if variables_of(f[1]) & over)
        kept = tuple(f for f in others if f not in scales)
        if not rows or not weights or any(f[0] == "div" for f in (rows[0], weights[0])):
            return None
        return _Chain(module, outer, inner, names, tuple(over), rows, weights, scales, kept)

    @property
    def schema(self) -> Schema:
        return schema_of(self.module)

    @property
    def dims(self) -> dict[str, Dim]:
        """Extents of the outer variables and of the inner sum's."""
        dims = dict(self.outer.variables.data)
        inner = dict(self.inner.variables.data)
        for name in self.inner.reduced:
            dims[str(self.names[name].variable)] = inner[name]
        return dims

    def _follow(self, path: Path) -> IndexExpr:
        index = self.names[path.variable]
        if not path.fields:
            return index
        start = index.path
        assert start is not None, "maps are followed from sets"
        return IndexExpr.of(start.variable, *start.fields, *path.fields)

    def _moved(self, index: IndexExpr) -> IndexExpr:
        """An index expression of the inner statement, in the outer one's variables."""
        variables = VariablesAttr(tuple(self.dims.items()))
        return simplified(self.schema, variables, index.substitute(self._follow))

    def _inside(self, body: Body, factor: Factor) -> SSAValue:
        """A factor of the inner statement, in the outer one's variables."""
        moved = Body(self._moved)
        moved.block = body.block
        return moved.copy(factor[1])

    @property
    def _small(self) -> list[IndexExpr]:
        """Index expressions of the weights and scales, in the outer statement's variables."""
        inner = [i for _, value in self.weights for i in indices_of(value)]
        scales = [i for _, value in self.scales for i in indices_of(value)]
        return [*map(self._moved, inner), *scales]

    def pays(self, known: Mapping[str, int]) -> bool:
        """Whether weights and scales depend on less than the inner statement does, and on each
        element of a set only through maps that fewer things come out of."""
        inner = [i for _, value in (*self.weights, *self.rows) for i in indices_of(value)]
        before = self._kept_paths(map(self._moved, inner))
        after = self._kept_paths(self._small)
        if not after < before:
            return False
        for name in {path.variable for path in after}:
            over = self.dims[name]
            own = sorted(path.fields for path in after if path.variable == name)
            is_set = isinstance(over, str) and over in self.schema.sets
            if is_set and (() in own or not gains(self.module, str(over), own, known)):
                return False
        return True

    def _kept_paths(self, indices: Iterable[IndexExpr]) -> set[Path]:
        """The paths that go through variables of the outer statement that it does not sum over
        here."""
        kept = {name for name, _ in self.outer.variables.data} - set(self.summed)
        return {p for index in indices for p in index.paths if p.variable in kept}

    def write(self) -> None:
        """Put the two new contractions in the place of the outer one."""
        body, dims, outer = Body(), self.dims, self.outer
        value: SSAValue | None = None
        for factor in self.weights:
            value = _times(body, value, factor[0], self._inside(body, factor))
        for factor in self.scales:
            value = _times(body, value, factor[0], body.copy(factor[1]))
        assert value is not None
        inside = {name for index in self._small for name in index.variables}
        outside = {str(self.names[name].variable) for f in self.rows for name in variables_of(f[1])}
        own = {str(self.names[name].variable) for name in self.inner.reduced}
        sums = [n for n in dims if n in self.summed or (n in own and n not in outside)]
        used = [n for n in dims if n in inside and n not in sums]
        access = [IndexExpr.of(name) for name in used]
        type = temporary(outer.value.type, [dims[name] for name in used])
        variables = [(name, dims[name]) for name in (*used, *sums)]
        name = hint(outer.result, "weights")
        small = body.statement("add", access, variables, type, value, name=name)
        body, value = Body(), None
        for factor in self.rows:
            value = _times(body, value, factor[0], self._inside(body, factor))
        value = _times(body, value, "mul", body.read(small.result, access))
        for factor in self.kept:
            value = _times(body, value, factor[0], body.copy(factor[1]))
        kept = [(n, dim) for n, dim in dims.items() if n not in sums]
        init = outer.init
        large = body.statement("add", outer.access.data, kept, outer.type, value, init)
        replace_statement(outer, small, large)
        self.inner.detach()
        self.inner.erase()


def _times(body: Body, value: SSAValue | None, operator: str, factor: SSAValue) -> SSAValue:
    return factor if value is None else body.apply(operator, value, factor)


def _fresh(name: str, taken: set[str]) -> str:
    number = 2
    fresh = name
    while fresh in taken:
        fresh, number = f"{name}{number}", number + 1
    taken.add(fresh)
    return fresh
