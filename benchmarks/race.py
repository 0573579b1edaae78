"""Races the peers of one case: every runtime in its own process, in interleaved rounds.

Enters: a case, its data and the expected result. Leaves: an `Entry` for each peer. Every peer is
prepared and its result checked before anybody is timed; only peers whose result is right compete.
A round gives each a short turn, so that a busy minute of the machine hits all of them. The median
is over the calls that no other process disturbed; whoever has fewer than three of them gets more
rounds, and if that does not help, its three least disturbed calls count.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.cases import Case, Data
from benchmarks.peers.table import OURS, Peer, environment
from benchmarks.worker import SLOW, Sample, count_undisturbed, serve

LOAD = Path("/proc/loadavg")
PATIENCE = 600.0
"""Seconds that a peer may take to answer."""

EXTRA = 3
"""Up to this many times the rounds, for peers that have been disturbed."""

EXTRA_TURNS = 100
"""No extra round starts after the time of this many turns."""

HOPELESS = 40.0
"""A peer this many times slower than the fastest gets one round."""


@dataclass
class Entry:
    """What became of one peer in one case. `reason` is empty when it was timed."""

    peer: Peer
    reason: str = ""
    error: float = 0.0
    peak_mb: float | None = None
    samples: list[Sample] = field(default_factory=list)

    @property
    def best(self) -> float:
        return min(seconds for seconds, _ in self.samples)

    @property
    def undisturbed(self) -> int:
        """How many calls had their cores to themselves."""
        return count_undisturbed(self.samples)

    @property
    def counted(self) -> list[float]:
        """The calls that count: the undisturbed ones, or the three that waited least."""
        by_wait = sorted(self.samples, key=lambda sample: sample[1] / sample[0])
        return [seconds for seconds, _ in by_wait[: max(3, self.undisturbed)]]

    @property
    def median(self) -> float:
        return statistics.median(self.counted)

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        if len(self.counted) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.counted, n=4)
        return (high - low) / self.median


class Worker:
    """A process for one runtime. A worker that dies answers with `error` from then on."""

    def __init__(self, runtime: str, threads: int, memory_limit: int, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        log = str(folder / f"{runtime}.log")
        arguments: tuple[Connection, int, str] = (theirs, memory_limit, log)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        # A spawned process inherits the environment of the moment, and libraries read it once.
        outer = dict(os.environ)
        os.environ.update(environment(runtime, threads))
        try:
            self.process.start()
        finally:
            os.environ.clear()
            os.environ.update(outer)
        theirs.close()

    def ask(self, *request: object) -> dict:
        """Sends one request and waits for its answer."""
        try:
            self.pipe.send(request)
            if self.pipe.poll(PATIENCE):
                return self.pipe.recv()
            reason = f"no answer in {PATIENCE:.0f} s"
        except (EOFError, OSError):
            reason = "its process died (out of memory?)"
        self.process.kill()
        return {"error": reason}

    def stop(self) -> None:
        try:
            self.pipe.send(("quit",))
            self.process.join(5)
        except OSError:
            pass
        if self.process.is_alive():
            self.process.kill()


def wait_for_quiet(seconds: float) -> None:
    """Returns when no other process of the machine is running, or after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            running = int(LOAD.read_text().split()[3].split("/")[0])
        except (OSError, IndexError, ValueError):
            return
        if running <= 1:  # this process
            return
        time.sleep(0.02)


class Arena:
    """The workers of a run, and how long to race. A context manager: leaving it ends the workers.

    `rounds` and `turn` (seconds of each peer in each round) set the length of a race; `wait` is how
    many seconds a turn may wait for other processes to leave the machine alone; `limit` is the
    address space of each worker in bytes; `clock` is `wall` or `cpu`; `watch` is told what is going
    on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        rounds: int,
        turn: float,
        wait: float,
        limit: int,
        clock: str = "wall",
        watch: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.threads, self.rounds, self.turn = folder, threads, rounds, turn
        self.wait, self.limit, self.clock, self.watch = wait, limit, clock, watch
        self.workers: dict[str, Worker] = {}

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *failure: object) -> None:
        for worker in self.workers.values():
            worker.stop()

    def worker(self, runtime: str) -> Worker:
        """The living worker of a runtime, started when it is needed."""
        known = self.workers.get(runtime)
        if known is None or not known.process.is_alive():
            known = Worker(runtime, self.threads, self.limit, self.folder)
            self.workers[runtime] = known
        return known

    def race(
        self, case: Case, data: Data, reference: np.ndarray, peers: Sequence[Peer]
    ) -> list[Entry]:
        """Prepares, checks and times `peers` on a case."""
        np.savez(self.folder / "inputs.npz", **data)
        np.save(self.folder / "reference.npy", reference)
        entries = [self.prepared(case, peer) for peer in peers]
        running = [entry for entry in entries if not entry.reason]
        enough = time.monotonic() + EXTRA_TURNS * self.turn
        for number in range(EXTRA * self.rounds):
            if number >= self.rounds and time.monotonic() > enough:
                break
            fastest = min((e.best for e in running if e.samples), default=0.0)
            for entry in running:
                if self.takes_part(entry, number, fastest):
                    self.watch(f"{case.name}: round {number + 1}, {entry.peer.name}")
                    self.take_turn(entry)
            running = [entry for entry in running if not entry.reason]
        self.clear()
        return entries

    def takes_part(self, entry: Entry, number: int, fastest: float) -> bool:
        """Whether a peer has a turn in this round."""
        if not entry.samples:
            return True
        if number == 0 or entry.best > HOPELESS * fastest:
            return False
        return number < self.rounds or entry.undisturbed < 3

    def prepared(self, case: Case, peer: Peer) -> Entry:
        """A peer whose result has been checked, or the reason why it does not compete."""
        self.watch(f"{case.name}: preparing {peer.name}")
        answer = self.worker(peer.runtime).ask("prepare", peer.name, case, str(self.folder))
        reason = answer.get("skipped") or answer.get("error")
        if reason:
            return Entry(peer, reason=reason)
        entry = Entry(peer, error=answer["error_size"], peak_mb=answer["growth"])
        if not entry.error <= case.tolerance:
            entry.reason = f"wrong result (relative error {entry.error:.1e})"
        if answer["first"] > SLOW and not peer.slow_start:
            entry.samples.append((answer["first"], 0.0))
        return entry

    def take_turn(self, entry: Entry) -> None:
        time.sleep(0.02)  # the threads of the last peer stop spinning
        wait_for_quiet(self.wait)
        answer = self.worker(entry.peer.runtime).ask("time", entry.peer.name, self.turn, self.clock)
        if "error" in answer:
            entry.reason = answer["error"]
        else:
            entry.samples += answer["samples"]

    def clear(self) -> None:
        """Drops the case. Ours starts anew for each, as it keeps memory for later calls."""
        for runtime, worker in list(self.workers.items()):
            if runtime == OURS or "error" in worker.ask("forget"):
                worker.stop()
                del self.workers[runtime]
