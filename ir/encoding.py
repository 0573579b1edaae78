"""Encodings: how a sparse structure lies in memory, and how many bytes that takes.

Enters: levels from the outermost to the innermost, a window, a payload. Leaves: whether they fit
each other, and a size for numbers of positions.

    level        stores                                             for each position above
    dense        nothing                                            every coordinate
    compressed   where each begins, and a coordinate for each       those that occur
    condensed    where each begins, and `width` columns to a block  the columns of a window
    masked       where each begins, and a bit for each coordinate   those that occur
    singleton    a coordinate for each                              one
    padded       a coordinate for each, -1 for padding              a fixed number
    sliced       where each window begins, and as padded            a number fixed for a window
    mapped       for each coordinate which position it has          those that differ

    payload      stores
    index        nothing: positions are elements
    byte         where each block begins, and for each element a byte, row * width + column
    bitmap       where each block begins, and a bit for each place of a block
    dense        a value for each place of a block
    unit         nothing: every place of a block is an element

Coordinates and places where something begins take four bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEVELS = ("dense", "compressed", "condensed", "masked", "singleton", "padded", "sliced", "mapped")
PAYLOADS = ("index", "byte", "bitmap", "dense", "unit")

INDEX = 4
"""Bytes of a coordinate."""

_MOST_IDS = 256


@dataclass(frozen=True)
class Encoding:
    """How a structure is stored. `window` is (rows, columns) of a block."""

    levels: tuple[str, ...]
    window: tuple[int, int] | None = None
    payload: str = "index"

    def fault(self) -> str | None:
        """What does not fit, or None."""
        unknown = [level for level in self.levels if level not in LEVELS]
        if unknown or self.payload not in PAYLOADS:
            name = unknown[0] if unknown else self.payload
            what, known = ("level", LEVELS) if unknown else ("payload", PAYLOADS)
            return f"`{name}` is no {what}; {what}s are {', '.join(known)}"
        if not self.levels:
            return "an encoding has at least one level"
        if "mapped" in self.levels[1:]:
            return "only the outermost level can be mapped"
        if self.levels[0] in ("padded", "sliced", "compressed", "condensed"):
            return f"the outermost level cannot be {self.levels[0]}: nothing is above it"
        masked = [k for k, level in enumerate(self.levels) if level == "masked"]
        if masked and (masked != [1] or self.levels[0] != "dense"):
            return "a masked level is the one below a dense level"
        if "sliced" in self.levels:
            return self._slices_fault()
        if self.window is None:
            inside = self.payload in ("byte", "bitmap", "dense") or "condensed" in self.levels
            name = self.payload if self.payload != "index" else "condensed"
            return f"`{name}` needs a window" if inside else None
        return self._window_fault(self.window)

    def _slices_fault(self) -> str | None:
        if self.levels[:2] != ("dense", "sliced") or {*self.levels[2:]} - {"singleton"}:
            return "a sliced level is the one below a dense level, above none but singletons"
        if self.window is None or self.window[0] < 1 or self.window[1] != 1:
            return "a sliced level needs a window of so many rows and 1 column"
        return None if self.payload == "index" else "positions of a sliced level are elements"

    def _window_fault(self, window: tuple[int, int]) -> str | None:
        if min(window) < 1:
            return f"a window of {window[0]} by {window[1]} has no places"
        if self.levels[-1] not in ("compressed", "condensed"):
            return "the innermost level of a window is compressed or condensed"
        if self.payload == "index":
            return "a window needs a payload that tells the places of a block apart"
        if self.payload == "byte" and window[0] * window[1] > _MOST_IDS:
            return f"a byte cannot number the {window[0] * window[1]} places of a block"
        return None

    def __str__(self) -> str:
        parts = [f"levels [{', '.join(self.levels)}]"]
        if self.window is not None:
            parts.append(f"window [{self.window[0]}, {self.window[1]}]")
        return ", ".join([*parts, f"payload {self.payload}"])

    def bytes(self, counts: Sequence[int], elements: int, rows: int = 0, value: int = 4) -> int:
        """Bytes of a structure with `counts[k]` positions at level k and so many elements.

        At a condensed level positions are columns, a multiple of the width. `rows` is how many
        coordinates a mapped or masked level has, `value` the bytes of a value in a dense block.
        """
        total = 0
        for level, above, here in zip(self.levels, (1, *counts), counts, strict=False):
            if level in ("compressed", "condensed", "masked"):
                total += INDEX * (above + 1)
            if level == "sliced":
                total += INDEX * (-(-above // self.window[0]) + 1) if self.window else 0
            if level == "masked":
                total += above * -(-rows // 8)
            elif level != "dense":
                total += INDEX * (rows if level == "mapped" else here)
        return total + self._payload_bytes(counts[-1], elements, value)

    def _payload_bytes(self, positions: int, elements: int, value: int) -> int:
        if self.window is None or self.payload in ("index", "unit"):
            return 0
        height, width = self.window
        blocks = positions // width if self.levels[-1] == "condensed" else positions
        if self.payload == "dense":
            return blocks * height * width * value
        each = -(-height * width // 8) * blocks if self.payload == "bitmap" else elements
        return INDEX * (blocks + 1) + each


def smaller_payload(window: tuple[int, int], blocks: int, elements: int) -> str:
    """`byte` or `bitmap`, whichever takes less for so many blocks and elements; `byte` if both take
    the same, `bitmap` where a byte cannot number the places."""
    places = window[0] * window[1]
    return "byte" if places <= _MOST_IDS and elements <= blocks * -(-places // 8) else "bitmap"
