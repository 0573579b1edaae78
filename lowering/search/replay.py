"""Moves done again: on the graph they were found for, or on another of the same structure.

A region of a graph is solved on a copy of its own, and equal regions share the solution; what comes
out of that are moves in the numbers of the copy. `replay` carries them over.

    copy:   add(form, [3, 4]) -> 9     numbers {3: 103, 4: 104}
    graph:  add(form, [103, 104]) -> 250                then 9: 250
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hectorite.ir.dataflow import Dataflow, Edit
from hectorite.lowering.search.ledger import Undo
from hectorite.lowering.search.step import Step
from hectorite.lowering.search.workspace import Move, Workspace, drop_unused


def renumbered(flow: Dataflow) -> tuple[Dataflow, dict[int, int]]:
    """A copy whose numbers tell nothing of the past, and the number of each node in it."""
    made = Dataflow(flow.schema, flow.reassociate)
    numbers = dict[int, int]()
    for name, number in flow.inputs.items():
        node = flow.nodes[number]
        numbers[number] = made.input(name, node.shape, node.fixed)
    for number, node, form in flow.statements():
        operands = [numbers[operand] for operand in node.operands]
        numbers[number] = made.add(form, operands, node.name, node.hints)
    made.give([numbers[result] for result in flow.results])
    return made, numbers


class Gone(Exception):
    """An edit names a node that is no more, though nothing stands for it."""


@dataclass
class Places:
    """Which node of a graph stands for each that edits name; follows nodes that became others."""

    numbers: dict[int, int]
    became: dict[int, int] = field(default_factory=dict[int, int])

    def of(self, number: int, flow: Dataflow) -> int:
        """The node that stands for one now; raises Gone if none does."""
        here = self.numbers.get(number, -1)
        while here not in flow.nodes:
            if here not in self.became:
                raise Gone
            here = self.became[here]
        return here


def redo(flow: Dataflow, edits: Iterable[Edit], places: Places) -> tuple[Edit, ...]:
    """Make edits on a graph; gives them in the graph's own numbers."""
    flow.listen()
    for edit in edits:
        match edit.method, edit.arguments:
            case "add", (form, operands, name, hints):
                made = flow.add(form, [places.of(o, flow) for o in operands], name, hints)
                assert edit.result is not None
                places.numbers[edit.result] = made
            case "replace", (old, new):
                flow.replace(places.of(old, flow), places.of(new, flow))
                places.became |= flow.became
            case _:
                flow.declare(*edit.arguments)
    done = tuple(flow.edits)
    drop_unused(flow)
    return done


def again(flow: Dataflow, steps: Iterable[Step]) -> Dataflow:
    """The graph after the first steps of an outcome, from the graph given to `optimise`."""
    made, _ = renumbered(flow)
    places = Places({number: number for number in made.nodes})
    for step in steps:
        redo(made, step.edits, places)
    return made


def carry_over(workspace: Workspace, moves: Iterable[Move], places: Places) -> bool:
    """Do moves that were found elsewhere, if they make the graph cheaper; whether they did."""
    flow, ledger, before = workspace.flow, workspace.ledger, workspace.total
    mark, undone, done = flow.mark(), list[Undo](), list[Move]()
    became, touched = dict(places.became), dict[int, None]()
    try:
        for move in moves:
            nodes = tuple(places.of(node, flow) for node in move.nodes)
            edits = redo(flow, move.edits, places)
            undone.append(ledger.update(flow, tuple(flow.touched)))
            touched |= flow.touched
            done.append(Move(move.rule, move.family, move.detail, nodes, edits))
        pays = workspace.saves(workspace.total - before) and not workspace.too_large
    except Gone:
        undone.append(ledger.update(flow, tuple(flow.touched)))
        pays = False
    if pays:
        flow.keep(mark)
        workspace.moves += done
        workspace.forget(touched, [number for undo in undone for number in undo])
        return True
    places.became = became
    flow.take_back(mark)
    for undo in reversed(undone):
        ledger.restore(undo)
    return False
