"""Statistics of formats against counts that are made element by element, on random small data."""

from math import ceil
from typing import Any

import numpy as np
import pytest

from tests.backends.test_format_statistics import facts, matrix

SHAPES = [(37, 29, 160), (16, 8, 40), (1, 9, 5), (33, 1, 7), (5, 3, 0), (50, 64, 30)]


def drawn(rows: int, cols: int, size: int) -> tuple[Any, list[tuple[int, int]]]:
    """A skewed matrix with empty rows and elements that stand twice, and its elements."""
    rng = np.random.default_rng(rows * size)
    row = rng.integers(0, max(1, rows - 3), size) ** 2 // max(1, rows)
    col = rng.integers(0, cols, size)
    return matrix(row, col, (rows, cols)), list(zip(row.tolist(), col.tolist(), strict=True))


def share(elements: int, places: int) -> float:
    return 1 - elements / places if places else 0.0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("height", "width"), [(16, 8), (8, 8), (3, 5), (16, 16)])
def test_condensed_windows(shape: tuple[int, int, int], height: int, width: int):
    bound, elements = drawn(*shape)
    found = facts(bound, "nz", f"sgt({height}, {width})")
    blocks = dict.fromkeys((height, 8), 0)
    before = places = 0
    for h in blocks:
        for window in range(ceil(shape[0] / h)):
            inside = [e for e in elements if e[0] // h == window]
            blocks[h] += ceil(len({c for _, c in inside}) / width)
            if h == height:
                covered = -1
                for c in sorted({c for _, c in inside}):
                    if c > covered:
                        before, covered = before + 1, c + width - 1
                columns = sum(
                    max(inside.count(e) for e in inside if e[1] == c)
                    for c in {c for _, c in inside}
                )
                places += ceil(columns / width) * width * h
    assert (found["blocks"], found["blocks_before"]) == (blocks[height], before)
    assert found["padding"] == pytest.approx(share(len(elements), places))
    per_block = ceil(width / 8) * (8 if height <= 8 else 16 * ceil(height / 16))
    assert found["mma"] == per_block * blocks[height]
    if height > 8:
        assert found["mma_swapped"] == 8 * ceil(width / 8) * blocks[8]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_of_a_grid(shape: tuple[int, int, int]):
    bound, elements = drawn(*shape)
    found = facts(bound, "nz", "bsr(4, 8)")
    blocks = 0
    for key in {(r // 4, c // 8) for r, c in elements}:
        blocks += max(elements.count(e) for e in elements if (e[0] // 4, e[1] // 8) == key)
    assert found["blocks"] == blocks and found["mma"] == 8 * blocks
    assert found["padding"] == pytest.approx(share(len(elements), 32 * blocks))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_that_are_padded(shape: tuple[int, int, int]):
    bound, elements = drawn(*shape)
    degree = [sum(r == row for r, _ in elements) for row in range(shape[0])]
    slots = {"ell": shape[0] * max(degree), "hyb(1, 2)": 0}
    for name, height in (("ell(row, 4)", 4), ("ell(row, 7)", 7)):
        cut = [degree[at : at + height] for at in range(0, shape[0], height)]
        slots[name] = sum(len(each) * max(each) for each in cut)
    for count in degree:
        pieces = [4] * (count // 4) + [count % 4] * (count % 4 > 0)
        widths = [4] * len(pieces) if count > 4 else [1 << (n - 1).bit_length() for n in pieces]
        slots["hyb(1, 2)"] += sum(widths)
    for name, expected in slots.items():
        found = facts(bound, "nz", name)
        assert found["slots"] == expected
        assert found["padding"] == pytest.approx(share(len(elements), expected))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_that_hold_the_same(shape: tuple[int, int, int]):
    bound, elements = drawn(*shape)
    rows = {tuple(c for r, c in elements if r == row) for row in range(shape[0])}
    found, kept = facts(bound, "nz", "dedup(row)"), sum(map(len, rows))
    assert (found["rows"], found["slots"]) == (len(rows), kept)
    assert found["redundancy_before"] == pytest.approx(share(kept, len(elements)))
    # A number for each row, where each distinct one begins, and a column for each element.
    assert found["bytes"] == 4 * (shape[0] + len(rows) + 1 + kept)
    assert facts(bound, "nz", "csr(row)")["bytes"] == 4 * (shape[0] + 1 + len(elements))
    assert facts(bound, "nz", "coo")["bytes"] == 8 * len(elements)
