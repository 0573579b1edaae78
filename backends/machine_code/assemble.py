"""PTX text to machine code, without a GPU or its driver.

Enters: PTX text and the target. Leaves: a cubin, and what each kernel takes of the machine:
registers, shared memory, spills. nvJitLink does it inside this process where its wheel is
installed (`pip install 'hectorite[asm]'`), else a `ptxas` that is found on the machine.

What the assembler finds wrong becomes diagnostics at the lines of the PTX, each with the statement
that produced its line where comments in the text tell (`ir/ptx/origin.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from hectorite.ir.diagnostics import Diagnostic, HectoriteError, Source, Span, fail
from hectorite.ir.ptx.origin import statement_of
from hectorite.ir.target import target as target_named

VARIABLE = "HECTORITE_ASSEMBLER"
"""The environment variable that chooses one of ASSEMBLERS."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes: registers of a thread, bytes of static shared memory of a block,
    bytes of spill stores and loads together, bytes of stack of a thread, barriers of a block."""

    registers: int
    shared_bytes: int
    spill_bytes: int
    stack_bytes: int
    barriers: int


@dataclass(frozen=True)
class Assembled:
    """Machine code of one PTX module, and its kernels by name in the order of the text."""

    cubin: bytes
    kernels: Mapping[str, Resources]
    log: str


def assemble(
    text: str, target: str, name: str = "<ptx>", assembler: str | None = None
) -> Assembled:
    """Assemble PTX text for a target such as "sm_90".

    `name` is what messages call the text; `assembler` is one of ASSEMBLERS, by default the first
    that is installed. Raises `HectoriteError` for an unknown target, for what is wrong in the text
    (one diagnostic for each line that the assembler refuses), and if there is no assembler.
    """
    architecture = target_named(target).name
    chosen = assembler or os.environ.get(VARIABLE) or _first_installed()
    if chosen not in ASSEMBLERS:
        raise fail(f"there is no assembler `{chosen}`", expected=f"one of {', '.join(ASSEMBLERS)}")
    if not _VERSION.search(text):
        raise fail("this is not PTX: it has no `.version`", source=Source(name, text))
    # Assemblers refuse other letters even in comments.
    ascii_text = text.encode("ascii", "replace").decode("ascii")
    ok, cubin, log = ASSEMBLERS[chosen](ascii_text, architecture)
    if not ok:
        raise HectoriteError(faults(log, Source(name, text)))
    found = _resources(log)
    order = [kernel for kernel in _ENTRY.findall(text) if kernel in found]
    return Assembled(cubin, {kernel: found[kernel] for kernel in order}, log)


def installed() -> tuple[str, ...]:
    """The assemblers that this machine has, the preferred one first."""
    have = {"nvjitlink": _nvjitlink() is not None, "ptxas": find_ptxas() is not None}
    return tuple(name for name in ASSEMBLERS if have[name])


@cache
def find_ptxas() -> str | None:
    """The path of `ptxas`: on PATH, or where the wheels and toolkits of CUDA put it."""
    return shutil.which("ptxas") or find_tool("ptxas")


def find_tool(name: str) -> str | None:
    """A program of the CUDA toolkit as cuda-python finds it, None if it is nowhere."""
    try:
        found: str | None = import_module("cuda.pathfinder").find_nvidia_binary_utility(name)
    except ImportError:
        return None
    return found


def _first_installed() -> str:
    found = installed()
    if not found:
        raise fail(
            "there is no assembler for PTX on this machine",
            expected="nvJitLink, or a `ptxas` on PATH",
            hint="pip install 'hectorite[asm]'",
        )
    return found[0]


@cache
def _nvjitlink() -> Any | None:
    """The bindings of nvJitLink if the library can be loaded."""
    try:
        nvjitlink = import_module("cuda.bindings.nvjitlink")
        nvjitlink.version()
    except Exception:  # a missing library, or one that the bindings do not know
        return None
    return nvjitlink


def _by_nvjitlink(text: str, architecture: str) -> tuple[bool, bytes, str]:
    linker = _nvjitlink()
    if linker is None:
        raise fail("nvJitLink is not installed", hint="pip install 'hectorite[asm]'")
    options = [f"-arch={architecture}", "-verbose"]
    data = text.encode()
    try:
        handle = linker.create(len(options), options)
    except linker.nvJitLinkError as error:
        raise fail(f"this nvJitLink has no target {architecture}: {error}") from error
    try:
        linker.add_data(handle, linker.InputType.PTX, data, len(data), "kernels.ptx")
        linker.complete(handle)
        log = _log(handle, linker.get_info_log_size, linker.get_info_log)
        cubin = bytearray(linker.get_linked_cubin_size(handle))
        linker.get_linked_cubin(handle, cubin)
        return True, bytes(cubin), log
    except linker.nvJitLinkError as error:
        said = _log(handle, linker.get_error_log_size, linker.get_error_log)
        return False, b"", said or str(error)
    finally:
        linker.destroy(handle)


def _log(handle: Any, size: Callable[[Any], int], read: Callable[[Any, bytearray], Any]) -> str:
    length = size(handle)
    if length <= 1:
        return ""
    buffer = bytearray(length)
    read(handle, buffer)
    return buffer.decode(errors="replace").rstrip("\0\n")


def _by_ptxas(text: str, architecture: str) -> tuple[bool, bytes, str]:
    program = find_ptxas()
    if program is None:
        raise fail("there is no `ptxas` on this machine", hint="pip install 'hectorite[asm]'")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "kernels.cubin")
        command = [program, "-v", "-arch", architecture, "-", "-o", str(made)]
        done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
        log = done.stderr.decode(errors="replace")
        return done.returncode == 0, made.read_bytes() if done.returncode == 0 else b"", log


ASSEMBLERS: Mapping[str, Callable[[str, str], tuple[bool, bytes, str]]] = {
    "nvjitlink": _by_nvjitlink,
    "ptxas": _by_ptxas,
}
"""Each assembler: text and architecture to success, cubin and log."""

_ENTRY = re.compile(r"\.entry\s+([\w$%]+)")
_VERSION = re.compile(r"^\s*\.version\s", re.MULTILINE)
_COMPILING = re.compile(r"Compiling entry function '([^']+)'")
_LINKED = re.compile(r"Function properties for '([^']+)':\s*info\s*: used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_BARRIERS = re.compile(r"used (\d+) barriers")
_SHARED = re.compile(r"(\d+) bytes smem")


def _resources(log: str) -> dict[str, Resources]:
    """What the log of an assembler says of each kernel.

    After the compiler's own lines nvJitLink adds what linking made of the registers.
    """
    linked = {match[1]: int(match[2]) for match in _LINKED.finditer(log)}
    compiled = log[: first.start()] if (first := _LINKED.search(log)) else log
    found: dict[str, Resources] = {}
    starts = list(_COMPILING.finditer(compiled))
    ends = [match.start() for match in starts[1:]] + [len(compiled)]
    for match, end in zip(starts, ends, strict=False):
        part = compiled[match.end() : end]
        spills = _SPILLS.search(part)
        stack, stores, loads = (int(n) for n in spills.groups()) if spills else (0, 0, 0)
        registers = linked.get(match[1], _number(_USED, part))
        found[match[1]] = Resources(
            registers, _number(_SHARED, part), stores + loads, stack, _number(_BARRIERS, part)
        )
    return found


def _number(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return int(match[1]) if match else 0


_FAULT = re.compile(r"^(?:ptxas )?(?:.*, line (\d+); )?(error|fatal)\s*: (.*)$", re.MULTILINE)
_SUMMARY = "Ptx assembly aborted due to errors"


def faults(log: str, source: Source) -> list[Diagnostic]:
    """The errors in a log, each at its line of the PTX text."""
    found = [
        _fault(int(match[1]) if match[1] else None, match[3].strip(), source)
        for match in _FAULT.finditer(log)
        if match[3].strip() != _SUMMARY
    ]
    if found:
        return found
    said = next((line for line in log.splitlines() if line.strip()), "it gives no reason")
    return [Diagnostic(f"the assembler refuses the text: {said.strip()}", source=source)]


def _fault(line: int | None, message: str, source: Source) -> Diagnostic:
    if line is None or not 1 <= line <= len(source.lines):
        return Diagnostic(f"the assembler says: {message}", source=source)
    shown = source.lines[line - 1]
    start = len(shown) - len(shown.lstrip()) + 1
    span = Span(line, start, line, max(len(shown.rstrip()) + 1, start + 1))
    origin = statement_of(source.text, line)
    hint = None if origin is None else f"the line comes from {origin}"
    return Diagnostic(f"the assembler says: {message}", span, source, hint=hint)
