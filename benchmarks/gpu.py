"""The race on a GPU: everybody in one process, on one stream, timed by the events of the device.

Enters: a suite's cases. Leaves: tables on the terminal, and `benchmarks/results/DEVICE-DATE.json`:
versions, what the card can do (copies in bytes/s, matrix products in flop/s), and a row for each
peer in each case. Every peer is checked before anybody is timed; rounds are interleaved, so that a
card which gets warm does so for all, and medians count.

Peers that are not installed are left out by name. Where there is no driver it says so in one line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.cases import Case, Data, build
from benchmarks.machine import Limits, bound
from benchmarks.peers.table import GPU_ONLY, OURS, Call, Peer, Skip, all_peers
from benchmarks.race import Entry
from benchmarks.reference import expected, relative_error
from benchmarks.report import Row, rows_of, show_case, show_summary
from hectorite.backends.cuda_driver import CudaDevice, check, device, driver
from hectorite.backends.cuda_events import Event
from hectorite.backends.cuda_memory import Span, download, pool, synchronise
from hectorite.ir.diagnostics import HectoriteError

RESULTS = Path(__file__).parent / "results"
RUNTIMES = (OURS, "torch", "inductor", "pyg", *GPU_ONLY)
"""Who can run on a GPU at all."""

NAMES = {
    "torch CSR (MKL)": "torch CSR (cuSPARSE)",
    "torch": "torch (cuBLAS)",
}
"""What the libraries behind a peer are here."""

LEFT_OUT = ("torch oneDNN (packed)",)
PACKAGES = ("cuda-python", "numpy", "torch", "torch_geometric", "triton", "cupy")
COPIED = 1 << 28
"""Bytes of the copy whose rate is the bandwidth."""

ORDER = 8192
"""Rows and columns of the matrices whose product gives the matrix rate."""

CALLS = 10
"""Calls of a peer in one round."""


def race_on_gpu(chosen: argparse.Namespace, cases: Sequence[Case]) -> int:
    """Race all cases. Returns 1 if a result of ours was wrong or missing, or there is no GPU."""
    try:
        card = device()
    except HectoriteError as error:
        print(error.diagnostics[0].message, file=sys.stderr)
        return 1
    os.environ["BENCHMARK_DEVICE"] = "cuda"
    os.environ.setdefault("OMP_NUM_THREADS", str(chosen.threads))
    screen = Console(width=None if sys.stdout.isatty() else 120)
    rounds = chosen.rounds or (2 if chosen.quick else 10)
    with card.active():
        rates = card_rates(
            card, 1 << 22 if chosen.quick else COPIED, 512 if chosen.quick else ORDER
        )
        screen.print(f"{card.name}: {told(rates)}", highlight=False)
        rows: list[Row] = []
        raced = 0
        for case in cases:
            try:
                rows += race_case(case, chosen, card, rates, rounds, screen)
                raced += 1
            except FileNotFoundError as missing:
                screen.print(f"skipped {case.name}: no file {missing.filename}")
    show_summary(screen, rows)
    path = chosen.json or RESULTS / f"{slug(card.name)}-{datetime.date.today().isoformat()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"device": card.name, "target": card.target.name, "versions": versions(card)}
    facts |= {"rates": rates, "rows": [row.as_json() for row in rows]}
    path.write_text(json.dumps(facts, indent=1) + "\n")
    screen.print(f"written to {path}", highlight=False)
    ours = sum(row.who == OURS for row in rows)
    return 1 if chosen.peers in OURS and ours < raced else 0


def race_case(
    case: Case,
    chosen: argparse.Namespace,
    card: CudaDevice,
    rates: dict[str, float],
    rounds: int,
    screen: Console,
) -> list[Row]:
    """Race the peers of one case, show its table, return its rows."""
    data = build(case, chosen.data_dir)
    reference = expected(case, data)
    wanted = [part.strip() for part in chosen.peers.split(",")]
    entries: list[Entry] = []
    calls: list[tuple[Entry, Call]] = []
    for each in peers_of(case):
        if not any(part in each.name for part in wanted):
            continue
        entry, call = prepared(each, case, data, reference)
        entries.append(entry)
        if call is not None:
            calls.append((entry, call))
    for _ in range(rounds):
        for entry, call in calls:
            entry.samples += [(seconds, 0.0) for seconds in timed(card, call)]
    limit = bound(case, data, limits_of(case, rates))
    rows, skipped = rows_of(case, limit, entries)
    show_case(screen, rows, skipped, {entry.peer.name for entry in entries if entry.peer.expert})
    return rows


def peers_of(case: Case) -> list[Peer]:
    """The peers of a case that run on a GPU, by the names they have there."""
    able = [
        p
        for p in all_peers()
        if case.kind in p.kinds and p.runtime in RUNTIMES and p.name not in LEFT_OUT
    ]
    return [Peer(NAMES.get(p.name, p.name), p.runtime, p.kinds, p.prepare, p.expert) for p in able]


def prepared(
    each: Peer, case: Case, data: Data, reference: np.ndarray
) -> tuple[Entry, Call | None]:
    """A peer whose result has been checked, ready to be called, or why it does not compete."""
    try:
        call = each.prepare(dict(data), case)
        result = as_array(call())
        memory = peak_memory(call)
    except Skip as reason:
        return Entry(each, reason=str(reason)), None
    except ImportError as reason:
        return Entry(each, reason=f"not installed ({reason})"[:120]), None
    except Exception as error:  # a peer may fail in any way; its row says how
        return Entry(each, reason=f"{type(error).__name__}: {error}".split("\n")[0][:200]), None
    entry = Entry(each, error=relative_error(result, reference), peak_mb=memory)
    if not entry.error <= case.tolerance:
        entry.reason = f"wrong result (relative error {entry.error:.1e})"
        return entry, None
    return entry, call


def timed(card: CudaDevice, call: Call) -> list[float]:
    """Seconds of each of CALLS calls, by events on the stream that everybody works on."""
    stream = current_stream()
    marks = [Event(card, stream)]
    for _ in range(CALLS):
        call()
        marks.append(Event(card, stream))
    return [end.since(start) for start, end in zip(marks, marks[1:], strict=False)]


def current_stream() -> int:
    """The stream of torch, which ours follows; without torch the default one."""
    torch = sys.modules.get("torch")
    return torch.cuda.current_stream().cuda_stream if torch is not None else 0


def peak_memory(call: Call) -> float | None:
    """MiB of the device that a call takes at its highest, None where torch does not count them."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    kept = call()
    torch.cuda.synchronize()
    del kept
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def as_array(result: Any) -> np.ndarray:
    """The result of any peer in the memory of the host."""
    if isinstance(result, Span):
        array = np.empty(result.shape, result.dtype)
        download(result, array, 0)
        synchronise(0)
        return array
    return result.detach().cpu().numpy()


def card_rates(card: CudaDevice, copied: int, order: int) -> dict[str, float]:
    """What the card does: `copy` in bytes/s, read and written; products in flop/s by type."""
    source, target = (pool(0).empty((copied,), np.dtype(np.uint8), 0) for _ in range(2))

    def copy() -> None:
        move = driver().cuMemcpyDtoDAsync(target.address, source.address, copied, 0)
        check(move, "copy")

    rates = {"copy": 2 * copied / best(card, copy, 0)}
    if find_spec("torch") is None:
        return rates
    from benchmarks.peers.torch_sparse_ops import threaded_torch

    torch = threaded_torch()
    for name in ("float16", "bfloat16", "float32"):
        a, b = (torch.randn(order, order).to(getattr(torch, name)) for _ in range(2))
        seconds = best(card, lambda a=a, b=b: a @ b, current_stream())
        rates[name] = 2.0 * order**3 / seconds
    return rates


def best(card: CudaDevice, work: Any, stream: int) -> float:
    """The shortest time of several."""
    work()
    marks = [Event(card, stream)]
    for _ in range(20):
        work()
        marks.append(Event(card, stream))
    return min(end.since(start) for start, end in zip(marks, marks[1:], strict=False))


def limits_of(case: Case, rates: dict[str, float]) -> Limits:
    """The rates that bound a case. Rows that are gathered are charged as copies: caches may do
    better."""
    flops = rates.get("float16" if case.kind == "gemm16" else "float32", float("inf"))
    return Limits(flops, rates["copy"], {(1, 64): rates["copy"]}, "events of the device")


def told(rates: dict[str, float]) -> str:
    products = ", ".join(f"{n} {r / 1e12:.1f} Tflop/s" for n, r in rates.items() if n != "copy")
    return f"copies {rates['copy'] / 1e9:.0f} GB/s" + (f", {products}" if products else "")


def versions(card: CudaDevice) -> dict[str, str | int]:
    """The versions of the driver and of the packages that are installed."""
    found: dict[str, str | int] = {"driver": card.driver_version}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def slug(name: str) -> str:
    """A device's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
