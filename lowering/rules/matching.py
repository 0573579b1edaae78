"""Finds where rules apply: the matcher that a rule gets from its definition.

Enters: a graph and a node. Leaves: matches, each found from one node: siblings from the first
operand that they share, all others from the statement that is replaced or that adds them up. What
a form can be seen as is kept with it (`split.py`), so a pass over a graph looks up most nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import combinations

from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.element import ELEMENTS
from hectorite.ir.form_views import is_concat, sum_terms, view
from hectorite.ir.formula import Access, Read
from hectorite.ir.space import Dim
from hectorite.lowering.rules.apply import applied, applied_inside, applied_sum
from hectorite.lowering.rules.binding import Binding, Root, Sibling, Value
from hectorite.lowering.rules.factors import Factors, scaled_inside
from hectorite.lowering.rules.siblings import Group, add_up, alike, independent, sums
from hectorite.lowering.rules.smart import composed
from hectorite.lowering.rules.split import Sight, Split
from hectorite.lowering.rules.term import (
    REST,
    Concat,
    Law,
    Statement,
    Tensor,
    Term,
    Total,
    View,
    scalable,
    walk,
)
from hectorite.lowering.rules.windows import windows
from hectorite.lowering.search.step import Match

FEW = 8
"""Siblings that are also taken two at a time."""


class LawRule:
    """A rule of the search, made from a law. With `most`, each so many of a group of siblings match
    by themselves instead of all together, if the group has at most `few`."""

    def __init__(self, law: Law, most: int | None = None, few: int | None = None):
        self.law, self.most, self.few = law, most, few
        statements = [part for part in walk(law.source) if isinstance(part, Statement)]
        self._sights = {statement: Sight(law, statement) for statement in statements}
        self._first = self._sights[statements[0]]
        self._scalable = scalable(law)
        self._siblings_only = law.siblings

    @property
    def name(self) -> str:
        return self.law.name

    @property
    def family(self) -> str:
        return self.law.family

    @property
    def local(self) -> bool:
        """Siblings must not depend on one another, and windows are those of other products."""
        return not self._siblings_only and not self.law.windows

    @cached_property
    def in_pairs(self) -> LawRule:
        """The rule for two siblings at a time, where there are few; itself if it has none."""
        groups = self._siblings_only or isinstance(self.law.source, Total)
        return LawRule(self.law, 2, FEW) if groups else self

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """All matches that are found from this node."""
        source = self.law.source
        if self._siblings_only:
            yield from self._siblings(flow, number)
            return
        node = flow.nodes[number]
        if node.form is None or node.fixed:
            return
        if isinstance(source, Total):
            yield from self._totals(flow, number)
        elif isinstance(source, Concat):
            yield from self._joined(flow, number, source)
        elif isinstance(source, Statement):
            yield from self._inside_bodies(flow, number) if self.law.inside else ()
            yield from self._single(flow, number, source)

    def bindings(self, flow: Dataflow, number: int) -> Iterator[Binding]:
        """All bindings with which the statement of a node is the source of a rule that replaces
        one statement."""
        yield from self._bindings(flow, flow.nodes[number])

    def _bindings(self, flow: Dataflow, node: Node) -> Iterator[Binding]:
        if node.form is None:
            return
        for split in self._first.splits(node.form):
            if not self._likely(flow, node, split):
                continue
            start = Binding(root=Root(split.left, node.shape, node.name))
            names = {name: name for name in split.dims}
            for binding in self._inside(flow, node, split, self._first.statement, names, start):
                wide = (
                    windows(flow, node, binding, self.law.windows[0], self._first)
                    if (self.law.windows)
                    else [binding]
                )
                yield from (found for found in wide if holds(flow, self.law, found))

    def _likely(self, flow: Dataflow, node: Node, split: Split) -> bool:
        """Whether the operands of a statement are of the kinds that the rule names."""
        for argument, part in zip(self._first.statement.arguments, split.parts, strict=True):
            if isinstance(argument, Tensor):
                operands = [flow.nodes[node.operands[read.slot]] for read in part]
                if argument.name in self.law.fixed and not all(o.fixed for o in operands):
                    return False
                continue
            form = flow.nodes[node.operands[part[0].slot]].form
            if form is None:
                return False
            if isinstance(argument, Statement) and not self._sights[argument].splits(form):
                return False
            if isinstance(argument, Concat) and not is_concat(form):
                return False
            if isinstance(argument, Total) and sum_terms(form) is None:
                return False
            if isinstance(argument, View) and view(form) is None:
                return False
        return True

    def _single(self, flow: Dataflow, number: int, source: Statement) -> Iterator[Match]:
        for binding in self.bindings(flow, number):
            nodes = (number, *(o for o in flow.nodes[number].operands if self._is_inner(flow, o)))
            yield self._match(flow, nodes, binding, [number])

    def _inside_bodies(self, flow: Dataflow, number: int) -> Iterator[Match]:
        for factors in scaled_inside(flow, number):
            for binding in self._bindings(flow, factors.node):
                law = self.law
                yield Match(
                    law.name,
                    law.family,
                    (number, *factors.node.operands[:1]),
                    flow.nodes[number].name or f"%{number}",
                    _inside_of(law, binding, number, factors),
                )

    def _is_inner(self, flow: Dataflow, number: int) -> bool:
        return flow.nodes[number].form is not None and len(self._sights) > 1

    def _match(
        self, flow: Dataflow, nodes: tuple[int, ...], binding: Binding, olds: list[int]
    ) -> Match:
        law = self.law
        names = [flow.nodes[old].name or f"%{old}" for old in nodes]
        return Match(
            law.name,
            law.family,
            nodes,
            ", ".join(names),
            lambda graph: applied(graph, law, binding, olds),
        )

    # one statement and what is inside of it

    def _inside(
        self,
        flow: Dataflow,
        node: Node,
        split: Split,
        statement: Statement,
        names: dict[str, str],
        start: Binding,
    ) -> Iterator[Binding]:
        """Bindings that extend one by a statement, whose variables are called `names` there."""
        if split.function.constants and self._loses_constants(statement):
            return
        binding = start.copy()
        for name, dim in split.dims.items():
            binding.dims.setdefault(names[name], dim)
            binding.letters.setdefault(names[name], split.letters[name])
        binding.constants += split.function.constants
        binding.sizes |= split.sizes
        if statement.function.startswith("?"):
            binding.functions[statement.function] = split.function
        found, same = [binding], all(a == b for a, b in names.items())
        for argument, part in zip(statement.arguments, split.parts, strict=True):
            values = tuple(
                Value(node.operands[read.slot], _renamed(read.access, names, same)) for read in part
            )
            found = [more for b in found for more in self._argument(flow, argument, values, b)]
        yield from found

    def _loses_constants(self, statement: Statement) -> bool:
        return statement.function == "mul" and statement not in self._scalable

    def _argument(
        self, flow: Dataflow, term: Term, values: tuple[Value, ...], binding: Binding
    ) -> Iterator[Binding]:
        if isinstance(term, Tensor):
            if binding.tensors.get(term.name, values) == values:
                more = binding.copy()
                more.tensors[term.name] = values
                yield more
            return
        node = flow.nodes[values[0].node]
        access = values[0].access
        if node.form is None or access is None or node.shape.pad is not None:
            return
        if isinstance(term, Statement):
            yield from self._nested(flow, node, access, term, binding)
        elif isinstance(term, View):
            yield from _viewed(flow, values[0], term.term, binding)
        elif isinstance(term, Concat | Total) and isinstance(term.term, Tensor):
            more = _taken_apart(flow, values[0], term, term.term, binding)
            if more is not None:
                yield more

    def _nested(
        self, flow: Dataflow, node: Node, access: Access, term: Statement, binding: Binding
    ) -> Iterator[Binding]:
        assert node.form is not None
        outer = [index.variable for index in access]
        if not node.form.plain_left or None in outer:
            return
        for split in self._sights[term].splits(node.form):
            inner = [index.variable for index in split.left]
            names = {a: b for a, b in zip(inner, outer, strict=True) if a and b}
            if any(split.letters[a] != binding.letters[b] for a, b in names.items()):
                continue
            more = binding.copy()
            for name in split.dims:
                if name not in names:
                    letter = split.letters[name]
                    names[name] = _summed_before(more, letter, split.dims[name], names)
                    more.letters[names[name]] = letter
            yield from self._inside(flow, node, split, term, names, more)

    # several statements

    def _siblings(self, flow: Dataflow, number: int) -> Iterator[Match]:
        for group in alike(flow, number, self._first):
            for members in self._parts(independent(flow, group)):
                binding = self._of_group(flow, members)
                if binding is not None and holds(flow, self.law, binding):
                    olds = [node for node, _ in members.members]
                    yield self._match(flow, tuple(olds), binding, olds)

    def _parts(self, groups: Iterable[Group]) -> Iterator[Group]:
        for group in groups:
            size = len(group.members)
            if self.most is None or size <= self.most or (self.few is not None and size > self.few):
                yield group
                continue
            for members in combinations(group.members, self.most):
                yield Group(group.sight, members)

    def _totals(self, flow: Dataflow, number: int) -> Iterator[Match]:
        for place in sums(flow, number):
            for group in self._parts(add_up(flow, place, self._first)):
                binding = self._of_group(flow, group)
                if binding is None or not holds(flow, self.law, binding):
                    continue
                olds = [node for node, _ in group.members]
                names = [flow.nodes[old].name or f"%{old}" for old in olds]
                yield Match(
                    self.name,
                    self.family,
                    (number, *olds),
                    ", ".join(names),
                    _summed(self.law, binding, number, olds, place.access),
                )

    def _joined(self, flow: Dataflow, number: int, source: Concat) -> Iterator[Match]:
        node = flow.nodes[number]
        if node.form is None or not is_concat(node.form):
            return
        operands = [flow.nodes[operand] for operand in node.operands]
        if any(o.form is None for o in operands) or len(set(node.operands)) != len(node.operands):
            return
        assert operands[0].form is not None
        for first in self._first.splits(operands[0].form):
            chosen = list[tuple[int, Split]]()
            for number_of, operand in zip(node.operands, operands, strict=True):
                assert operand.form is not None
                same = [s for s in self._first.splits(operand.form) if s.key == first.key]
                chosen += [(number_of, same[0])] if same else []
            axis = node.form.axis
            on_axis = first.letters.get(first.left[axis].variable or "") == source.letter
            if len(chosen) != len(operands) or not on_axis:
                continue
            binding = self._of_group(flow, Group(self._first, tuple(chosen)))
            if binding is not None and holds(flow, self.law, binding):
                yield self._match(flow, (number, *node.operands), binding, [number])

    def _of_group(self, flow: Dataflow, group: Group) -> Binding | None:
        """The binding of statements that are alike; None if they do not share what they must."""
        number, first = group.members[0]
        shape = flow.nodes[number].shape
        names = [flow.nodes[n].name for n, _ in group.members]
        name = "_".join(n for n in names if n) if len(names) <= 4 and all(names) else None
        binding = Binding(
            dims=dict(first.dims),
            letters=dict(first.letters),
            constants=first.function.constants,
            sizes=dict(first.sizes),
            root=Root(first.left, shape, name),
        )
        statement = self._first.statement
        if first.function.constants and self._loses_constants(statement):
            return None
        binding.functions[statement.function] = first.function
        varying = [f"{letter}0" for letter in self._first.singles]
        for member, split in group.members:
            node, sibling = flow.nodes[member], Sibling(node=member)
            sibling.dims = {name: split.dims[name] for name in varying}
            if not all(isinstance(dim, int) for dim in sibling.dims.values()):
                return None
            for argument, part in zip(statement.arguments, split.parts, strict=True):
                assert isinstance(argument, Tensor)
                values = tuple(Value(node.operands[read.slot], read.access) for read in part)
                if argument.many:
                    sibling.tensors[argument.name] = values
                elif binding.tensors.setdefault(argument.name, values) != values:
                    return None
            binding.siblings.append(sibling)
        return binding


def holds(flow: Dataflow, law: Law, binding: Binding) -> bool:
    """Whether the algebra and the conditions of a rule permit it here."""
    assert binding.root is not None
    if law.algebra and not _algebra_permits(flow, law, binding):
        return False
    return all(condition.test(flow, binding) for condition in law.where)


def _algebra_permits(flow: Dataflow, law: Law, binding: Binding) -> bool:
    assert binding.root is not None
    element = ELEMENTS[binding.root.shape.element]
    if "reassoc_fp" in law.algebra and element.is_float and not flow.reassociate:
        return False
    if "field" in law.algebra and not element.is_float:
        return False
    if law.algebra & {"ring", "field"}:
        nodes = [node for name in law.tensors for node in binding.nodes(name)]
        elements = {flow.nodes[node].shape.element for node in nodes}
        # Types that compute in another one round or wrap what a rule would leave exact.
        exact = element.compute == element and element.kind in ("float", "int")
        return exact and elements <= {element.name}
    return True


def _viewed(flow: Dataflow, value: Value, term: Tensor, binding: Binding) -> Iterator[Binding]:
    node = flow.nodes[value.node]
    read = None if node.form is None else view(node.form)
    if read is None or node.form is None or value.access is None:
        return
    try:
        access = composed(flow, value.node, value.access, read.access or (), binding.dims)
    except ValueError:
        return
    more = binding.copy()
    more.tensors[term.name] = (Value(node.operands[read.slot], access),)
    yield more


def _taken_apart(
    flow: Dataflow, value: Value, term: Concat | Total, of: Tensor, binding: Binding
) -> Binding | None:
    """The operands of a concat or the terms of a sum as siblings."""
    node, access = flow.nodes[value.node], value.access or ()
    form = node.form
    if form is None or binding.siblings:
        return None
    more = binding.copy()
    if isinstance(term, Concat):
        name = access[form.axis].variable if is_concat(form) else None
        if name is None or binding.letters.get(name) != term.letter:
            return None
        if binding.dims[name] != node.shape.dims[form.axis]:
            return None
        for operand in node.operands:
            extent: Dim = flow.nodes[operand].shape.dims[form.axis]
            sibling = Sibling({of.name: (Value(operand, value.access),)}, {name: extent})
            more.siblings.append(sibling)
        return more
    terms = sum_terms(form) or ()
    for part in terms:
        if not isinstance(part, Read) or part.access != form.left:
            return None
        operand = node.operands[part.slot]
        if flow.nodes[operand].shape != node.shape:
            return None
        more.siblings.append(Sibling({of.name: (Value(operand, value.access),)}))
    return more if len(more.siblings) > 1 else None


def _renamed(access: Access | None, names: dict[str, str], same: bool) -> Access | None:
    return access if access is None or same else tuple(index.rename(names) for index in access)


def _summed_before(binding: Binding, letter: str, dim: Dim, names: dict[str, str]) -> str:
    """The variable that a letter has in other statements that sum over it, or a new one."""
    known = [] if letter == REST else binding.group(letter)
    free = [n for n in known if n not in names.values() and binding.dims[n] == dim]
    return free[0] if free else binding.fresh(letter)


def _inside_of(
    law: Law, binding: Binding, number: int, at: Factors
) -> Callable[[Dataflow], Sequence[int]]:
    return lambda graph: applied_inside(graph, law, binding, number, at.place, at.rest, at.access)


def _summed(
    law: Law, binding: Binding, number: int, olds: list[int], access: Access
) -> Callable[[Dataflow], Sequence[int]]:
    return lambda graph: applied_sum(graph, law, binding, number, olds, access)
