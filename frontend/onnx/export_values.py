"""The ONNX graph that grows while a function is exported.

Enters: requests for nodes and constants. Leaves: their names, and values with a label for each
axis: the index variable that it is. Values with other labels meet by `aligned`, which puts axes of
length 1 where labels are missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hectorite.frontend.onnx.import_read import package
from hectorite.frontend.onnx.import_types import CODES
from hectorite.frontend.onnx.import_values import identifier
from hectorite.ir.element import ElementType
from hectorite.ir.index import Path
from hectorite.ir.space import Dim

Array = np.ndarray[Any, Any]
Extents = dict[str, Dim]


class Impossible(Exception):
    """Why one statement has no ONNX form."""


@dataclass(frozen=True)
class Value:
    """An ONNX value with the index variable of each axis."""

    name: str
    labels: tuple[str, ...] = ()


def code_of(element: ElementType) -> int:
    """The ONNX code of an element type. Raises `Impossible` if there is none."""
    if element.name not in CODES:
        raise Impossible(f"ONNX has no elements of type {element.name}")
    return CODES[element.name]


@dataclass
class Emitter:
    """Nodes and constants so far. `extents` holds where the length of a named dimension can be read
    off: a value and its axis."""

    nodes: list[Any] = field(default_factory=list[Any])
    constants: dict[str, Any] = field(default_factory=dict[str, Any])
    extents: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    maps: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """The input that is the map of a set, by set and field."""
    targets: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])
    """The set that a map leads to."""
    taken: set[str] = field(default_factory=set[str])
    hint: str = "t"
    _known: dict[tuple[Any, ...], str] = field(default_factory=dict[tuple[Any, ...], str])

    def fresh(self, name: str) -> str:
        """A name like this one that nothing has yet."""
        free, count = identifier(name), 1
        while free in self.taken:
            free, count = f"{identifier(name)}_{count}", count + 1
        self.taken.add(free)
        return free

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, whose name it gives."""
        output = self.fresh(self.hint)
        node = package().helper.make_node(op, list(inputs), [output], **attributes)
        self.nodes.append(node)
        return output

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Numbers, kept once."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            name = self.fresh("constant")
            self.constants[name] = package().numpy_helper.from_array(array, name)
            self._known[key] = name
        return self._known[key]

    def number(self, number: float | int, element: ElementType) -> str:
        """One number of an element type."""
        code_of(element)
        return self.constant(np.asarray(number).astype(element.storage), element.storage)

    # shapes

    def length(self, dim: Dim) -> str:
        """The length of a dimension, int64 without dimensions."""
        if isinstance(dim, int):
            return self.constant(dim)
        if dim not in self.extents:
            raise Impossible(f"no input has the size `{dim}`, so it has to be given")
        key = ("length", dim)
        if key not in self._known:
            value, axis = self.extents[dim]
            shape = self.op("Shape", value, start=axis, end=axis + 1)
            self._known[key] = self.op("Squeeze", shape, self.constant([0]))
        return self._known[key]

    def shape(self, dims: Sequence[Dim]) -> str:
        """A shape, int64[rank]."""
        if all(isinstance(dim, int) for dim in dims):
            return self.constant(np.array(dims, np.int64))
        parts = [self.op("Unsqueeze", self.length(dim), self.constant([0])) for dim in dims]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def reshaped(self, name: str, dims: Sequence[Dim]) -> str:
        """The tensor with exactly these lengths, of which some may be 0."""
        some = any(dim == 0 or isinstance(dim, str) for dim in dims)
        exact = {"allowzero": 1} if some else {}  # else 0 is the length that the tensor has
        return self.op("Reshape", name, self.shape(dims), **exact)

    # labels

    def aligned(self, value: Value, labels: Sequence[str], all: bool = False) -> str:
        """The value with these axes, in this order, length 1 where it lacks one. Leading axes may
        be left out unless `all` have to be there."""
        if tuple(labels) == value.labels or not (value.labels or all):
            return value.name
        there = [label for label in labels if label in value.labels]
        order = [value.labels.index(label) for label in there]
        name = value.name
        if order != list(range(len(order))):
            name = self.op("Transpose", name, perm=order)
        missing = [axis for axis, label in enumerate(labels) if label not in value.labels]
        while missing and missing[0] == 0 and not all:
            missing = [axis - 1 for axis in missing[1:]]
        return self.op("Unsqueeze", name, self.constant(missing)) if missing else name

    def spread(self, value: Value, labels: Sequence[str], extents: Extents) -> Value:
        """The value with exactly these axes, each of its full length."""
        missing = [label for label in labels if label not in value.labels]
        short = all(extents[label] == 1 for label in missing)
        name = self.aligned(value, labels, short)
        if not short:
            name = self.op("Expand", name, self.shape([extents[label] for label in labels]))
        return Value(name, tuple(labels))

    # positions

    def position(self, variable: str, extents: Extents) -> Value:
        """The values of an index variable."""
        dim = extents[variable]
        if isinstance(dim, int):
            return Value(self.constant(np.arange(dim)), (variable,))
        key = ("range", dim)
        if key not in self._known:
            zero, one = self.constant(0), self.constant(1)
            self._known[key] = self.op("Range", zero, self.length(dim), one)
        return Value(self._known[key], (variable,))

    def path(self, path: Path, extents: Extents) -> Value:
        """Where a path leads, for each element of the set that its variable ranges over."""
        here = str(extents[path.variable])
        found: str | None = None
        for name in path.fields:
            if (here, name) not in self.maps:
                raise Impossible(f"the map `{here}.{name}` is built when data is bound")
            map = self.maps[here, name]
            found = map if found is None else self.op("Gather", map, found)
            here = self.targets[here, name]
        if found is None:
            return self.position(path.variable, extents)
        return Value(found, (path.variable,))
