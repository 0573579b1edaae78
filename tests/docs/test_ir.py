"""Every block of `docs/ir.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "ir.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
