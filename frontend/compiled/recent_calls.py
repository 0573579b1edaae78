"""Recent calls of a function, so that one just like an earlier one need not be checked again.

Enters: a call that went well: its binding, its arguments, and the code that ran. Leaves: the
results of a later call, if it is like that one: the same binding, and for every argument the same
kind of thing, of the same type and shape, laid out plainly. Nothing is remembered of what arrays
hold or where they lie, so nothing of it can be out of date.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import numpy as np

from hectorite.backends.arrays import to_numpy
from hectorite.backends.bound.binding import Binding
from hectorite.backends.formats.nm import NmOperand
from hectorite.backends.formats.operands import is_stored
from hectorite.frontend.compiled.executable import Executable
from hectorite.frontend.compiled.signature import Parameter, Signature

Array = np.ndarray[Any, Any]

MOST = 4
"""Calls of different kinds that a function remembers."""

PLAIN = 0x0101
"""NumPy's flags of an array that is C-contiguous and aligned, as its interface for C has them."""


class RecentCall:
    """One call. Arguments may be NumPy arrays, torch tensors in host memory, tensors that were
    converted to `nm`, and Python's numbers.

    `executable` is what ran; what it has made ready for the binding is asked for once (`ready`),
    and goes when the binding goes.
    """

    def __init__(
        self,
        signature: Signature,
        binding: Binding,
        arguments: Mapping[str, Any],
        executable: Executable,
        sizes: dict[str, int],
    ):
        self._binding = weakref.ref(binding)
        self._executable, self._sizes = executable, sizes
        ready = executable.ready(binding, sizes)
        self._ready = None if ready is None else weakref.ref(ready)
        self._arguments = [
            _kind(parameter, arguments[parameter.name]) for parameter in signature.parameters
        ]
        self._count = len(self._arguments)
        self._plain = all(kind is np.ndarray for _, kind, _, _ in self._arguments)
        self._for_torch = not self._plain and any(
            kind not in (np.ndarray, NmOperand, int, float) for _, kind, _, _ in self._arguments
        )
        self._results = [result.element.storage for result in signature.results]

    @staticmethod
    def of(
        signature: Signature,
        binding: Binding,
        arguments: Mapping[str, Any],
        executable: Executable,
        sizes: dict[str, int],
    ) -> RecentCall | None:
        """The call, or None if its arguments have to be looked at or converted each time."""
        given = [(p, arguments[p.name]) for p in signature.parameters]
        as_they_are = all(type(value) is np.ndarray for _, value in given)
        if not as_they_are and executable.ready(binding, sizes) is None:
            return None
        if not all(_is_plain(parameter, value) for parameter, value in given):
            return None
        return RecentCall(signature, binding, arguments, executable, sizes)

    @property
    def binding(self) -> Binding | None:
        """The binding, as long as it lives."""
        return self._binding()

    def repeat(self, binding: Binding | None, arguments: dict[str, Any], out: Any) -> Any:
        """The results of a call, if it is like this one, else None. `out` is what the caller gave,
        or None; if it is given, these are the results."""
        if binding is None or self._binding() is not binding or len(arguments) != self._count:
            return None
        values = arguments if self._plain else dict(arguments)
        for name, kind, dtype, shape in self._arguments:
            given = arguments.get(name, ())
            if type(given) is not kind:
                return None
            if kind is NmOperand:
                if given.dtype != dtype or (given.shape, given.format) != shape:
                    return None
                values |= given.parts(name)
                continue
            if kind is not np.ndarray:
                if shape is None:
                    if dtype is not None and given not in dtype:
                        return None
                    continue
                given = values[name] = _shared(given)
                if given is None:
                    return None
            if given.dtype is not dtype or given.shape != shape:
                return None
            if given.flags.num & PLAIN != PLAIN:
                return None
        return self._run(binding, values, out)

    def _run(self, binding: Binding, values: dict[str, Any], out: Any) -> Any:
        ready = None if self._ready is None else self._ready()
        if out is None and ready is not None and self._plain:
            results = ready(values)
            return results[0] if len(results) == 1 else results
        if out is not None:
            outs = out if out.__class__ is tuple else (out,)
            if ready is None or not self._can_write(ready.shapes, outs, values):
                return None
            ready(values, outs)
            return out
        if ready is not None:
            results = ready(values)
        else:
            results = self._executable(binding, values, self._sizes, None)
        if self._for_torch:
            results = to_torch(results)
        return results[0] if len(results) == 1 else results

    def _can_write(
        self,
        shapes: Sequence[tuple[int, ...] | None],
        outs: tuple[Any, ...],
        values: Mapping[str, Any],
    ) -> bool:
        """Whether results can be written to arrays as they are."""
        if len(outs) != len(shapes):
            return False
        for place, (out, shape, dtype) in enumerate(zip(outs, shapes, self._results, strict=True)):
            if type(out) is not np.ndarray or out.dtype is not dtype or out.shape != shape:
                return False
            others = (*values.values(), *outs[:place])
            if not out.flags.carray or any(
                type(other) is np.ndarray and np.may_share_memory(out, other) for other in others
            ):
                return False
        return True


def _shared(tensor: Any) -> Array | None:
    """The array in the memory of a torch tensor, if it is in host memory and has one."""
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError):  # it has a gradient, or a type that NumPy does not know
        with suppress(TypeError):
            return to_numpy(tensor)
    return None


def to_torch(results: tuple[Any, ...]) -> tuple[Any, ...]:
    """torch tensors that share the memory of arrays; what is no NumPy array stays."""
    torch = sys.modules["torch"]
    return tuple(_to_torch(torch, result) for result in results)


def _to_torch(torch: Any, array: Any) -> Any:
    if not issubclass(type(array), np.ndarray):
        return array
    if array.dtype.kind != "V":
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(np.int16)).view(getattr(torch, array.dtype.name))


def _is_plain(parameter: Parameter, given: Any) -> bool:
    """Whether an argument is one that is passed on as it is, whatever it holds."""
    element = parameter.element
    if is_stored(parameter.format):
        return type(given) is NmOperand
    if type(given) is float:
        return parameter.scalar and element.is_float
    if type(given) is int:
        return parameter.scalar and (element.is_float or element.is_integer)
    if type(given) is not np.ndarray:
        torch = sys.modules.get("torch")
        if torch is None or type(given) is not torch.Tensor or given.device.type != "cpu":
            return False
        given = to_numpy(given)
    checked_by_value = element.bits < 8 and element.kind != "bool"
    plain = given.flags.num & PLAIN == PLAIN
    return given.dtype is element.storage and plain and not checked_by_value


def _kind(parameter: Parameter, given: Any) -> tuple[str, type, Any, tuple[Any, ...] | None]:
    """The name of a parameter, and what an argument has to be to be like this one: its class, its
    type and shape. For numbers no shape, and the range of those that a parameter can take."""
    kind = cast(type[Any], type(given))
    if kind in (int, float):
        element = parameter.element
        low, high = element.bounds if element.is_integer else (-(1 << 63), (1 << 63) - 1)
        return parameter.name, kind, range(low, high + 1) if kind is int else None, None
    if kind is NmOperand:
        return parameter.name, kind, parameter.element.storage, (given.shape, given.format)
    shape = given.shape if kind is np.ndarray else tuple(given.shape)
    return parameter.name, kind, parameter.element.storage, shape
