"""The cost of a graph, kept exact while the graph changes.

Each node's cost is a whole number of attoseconds, so that sums do not depend on their order and a
difference of two graphs is exactly the sum of the differences of their nodes. After a change only
the nodes it touched and their neighbours are priced again.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from fractions import Fraction
from math import inf

from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.search.step import Costs

ATTOSECOND = 1e-18
MOST = 10**30
"""The cost of a node that a model calls impossible (infinite)."""

GROWTH = Fraction(3, 2)
"""How many more bytes of folded tensors calls may read than there are in fixed inputs."""

Undo = Mapping[int, tuple[int, int] | None]
"""Nodes whose entry was changed, and what it was; None for a node that was not there."""


class Ledger:
    """For each node of a graph and all together: attoseconds, and bytes of what is computed before
    any call and read by calls (folded)."""

    def __init__(self, flow: Dataflow, model: Costs):
        self.model = model
        self.entries = {number: self._entry(flow, number) for number in flow.nodes}
        self.total = sum(cost for cost, _ in self.entries.values())
        self.folded = sum(bytes for _, bytes in self.entries.values())
        given = [flow.nodes[number] for number in flow.inputs.values()]
        fixed = sum(round(model.bytes_of(node.shape)) for node in given if node.fixed)
        self.most_folded = max(GROWTH * fixed, self.folded)

    def update(self, flow: Dataflow, touched: Iterable[int]) -> Undo:
        """Price what a change touched, and what is near it; gives what `restore` needs."""
        affected = dict[int, None]()
        for number in touched:
            affected[number] = None
            if number in flow.nodes:
                affected.update(dict.fromkeys(self.model.neighbours(flow, number)))
        undo = dict[int, tuple[int, int] | None]()
        for number in affected:
            old = self.entries.get(number)
            new = self._entry(flow, number) if number in flow.nodes else None
            if new != old:
                undo[number] = old
                self._put(number, new)
        return undo

    def restore(self, undo: Undo) -> None:
        """Go back to before an update; the latest first."""
        for number, old in undo.items():
            self._put(number, old)

    def copy(self) -> "Ledger":
        """A ledger of its own, for a copy of the graph."""
        made = copy(self)
        made.entries = dict(self.entries)
        return made

    def _put(self, number: int, entry: tuple[int, int] | None) -> None:
        old = self.entries.pop(number, (0, 0))
        if entry is not None:
            self.entries[number] = entry
        cost, bytes = entry or (0, 0)
        self.total += cost - old[0]
        self.folded += bytes - old[1]

    def _entry(self, flow: Dataflow, number: int) -> tuple[int, int]:
        node = flow.nodes[number]
        if node.fixed:
            read = any(not flow.nodes[user].fixed for user in flow.users[number])
            return 0, round(self.model.bytes_of(node.shape)) if read else 0
        seconds = self.model.node(flow, number)
        return (min(round(seconds / ATTOSECOND), MOST) if seconds < inf else MOST), 0
