"""What the rewrites of an explanation gain on this computer.

Enters: an `Answer` and the data of a call. Leaves: seconds of a call before and after, medians of
rounds that take turns, so that both meet the same disturbances.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.binding import Binding
from hectorite.frontend.api import facts_of
from hectorite.frontend.explain import Answer
from hectorite.frontend.program import Function
from hectorite.frontend.program_text import ProgramText
from hectorite.frontend.targets import Request, build
from hectorite.lowering.options import Options
from hectorite.lowering.structural import structural_rules

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

Array = np.ndarray[Any, Any]

ROUNDS = 31
SECONDS = 6.0
"""Rounds stop after this time, but there are at least five."""


def measured(answer: Answer, binding: Binding, arguments: dict[str, Array]) -> tuple[float, float]:
    """Seconds of a call on this CPU before and after the steps."""
    before = _call(answer, answer.module_after(0), binding, arguments)
    after = _call(answer, answer.module_after(), binding, arguments)
    taken: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + SECONDS
    for number in range(ROUNDS):
        if number >= 5 and time.perf_counter() > end:
            break
        for call, seconds in zip((before, after), taken, strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


def _call(
    answer: Answer, module: ModuleOp, binding: Binding, arguments: dict[str, Array]
) -> Callable[[], Any]:
    """The function compiled as it stands, warm."""
    question = answer.question
    text = ProgramText(question.text.name, f"{module!s}\n", "graph")
    facts = facts_of(text, None)
    families = sorted({rule.family for rule in structural_rules(answer.model.extents)})
    options = Options(question.reassociate, question.known, True, tuple(families))

    def make(name: str, sizes: dict[str, int], known: tuple[str, ...] = ()) -> Any:
        return build("cpu", Request.of(text, facts, name, sizes, options))

    function = Function(facts.signatures[question.function], facts, make, question.sizes)
    bound = Binding(facts.schema, binding.given)

    def call() -> Any:
        return function(bound, **arguments)

    call()
    return call
