"""A function of which several versions mean the same: the first call measures them and keeps one.

Enters: executables, the first of which computes as written. Leaves: an executable that runs all of
them in turns on the arguments of its first call, and from then on the one to ship: the fastest of
which it is certain that it is faster than the first, else the first (`lowering/search/guard.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hectorite.backends.bound.binding import Binding
from hectorite.frontend.compiled.executable import Executable, Values
from hectorite.lowering.search.guard import ROUNDS, measure_guard

if TYPE_CHECKING:
    from hectorite.backends.cpu.call import Call
    from hectorite.frontend.compiled.gpu_targets import CudaFunction

LEAST_ROUNDS = 5
SECONDS = 2.0
"""There are fewer rounds where `ROUNDS` of them would take longer than this."""


class MeasuredChoice(Executable):
    """An executable that chooses between others by measuring them; calls from several threads wait
    for the choice."""

    def __init__(self, candidates: Sequence[Executable]):
        self.candidates = tuple(candidates)
        self.chosen: Executable | None = None
        """What calls run, once it is known."""
        self._lock = threading.Lock()

    @property
    def searched(self) -> bool:
        """Whether what is shipped is not the first, the one that computes as written."""
        return self.chosen is not None and self.chosen is not self.candidates[0]

    def prepare(self, binding: Binding, sizes: Mapping[str, int]) -> None:
        """Build what calls on this binding will need of it."""
        for each in self.candidates if self.chosen is None else (self.chosen,):
            each.prepare(binding, sizes)

    def __call__(
        self, binding: Binding, arguments: Values, sizes: Mapping[str, int], out: Any
    ) -> tuple[Any, ...]:
        if self.chosen is None:
            with self._lock:
                if self.chosen is None:
                    self.chosen = self._measure(binding, arguments, sizes)
        return self.chosen(binding, arguments, sizes, out)

    def ready(self, binding: Binding, sizes: Mapping[str, int]) -> Call | None:
        return None if self.chosen is None else self.chosen.ready(binding, sizes)

    @property
    def on_gpu(self) -> CudaFunction | None:
        return None if self.chosen is None else self.chosen.on_gpu

    def _measure(self, binding: Binding, arguments: Values, sizes: Mapping[str, int]) -> Executable:
        def seconds(executable: Executable) -> float:
            if executable.on_gpu is not None:
                return executable.on_gpu.seconds(binding, arguments, sizes, 1)[0]
            start = time.perf_counter()
            executable(binding, arguments, sizes, None)
            return time.perf_counter() - start

        for each in self.candidates:
            each(binding, arguments, sizes, None)
        turn = sum(map(seconds, self.candidates))
        rounds = ROUNDS if turn <= 0.0 else int(SECONDS / turn)
        return measure_guard(self.candidates, seconds, min(ROUNDS, max(LEAST_ROUNDS, rounds)))
