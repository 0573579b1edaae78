"""Machines as the cost model sees them: rates, sizes of caches, and tables of measurements.

Enters: numbers from data sheets, or what `hectorite calibrate` measured. Leaves: a `Device`; its
text form is JSON.

    DEVICES["h200"].peak["tensor_tf32"]             494e12 operations per second
    device.table("product", (1024, 64, 64))         1.5e11, between the points that were measured

A `Grid` is a table over logarithmic axes. Between points it interpolates in the logarithms of
axes and values; outside it keeps the value of the nearest point, which for a rate is a roofline.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import Any

from hectorite.ir.diagnostics import fail


@dataclass(frozen=True)
class Grid:
    """Positive `values` at all combinations of the points of `axes`, the last axis fastest."""

    axes: tuple[tuple[float, ...], ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        wanted = math.prod(map(len, self.axes))
        increasing = all(
            all(0 < low < high for low, high in zip(axis, axis[1:], strict=False))
            for axis in self.axes
        )
        positive = all(value > 0 and math.isfinite(value) for value in self.values)
        if not increasing or not positive or len(self.values) != wanted or not wanted:
            raise fail(
                f"a table of {len(self.values)} values",
                expected=f"{wanted} positive values over increasing positive points",
            )

    @cached_property
    def _logarithms(self) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]:
        axes = tuple(tuple(map(math.log, axis)) for axis in self.axes)
        return axes, tuple(map(math.log, self.values))

    def at(self, point: Sequence[float]) -> float:
        """The value at a point, one coordinate for each axis."""
        axes, values = self._logarithms
        corners = [(0, 1.0)]
        for axis, coordinate in zip(axes, point, strict=True):
            low, share = _between(axis, math.log(max(coordinate, 1e-30)))
            grown = list[tuple[int, float]]()
            for place, weight in corners:
                place = place * len(axis) + low
                if share < 1.0:
                    grown.append((place, weight * (1.0 - share)))
                if share > 0.0:
                    grown.append((place + 1, weight * share))
            corners = grown
        return math.exp(sum(values[place] * weight for place, weight in corners))

    def times(self, factor: float) -> Grid:
        """The table with all values multiplied."""
        return Grid(self.axes, tuple(value * factor for value in self.values))

    def points(self) -> list[tuple[float, ...]]:
        """All points, in the order of the values."""
        return list(product(*self.axes))


def _between(axis: Sequence[float], at: float) -> tuple[int, float]:
    """The point below and how far the next one is reached, from 0 to 1."""
    if at <= axis[0] or len(axis) == 1:
        return 0, 0.0
    if at >= axis[-1]:
        return len(axis) - 1, 0.0
    low = bisect_right(axis, at) - 1
    return low, (at - axis[low]) / (axis[low + 1] - axis[low])


SECONDS = ("gather",)
"""Tables of seconds; others are of rates."""


@dataclass(frozen=True)
class Device:
    """A machine. Seconds, bytes, operations (a multiply-add is two); rates are of the whole."""

    name: str
    is_gpu: bool
    threads: int
    """Threads of a CPU, or streaming multiprocessors of a GPU, that work together."""
    peak: Mapping[str, float]
    """Operations per second by unit: tensor_f16, tensor_tf32, fma_f32, fma_f64, int,
    transcendental, and scalar: operations that lie in no vector."""
    bandwidth: float
    """Bytes per second of memory."""
    caches: tuple[tuple[float, float], ...] = ()
    """Bytes and bytes per second of each cache, the smallest first."""
    call: float = 0.0
    """Seconds of a call, whatever it does."""
    launch: float = 0.0
    """Seconds of one kernel more."""
    atomic: float = 0.0
    """Seconds of one addition to memory that other tasks add to as well."""
    element: float = 0.0
    """Seconds of one step of a visit, before it does anything."""
    row: float = 0.0
    """Seconds of one row of a visit."""
    step: float = 0.0
    """Seconds of one step of a sum inside of a visit, which adds vectors to memory."""
    miss: tuple[float, float] = (0.0, 0.0)
    """Seconds of one gathered row that a cache holds, and of one that none does."""
    half: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Rows, columns and terms at which a product runs at half of its peak rate."""
    tile: tuple[int, int] = (1, 1)
    """Rows and columns that products are rounded up to."""
    block: tuple[int, int] = (0, 0)
    """Rows and columns of a block, of which there should be as many as `threads`; 0: any number."""
    tables: Mapping[str, Grid] = field(default_factory=dict[str, Grid])
    """Measurements, which take the place of formulas: `product` (rows, columns, terms) ->
    operations/s, `stream` (bytes) -> bytes/s, `gather` (bytes of a row, of the table) -> s."""

    def table(self, name: str, point: Sequence[float]) -> float | None:
        """The measured value at a point, or None if that was not measured."""
        grid = self.tables.get(name)
        return None if grid is None else grid.at(point)

    def speed(self, bytes: float) -> float:
        """Bytes per second where this many are in use."""
        measured = self.tables.get("stream")
        if measured is not None:
            return measured.at((max(bytes, 1.0),))
        for size, rate in self.caches:
            if bytes <= size:
                return rate
        return self.bandwidth

    @property
    def cache_bytes(self) -> float:
        """Bytes of the last cache."""
        return self.caches[-1][0] if self.caches else 0.0

    def with_threads(self, threads: int) -> Device:
        """The machine with another number of threads: all in proportion but memory, calls and
        launches."""
        scale = threads / self.threads
        return replace(
            self,
            threads=threads,
            peak={unit: rate * scale for unit, rate in self.peak.items()},
            caches=tuple((size, rate * scale) for size, rate in self.caches),
            element=self.element / scale,
            row=self.row / scale,
            step=self.step / scale,
            miss=(self.miss[0] / scale, self.miss[1] / scale),
            tables={
                name: grid.times(1 / scale if name in SECONDS else scale)
                for name, grid in self.tables.items()
            },
        )

    def to_json(self) -> str:
        """As text that `device_from_json` reads."""
        return json.dumps(asdict(self), indent=1) + "\n"


def device_from_json(text: str) -> Device:
    """A device from its text; `HectoriteError` if it is none."""
    try:
        return device_of(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise fail(f"this describes no device: {error}") from error


def device_of(facts: Mapping[str, Any]) -> Device:
    """A device from what `asdict` makes of one, or JSON of that."""
    tables = {
        name: Grid(tuple(tuple(map(float, axis)) for axis in grid["axes"]), tuple(grid["values"]))
        for name, grid in facts["tables"].items()
    }
    fixed: dict[str, Any] = {
        "peak": dict(facts["peak"]),
        "caches": tuple((float(size), float(rate)) for size, rate in facts["caches"]),
        "miss": tuple(facts["miss"]),
        "half": tuple(facts["half"]),
        "tile": tuple(facts["tile"]),
        "block": tuple(facts["block"]),
        "tables": tables,
    }
    return Device(**{**facts, **fixed})
