"""Only what is certainly faster is shipped. Times are made up, nothing is measured."""

import random

from hectorite.lowering.search.guard import faster_with_confidence, interleaved, measure_guard


def runner(seconds, noise=0.05, seed=0):
    draw = random.Random(seed)
    return lambda candidate: seconds[candidate] * (1.0 + noise * draw.random())


def test_the_fastest_is_shipped():
    assert measure_guard(["a", "b", "c"], runner({"a": 1.0, "b": 0.8, "c": 0.5})) == "c"


def test_what_is_as_fast_is_not():
    for seed in range(10):
        assert measure_guard(["a", "b"], runner({"a": 1.0, "b": 1.0}, 0.3, seed)) == "a"


def test_what_is_slower_is_not():
    assert measure_guard(["a", "b"], runner({"a": 1.0, "b": 1.2})) == "a"


def test_the_winner_is_measured_again():
    calls = {"a": 0, "b": 0}

    def run(candidate):
        calls[candidate] += 1
        return 0.5 if candidate == "b" and calls["b"] < 17 else 1.0

    assert measure_guard(["a", "b"], run) == "a"


def test_runs_take_turns():
    order = []
    interleaved("ab", lambda candidate: order.append(candidate) or 1.0, 3)
    assert "".join(order[2:]) == "abbaab"


def test_the_bound_is_the_same_every_time_and_below_the_mean():
    one, other = [2.0, 2.2, 1.9, 2.1], [1.0, 1.1, 1.0, 0.9]
    bound = faster_with_confidence(one, other)
    assert bound == faster_with_confidence(one, other)
    assert 1.8 < bound < 2.1
