"""Every block of `docs/onnx.md` shows what happens, and its table has all operators."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

DOCUMENT = "onnx.md"


def test_example(example: Any, check: Callable[[Any], None]):
    check(example)


def test_the_table_has_all_operators():
    from hectorite.frontend.onnx.importer import OPERATORS

    text = (Path(__file__).parents[2] / "docs" / DOCUMENT).read_text("utf-8")
    words = {word for line in text.splitlines() if line.startswith("| ") for word in line.split()}
    words = {word.strip(",;") for word in words}
    assert not [name for name in OPERATORS if name not in words]
