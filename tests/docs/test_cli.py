"""Every block of `docs/cli.md` shows what happens."""

from collections.abc import Callable
from typing import Any

DOCUMENT = "cli.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)
