"""A compiled program as Python sees it: bind its sets, call its functions.

Enters: what `Facts` holds about a program, and a way to build machine code for one function and
known sizes. Leaves: results of calls. Code is built when a function first meets arguments of some
sizes, and kept. Nothing here needs the IR, so that a program from the cache starts at once.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hectorite.backends.arrays import Dims, as_array, to_numpy
from hectorite.backends.bound.binding import Binding
from hectorite.backends.bound.cardinalities import cardinalities
from hectorite.backends.formats.operands import Operand, bind_operands, is_stored, stored_as
from hectorite.frontend.compiled.executable import Executable
from hectorite.frontend.compiled.facts import Facts, Sizes
from hectorite.frontend.compiled.range_checks import run_checks
from hectorite.frontend.compiled.recent_calls import MOST, RecentCall, to_torch
from hectorite.frontend.compiled.signature import Parameter, Signature
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, Report, did_you_mean, fail
from hectorite.ir.element import ElementType
from hectorite.ir.identity import by_identity
from hectorite.ir.schema import Schema

if TYPE_CHECKING:
    from hectorite.backends.cuda.graph import CudaGraph
    from hectorite.frontend.compiled.gpu_targets import CudaFunction

Array = np.ndarray[Any, Any]


Build = Callable[[str, Sizes, tuple[str, ...]], Executable]
"""Builds one function for given values of its sizes and what is known of the data."""

Choose = Callable[[str, Binding], tuple[str, ...]]
"""From the name of a function and bound data to more that is known of the data."""

MOST_VARIANTS = 4
"""So many variants of a function are built for data of different proportions; further data runs
on the last."""


class Intake(Protocol):
    """How a target takes the arrays of a caller."""

    def take(self, value: Any, element: ElementType, dims: Dims, name: str) -> Any:
        """An argument, checked; it has a `shape`. Raises `HectoriteError` if it is wrong."""
        ...

    def output(self, value: Any) -> Any:
        """An array to write to, of which `shape` and `dtype` are still to be checked. Raises
        `TypeError` with a reason if it is none."""
        ...

    def overlap(self, output: Any, argument: Any) -> bool:
        """Whether both may share memory."""
        ...


class HostArrays:
    """Arrays in the memory of the host."""

    def take(self, value: Any, element: ElementType, dims: Dims, name: str) -> Array:
        return as_array(value, element, dims, name)

    def output(self, value: Any) -> Array:
        return to_numpy(value)

    def overlap(self, output: Array, argument: Array) -> bool:
        return np.may_share_memory(output, argument)


HOST = HostArrays()


class Program:
    """Functions that were compiled together, over the same sets.

        prog = hectorite.compile("rgat.hec")
        G = prog.bind(edge={"src": s, "dst": d, "type": t}, node=7262, etype=104)
        y = prog.rgat(G, h=h, W=W, al=al, ar=ar)

    Each function is an attribute; `prog["name"]` reaches those with the name of a method.
    """

    def __init__(self, name: str, facts: Facts, build: Build, sizes: Sizes, intake: Intake = HOST):
        self.name = name
        self.schema = facts.schema
        self.warnings = facts.warnings
        self.functions = {
            name: Function(signature, facts, build, sizes, intake)
            for name, signature in facts.signatures.items()
        }

    def bind(self, /, **sets: Any) -> Binding:
        """Bind every set to data, once for all functions and calls.

        A set without fields takes its number of elements; one with fields a mapping from each field
        to an array int32[elements] (int64 is checked and narrowed) of positions in the target set.
        Derived sets are built, and the adjacency that functions compiled so far ask for. Raises
        `HectoriteError` listing every fault in the data.
        """
        binding = Binding(self.schema, sets)
        for function in self.functions.values():
            function.prepare(binding)
        return binding

    def __getitem__(self, name: str) -> Function:
        if name not in list(self.functions):
            raise fail(
                f"{self.name} has no function `{name}`",
                expected=f"one of {', '.join(f'`{n}`' for n in self.functions) or 'none at all'}",
                hint=did_you_mean(name, self.functions),
            )
        return self.functions[name]

    def __getattr__(self, name: str) -> Function:
        functions = self.__dict__.get("functions", {})
        if name in functions:
            return functions[name]
        hint = did_you_mean(name, functions)
        message = f"the program has no function `{name}`"
        raise AttributeError(f"{message}; {hint}" if hint else message)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.functions]

    def __repr__(self) -> str:
        lines = [f"  {function.signature}" for function in self.functions.values()]
        return "\n".join([f"<program {self.name}", *lines]) + ">"


@dataclass
class Function:
    """One function of a program; calling it runs it. `sizes` are those given when compiling."""

    signature: Signature
    facts: Facts
    build: Build
    sizes: Sizes
    intake: Intake = field(default=HOST, repr=False)
    eager: bool = field(default=False, repr=False)
    """Whether it is built as soon as data is bound, if all its sizes are known then."""
    choose: Choose | None = field(default=None, repr=False)
    """What else is to be found out about bound data: formats that are chosen by it."""
    _built: dict[tuple[tuple[int, ...], tuple[str, ...]], Executable] = field(
        default_factory=dict[tuple[tuple[int, ...], tuple[str, ...]], Executable], repr=False
    )
    _checked: weakref.WeakKeyDictionary[Binding, set[tuple[int, ...]]] = field(
        default_factory=weakref.WeakKeyDictionary[Binding, set[tuple[int, ...]]], repr=False
    )
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _recent: tuple[RecentCall, ...] = field(default=(), repr=False)
    _nothing: Binding | None = field(default=None, repr=False)
    """What a program without sets is bound to."""

    def __call__(self, binding: Binding | None = None, /, *unnamed: Any, **arguments: Any) -> Any:
        """Run the function.

        The binding comes first (a program without sets needs none), then every tensor and scalar by
        name: NumPy, torch, or anything with the buffer protocol or DLPack, C-contiguous if it is
        not to be copied, of exactly the declared shape and type. `out=` gives an array (or a tuple,
        one for each result) to write to; it must not overlap an argument. With the target "cuda",
        `stream=` names the stream to work on. Returns an array, or a tuple of them; torch tensors
        if an argument was one, and arrays on the device if one was there. Raises `HectoriteError`
        naming every argument that is missing, unknown or wrong, before anything runs.
        """
        if unnamed:
            names = ", ".join(f"{name}=..." for name in self.signature.names)
            raise fail(
                f"`{self.signature.name}` was given {len(unnamed) + 1} arguments without a name",
                expected="the binding alone; tensors and scalars are given by name",
                hint=f"{self.signature.name}(G, {names})",
            )
        binding = self._nothing if binding is None else binding
        given_out = None
        if "out" in arguments and "out" not in self.signature.names:
            given_out = arguments.pop("out")
        results = self.repeat(binding, arguments, given_out)
        if results is not None:
            return results
        stream = None if "stream" in self.signature.names else arguments.pop("stream", None)
        executable, bound, values, sizes = self._ready(binding, arguments)
        out = None if given_out is None else self._outputs(given_out, bound, values, sizes)
        if stream is not None:
            executable = self._gpu_only(executable, "streams").on(stream)
        results = executable(bound, values, sizes, out)
        if stream is None:
            self._remember(RecentCall.of(self.signature, bound, arguments, executable, sizes))
        if given_out is not None:
            return given_out
        torch = sys.modules.get("torch")
        if torch is not None and any(isinstance(v, torch.Tensor) for v in arguments.values()):
            results = to_torch(results)
        return results[0] if len(results) == 1 else results

    def repeat(self, binding: Binding | None, arguments: dict[str, Any], out: Any = None) -> Any:
        """The results of a call that is like an earlier one, else None."""
        for recent in self._recent:
            results = recent.repeat(binding, arguments, out)
            if results is not None:
                return results
        return None

    def _remember(self, call: RecentCall | None) -> None:
        """Let later calls like this one be made without checks."""
        if call is not None:
            others = [known for known in self._recent if known.binding is not None]
            self._recent = (call, *others[: MOST - 1])

    def graph(self, binding: Binding | None = None, /, **arguments: Any) -> CudaGraph:
        """Run the function once and record it as a CUDA graph; target "cuda" only.

        Takes what calling takes; tensors have to be on the device. The graph's `replay(stream=)`
        runs the call again on what the tensors hold by then, and returns the arrays of its
        `results`, which are the same each time. Raises `HectoriteError` as calling does.
        """
        stream = None if "stream" in self.signature.names else arguments.pop("stream", None)
        executable, bound, values, sizes = self._ready(binding, arguments)
        gpu = self._gpu_only(executable, "graphs")
        return (gpu if stream is None else gpu.on(stream)).capture(bound, values, sizes)

    def seconds(
        self, binding: Binding | None = None, /, rounds: int = 20, **arguments: Any
    ) -> list[float]:
        """What each of `rounds` calls takes by the clock of the device; target "cuda" only.

        Takes what calling takes, and raises as it does. Arguments in host memory are copied by each
        call, which counts.
        """
        stream = None if "stream" in self.signature.names else arguments.pop("stream", None)
        executable, bound, values, sizes = self._ready(binding, arguments)
        gpu = self._gpu_only(executable, "times by events")
        return (gpu if stream is None else gpu.on(stream)).seconds(bound, values, sizes, rounds)

    def _ready(
        self, binding: Binding | None, arguments: Mapping[str, Any]
    ) -> tuple[Executable, Binding, dict[str, Any], Sizes]:
        """Everything that a call needs, checked."""
        bound = self.bound(binding)
        values, sizes = self.take(bound, arguments)
        self.check_ranges(bound, sizes)
        executable = self.executable(sizes, self.known(bound))
        return executable, bind_operands(bound, values, self.signature.name), values, sizes

    def _gpu_only(self, executable: Executable, what: str) -> CudaFunction:
        if executable.on_gpu is None:
            raise fail(f"{what} are for programs on a GPU", hint='compile with target="cuda"')
        return executable.on_gpu

    def take(
        self, binding: Binding, arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Array], Sizes]:
        """The arguments as arrays, and the value of every size. Raises as calling does."""
        report = Report()
        names = self.signature.names
        for name in arguments:
            if name not in names:
                listed = ", ".join(f"`{n}`" for n in names) or "none"
                report.add(
                    Diagnostic(
                        f"`{self.signature.name}` has no parameter `{name}`",
                        expected=f"parameters: {listed}",
                        hint=did_you_mean(name, [n for n in names if n not in arguments]),
                    )
                )
        values = dict[str, Any]()
        sizes = dict(self.sizes)
        for parameter in self.signature.parameters:
            if parameter.name not in arguments:
                report.add(Diagnostic(f"`{parameter.name}` is missing", expected=str(parameter)))
                continue
            dims = [(str(dim), self._extent(dim, binding, sizes)) for dim in parameter.dims]
            given = arguments[parameter.name]
            try:
                if is_stored(parameter.format):
                    array = stored_as(
                        given, parameter.format, parameter.element, dims, parameter.name
                    )
                    values |= array.parts(parameter.name)
                else:
                    array = self.intake.take(given, parameter.element, dims, parameter.name)
            except HectoriteError as error:
                for diagnostic in error.diagnostics:
                    report.add(diagnostic)
                continue
            values[parameter.name] = array
            for (name, known), length in zip(dims, array.shape, strict=True):
                if known is None and sizes.setdefault(name, length) != length:
                    message = f"`{parameter.name}` has both {sizes[name]} and {length} for `{name}`"
                    report.add(Diagnostic(message, expected=str(parameter)))
        report.raise_errors()
        return values, self._complete(sizes)

    def executable(self, sizes: Sizes, known: tuple[str, ...] = ()) -> Executable:
        """The code for these sizes and data of these numbers of elements, built if this is the
        first time."""
        values = tuple(sizes[name] for name in self.signature.sizes)
        if (values, known) not in self._built:
            with self._lock:
                if (values, known) not in self._built:
                    self._built[values, known] = self._new(values, known)
        return self._built[values, known]

    def _new(self, values: tuple[int, ...], known: tuple[str, ...]) -> Executable:
        others = [code for (own, data), code in self._built.items() if own == values and data]
        if len(others) >= MOST_VARIANTS:
            return others[-1]
        wanted = dict(zip(self.signature.sizes, values, strict=True))
        return self.build(self.signature.name, wanted, known)

    @property
    def depends_on_data(self) -> bool:
        """Whether numbers of elements decide how the function is rewritten."""
        return bool(self.facts.counted.get(self.signature.name))

    def known(self, binding: Binding) -> tuple[str, ...]:
        """Numbers of elements of bound data, as far as they decide anything, and what is chosen
        by the data."""
        name, choose = self.signature.name, self.choose
        counted = self.facts.counted.get(name, ())
        if not counted:
            return ()
        found = binding.keep(("cardinalities", counted), lambda: cardinalities(binding, counted))
        if choose is None:
            return found
        return found + binding.keep(("choice", name, choose), lambda: choose(name, binding))

    def prepare(self, binding: Binding) -> None:
        """Build what the code that exists needs of a binding, so that calls find it; and the code
        itself if that waited for data."""
        sizes = self.sizes | {n: v for n, v in self.facts.schema.sizes.items() if v is not None}
        if self.eager and all(name in sizes for name in self.signature.sizes):
            self.executable(sizes, self.known(binding))
        for (values, known), executable in list(self._built.items()):  # others may add to it
            if not known or known == self.known(binding):
                named = dict(zip(self.signature.sizes, values, strict=True))
                executable.prepare(binding, named)

    def check_ranges(self, binding: Binding, sizes: Sizes) -> None:
        """Every access that sets alone do not keep in range, once for each binding and sizes."""
        checks = self.facts.checks.get(self.signature.name, ())
        if not checks:
            return
        key = tuple(sizes[name] for name in self.signature.sizes)
        passed = self._checked.setdefault(binding, set())
        if key not in passed:
            run_checks(checks, binding, sizes)
            passed.add(key)

    def bound(self, binding: Any) -> Binding:
        """The binding that a call is given, checked; an empty one for a program without sets."""
        schema = self.facts.schema
        if binding is None:
            if schema.sets:
                sets = ", ".join(f"{name}=..." for name, d in schema.sets.items() if d.given)
                raise fail(
                    f"`{self.signature.name}` needs its sets bound to data",
                    expected="the binding as the first argument",
                    hint=f"G = program.bind({sets}), then program.{self.signature.name}(G, ...)",
                )
            self._nothing = self._nothing or Binding(schema, {})
            return self._nothing
        if not isinstance(binding, Binding):
            raise fail(
                f"the first argument of `{self.signature.name}` is a {type(binding).__name__}",
                expected="what `bind` returns; tensors and scalars are given by name",
            )
        if binding.schema is not schema and (name := _differing(binding.schema, schema)):
            raise fail(
                f"the binding was made for another program: its set `{name}` differs",
                expected="what `bind` of this program returns",
            )
        return binding

    def _extent(self, dim: int | str, binding: Binding, sizes: Mapping[str, int]) -> int | None:
        if isinstance(dim, int):
            return dim
        if dim in self.facts.schema.sets:
            return binding.size(dim)
        fixed = self.facts.schema.sizes.get(dim)
        return sizes.get(dim) if fixed is None else fixed

    def _complete(self, sizes: Sizes) -> Sizes:
        missing = [name for name in self.signature.sizes if name not in sizes]
        if missing:
            given = ", ".join(f'"{name}": ...' for name in missing)
            raise HectoriteError(
                [
                    Diagnostic(
                        f"the size `{name}` of `{self.signature.name}` is not known: no argument "
                        "has it as a dimension",
                        hint=f"compile with sizes={{{given}}}, or --size {name}=64",
                    )
                    for name in missing
                ]
            )
        return sizes

    def _outputs(
        self, given: Any, binding: Binding, values: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> list[Array]:
        """The arrays to write results to, checked."""
        several = issubclass(type(given), tuple | list)
        outs: list[Any] = list(given) if several else [given]
        results = self.signature.results
        if len(outs) != len(results):
            raise fail(
                f"`out` holds {len(outs)} array{'s' * (len(outs) != 1)}",
                expected=f"{len(results)}, one for each result",
            )
        try:
            arrays = [self.intake.output(out) for out in outs]
        except TypeError as error:
            raise fail(f"`out` {error}", expected="arrays to write to") from error
        for place, array in enumerate(arrays):
            if any(self.intake.overlap(array, other) for other in arrays[:place]):
                raise fail("the arrays of `out` overlap", expected="memory of its own for each")
        return [
            self._output(array, parameter, binding, values, sizes)
            for array, parameter in zip(arrays, results, strict=True)
        ]

    def _output(
        self,
        array: Any,
        result: Parameter,
        binding: Binding,
        values: Mapping[str, Any],
        sizes: Mapping[str, int],
    ) -> Any:
        shape = tuple(self._extent(dim, binding, sizes) for dim in result.dims)
        storage = result.element.storage
        if array.shape != shape or array.dtype != storage:
            order = "" if array.dtype.isnative else " in the other byte order"
            raise fail(
                f"`out` is an array of {array.dtype.name}{order} and shape {array.shape}",
                expected=f"{storage.name} and shape {shape}",
            )
        if issubclass(type(array), np.ndarray) and not (
            array.flags.c_contiguous and array.flags.writeable
        ):
            raise fail("`out` cannot be written in place", expected="C-contiguous, writable")
        for name, value in values.items():
            if not isinstance(value, Operand) and self.intake.overlap(array, value):
                raise fail(f"`out` overlaps the argument `{name}`", expected="memory of its own")
        return array


@by_identity
def _differing(bound: Schema, wanted: Schema) -> str | None:
    """The first set that is not bound as it is wanted."""
    sets = wanted.sets.items()
    return next((name for name, decl in sets if bound.sets.get(name) != decl), None)
