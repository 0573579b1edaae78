"""The process in which the peers of one runtime run.

Enters: requests over a pipe, `(command, ...)`. Leaves: one answer for each, a dictionary with
`error` where the peer failed. Commands: `prepare` loads the inputs of a case, prepares a peer,
checks its result, measures its memory; `time` times some calls; `forget` drops the case; `quit`.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks import memory
from benchmarks.cases import Case, Data, build, miniature
from benchmarks.native import aligned_copy
from benchmarks.peers.table import Call, Peer, Skip, all_peers
from benchmarks.reference import relative_error

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
TASKS = Path("/proc/self/task")
SLOW = 4.0
"""Seconds after which one call is enough."""

Sample = tuple[float, float]
"""Seconds of a call, and seconds that its threads were ready to run but had no core."""

UNDISTURBED = 0.02
"""A call whose threads waited for a core for a smaller share of its time counts as undisturbed."""


@dataclass
class Prepared:
    """A peer that is ready to be timed, with what its first call took."""

    call: Call
    first: float


@dataclass
class Desk:
    """What a worker holds between requests."""

    inputs: Data | None = None
    reference: np.ndarray | None = None
    ready: dict[str, Prepared] = field(default_factory=dict)


def serve(pipe: Connection, memory_limit: int, log: str) -> None:
    """Answers requests until told to quit. Everything the peers print goes to `log`."""
    with open(log, "w") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    desk = Desk()
    while True:
        command, *arguments = pipe.recv()
        if command == "quit":
            return
        try:
            answer = COMMANDS[command](desk, *arguments)
        except Skip as reason:
            answer = {"skipped": str(reason)}
        except ImportError as reason:
            answer = {"skipped": f"not installed ({reason})"[:120]}
        except Exception as error:  # a peer may fail in any way; its row says how
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".split("\n")[0][:200]}
        sys.stderr.flush()
        pipe.send(answer)


def find(name: str, case: Case) -> Peer:
    return next(p for p in all_peers() if p.name == name and case.kind in p.kinds)


def as_array(result: object) -> np.ndarray:
    """The result of any peer as a NumPy array."""
    detached = result.detach().numpy() if hasattr(result, "detach") else result
    return np.asarray(detached)


def prepare(desk: Desk, name: str, case: Case, folder: str) -> dict[str, object]:
    """Makes a peer ready: its first results, their error, the memory that a call needs.

    A miniature of the case runs first, so that neither the start of a library nor the compiling of
    its code counts as memory. The memory is the growth from the prepared state (inputs, adjacency
    and weights laid out) to the highest point of a later call, so that buffers kept between calls
    count, and preparation does not.
    """
    chosen = find(name, case)
    if not chosen.slow_start:
        small = miniature(case)
        chosen.prepare(build(small, None), small)()
    if desk.inputs is None:
        desk.inputs = load(Path(folder) / "inputs.npz")
        desk.reference = np.load(Path(folder) / "reference.npy")
    start = time.perf_counter()
    call = chosen.prepare(dict(desk.inputs), case)
    prepared = time.perf_counter()
    before = memory.settled()
    result, highest = memory.highest_during(call)
    first = time.perf_counter() - prepared
    error = relative_error(as_array(result), desk.reference)
    del result
    if first < SLOW:
        memory.settled()
        highest = memory.highest_during(call)[1]
    growth = None if before is None or highest is None else max(highest - before, 0.0)
    desk.ready[name] = Prepared(call, first)
    return {"prepare": prepared - start, "first": first, "error_size": error, "growth": growth}


def load(path: Path) -> Data:
    """The inputs of a case: sizes as integers, arrays at aligned addresses."""
    with np.load(path) as file:
        return {
            name: int(file[name]) if file[name].ndim == 0 else aligned_copy(file[name])
            for name in file.files
        }


def time_calls(desk: Desk, name: str, seconds: float, clock: str) -> dict[str, object]:
    """Calls for about `seconds`: up to 20, or up to 60 while fewer than 3 went undisturbed.

    `clock` is `wall`, or `cpu` for the processor time of all threads, which no other process can
    disturb: with one thread it compares peers on a busy machine.
    """
    if name not in desk.ready:
        return {"error": "its process died under another peer"}
    ready = desk.ready[name]
    if ready.first < SLOW / 2:
        ready.call()  # wakes the threads and warms the caches after another peer's turn
    samples: list[Sample] = []
    spent, now = 0.0, CLOCKS[clock]
    while not samples or wants_more(samples, spent, seconds):
        waited = waiting()
        start = now()
        ready.call()
        took = now() - start
        samples.append((took, waiting() - waited if clock == "wall" else 0.0))
        spent += took
    return {"samples": samples}


def wants_more(samples: list[Sample], spent: float, seconds: float) -> bool:
    if spent < seconds and len(samples) < 20:
        return True
    return count_undisturbed(samples) < 3 and spent < 3 * seconds and len(samples) < 60


def count_undisturbed(samples: list[Sample]) -> int:
    return sum(waited < UNDISTURBED * took for took, waited in samples)


def waiting() -> float:
    """Seconds that the threads of this process have been ready to run without a core, so far.

    A thread that another process holds up at a barrier delays the whole call, and nothing but the
    scheduler knows. Systems that do not tell have every call count as undisturbed.
    """
    total = 0
    for task in TASKS.glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[1])
        except (OSError, IndexError):
            continue
    return total * 1e-9


def forget(desk: Desk) -> dict[str, object]:
    """Drops everything that belongs to the case."""
    desk.inputs = desk.reference = None
    desk.ready.clear()
    memory.settled()
    return {}


COMMANDS = {"prepare": prepare, "time": time_calls, "forget": forget}
