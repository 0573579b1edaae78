"""Encoded structures as arrays, and what they mean.

Enters: coordinates of elements, one array for each level from the outermost, and an encoding.
Leaves: the arrays that it stores, by name, and from these the coordinates again, in lexicographic
order. `begin` and `at` are where positions begin (at a sliced level those of each slice) and what
coordinates they have, numbered by level,
`mask` a bit for each coordinate of a masked level, the lowest of a byte first;
`map` is which position each coordinate of a mapped level has; `blocks` is where the elements of
each block begin, and `payload` its bytes, bits or values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hectorite.backends.formats.ell import widths
from hectorite.backends.formats.parts import Array, int32, starts, within
from hectorite.backends.formats.sgt import condense
from hectorite.backends.order import segments, sort
from hectorite.ir.encoding import Encoding

Arrays = dict[str, Array]


def store(encoding: Encoding, columns: Sequence[Array], extents: Sequence[int]) -> Arrays:
    """The arrays of a structure. `columns` are int[n] with values below `extents`; `ValueError` for
    an encoding that is none, or that cannot hold them."""
    _check(encoding)
    sorting = sort(list(columns), list(extents))
    sorted_columns = [sorting.arrange(column) for column in columns]
    begin = segments(sorted_columns[0], extents[0])
    if encoding.levels[1:2] in (("padded",), ("sliced",)):
        return _store_padded(begin, sorted_columns, encoding.window)
    if encoding.window is not None:
        return _store_blocks(encoding, encoding.window, sorted_columns, extents)
    if encoding.levels[0] == "singleton":
        return {f"at{k}": int32(column) for k, column in enumerate(sorted_columns)}
    kept = {f"at{k}": int32(column) for k, column in enumerate(sorted_columns) if k}
    if encoding.levels[1:2] == ("masked",):
        kept["mask1"] = _mask(sorted_columns, extents)
        del kept["at1"]
    return {"begin1": begin, **kept}


def _mask(columns: Sequence[Array], extents: Sequence[int]) -> Array:
    """A bit for each coordinate of the second level, by those of the first."""
    held = np.zeros((extents[0], extents[1]), np.bool_)
    held[columns[0], columns[1]] = True
    if np.count_nonzero(held) < len(columns[0]):
        raise ValueError("a masked level holds a coordinate once")
    return np.packbits(held, axis=1, bitorder="little").ravel()


def load(encoding: Encoding, arrays: Mapping[str, Array], extents: Sequence[int]) -> list[Array]:
    """The coordinates that arrays of an encoding mean, in lexicographic order."""
    _check(encoding)
    if encoding.levels[1:2] in (("padded",), ("sliced",)):
        columns = _load_padded(encoding, arrays, extents)
    elif encoding.window is not None:
        columns = _load_blocks(encoding, encoding.window, arrays, extents)
    elif encoding.levels[0] == "singleton":
        columns = [arrays[f"at{k}"] for k in range(len(extents))]
    else:
        if encoding.levels[1:2] == ("masked",):
            packed = arrays["mask1"].reshape(extents[0], -(-extents[1] // 8))
            held = np.unpackbits(packed, axis=1, count=extents[1], bitorder="little")
            arrays = {**arrays, "at1": int32(np.nonzero(held)[1])}
        at = [arrays[f"at{k}"] for k in range(1, len(extents))]
        rows = np.arange(extents[0], dtype=np.int32)
        columns = [np.repeat(rows, np.diff(arrays["begin1"])), *at]
    sorting = sort(columns, list(extents))
    return [int32(sorting.arrange(column)) for column in columns]


def _check(encoding: Encoding) -> None:
    fault = encoding.fault()
    if fault is not None:
        raise ValueError(fault)
    if encoding.levels[0] == "mapped":
        raise ValueError("a mapped level is stored by dedup, from the contents of rows")


def _store_padded(begin: Array, columns: Sequence[Array], window: tuple[int, int] | None) -> Arrays:
    """Rows of one width, or in windows of one width each."""
    degree = np.diff(begin)
    slot_begin = starts(widths(degree, window[0] if window else 0))
    slots = slot_begin[columns[0]] + within(degree)
    arrays: Arrays = {}
    if window is not None:
        arrays["begin1"] = int32(np.append(slot_begin[: -1 : window[0]], slot_begin[-1]))
    for k, column in enumerate(columns):
        if k:
            arrays[f"at{k}"] = np.full(slot_begin[-1], -1, np.int32)
            arrays[f"at{k}"][slots] = column
    return arrays


def _load_padded(
    encoding: Encoding, arrays: Mapping[str, Array], extents: Sequence[int]
) -> list[Array]:
    at, rows = [arrays[f"at{k}"] for k in range(1, len(extents))], extents[0]
    width = np.full(rows, len(at[0]) // max(1, rows))
    if encoding.window is not None:
        height = encoding.window[0]
        share = np.minimum(height, rows - np.arange(0, rows, height))
        width = np.repeat(np.diff(arrays["begin1"]) // share, share)
    columns = [np.repeat(np.arange(rows, dtype=np.int32), width), *at]
    return [column[at[0] >= 0] for column in columns]


def _store_blocks(
    encoding: Encoding, window: tuple[int, int], columns: Sequence[Array], extents: Sequence[int]
) -> Arrays:
    """Blocks of a window: of condensed columns, or of the grid."""
    if len(columns) != 2:
        raise ValueError("a window has rows and columns, and nothing more")
    (rows, cols), (height, width) = columns, window
    bands = rows // height
    lane = rows - bands * height
    if encoding.levels[-1] == "condensed":
        made = condense(rows, cols, (extents[0], extents[1]), height)
        count = -(-made.count // width)
        rank = made.rank - starts(made.count)[:-1][bands]
        block, place = starts(count)[:-1][bands] + rank // width, rank % width
        last = np.repeat(np.maximum(made.count, 1) - 1, count * width)
        source = np.repeat(starts(made.count)[:-1], count * width)
        at = made.columns[source + np.minimum(within(count * width), last)]
    else:
        strips = cols // width
        sorting = sort([bands, strips], [-(-extents[0] // height), -(-extents[1] // width)])
        block = np.empty(len(rows), np.int64)
        order = slice(None) if sorting.permutation is None else sorting.permutation
        block[order] = np.cumsum(sorting.first) - 1
        first = sorting.arrange(bands)[sorting.first]
        count = np.bincount(first, minlength=-(-extents[0] // height))
        at, place = sorting.arrange(strips)[sorting.first], cols % width
    arrays = {"begin1": int32(starts(count)), "at1": int32(at)}
    return arrays | _payload(encoding, window, block, lane * width + place, int(count.sum()))


def _payload(
    encoding: Encoding, window: tuple[int, int], block: Array, place: Array, blocks: int
) -> Arrays:
    places = window[0] * window[1]
    if encoding.payload == "byte":
        order = np.lexsort((place, block))
        return {
            "blocks": int32(starts(np.bincount(block, minlength=blocks))),
            "payload": place[order].astype(np.uint8),
        }
    held: np.ndarray[Any, Any] = np.zeros(blocks * places, np.float32)
    np.add.at(held, block * places + place, 1)
    if encoding.payload == "dense":
        return {"payload": held}
    if (held > 1).any():
        raise ValueError(f"a {encoding.payload} payload holds an element once")
    if encoding.payload == "unit":
        if not held.all():
            raise ValueError("a unit payload wants blocks without gaps")
        return {}
    bits = held.astype(np.bool_).reshape(blocks, places)
    packed = np.packbits(bits, axis=1, bitorder="little")
    return {
        "blocks": int32(starts(np.bincount(block, minlength=blocks))),
        "payload": packed.ravel(),
    }


def _load_blocks(
    encoding: Encoding,
    window: tuple[int, int],
    arrays: Mapping[str, Array],
    extents: Sequence[int],
) -> list[Array]:
    height, width = window
    count = np.diff(arrays["begin1"])
    blocks, places = int(arrays["begin1"][-1]), height * width
    if encoding.payload == "byte":
        block = np.repeat(np.arange(blocks), np.diff(arrays["blocks"]))
        place = arrays["payload"].astype(np.int64)
    elif encoding.payload == "unit":
        block, place = np.divmod(np.arange(blocks * places), places)
    else:
        held = arrays["payload"]
        if encoding.payload == "bitmap":
            packed = held.reshape(blocks, -(-places // 8))
            held = np.unpackbits(packed, axis=1, count=places, bitorder="little").ravel()
        repeat = held.astype(np.int64)
        block, place = np.divmod(np.repeat(np.arange(len(repeat)), repeat), places)
    row = np.repeat(np.arange(len(count)), count)[block] * height + place // width
    if encoding.levels[-1] == "condensed":
        return [row, arrays["at1"][block * width + place % width]]
    return [row, arrays["at1"][block].astype(np.int64) * width + place % width]
