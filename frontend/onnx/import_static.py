"""What is known of an ONNX graph before it runs: shapes, and numbers computed from constants.

Enters: a node with its tensors. Leaves: the numbers of its outputs if they follow from what is
known. Lengths that are only names stay names, as far as they are moved and not computed with.

    Concat(Shape(x)[0], [12, 64])  of  x: f32[N, 128]   is   [N, 12, 64]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from hectorite.frontend.onnx.import_node import Node, known_integers
from hectorite.frontend.onnx.import_values import Array, Tensor

MOST = 1 << 16
"""Constants are computed with if the results have at most so many numbers."""

FLOATS = 64
"""The same for floats, which may be weights: a pass that folds those knows what it costs."""


def static(
    node: Node, evaluate: Callable[[Sequence[Array]], Sequence[Array]]
) -> list[Array] | None:
    """The outputs of a node as numbers, or None. `evaluate` computes the node on arrays."""
    if node.op == "Shape":
        dims = node.input(0).dims
        start, end = node.attribute("start", 0), node.attribute("end", len(dims))
        return [known_integers(dims[start:end])]
    if node.op == "Size":
        dims = node.input(0).dims
        lengths = [dim for dim in dims if isinstance(dim, int)]
        return [np.array(math.prod(lengths))] if len(lengths) == len(dims) else None
    inputs = [tensor.known for tensor in node.given]
    if not inputs or any(known is None for known in inputs):
        return None
    arrays = [known for known in inputs if known is not None]
    if any(known.dtype == object for known in arrays):
        moved = _moved(node, arrays)
        return None if moved is None else [moved]
    if node.op in ("ConstantOfShape", "Expand", "Identity"):
        return _repeated(node, arrays)
    if any(known.size > (FLOATS if known.dtype.kind not in "iub" else MOST) for known in arrays):
        return None
    results = list(evaluate(arrays))
    if any(
        result.size > (FLOATS if result.dtype.kind not in "iub" else MOST) for result in results
    ):
        return None
    return results


def _repeated(node: Node, arrays: Sequence[Array]) -> list[Array] | None:
    """One number in a shape takes no memory, however large the shape."""
    if node.op == "Identity":
        return [arrays[0]]
    shape = tuple(int(length) for length in arrays[-1])
    if node.op == "Expand":
        single: Array = arrays[0]
        if single.size != 1:
            return None
        shape = np.broadcast_shapes(single.shape, shape)
        return [np.broadcast_to(single.reshape(()), shape)]
    value: Tensor | None = node.attribute("value")
    number = np.float32(0) if value is None else value.number
    return [np.broadcast_to(np.asarray(number), shape)]


def _moved(node: Node, arrays: Sequence[Array]) -> Array | None:
    """What becomes of lengths of which some are names; None where they are computed with."""
    x, rest = arrays[0], arrays[1:]
    match node.op:
        case "Identity" | "Cast":
            return x
        case "Gather":
            return np.take(x, rest[0].astype(np.int64), node.attribute("axis", 0))
        case "Concat":
            return np.concatenate([array.astype(object) for array in arrays])
        case "Unsqueeze":
            return x.reshape(1) if x.ndim == 0 else None
        case "Squeeze":
            return x.reshape(()) if x.size == 1 else None
        case "Reshape":
            wanted = [int(length) for length in rest[0]] if rest[0].dtype != object else None
            return None if wanted is None else x.reshape(wanted)
        case "Slice":
            return _sliced(x, rest)
        case "Mul" | "Div":
            return _scaled(node.op, x, rest[0])
        case _:
            return None


def _sliced(x: Array, rest: Sequence[Array]) -> Array | None:
    if any(part.dtype == object or part.size != 1 for part in rest) or x.ndim != 1:
        return None
    start, end = (int(part.ravel()[0]) for part in rest[:2])
    return x[start : end : int(rest[3].ravel()[0]) if len(rest) > 3 else 1]


def _scaled(op: str, x: Array, y: Array) -> Array | None:
    """A name times or by one is that name."""
    if y.size == 1 and y.dtype != object and y.ravel()[0] == 1:
        return x
    if op == "Mul" and x.size == 1 and x.dtype != object and x.ravel()[0] == 1:
        return y
    return None
