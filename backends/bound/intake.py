"""Checking of the data that sets are bound to.

Enters: a schema, and what the user gave for each set. Leaves: sizes and int32 maps, and a report of
every fault in them: the checks go on after the first.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from hectorite.backends.arrays import to_numpy
from hectorite.ir.diagnostics import Diagnostic, Report, did_you_mean
from hectorite.ir.schema import Schema, SetDecl

Array = np.ndarray[Any, Any]

MOST = (1 << 31) - 1
"""Most elements of a set: maps are int32."""

INT32 = np.dtype(np.int32)


class Intake:
    """Sizes and maps taken from what the user gave; `report` holds the faults."""

    def __init__(self, schema: Schema, given: Mapping[str, Any]):
        self.schema = schema
        self.report = Report()
        self.sizes: dict[str, int] = {}
        self.maps: dict[tuple[str, str], Array] = {}
        self._refuse_unknown(given)
        for decl in schema.sets.values():
            if decl.given and decl.name in given:
                self._take_set(decl, given[decl.name])
        for decl in schema.sets.values():
            if decl.given and decl.name not in given:
                self._tell_missing(decl)
        for decl in schema.sets.values():
            for name, target in decl.fields:
                if (decl.name, name) in self.maps and target in self.sizes:
                    self._check_values(decl.name, name, target)

    def _tell(self, message: str, expected: str | None = None, hint: str | None = None) -> None:
        self.report.add(Diagnostic(message, expected=expected, hint=hint))

    def _refuse_unknown(self, given: Mapping[str, Any]) -> None:
        for name in given:
            decl = self.schema.sets.get(name)
            if decl is None:
                wanted = [d.name for d in self.schema.sets.values() if d.given]
                listed = ", ".join(f"`{n}`" for n in wanted) or "none"
                self._tell(
                    f"the program has no set `{name}`",
                    f"sets: {listed}",
                    did_you_mean(name, wanted),
                )
            elif not decl.given:
                self._tell(
                    f"the set `{name}` is derived, so it takes no data",
                    hint=f"leave `{name}` out: it is built from the other sets",
                )

    def _tell_missing(self, decl: SetDecl) -> None:
        if decl.fields:
            fields = ", ".join(f'"{name}": ...' for name, _ in decl.fields)
            self._tell(
                f"the set `{decl.name}` is missing",
                "one int32 array for each of its maps",
                f"{decl.name}={{{fields}}}",
            )
            return
        reach = self._reach(decl.name)
        self._tell(
            f"the size of the set `{decl.name}` is missing",
            "its number of elements",
            f"{decl.name}={reach} would hold every value of the maps into it"
            if reach is not None
            else f"{decl.name}=...",
        )

    def _reach(self, target: str) -> int | None:
        """One more than the greatest value of the maps into a set, if there are any."""
        reach = None
        for decl in self.schema.sets.values():
            for name, into in decl.fields:
                values = self.maps.get((decl.name, name))
                if into == target and values is not None:
                    reach = max(reach or 0, int(values.max()) + 1 if values.size else 0)
        return reach

    def _take_set(self, decl: SetDecl, given: Any) -> None:
        if isinstance(given, Mapping):
            self._take_maps(decl, dict(given))  # pyright: ignore[reportUnknownArgumentType]
        elif decl.fields:
            fields = ", ".join(f'"{name}": ...' for name, _ in decl.fields)
            self._tell(
                f"the set `{decl.name}` has maps, and was given {_what(given)}",
                "one int32 array for each of its maps",
                f"{decl.name}={{{fields}}}",
            )
        else:
            self._take_size(decl.name, given)

    def _take_size(self, name: str, given: Any) -> int | None:
        try:
            if isinstance(given, bool | np.bool_):
                raise TypeError
            size = operator.index(given)
        except TypeError:
            self._tell(
                f"the size of the set `{name}` is {_what(given)}",
                "an integer, its number of elements",
            )
            return None
        if not 0 <= size <= MOST:
            fault = "negative" if size < 0 else "too large: maps hold 32-bit integers"
            self._tell(f"the size of the set `{name}` is {size}, {fault}", f"0 to {MOST}")
            return None
        return self.sizes.setdefault(name, size)

    def _take_maps(self, decl: SetDecl, given: dict[Any, Any]) -> None:
        names = [name for name, _ in decl.fields]
        size = given.pop("size") if "size" in given and "size" not in names else None
        for name in given:
            if name not in names:
                listed = ", ".join(f"`{n}`" for n in names) or "none"
                self._tell(
                    f"the set `{decl.name}` has no map `{name}`",
                    f"maps: {listed}",
                    did_you_mean(str(name), names),
                )
        for name, target in decl.fields:
            values = given.get(name)
            if name not in given:
                self._tell(
                    f"the map `{decl.name}.{name}` is missing",
                    f"an int32 array with values in `{target}`",
                )
                continue
            if not _is_plain(values):
                values = self._take_map(f"{decl.name}.{name}", target, values)
            if values is not None:
                self.maps[decl.name, name] = values
        self._settle_size(decl, size)

    def _settle_size(self, decl: SetDecl, given: Any) -> None:
        """The length of the maps of a set; all must agree, and `size` too if given."""
        if given is not None or not decl.fields:
            if given is None:
                self._tell(
                    f"the size of the set `{decl.name}` is missing", "its number of elements"
                )
            else:
                self._take_size(decl.name, given)
        for name, _ in decl.fields:
            values = self.maps.get((decl.name, name))
            if values is None:
                continue
            if len(values) > MOST:
                self._tell(f"`{decl.name}.{name}` has {len(values)} elements", f"0 to {MOST}")
            size = self.sizes.setdefault(decl.name, len(values))
            if len(values) != size:
                other = next(n for n, _ in decl.fields if (decl.name, n) in self.maps)
                source = "`size`" if given is not None else f"`{decl.name}.{other}`"
                self._tell(
                    f"`{decl.name}.{name}` has {len(values)} elements, and {source} says {size}",
                    f"one element for each of `{decl.name}` in every map",
                )

    def _take_map(self, name: str, target: str, given: Any) -> Array | None:
        """A map as a contiguous int32 array, not yet checked against its target set."""
        expected = f"an int32 array with one element of `{target}` for each place"
        try:
            values = to_numpy(given)
        except TypeError as reason:
            self._tell(f"`{name}` {reason}", expected)
            return None
        if isinstance(given, list | tuple) and not values.size:
            values = values.astype(np.int32)
        if values.ndim != 1:
            self._tell(f"`{name}` has shape {values.shape}", "one dimension")
            return None
        native = values.dtype.newbyteorder("=")
        if native not in (np.int32, np.int64):
            self._tell(
                f"`{name}` is an array of {values.dtype.name}{_narrow(native)}",
                expected,
                f"convert it: {name.split('.')[-1]}.astype(np.int32)",
            )
            return None
        if native == np.int64:
            return self._narrowed(name, values)
        return np.ascontiguousarray(values, np.int32)

    def _narrowed(self, name: str, values: Array) -> Array | None:
        if values.size and not (values.min() >= -MOST and values.max() <= MOST):
            at = int(np.argmax((values < -MOST) | (values > MOST)))
            self._tell(f"{name}[{at}] is {values[at]}, which does not fit int32", f"0 to {MOST}")
            return None
        return values.astype(np.int32)

    def _check_values(self, over: str, name: str, target: str) -> None:
        values, size = self.maps[over, name], self.sizes[target]
        # As numbers without a sign, negative ones are above all others.
        if not values.size or np.maximum.reduce(values.view(np.uint32)) < size:
            return
        bad = (values < 0) | (values >= size)
        at, count = int(np.argmax(bad)), int(np.count_nonzero(bad))
        others = f" ({count - 1} more like it)" if count > 1 else ""
        self._tell(
            f"{over}.{name}[{at}] is {values[at]}, which is not an element of `{target}`{others}",
            f"0 to {size - 1}, as `{target}` has {size} elements"
            if size
            else f"no value at all, as `{target}` is empty",
        )


def _is_plain(given: Any) -> bool:
    """Whether a map is an array that can be kept as it is."""
    if type(given) is not np.ndarray or given.dtype is not INT32:
        return False
    return given.ndim == 1 and given.flags.c_contiguous


def _what(given: Any) -> str:
    if issubclass(type(given), bool | int | float | np.generic):
        return str(given)
    kind = type(given).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _narrow(dtype: np.dtype[Any]) -> str:
    if dtype.kind not in "iu":
        return ""
    return f", whose values go from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
