"""What the optimiser did to a function, as facts: the input of every way of showing it.

Enters: graphs of statements before and after, the steps between them, a cost model. Leaves: an
`Explanation` of plain values, the same in every process; seconds throughout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hectorite.ir.cost import CostModel
from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.graph.flow_notation import flow_lines

if TYPE_CHECKING:
    from hectorite.lowering.search.step import Outcome


@dataclass(frozen=True)
class Row:
    """One statement: its text, what it is predicted to cost and why, and the rows it reads."""

    name: str
    text: str
    seconds: float
    bound: str
    """What bounds it: `memory`, a unit of arithmetic, ...; empty if it costs nothing."""
    reads: tuple[int, ...] = ()
    fixed: bool = False
    """Whether it is computed once, from arguments that never change."""
    kernel: str = ""
    """What does it, if that is more than a visit or a product."""

    @property
    def why(self) -> str:
        """What its cost is due to, in a few words."""
        return "once" if self.fixed else ", ".join(filter(None, (self.bound, self.kernel)))


@dataclass(frozen=True)
class StepRow:
    """One rewrite: what it was applied to, and the predicted seconds of the whole function before
    and after it. Steps of one losing chain, of which only all together pay, share `chain`."""

    rule: str
    family: str
    detail: str
    statements: tuple[str, ...]
    before: float
    after: float
    chain: int | None = None


@dataclass(frozen=True)
class RefusalRow:
    """A rewrite that would have been possible at the end: what it would have added, or why not."""

    rule: str
    family: str
    detail: str
    statements: tuple[str, ...]
    loss: float
    why: str


@dataclass(frozen=True)
class Candidate:
    """One format of one set: the predicted seconds of the function (None if it was not tried or
    cannot serve it), what is to be said about it, and whether it is the one to take."""

    set: str
    format: str
    seconds: float | None
    note: str
    chosen: bool = False


@dataclass(frozen=True)
class Measured:
    """Means of the seconds of a call before and after, how many times as fast it is at least
    (one-sided, 95 %), and whether that is enough to ship what the search found."""

    before: float
    after: float
    at_least: float
    shipped: bool

    @property
    def verdict(self) -> str:
        """What follows from the times."""
        if self.shipped:
            return f"at least {self.at_least:.2f}x with confidence: ships"
        return "not faster with confidence: what is written ships"


@dataclass
class Explanation:
    """Everything that `explain` shows."""

    program: str
    function: str
    device: str
    before: list[Row]
    after: list[Row]
    steps: list[StepRow]
    refused: list[RefusalRow]
    predicted: tuple[float, float]
    """Seconds of a call before and after."""
    measured: Measured | None = None
    """The same as measured; None if nothing was measured."""
    notes: list[str] = field(default_factory=list[str])
    formats: list[Candidate] = field(default_factory=list[Candidate])
    """Storage formats of sets on the data, if there is data."""

    @property
    def facts(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return asdict(self)

    def chains(self) -> Iterator[tuple[int | None, list[StepRow]]]:
        """The steps in order, those of one losing chain together."""
        for chain, steps in groupby(self.steps, key=lambda step: step.chain):
            if chain is None:
                for step in steps:
                    yield None, [step]
            else:
                yield chain, list(steps)


def explained(
    program: str,
    function: str,
    before: Dataflow,
    outcome: Outcome,
    model: CostModel,
    notes: Sequence[str] = (),
) -> Explanation:
    """The explanation of a search that went from `before` to its outcome."""
    steps = [
        StepRow(s.rule, s.family, s.detail, s.statements, s.before, s.after, s.chain)
        for s in outcome.steps
    ]
    refused = [
        RefusalRow(r.rule, r.family, r.detail, r.statements, r.loss, r.why) for r in outcome.refused
    ]
    return Explanation(
        program,
        function,
        model.device.name,
        rows_of(before, model),
        rows_of(outcome.flow, model),
        steps,
        refused,
        (model.seconds(before), model.seconds(outcome.flow)),
        notes=list(notes),
    )


def rows_of(flow: Dataflow, model: CostModel) -> list[Row]:
    """A row for each statement, operands first."""
    lines = flow_lines(flow)
    place = {number: position for position, number in enumerate(lines)}
    rows = list[Row]()
    for number, line in lines.items():
        node, known = flow.nodes[number], model.explain(flow, number)
        time, kernel = known.time, known.work.kernel
        reads = tuple(sorted({place[o] for o in node.operands if o in place}))
        bound = time.bound if time.total else ""
        rows.append(Row(line.name, line.text, time.total, bound, reads, node.fixed, kernel))
    return rows
