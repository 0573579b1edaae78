"""The order in which a kernel passes over its rows, and what is known of a row at its place there.

    natural    place p is row p;            a map of the row is  map[p]
    grouped    place p is row order[p];     a map of the row is  along[p]

Both arrays are read at consecutive places, for one row or for a block of them. A block that is not
full repeats its first row, so that every lane computes and stores what the row it repeats does.
"""

from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from hectorite.dialects.tile import LanesOp, LoadOp, index
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import TensorType
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Layout, element_path
from hectorite.lowering.kernels.tile_code import Code


@dataclass(frozen=True)
class Place:
    """One place, or with `valid` a block of `height` places of which the first `valid` count."""

    start: SSAValue
    height: int = 1
    valid: SSAValue | None = None


@dataclass(frozen=True)
class RowOrder:
    """Rows of one task: places `lower` to `upper`. `owner` is the set that rows are elements of,
    None if rows are tuples; `keys` sorts them, () is the natural order."""

    lower: SSAValue
    upper: SSAValue
    owner: str | None = None
    keys: tuple[IndexExpr, ...] = ()

    def row(self, code: Code, kernel: KernelBuilder, place: Place) -> SSAValue:
        """The row, or vector of rows, at a place."""
        if self.keys and self.owner is not None:
            return _consecutive(code, kernel, Layout("order", self.owner, self.keys), place)
        if place.valid is None:
            return place.start
        lanes = code.add(LanesOp(place.height))
        return _first_repeated(code, place, code.scalar("add", place.start, lanes))

    def follow(
        self, code: Code, kernel: KernelBuilder, place: Place, fields: tuple[str, ...]
    ) -> SSAValue:
        """The image of the row, or of each row, under a path of maps."""
        assert self.owner is not None
        what = "along" if self.keys else "map"
        layout = Layout(what, self.owner, self.keys, element_path(fields))
        return _consecutive(code, kernel, layout, place)

    def block(self, code: Code, start: SSAValue, height: int) -> Place:
        """The block of places that begins at `start`."""
        left = code.scalar("sub", self.upper, start)
        return Place(start, height, code.scalar("min", left, code.constant(height)))

    def one_of(self, code: Code, block: Place, number: SSAValue) -> tuple[Place, SSAValue]:
        """Place and slot of one row of a block; those past the end are the first."""
        assert block.valid is not None
        inside = code.scalar("lt", number, block.valid)
        slot = code.scalar("select", inside, number, code.constant(0))
        return Place(code.scalar("add", block.start, slot)), slot

    def beyond(self, code: Code, start: SSAValue, distance: int) -> Place:
        """The place `distance` after one, or the last one of the task."""
        last = code.plus(self.upper, -1)
        return Place(code.scalar("min", code.plus(start, distance), last))

    def slots(self, code: Code, block: Place) -> SSAValue:
        """The slot of each row of a block."""
        lanes = code.add(LanesOp(block.height))
        assert block.valid is not None
        inside = code.scalar("lt", lanes, block.valid)
        return code.scalar("select", inside, *code.same_shape((lanes, code.constant(0))))


def _consecutive(code: Code, kernel: KernelBuilder, layout: Layout, place: Place) -> SSAValue:
    array = kernel.layout(layout)
    if place.valid is None:
        return code.cast(code.add(LoadOp(array, [place.start])), index)
    type = VectorType(cast(TensorType, array.type).element, [place.height])
    values = code.add(LoadOp(array, [place.start], type, axis=0, valid=place.valid))
    return _first_repeated(code, place, code.cast(values, index), array)


def _first_repeated(
    code: Code, place: Place, values: SSAValue, array: SSAValue | None = None
) -> SSAValue:
    """Put the first lane's value into the lanes that are not valid."""
    assert place.valid is not None
    if array is None:
        first = place.start
    else:
        first = code.cast(code.add(LoadOp(array, [place.start])), index)
    inside = code.scalar("lt", code.add(LanesOp(place.height)), place.valid)
    return code.scalar("select", inside, values, code.spread(first, place.height))
