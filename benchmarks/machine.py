"""What the machine can do, and the least time a case can take on it.

Enters: nothing (limits), or a case and its data (bounds). Leaves: measured rates, and a bound in
seconds: the cheapest known algorithm's arithmetic at peak rate, or its memory traffic at the
measured bandwidth with gathered rows at the measured gather rate, whichever is longer. The gather
rate is for uniformly random rows; the busy rows of a skewed graph stay in cache, so an excellent
kernel can be somewhat below the bound of a sparse case. It is an estimate, not a floor.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.cases import FEATURES, Case, Data, families
from benchmarks.native import NoCompiler, aligned, call, folder

GATHER_TABLES = ((10_000, 64), (10_000, 128), (100_000, 64), (100_000, 128), (1_000_000, 64))
STREAM = 1 << 24
"""Elements of each array of the bandwidth test: 64 MiB, beyond any cache."""


@dataclass(frozen=True)
class Limits:
    """Rates of this machine: flop/s, bytes/s, bytes/s of random rows by (rows, columns)."""

    flops: float
    bandwidth: float
    gather: dict[tuple[int, int], float]
    source: str

    def gather_rate(self, table_bytes: int, columns: int) -> float:
        """The rate of the measured table that is nearest in size."""
        tables = [key for key in self.gather if key[1] == columns] or list(self.gather)
        nearest = min(tables, key=lambda t: abs(math.log(max(table_bytes, 1) / (4 * t[0] * t[1]))))
        return self.gather[nearest]


def measure(seconds: float, threads: int) -> Limits:
    """The best rates seen over many short windows, in this run or an earlier one.

    Others may be using the machine, and then it measures low: what it once reached stays a limit.
    """
    try:
        call("fma_chains", 1)
    except NoCompiler as reason:
        return limits_of(measured_with(numpy_probes(), seconds), f"NumPy ({reason}): too low")
    kept = folder() / f"limits-{os.uname().nodename}-{threads}.json"
    earlier = json.loads(kept.read_text()) if kept.exists() else {}
    found = measured_with(native_probes(), seconds)
    found = {name: max(rate, earlier.get(name, 0.0)) for name, rate in found.items()}
    kept.write_text(json.dumps(found))
    return limits_of(found, "C")


Probe = Callable[[], float]
"""Does some work and returns how much: operations, or bytes."""


def limits_of(rates: dict[str, float], source: str) -> Limits:
    gather = {table: rates[gather_name(*table)] for table in GATHER_TABLES}
    return Limits(rates["flops"], max(rates["triad"], rates["read"]), gather, source)


def gather_name(rows: int, columns: int) -> str:
    return f"gather {rows} x {columns}"


def measured_with(probes: dict[str, Probe], seconds: float) -> dict[str, float]:
    """The best rate of each probe."""
    best = dict.fromkeys(probes, 0.0)
    until = time.perf_counter() + seconds
    while True:
        for name, probe in probes.items():
            start = time.perf_counter()
            work = probe()
            best[name] = max(best[name], work / (time.perf_counter() - start))
        if time.perf_counter() > until:
            return best


def native_probes() -> dict[str, Probe]:
    """The loops of kernels.c."""
    a, b, c = (aligned(STREAM) for _ in range(3))
    for array in (a, b, c):
        array.fill(1)
    rng = np.random.default_rng(0)

    def triad() -> float:
        call("triad", a, b, c, STREAM)
        return 12 * STREAM

    def read() -> float:
        call("read_all", a, STREAM)
        return 4 * STREAM

    def gather(rows: int, columns: int) -> Probe:
        table, index = aligned((rows, columns)), rng.integers(0, rows, 200_000, np.int32)
        table.fill(1)

        def probe() -> float:
            call(f"gather{columns}", table, index, len(index))
            return 4.0 * columns * len(index)

        return probe

    probes: dict[str, Probe] = {"flops": lambda: call("fma_chains", 200_000) or 0.0}
    probes |= {"triad": triad, "read": read}
    return probes | {gather_name(*table): gather(*table) for table in GATHER_TABLES}


def numpy_probes() -> dict[str, Probe]:
    """The same limits from below, without a compiler."""
    a, b, out = (np.ones((768, 768), np.float32) for _ in range(3))
    x, y = np.ones(STREAM, np.float32), np.empty(STREAM, np.float32)
    rng = np.random.default_rng(0)

    def product() -> float:
        np.matmul(a, b, out=out)
        return 2.0 * 768**3

    def copy() -> float:
        np.copyto(y, x)
        return 8.0 * STREAM

    def gather(rows: int, columns: int) -> Probe:
        table, index = np.ones((rows, columns), np.float32), rng.integers(0, rows, 50_000)
        taken = np.empty((len(index), columns), np.float32)

        def probe() -> float:
            np.take(table, index, axis=0, out=taken, mode="clip")  # unchecked, so unbuffered
            return 4.0 * columns * len(index)

        return probe

    probes: dict[str, Probe] = {"flops": product, "triad": copy, "read": copy}
    return probes | {gather_name(*table): gather(*table) for table in GATHER_TABLES}


@dataclass(frozen=True)
class Cost:
    """Work of the cheapest known algorithm: flops, bytes that must move, bytes of gathered rows."""

    flops: float
    bytes: float
    gathered: float = 0


def cost(case: Case, data: Data) -> Cost:
    """The work of a case. Indices are 4 bytes, as are values."""
    if case.kind in ("gemm", "gemm16"):
        m, k, n = case.shape
        size = 4.0 if case.kind == "gemm" else 2.0
        return Cost(2.0 * m * k * n, size * (m * k + k * n + m * n))
    n, f = data["n"], case.width
    if case.kind in ("spmm", "spmv", "sddmm", "gat"):
        nz = len(data["row"])
        indices, dense = 4 * nz + 4 * n, 8 * n * f
        if case.kind == "gat":
            flops = 2 * n * f * f + 2 * nz * f + 24 * nz
            return Cost(flops, indices + dense, 4 * nz * f)
        values = 8 * nz if case.kind == "sddmm" else 4 * nz
        gathered = 0 if case.kind == "spmv" else 4 * nz * f
        return Cost(2 * nz * f, indices + dense + values, gathered)
    return relational_cost(case.kind, data)


def relational_cost(kind: str, data: Data) -> Cost:
    """One transform for each distinct (type, source) or (type, destination), whichever is fewer."""
    n, edges, f = data["n"], len(data["src"]), FEATURES
    key = data["type"].astype(np.int64) * n
    by_source, by_target = (len(np.unique(key + data[end])) for end in ("src", "dst"))
    product = 2 * f * f
    moved = 8 * n * f + 8 * edges + 4 * data["R"] * f * f
    if kind == "rgcn":
        transforms = min(by_source, by_target) + n
        return Cost(transforms * product + 2 * edges * f, moved + 4 * edges, 4 * edges * f)
    if kind == "rgat":
        # Attention vectors fold through the weights: a score costs one dot product per pair.
        flops = by_source * product + 2 * by_target * f + 4 * edges * f
        return Cost(flops, moved, 4 * edges * f)
    transforms = 4 * n + min(2 * by_source, by_source + by_target)
    moved += 4 * data["R"] * f * f + 16 * data["T"] * f * f
    return Cost(transforms * product + 4 * edges * f, moved, 8 * edges * f)


def bound(case: Case, data: Data, limits: Limits) -> float | None:
    """Seconds that the case needs at the measured rates; None for the kinds of `families/`."""
    if case.kind in families():
        return None
    work = cost(case, data)
    memory = work.bytes / limits.bandwidth
    if work.gathered:
        memory += work.gathered / limits.gather_rate(4 * data["n"] * case.width, case.width)
    return max(work.flops / limits.flops, memory)
