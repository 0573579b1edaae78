"""Why a function is computed as it is: the search of the compiler, followed step by step.

Enters: a program, data or sizes, a device. Leaves: an `Explanation`: each rewrite with its place
and the predicted cost before and after it, what was refused, and measured times if they are asked
for. Steps that were written down can be taken again (`replay`), and the first of them after which
the function no longer means the same can be found (`first_wrong_step`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from hectorite.backends.bound.binding import Binding
from hectorite.backends.reference.error_bound import difference, run_with_bounds
from hectorite.backends.reference.interpreter import run_reference
from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.frontend.compiled.executable import given_sets
from hectorite.frontend.compiled.request import only
from hectorite.frontend.explanation import Explanation, StepRow, explained
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.cost import CostModel
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.device import Device
from hectorite.ir.diagnostics import fail
from hectorite.lowering.graph.cardinalities import parse_cardinalities
from hectorite.lowering.graph.drop_dead_statements import DropDeadStatements
from hectorite.lowering.graph.expand_softmax import ExpandSoftmax
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.lower_dataflow import lower
from hectorite.lowering.graph.search_rewrites import allowed, search
from hectorite.lowering.graph.specialize_sizes import specialize
from hectorite.lowering.pipelines import clean
from hectorite.lowering.rules.catalogue import rules as laws
from hectorite.lowering.search.portfolio import BUDGET, optimise, outcome_of, refusals
from hectorite.lowering.search.replay import Places, redo
from hectorite.lowering.search.step import Match, Outcome, Rule
from hectorite.lowering.search.workspace import Budget, Move, Workspace
from hectorite.lowering.structural import structural_rules

MOST_REFUSED = 12

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Question:
    """What is to be explained. `known` says how many elements sets have (`Cardinalities`); with
    `thorough` all searches and all rules are tried, as the pass `superoptimise` does; `fixed` are
    arguments that are the same in every call."""

    text: ProgramText
    function: str
    sizes: dict[str, int]
    device: Device
    known: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    thorough: bool = False
    reassociate: bool = True


@dataclass(frozen=True)
class Answer:
    """The function before and after with the steps between, and the model that judged them."""

    question: Question
    module: ModuleOp = field(repr=False)
    before: Dataflow = field(repr=False)
    outcome: Outcome
    model: CostModel = field(repr=False)

    def explanation(self, notes: Sequence[str] = ()) -> Explanation:
        """The facts of it."""
        question = self.question
        outcome = replace(self.outcome, refused=self._refused())
        found = explained(
            question.text.name, question.function, self.before, outcome, self.model, notes
        )
        return found

    def _refused(self) -> list[Any]:
        rules = _rules(self.question, self.model)
        found = refusals(self.outcome.flow, rules, self.model, self.question.forbid)
        return [refusal for refusal in found if refusal.loss][:MOST_REFUSED]

    def module_after(self, steps: int | None = None) -> ModuleOp:
        """The module after so many steps, after all by default."""
        module, flow = self.module.clone(), self.before.copy()
        places = Places({number: number for number in flow.nodes})
        for step in self.outcome.steps[:steps]:
            redo(flow, step.edits, places)
        lower(flow, module, self.question.function)
        return module


def explain(question: Question) -> Answer:
    """Search as the compiler does, and keep the steps."""
    module, flow, model = _start(question)
    rules = _rules(question, model)
    allowed(rules, question.forbid)
    if question.thorough:
        if question.force:
            raise fail("choices cannot be forced on a thorough search", hint="use --forbid")
        outcome = optimise(flow, rules, model, BUDGET, question.forbid)
        return Answer(question, module, flow, outcome, model)
    func = _function(module)
    found = search(
        module.clone(),
        func,
        parse_cardinalities(question.known),
        question.reassociate,
        question.forbid,
        question.force,
        question.device,
        question.fixed,
    )
    before, judge = found.before, found.model
    outcome = outcome_of(before.copy(), found.moves, judge, *_totals(before, judge))
    return Answer(question, module, before, outcome, judge)


def replay(question: Question, steps: Sequence[StepRow]) -> Answer:
    """Take the steps of an earlier explanation again, whatever they cost now.

    Raises `HectoriteError` for the first step that is no longer possible.
    """
    module, flow, model = _start(question)
    workspace = Workspace(flow.copy(), _rules(question, model), model, Budget(len(steps)))
    moves = list[Move]()
    for number, step in enumerate(steps, 1):
        match = _match_of(workspace, step)
        if match is None:
            raise fail(
                f"step {number} cannot be taken: no `{step.rule}` with `{step.detail}` at "
                f"{', '.join(step.statements)}",
                hint="the program, its data or the rules have changed since the steps were written",
            )
        trial = workspace.attempt(match)
        moves.append(trial.move)
        workspace.keep(trial)
    outcome = outcome_of(flow.copy(), moves, model, *_totals(flow, model))
    return Answer(question, module, flow, outcome, model)


def first_wrong_step(answer: Answer, binding: Binding, arguments: dict[str, Array]) -> int | None:
    """The number of the first step, from 1, after which the results are further from the reference
    than rounding explains; None if there is none. Bisects, so it runs the reference a few times."""
    question = answer.question
    extents, maps = given_sets(binding)
    known = extents | question.sizes
    expected = run_with_bounds(answer.module, question.function, known, maps, arguments)

    def is_right(steps: int) -> bool:
        module = answer.module_after(steps)
        found = run_reference(module, question.function, known, maps, arguments)
        return all(difference(e, f).ok for e, f in zip(expected, found, strict=True))

    low, high = 0, len(answer.outcome.steps)
    if is_right(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_right(middle) else (low, middle)
    return high


def _start(question: Question) -> tuple[ModuleOp, Dataflow, CostModel]:
    """The function as the search of the compiler finds it."""
    module = only(question.text.module, question.function)
    specialize(module, question.sizes)
    for each in (ExpandSoftmax(), *clean(), DropDeadStatements()):
        each.apply(Context(), module)
    schema = schema_of(module)
    flow = lift(_function(module), schema, question.reassociate, question.fixed)
    extents = parse_cardinalities(question.known).extents(schema)
    return module, flow, CostModel(question.device, extents)


def _function(module: ModuleOp) -> FuncOp:
    (func,) = (op for op in module.ops if isinstance(op, FuncOp))
    return func


def _rules(question: Question, model: CostModel) -> list[Rule]:
    rules: tuple[Rule, ...] = structural_rules(model.extents)
    return [*rules, *laws()] if question.thorough else list(rules)


def _totals(flow: Dataflow, model: CostModel) -> tuple[int, int]:
    return Workspace(flow.copy(), [], model, Budget(0)).total, 0


def _match_of(workspace: Workspace, step: StepRow) -> Match | None:
    flow = workspace.flow
    for place in flow.order():
        for match in workspace.matches(place):
            names = tuple(dict.fromkeys(n for n in (flow.nodes[m].name for m in match.nodes) if n))
            if (match.rule, match.detail, names) == (step.rule, step.detail, step.statements):
                return match
    return None
