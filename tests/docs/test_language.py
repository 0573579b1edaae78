"""Every block of `docs/language.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "language.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
