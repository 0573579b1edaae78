"""Races hectorite against other runtimes on this machine: `python benchmarks/run.py SUITE`.

Enters: a suite (rgnn, sparse, dense, compile, static, predict, rewrites, all) and a folder of real
graphs. Leaves: tables on the terminal and, with --json, the rows in a file. Exit code 1 when our
own result was wrong or missing, 2 when the command line was. With `--target cuda` it races on a GPU
(`gpu.py`), and writes `benchmarks/results/DEVICE-DATE.json`. `predict` compares the cost model with
measurements (`prediction.py`), `rewrites` the rewrites that are chosen with others (`rewrites.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if find_spec("scipy") is None:
    sys.exit("the reference results need SciPy: pip install -e '.[bench]'")

from rich.console import Console  # noqa: E402  (the line above makes `benchmarks` importable)

from benchmarks.cases import SUITES, Case, build, families, tensor_core_cases  # noqa: E402
from benchmarks.compile_time import race_compilers  # noqa: E402
from benchmarks.machine import Limits, bound, measure  # noqa: E402
from benchmarks.peers.table import GPU_ONLY, OURS, Peer, all_peers, matches  # noqa: E402
from benchmarks.prediction import predict  # noqa: E402
from benchmarks.race import Arena, Entry  # noqa: E402
from benchmarks.reference import expected  # noqa: E402
from benchmarks.report import Row, rows_of, show_case, show_summary  # noqa: E402
from benchmarks.rewrites import race_rewrites  # noqa: E402
from benchmarks.static import compare  # noqa: E402
from benchmarks.superopt import superopt  # noqa: E402

MODELS = {"predict": predict, "rewrites": race_rewrites, "superopt": superopt}
"""Suites about the cost model and what it decides."""


def arguments(command_line: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks/run.py", description=__doc__.split("\n")[0])
    others = ["compile", "static", *MODELS, "all"]
    parser.add_argument("suite", choices=[*SUITES, *others])
    parser.add_argument("--quick", action="store_true", help="small cases, few rounds: 1 to 2 min")
    parser.add_argument("--data-dir", type=Path, help="folder of real graphs, NAME.npz")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--target", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", default="", help="cases with one of these in their name")
    parser.add_argument("--peers", default="", help="peers with one of these in their name")
    parser.add_argument("--triton", metavar="PYTHON", help="static: a Python that has Triton")
    parser.add_argument("--rounds", type=int, help="turns of each peer (default 5, quick 2)")
    parser.add_argument("--threads", type=int, default=available_cores(), help="of every peer")
    parser.add_argument(
        "--clock", default="wall", choices=["wall", "cpu"], help="cpu: with --threads 1, when busy"
    )
    chosen = parser.parse_args(command_line)
    if chosen.data_dir is not None and not chosen.data_dir.is_dir():
        parser.error(f"--data-dir {chosen.data_dir}: no such folder")
    if chosen.threads < 1 or (chosen.rounds is not None and chosen.rounds < 1):
        parser.error("--threads and --rounds are at least 1")
    return chosen


def available_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cases_of(chosen: argparse.Namespace) -> list[Case]:
    names = [*SUITES] if chosen.suite == "all" else [chosen.suite]
    listed = [c for n in names if n in SUITES for c in SUITES[n](chosen.data_dir, chosen.quick)]
    if chosen.target == "cuda":
        listed += tensor_core_cases(chosen.quick) if "dense" in names else []
        listed = [c for c in listed if c.kind not in families()]
    return [replace(c, target=chosen.target) for c in listed if matches(c.name, chosen.only)]


def competitors(case: Case, chosen: argparse.Namespace) -> tuple[list[Peer], list[Entry]]:
    """Who races, and who is left out before anything starts."""
    here = [p for p in all_peers() if p.runtime not in GPU_ONLY]
    able = [p for p in here if case.kind in p.kinds and matches(p.name, chosen.peers)]
    absent = [Entry(p, reason="left out by --quick") for p in able if p.slow_start and chosen.quick]
    return [p for p in able if not (p.slow_start and chosen.quick)], absent


def race_case(case: Case, chosen: argparse.Namespace, arena: Arena, limits: Limits, screen):
    """Races one case and shows its table; returns its rows."""
    arena.watch(f"{case.name}: data and reference")
    data = build(case, chosen.data_dir)
    peers, absent = competitors(case, chosen)
    entries = arena.race(case, data, expected(case, data), peers) + absent
    rows, skipped = rows_of(case, bound(case, data, limits), entries)
    show_case(screen, rows, skipped, {p.name for p in peers if p.expert})
    return rows


def physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def main(command_line: Sequence[str] | None = None) -> int:
    chosen = arguments(command_line)
    if chosen.suite == "static":
        return compare(chosen.triton, chosen.json)
    if chosen.target == "cuda":
        from benchmarks.gpu import race_on_gpu

        return race_on_gpu(chosen, cases_of(chosen))
    # A file or a pipe has no width of its own; the tables need about this much.
    screen = Console(width=None if sys.stdout.isatty() else 120)
    if chosen.suite in MODELS:
        wanted_here = partial(matches, parts=chosen.only)
        return MODELS[chosen.suite](
            chosen.data_dir, chosen.quick, wanted_here, chosen.threads, screen, chosen.json
        )
    progress = Console(stderr=True)
    cases, rows, wanted = cases_of(chosen), [], 0
    os.environ["OMP_NUM_THREADS"] = str(chosen.threads)  # for the kernels that measure limits
    with tempfile.TemporaryDirectory() as scratch, progress.status("starting") as status:
        if cases:
            status.update("measuring what this machine can do")
            limits = measure(1.0 if chosen.quick else 4.0, chosen.threads)
            show_limits(screen, limits, chosen.threads)
        with Arena(
            Path(scratch),
            threads=chosen.threads,
            rounds=chosen.rounds or (2 if chosen.quick else 5),
            turn=0.05 if chosen.quick else 0.2,
            wait=0.0 if chosen.clock == "cpu" else 0.2 if chosen.quick else 1.0,
            limit=physical_memory() * 2 // 3,
            clock=chosen.clock,
            watch=status.update,
        ) as arena:
            for case in cases:
                try:
                    rows += race_case(case, chosen, arena, limits, screen)
                    wanted += 1
                except FileNotFoundError as missing:
                    screen.print(f"skipped {case.name}: no file {missing.filename}")
        if chosen.suite in ("compile", "all"):
            status.update("compiling rgat")
            rows += race_compilers(screen, chosen.threads, chosen.quick, Path(scratch))
            wanted += 2
    show_summary(screen, rows)
    if chosen.json:
        write_json(chosen.json, rows)
    ours = sum(row.who == OURS for row in rows)
    return 1 if matches(OURS, chosen.peers) and ours < wanted else 0


def show_limits(screen: Console, limits: Limits, threads: int) -> None:
    gather = ", ".join(
        f"{rows // 1000}k x {columns}: {rate / 1e9:.0f}"
        for (rows, columns), rate in limits.gather.items()
    )
    screen.print(
        f"{threads} threads; measured with {limits.source}: {limits.flops / 1e9:.0f} GFLOP/s, "
        f"{limits.bandwidth / 1e9:.0f} GB/s; random rows, GB/s: {gather}",
        highlight=False,
    )


def write_json(path: Path, rows: Sequence[Row]) -> None:
    path.write_text(json.dumps([row.as_json() for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
