"""Rewrites that move work between sets and reorder sums of products, as rules for the search."""

from hectorite.ir.extents import Extents
from hectorite.lowering.search.step import Rule
from hectorite.lowering.structural.apart import ComputeApart
from hectorite.lowering.structural.contract import AggregateFirst, ContractFirst
from hectorite.lowering.structural.factor import ExpandOntoSource, FactorThroughMap
from hectorite.lowering.structural.split import SplitSum


def structural_rules(extents: Extents, most: int | None = 8) -> tuple[Rule, ...]:
    """All of them. `most` bounds the orders that are offered for one product; None for all."""
    return (
        FactorThroughMap(extents),
        ExpandOntoSource(extents),
        ComputeApart(extents),
        SplitSum(extents),
        ContractFirst(extents, most),
        AggregateFirst(extents, most),
    )
