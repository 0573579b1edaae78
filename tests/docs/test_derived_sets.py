"""Every block of `docs/derived_sets.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "derived_sets.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
