"""From work to seconds: the slowest of the units and of the memory, then what adds up.

Enters: `Work` and a `Device`. Leaves: seconds, and what bounds them.

    seconds = launches + max(arithmetic, streamed bytes) + gathered rows + steps of visits

A product runs at the measured rate of its shape where the device has such a table, otherwise at its
peak times three saturating shares, of rows, columns and terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hectorite.ir.device import Device
from hectorite.ir.statement_work import Gather, Product, Work

NEAR = float(1 << 15)
"""Bytes of the cache in which rows are found that were gathered just before."""


@dataclass(frozen=True)
class Time:
    """Seconds of a statement by cause; `total` is what it takes."""

    launch: float = 0.0
    arithmetic: float = 0.0
    memory: float = 0.0
    gather: float = 0.0
    visit: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of the statement."""
        return self.launch + max(self.arithmetic, self.memory) + self.gather + self.visit

    @property
    def bound(self) -> str:
        """What most of the time goes into."""
        parts = {
            "launch": self.launch,
            "arithmetic": self.arithmetic if self.arithmetic >= self.memory else 0.0,
            "memory": self.memory if self.memory > self.arithmetic else 0.0,
            "gather": self.gather,
            "visit": self.visit,
        }
        return max(parts, key=lambda name: parts[name])


def time_of(work: Work, device: Device) -> Time:
    """What a statement takes on a device."""
    arithmetic = sum(n / device.peak[unit] for unit, n in work.operations.items())
    if work.product is not None:
        arithmetic += _product(work.product, device)
    moved = work.streamed + work.written
    return Time(
        work.launches * device.launch,
        arithmetic,
        moved / device.speed(moved) if moved else 0.0,
        sum(_gather(gather, device) for gather in work.gathers),
        work.elements * device.element
        + work.steps * device.step
        + work.rows * device.row
        + work.atomics * device.atomic,
    )


def _product(product: Product, device: Device) -> float:
    flops = 2.0 * product.rows * product.columns * product.terms * product.times
    rate = device.table("product", (product.rows, product.columns, product.terms))
    if rate is None:
        rate = device.peak[product.unit] * _share(product, device)
    elif product.unit != "fma_f32":
        rate *= min(1.0, device.peak[product.unit] / device.peak["fma_f32"])
    return flops / (rate * product.fill)


def _share(product: Product, device: Device) -> float:
    """Which share of its peak a device reaches in a product, by its shape alone."""
    share = 1.0
    for extent, half in zip(
        (product.rows, product.columns, product.terms), device.half, strict=True
    ):
        share *= extent / (extent + half)
    blocks = product.times
    for extent, tile, block in zip(
        (product.rows, product.columns), device.tile, device.block, strict=True
    ):
        share *= extent / (tile * ceil(extent / tile))
        blocks *= ceil(extent / block) if block else device.threads
    return share * min(1.0, blocks / device.threads)


def _gather(gather: Gather, device: Device) -> float:
    """Of several readers of the same rows, all but the first find them in cache."""
    if not gather.count:
        return 0.0
    first = _each(gather.row, gather.table, device)
    again = _each(gather.row, min(gather.table, NEAR), device)
    return gather.count * (first + (gather.readers - 1) * again) / gather.readers


def _each(row: float, table: float, device: Device) -> float:
    """Seconds of one gathered row."""
    grid = device.tables.get("gather")
    if grid is not None:
        return grid.at((row, table)) * max(1.0, row / grid.axes[0][-1])
    cached, missing = device.miss
    hit = table <= device.cache_bytes
    return (cached if hit else missing) + row / device.speed(table)
