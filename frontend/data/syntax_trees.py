"""A large relational graph without a download: the syntax trees of an installed Python package.

Enters: the name of a package or module (`xdsl`, `json.decoder`). Leaves: arrays named as in a data
file: `node` (one element for each syntax node) with `node.type` (its class), `edge` with `edge.src`
and `edge.dst`, and `edge.type` (the field that holds the child). The reverse of edge `e` is edge
`e + n`, of a type of its own, where `n` is half their number. Nothing of the package is executed.
"""

from __future__ import annotations

import ast
import gc
import warnings
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np

from hectorite.ir.diagnostics import did_you_mean, fail

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]
"""Called with the number of files done and the number there are."""

# Load, Store and Del say where a name stands, which the tree says too: they would be a third of it.
OMITTED = frozenset(["ctx"])


def syntax_graph(package: str, progress: Progress | None = None) -> dict[str, Array]:
    """The graph of all source files of `package`, in the order of their paths.

    Keys: `node`, `ntype`, `edge`, `etype` (sizes), `node.type`, `edge.src`, `edge.dst`, `edge.type`
    (int32). Types are numbered in the order of their names, over those that occur. Files that do
    not parse are left out. Raises `HectoriteError` if there is no such package or no source in it.
    """
    files = _source_files(package)
    forest = _Forest()
    collecting = gc.isenabled()
    gc.disable()  # trees are built by the hundred thousand and hold no cycles
    try:
        for done, file in enumerate(files):
            if progress:
                progress(done, len(files))
            tree = _parse(file)
            if tree is not None:
                forest.add(tree)
    finally:
        if collecting:
            gc.enable()
    if not forest.types:
        raise fail(f"the package `{package}` has no Python source that parses")
    if progress:
        progress(len(files), len(files))
    return forest.arrays()


class _Forest:
    """Trees numbered one after the other, each in preorder."""

    def __init__(self) -> None:
        self.types: list[str] = []
        self.src: list[int] = []
        self.dst: list[int] = []
        self.fields: list[str] = []

    def add(self, tree: ast.AST) -> None:
        todo: list[tuple[ast.AST, int, str]] = [(tree, -1, "")]
        while todo:
            node, parent, field = todo.pop()
            here = len(self.types)
            self.types.append(type(node).__name__)
            if parent >= 0:
                self.src.append(parent)
                self.dst.append(here)
                self.fields.append(field)
            for name in reversed(node._fields):
                if name in OMITTED:
                    continue
                value = getattr(node, name, None)
                if isinstance(value, ast.AST):
                    todo.append((value, here, name))
                elif isinstance(value, list):
                    given = cast(list[object], value)
                    children = [child for child in given if isinstance(child, ast.AST)]
                    todo += [(child, here, name) for child in reversed(children)]

    def arrays(self) -> dict[str, Array]:
        types, ntype = _numbered(self.types)
        fields, relations = _numbered(self.fields)
        src, dst = np.array(self.src, np.int32), np.array(self.dst, np.int32)
        return {
            "node": np.array(len(types)),
            "ntype": np.array(ntype),
            "edge": np.array(2 * len(src)),
            "etype": np.array(2 * relations),
            "node.type": types,
            "edge.src": np.concatenate([src, dst]),
            "edge.dst": np.concatenate([dst, src]),
            "edge.type": np.concatenate([fields, fields + np.int32(relations)]),
        }


def _numbered(names: list[str]) -> tuple[Array, int]:
    """int32[len(names)]: the rank of each name among the different ones, and their number."""
    rank = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([rank[name] for name in names], np.int32), len(rank)


def _parse(file: Path) -> ast.AST | None:
    """The tree of a source file; None if it cannot be read or is not Python as spoken here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _source_files(package: str) -> list[Path]:
    """The .py files of a package or module, sorted by path relative to it."""
    name, *inner = package.split(".")
    try:
        spec = find_spec(name) if name.isidentifier() else None
        for part in inner:
            # Found by path alone: find_spec would import the package around it.
            places = spec.submodule_search_locations if spec else None
            spec = PathFinder.find_spec(part, places) if places is not None else None
    except (ImportError, ValueError, AttributeError):
        spec = None
    if spec is None:
        raise fail(
            f"no installed Python package is called `{package}`",
            expected="ast:PACKAGE, such as ast:xdsl",
            hint=did_you_mean(package, _installed()),
        )
    roots = [Path(place) for place in spec.submodule_search_locations or ()]
    files = [f for root in roots for f in sorted(root.rglob("*.py"), key=lambda f: f.as_posix())]
    if not roots and spec.origin and spec.origin.endswith(".py"):
        files = [Path(spec.origin)]
    if not files:
        raise fail(
            f"the package `{package}` has no Python source",
            expected="a package written in Python, such as ast:xdsl",
        )
    return files


def _installed() -> list[str]:
    from importlib.metadata import packages_distributions

    return list(packages_distributions())
