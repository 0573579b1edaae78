"""What this machine takes for statements of many sizes, as a `Device` of the cost model.

Enters: nothing but the machine. Leaves: a device whose tables were measured with our own compiled
code, in less than a minute. Other work on the machine makes it look slower than it is.

    product    [m, n] += [m, k] * [k, n]        over rows, columns and terms
    stream     [m, n] = [m, n] + [n]            over bytes
    gather     [e.dst, o] += [e] * [e.src, o]   over bytes of a row and of the table
    segment    the same out of a small table    over elements in each row
    units      chains of functions in cache     exponentials, additions, single elements
    launches   chains of kernels                the first and each further one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from hectorite.backends.cpu.threads import thread_count
from hectorite.frontend.console import Progress
from hectorite.frontend.timing import shortest, subject
from hectorite.ir.device import Device, Grid
from hectorite.ir.devices import CPU

Array = np.ndarray[Any, Any]

PRODUCT_ROWS = (1.0, 6.0, 48.0, 384.0, 3072.0)
PRODUCT_COLUMNS = (8.0, 32.0, 128.0, 512.0, 2048.0)
PRODUCT_TERMS = (8.0, 64.0, 512.0, 2048.0)
MOST_FLOPS = 1.2e9
STREAM_BYTES = tuple(float(1 << power) for power in range(14, 29, 2))
GATHER_ROWS = (4.0, 16.0, 64.0, 256.0, 1024.0)
GATHER_TABLES = (float(1 << 15), float(1 << 19), float(1 << 22), float(1 << 25), float(1 << 27))
MOST_GATHERED = float(1 << 25)
"""Bytes that one measurement gathers."""

MEAN_DEGREE = 16
LEAST_SHARE = 0.02
"""What a call takes beyond an empty one counts as at least this share of it."""

PRODUCT = """
def product(A: f32[M, K], B: f32[K, N]) -> f32[M, N] {
  C[m, n] += A[m, k] * B[k, n]
  return C
}
"""
SUM = """
def add(x: f32[M, N], b: f32[N]) -> f32[M, N] {
  y[m, n] = x[m, n] + b[n]
  return y
}
"""
SPARSE = """
set row
set col
set nz { row: row, col: col }
def spmm(A: f32[nz], B: f32[col, F]) -> f32[row, F] {
  C[e.row, f] += A[e] * B[e.col, f]
  return C
}
"""
SPARSE_VECTOR = """
set row
set col
set nz { row: row, col: col }
def spmv(A: f32[nz], B: f32[col]) -> f32[row] {
  C[e.row] += A[e] * B[e.col]
  return C
}
"""

NESTED = """
set row
set col
set nz { row: row, col: col }
def nested(x: f32[col, I], W: f32[I, O]) -> f32[row, O] {
  y[e.row, o] += x[e.col, i] * W[i, o]
  return y
}
"""


@dataclass(frozen=True)
class Probe:
    """One program with sizes and sets that is timed."""

    source: str
    sizes: Mapping[str, int]
    sets: Mapping[str, Any]


def measured(progress: Progress = lambda done, total: None) -> Device:
    """This machine, measured with as many threads as kernels use now."""
    call, launch = _launches()
    clock = _Clock(call + launch, progress)
    units = _units(clock)
    # What is not measured is taken to be as many times faster than usual as sums are.
    scale = units["fma_f32"] / CPU.peak["fma_f32"]
    peak = {unit: rate * scale for unit, rate in CPU.peak.items()} | units
    stream = _streams(clock)
    element, row = _segments(clock, peak["fma_f32"])
    step = _steps(clock)
    gather = _gathers(clock, element, row, peak["fma_f32"])
    product = _products(clock)
    return replace(
        CPU,
        name="cpu, measured",
        threads=thread_count(),
        peak=peak,
        bandwidth=stream.values[-1],
        caches=tuple((size, stream.at((size,))) for size, _ in CPU.caches),
        call=call,
        launch=launch,
        element=element,
        row=row,
        step=step,
        tables={"stream": stream, "gather": gather, "product": product},
    )


PROBES = (
    7
    + len(STREAM_BYTES)
    + len(GATHER_ROWS) * len(GATHER_TABLES)
    + len(PRODUCT_ROWS) * len(PRODUCT_COLUMNS) * len(PRODUCT_TERMS)
)
"""How many programs are timed, those that would take too long included."""


@dataclass
class _Clock:
    """Times probes, less what a call with one kernel takes."""

    empty: float
    progress: Progress
    done: int = 0

    def seconds(self, probe: Probe, spend: float = 0.03) -> float:
        """What a probe takes beyond an empty call."""
        self.progress(self.done, PROBES)
        self.done += 1
        made = subject(probe.source, probe.sizes, probe.sets, _as_written)
        (taken,) = shortest([made.call], spend)
        return max(taken - self.empty, LEAST_SHARE * taken)


def _no_more_than_larger(axes: Sequence[Sequence[float]], seconds: Sequence[float]) -> Array:
    """Times over a grid, none longer than that of a point which is nowhere smaller: what took
    longer than more work did was disturbed."""
    times = np.array(seconds).reshape([len(axis) for axis in axes])
    for axis in range(times.ndim):
        times = np.flip(np.minimum.accumulate(np.flip(times, axis), axis), axis)
    return times.ravel()


def _as_written(module: Any) -> None:
    """Rewrite nothing."""


def _launches() -> tuple[float, float]:
    """Seconds of a call without kernels, and of each kernel."""
    counts = (1, 9)
    calls = [subject(_kernels(count), {}, {}, _as_written).call for count in counts]
    few, many = shortest(calls, 0.3)
    launch = max((many - few) / (counts[1] - counts[0]), 1e-8)
    return max(few - launch, 1e-7), launch


def _kernels(count: int) -> str:
    """A chain of tiny statements, each of which needs all of the one before it."""
    lines = [f"  t{i + 1}[j] += t{i}[i] * W[i, j]" for i in range(count)]
    body = "\n".join(lines).replace("t0[i]", "x[i]")
    return f"def chain(x: f32[4], W: f32[4, 4]) -> f32[4] {{\n{body}\n  return t{count}\n}}\n"


def _units(clock: _Clock) -> dict[str, float]:
    """Operations per second of functions on elements that are in cache."""
    # Rows enough for all threads.
    sizes, points, steps = {"M": 4096, "N": 64}, 4096 * 64, 8
    plain = clock.seconds(Probe(SUM, sizes, {}))
    heavy = clock.seconds(Probe(_chain("exp({0})", steps, "N"), sizes, {}))
    light = clock.seconds(Probe(_chain("{0} * {0} + x[m, n]", 4 * steps, "N"), sizes, {}))
    narrow = clock.seconds(Probe(_chain("{0} * {0} + x[m, n]", steps, "3"), {"M": 4096}, {}))
    alone = clock.seconds(Probe(_chain("{0} + x[m, n]", 1, "3"), {"M": 4096}, {}))
    return {
        "transcendental": points * steps / max(heavy - plain, 0.2 * heavy),
        # So many that what is read and written meanwhile does not count.
        "fma_f32": points * 8 * steps / light,
        "scalar": 4096 * 3 * (2 * steps - 1) / max(narrow - alone, 0.2 * narrow),
    }


def _chain(step: str, steps: int, columns: str) -> str:
    lines = [f"  t{i + 1}[m, n] = {step.format(f't{i}[m, n]')}" for i in range(steps)]
    body = "\n".join(lines)
    head = f"def chain(x: f32[M, {columns}]) -> f32[M, {columns}] {{\n  t0[m, n] = x[m, n] + 0.5\n"
    return f"{head}{body}\n  return t{steps}\n}}\n"


def _streams(clock: _Clock) -> Grid:
    """Bytes per second of sums that read and write so many bytes together; fewer are never slower,
    since what a kernel takes in any case is not among them."""
    columns, moved, seconds = 512, list[float](), list[float]()
    for size in STREAM_BYTES:
        rows = max(1, int(size) // (8 * columns))
        moved.append(8.0 * rows * columns)
        seconds.append(clock.seconds(Probe(SUM, {"M": rows, "N": columns}, {}), 0.05))
    times = _no_more_than_larger((STREAM_BYTES,), seconds)
    rates = np.flip(np.maximum.accumulate(np.flip(np.array(moved) / times)))
    return Grid((STREAM_BYTES,), tuple(rates.tolist()))


def _segments(clock: _Clock, rate: float) -> tuple[float, float]:
    """Seconds of an element and of a row of a visit, out of a table that is in cache. There are so
    many rows that a processor cannot learn how long each is."""
    width, elements = 4, 1 << 17
    found = list[tuple[int, float]]()
    for degree in (2, 64):
        rows = elements // degree
        seconds = clock.seconds(_sparse(rows, 256, elements, width))
        found.append((rows, seconds))
    (many, long), (few, short) = found
    row = max((long - short) / (many - few), 1e-10)
    work = 2.0 * width * elements / rate
    return max((short - few * row - work) / elements, 1e-10), row


def _steps(clock: _Clock) -> float:
    """Seconds of one step of a sum inside of a visit."""
    terms, columns, elements = 32, 64, 4096
    sets = _sparse(elements // MEAN_DEGREE, 256, elements, columns).sets
    return clock.seconds(Probe(NESTED, {"I": terms, "O": columns}, sets)) / (elements * terms)


def _sparse(rows: int, table: int, elements: int, width: int) -> Probe:
    rng = np.random.default_rng(elements + width)
    sets = {
        "row": rows,
        "col": table,
        "nz": {
            "row": np.sort(rng.integers(0, rows, elements)).astype(np.int32),
            "col": rng.integers(0, table, elements).astype(np.int32),
        },
    }
    if width == 1:
        return Probe(SPARSE_VECTOR, {}, sets)
    return Probe(SPARSE, {"F": width}, sets)


def _gathers(clock: _Clock, element: float, row: float, rate: float) -> Grid:
    """Seconds of one gathered row, beyond the visit that gathers it."""
    values = list[float]()
    for bytes in GATHER_ROWS:
        for table in GATHER_TABLES:
            width = int(bytes) // 4
            elements = int(min(MOST_GATHERED / max(bytes, 64.0), 1 << 18))
            rows = elements // MEAN_DEGREE
            probe = _sparse(rows, int(table / bytes), elements, width)
            seconds = clock.seconds(probe) - rows * row
            each = seconds / elements - element - 2.0 * width / rate
            values.append(max(each, 1e-10))
    axes = (GATHER_ROWS, GATHER_TABLES)
    return Grid(axes, tuple(_no_more_than_larger(axes, values).tolist()))


def _products(clock: _Clock) -> Grid:
    """Operations per second of products; those that would take too long run as fast as the largest
    that do not."""
    axes = (PRODUCT_ROWS, PRODUCT_COLUMNS, PRODUCT_TERMS)
    flops, seconds = list[float](), list[float]()
    rate = 1.0
    for rows, columns, terms in product(*axes):
        flops.append(2.0 * rows * columns * terms)
        if flops[-1] > MOST_FLOPS:
            seconds.append(flops[-1] / rate)
            continue
        sizes = {"M": int(rows), "N": int(columns), "K": int(terms)}
        seconds.append(clock.seconds(Probe(PRODUCT, sizes, {})))
        rate = flops[-1] / seconds[-1]
    times = _no_more_than_larger(axes, seconds)
    return Grid(axes, tuple((np.array(flops) / times).tolist()))
