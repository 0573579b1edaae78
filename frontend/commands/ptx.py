"""`hectorite ptx run | check FILE.ptx`: kernels of any compiler, run and examined without a GPU.

Enters: parsed arguments. Leaves: for `run` the arrays as the kernel leaves them, in a file, and
what each is now; for `check` one line for each fault, and status 1 if there is one. Without a
launch, `check` reads the text only.
"""

from __future__ import annotations

import json
import time
from argparse import Namespace
from dataclasses import asdict
from typing import Any

import numpy as np

from hectorite.backends.ptx.watch import Finding, Traffic
from hectorite.frontend import ptx
from hectorite.frontend.commands.run import norm
from hectorite.frontend.console import note, table, working
from hectorite.frontend.data.file import load_data, write_npz
from hectorite.ir.diagnostics import did_you_mean, fail
from hectorite.ir.ptx.static import static_findings

Array = np.ndarray[Any, Any]

KEYS = "arg0, arg1, ... in the order of the parameters"


def run(chosen: Namespace) -> int:
    """One of the two actions."""
    return _run(chosen) if chosen.action == "run" else _check(chosen)


def _run(chosen: Namespace) -> int:
    program = ptx.load(chosen.file)
    kernel = pick_kernel(program, chosen.kernel)
    arguments = read_arguments(chosen.args)
    start = time.perf_counter()
    with working(f"running {kernel.name}"):
        kernel(
            chosen.grid,
            chosen.block,
            arguments,
            chosen.shared,
            mode=chosen.mode,
            check=not chosen.no_check,
        )
    seconds = time.perf_counter() - start
    arrays: dict[str, Array] = {
        f"arg{number}": value
        for number, value in enumerate(arguments)
        if isinstance(value, np.ndarray)
    }
    if chosen.out is not None:
        write_npz(chosen.out, arrays)
    if chosen.json:
        facts = {
            "kernel": kernel.name,
            "arrays": [
                {"name": n, "dtype": str(a.dtype), "shape": list(a.shape)}
                for n, a in arrays.items()
            ],
            "seconds": seconds if chosen.time else None,
        }
        print(json.dumps(facts, indent=1))
        return 0
    rows = [[n, str(a.dtype), " x ".join(map(str, a.shape)), _norm(a)] for n, a in arrays.items()]
    table(["array", "type", "shape", "norm"], rows, [""] * len(rows))
    if chosen.time:
        note(f"{seconds:.6f} seconds, compiling included")
    return 0


def _norm(array: Array) -> str:
    return "" if array.dtype.kind == "V" else f"{norm(array):.7g}"


def _check(chosen: Namespace) -> int:
    program = ptx.load(chosen.file)
    report = ptx.Report()
    if chosen.grid is None and chosen.block is None and chosen.args is None:
        if chosen.coalescing or chosen.banks:
            raise fail(
                "accesses are counted while a kernel runs", expected="--grid, --block and --args"
            )
        kernel = None if chosen.kernel is None else program[chosen.kernel].name
        for found in static_findings(program.module, kernel):
            report.findings.append(Finding(found.kind, found.line, found.message))
    else:
        if chosen.grid is None or chosen.block is None:
            raise fail("a launch needs --grid and --block", expected="both of them, or neither")
        kernel = pick_kernel(program, chosen.kernel)
        with working(f"checking {kernel.name}"):
            report = kernel.check(
                chosen.grid,
                chosen.block,
                read_arguments(chosen.args),
                chosen.shared,
                traffic=chosen.coalescing or chosen.banks,
            )
    spaces = ["global"] * chosen.coalescing + ["shared"] * chosen.banks
    traffic = [t for t in report.traffic if t.space in spaces]
    if chosen.json:
        facts = {
            "file": chosen.file,
            "findings": [asdict(finding) for finding in report.findings],
            "traffic": [asdict(one) for one in traffic],
        }
        print(json.dumps(facts, indent=1))
    else:
        _tell(chosen.file, report.findings, traffic)
    return 1 if report.findings else 0


def _tell(file: str, findings: list[Finding], traffic: list[Traffic]) -> None:
    for finding in findings:
        times = f" ({finding.count} times)" if finding.count > 1 else ""
        print(f"{file}:{finding.line}: {finding.kind}: {finding.message}{times}")
    units = {"global": "sectors", "shared": "cycles"}
    for one in traffic:
        each, best = one.taken / max(one.requests, 1), one.ideal / max(one.requests, 1)
        print(
            f"{file}:{one.line}: {one.space}: {one.requests} requests, {each:.4g} "
            f"{units[one.space]} each, {best:.4g} at best"
        )
    if not findings:
        note("nothing found")


def pick_kernel(program: ptx.Program, name: str | None) -> ptx.Kernel:
    """The kernel of this name, or the only one there is."""
    if name is not None:
        return program[name]
    if len(program) != 1:
        raise fail(
            f"{program.source.name} has {len(program)} kernels",
            expected=f"--kernel with one of: {', '.join(program)}",
        )
    return program[next(iter(program))]


def read_arguments(path: str | None) -> list[Any]:
    """The values of a file under arg0, arg1, ...; arrays that a kernel may change."""
    if path is None:
        return []
    data = load_data(path, expected=f"an .npz file with the keys {KEYS}")
    names = [f"arg{number}" for number in range(len(data.keys))]
    for key in data.keys:
        if key not in names:
            raise fail(f"{path} has `{key}`", expected=KEYS, hint=did_you_mean(key, names))
    return [_native(np.array(data[name], order="C", copy=True)) for name in names]


def _native(array: Array) -> Any:
    """In the byte order of this machine; a number if it has no dimensions."""
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array if array.ndim else array[()]
