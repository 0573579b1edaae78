"""Sums over rows that have a large share of all elements: a CPU's tasks do parts of them."""

from typing import Any

import numpy as np
import pytest

import hectorite
from hectorite.backends import balance
from hectorite.backends.balance import spans
from hectorite.backends.cpu.threads import set_threads, thread_count

SUMS = """
set node
set edge { src: node, dst: node }
def single(w: f32[edge]) -> f32[node] {
  y[e.dst] += w[e]
  return y
}
schedule { y: work(merge) }
def greatest(x: f32[node, 5], w: f32[edge]) -> f32[node, 5] {
  y[e.dst, k] max= x[e.src, k] * w[e]
  return y
}
schedule { y: work(merge) }
def further(x: f32[node, 20], w: f32[edge]) -> f32[node, 20] {
  y[n, k]      = x[n, k] * 0.5
  y[e.dst, k] += x[e.src, k] * w[e]
  return y
}
schedule { y: work(merge) }
def whole(w: f16[edge]) -> f16[node] {
  y[e.dst] min= w[e]
  return y
}
schedule { y: work(merge) }
"""


def drawn(long: dict[int, int], rows: int, others: int) -> dict[str, Any]:
    rng = np.random.default_rng(rows)
    dst = np.concatenate([np.full(n, row) for row, n in long.items()] + [np.zeros(0, int)])
    dst = np.concatenate([dst, rng.integers(0, rows, others)]).astype(int)
    edge = {"src": rng.integers(0, rows, len(dst)), "dst": rng.permutation(dst)}
    return {"node": rows, "edge": edge}


CASES = {
    "none": drawn({}, 9, 200),
    "one": drawn({3: 900}, 9, 100),
    "ends": drawn({0: 300, 8: 301}, 9, 90),
    "alone": drawn({0: 500}, 1, 0),
    "empty": drawn({}, 4, 0),
}


@pytest.fixture(autouse=True)
def _soon_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "SPLIT", 64)


@pytest.mark.parametrize("name", ["single", "greatest", "further", "whole"])
def test_results(name: str):
    compiled = {
        target: hectorite.compile(SUMS, target, function=name, search=False)
        for target in ("reference", "cpu", "tile")
    }
    for data in CASES.values():
        rng = np.random.default_rng(1)
        extents = {"node": data["node"], "edge": len(data["edge"]["dst"])}
        values = {
            p.name: rng.standard_normal([extents.get(d, d) for d in p.dims]).astype(
                p.element.storage
            )
            for p in compiled["cpu"][name].signature.parameters
        }

        def called(target: str, data: dict[str, Any] = data, values: dict = values) -> Any:
            program = compiled[target]
            return program[name](program.bind(**data), **values)

        wanted, found = called("reference"), called("cpu")
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(called("tile"), wanted, rtol=1e-4, atol=1e-4)
        before = thread_count()
        for threads in (1, 3, before):
            set_threads(threads)
            np.testing.assert_array_equal(called("cpu"), found)


@pytest.mark.parametrize("lengths", [[], [0], [3, 0, 5], [900, 1], [0, 300, 0, 400, 2], [70] * 20])
def test_every_element_is_in_one_part(lengths: list[int]):
    pointers = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    tasks, rows = (table.tolist() for table in spans(pointers, 7))
    tasks = [tasks[i : i + 4] for i in range(0, len(tasks), 4)]
    rows = [rows[i : i + 3] for i in range(0, len(rows), 3)]
    whole = [row for lower, upper, _, piece in tasks if piece < 0 for row in range(lower, upper)]
    assert sorted(whole + [row for row, _, _ in rows]) == list(range(len(lengths)))
    pieces = {piece: (row, lower, upper) for row, lower, upper, piece in tasks if piece >= 0}
    for row, first, last in rows:
        places = [pieces[piece] for piece in range(first, last)]
        assert {each for each, _, _ in places} == {row}
        bounds = [places[0][1], *(upper for _, _, upper in places)]
        assert bounds == [lower for _, lower, _ in places] + [pointers[row + 1]]
        assert bounds[0] == pointers[row]
