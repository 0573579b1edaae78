"""Arguments that are the same in every call: what depends on them alone is computed once.

Enters: a compiled program, and arrays for some parameters. Leaves: a program whose functions take
the other parameters only. A function is rewritten when it first meets its sizes; what follows from
the fixed arrays is computed when it first meets a binding, and kept as long as that is.

    prog = hectorite.compile("rgat.hec", fixed={"W": W, "al": al, "ar": ar})
    y = prog.rgat(G, h=h)
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hectorite.backends.bound.binding import Binding
from hectorite.frontend.compiled.facts import Facts, Sizes
from hectorite.frontend.compiled.program import Function, Program
from hectorite.frontend.compiled.signature import Signature
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, did_you_mean, fail

Array = Any


@dataclass(frozen=True)
class Split:
    """A function for known sizes in two: `once` computes from fixed arguments what `function` takes
    by `names` instead; None if that is nothing."""

    program: Program
    function: Function
    once: Function | None
    names: tuple[str, ...]


MakeSplit = Callable[[str, Sizes], Split]
"""Rewrites and compiles one function for given values of its sizes."""


@dataclass
class _Prepared:
    """What calls on one binding need."""

    binding: Binding
    values: dict[str, Array]


@dataclass
class FixedFunction:
    """A function some of whose arguments are given already; calling it takes the others."""

    whole: Function = field(repr=False)
    fixed: Mapping[str, Any] = field(repr=False)
    make: MakeSplit = field(repr=False)
    _splits: dict[tuple[int, ...], Split] = field(
        default_factory=dict[tuple[int, ...], Split], repr=False
    )
    _prepared: weakref.WeakKeyDictionary[Binding, dict[tuple[int, ...], _Prepared]] = field(
        default_factory=weakref.WeakKeyDictionary[Binding, dict[tuple[int, ...], _Prepared]],
        repr=False,
    )
    _nothing: Binding | None = field(default=None, repr=False)
    """What programs without sets are bound to."""
    _last: tuple[weakref.ref[Binding], Split, _Prepared] | None = field(default=None, repr=False)
    """What the last call used: another on the same binding is likely to be like it."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def signature(self) -> Signature:
        """The function as callers see it, without the fixed parameters."""
        signature = self.whole.signature
        left = tuple(p for p in signature.parameters if p.name not in self.fixed)
        return replace(signature, parameters=left)

    def __repr__(self) -> str:
        return f"<function {self.signature}>"

    def __call__(self, binding: Binding | None = None, /, **arguments: Any) -> Any:
        """Run the function; see `Function`. Fixed arguments may not be given again."""
        for name in arguments:
            if name in self.fixed:
                raise fail(f"`{name}` is fixed and cannot be given to a call")
        binding = self._nothing if binding is None else binding
        if self._last is not None and self._last[0]() is binding is not None:
            _, split, prepared = self._last
            if arguments.keys().isdisjoint(prepared.values):
                together = arguments | prepared.values
                results = split.function.repeat(prepared.binding, together)
                if results is not None:
                    return results
        split, prepared = self._ready(binding, arguments)
        results = split.function(prepared.binding, **arguments, **prepared.values)
        bound = self._nothing if binding is None else binding
        if bound is not None:
            self._last = weakref.ref(bound), split, prepared
        return results

    def prepare(self, binding: Binding) -> None:
        """Nothing to do before the sizes are known."""

    def _ready(
        self, binding: Binding | None, arguments: Mapping[str, Any]
    ) -> tuple[Split, _Prepared]:
        names = self.whole.signature.names
        given = {name: value for name, value in arguments.items() if name in names}
        if binding is None:
            binding = self._nothing = self._nothing or self.whole.bound(None)
        bound = self.whole.bound(binding)
        values, sizes = self.whole.take(bound, {**self.fixed, **given})
        self.whole.check_ranges(bound, sizes)
        key = tuple(sizes[name] for name in self.whole.signature.sizes)
        with self._lock:
            if key not in self._splits:
                wanted = dict(zip(self.whole.signature.sizes, key, strict=True))
                self._splits[key] = self.make(self.whole.signature.name, wanted)
            split = self._splits[key]
            kept = self._prepared.setdefault(bound, {})
            if key not in kept:
                kept[key] = self._prepare(split, bound, values)
        return split, kept[key]

    def _prepare(self, split: Split, bound: Binding, values: Mapping[str, Array]) -> _Prepared:
        """Compute what follows from the fixed arguments on this binding."""
        again = split.program.bind(**bound.given)
        own = split.function.signature.names
        taken = {name: values[name] for name in self.fixed if name in own}
        if split.once is not None:
            needed = {name: values[name] for name in split.once.signature.names}
            found = split.once(again, **needed)
            found = found if len(split.names) > 1 else (found,)
            taken |= dict(zip(split.names, found, strict=True))
        return _Prepared(again, taken)


def fix(program: Program, facts: Facts, fixed: Mapping[str, Any], make: MakeSplit) -> Program:
    """Fix arguments of every function of a program that has them, in place.

    Raises `HectoriteError` for a name that no function has as a parameter.
    """
    if not isinstance(fixed, Mapping):
        raise fail(f"`fixed` is {fixed!r}", expected='a mapping from names to arrays, {"W": W}')
    known = {name for signature in facts.signatures.values() for name in signature.names}
    wrong = [name for name in fixed if name not in known]
    if wrong:
        raise HectoriteError(
            [
                Diagnostic(f"no function has a parameter `{name}`", hint=did_you_mean(name, known))
                for name in wrong
            ]
        )
    for name, function in list(program.functions.items()):
        own = {key: value for key, value in fixed.items() if key in function.signature.names}
        if own:
            program.functions[name] = FixedFunction(function, own, make)  # pyright: ignore[reportArgumentType]
    return program
