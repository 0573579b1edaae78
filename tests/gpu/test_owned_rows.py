"""Scattered products whose tasks own blocks of rows: tables, results, choice, machine code."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hectorite
from hectorite.backends.slots import slots
from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_memory import StoreOp
from hectorite.ir.devices import device_named
from hectorite.ir.schedule import Schedule
from hectorite.ir.target import target
from hectorite.lowering.machine import Machine
from hectorite.lowering.options import Options
from hectorite.lowering.pipelines import optimise, to_tile

elements = st.integers(1, 40).flatmap(
    lambda rows: st.tuples(
        st.just(rows),
        st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, 4)), max_size=60),
    )
)


@given(elements, st.sampled_from([1, 4, 16]))
def test_every_element_has_one_slot_beside_those_like_it(data: Any, height: int):
    rows, pairs = data
    row, kind = (np.array([p[i] for p in pairs], np.int32) for i in (0, 1))
    found = slots([row, kind], [rows, 5], height)
    blocks = -(-rows // height)
    table, entries = found.rows.reshape(-1, height), found.element.reshape(-1, height)
    assert len(table) == blocks and sorted(table[table >= 0]) == list(range(rows))
    assert sorted(entries[entries >= 0]) == list(range(len(pairs)))
    assert found.block[0] == 0 and found.block[-1] == len(entries) == len(found.first)
    for block in range(blocks):
        for entry in range(found.block[block], found.block[block + 1]):
            own = entries[entry]
            assert (row[own[own >= 0]] == table[block][own >= 0]).all()
            assert (kind[own[own >= 0]] == kind[found.first[entry]]).all() and (own >= 0).any()
    values = np.arange(100, 100 + len(pairs), dtype=np.int32)
    along = found.along(values).reshape(-1, height)
    assert ((along < 0) == (entries < 0)).all()
    assert (along[entries >= 0] == 100 + entries[entries >= 0]).all()


SETS = """
set row
set kind
set pair { from: row, to: row, kind: kind }
"""
PLAIN = (
    SETS
    + """
def f(x: T[row, I], W: T[kind, I, O], s: A[row, O]) -> A[row, O] {
  y[n, o] = s[n, o]
  y[p.to, o] += A(x[p.from, i]) * A(W[p.kind, i, o])
  return y
}
schedule { y: work(row) }
"""
)
HEADS = (
    SETS
    + """
def f(x: T[row, 2, 3, I], W: T[kind, 2, 3, O, I]) -> A[2, row, O] {
  y[h, p.to, o] += A(x[p.from, h, c, i]) * A(W[p.kind, h, c, o, i])
  return y
}
schedule { y: work(row) tile(i = 16) pipeline(3) }
"""
)
OWN = (
    SETS
    + """
def f(x: T[pair, I], W: T[I, O]) -> A[row, O] {
  y[p.to, o] += A(x[p, i]) * A(W[i, o])
  return y
}
schedule { y: work(row) }
"""
)
PROGRAMS = {"plain": PLAIN, "heads": HEADS, "own": OWN}
TYPES = [("f16", "f32"), ("f32", "f32"), ("i8", "i32")]
SIZES = {"I": 24, "O": 20}


def typed(program: str, types: tuple[str, str]) -> str:
    return program.replace("T[", f"{types[0]}[").replace("A", types[1])


def tiled(program: str, of: str) -> Any:
    module = optimise(hectorite.parse(program), SIZES)
    return to_tile(module, "f", Machine.gpu(target(of)))


def bound(rows: int, kinds: int, pairs: int, seed: int) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    maps = {"from": draw.integers(0, rows, pairs), "to": draw.integers(0, rows, pairs)}
    maps["to"][: pairs // 4] = rows - 1
    maps["kind"] = draw.integers(0, kinds, pairs)
    return {"row": rows, "kind": kinds, "pair": {k: v.astype(np.int32) for k, v in maps.items()}}


def agree(program: str, sets: dict[str, Any], *targets: str) -> None:
    wanted: Any = None
    extents = {**SIZES, "row": sets["row"], "kind": sets["kind"], "pair": len(sets["pair"]["to"])}
    for each in ("reference", *targets):
        compiled = hectorite.compile(program, each, sizes=SIZES, cache=False)
        function, binding = compiled["f"], compiled.bind(**sets)
        draw = np.random.default_rng(7)
        arguments = {
            p.name: draw.integers(-3, 4, [extents.get(d, d) for d in p.dims]).astype(
                p.element.storage
            )
            for p in function.signature.parameters
        }
        found = function(binding, **arguments)
        wanted = found if wanted is None else wanted
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_statement(name: str):
    program = typed(PROGRAMS[name], TYPES[0])
    agree(program, bound(70, 3, 200, 5), "tile", "ptx:sm_90a" if name == "plain" else "ptx:sm_80")


@pytest.mark.parametrize("types", TYPES[1:], ids="-".join)
def test_so_they_are_of_other_types(types: tuple[str, str]):
    agree(typed(PLAIN, types), bound(70, 3, 200, 5), "ptx:sm_80")


@settings(max_examples=3, deadline=None)
@given(st.integers(1, 150), st.integers(1, 9), st.integers(0, 300), st.integers(0, 99))
def test_any_pairs_are_multiplied(rows: int, kinds: int, pairs: int, seed: int):
    agree(typed(PLAIN, ("f16", "f32")), bound(rows, kinds, pairs, seed), "ptx:sm_80")


@pytest.mark.parametrize("name", PROGRAMS)
def test_there_is_one_kernel_without_a_tensor_of_pairs_or_atomics(name: str):
    kernels = list(tiled(typed(PROGRAMS[name], TYPES[0]), "sm_80").ops)
    owned = [op for op in kernels if isinstance(op, KernelOp) and "slot" in str(op)]
    assert len(owned) == 1
    for op in kernels:
        assert "tensor<f32[pair" not in str(op)
        assert not any(isinstance(s, StoreOp) and s.combine is not None for s in op.walk())


CONVOLUTION = typed(PLAIN, ("f16", "f32")).partition("schedule")[0]


def chosen(
    pairs: int, alone: int, device: str, program: str = CONVOLUTION, kinds: int = 27
) -> bool:
    known = ["row=100000", f"kind={kinds}", f"pair={pairs}", f"pair(kind)={kinds}"]
    options = Options(cardinalities=(*known, f"pair(kind,to)={alone}"), device=device_named(device))
    module = optimise(hectorite.parse(program), {"I": 64, "O": 64}, options)
    found = [Schedule.on(op) for op in module.walk() if isinstance(op, StatementOp)]
    return any(s is not None and (s.work, s.chosen) == ("row", True) for s in found)


@pytest.mark.parametrize("device", ["a100", "h200"])
def test_it_is_chosen_where_most_rows_have_most_weights(device: str):
    assert chosen(1_000_000, 1_000_000, device)
    assert not chosen(1_000_000, 300_000, device)  # several elements alike
    assert chosen(300_000, 300_000, device)  # rows with the same three of 27 stand together
    assert not chosen(100_000, 100_000, device, CONVOLUTION, kinds=1000)  # none has the same
    assert not chosen(200_000, 200_000, device, CONVOLUTION.replace("f16", "f32"))
    assert not chosen(
        300_000, 300_000, device, CONVOLUTION.replace("kind }", "kind } as coded_csr")
    )


def test_what_is_chosen_for_data_gives_the_same_results():
    draw, rows, kinds = np.random.default_rng(0), 300, 9
    kind, to = (part.ravel() for part in np.indices((kinds, rows)))
    keep = draw.random(len(to)) < 0.6
    maps = {"from": draw.integers(0, rows, keep.sum()), "to": to[keep], "kind": kind[keep]}
    sets = {"row": rows, "kind": kinds, "pair": {k: v.astype(np.int32) for k, v in maps.items()}}
    agree(CONVOLUTION, sets, "ptx:sm_90")


def test_rows_with_the_same_weights_stand_together():
    """Half of the places are taken where a row has three of 27, as on a surface."""
    draw, rows = np.random.default_rng(0), 4000
    shapes = np.array([draw.choice(27, 3, replace=False) for _ in range(20)])
    kind = shapes[draw.integers(0, 20, rows)].ravel().astype(np.int32)
    row = np.repeat(np.arange(rows, dtype=np.int32), 3)
    found = slots([row, kind], [rows, 27], 64)
    assert len(row) > 0.5 * len(found.element)
    assert (np.diff(found.rows[found.rows >= 0]) < 0).any()
