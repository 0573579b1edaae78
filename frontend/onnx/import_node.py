"""One node of an ONNX graph, as the files of the operators see it.

Enters: a node with the tensors that it takes. Leaves: its attributes and inputs by request, with a
reason (`Unsupported`) where one is not what the importer can take; and the table of operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hectorite.frontend.onnx.import_values import (
    Array,
    Dims,
    Graph,
    Tensor,
    Unsupported,
    integer,
)


@dataclass(frozen=True)
class Node:
    """A node: `inputs` has None where an optional one is left out, `outputs` the names, empty where
    nobody asks. `opset` is the version of its domain that the model is written for."""

    op: str
    inputs: Sequence[Tensor | None]
    outputs: Sequence[str]
    attributes: dict[str, Any]
    opset: int

    def optional(self, position: int) -> Tensor | None:
        """An input, or None if it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def input(self, position: int) -> Tensor:
        """An input that is always there."""
        tensor = self.optional(position)
        if tensor is None:
            raise Unsupported(f"input {position} is missing")
        return tensor

    @property
    def given(self) -> list[Tensor]:
        """The inputs that are there."""
        return [tensor for tensor in self.inputs if tensor is not None]

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute: a number, a text, a list, or an array."""
        return self.attributes.get(name, default)

    def refuse(self, name: str, *allowed: Any) -> None:
        """Raises `Unsupported` if an attribute is there and none of these values."""
        given = self.attributes.get(name)
        if given is not None and given not in allowed:
            raise Unsupported(f"{name}={given}")

    def known(self, position: int, what: str) -> Array | None:
        """The numbers of an input that has to be a constant, None if it is left out."""
        tensor = self.optional(position)
        if tensor is None:
            return None
        if tensor.known is None:
            raise Unsupported(f"{what} that are computed while the model runs")
        return tensor.known

    def integers(self, position: int, what: str) -> list[int] | None:
        """An input that has to be constant integers, None if it is left out."""
        known = self.known(position, what)
        if known is None:
            return None
        return [integer(_plain(part), what) for part in known.ravel()]

    def axis(self, default: int, rank: int | None = None) -> int:
        """The attribute `axis`, from the front."""
        rank = self.input(0).rank if rank is None else rank
        return from_front(self.attribute("axis", default), rank)

    def axes(self, position: int, rank: int) -> list[int] | None:
        """Axes from the front, in order: an input of late opsets, an attribute of early ones. None
        if there are none."""
        listed = self.integers(position, "axes")
        if listed is None:
            listed = self.attribute("axes")
        return None if listed is None else sorted(from_front(axis, rank) for axis in listed)


def from_front(axis: int, rank: int) -> int:
    """An axis that may count from the end. Raises `Unsupported` if there is no such axis."""
    if not -rank <= axis < max(rank, 1):
        raise Unsupported(f"axis {axis} of a tensor with {rank} axes")
    return axis % rank if rank else 0


def dims_of(known: Array) -> Dims:
    """Known numbers as a shape."""
    return tuple(_plain(part) for part in known.ravel())


def known_integers(values: Sequence[int | str]) -> Array:
    """A shape as known numbers: int64, or of names and numbers."""
    if any(isinstance(value, str) for value in values):
        array = np.empty(len(values), object)
        array[:] = list(values)
        return array
    return np.array(values, np.int64)


def _plain(value: Any) -> int | str:
    return value if isinstance(value, str) else int(value)


Handler = Callable[[Graph, Node], Sequence[Tensor]]
"""What makes the outputs of a node, in order; outputs that it leaves out are not supported."""


class Table(dict[str, Handler]):
    """The operators of one file by name."""

    def of(self, *names: str) -> Callable[[Handler], Handler]:
        """Register a handler."""

        def register(handler: Handler) -> Handler:
            self.update(dict.fromkeys(names, handler))
            return handler

        return register
