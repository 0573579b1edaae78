"""The race on a GPU: `python benchmarks/run.py SUITE --target cuda`.

Enters: a suite's cases. Leaves: tables on the terminal, and `benchmarks/results/DEVICE-DATE.json`:
versions, what the card can do, a row for each peer in each case, and who was left out and why. The
file is written anew after every case, and keeps the rows of other cases that it holds already, so
that a race may be cut short, and go on suite by suite.

The race itself is in a process of its own (`gpu_process.py`). One that dies, hangs or loses its
device takes nobody else along: the case is raced again without the peer that was at work.
Where there is no driver it says so in one line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import multiprocessing
import os
import re
import statistics
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.cases import Case
from benchmarks.gpu_process import Plan, Timed, serve
from benchmarks.peers.table import OURS, matches
from benchmarks.report import Row, milliseconds, rows_of, show_case, show_summary

RESULTS = Path(__file__).parent / "results"
PATIENCE = 300.0
"""Seconds that a peer may take to get ready, compiling included."""


def race_on_gpu(chosen: argparse.Namespace, cases: Sequence[Case]) -> int:
    """Race all cases. Returns 1 if a result of ours was wrong or missing, or there is no GPU."""
    os.environ["BENCHMARK_DEVICE"] = "cuda"
    os.environ.setdefault("OMP_NUM_THREADS", str(chosen.threads))
    screen = Console(width=None if sys.stdout.isatty() else 120)
    rounds = chosen.rounds or (2 if chosen.quick else 10)
    rows: list[Row] = []
    raced = 0
    with Process(Plan(rounds, chosen.peers, chosen.quick, chosen.data_dir)) as process:
        card = process.ask("card")
        if "error" in card or "broken" in card:
            print(card.get("error") or f"the GPU is unusable: {card['broken']}", file=sys.stderr)
            return 1
        screen.print(f"{card['device']}: {told(card['rates'])}", highlight=False)
        record = Record(chosen.json, card, rounds)
        for case in cases:
            answer = race_case(process, case)
            if "missing" in answer:
                screen.print(f"skipped {case.name}: no file {answer['missing']}")
                continue
            raced += 1
            rows += shown(screen, case, answer, record)
    show_summary(screen, rows)
    screen.print(f"written to {record.path}", highlight=False)
    ours = sum(row.who == OURS for row in rows)
    return 1 if matches(OURS, chosen.peers) and ours < raced else 0


def race_case(process: Process, case: Case) -> dict[str, Any]:
    """What came of a case, raced as often as it takes to leave out peers that break the device."""
    barred: dict[str, str] = {}
    while True:
        answer = process.ask("race", case, barred)
        if "broken" not in answer:
            return answer
        if not process.at_work or process.at_work in barred:
            return {"entries": [], "bound": None, "failed": answer["broken"]}
        barred[process.at_work] = f"{answer['broken']}; the device was lost"
        process.restart()


def shown(screen: Console, case: Case, answer: dict[str, Any], record: Record) -> list[Row]:
    """The rows of a case, on the screen and in the file."""
    entries: list[Timed] = answer["entries"]
    rows, skipped = rows_of(case, answer["bound"], entries)
    show_case(screen, rows, skipped, {entry.peer.name for entry in entries if entry.peer.expert})
    hidden = {e.peer.name: statistics.median(e.device) for e in entries if e.device}
    if hidden:
        order = sorted(hidden, key=lambda name: hidden[name])
        said = ", ".join(f"{name} {milliseconds(hidden[name])}" for name in order)
        screen.print(f"  ms with launches hidden: {said}", highlight=False)
    left_out = {each.who: each.reason for each in skipped}
    if "failed" in answer:
        left_out["everybody"] = answer["failed"]
        screen.print(f"  {case.name} failed: {answer['failed']}", highlight=False)
    record.add(case, [row.as_json() | {"device_s": hidden.get(row.who)} for row in rows], left_out)
    return rows


class Process:
    """The process that has the device. A context manager: leaving it ends the process."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.at_work = ""

    def __enter__(self) -> Process:
        self._start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._end()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def restart(self) -> None:
        """Begin anew, which a device needs after a fault."""
        self._end()
        self._start()
        self.ask("card")

    def ask(self, *request: object) -> dict[str, Any]:
        """The answer to a request; `at_work` is the peer that was last at work on it. Where the
        process ends or is silent for too long, `broken` says so."""
        self.at_work = ""
        with suppress(OSError):  # it has ended, and what it said last is still in the pipe
            self._pipe.send(request)
        try:
            while self._pipe.poll(PATIENCE):
                said = self._pipe.recv()
                if isinstance(said, dict):
                    return said
                self.at_work = said
            reason = f"no answer in {PATIENCE:.0f} s"
        except (EOFError, OSError):
            self._process.join(5)
            reason = f"its process ended with status {self._process.exitcode}"
        return {"broken": reason}

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, self._plan), daemon=False)
        self._process.start()
        theirs.close()

    def _end(self) -> None:
        self._pipe.close()
        self._process.join(3)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


class Record:
    """The file of a device and a day."""

    def __init__(self, path: Path | None, card: dict[str, Any], rounds: int) -> None:
        today = datetime.date.today().isoformat()
        self.path = path or RESULTS / f"{slug(card['device'])}-{today}.json"
        self._facts = {"date": today, **card, "rounds": rounds}
        before: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        same = before.get("device") == card["device"]
        self._rows: list[dict[str, Any]] = before["rows"] if same else []
        self._left_out: list[dict[str, Any]] = before["left_out"] if same else []
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, case: Case, rows: Sequence[dict[str, Any]], left_out: dict[str, str]) -> None:
        """Enter what came of a case, in place of what the file says about it."""
        here = {"suite": case.suite, "case": case.name}

        def is_other(row: dict[str, Any]) -> bool:
            return (row["suite"], row["case"]) != (case.suite, case.name)

        self._rows = [*filter(is_other, self._rows), *rows]
        told = [here | {"who": who, "reason": reason} for who, reason in left_out.items()]
        self._left_out = [*filter(is_other, self._left_out), *told]
        facts = self._facts | {"rows": self._rows, "left_out": self._left_out}
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fresh.write_text(json.dumps(facts, indent=1) + "\n")
        fresh.replace(self.path)


def told(rates: dict[str, float]) -> str:
    products = ", ".join(f"{n} {r / 1e12:.1f} Tflop/s" for n, r in rates.items() if n != "copy")
    return f"copies {rates['copy'] / 1e9:.0f} GB/s" + (f", {products}" if products else "")


def slug(name: str) -> str:
    """A device's name as part of a file's."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
