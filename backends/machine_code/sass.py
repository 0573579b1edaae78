"""What a cubin holds, as instructions of the machine.

Enters: a cubin. Leaves: the listing of each function, found by `nvdisasm` (the wheel of
`pip install 'hectorite[sass]'`, or one on PATH). `sass_statistics` counts what is in a listing.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hectorite.backends.machine_code.assemble import find_tool
from hectorite.ir.diagnostics import fail


@dataclass(frozen=True)
class Instruction:
    """One machine instruction. `opcode` has its modifiers (`LDG.E.128`); `guard` is `@P0` or ""."""

    address: int
    opcode: str
    operands: str = ""
    guard: str = ""

    @property
    def name(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.split(".", 1)[0]

    @property
    def target(self) -> str | None:
        """The label that the operands name, of a branch or a call."""
        match = _TARGET.search(self.operands)
        return match[1] if match else None


@dataclass
class Listing:
    """One function of a cubin: a kernel, or a routine that kernels call.

    `labels` gives the number of the instruction that each label stands before; `text` is what the
    disassembler printed.
    """

    name: str
    is_kernel: bool = False
    instructions: list[Instruction] = field(default_factory=list[Instruction])
    labels: dict[str, int] = field(default_factory=dict[str, int])
    text: str = ""


def disassemble(cubin: bytes) -> dict[str, Listing]:
    """The functions of a cubin by name, kernels first.

    Raises `HectoriteError` if there is no disassembler, or it refuses the bytes.
    """
    found = read_listing(_printed(cubin))
    return dict(sorted(found.items(), key=lambda item: not item[1].is_kernel))


def read_listing(printed: str) -> dict[str, Listing]:
    """The functions in what `nvdisasm -c` printed."""
    found: dict[str, Listing] = {}
    current: Listing | None = None
    for line in printed.splitlines():
        if match := _SECTION.match(line):
            current = None
            if match[1].startswith("text."):
                name = match[1].removeprefix("text.")
                current = found.setdefault(name, Listing(name))
            continue
        if current is None or not line.strip():
            continue
        current.text += line + "\n"
        if "STO_CUDA_ENTRY" in line:
            current.is_kernel = True
        elif match := _LABEL.match(line):
            current.labels[match[1]] = len(current.instructions)
        elif match := _INSTRUCTION.match(line):
            current.instructions.append(
                Instruction(int(match[1], 16), match[3], match[4].strip(), match[2] or "")
            )
    return found


@cache
def find_nvdisasm() -> str | None:
    """The path of `nvdisasm`: its wheel or a toolkit, else PATH. None if it is nowhere."""
    return find_tool("nvdisasm") or shutil.which("nvdisasm")


def _printed(cubin: bytes) -> str:
    program = find_nvdisasm()
    if program is None:
        raise fail(
            "there is no disassembler on this machine",
            expected="`nvdisasm`",
            hint="pip install 'hectorite[sass]'",
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernels.cubin")
        file.write_bytes(cubin)
        done = subprocess.run([program, "-c", str(file)], capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise fail(f"nvdisasm refuses the cubin: {said[0] if said else 'it gives no reason'}")
    return done.stdout.decode(errors="replace")


_SECTION = re.compile(r"//-+ \.?(\S+)\s+-+")
_LABEL = re.compile(r"^\s*([.$]?[\w$.]+):\s*$")
_INSTRUCTION = re.compile(
    r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:\{\s*)?(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*(.*?)\s*(?:\(\*.*\*\)\s*)?;"
)
_TARGET = re.compile(r"`\((\S+?)\)")
