"""Instructions of a warp against their definition, lane by lane."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(0)
LANES = np.arange(32)


def shuffled(mode, lane, b, c):
    """The lane that a lane reads and whether that is in its segment, as the manual has it."""
    segment, clamp = c >> 8 & 31, c & 31
    least = lane & segment
    greatest = least | (clamp & ~segment & 31)
    b &= 31
    if mode == "up":
        return lane - b, lane - b >= greatest
    if mode == "down":
        return lane + b, lane + b <= greatest
    if mode == "bfly":
        return lane ^ b, lane ^ b <= greatest
    other = least | (b & ~segment & 31)
    return other, other <= greatest


@pytest.mark.parametrize("schedule", ["lockstep", "sequential", "reversed"])
@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 8])
def test_shuffles(evaluate, mode, width, schedule):
    a = RNG.integers(0, 2**32, 32, dtype=np.uint32)
    control = (32 - width) << 8 | (0 if mode == "up" else 31)
    for b in (0, 1, 5, 16):
        got = evaluate(
            f"shfl.sync.{mode}.b32 %d|%p, %a, {b}, {control}, -1;"
            f"shfl.sync.{mode}.b32 %e, %a, %b, %c, 0xffffffff;",
            {"d": "b32", "p": "pred", "e": "b32"}, schedule,
            a=("b32", a), b=("u32", np.full(32, b)), c=("u32", np.full(32, control)),
        )  # fmt: skip
        for lane in range(32):
            other, inside = shuffled(mode, lane, b, control)
            assert got["d"][lane] == got["e"][lane] == a[other if inside else lane]
            assert got["p"][lane] == inside


def test_votes(evaluate):
    p = RNG.integers(0, 2, 32)
    members = 0xFFFF00FF
    got = evaluate(
        f"vote.sync.ballot.b32 %d, %p, -1; vote.sync.any.pred %y, %p, -1;"
        f"vote.sync.all.pred %l, %p, -1; vote.sync.uni.pred %u, %q, -1;"
        f".reg .pred %in; .reg .b32 %bit; "
        f"mov.u32 %bit, %lanemask_eq; and.b32 %bit, %bit, {members};"
        f"setp.ne.u32 %in, %bit, 0; @!%in bra OUT; vote.sync.ballot.b32 %e, !%p, {members}; OUT:"
        "activemask.b32 %m;",
        {"d": "b32", "y": "pred", "l": "pred", "u": "pred", "e": "b32", "m": "b32"},
        p=("pred", p), q=("pred", np.ones(32)),
    )  # fmt: skip
    bits = sum(int(v) << i for i, v in enumerate(p))
    assert (got["d"] == bits).all()
    assert got["y"].all()
    assert not got["l"].any()
    assert got["u"].all()
    inside = np.array([members >> i & 1 for i in range(32)], bool)
    assert (got["e"][inside] == ~bits & members & 0xFFFFFFFF).all()
    assert (got["m"] == 0xFFFFFFFF).all()


def test_matches(evaluate):
    a = RNG.integers(0, 4, 32, dtype=np.uint32)
    got = evaluate("match.any.sync.b32 %d, %a, -1; match.all.sync.b32 %e|%p, %b, -1;",
                   {"d": "b32", "e": "b32", "p": "pred"}, a=("b32", a),
                   b=("b32", np.full(32, 7)))  # fmt: skip
    want = [sum(1 << i for i in range(32) if a[i] == v) for v in a]
    assert got["d"].tolist() == want
    assert (got["e"] == 0xFFFFFFFF).all()
    assert got["p"].all()


@pytest.mark.parametrize(("operation", "type", "function"), [
    ("add", "s32", np.sum), ("min", "s32", np.min), ("max", "u32", np.max),
    ("and", "b32", np.bitwise_and.reduce), ("or", "b32", np.bitwise_or.reduce),
    ("xor", "b32", np.bitwise_xor.reduce),
])  # fmt: skip
def test_reductions(evaluate, operation, type, function):
    a = RNG.integers(-(2**25), 2**25, 32).astype("i4" if type[0] == "s" else "u4")
    got = evaluate(f"redux.sync.{operation}.{type} %d, %a, -1;", {"d": type}, a=(type, a))["d"]
    assert (got == function(a)).all()


def test_election(evaluate):
    got = evaluate("elect.sync %d|%p, -1;", {"d": "b32", "p": "pred"}, a=("u32", LANES))
    assert (got["d"] == 0).all()
    assert got["p"].tolist() == [1, *[0] * 31]
