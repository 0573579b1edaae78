"""The cheapest form of a small graph, by an exact solver: what searches are held against.

Enters: a workspace (a small graph, rules, a cost model). Leaves: an `Optimum`. First every graph
that rules lead to is made, up to a number of them. All their statements together are a graph of
alternatives: values that are equal form a class, and one statement for each class that is needed
makes a graph. So halves of different graphs are combined. A mixed-integer program (HiGHS) chooses:

    least    sum of price * chosen
    so that  each result has a chosen statement, a chosen statement's operands have one,
             and the order of the classes has no cycle

A statement's price depends on its neighbours, so the program takes the least that it had in any
graph; what is chosen is priced exactly, cut off, and the program solved again, until its optimum is
no less than the cheapest graph so far.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.schema import Schema
from hectorite.ir.statement_form import Form
from hectorite.lowering.search.best_first import outline
from hectorite.lowering.search.ledger import Ledger
from hectorite.lowering.search.workspace import Workspace

GRAPHS = 200
"""Graphs that are made."""
CUTS = 50
"""Times that the program is solved."""


@dataclass(frozen=True)
class Optimum:
    """The cheapest graph, its cost in attoseconds, and whether that is proved: all graphs that
    rules lead to were made, and no choice is cheaper than it."""

    flow: Dataflow
    cost: int
    graphs: int
    proved: bool


@dataclass(frozen=True)
class Choice:
    """A statement that a class may be made by; `operands` are classes, and an input has a name."""

    of: int
    form: Form | None
    name: str | None
    operands: tuple[int, ...]


@dataclass
class Alternatives:
    """Equal values as classes, by the structure of what makes them; with the least prices."""

    parents: dict[int, int] = field(default_factory=dict[int, int])
    made: dict[int, tuple[Form | None, str | None, tuple[int, ...]]] = field(
        default_factory=dict[int, tuple[Form | None, str | None, tuple[int, ...]]]
    )
    prices: dict[int, int] = field(default_factory=dict[int, int])

    def see(self, space: Workspace) -> dict[int, int]:
        """Take in the statements of a graph; gives the structure of each node."""
        known = dict[int, int]()
        for number in space.flow.order():
            node = space.flow.nodes[number]
            operands = tuple(known[operand] for operand in node.operands)
            name = node.name if node.form is None else None
            digest = "" if node.form is None else node.form.digest
            key = known[number] = hash((digest, name, operands))
            self.parents.setdefault(key, key)
            self.made[key] = node.form, name, operands
            price = space.ledger.entries[number][0]
            self.prices[key] = min(price, self.prices.get(key, price))
        return known

    def same(self, one: int, other: int) -> None:
        """Two structures have the same value."""
        self.parents[self.root(one)] = self.root(other)

    def root(self, key: int) -> int:
        """What stands for the class of a structure."""
        while self.parents[key] != key:
            key = self.parents[key]
        return key

    def choices(self) -> dict[Choice, int]:
        """All choices with their prices."""
        found = dict[Choice, int]()
        for key, (form, name, operands) in self.made.items():
            choice = Choice(self.root(key), form, name, tuple(map(self.root, operands)))
            found[choice] = min(self.prices[key], found.get(choice, self.prices[key]))
        return found


def optimum(start: Workspace, graphs: int = GRAPHS, cuts: int = CUTS) -> Optimum:
    """The cheapest graph that rules lead to from the graph of a workspace."""
    known = Alternatives()
    spaces, complete = explored(start, known, graphs)
    allowed = [space for space in spaces if not space.oversize]
    best = min(allowed, key=lambda space: space.total, default=start)
    flow, cost = best.flow, best.total
    schema = Schema(
        {name: decl for space in spaces for name, decl in space.flow.schema.sets.items()},
        start.flow.schema.sizes,
    )
    choices = known.choices()
    results = [known.root(key) for key in _results(start, known)]
    barred, bound = list[list[int]](), -1
    for _ in range(cuts):
        chosen, bound = _solved(choices, results, barred)
        if not chosen or bound >= cost * (1.0 - 1e-9):
            return Optimum(flow, cost, len(spaces), complete)
        made = _graph(start.flow, schema, list(choices), chosen, results)
        ledger = Ledger(made, start.model)
        if ledger.total < cost and ledger.folded <= start.ledger.most_folded:
            flow, cost = made, ledger.total
        barred.append(chosen)
    return Optimum(flow, cost, len(spaces), False)


def explored(start: Workspace, known: Alternatives, most: int) -> tuple[list[Workspace], bool]:
    """Graphs that matches lead to, the nearest first, and whether these are all."""
    spaces, seen = [start], {outline(start.flow)}
    places = [known.see(start)]
    for space, before in zip(spaces, places, strict=False):
        for other, replaced in _next(space):
            if (shape := outline(other.flow)) in seen:
                continue
            if len(spaces) >= most:
                return spaces, False
            seen.add(shape)
            spaces.append(other)
            places.append(known.see(other))
            for number, key in before.items():
                here = replaced.get(number, number)
                if here in places[-1]:
                    known.same(key, places[-1][here])
    return spaces, True


def _next(space: Workspace) -> Iterator[tuple[Workspace, dict[int, int]]]:
    """The graphs one match away, and which nodes stand for others there."""
    for match in [m for number in space.flow.order() for m in space.matches(number)]:
        other = space.fork()
        other.keep(other.attempt(match))
        replaced = dict(other.flow.became)
        for old in replaced:
            while replaced[old] in replaced and replaced[replaced[old]] != replaced[old]:
                replaced[old] = replaced[replaced[old]]
        yield other, replaced


def _results(start: Workspace, known: Alternatives) -> list[int]:
    places = known.see(start)
    return [places[result] for result in start.flow.results]


def _solved(
    choices: dict[Choice, int], results: Sequence[int], barred: Sequence[Sequence[int]]
) -> tuple[list[int], float]:
    """The numbers of the choices of least price, and that price; none if there are none."""
    import numpy as np
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import lil_matrix

    each = list(choices)
    classes = {key: at for at, key in enumerate(dict.fromkeys(c.of for c in each))}
    of = dict[int, list[int]]()
    for at, choice in enumerate(each):
        of.setdefault(choice.of, []).append(at)
    count, rank = len(each), len(each)
    rows = list[tuple[dict[int, float], float]]()  # sum of coefficient * variable >= number
    for key in results:
        rows.append((dict.fromkeys(of[key], 1.0), 1.0))
    for at, choice in enumerate(each):
        for operand in dict.fromkeys(choice.operands):
            if operand == choice.of:
                rows.append(({at: -1.0}, 0.0))
                continue
            row = dict.fromkeys(of[operand], 1.0)
            row[at] = row.get(at, 0.0) - 1.0
            rows.append((row, 0.0))
            size = float(len(classes) + 1)
            order = {rank + classes[choice.of]: 1.0, rank + classes[operand]: -1.0, at: -size}
            rows.append((order, 1.0 - size))
    for chosen in barred:
        taken = set(chosen)
        row = {at: -1.0 if at in taken else 1.0 for at in range(count)}
        rows.append((row, 1.0 - len(taken)))
    table = lil_matrix((len(rows), count + len(classes)))
    for at, (row, _) in enumerate(rows):
        for column, value in row.items():
            table[at, column] = value
    scale = float(max(1, sum(choices.values())))
    prices = [price / scale + 1e-9 for price in choices.values()]
    solution: Any = milp(
        np.array(prices + [0.0] * len(classes)),
        constraints=LinearConstraint(table.tocsr(), [least for _, least in rows], np.inf),
        integrality=[1] * count + [0] * len(classes),
        bounds=Bounds(0.0, [1.0] * count + [float(len(classes))] * len(classes)),
    )
    if solution.x is None:
        return [], 0.0
    chosen = [at for at in range(count) if solution.x[at] > 0.5]
    return chosen, float(sum(choices[each[at]] for at in chosen))


def _graph(
    like: Dataflow,
    schema: Schema,
    choices: Sequence[Choice],
    chosen: Sequence[int],
    results: Sequence[int],
) -> Dataflow:
    """The graph of the chosen statements."""
    made = Dataflow(schema, like.reassociate)
    numbers = dict[int, int]()
    by_class = {choices[at].of: choices[at] for at in reversed(chosen)}
    for name, number in like.inputs.items():
        node = like.nodes[number]
        here = made.input(name, node.shape, node.fixed)
        for choice in choices:
            if choice.form is None and choice.name == name:
                numbers[choice.of] = here

    def number_of(key: int) -> int:
        if key not in numbers:
            choice = by_class[key]
            assert choice.form is not None
            numbers[key] = made.add(choice.form, [number_of(o) for o in choice.operands])
        return numbers[key]

    made.give([number_of(result) for result in results])
    return made
