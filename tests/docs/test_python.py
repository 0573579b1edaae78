"""Every block of `docs/python.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "python.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
