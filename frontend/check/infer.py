"""What every index variable ranges over, and the shape of every local: inference by unification.

Enters: the places where variables stand in a function, as positions of tensors, binders and chains
of fields. Leaves: for each variable and each dimension a set, a size or an integer.

A plain variable at a position is joined with that dimension. A path `e.src` joins the target of
the field with it as soon as the set of `e` is known. A variable that stays open belongs to the only
set that has all of its fields, or whose fields lead where they have to. Sizes are rigid: two names
never become one. An affine index joins nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hectorite.frontend.check.index import Variable, extent_dim
from hectorite.frontend.check.scope import Place, Scope
from hectorite.frontend.check.typed import Dim
from hectorite.ir.diagnostics import Span, did_you_mean
from hectorite.ir.index import Path


class Spaces:
    """Union-find over what is unknown; a class may be fixed to one dimension."""

    def __init__(self, scope: Scope):
        self._scope = scope
        self._parent: list[int] = []
        self._fixed: list[Dim | None] = []

    def fresh(self, dim: Dim | None = None) -> int:
        """A new unknown, fixed at once if `dim` is given."""
        self._parent.append(len(self._parent))
        self._fixed.append(dim)
        return len(self._parent) - 1

    def root(self, node: int) -> int:
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node

    def known(self, node: int) -> Dim | None:
        """What the class of `node` is fixed to."""
        return self._fixed[self.root(node)]

    def join(self, left: int, right: int) -> bool:
        """Make two unknowns one; False, and nothing done, if they are fixed to different things."""
        a, b = self.root(left), self.root(right)
        if a == b:
            return True
        known_a, known_b = self._fixed[a], self._fixed[b]
        if known_a is not None and known_b is not None and not self._scope.same(known_a, known_b):
            return False
        self._parent[b] = a
        names = [known for known in (known_a, known_b) if known is not None]
        self._fixed[a] = next((n for n in names if isinstance(n, str)), names[0] if names else None)
        return True

    def fix(self, node: int, dim: Dim) -> bool:
        """Fix the class of `node`; False if it is fixed to something else."""
        return self.join(node, self.fresh(dim))


@dataclass(frozen=True)
class Site:
    """A path that stands at one dimension of a tensor."""

    frame: Frame
    path: Path
    span: Span
    tensor: str
    dimension: int
    node: int


@dataclass(eq=False)
class Frame:
    """The index variables of one statement, each with its unknown."""

    place: Place
    variables: dict[str, Variable]
    nodes: dict[str, int] = field(default_factory=dict[str, int])
    failed: bool = False


class Inference:
    """Solves one function. Call `frame` and `site` for everything in it, then `solve`."""

    def __init__(self, scope: Scope, spaces: Spaces):
        self.scope = scope
        self.spaces = spaces
        self._frames: list[Frame] = []
        self._pending: list[Site] = []

    def frame(self, frame: Frame) -> None:
        """Take in the variables of a statement and their binders."""
        self._frames.append(frame)
        for variable in frame.variables.values():
            node = frame.nodes[variable.name] = self.spaces.fresh()
            for extent in variable.binders:
                dim = extent_dim(extent)
                if not self.spaces.fix(node, dim):
                    other = describe(self.scope, self.spaces.known(node))
                    frame.failed = True
                    frame.place.error(
                        f"`{variable.name}` is bound to {describe(self.scope, dim)}, but ranges "
                        f"over {other}",
                        extent.span,
                        other,
                    )
            # Before positions are joined, so that a wrong one is told where it stands.
            candidates = self._having_fields(variable) if variable.paths else []
            if self.spaces.known(node) is None and len(candidates) == 1:
                self.spaces.fix(node, candidates[0])

    def site(self, site: Site) -> None:
        """Take in one position; a plain variable is joined at once."""
        if site.path.fields:
            self._pending.append(site)
        elif not self.spaces.join(site.frame.nodes[site.path.variable], site.node):
            self._conflict(site, self.spaces.known(site.frame.nodes[site.path.variable]))

    def solve(self) -> None:
        """Follow paths and settle variables until nothing changes, then report what is open."""
        while self._follow_paths() or self._settle_by_fields() or self._settle_by_targets():
            pass

    def report_open(self) -> None:
        """An error for every variable that is still open, one for each class."""
        told: set[int] = set()
        for frame in self._frames:
            for variable in frame.variables.values():
                node = frame.nodes[variable.name]
                known = self.spaces.known(node)
                if known is not None:
                    self._check_chains(frame, variable, known)
                    continue
                if not frame.failed and self.spaces.root(node) not in told:
                    self._ambiguous(frame, variable)
                told.add(self.spaces.root(node))
                frame.failed = True

    def _follow_paths(self) -> bool:
        """Join the targets of all paths whose variable is known."""
        pending, self._pending = self._pending, []
        for site in pending:
            known = self.spaces.known(site.frame.nodes[site.path.variable])
            if known is None:
                self._pending.append(site)
                continue
            target = _target(self.scope, known, site.path.fields)
            if target is not None and not self.spaces.fix(site.node, target):
                self._conflict(site, target)
        return len(self._pending) < len(pending)

    def _settle_by_fields(self) -> bool:
        return self._settle(lambda frame, variable: self._having_fields(variable))

    def _settle_by_targets(self) -> bool:
        return self._settle(self._leading_right)

    def _settle(self, candidates: Callable[[Frame, Variable], list[str]]) -> bool:
        """Fix every open variable that has exactly one candidate."""
        changed = False
        for frame in self._frames:
            for variable in frame.variables.values():
                node = frame.nodes[variable.name]
                if self.spaces.known(node) is None and variable.paths:
                    found = candidates(frame, variable)
                    if len(found) == 1:
                        changed |= self.spaces.fix(node, found[0])
        return changed

    def _having_fields(self, variable: Variable) -> list[str]:
        """The sets that have every chain of fields followed from the variable."""
        return [
            name
            for name in self.scope.schema.sets
            if all(_target(self.scope, name, chain) is not None for chain in variable.paths)
        ]

    def _leading_right(self, frame: Frame, variable: Variable) -> list[str]:
        """Of those, the sets whose fields lead into the dimensions where the paths stand."""
        sites = [s for s in self._pending if s.frame is frame and s.path.variable == variable.name]
        return [
            name
            for name in self._having_fields(variable)
            if all(
                self.spaces.known(s.node) in (None, _target(self.scope, name, s.path.fields))
                for s in sites
            )
        ]

    def _check_chains(self, frame: Frame, variable: Variable, known: Dim) -> None:
        for chain, span in variable.paths.items():
            if _target(self.scope, known, chain) is not None:
                continue
            if frame.failed:
                return
            frame.failed = True
            if not self.scope.is_set(known):
                what = describe(self.scope, known)
                message = f"`{variable.name}` ranges over {what}, which has no fields"
                frame.place.error(message, span, "an index variable over a set")
                continue
            start, missing = str(known), chain[0]
            for missing in chain:
                fields = self.scope.schema.fields_of(start)
                if missing not in fields:
                    break
                start = fields[missing]
            known_fields = list(self.scope.schema.fields_of(start))
            expected = f"one of {', '.join(known_fields)}" if known_fields else None
            hint = did_you_mean(missing, known_fields)
            frame.place.error(f"set `{start}` has no field `{missing}`", span, expected, hint)

    def _conflict(self, site: Site, have: Dim | None) -> None:
        want = self.spaces.known(site.node)
        site.frame.failed = True
        if have is None or want is None:
            return
        site.frame.place.error(
            f"`{site.path}` ranges over {describe(self.scope, have)}, but dimension "
            f"{site.dimension + 1} of `{site.tensor}` is {describe(self.scope, want)}",
            site.span,
            f"an index over {describe(self.scope, want)}",
            self._conflict_hint(site.path, have, want),
        )

    def _conflict_hint(self, path: Path, have: Dim, want: Dim) -> str | None:
        for dim in (want, have):
            typo = near_declared(self.scope, dim)
            if typo:
                return typo
        if self.scope.is_set(have):
            fields = self.scope.schema.fields_of(str(have)).items()
            ways = [f"{path}.{name}" for name, target in fields if target == want]
            return f"write {' or '.join(ways)}" if ways else None
        return one_name(self.scope, have, want)

    def _ambiguous(self, frame: Frame, variable: Variable) -> None:
        name, span = variable.name, variable.span
        sets = self._having_fields(variable)
        if not variable.paths:
            declared = name in self.scope.schema.sizes or self.scope.is_set(name)
            frame.place.error(
                f"nothing tells what `{name}` ranges over",
                span,
                "a position of its own in some tensor, or a binder",
                f"for the size itself write size({name})"
                if declared
                else f"write {name}: S with the set or size S that it ranges over",
            )
        elif sets:
            choice = f"{', '.join(sets[:-1])} or {sets[-1]}"
            hint = f"{name} could be in {choice}: write {name}: {sets[0]}"
            message = f"nothing tells which set `{name}` is in"
            frame.place.error(message, span, "one set that has the fields it uses", hint)
        else:
            chain, where = next(
                ((c, s) for c, s in variable.paths.items() if not self.scope.sets_with(c[0])),
                next(iter(variable.paths.items())),
            )
            used = " and ".join(f"`{'.'.join(chain)}`" for chain in variable.paths)
            single = len(variable.paths) == 1 or not self.scope.sets_with(chain[0])
            message = f"no set has a field `{chain[0]}`" if single else f"no set has both {used}"
            hint = did_you_mean(chain[0], self.scope.all_fields())
            frame.place.error(message, where, "a field of a declared set", hint)


def near_declared(scope: Scope, dim: Dim) -> str | None:
    """A hint for a name in shape position that looks like a declared one, misspelt."""
    declared = [*scope.schema.sets, *scope.schema.sizes]
    if isinstance(dim, int) or dim in declared or len(dim) < 2:
        return None
    near = did_you_mean(dim, declared)
    if near is None:
        return None
    return f"`{dim}` is declared nowhere, so it is a size of this function; {near}"


def one_name(scope: Scope, have: Dim, want: Dim) -> str | None:
    """A hint for two sizes that have to be equal."""
    if scope.is_set(have) or scope.is_set(want):
        return None
    name = want if isinstance(have, int) else have
    return f"if the two are always equal, give them one name: write `{name}` in both places"


def _target(scope: Scope, start: Dim, chain: tuple[str, ...]) -> str | None:
    """The set that a chain of fields leads to, or None if it does not exist."""
    if not isinstance(start, str) or start not in scope.schema.sets:
        return None
    try:
        return scope.schema.follow(start, chain)
    except KeyError:
        return None


def describe(scope: Scope, dim: Dim | None) -> str:
    """A dimension in words."""
    if isinstance(dim, int):
        return f"the fixed size {dim}"
    return f"set `{dim}`" if dim is not None and scope.is_set(dim) else f"size `{dim}`"
