"""What the rewrites of an explanation gain on this computer.

Enters: an `Answer` and the data of a call. Leaves: seconds of a call before and after, geometric
means of rounds that take turns, so that both meet the same disturbances, and whether what the
search found is faster with confidence (`lowering/search/guard.py`). That is about the quotient of
just these means, so the bound is not above it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.program import Function
from hectorite.frontend.compiled.request import Request
from hectorite.frontend.compiled.targets import build
from hectorite.frontend.explain.search import Answer
from hectorite.frontend.explanation import Measured
from hectorite.frontend.program_text import ProgramText
from hectorite.lowering.options import Options
from hectorite.lowering.search.guard import faster_with_confidence, interleaved
from hectorite.lowering.structural import structural_rules

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

Array = np.ndarray[Any, Any]

ROUNDS, LEAST_ROUNDS = 31, 5
SECONDS = 6.0
"""There are fewer rounds where `ROUNDS` of them would take longer than this."""


def measured(answer: Answer, binding: Binding, arguments: dict[str, Array]) -> Measured:
    """Seconds of a call on this CPU before and after the steps, and which of both to ship."""
    modules = answer.module_after(0), answer.module_after()
    calls = [_call(answer, module, binding, arguments) for module in modules]
    rounds = int(SECONDS / max(sum(map(_seconds, calls)), 1e-9))
    before, after = interleaved(calls, _seconds, min(ROUNDS, max(LEAST_ROUNDS, rounds)))
    sure = faster_with_confidence(before, after)
    means = statistics.geometric_mean(before), statistics.geometric_mean(after)
    return Measured(*means, sure, sure > 1.0)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


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
        return build("cpu", Request(text, facts, name, sizes, options))

    function = Function(facts.signatures[question.function], facts, make, question.sizes)
    bound = Binding(facts.schema, binding.given)

    def call() -> Any:
        return function(bound, **arguments)

    call()
    return call
