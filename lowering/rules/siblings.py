"""Groups of statements that a rule treats alike.

Enters: a graph and where to look. Leaves: groups of at least two statements with equal keys that
read the same shared operands, in an order that depends on the operands alone: the order of their
names, or where they lie in one tensor. So weights shared by two groups are concatenated once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.form_views import recognised, slice_of, view
from hectorite.ir.formula import Access, Apply, Read, walk
from hectorite.lowering.rules.split import Sight, Split

MOST_VISITED = 4000
"""Nodes that are visited to see whether siblings depend on one another."""


@dataclass(frozen=True)
class Group:
    """Statements that are alike, each with how it is seen."""

    sight: Sight
    members: tuple[tuple[int, Split], ...]


@dataclass(frozen=True)
class Place:
    """A sum in the body of a statement: the operands that it reads at one access."""

    access: Access
    operands: tuple[int, ...]


def alike(flow: Dataflow, number: int, sight: Sight) -> Iterator[Group]:
    """Groups of statements that share operands, the first of which is this node. Where a rule
    shares nothing, the siblings read stretches of this node."""
    users = sorted(flow.users[number])
    if sight.shares:
        if len(users) > 1:
            yield from _grouped(flow, [(user, number) for user in users], sight, number)
        return
    pairs = list[tuple[int, int]]()
    for user in users:
        form = flow.nodes[user].form
        if form is not None and slice_of(form) is not None:
            pairs += [(other, user) for other in sorted(flow.users[user])]
    if len(pairs) > 1:
        yield from _grouped(flow, pairs, sight, None)


def _grouped(
    flow: Dataflow, pairs: list[tuple[int, int]], sight: Sight, shared: int | None
) -> Iterator[Group]:
    groups = dict[object, dict[int, Split]]()
    seen = list[tuple[int, int, tuple[Split, ...]]]()
    for user, operand in pairs:
        node = flow.nodes[user]
        if node.form is not None and not node.fixed and (splits := sight.splits(node.form)):
            seen.append((user, operand, splits))
    if len(seen) < 2:
        return
    for user, operand, splits in seen:
        for split in splits:
            read = _operands(flow, user, split.shared)
            varied = _operands(flow, user, split.varied)
            first = min(read) == shared if read else shared is None and varied[0] == operand
            if first:
                groups.setdefault((split.key, read), {}).setdefault(user, split)
    for members in groups.values():
        if len(members) > 1:
            yield _sorted(flow, Group(sight, tuple(members.items())))


def _operands(flow: Dataflow, number: int, slots: tuple[int, ...]) -> tuple[int, ...]:
    operands = flow.nodes[number].operands
    return tuple([operands[slot] for slot in slots])


def _sorted(flow: Dataflow, group: Group) -> Group:
    def place(member: tuple[int, Split]) -> tuple[object, ...]:
        operands = _operands(flow, member[0], member[1].varied)
        return tuple(origin(flow, operand) for operand in operands)

    return Group(group.sight, tuple(sorted(group.members, key=place)))


def origin(flow: Dataflow, number: int) -> tuple[str, tuple[int, ...]]:
    """What orders operands: the name of a node, or of what it is cut from, with where."""
    node = flow.nodes[number]
    found = None if node.form is None else view(node.form)
    if found is None:
        return node.label, ()
    constants = tuple(index.constant for index in found.access or ())
    return flow.nodes[node.operands[0]].label, constants


def independent(flow: Dataflow, group: Group) -> Iterator[Group]:
    """The members that depend on no other; then those that depend on the first only, and so on."""
    below = {number: set[int]() for number, _ in group.members}
    for number, split in group.members:
        operands = _operands(flow, number, split.varied)
        if not all(flow.nodes[o].fixed or flow.nodes[o].form is None for o in operands):
            seen = _reached(flow, operands, below.keys())
            if seen is None:
                return
            below[number] = seen
    level = dict[int, int]()
    while len(level) < len(below):
        ready = [n for n, needs in below.items() if n not in level and needs <= level.keys()]
        if not ready:
            return
        for number in ready:
            level[number] = 1 + max((level[need] for need in below[number]), default=-1)
    for height in sorted(set(level.values())):
        members = tuple(m for m in group.members if level[m[0]] == height)
        if len(members) > 1:
            yield Group(group.sight, members)


def _reached(flow: Dataflow, start: tuple[int, ...], candidates: object) -> set[int] | None:
    """The candidates that nodes depend on, as far as no other lies between."""
    seen, waiting, found = set(start), list(start), set[int]()
    while waiting:
        if len(seen) > MOST_VISITED:
            return None
        here = waiting.pop()
        if here in candidates:  # pyright: ignore[reportOperatorIssue]
            found.add(here)
            continue
        for operand in flow.nodes[here].operands:
            if operand not in seen and not flow.nodes[operand].fixed:
                seen.add(operand)
                waiting.append(operand)
    return found


def sums(flow: Dataflow, number: int) -> Iterator[Place]:
    """The sums in the body of a statement, each with what it reads at one access."""
    node = flow.nodes[number]
    form = node.form
    if form is None or form.body is None or not recognised(form):
        return
    places = dict[Access, dict[int, None]]()
    for part in walk(form.body):
        if isinstance(part, Apply) and part.function == "add":
            places.clear()
            for term in part.arguments:
                if isinstance(term, Read) and term.access is not None:
                    places.setdefault(term.access, {})[node.operands[term.slot]] = None
            for access, operands in places.items():
                if len(operands) > 1:
                    yield Place(access, tuple(operands))


def add_up(flow: Dataflow, place: Place, sight: Sight) -> Iterator[Group]:
    """Groups of the terms of a sum that are alike."""
    groups = dict[object, dict[int, Split]]()
    for operand in place.operands:
        node = flow.nodes[operand]
        if node.form is None or node.shape.pad is not None:
            continue
        for split in sight.splits(node.form):
            read = _operands(flow, operand, split.shared)
            groups.setdefault((split.key, read), {}).setdefault(operand, split)
    for members in groups.values():
        if len(members) > 1:
            yield _sorted(flow, Group(sight, tuple(members.items())))
