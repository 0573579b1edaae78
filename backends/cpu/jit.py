"""LLVM IR text to machine code of this computer, in memory, and back out as assembly.

Enters: LLVM IR or assembly text. Leaves: the bytes of an object file (what the cache keeps),
assembly text (what `emit --level asm` prints), or loaded `Code` whose functions ctypes can call.

    object_code = compile_object(ir_text)                # bytes, good for this host only
    code = load(object_code, ["main"], cpu_threads.symbols())
    main = code.function("main", None, ctypes.c_void_p)  # keeps the machine code alive

The code is for the host's CPU with all its features and full vector width. Calls made through
ctypes release the interpreter lock.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import re
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from hectorite.ir.diagnostics import HectoriteError, Source, Span, fail

LIBM = ("exp", "log", "sin", "cos", "tanh", "erf", "erfc", "pow", "fmod", "fma")
LIBM_ROUNDING = ("floor", "ceil", "trunc", "rint", "nearbyint", "roundeven")
LIBC = ("memcpy", "memset", "memmove", "malloc", "free")


@dataclass(frozen=True)
class Host:
    """The machine that code is generated for. `features` is LLVM's comma-separated list."""

    triple: str
    cpu: str
    features: str

    def __str__(self) -> str:
        return f"{self.triple} {self.cpu} {self.features}"


@cache
def host() -> Host:
    """This computer, as LLVM names it."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        # Several 512-bit CPUs are tuned for 256-bit code by default; the kernels choose widths.
        features["prefer-256-bit"] = False
    return Host(llvm.get_process_triple(), llvm.get_host_cpu_name(), features.flatten())


@cache
def target_machine() -> llvm.TargetMachine:
    """LLVM's code generator for the host: position independent, small code model."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    machine = host()
    return llvm.Target.from_triple(machine.triple).create_target_machine(
        cpu=machine.cpu, features=machine.features, opt=3, reloc="pic", codemodel="small"
    )


def optimise(text: str, name: str = "module.ll") -> str:
    """The LLVM IR that the optimiser makes of LLVM IR `text`."""
    return str(_optimised(text, name))


def compile_object(text: str, name: str = "module.ll") -> bytes:
    """Machine code of a module of LLVM IR `text`, as the bytes of an object file.

    `name` is what messages call the text. Raises `HectoriteError` if it is not valid IR.
    """
    return target_machine().emit_object(_optimised(text, name))


def compile_assembly(text: str, name: str = "module.ll") -> str:
    """The assembly text of what `compile_object` makes of `text`."""
    return target_machine().emit_assembly(_optimised(text, name))


def assemble(text: str, name: str = "module.s") -> bytes:
    """The object file that assembly `text` stands for.

    LLVM ends the process at a fault in assembly text, so it is assembled in a process of its own.
    Raises `HectoriteError` naming the first fault.
    """
    command = [sys.executable, "-m", "hectorite.backends.cpu.jit"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode == 0:
        return done.stdout
    said = done.stderr.decode(errors="replace")
    raise _located(said, name, text)


class Code:
    """Machine code in memory. It is freed when neither this nor a `function` of it is left."""

    def __init__(self, tracker: llvm.orcjit.ResourceTracker, entries: Iterable[str]):
        self._tracker = tracker
        self._addresses = {entry: int(tracker[entry]) for entry in entries}

    def keep(self) -> None:
        """Leave the code in memory until the process ends: its own threads may run it."""
        self._tracker._owned = True

    def address(self, entry: str) -> int:
        """Where the function `entry` begins; valid as long as this object lives."""
        return self._addresses[entry]

    def function(self, entry: str, result: Any, *arguments: Any) -> Any:
        """The function `entry` as a ctypes callable with these result and argument types."""
        callable_ = ctypes.CFUNCTYPE(result, *arguments)(self._addresses[entry])
        callable_.code = self
        return callable_


def load(
    object_code: bytes, entries: Sequence[str], symbols: Mapping[str, int] | None = None
) -> Code:
    """Put the bytes of an object file into memory, ready to be called.

    `entries` are the functions wanted. `symbols` gives addresses for names the code refers to,
    besides those of the C mathematics library. Raises `HectoriteError` if a name is missing or
    the bytes are no object file of this machine.
    """
    builder = llvm.JITLibraryBuilder().add_object_img(object_code)
    for symbol, address in {**c_symbols(), **(symbols or {})}.items():
        builder.import_symbol(symbol, address)
    for entry in entries:
        builder.export_symbol(entry)
    with _LINK_LOCK:
        try:
            tracker = builder.link(_linker(), f"hectorite{next(_SERIAL)}")
        except RuntimeError as error:
            raise fail(
                "this machine code cannot be loaded",
                expected=f"the functions {', '.join(entries)}, and no others referred to "
                "than those of the C mathematics library and of the run-time system",
                hint=str(error),
            ) from None
    _LOADED.add(tracker)
    return Code(tracker, entries)


@cache
def c_symbols() -> dict[str, int]:
    """Addresses of the C library's functions that generated code may call."""
    names = [name + suffix for name in (*LIBM, *LIBM_ROUNDING) for suffix in ("", "f")]
    libraries = [ctypes.CDLL(name) for name in _C_LIBRARIES.get(sys.platform, (None,))]
    found: dict[str, int] = {}
    for name in (*names, *LIBC):
        for library in libraries:
            if hasattr(library, name):
                found[name] = address_of(getattr(library, name))
                break
    return found


def address_of(function: Any) -> int:
    """Where a ctypes function begins."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


_C_LIBRARIES: dict[str, tuple[str | None, ...]] = {
    "linux": (None, "libm.so.6"),
    "win32": ("ucrtbase", "vcruntime140"),
}
_LINK_LOCK = threading.Lock()
_SERIAL = itertools.count()
_LOADED: weakref.WeakSet[llvm.orcjit.ResourceTracker] = weakref.WeakSet()


@cache
def _linker() -> llvm.orcjit.LLJIT:
    target_machine()
    # The linker keeps all sections of an object within reach of the small code model.
    contiguous = sys.platform != "win32"
    linker = llvm.create_lljit_compiler(None, use_jit_link=contiguous, suppress_errors=True)
    linker._owned = True  # the process ends with it: worker threads may still be inside
    return linker


@atexit.register
def _leave_code_in_place() -> None:
    """At exit, threads may still run loaded code; the system frees it after they ended."""
    for tracker in list(_LOADED):
        tracker._owned = True


def _optimised(text: str, name: str) -> llvm.ModuleRef:
    machine = target_machine()
    try:
        # LLVM reads up to a zero byte; another control character is the error that it should be.
        module = llvm.parse_assembly(text.replace("\0", "\1"))
        module.verify()
    except RuntimeError as error:
        raise _located(str(error), name, text) from None
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module


def _located(said: str, name: str, text: str) -> HectoriteError:
    """What LLVM said about `text`, as a diagnostic at the place it names."""
    source = Source(name, text)
    place = re.search(r"<(?:string|inline asm)>:(\d+):(\d+): (?:error: )?(.*)", said)
    if place is None:
        reasons = [line for line in said.splitlines() if line.strip()]
        return fail(reasons[0] if reasons else "LLVM rejects it without a reason", source=source)
    line, column = int(place[1]), int(place[2])
    return fail(place[3], span=Span(line, column, line, column + 1), source=source)


def _main() -> None:
    """The assembling process: assembly text on standard input, an object file on output."""
    lines = sys.stdin.buffer.read().split(b"\n")
    escaped = ("".join(f"\\{byte:02x}" for byte in line) for line in lines)
    module = llvm.parse_assembly("\n".join(f'module asm "{line}"' for line in escaped))
    sys.stdout.buffer.write(target_machine().emit_object(module))


if __name__ == "__main__":
    _main()
