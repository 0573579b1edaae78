"""`search-rewrites`: choose structural rewrites by what they cost.

Enters: the `graph` dialect without softmax, simplified. Leaves: the same functions with those
rewrites of `lowering/structural/` that the cost model finds worth their while, for the sizes of
sets and the numbers of distinct tuples that are known (`cardinalities`), or usual ones.

    z[e, o] += h[e.src, i] * W[e.type, i, o]
    y[e.dst, o] += z[e, o]

becomes, if many edges share source and type,

    z_type_src[u, o] += h[u.src, i] * W[u.type, i, o]
    y[e.dst, o] += z_type_src[e.type_src, o]
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.cost import CostModel
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.device import Device
from hectorite.ir.devices import CPU
from hectorite.ir.diagnostics import did_you_mean, fail
from hectorite.lowering.graph.cardinalities import Cardinalities, parse_cardinalities
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.lower_dataflow import lower
from hectorite.lowering.options import Options
from hectorite.lowering.search.descent import descend
from hectorite.lowering.search.lookahead import look_ahead
from hectorite.lowering.search.step import Rule
from hectorite.lowering.search.workspace import Budget, Move, Workspace
from hectorite.lowering.structural import structural_rules
from hectorite.lowering.structural.choices import forced, pinned
from hectorite.lowering.structural.split import SplitSum

BUDGET = 4000
"""Matches that may be tried for one function."""

CHAINS = 100
"""Of them, how many in search of a chain of steps of which only the whole pays."""


@dataclass(frozen=True)
class SearchRewrites(ModulePass):
    """Choose structural rewrites by what they cost."""

    name = "search-rewrites"

    reassociate: bool = True
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""
    forbid: tuple[str, ...] = ()
    """Rules or families that may not be used."""
    force: tuple[str, ...] = ()
    """Choices that are made before the search, as `STATEMENT:DETAIL`."""
    budget: int = BUDGET
    """Matches that may be tried for one function; with none only forced choices are made."""

    @staticmethod
    def of(options: Options) -> "SearchRewrites":
        """The pass that does what a user chose."""
        budget = BUDGET if options.search else 0
        chosen = (options.cardinalities, options.forbid, options.force, budget)
        if options.device is None:
            return SearchRewrites(options.reassociate, *chosen)
        return _OnDevice(options.reassociate, *chosen, options.device)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        known = parse_cardinalities(self.cardinalities)
        for func in list(op.ops):
            if isinstance(func, FuncOp):
                chosen = (self.reassociate, self.forbid, self.force)
                search(op, func, known, *chosen, self.costs, budget=self.budget)

    @property
    def costs(self) -> Device:
        """The device whose costs decide."""
        return CPU


@dataclass(frozen=True)
class _OnDevice(SearchRewrites):
    device: Device = CPU

    @property
    def costs(self) -> Device:
        return self.device


@dataclass
class Searched:
    """The graph of a function before and after the moves; before them, forced choices are made."""

    before: Dataflow
    after: Dataflow
    moves: list[Move]
    model: CostModel = field(repr=False)


def search(
    module: ModuleOp,
    func: FuncOp,
    known: Cardinalities,
    reassociate: bool = True,
    forbid: Collection[str] = (),
    force: Sequence[str] = (),
    device: Device = CPU,
    fixed: Collection[str] = (),
    budget: int = BUDGET,
) -> Searched:
    """Rewrite one function of a module in place, trying at most `budget` matches. `fixed` names
    arguments that are the same in every call."""
    flow = lift(func, schema_of(module), reassociate, fixed)
    extents = known.extents(flow.schema)
    model = CostModel(device, extents)
    chosen = forced(flow, structural_rules(extents, None), force) if force else frozenset[str]()
    rules = allowed(structural_rules(extents), forbid)
    before = flow.copy()
    workspace = Workspace(flow, pinned(rules, chosen), model, Budget(budget))
    workspace = _cheapest(workspace) if budget else workspace
    if workspace.moves or force:
        lower(workspace.flow, module, func.sym_name.data)
    return Searched(before, workspace.flow, workspace.moves, model)


def _cheapest(workspace: Workspace) -> Workspace:
    """The cheapest graph that descent finds, short chains of losing steps, or a split of a sum,
    which loses much until each part has its own order."""
    descend(workspace)
    while look_ahead(workspace, CHAINS):
        descend(workspace)
    for offer in workspace.offers(workspace.flow.order()):
        other = workspace.fork()
        match = other.again(offer) if offer.rule.family == SplitSum.family else None
        if match is not None:
            other.keep(other.attempt(match))
            descend(other)
            if workspace.saves(other.total - workspace.total):
                return _cheapest(other)
    return workspace


def allowed(rules: Sequence[Rule], forbid: Collection[str]) -> list[Rule]:
    """The rules that are not forbidden by name or family. Raises `HectoriteError` for a name that
    no rule has."""
    names = {name for rule in rules for name in (rule.name, rule.family)}
    if not names.issuperset(forbid):
        from hectorite.lowering.rules.catalogue import rules as laws

        names |= {name for law in laws() for name in (law.name, law.family)}
    for name in forbid:
        if name not in names:
            expected = f"a rule or a family, such as {', '.join(sorted(names)[:8])}"
            hint = did_you_mean(name, sorted(names)) or "`hectorite rules list` tells them"
            raise fail(f"there is no rule `{name}` to forbid", expected=expected, hint=hint)
    return [r for r in rules if r.name not in forbid and r.family not in forbid]
