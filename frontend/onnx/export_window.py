"""Convolutions and pools, recognised in statements.

Enters: a statement. Leaves: a `Conv` if it is a sum of products of a tensor read in windows and one
read at plain variables, channels before places, in groups or not; a `MaxPool` if it is the greatest
element of windows; else None.

    y[n, o, p] += x[n, c, 2*p + r - 1] * w[o, c, r]      Conv(strides=[2], pads=[1, ...])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.frontend.onnx.export_values import Emitter, Extents, Value
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import OPERATIONS

CHANNELS = 2
"""Axes before those of places: the batch and the channels."""


@dataclass(frozen=True)
class Axis:
    """The window of one axis, as ONNX counts it."""

    place: str
    tap: str
    stride: int
    dilation: int
    before: int
    after: int


@dataclass(frozen=True)
class Channels:
    """How channels are matched; `outer` labels the outputs, with groups apart if there are two."""

    groups: int
    outer: tuple[str, ...]


def convolution(
    emitter: Emitter, op: StatementOp, known: Callable[[SSAValue], str]
) -> Value | None:
    """The sum as a `Conv`, or None if it is none."""
    extents: Extents = dict(op.variables.data)
    product = op.value.owner
    if not isinstance(product, OPERATIONS["mul"]) or not element_of(op.value.type).is_float:
        return None
    reads = [operand.owner for operand in product.operands]
    for x, w in (reads, reads[::-1]):
        if not isinstance(x, ReadOp) or not isinstance(w, ReadOp):
            return None
        found = _matched(x, w, extents, op)
        if found is None:
            continue
        channels, windows = found
        attributes = {
            "strides": [window.stride for window in windows],
            "dilations": [window.dilation for window in windows],
            "pads": [*(v.before for v in windows), *(v.after for v in windows)],
            "group": channels.groups,
        }
        name = emitter.op("Conv", known(x.tensor), known(w.tensor), **attributes)
        batch = x.access.data[0].variable
        assert batch is not None
        labels = (batch, *channels.outer, *(window.place for window in windows))
        if len(channels.outer) > 1:
            name = emitter.reshaped(name, [extents[label] for label in labels])
        return Value(name, labels)
    return None


def max_pool(emitter: Emitter, op: StatementOp, known: Callable[[SSAValue], str]) -> Value | None:
    """The greatest element of each window as a `MaxPool`, or None if it is none."""
    extents: Extents = dict(op.variables.data)
    x = op.value.owner
    if not isinstance(x, ReadOp) or len(x.access.data) < CHANNELS + 1:
        return None
    if not x.type.element_type.is_float:
        return None
    first = [index.variable for index in x.access.data[:CHANNELS]]
    if any(n is None or extents[n] != d for n, d in zip(first, x.type.dims, strict=False)):
        return None
    windows = list[Axis]()
    for index, length in zip(x.access.data[CHANNELS:], x.type.dims[CHANNELS:], strict=True):
        taps = [name for name in index.variables if name in op.reduced]
        window = None
        if len(taps) == 1 and isinstance(length, int):
            window = _window(index, taps[0], length, extents)
        if window is None:
            return None
        windows.append(window)
    kept = [*(name for name in first if name), *(window.place for window in windows)]
    taken = {*kept, *(window.tap for window in windows)}
    if len(taken) != len(extents) or set(op.reduced) & set(kept):
        return None
    sizes = [extents[window.tap] for window in windows]
    pads = [*(window.before for window in windows), *(window.after for window in windows)]
    # ONNX pads with the least value, and by less than a window.
    pairs = zip(pads, sizes * 2, strict=True)
    small = all(isinstance(size, int) and pad < size for pad, size in pairs)
    if any(pads) and (x.type.pad_value != -math.inf or not small):
        return None
    attributes = {
        "kernel_shape": sizes,
        "strides": [window.stride for window in windows],
        "dilations": [window.dilation for window in windows],
        "pads": pads,
    }
    return Value(emitter.op("MaxPool", known(x.tensor), **attributes), tuple(kept))


def _matched(
    x: ReadOp, w: ReadOp, extents: Extents, op: StatementOp
) -> tuple[Channels, list[Axis]] | None:
    if len(x.access.data) < CHANNELS + 1 or len(x.access.data) != len(w.access.data):
        return None
    lengths = [*x.type.dims[1:], *w.type.dims]
    if any(isinstance(length, str) for length in lengths):
        return None
    batch = x.access.data[0].variable
    if batch is None or extents[batch] != x.type.dims[0] or batch in op.reduced:
        return None
    windows = list[Axis]()
    sides = zip(
        x.access.data[CHANNELS:], w.access.data[CHANNELS:], x.type.dims[CHANNELS:], strict=True
    )
    for index, tap, length in sides:
        window = _window(index, tap.variable, int(length), extents)
        if window is None:
            return None
        windows.append(window)
    if x.type.pad_value != 0 and any(window.before or window.after for window in windows):
        return None
    channels = _channels(x.access.data[1], w.access.data[:CHANNELS], w, extents)
    if channels is None:
        return None
    kept = {batch, *channels.outer, *(window.place for window in windows)}
    if set(op.reduced) != set(extents) - kept or len(kept) != len(windows) + 1 + len(
        channels.outer
    ):
        return None
    return channels, windows


def _window(index: IndexExpr, tap: str | None, length: int, extents: Extents) -> Axis | None:
    steps = {term.path.variable: term.coefficient for term in index.terms if term.path is not None}
    plain = all(term.path and not term.path.fields and not term.sizes for term in index.terms)
    places = [name for name in steps if name != tap]
    if not plain or index.division is not None or tap is None or len(places) != 1:
        return None
    (place,) = places
    count, taps = extents[place], extents[tap]
    stride, dilation, before = steps[place], steps.get(tap, 0), -index.constant
    if not isinstance(count, int) or not isinstance(taps, int) or (tap not in steps and taps > 1):
        return None
    dilation = dilation or 1
    after = (count - 1) * stride + (taps - 1) * dilation + 1 - before - length
    # ONNX fits in as many windows as it can: with what is left over there must be no more of them.
    if stride < 1 or dilation < 1 or before < 0 or after <= -stride:
        return None
    return Axis(place, tap, stride, dilation, before, max(after, 0))


def _channels(
    of_x: IndexExpr, of_w: Sequence[IndexExpr], w: ReadOp, extents: Extents
) -> Channels | None:
    """Whole, in groups apart (`inner*g + c`), or one input to a group (`o // outer`)."""
    output, inner = of_w
    total, width = w.type.dims[:CHANNELS]
    assert isinstance(total, int) and isinstance(width, int)
    o = output.variable
    if o is not None and extents[o] == total:
        if of_x.variable is not None and of_x == inner and extents[of_x.variable] == width:
            return Channels(1, (o,))
        if inner == IndexExpr() and width == 1:
            if of_x == output:
                return Channels(total, (o,))
            whole = IndexExpr.make(of_x.terms, of_x.constant)
            if whole == output and of_x.division is not None and of_x.division[0] == "floordiv":
                outer = of_x.division[1]
                return Channels(total // outer, (o,)) if isinstance(outer, int) else None
        return None
    c = inner.variable
    groups = [name for name in of_x.variables if name != c]
    if c is None or len(groups) != 1 or len(output.variables) != 2:
        return None
    (g,) = groups
    (o,) = (name for name in output.variables if name != g) if g in output.variables else (None,)
    if o is None or not isinstance(extents[g], int) or not isinstance(extents[o], int):
        return None
    expected = [_joined(g, width, c), _joined(g, int(extents[o]), o)]
    fits = extents[c] == width and int(extents[g]) * int(extents[o]) == total
    return Channels(int(extents[g]), (g, o)) if [of_x, output] == expected and fits else None


def _joined(group: str, count: int, each: str) -> IndexExpr:
    """`count * group + each`."""
    of_group = IndexExpr.of(group).terms[0]
    scaled = type(of_group)(count, of_group.path)
    return IndexExpr.make((scaled, *IndexExpr.of(each).terms))
