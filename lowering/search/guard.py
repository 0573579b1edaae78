"""Which of several equal programs to ship, decided by measuring them.

Enters: candidates, the first of which is the original, and a callable that runs one and gives
seconds. Leaves: the fastest candidate of which it is certain that it is faster, else the original.

    rounds     original 102  candidate 81
                        99             80        log ratios 0.23, 0.21, ...
    certain    the 5 % quantile of the bootstrapped mean log ratio is above 0

Runs are interleaved, so that whatever else the machine does falls on all of them alike.
"""

from collections.abc import Callable, Sequence
from math import exp, log
from random import Random
from typing import TypeVar

Candidate = TypeVar("Candidate")

ROUNDS = 15
RESAMPLES = 1000
CONFIDENCE = 0.95


def measure_guard(
    candidates: Sequence[Candidate],
    run: Callable[[Candidate], float],
    rounds: int = ROUNDS,
) -> Candidate:
    """The candidate to ship. `run` runs one once and gives seconds; the first run of each does not
    count. The winner is measured again beside the original before it is believed."""
    times = interleaved(candidates, run, rounds)
    gains = [faster_with_confidence(times[0], other) for other in times]
    best = max(range(len(candidates)), key=lambda at: gains[at])
    if best == 0 or gains[best] <= 1.0:
        return candidates[0]
    original, other = interleaved([candidates[0], candidates[best]], run, rounds)
    return candidates[best if faster_with_confidence(original, other) > 1.0 else 0]


def interleaved(
    candidates: Sequence[Candidate], run: Callable[[Candidate], float], rounds: int
) -> list[list[float]]:
    """Seconds of each candidate, one run of each in a round, in turning order."""
    for candidate in candidates:
        run(candidate)
    times = [list[float]() for _ in candidates]
    for turn in range(rounds):
        for step in range(len(candidates)):
            at = (turn + step) % len(candidates)
            times[at].append(run(candidates[at]))
    return times


def faster_with_confidence(
    original: Sequence[float], other: Sequence[float], confidence: float = CONFIDENCE
) -> float:
    """How many times as fast as the original the other is at least, by the one-sided bootstrap of
    the paired log ratios; the same for the same times."""
    ratios = [log(a / b) for a, b in zip(original, other, strict=True)]
    draw = Random(0)
    means = sorted(sum(draw.choices(ratios, k=len(ratios))) / len(ratios) for _ in range(RESAMPLES))
    return exp(means[int((1.0 - confidence) * RESAMPLES)])
