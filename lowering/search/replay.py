"""Moves done again: on the graph they were found for, or on another of the same structure.

A region of a graph is solved on a copy of its own, and equal regions share the solution; what comes
out of that are moves in the numbers of the copy. `replay` carries them over.

    copy:   add(form, [3, 4]) -> 9     numbers {3: 103, 4: 104}
    graph:  add(form, [103, 104]) -> 250                then 9: 250
"""

from collections.abc import Iterable

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


def redo(flow: Dataflow, edits: Iterable[Edit], numbers: dict[int, int]) -> tuple[Edit, ...]:
    """Make edits on a graph. `numbers` says which node stands for each that the edits name, and
    gains those they add. Gives the edits in the graph's own numbers."""
    flow.listen()

    def number(old: int) -> int:
        here = numbers[old]
        while here not in flow.nodes and here in flow.became:
            here = flow.became[here]
        numbers[old] = here
        return here

    for edit in edits:
        match edit.method, edit.arguments:
            case "add", (form, operands, name, hints):
                made = flow.add(form, [number(operand) for operand in operands], name, hints)
                assert edit.result is not None
                numbers[edit.result] = made
            case "replace", (old, new):
                flow.replace(number(old), number(new))
            case _:
                flow.declare(*edit.arguments)
    gone = [old for old, here in numbers.items() if here not in flow.nodes]
    for old in gone:
        number(old)
    done = tuple(flow.edits)
    drop_unused(flow)
    return done


def again(flow: Dataflow, steps: Iterable[Step]) -> Dataflow:
    """The graph after the first steps of an outcome, from the graph given to `optimise`."""
    made, _ = renumbered(flow)
    numbers = {number: number for number in made.nodes}
    for step in steps:
        redo(made, step.edits, numbers)
    return made


def carry_over(workspace: Workspace, moves: Iterable[Move], numbers: dict[int, int]) -> bool:
    """Do moves that were found elsewhere, if they make the graph cheaper; whether they did."""
    outer = workspace.flow.mark()
    undone, done = list[Undo](), list[Move]()
    before = workspace.total
    for move in moves:
        places = tuple(numbers[node] for node in move.nodes if node in numbers)
        flow = workspace.flow
        edits = redo(flow, move.edits, numbers)
        undo = workspace.ledger.update(flow, tuple(flow.touched))
        undone.append(undo)
        done.append(Move(move.rule, move.family, move.detail, places, edits))
    fits = workspace.model.folded_bytes(workspace.flow) <= workspace.cap
    if workspace.saves(workspace.total - before) and fits:
        workspace.flow.keep(outer)
        workspace.moves += done
        return True
    workspace.flow.take_back(outer)
    for undo in reversed(undone):
        workspace.ledger.restore(undo)
    return False
