"""Every block of `docs/expressions.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "expressions.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
