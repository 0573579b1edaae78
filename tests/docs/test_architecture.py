"""Every block of `docs/architecture.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "architecture.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
