"""What a CPU takes for the ways of summing products into other rows: a part of the cost model.

Enters: numbers of elements, distinct tuples and bytes. Leaves: seconds of each form, without what
they have in common. A search prices statements (`ir/cost.py`); which kernel a sum of products
becomes is chosen after it, among these.

    stay    t[p, o] += x[p.src, i] * W[p.type, i, o], a tensor, and y[p.dst, o] += t[p, o]
    each    y[p.dst, o] += x[p.src, i] * W[p.type, i, o], multiplied where it is summed
    sums    left operands of elements that share target and weights are summed first

Rates were measured for one core, with 64 features, on typed graphs and kernel maps of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

MULTIPLIED = 1.2e-11
"""Seconds of a multiplication with addition in a block product."""
PASSED_ON = 1.6e-10
"""Seconds of a byte that a kernel leaves in memory and another fetches."""
GATHERED = 6e-11
"""Seconds of a byte of the rows that are gathered from anywhere and added up."""
SCATTERED = 2e-11
"""Seconds of a byte that is added to the rows of a task."""
VISITED = 4e-8
"""Seconds that a sum of few elements takes besides them."""
COMPUTED = 2e-8
"""Seconds of a row of the left operand that is computed before it is multiplied."""
SWEPT = 5e-11
"""Seconds of a byte of the weights, which each task fetches for itself."""
TASKS = 16.0
"""Tasks that do so, about."""


@dataclass(frozen=True)
class SumOfProducts:
    """A sum over `elements`, each of which takes `work` multiplications; a row of the result has
    `result` bytes, the left operand of an element `fetched`, and each of `groups` weights
    `weights`. `computed`: the left operand is more than a read."""

    elements: float
    work: float
    result: float
    fetched: float
    weights: float
    groups: float
    computed: bool
    made: float | None = None
    """Rows of the tensor of products, if there is one."""
    pairs: float | None = None
    """Distinct tuples of target and weights, if elements may share both."""

    def seconds(self) -> dict[str, float]:
        """Seconds by form, of the forms that there are."""
        fetched = self.elements * self.fetched * GATHERED
        computed = self.elements * COMPUTED if self.computed else 0.0
        costs = {"each": self._multiplied(self.elements) + fetched + computed}
        costs["stay"] = costs["each"]
        if self.made is not None:
            rows = self.made * (self.work * MULTIPLIED + self.result * PASSED_ON)
            costs["stay"] = rows + self.elements * self.result * GATHERED
        if self.pairs is not None:
            costs["sums"] = self._multiplied(self.pairs) + fetched + self.pairs * VISITED
        return costs

    def _multiplied(self, rows: float) -> float:
        """Rows multiplied where they are summed."""
        swept = min(rows, TASKS * self.groups) * self.weights * SWEPT
        return rows * (self.work * MULTIPLIED + self.result * SCATTERED) + swept
