"""The index expressions on the right side of a statement, read before anything is typed.

Enters: an expression. Leaves: `Collected`, keyed by the nodes of the syntax tree, in source order.
A node with an error in it is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hectorite.frontend.check.index import IndexReader
from hectorite.frontend.parsing import syntax
from hectorite.ir.index import IndexExpr

Access = tuple[IndexExpr, ...]


@dataclass
class Collected:
    """Accesses of tensors, keys of `by`, variables and paths that stand as integers, and the bare
    names that are no tensor."""

    accesses: dict[syntax.Node, Access] = field(default_factory=dict[syntax.Node, Access])
    keys: dict[syntax.Node, Access] = field(default_factory=dict[syntax.Node, Access])
    positions: dict[syntax.Node, IndexExpr] = field(default_factory=dict[syntax.Node, IndexExpr])
    bare: list[syntax.NameRef] = field(default_factory=list[syntax.NameRef])


def collect_indices(
    value: syntax.Expr, reader: IndexReader, is_tensor: Callable[[str], bool]
) -> Collected:
    """Read every index expression of a value, left to right."""
    found = Collected()
    pending: list[syntax.Node] = [value]
    while pending:
        node = pending.pop()
        match node:
            case syntax.Access():
                _read_all(node, node.indices, reader, found.accesses)
            case syntax.Grouped():
                _read_all(node, node.keys, reader, found.keys)
                pending.append(node.value)
            case syntax.Binder() | syntax.Path():
                index = reader.read(node)
                if index is not None:
                    found.positions[node] = index
            case syntax.NameRef(name=name):
                if not is_tensor(name):
                    found.bare.append(node)
            case syntax.Call():
                pending += reversed(_value_arguments(node))
            case _:
                pending += reversed(list(syntax.children(node)))
    return found


def _read_all(
    node: syntax.Node,
    parts: tuple[syntax.Expr, ...],
    reader: IndexReader,
    table: dict[syntax.Node, Access],
) -> None:
    read = [reader.read(part) for part in parts]
    known = tuple(index for index in read if index is not None)
    if len(known) == len(read):
        table[node] = known


def _value_arguments(call: syntax.Call) -> list[syntax.Expr]:
    """The arguments that are values, not names of sizes or types."""
    if call.callee.text == "size":
        return []
    arguments = call.arguments[:3] if call.callee.text == "quantize" else call.arguments
    return [*arguments, *(keyword.value for keyword in call.keywords)]
