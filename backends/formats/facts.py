"""What storing a set in a format costs, by numbers.

Enters: a set bound to data, and the parts of its format. Leaves: for the format its encodings and
their bytes, blocks, padding, tensor instructions, and what else applies.

Blocks of a condensed window are its distinct columns over the width, rounded up; `blocks_before`
are the fewest spans of that width that cover those columns where they stand. Instructions are of
16 x 8 x 8, as many as a product with so many columns takes: 16 rows of a block by 8 columns, or
where a block has at most 8 rows, 8 of these by 16 columns. Shares are between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hectorite.backends.formats.parts import Array, Bound, Part, starts
from hectorite.backends.order import sort
from hectorite.ir.encoding import Encoding, smaller_payload

COLUMNS = 128
"""Columns of the product whose instructions are counted."""

Facts = dict[str, Any]
Parts = Mapping[str, Part]


@dataclass(frozen=True)
class Stored:
    """A structure in an encoding: `counts` are its positions by level."""

    encoding: Encoding
    counts: tuple[int, ...]
    elements: int
    rows: int = 0

    @property
    def bytes(self) -> int:
        """What it takes in memory, values apart."""
        return self.encoding.bytes(self.counts, self.elements, self.rows)


def statistics(bound: Bound, parts: Parts) -> Facts:
    """`bytes`, `padding` and `atomics` of a set in its format, and what else applies."""
    stored = encodings(bound, parts)
    facts: Facts = {"bytes": sum(each.bytes for each in stored)}
    facts["encoding"] = f"#sparse.encoding<{stored[0].encoding}>"
    return facts | _FACTS[bound.format.kind](bound, parts) | {"atomics": 0}


def encodings(bound: Bound, parts: Parts) -> list[Stored]:
    """How a format lies in memory: one structure, or one for each bucket of hyb."""
    kind, rank, size = bound.format.kind, len(bound.targets), bound.size
    if kind == "coo":
        return [Stored(Encoding(("singleton",) * max(1, rank)), (size,) * rank, size)]
    if kind in ("sgt", "bsr"):
        return [_blocks_stored(bound, parts)]
    if kind == "dedup":
        unique, kept = parts["unique"].size, parts["element"].size
        levels = ("mapped", "compressed", *("singleton",) * (rank - 2))
        counts = (unique, *(kept,) * (rank - 1))
        rows = bound.extent(bound.format.fields[0])
        return [Stored(Encoding(levels), counts, kept, rows)]
    if kind == "permute":
        rows = parts["rows"].size
        levels = ("mapped", "compressed", *("singleton",) * (rank - 2))
        return [Stored(Encoding(levels), (rows, *(size,) * (rank - 1)), size, rows)]
    if kind == "split":
        coordinates = Encoding(("singleton",) * max(1, rank))
        sizes = (part.size for part in parts.values())
        return [Stored(coordinates, (part,) * rank, part) for part in sizes]
    if kind == "hyb":
        levels = ("singleton", *("padded",) * (rank - 1))
        widths = ((part.size, int(name.rpartition("_")[2])) for name, part in parts.items())
        return [
            Stored(Encoding(levels), (slots // width, *(slots,) * (rank - 1)), bound.size)
            for slots, width in widths
        ]
    if kind == "ell":
        slots = parts["slot"].size
        (slice,), rows = bound.format.numbers, bound.extent(bound.format.fields[0])
        encoding = Encoding(("dense", *("padded",) * (rank - 1)))
        if slice and rank > 1:
            levels = ("dense", "sliced", *("singleton",) * (rank - 2))
            encoding = Encoding(levels, (slice, 1))
        return [Stored(encoding, (rows, *(slots,) * (rank - 1)), size)]
    if kind == "coded_csr":
        # Slots have a place in the list of who reads and of who writes, and no coordinates.
        coded = Encoding(("dense", "compressed"))
        ends = zip(bound.format.fields, ("read", "write"), strict=False)
        return [Stored(coded, (bound.extent(end), parts[part].size), size) for end, part in ends]
    if kind == "bitmask" and not _repeats(bound):
        _, out, offset = bound.format.fields
        levels = ("dense", "masked", *("singleton",) * (rank - 2))
        counts = (bound.extent(out), *(size,) * (rank - 1))
        return [Stored(Encoding(levels), counts, size, bound.extent(offset))]
    return [_compressed(bound, parts)]


def _repeats(bound: Bound) -> bool:
    """Whether an out row of a convolution has an offset twice, which one bit cannot say."""
    _, *ends = bound.format.fields
    sorting = sort([bound.map(end) for end in ends], [bound.extent(end) for end in ends])
    return sorting.count < bound.size


def _compressed(bound: Bound, parts: Parts) -> Stored:
    """Positions by one field: csr, and the pairs of a convolution by their offset."""
    kind, fields = bound.format.kind, bound.format.fields
    by = fields[-1] if kind == "bitmask" else fields[0]
    positions = parts["slot" if "slot" in parts else "element"].size
    more = len(bound.targets) - 1
    if not more:
        return Stored(Encoding(("singleton",)), (positions,), bound.size)
    levels = ("dense", *("compressed", *("singleton",) * (more - 1)))
    return Stored(Encoding(levels), (bound.extent(by), *(positions,) * more), bound.size)


def _blocks_stored(bound: Bound, parts: Parts) -> Stored:
    height, width = bound.format.numbers
    if bound.format.kind == "sgt":
        positions, level = parts["column"].size, "condensed"
        blocks, bands = positions // width, parts["window"].size
    else:
        positions, level = parts["block"].size, "compressed"
        blocks, bands = positions, parts["band"].size
    payload = smaller_payload((height, width), blocks, bound.size)
    encoding = Encoding(("dense", level), (height, width), payload)
    return Stored(encoding, (bands, positions), bound.size)


def _share(part: int, whole: int) -> float:
    return 0.0 if not whole else part / whole


def _empty(elements: int, places: int) -> float:
    """The share of places without an element, each of which has at most one for itself."""
    return max(0.0, _share(places - elements, places))


def _plain(bound: Bound, parts: Parts) -> Facts:
    return {"padding": 0.0}


def _slots(bound: Bound, parts: Parts) -> Facts:
    slots = sum(part.size for name, part in parts.items() if name.startswith("slot"))
    return {"slots": slots, "padding": _share(slots - bound.size, slots)}


def _dedup(bound: Bound, parts: Parts) -> Facts:
    kept, unique = parts["element"].size, parts["unique"].size
    return {
        "padding": 0.0,
        "slots": kept,
        "rows": unique,
        "redundancy": 0.0,
        "redundancy_before": _share(bound.size - kept, bound.size),
    }


def _pairs(bound: Bound, parts: Parts) -> Facts:
    """Kernel maps. A dense map has an entry for each out row and offset; these keep pairs only."""
    fields, targets = bound.format.fields, list(bound.targets)
    offset = fields[-1]
    out = fields[1] if len(fields) == 3 else _other_end(targets, offset)
    entries = bound.extent(out) * bound.extent(offset)
    facts = _slots(bound, parts) if bound.format.kind != "coded_csr" else _plain(bound, parts)
    facts |= {"redundancy": 0.0, "redundancy_before": _share(entries - bound.size, entries)}
    if bound.format.numbers:
        facts["blocks"] = -(-parts["slot"].size // bound.format.numbers[0])
    return facts


def _other_end(fields: list[str], offset: str) -> str:
    """The field of out rows: the second of those that are no offset."""
    ends = [name for name in fields if name != offset]
    return ends[1] if len(ends) > 1 else fields[0]


def instructions(height: int, width: int, blocks: int, columns: int = COLUMNS) -> int:
    """Instructions of 16 x 8 x 8 for blocks times so many columns."""
    if height <= 8:
        return blocks * -(-width // 8) * -(-columns // 16)
    return blocks * -(-height // 16) * -(-width // 8) * -(-columns // 8)


def _sgt(bound: Bound, parts: Parts) -> Facts:
    row, col = bound.format.fields
    height, width = bound.format.numbers
    rows, columns = bound.map(row), bound.map(col)
    extents = (bound.extent(row), bound.extent(col))
    blocks, before = condensed_blocks(rows, columns, extents, height, width)
    facts: Facts = {
        "blocks": blocks,
        "blocks_before": before,
        "padding": _empty(bound.size, parts["column"].size * height),
        "mma": instructions(height, width, blocks),
    }
    if height > 8:
        swapped, _ = condensed_blocks(rows, columns, extents, 8, width)
        facts["mma_swapped"] = instructions(8, width, swapped)
    return facts


def _bsr(bound: Bound, parts: Parts) -> Facts:
    height, width = bound.format.numbers
    blocks = parts["block"].size
    return {
        "blocks": blocks,
        "padding": _empty(bound.size, blocks * height * width),
        "mma": instructions(height, width, blocks),
    }


def condensed_blocks(
    rows: Array, columns: Array, extents: tuple[int, int], height: int, width: int
) -> tuple[int, int]:
    """Blocks of windows of `height` rows with their columns condensed, and spans of `width` columns
    that cover them where they stand, each beginning at the first that is not yet covered."""
    windows = -(-extents[0] // height)
    window = rows // height
    sorting = sort([window, columns], [windows, extents[1]])
    found = sorting.arrange(columns)[sorting.first].astype(np.int64)
    owner = sorting.arrange(window)[sorting.first].astype(np.int64)
    count = np.bincount(owner, minlength=windows)
    blocks = int((-(-count // width)).sum())
    # Where the span that begins at a column ends, all windows at a time.
    stride = extents[1] + width
    code = owner * stride + found
    following = np.searchsorted(code, code + width)
    begin = starts(count)
    at, end = begin[:-1][count > 0], begin[1:][count > 0]
    spans = 0
    while len(at):
        spans += len(at)
        at = following[at]
        inside = at < end
        at, end = at[inside], end[inside]
    return blocks, spans


_FACTS: dict[str, Callable[[Bound, Parts], Facts]] = {
    "coo": _plain,
    "csr": _plain,
    "csc": _plain,
    "jagged": _plain,
    "ell": _slots,
    "hyb": _slots,
    "sgt": _sgt,
    "bsr": _bsr,
    "dedup": _dedup,
    "segmented": _pairs,
    "bitmask": _pairs,
    "coded_csr": _pairs,
    "permute": _plain,
    "split": _plain,
}
