"""The process that races on a GPU: everybody in it, on one stream, timed by events of the device.

Enters: requests over a pipe. Leaves: for each, notices of who is at work, then an answer. `card`
tells what the device is and what it can do (copies in bytes/s, products in flop/s); `race` prepares
the peers of a case, checks their results, and times those that are right.

Peers take turns in rounds, so that a card which gets warm does so for all. A turn times calls as a
user makes them, one after the other, and then a few more behind copies that keep the device busy
until they have all been asked for: what launching costs is in the first time and not in the second.
A peer that leaves the device unusable ends the process (`Broken`); whoever started it goes on
without that peer in a new one.
"""

from __future__ import annotations

import gc
import math
import os
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.cases import Case, Data, build
from benchmarks.machine import Limits, bound
from benchmarks.peers.table import GPU_ONLY, OURS, Call, Peer, Skip, all_peers, matches
from benchmarks.race import Entry
from benchmarks.reference import expected, relative_error
from hectorite.backends.cuda.driver import CudaDevice, check, device, driver
from hectorite.backends.cuda.events import Event
from hectorite.backends.cuda.memory import Span, download, pool, synchronise
from hectorite.ir.diagnostics import HectoriteError

RUNTIMES = (OURS, "torch", "inductor", "pyg", *GPU_ONLY)
"""Who can run on a GPU at all."""

NAMES = {"torch CSR (MKL)": "torch CSR (cuSPARSE)", "torch": "torch (cuBLAS)"}
"""What the libraries behind a peer are here."""

LEFT_OUT = ("torch oneDNN (packed)",)
PACKAGES = (
    "cuda-python", "cuda-bindings", "numpy", "torch", "torch_geometric", "pyg-lib", "torch-scatter",
    "triton", "nvidia-cublas", "nvidia-cusparse", "cupy-cuda12x", "cupy-cuda13x",
)  # fmt: skip

COPIED = {False: 1 << 28, True: 1 << 26}
"""Bytes of the copy whose rate is the bandwidth, without and with --quick."""

ORDER = {False: 8192, True: 2048}
"""Rows and columns of the matrices whose product gives the matrix rate, likewise."""

CALLS, QUEUED = 10, 3
"""Calls of a peer in one turn, and those of them whose launches are hidden."""

TURN = 0.05
"""Seconds after which a turn has been long enough, and a call is slow."""

SLOW_ROUNDS = 3
"""Rounds of a peer that is slow."""

MOST_COPIES = 200


class Broken(Exception):
    """The device does nothing more for this process."""


@dataclass
class Timed(Entry):
    """A peer that takes part: `device` are the seconds of calls whose launches are hidden."""

    device: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Racer:
    """A peer whose result was right. `took` is the seconds of a call that is waited for."""

    entry: Timed
    call: Call
    took: float


@dataclass(frozen=True)
class Plan:
    """How to race: rounds, which peers by parts of their names, and whether it has to be short."""

    rounds: int
    peers: str
    quick: bool
    data_dir: Path | None


@dataclass
class Desk:
    """What the process holds: the device, its rates, and copies that keep it busy."""

    card: CudaDevice
    plan: Plan
    rates: dict[str, float] = field(default_factory=dict)
    copy: Callable[[], None] = lambda: None


Notify = Callable[[str], None]
"""Told who is at work."""


def serve(pipe: Connection, plan: Plan) -> None:
    """Answer requests until there are no more. Answers are dictionaries, with `broken` where the
    device is lost; notices are strings."""
    with suppress(EOFError, KeyboardInterrupt):
        try:
            card = device()
        except HectoriteError as error:
            pipe.send({"error": error.diagnostics[0].message})
            return
        desk = Desk(card, plan)
        with card.active():
            while True:
                command, *arguments = pipe.recv()
                try:
                    pipe.send(COMMANDS[command](desk, pipe.send, *arguments))
                except Broken as reason:
                    pipe.send({"broken": str(reason)})
                    pipe.close()
                    os._exit(1)  # what is left of the context would complain at every destructor


@cache
def gpu_torch() -> ModuleType | None:
    """torch if it is installed and sees the device."""
    try:
        from benchmarks.peers.torch_sparse_ops import threaded_torch

        torch = threaded_torch()
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def describe(desk: Desk, notify: Notify) -> dict[str, Any]:
    """What the device is and does, and the versions of everything."""
    notify("what the card can do")
    measure(desk)
    torch, card = gpu_torch(), desk.card
    versions: dict[str, str | int] = {"driver": card.driver_version}
    for package in ("hectorite", *PACKAGES):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    if torch is not None:
        versions["CUDA of torch"] = str(torch.version.cuda)
    return {
        "device": card.name,
        "target": card.target.name,
        "versions": versions,
        "rates": desk.rates,
    }


def measure(desk: Desk) -> None:
    """Rates of the card: `copy` in bytes/s, read and written; products in flop/s by type, as far as
    torch can tell."""
    size, order, card = COPIED[desk.plan.quick], ORDER[desk.plan.quick], desk.card
    source, target = (pool(0).empty((size,), np.dtype(np.uint8), 0) for _ in range(2))

    def copy() -> None:
        move = driver().cuMemcpyDtoDAsync(target.address, source.address, size, current_stream())
        check(move, "copy")

    desk.copy = copy
    desk.rates = {"copy": 2 * size / best(card, copy)}
    torch = gpu_torch()
    if torch is None:
        return
    from benchmarks.peers.torch_sparse_ops import place

    for name in ("float16", "bfloat16", "float32"):
        dtype = getattr(torch, name)
        a, b = (torch.randn(order, order, device=place()).to(dtype) for _ in range(2))
        desk.rates[name] = 2.0 * order**3 / best(card, lambda a=a, b=b: a @ b)


def best(card: CudaDevice, work: Callable[[], Any]) -> float:
    """The shortest time of several."""
    for _ in range(3):
        work()
    return min(between(card, work, 20))


def between(card: CudaDevice, work: Callable[[], Any], calls: int) -> list[float]:
    """Seconds of each of several calls, by events on the stream that everybody works on."""
    stream = current_stream()
    marks = [Event(card, stream)]
    for _ in range(calls):
        work()
        marks.append(Event(card, stream))
    return [end.since(start) for start, end in zip(marks, marks[1:], strict=False)]


def current_stream() -> int:
    """The stream of torch, which ours follows; without torch the default one."""
    torch = gpu_torch()
    return torch.cuda.current_stream().cuda_stream if torch is not None else 0


def race(desk: Desk, notify: Notify, case: Case, barred: Mapping[str, str]) -> dict[str, Any]:
    """Race the peers of one case, but for those that are `barred` for a reason: their entries, and
    the bound of the case in seconds. `missing` names a file that is not there."""
    notify("")
    try:
        data = build(case, desk.plan.data_dir)
    except FileNotFoundError as missing:
        return {"missing": missing.filename}
    reference = expected(case, data)
    entries, racers = [], []
    for each in peers_of(case, desk.plan):
        notify(each.name)
        if each.name in barred:
            entries.append(Timed(each, reason=barred[each.name]))
            continue
        entry, racer = prepared(desk, each, case, data, reference)
        entries.append(entry)
        racers += [racer] if racer else []
    for number in range(desk.plan.rounds):
        for racer in racers:
            notify(racer.entry.peer.name)
            if not racer.entry.reason and (racer.took < TURN or number < SLOW_ROUNDS):
                take_turn(desk, racer)
    limit = bound(case, data, limits_of(case, desk.rates))
    del racers, data
    clean_up()
    return {"entries": entries, "bound": limit}


def peers_of(case: Case, plan: Plan) -> list[Peer]:
    """The peers of a case that run on a GPU, by the names they have there."""
    able = [
        replace(p, name=NAMES.get(p.name, p.name))
        for p in all_peers()
        if case.kind in p.kinds and p.runtime in RUNTIMES and p.name not in LEFT_OUT
    ]
    return [p for p in able if matches(p.name, plan.peers) and not (p.slow_start and plan.quick)]


def prepared(
    desk: Desk, each: Peer, case: Case, data: Data, reference: np.ndarray
) -> tuple[Timed, Racer | None]:
    """A peer whose result has been checked, ready to be called, or why it does not compete."""
    try:
        call = each.prepare(dict(data), case)
        result = as_array(call())
        memory = peak_memory(call)
        took = waited_for(call)
    except Skip as reason:
        return Timed(each, reason=str(reason)), None
    except ImportError as reason:
        return Timed(each, reason=f"not installed ({reason})"[:120]), None
    except Exception as error:  # a peer may fail in any way; its row says how
        return Timed(each, reason=failure(desk, error)), None
    entry = Timed(each, error=relative_error(result, reference), peak_mb=memory)
    if not entry.error <= case.tolerance:
        entry.reason = f"wrong result (relative error {entry.error:.1e})"
        return entry, None
    return entry, Racer(entry, call, took)


def take_turn(desk: Desk, racer: Racer) -> None:
    """Time some calls of a peer, as they come and with their launches hidden."""
    calls = max(1, min(CALLS, int(TURN / max(racer.took, 1e-6))))
    try:
        for _ in range(min(calls, 3)):
            racer.call()  # caches and clocks are those of the peer before it
        start = time.perf_counter()
        spent = between(desk.card, racer.call, calls)
        asking = (time.perf_counter() - start) / calls * QUEUED
        racer.entry.samples += [(seconds, 0.0) for seconds in spent]
        for _ in range(copies_for(desk, asking)):
            desk.copy()
        racer.entry.device += between(desk.card, racer.call, min(calls, QUEUED))
    except Exception as error:  # out of memory when all are held at once, say
        racer.entry.reason = failure(desk, error)


def copies_for(desk: Desk, seconds: float) -> int:
    """How many copies keep the device busy for so long."""
    one = 2 * COPIED[desk.plan.quick] / desk.rates["copy"]
    return min(MOST_COPIES, math.ceil(seconds / one) + 1)


def failure(desk: Desk, error: Exception) -> str:
    """What a failed peer says, and where. Raises `Broken` if the device does nothing more."""
    said = f"{type(error).__name__}: {error}".strip().split("\n")[0][:300]
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        said += f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})"
    error.__traceback__ = None  # its frames hold memory of the device
    try:
        clean_up()
        synchronise(current_stream())
    except Exception as lost:
        raise Broken(said) from lost
    return said


def clean_up() -> None:
    """Give memory back to the device, and forget what was compiled for a case."""
    gc.collect()
    torch = gpu_torch()
    if torch is not None:
        torch.cuda.empty_cache()
    pool(0).trim()


def waited_for(call: Call) -> float:
    """Seconds of a call until the device has done it."""
    synchronise(current_stream())
    start = time.perf_counter()
    kept = call()
    synchronise(current_stream())
    del kept
    return time.perf_counter() - start


def peak_memory(call: Call) -> float | None:
    """MiB of the device that a call takes at its highest, None where torch does not count them."""
    torch = gpu_torch()
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


def limits_of(case: Case, rates: Mapping[str, float]) -> Limits:
    """The rates that bound a case. Rows that are gathered are charged as copies: caches may do
    better."""
    flops = rates.get("float16" if case.kind == "gemm16" else "float32", float("inf"))
    return Limits(flops, rates["copy"], {(1, 64): rates["copy"]}, "events of the device")


COMMANDS = {"card": describe, "race": race}
