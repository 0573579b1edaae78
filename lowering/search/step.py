"""What search works with: rules, their matches, and a record of the steps that were taken.

A rule looks at one node of a graph of statements (ir/dataflow.py) and offers matches there; search
applies some of them and keeps those that pay under a cost model.

    merge-products at q, k, v: three products that share x     match
    1.9e-4 s -> 1.6e-4 s                                       step
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hectorite.ir.dataflow import Dataflow, Edit
from hectorite.ir.statement_form import Shape


@dataclass(frozen=True)
class Match:
    """A place where a rule applies.

    `nodes` are the nodes that it reads or replaces, the one it was found from first. `apply` adds
    nodes, calls `flow.replace`, and gives the numbers of what it created; it is valid only on the
    graph in which the match was found, does the same in every process and leaves no cycle.
    """

    rule: str
    family: str
    nodes: tuple[int, ...]
    detail: str
    apply: Callable[[Dataflow], Sequence[int]]


class Rule(Protocol):
    """A law that holds in both directions or one, with all conditions of its soundness."""

    @property
    def name(self) -> str:
        """Short, in lower case with hyphens; the same name is given to `--forbid`."""
        ...

    @property
    def family(self) -> str:
        """Rules of one kind; search may delay whole families."""
        ...

    @property
    def local(self) -> bool:
        """Whether it finds something is decided by what the node is made from, four steps
        back, and by the forms of what reads it."""
        ...

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """All matches that are found from this node; each match is found from one node only."""
        ...


class Costs(Protocol):
    """A cost model; seconds."""

    def node(self, flow: Dataflow, number: int) -> float:
        """What a node costs; depends on it, its operands and its users only."""
        ...

    def neighbours(self, flow: Dataflow, number: int) -> Iterable[int]:
        """Nodes whose cost may change when this one appears, disappears or changes."""
        ...

    def bytes_of(self, shape: Shape) -> float:
        """Bytes of a tensor."""
        ...


@dataclass(frozen=True)
class Step:
    """A match that was applied, with the cost of the whole function before and after, seconds.

    `statements` names the statements of the match. Steps that belong to one losing chain, of which
    only the whole pays, share a `chain`. `edits` do the step again (`replay.py`).
    """

    rule: str
    family: str
    detail: str
    statements: tuple[str, ...]
    before: float
    after: float
    chain: int | None = None
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A match at the end that was not applied: how many seconds it would have added, or why it may
    not be applied."""

    rule: str
    family: str
    detail: str
    statements: tuple[str, ...]
    loss: float
    why: str


@dataclass
class Outcome:
    """The cheapest graph found, never dearer than the one given; costs in seconds. `tried` counts
    the matches that were applied to see what they cost."""

    flow: Dataflow
    steps: list[Step]
    before: float
    after: float
    tried: int = 0
    refused: list[Refusal] = field(default_factory=list[Refusal])
