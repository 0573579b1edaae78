"""What the kernels of a PTX text take of a GPU and what their machine code is made of.

Enters: PTX text and a target. Leaves: a `Kernel` for each kernel. The statistics of machine code
need a disassembler; without one they are None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hectorite.backends.host.plan import COMMENT, HEADER, plan_from_text
from hectorite.backends.machine_code.assemble import Assembled, assemble
from hectorite.backends.machine_code.emulation import emulated
from hectorite.backends.machine_code.sass import Listing, disassemble, find_nvdisasm
from hectorite.backends.machine_code.sass_statistics import Statistics, statistics


@dataclass(frozen=True)
class Kernel:
    """One kernel. `shared_bytes` are those of a block, dynamic ones included where the text begins
    with a plan, which tells them; `spill_bytes` are stores and loads together. `emulated` names
    matrix instructions that the target does not have."""

    name: str
    registers: int
    shared_bytes: int
    spill_bytes: int
    statistics: Statistics | None = None
    emulated: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The kernel as JSON holds it."""
        facts: dict[str, Any] = {
            "name": self.name,
            "registers": self.registers,
            "shared_bytes": self.shared_bytes,
            "spill_bytes": self.spill_bytes,
        }
        if self.statistics is not None:
            facts["instruction_mix"] = dict(self.statistics.instruction_mix)
            facts["flop_per_instruction"] = round(self.statistics.flop_per_instruction, 2)
            facts["emulated"] = list(self.emulated)
        return facts


@dataclass(frozen=True)
class MachineCode:
    """Machine code of one PTX text: its cubin, its kernels, its listings (if there is a
    disassembler) with the kernels first."""

    cubin: bytes
    kernels: tuple[Kernel, ...]
    listings: Mapping[str, Listing] | None

    @property
    def sass(self) -> str:
        """The listings as text; empty if there are none."""
        return "\n".join(listing.text for listing in (self.listings or {}).values())


def machine_code(
    text: str, target: str, name: str = "<ptx>", listed: bool | None = None
) -> MachineCode:
    """Assemble PTX text for a target and look at what became of it.

    `listed` asks for the listings, by default where there is a disassembler. Raises
    `HectoriteError` for what is wrong in the text, and for tools that are missing.
    """
    made = assemble(text, target, name)
    if listed is None:
        listed = find_nvdisasm() is not None
    listings = disassemble(made.cubin) if listed else None
    return MachineCode(made.cubin, tuple(_kernels(text, made, listings)), listings)


def table(kernels: Sequence[Kernel]) -> str:
    """The kernels as a table, a line each, for people."""
    head = ["kernel", "registers", "shared", "spills", "flop/instr", "instructions"]
    rows = [head, *(_cells(kernel) for kernel in kernels)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head) - 1)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=True)]
            + [row[-1]]
        )
        for row in rows
    ]
    warned = [
        f"{kernel.name}: emulated: {', '.join(kernel.emulated)}"
        for kernel in kernels
        if kernel.emulated
    ]
    return "".join(f"{line.rstrip()}\n" for line in [*lines, *warned])


def _kernels(text: str, made: Assembled, listings: Mapping[str, Listing] | None) -> list[Kernel]:
    dynamic = _dynamic_shared(text)
    emulations = emulated(text, listings) if listings is not None else {}
    kernels: list[Kernel] = []
    for name, used in made.kernels.items():
        listing = listings.get(name) if listings is not None else None
        kernels.append(
            Kernel(
                name,
                used.registers,
                used.shared_bytes + dynamic.get(name, 0),
                used.spill_bytes,
                None if listing is None else statistics(listing),
                emulations.get(name, ()),
            )
        )
    return kernels


def _dynamic_shared(text: str) -> dict[str, int]:
    """Bytes of shared memory that launches add, by kernel; nothing if the text has no plan."""
    if not text.startswith(f"{COMMENT['ptx']} {HEADER}"):
        return {}
    steps = plan_from_text(text).steps
    return {step["kernel"]: step.get("shared", 0) for step in steps if step["do"] == "launch"}


def _cells(kernel: Kernel) -> list[str]:
    cells = [kernel.name, *map(str, (kernel.registers, kernel.shared_bytes, kernel.spill_bytes))]
    if kernel.statistics is None:
        return [*cells, "-", "-"]
    mix = kernel.statistics.instruction_mix
    shown = ", ".join(f"{count} {kind}" for kind, count in mix.items())
    return [*cells, f"{kernel.statistics.flop_per_instruction:.1f}", shown]
