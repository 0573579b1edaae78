"""Every block of `docs/ptx.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "ptx.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
