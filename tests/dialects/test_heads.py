"""Each file of a dialect opens with its grammar and one small example, and both are true."""

import importlib
import re
from collections.abc import Callable

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from hectorite.dialects.context import make_context
from hectorite.dialects.graph import Graph
from hectorite.dialects.sparse import Sparse
from hectorite.dialects.tile import Tile

FILES = {
    "hectorite.dialects.graph": "graph",
    "hectorite.dialects.graph_sets": "graph",
    "hectorite.dialects.sparse": "sparse",
    "hectorite.dialects.tile": "tile",
    "hectorite.dialects.tile_async": "tile",
    "hectorite.dialects.tile_bulk": "tile",
    "hectorite.dialects.tile_layout": "tile",
    "hectorite.dialects.tile_memory": "tile",
    "hectorite.dialects.tile_program": "tile",
    "hectorite.ir.scalar": "scalar",
    "hectorite.ir.space": "hec",
}
ENDS = {"graph.yield", "graph.return", "tile.end"}
"""These only end regions; the examples show them."""


def head_of(module: str) -> tuple[str, str]:
    """The grammar and the example in the docstring of a file."""
    text = importlib.import_module(module).__doc__ or ""
    blocks = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    grammar = "".join(block for block in blocks if "::=" in block)
    return grammar, next(block for block in blocks if "::=" not in block)


@pytest.mark.parametrize("file", [name for name in FILES if FILES[name] != "hec"])
def test_examples_parse_and_print_as_they_stand(file: str, ir: Callable[[str], ModuleOp]):
    example = head_of(file)[1]
    lines = [line.removeprefix("    ") for line in example.splitlines()]
    printed = str(ir(example)).splitlines()[1:-1]
    assert [line.removeprefix("  ") for line in printed] == lines


def test_attributes_in_the_head_parse():
    parser = Parser(make_context(), head_of("hectorite.ir.space")[1])
    assert [parser.parse_attribute().name for _ in range(3)] == [
        "hec.tensor",
        "hec.access",
        "hec.vars",
    ]


@pytest.mark.parametrize("dialect", [Graph, Sparse, Tile], ids=lambda dialect: dialect.name)
def test_every_operation_is_in_a_head(dialect):
    heads = [head_of(name) for name, owner in FILES.items() if owner == dialect.name]
    for operation in dialect.operations:
        in_grammar = any(f'"{operation.name}"' in grammar for grammar, _ in heads)
        shown = any(operation.name in example for _, example in heads)
        assert in_grammar or (operation.name in ENDS and shown), operation.name
