"""Every block of `docs/formats.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "formats.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
