"""How many programs the tests of this folder make.

Few and always the same, so that a run of all tests stays short; or, with `HECTORITE_EXAMPLES=N`
in the environment, N new ones for each test, and what fails is shrunk.
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, settings

EXAMPLES = int(os.environ.get("HECTORITE_EXAMPLES", "0"))


def sampled(few: int) -> Callable[[Any], Any]:
    """Settings of a test that makes `few` programs."""
    return settings(
        max_examples=EXAMPLES or few,
        deadline=None,
        database=None,
        derandomize=not EXAMPLES,
        print_blob=bool(EXAMPLES),
        suppress_health_check=list(HealthCheck),
        # Shrinking compiles hundreds of programs: without EXAMPLES a failure is told as found.
        phases=(Phase.generate, Phase.shrink) if EXAMPLES else (Phase.generate,),
    )
