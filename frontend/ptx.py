"""PTX run without a GPU, as a library: `from hectorite import ptx`.

Enters: PTX text of any compiler, or the path of a file with it. Leaves: kernels that can be called.

    kernels = ptx.load(text)
    kernels["axpy"](grid=(4,), block=(256,), args=[x, y, np.float32(2), np.int32(n)])

Arrays are passed by address and changed in place, NumPy scalars and Python numbers by value, in
the order of the parameters. `kernels["axpy"].check(...)` runs a launch in two orders of its threads
with every check there is and gives what it finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from hectorite.backends.ptx.jit import Allocation, CompiledKernel, Geometry, compile_kernel
from hectorite.backends.ptx.machine import Launch, execute
from hectorite.backends.ptx.watch import Checks, Finding, Traffic
from hectorite.frontend.ptx_launch import (
    Value,
    check_launch,
    signature,
    three_sizes,
    values_of,
)
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, Source, Span, did_you_mean, fail
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.ir.ptx.static import static_findings
from hectorite.ir.ptx.syntax import Function, Variable

__all__ = ["Kernel", "Program", "Report", "load"]

Array = np.ndarray[Any, Any]

MODES = ("auto", "compiled", "lockstep", "sequential")
"""How a kernel can run; "auto" is compiled, or lockstep where an instruction has no code."""

ORDERS = ("lockstep", "sequential")
"""The orders of threads that `check` compares."""


@dataclass
class Report:
    """What a check found, in the order of the text; `traffic` counts memory requests by line."""

    findings: list[Finding] = field(default_factory=list[Finding])
    traffic: list[Traffic] = field(default_factory=list[Traffic])


class Kernel:
    """One kernel of a program. Call it to run it."""

    def __init__(self, program: Program, function: Function):
        self._program, self._function = program, function
        self._compiled: dict[bool, CompiledKernel | HectoriteError] = {}

    @property
    def name(self) -> str:
        return self._function.name

    @property
    def parameters(self) -> tuple[Variable, ...]:
        """The parameters in order, each with its name, type and count."""
        return self._function.parameters

    def __repr__(self) -> str:
        return signature(self._function)

    def __call__(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[Any] = (),
        shared: int = 0,
        *,
        mode: str = "auto",
        check: bool = True,
    ) -> None:
        """Run the kernel; arrays among `args` are changed in place.

        `grid` counts blocks, `block` threads of a block, one to three sizes each; `shared` is the
        shared memory sized by the launch, in bytes. With `check`, an access outside of the arrays
        or misaligned raises `HectoriteError` with the line of the PTX; so do, in the lockstep and
        sequential modes, races, divergent barriers and reads of what nobody wrote. A compiled
        kernel without `check` is faster, and wrong accesses can end the process.
        """
        launch = self._launch(grid, block, args, shared)
        if mode not in MODES:
            raise fail(
                f"unknown mode `{mode}`", expected=", ".join(MODES), hint=did_you_mean(mode, MODES)
            )
        if mode in ("auto", "compiled"):
            compiled = self._compile(check)
            if isinstance(compiled, CompiledKernel):
                launch.run(compiled)
                return
            if mode == "compiled":
                raise compiled
        order = "lockstep" if mode == "auto" else mode
        checks = Checks() if check else None
        report = execute(launch.executable(self._program), order, checks)
        if report.findings:
            raise HectoriteError([self._program.diagnostic(f) for f in report.findings])

    def check(
        self,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[Any] = (),
        shared: int = 0,
        *,
        traffic: bool = False,
    ) -> Report:
        """What is wrong with a launch: in the text, and seen while it runs in several orders.

        The arguments stay as they are. With `traffic`, memory requests are counted as well.
        """
        launch = self._launch(grid, block, args, shared)
        found: dict[tuple[int, str], Finding] = {}
        for static in static_findings(self._program.module, self.name):
            found[static.line, static.kind] = Finding(static.kind, static.line, static.message)
        results: list[list[Array] | None] = []
        counted: list[Traffic] = []
        for order in ORDERS:
            copy = launch.copied()
            checks = Checks(traffic=traffic and order == "lockstep")
            try:
                report = execute(copy.executable(self._program), order, checks)
            except HectoriteError as error:
                results.append(None)
                for finding in _failures(error):
                    found.setdefault((finding.line, finding.kind), finding)
                continue
            results.append(copy.arrays)
            counted = counted or report.traffic
            for finding in report.findings:
                found.setdefault((finding.line, finding.kind), finding)
        for finding in _differences(results, self._function):
            found.setdefault((finding.line, finding.kind), finding)
        ordered = sorted(found.values(), key=lambda f: (f.line, f.kind))
        return Report(ordered, counted)

    def _launch(self, grid: Any, block: Any, args: Sequence[Any], shared: Any) -> _Launch:
        grids, blocks = three_sizes(grid, "grid"), three_sizes(block, "block")
        dynamic = check_launch(self._function, blocks, shared)
        values = values_of(self._function, args)
        return _Launch(self.name, Geometry(grids, blocks, dynamic), values)

    def _compile(self, check: bool) -> CompiledKernel | HectoriteError:
        """Machine code, or why there is none."""
        if check not in self._compiled:
            program = self._program
            try:
                made = compile_kernel(program.module, self.name, program.source, check)
            except HectoriteError as error:
                made = error
            self._compiled[check] = made
        return self._compiled[check]


@dataclass
class _Launch:
    """A launch with everything checked. Each value is an array or the bytes of a number."""

    kernel: str
    geometry: Geometry
    values: list[Value]

    @property
    def arrays(self) -> list[Array]:
        return [value for value in self.values if isinstance(value, np.ndarray)]

    def copied(self) -> _Launch:
        """The same launch on arrays of its own; arrays that share memory still do."""
        copies = copy_arrays(self.arrays)
        values = [copies.pop(0) if isinstance(v, np.ndarray) else v for v in self.values]
        return _Launch(self.kernel, self.geometry, values)

    def executable(self, program: Program) -> Launch:
        geometry = self.geometry
        return Launch(
            program.module,
            self.kernel,
            geometry.grid,
            geometry.block,
            self.values,
            geometry.shared,
            program.source,
        )

    def run(self, compiled: CompiledKernel) -> None:
        parameters = bytearray(compiled.parameters.end)
        for name, value in zip(compiled.parameter_order, self.values, strict=True):
            start = compiled.parameters.offsets[name]
            data = (
                value.ctypes.data.to_bytes(8, "little") if isinstance(value, np.ndarray) else value
            )
            parameters[start : start + len(data)] = data
        allocations = [Allocation(array.ctypes.data, array.nbytes) for array in self.arrays]
        compiled.launch(self.geometry, bytes(parameters), allocations)


class Program(Mapping[str, Kernel]):
    """The kernels of one PTX text, by name."""

    def __init__(self, text: str, name: str):
        self.source = Source(name, text)
        self.module = parse_ptx(text, name)
        self.kernels = {f.name: Kernel(self, f) for f in self.module.entries}

    def __getitem__(self, name: str) -> Kernel:
        if name not in self.kernels:
            known = ", ".join(self.kernels) or "none"
            raise fail(
                f"{self.source.name} has no kernel `{name}`",
                expected=f"one of: {known}",
                hint=did_you_mean(name, self.kernels),
            )
        return self.kernels[name]

    def __contains__(self, name: object) -> bool:
        return name in self.kernels

    def __iter__(self) -> Iterator[str]:
        return iter(self.kernels)

    def __len__(self) -> int:
        return len(self.kernels)

    def __repr__(self) -> str:
        return f"<{self.source.name}: {', '.join(map(repr, self.kernels.values()))}>"

    def diagnostic(self, finding: Finding) -> Diagnostic:
        """A finding as a message that shows its line."""
        lines = self.source.lines
        text = lines[finding.line - 1] if 1 <= finding.line <= len(lines) else ""
        start = len(text) - len(text.lstrip()) + 1
        span = Span(finding.line, start, finding.line, max(len(text.rstrip()) + 1, start + 1))
        times = f" ({finding.count} times)" if finding.count > 1 else ""
        shown = span if finding.line else None
        return Diagnostic(f"{finding.kind}: {finding.message}{times}", shown, self.source)


def load(program: str | bytes | PathLike[str], name: str | None = None) -> Program:
    """The kernels of PTX text, or of the file at a path. `name` is what messages call the text.

    A string with a line break or `.version` in it is text, any other the path of a file. Raises
    `HectoriteError` if there is no such file, or it is no PTX.
    """
    if isinstance(program, bytes):
        program = _decoded(program.rstrip(b"\0"), name or "<ptx>")
    if isinstance(program, str) and ("\n" in program or ".version" in program):
        return Program(program, name or "<ptx>")
    if not isinstance(program, str | PathLike):
        raise fail(f"`{type(program).__name__}` is no PTX", expected="text, or the path of a file")
    path = Path(program)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise fail(f"cannot read {path}: {reason}") from None
    return Program(_decoded(data, str(path)), name or str(path))


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        hint = "a cubin or fatbin holds machine code; compile with `nvcc -ptx`"
        raise fail(f"{name} is no text", expected="PTX", hint=hint) from None


def copy_arrays(arrays: Sequence[Array]) -> list[Array]:
    """Copies of contiguous arrays; those that overlap in memory overlap in the copies alike."""
    spans = sorted((a.ctypes.data, a.ctypes.data + a.nbytes, i) for i, a in enumerate(arrays))
    copies: dict[int, Array] = {}
    position = 0
    while position < len(spans):
        start, end, _ = spans[position]
        group = [spans[position]]
        while position + len(group) < len(spans) and spans[position + len(group)][0] < end:
            group.append(spans[position + len(group)])
            end = max(end, group[-1][1])
        memory = np.zeros(end - start, np.uint8)
        for first, last, index in group:
            array = arrays[index]
            part = memory[first - start : last - start]
            part[:] = array.reshape(-1).view(np.uint8)
            copies[index] = part.view(array.dtype).reshape(array.shape)
        position += len(group)
    return [copies[index] for index in range(len(arrays))]


def _failures(error: HectoriteError) -> Iterator[Finding]:
    """What stopped a schedule, as findings."""
    for diagnostic in error.diagnostics:
        line = diagnostic.span.line if diagnostic.span else 0
        yield Finding("stopped", line, diagnostic.message)


def _differences(results: Sequence[list[Array] | None], kernel: Function) -> Iterator[Finding]:
    """Arrays whose contents depend on the order in which threads run."""
    finished = [result for result in results if result is not None]
    if not finished:
        return
    for other in finished[1:]:
        for number, (first, second) in enumerate(zip(finished[0], other, strict=True)):
            if not _alike(first, second):
                count = int(np.sum(_octets(first) != _octets(second)))
                message = (
                    f"array {number} depends on the order in which threads run: {count} bytes of "
                    f"{first.nbytes} differ; a barrier may be missing"
                )
                yield Finding("order", kernel.line, message)
                return


def _octets(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


TOLERANCE = {2: 2e-2, 4: 1e-3, 8: 1e-9}
"""Sums by atomics differ by their rounding; more is another result."""


def _alike(first: Array, second: Array) -> bool:
    """Whether two results are equal, floats up to the rounding of sums."""
    if np.array_equal(_octets(first), _octets(second)):
        return True
    is_float = first.dtype.kind == "f" or first.dtype.name in ("bfloat16",)
    if not is_float:
        return False
    wide = [array.astype(np.float64) for array in (first, second)]
    finite = np.isfinite(wide[0])
    largest = float(np.max(np.abs(wide[0][finite]), initial=0.0))
    near = TOLERANCE.get(first.dtype.itemsize, 1e-1)
    return bool(np.allclose(wide[0], wide[1], rtol=near, atol=near * largest, equal_nan=True))
