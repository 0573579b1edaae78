"""Reads of tensors as ONNX nodes.

Enters: a tensor and an access. Leaves: a value whose axes are the index variables of the access. An
axis whose index has variables of its own is gathered by a table of that index, which for a window
has several axes; where axes share variables, the tensor is flattened and gathered at once.

    x[n, 2*y + r - 1]      Pad, then Gather with a table over y and r
    x[i // 4, i % 4]       Reshape, as the elements keep their order
    x[i, i]                Gather from the flat tensor
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hectorite.frontend.onnx.export_values import Array, Emitter, Extents, Impossible, Value
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim, TensorType

MOST = 1 << 22
"""Tables of more positions are not looked at for being in order."""


def read(
    emitter: Emitter, tensor: str, type: TensorType, access: Sequence[IndexExpr], extents: Extents
) -> Value:
    """The elements of a tensor, an axis for each variable of the access."""
    used = [name for index in access for name in index.variables]
    if len(set(used)) == len(used):
        return _axis_by_axis(emitter, tensor, type, access, extents)
    labels = list(dict.fromkeys(used))
    tables = [table(index, labels, extents) for index in access]
    if all(t is not None for t in tables) and _is_static(type.dims):
        return _flat(emitter, tensor, type, [t for t in tables if t is not None], labels, extents)
    if type.pad_value is not None:
        raise Impossible("a padded read at indices that share variables")
    position = flat_position(emitter, type.dims, access, labels, extents)
    flat = emitter.op("Reshape", tensor, emitter.constant([-1]))
    return Value(emitter.op("Gather", flat, position.name), position.labels)


def _is_static(dims: Sequence[Dim]) -> bool:
    return all(isinstance(dim, int) for dim in dims)


def table(index: IndexExpr, labels: Sequence[str], extents: Extents) -> Array | None:
    """The values of an index over some variables, or None if they are not known here."""
    lengths = [dim for dim in map(extents.get, labels) if isinstance(dim, int)]
    has_maps = any(path.fields for path in index.paths)
    has_sizes = any(term.sizes for term in index.terms)
    divides = index.division is not None and isinstance(index.division[1], str)
    if has_maps or has_sizes or divides or len(lengths) < len(labels):
        return None
    grids = {
        label: np.arange(length).reshape([-1 if a == axis else 1 for a in range(len(labels))])
        for axis, (label, length) in enumerate(zip(labels, lengths, strict=True))
    }
    values = index.evaluate(lambda path: grids[path.variable])
    return np.broadcast_to(np.asarray(values), lengths)


def _axis_by_axis(
    emitter: Emitter, tensor: str, type: TensorType, access: Sequence[IndexExpr], extents: Extents
) -> Value:
    labels = list[str]()
    for axis, (index, dim) in enumerate(zip(access, type.dims, strict=True)):
        place, own = len(labels), list(index.variables)
        if index.variable is not None and extents[own[0]] == dim:
            labels += own
            continue
        path = index.path
        if path is not None and path.fields:
            tensor = emitter.op("Gather", tensor, emitter.path(path, extents).name, axis=place)
            labels += own
            continue
        found = table(index, own, extents)
        if found is None:
            found_at = index_value(emitter, index, own, extents)
            if type.pad_value is not None:
                raise Impossible(f"a padded read at `{index}`, which depends on data")
            tensor = emitter.op("Gather", tensor, found_at.name, axis=place)
        else:
            tensor = _gathered(emitter, tensor, found, axis, place, type)
        labels += own
    return Value(tensor, tuple(labels))


def _gathered(
    emitter: Emitter, tensor: str, found: Array, axis: int, place: int, type: TensorType
) -> str:
    """One axis at the positions of a table."""
    length = type.dims[axis]
    if not isinstance(length, int):
        if type.pad_value is not None and found.size:
            raise Impossible(f"a padded axis of the length `{length}`, which has to be given")
        return emitter.op("Gather", tensor, emitter.constant(found), axis=place)
    if found.size and (found.min() < 0 or found.max() >= length):
        if type.pad_value is None:
            raise Impossible(f"a read at {found.min()} to {found.max()} of {length} elements")
        before, after = max(0, -int(found.min())), max(0, int(found.max()) - length + 1)
        pad = emitter.number(type.pad_value, type.element_type)
        pads, axes = emitter.constant([before, after]), emitter.constant([place])
        tensor = emitter.op("Pad", tensor, pads, pad, axes)
        found, length = found + before, length + before + after
    flat = found.ravel()
    if flat.size == length and np.array_equal(flat, np.arange(length)):
        return tensor if found.ndim == 1 else _split(emitter, tensor, found, axis, place, type)
    steps = np.diff(flat)
    if found.ndim == 1 and flat.size > 1 and np.all(steps == steps[0]) and steps[0] > 0:
        step = int(steps[0])
        bounds = [[int(flat[0])], [int(flat[-1]) + 1], [place], [step]]
        return emitter.op("Slice", tensor, *map(emitter.constant, bounds))
    return emitter.op("Gather", tensor, emitter.constant(found), axis=place)


def _split(
    emitter: Emitter, tensor: str, found: Array, axis: int, place: int, type: TensorType
) -> str:
    """An axis as several that keep the order. The axes before stay, and one more may be free."""
    shape = [0] * place + list(found.shape)
    tail = list(type.dims[axis + 1 :])
    free = [dim for dim in tail if isinstance(dim, str)]
    if len(free) > 1 or 0 in (*found.shape, *tail):
        return emitter.op("Gather", tensor, emitter.constant(found), axis=place)
    shape += [dim if isinstance(dim, int) else -1 for dim in tail]
    return emitter.op("Reshape", tensor, emitter.constant(shape))


def _flat(
    emitter: Emitter,
    tensor: str,
    type: TensorType,
    tables: Sequence[Array],
    labels: Sequence[str],
    extents: Extents,
) -> Value:
    """All axes at once, at positions that are known."""
    dims = [dim for dim in type.dims if isinstance(dim, int)]
    shape = tuple(dim for dim in (extents[label] for label in labels) if isinstance(dim, int))
    inside = np.ones(shape, bool)
    position = np.zeros(shape, np.int64)
    for found, dim in zip(tables, dims, strict=True):
        inside &= (found >= 0) & (found < dim)
        position = position * dim + np.clip(found, 0, max(dim - 1, 0))
    if not inside.all() and type.pad_value is None:
        raise Impossible("a read that leaves its tensor")
    total = math.prod(dims)
    in_order = position.size == total <= MOST and np.array_equal(position.ravel(), np.arange(total))
    if in_order and inside.all():
        return Value(emitter.reshaped(tensor, shape), tuple(labels))
    flat = emitter.op("Reshape", tensor, emitter.constant([-1]))
    name = emitter.op("Gather", flat, emitter.constant(position))
    if not inside.all():
        pad = emitter.number(type.pad_value or 0, type.element_type)
        name = emitter.op("Where", emitter.constant(inside, np.bool_), name, pad)
    return Value(name, tuple(labels))


def index_value(
    emitter: Emitter, index: IndexExpr, labels: Sequence[str], extents: Extents
) -> Value:
    """The values of an index as int64, over those of `labels` that it depends on."""
    labels = [label for label in labels if label in index.variables]
    found = table(index, labels, extents)
    if found is not None:
        return Value(emitter.constant(found), tuple(labels))
    if index.path is not None:
        return emitter.path(index.path, extents)
    total = Value(emitter.constant(index.constant))
    for term in index.terms:
        scale = emitter.constant(term.coefficient)
        for name in term.sizes:
            scale = emitter.op("Mul", scale, emitter.length(name))
        part = Value(scale)
        if term.path is not None:
            along = emitter.path(term.path, extents)
            part = Value(emitter.op("Mul", along.name, scale), along.labels)
        both = [label for label in labels if label in total.labels or label in part.labels]
        sides = [emitter.aligned(total, both), emitter.aligned(part, both)]
        total = Value(emitter.op("Add", *sides), tuple(both))
    if index.division is None:
        return total
    kind, divisor = index.division
    by = emitter.constant(divisor) if isinstance(divisor, int) else emitter.length(divisor)
    rest = emitter.op("Mod", total.name, by)
    if kind == "mod":
        return Value(rest, total.labels)
    whole = emitter.op("Sub", total.name, rest)
    return Value(emitter.op("Div", whole, by), total.labels)


def flat_position(
    emitter: Emitter,
    dims: Sequence[Dim],
    access: Sequence[IndexExpr],
    labels: Sequence[str],
    extents: Extents,
) -> Value:
    """The position of an access in the flattened tensor, int64."""
    total: Value | None = None
    for index, dim in zip(access, dims, strict=True):
        part = index_value(emitter, index, labels, extents)
        if total is None:
            total = part
            continue
        both = [label for label in labels if label in total.labels or label in part.labels]
        row = emitter.op("Mul", emitter.aligned(total, both), emitter.length(dim))
        total = Value(emitter.op("Add", row, emitter.aligned(part, both)), tuple(both))
    return total or Value(emitter.constant(0))
