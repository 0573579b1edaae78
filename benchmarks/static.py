"""How good our code is before it runs: main loops and registers, against Triton's.

    python benchmarks/run.py static [--triton PYTHON]

Enters: nothing but an assembler and a disassembler; no GPU. PYTHON is an interpreter with Triton
3.6, by default this one if it has it. Leaves: a table of flops for each warp instruction in the
main loop and of registers, for a product of f16 in tiles of 128 x 128 x 32 and a sparse product.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.cubin import registers

HERE = Path(__file__).resolve().parent
PROGRAM = HERE / "programs" / "static.hec"
SIZES = {"product": {"M": 4096, "N": 4096, "K": 4096}, "spmm": {"F": 128}}
TARGETS = ("sm_80", "sm_90")


@dataclass(frozen=True)
class Figure:
    """One kernel of one compiler. `loops` has the flops per instruction of every innermost loop
    that does any, in the order of the code."""

    case: str
    target: str
    compiler: str
    flop_per_instruction: float
    registers: int
    spill_bytes: int | None
    loops: tuple[float, ...]


def ours() -> Iterator[Figure]:
    """What hectorite makes of the two programs: the kernel with the most flops of each."""
    import hectorite
    from hectorite.backends.machine_code.resources import machine_code

    for case, sizes in SIZES.items():
        for target in (*TARGETS, "sm_90a"):
            ptx = hectorite.emit(PROGRAM, "ptx", sizes=sizes, function=case, target=target)
            kernels = machine_code(ptx, target, listed=True).kernels
            best = max(kernels, key=lambda kernel: _figures(kernel.statistics)[0])
            rate, loops = _figures(best.statistics)
            yield Figure(case, target, "hectorite", rate, best.registers, best.spill_bytes, loops)


def theirs(python: str) -> Iterator[Figure]:
    """What Triton makes of the same, compiled ahead of time by another interpreter."""
    from hectorite.backends.machine_code.sass import disassemble
    from hectorite.backends.machine_code.sass_statistics import statistics

    script = HERE / "peers" / "triton_kernels.py"
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(script), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        told = json.loads(done.stdout)
        for kernel in told["kernels"]:
            cubin = Path(kernel["file"]).read_bytes()
            (listing,) = (each for each in disassemble(cubin).values() if each.is_kernel)
            rate, loops = _figures(statistics(listing))
            used = registers(cubin)[listing.name]
            name = f"triton {told['version']}"
            yield Figure(kernel["name"], kernel["target"], name, rate, used, None, loops)


def compare(python: str | None, json_file: Path | None) -> int:
    """Print all figures; the exit status."""
    if python is None and find_spec("triton") is not None:
        python = sys.executable
    figures = [*ours(), *(theirs(python) if python else ())]
    figures.sort(key=lambda figure: (figure.case, figure.target))
    show(figures)
    if python is None:
        print("Triton is not here: --triton PYTHON names an interpreter that has it")
    if json_file is not None:
        rows = [asdict(figure) for figure in figures]
        json_file.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return 0


def show(figures: list[Figure]) -> None:
    """The figures as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "target", "compiler", "flop/instr", "registers", "spills", "loops")
    for figure in figures:
        spills = "-" if figure.spill_bytes is None else str(figure.spill_bytes)
        loops = ", ".join(f"{rate:.1f}" for rate in figure.loops)
        table.add_row(
            figure.case,
            figure.target,
            figure.compiler,
            f"{figure.flop_per_instruction:.1f}",
            str(figure.registers),
            spills,
            loops,
        )
    Console().print(table)


def _figures(found: Any) -> tuple[float, tuple[float, ...]]:
    """Flops per instruction of the main loop, and of every loop that does any."""
    rates = tuple(loop.flop_per_instruction for loop in found.loops if loop.flops)
    return found.flop_per_instruction, rates
