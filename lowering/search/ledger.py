"""The cost of a graph, kept exact while the graph changes.

Each node's cost is a whole number of attoseconds, so that sums do not depend on their order and a
difference of two graphs is exactly the sum of the differences of their nodes. After a change only
the nodes it touched and their neighbours are priced again.
"""

from collections.abc import Iterable, Mapping

from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.search.step import Costs

ATTOSECOND = 1e-18
MOST = 10**30
"""The cost of a node that a model calls impossible (infinite)."""

Undo = Mapping[int, int | None]
"""Nodes whose cost was changed, and what it was; None for a node that was not there."""


class Ledger:
    """The cost of each node of a graph and of all of them together, in attoseconds."""

    def __init__(self, flow: Dataflow, model: Costs):
        self.model = model
        self.costs = {number: self._price(flow, number) for number in flow.nodes}
        self.total = sum(self.costs.values())

    def update(self, flow: Dataflow, touched: Iterable[int]) -> Undo:
        """Price what a change touched, and what is near it; gives what `restore` needs."""
        affected = dict[int, None]()
        for number in touched:
            affected[number] = None
            if number in flow.nodes:
                affected.update(dict.fromkeys(self.model.neighbours(flow, number)))
        undo = dict[int, int | None]()
        for number in affected:
            old = self.costs.get(number)
            if number not in flow.nodes:
                if old is not None:
                    undo[number] = old
                    del self.costs[number]
                    self.total -= old
                continue
            new = self._price(flow, number)
            if new != old:
                undo[number] = old
                self.costs[number] = new
                self.total += new - (old or 0)
        return undo

    def restore(self, undo: Undo) -> None:
        """Go back to before an update; the latest first."""
        for number, old in undo.items():
            if number in self.costs:
                self.total -= self.costs.pop(number)
            if old is not None:
                self.costs[number] = old
                self.total += old

    def copy(self) -> "Ledger":
        """A ledger of its own, for a copy of the graph."""
        made = object.__new__(Ledger)
        made.model, made.costs, made.total = self.model, dict(self.costs), self.total
        return made

    def _price(self, flow: Dataflow, number: int) -> int:
        seconds = self.model.node(flow, number)
        return min(round(seconds / ATTOSECOND), MOST) if seconds < float("inf") else MOST
