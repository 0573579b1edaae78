"""How long rgat takes to compile: in a warm interpreter, with an empty cache and from the cache.

Enters: nothing. Leaves: rows of the suite `compile`. Each sample is a fresh process that imports
the compiler and compiles another program first, so that neither start-up nor imports count; then
the time runs from the source of rgat to the first result on a graph so small that computing it
takes no time. The cache folder is new for a cold sample, and used again for the cached sample after
it. torch.compile, where it is installed, does the same with its own layer and its own cache.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path

from rich.console import Console

from benchmarks.cases import Case, build
from benchmarks.peers.table import OURS, Peer, all_peers, environment
from benchmarks.race import Entry
from benchmarks.reference import expected, relative_error
from benchmarks.report import Row, rows_of, show_case
from benchmarks.worker import as_array

GRAPH = "relations:256:2048:16:3"
MEASURED = Case("compile", "rgat", "rgat", GRAPH)
WARM_UP = Case("compile", "spmm", "spmm", "power:64:4")
CACHES = ("HECTORITE_CACHE", "TORCHINDUCTOR_CACHE_DIR")


def one_compilation(pipe: Connection, name: str, log: str) -> None:
    """In a fresh process: warms up, then sends (seconds, error) or the reason of a failure."""
    with open(log, "w") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    try:
        first_result(name, WARM_UP)
        pipe.send(first_result(name, MEASURED))
    except Exception as failure:  # a peer may fail in any way; its row says how
        pipe.send(f"{type(failure).__name__}: {failure}".split("\n")[0][:120])


def first_result(name: str, case: Case) -> tuple[float, float]:
    """Seconds from the source to the first result, and its error."""
    data, peer = build(case, None), compiler(name, case.kind)
    start = time.perf_counter()
    result = peer.prepare(data, case)()
    took = time.perf_counter() - start
    return took, relative_error(as_array(result), expected(case, data))


def compiler(name: str, kind: str) -> Peer:
    """The peer of this name that computes `kind`, or else another that uses the same compiler."""
    runtime = next(p.runtime for p in all_peers() if p.name == name)
    able = [p for p in all_peers() if p.runtime == runtime and kind in p.kinds]
    return min(able, key=lambda p: p.name != name)


def sampled(peer: Peer, threads: int, scratch: Path, cache: str) -> tuple[float, float] | str:
    """One sample in a process of its own. `cache` is a folder, filled or not."""
    outer = dict(os.environ)
    os.environ.update(environment(peer.runtime, threads) | dict.fromkeys(CACHES, cache))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    request = (theirs, peer.name, str(scratch / "compile.log"))
    process = context.Process(target=one_compilation, args=request)
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(outer)
    theirs.close()
    try:
        return ours.recv() if ours.poll(300) else "no answer in 300 s"
    except EOFError:
        return "its process died"
    finally:
        process.join(10)  # a compiler may have helpers of its own to end
        process.kill()


def race_compilers(screen: Console, threads: int, quick: bool, scratch: Path) -> list[Row]:
    """Times the compilers, cold and cached, in interleaved samples; shows and returns the rows."""
    names = [OURS] if quick else [OURS, "torch.compile loop"]
    peers = [compiler(name, MEASURED.kind) for name in names]
    entries = {state: [Entry(peer) for peer in peers] for state in ("cold", "cached")}
    for number in range(2 if quick else 5):
        for index, peer in enumerate(peers):
            cold, cached = (entries[state][index] for state in ("cold", "cached"))
            if cold.reason or (number > 1 and peer.name != OURS):
                continue
            folder = str(scratch / f"cache-{index}-{number}")
            for entry in (cold, cached):
                note(entry, sampled(peer, threads, scratch, folder))
    rows: list[Row] = []
    for state, raced in entries.items():
        case = Case("compile", f"rgat.{state}", "rgat", GRAPH)
        found, skipped = rows_of(case, None, raced)
        show_case(screen, found, skipped, set())
        rows += found
    return rows


def note(entry: Entry, sample: tuple[float, float] | str) -> None:
    if isinstance(sample, str):
        entry.reason = sample
        return
    seconds, entry.error = sample
    entry.samples.append((seconds, 0.0))
    if not entry.error <= MEASURED.tolerance:
        entry.reason = f"wrong result (relative error {entry.error:.1e})"
