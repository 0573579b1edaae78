"""Programs and data for the tests of graph passes.

A program is written a statement to a line, with its variables and type, and built straight into
the `graph` dialect, so that these tests need no frontend:

    y[e.dst, o] += x[e.src, o] * w[e] | e: edge, o: 4 | f32[node, 4]

`agree` runs a program before and after a pass on generated data, emptiness included.
"""

import ast
import importlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.passes import ModulePass

from hectorite.backends.reference.interpreter import find_function, run_reference, value_element
from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.element import ElementType
from hectorite.ir.space import TensorType
from hectorite.lowering.graph.notation import function_lines

SETS = """
graph.set @node
graph.set @etype
graph.set @edge {src: node, dst: node, type: etype}
graph.set @link {e: edge}
"""
KINDS = {"=": "assign", "+=": "add", "*=": "mul", "max=": "max", "min=": "min"}
OPERATORS = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Pow: "pow",
    ast.USub: "neg",
}
LINE = re.compile(r"(\w+)(\[[^|]*?\])? (=|\+=|\*=|max=|min=) (.*?) \|(.*)\| *(\w+)(\[.*\])(.*)")


class _Writer:
    """Writes the body of one statement."""

    def __init__(self, types: dict[str, str], own: str):
        self.types, self.own, self.lines = types, own, list[str]()

    def emit(self, text: str) -> str:
        self.lines.append(f"    %{len(self.lines)} = {text}")
        return f"%{len(self.lines) - 1}"

    def value(self, node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return self.emit(f"scalar.constant {node.value!r} : {self.own}")
        if isinstance(node, ast.Subscript):
            name = ast.unparse(node.value)
            text = ast.unparse(node.slice).strip("()").replace("//", "floordiv")
            element = self.types[name].split("<")[1].split("[")[0]
            read = self.emit(f"graph.read %{name}[{text.replace('%', 'mod')}] : {element}")
            if element == self.own:
                return read
            return self.emit(f"scalar.cast {read} : {element} to {self.own}")
        if isinstance(node, ast.Name):
            return f"%{node.id}"
        if isinstance(node, ast.Call):
            name, arguments = ast.unparse(node.func), node.args
        elif isinstance(node, ast.BinOp):
            name, arguments = OPERATORS[type(node.op)], [node.left, node.right]
        else:
            assert isinstance(node, ast.UnaryOp)
            name, arguments = OPERATORS[type(node.op)], [node.operand]
        texts = [self.value(argument) for argument in arguments]
        return self.emit(f"scalar.{name} {', '.join(texts)} : {self.own}")


def _compute(element: str) -> str:
    return {"f16": "f32", "bf16": "f32", "i8": "i32", "i16": "i32"}.get(element, element)


def build(parameters: str, lines: str, results: str, sets: str = SETS) -> ModuleOp:
    """The module with one function `f` of these parameters (`x: f32[node], w: f32[4]`)."""
    pairs = re.findall(r"(\w+): (\w+)(\[.*?\])?( pad \S+)?", parameters)
    types = {
        name: f"!hec.tensor<{element}{dims}{',' + pad if pad else ''}>" if dims else element
        for name, element, dims, pad in pairs
    }
    inputs = ", ".join(f"%{name}: {type}" for name, type in types.items())
    body = list[str]()
    for line in filter(None, map(str.strip, lines.splitlines())):
        match = LINE.fullmatch(line)
        assert match, line
        name, left, kind, expression, variables, element, dims, rest = match.groups()
        type = f"!hec.tensor<{element}{dims}{',' + rest if rest else ''}>"
        left = (left or "[]").replace("//", "floordiv")
        if expression.startswith("softmax "):
            source = expression.removeprefix("softmax ")
            body.append(f"%{name} = graph.softmax %{source} for ({variables}) : {type}")
        else:
            writer = _Writer(types, _compute(element))
            value = writer.value(ast.parse(expression, mode="eval").body)
            init = f"%{name}" if name in types else ""
            shown = f"{name}_next" if init else name
            head = f"%{shown} = graph.statement {KINDS[kind]} {init}{left}"
            body += [
                f"{head} for ({variables}) : {type} {{",
                *writer.lines,
                f"    graph.yield {value} : {writer.own}",
                "  }",
            ]
            name = shown
        types[name] = type
    names = [f"%{name}" for name in results.split()]
    outputs = ", ".join(types[name] for name in results.split())
    text = "\n".join(
        [sets, f"graph.func @f({inputs}) -> ({outputs}) {{", *body]
        + [f"  graph.return {', '.join(names)} : {outputs}", "}"]
    )
    return parse(text)


def parse(text: str) -> ModuleOp:
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return module


def notation_of(module: ModuleOp) -> list[str]:
    """The statements of the function `f` in the notation of the language."""
    return function_lines(find_function(module, "f"))


def example_of(rewrite: type[ModulePass]) -> tuple[list[str], list[str]]:
    """The lines before and after in the docstring of the file that a pass is in."""
    text = importlib.import_module(rewrite.__module__).__doc__ or ""
    before, after = (
        [line.strip() for line in part.splitlines() if line.startswith("    ")]
        for part in re.split(r"\nbecomes.*\n", text)
    )
    return before, after


PROFILES = {
    "ordinary": {"node": 5, "etype": 3, "edge": 14, "link": 9},
    "no edges": {"node": 4, "etype": 2, "edge": 0, "link": 0},
    "nothing": {"node": 0, "etype": 0, "edge": 0, "link": 0},
    "one of each": {"node": 1, "etype": 1, "edge": 1, "link": 1},
    "few types": {"node": 9, "etype": 1, "edge": 40, "link": 3},
}


def values(rng: np.random.Generator, element: ElementType, shape: tuple[int, ...]) -> Any:
    if element.is_float:
        return rng.normal(size=shape).astype(element.storage)
    low, high = element.bounds
    drawn = rng.integers(max(low, -(1 << 40)), min(high, 1 << 40), shape, endpoint=True)
    return drawn.astype(element.storage)


def draw(module: ModuleOp, profile: str, seed: int = 0) -> tuple[Any, Any, Any]:
    """Sizes, maps and arguments for the function `f`."""
    rng = np.random.default_rng(seed)
    sizes = {**PROFILES[profile], "N": 3, "M": 2}
    maps = {
        (name, field): rng.integers(0, sizes[target], sizes[name])
        for name, decl in schema_of(module).sets.items()
        if decl.derivation is None
        for field, target in decl.fields
    }
    func = find_function(module, "f")
    arguments = dict[str, Any]()
    for name, type in zip(func.names, func.inputs, strict=True):
        dims = type.dims if isinstance(type, TensorType) else ()
        shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in dims)
        arguments[name] = values(rng, value_element(type), shape)
    return sizes, maps, arguments


def check(module: ModuleOp, rewrite: ModulePass, tolerance: float = 1e-9) -> ModuleOp:
    """Apply a pass to a copy, which must verify, print and parse, mean the same on all data, and
    be left alone by the same pass. Returns the copy."""
    after = module.clone()
    rewrite.apply(make_context(), after)
    after.verify()
    assert str(parse(str(after))) == str(after)
    for profile in PROFILES:
        data = draw(module, profile)
        expected = run_reference(module, "f", *data)
        for one, other in zip(expected, run_reference(after, "f", *data), strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)
    again = after.clone()
    rewrite.apply(make_context(), again)
    assert str(again) == str(after), "the pass changes its own result"
    return after


@pytest.fixture(scope="session")
def program() -> Callable[..., ModuleOp]:
    """`build`, as a fixture."""
    return build


@pytest.fixture(scope="session")
def ir() -> Callable[[str], ModuleOp]:
    """`parse`, as a fixture."""
    return parse


@pytest.fixture(scope="session")
def drawn() -> Callable[..., tuple[Any, Any, Any]]:
    """`draw`, as a fixture."""
    return draw


@pytest.fixture(scope="session")
def lines_of() -> Callable[[ModuleOp], list[str]]:
    """`notation_of`, as a fixture."""
    return notation_of


@pytest.fixture(scope="session")
def documented() -> Callable[..., tuple[list[str], list[str]]]:
    """`example_of`, as a fixture."""
    return example_of


@pytest.fixture(scope="session")
def rewritten() -> Callable[..., list[str]]:
    """Apply a pass, check it, and give the lines of the result."""

    def apply(module: ModuleOp, rewrite: ModulePass, tolerance: float = 1e-9) -> list[str]:
        return notation_of(check(module, rewrite, tolerance))

    return apply


@pytest.fixture(scope="session")
def as_documented() -> Callable[..., None]:
    """Check that a module and what a pass makes of it are the example of the pass's file."""

    def compare(module: ModuleOp, rewrite: ModulePass, tolerance: float = 1e-9) -> None:
        before, after = example_of(type(rewrite))
        assert notation_of(module) == before
        assert notation_of(check(module, rewrite, tolerance)) == after

    return compare
