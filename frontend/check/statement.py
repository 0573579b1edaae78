"""The rules of one statement, apart from spaces and types.

`=` writes every point once: plain distinct variables on the left that cover all variables, or
affine pieces that together tile the tensor. A reduction covers the whole expression, which is worth
a warning where a term of a sum lacks a reduced variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hectorite.frontend.check.infer import describe
from hectorite.frontend.check.scope import Place, Scope
from hectorite.frontend.check.typed import Dim
from hectorite.frontend.check.values import Indices
from hectorite.frontend.parsing import syntax
from hectorite.ir.index import IndexExpr, Term


def check_assignment(
    node: syntax.Assign,
    access: Sequence[IndexExpr],
    variables: Sequence[str],
    piecewise: set[int],
    place: Place,
) -> bool:
    """The rule of `=`; `piecewise` holds the dimensions that are written in pieces."""
    target = node.targets[0]
    name = place.quote(target.span)
    plain: list[str] = []
    for dimension, (index, expr) in enumerate(zip(access, target.indices or (), strict=True)):
        if index.path is not None and index.path.fields:
            place.error(
                f"`=` through the map `{index}` may write one point several times",
                expr.span,
                "plain index variables on the left of `=`",
                f"write += to reduce over {index.path.variable}",
            )
            return False
        if index.variable in plain:
            place.error(
                f"`{index}` stands twice, so `=` does not write all of `{target.tensor.text}`",
                expr.span,
                "distinct index variables on the left of `=`",
                "write += to write only these points",
            )
            return False
        if index.variable is not None:
            plain.append(index.variable)
        elif dimension not in piecewise or len(index.variables) != 1:
            place.error(
                f"`{place.quote(expr.span)}` is not an index variable",
                expr.span,
                "plain index variables on the left of `=`",
                "write += to write only some points",
            )
            return False
        else:
            plain += index.variables
    missing = [variable for variable in variables if variable not in plain]
    if missing:
        names = " and ".join(f"`{variable}`" for variable in missing)
        place.error(
            f"`{name}` is written once, but the right side varies with {names}",
            node.operator_span,
            "`=` only where the left side has every index variable",
            f"write += to reduce over {' and '.join(missing)}",
        )
    return not missing


def warn_repeated_terms(
    node: syntax.Assign,
    access: Sequence[IndexExpr],
    variables: Sequence[str],
    indices: Indices,
    place: Place,
) -> None:
    """Warn of a term that is added once for each value of a variable that it does not have."""
    if node.operator != "+=":
        return
    alone = {index.variable for index in access}
    reduced = [name for name in variables if name not in alone]
    terms = [(term, _variables_of(term, indices)) for term in _terms(node.value)]
    if len(terms) < 2:
        return
    used = {name for _, names in terms for name in names}
    for term, names in terms:
        lacking = [name for name in reduced if name in used and name not in names]
        if lacking:
            each = " and ".join(f"`{name}`" for name in lacking)
            place.warning(
                f"`{place.quote(term.span)}` is added once for each {each}",
                term.span,
                "add it in a statement of its own if it should be added once",
            )


def _terms(expr: syntax.Expr) -> Iterator[syntax.Expr]:
    """The terms of a sum, left to right."""
    pending = [expr]
    while pending:
        node = pending.pop()
        if isinstance(node, syntax.Binary) and node.operator in ("+", "-"):
            pending += [node.right, node.left]
        else:
            yield node


def _variables_of(expr: syntax.Expr, indices: Indices) -> set[str]:
    found: set[str] = set()
    for node in syntax.walk(expr):
        for index in indices.accesses.get(node, ()):
            found.update(index.variables)
        if node in indices.positions:
            found.update(indices.positions[node].variables)
    return found


@dataclass(frozen=True)
class Piece:
    """One `=` statement that writes a part of a tensor."""

    node: syntax.Assign
    access: tuple[IndexExpr, ...]
    dims: Mapping[str, Dim]
    """What the variables range over."""


def check_pieces(
    tensor: str, pieces: Sequence[Piece], shape: Sequence[Dim | None], scope: Scope, place: Place
) -> None:
    """Pieces tile a tensor along one dimension: end to end, or interleaved."""
    varying = [k for k in range(len(shape)) if any(p.access[k].variable is None for p in pieces)]
    if len(varying) != 1:
        place.error(
            f"the pieces of `{tensor}` are cut along more than one dimension",
            pieces[0].node.targets[0].span,
            "pieces along one dimension, plain variables in the others",
        )
        return
    dimension = varying[0]
    sizes = {name: value for name, value in scope.schema.sizes.items() if value is not None}
    steps = {_step(piece.access[dimension]) for piece in pieces}
    if steps == {1}:
        _check_end_to_end(tensor, pieces, dimension, shape[dimension], sizes, scope, place)
        return
    step = steps.pop() if len(steps) == 1 else None
    offsets = {_offset(piece.access[dimension], sizes) for piece in pieces}
    wanted = {IndexExpr.make((), k) for k in range(step or 0)}
    if step is None or len(pieces) != step or offsets != wanted:
        _not_tiled(tensor, pieces[0], dimension, place)


def _check_end_to_end(
    tensor: str,
    pieces: Sequence[Piece],
    dimension: int,
    whole: Dim | None,
    sizes: Mapping[str, int],
    scope: Scope,
    place: Place,
) -> None:
    left = list(pieces)
    end = IndexExpr()
    while left:
        piece = next((p for p in left if _offset(p.access[dimension], sizes) == end), None)
        if piece is None:
            _not_tiled(tensor, left[0], dimension, place, f"a piece that starts at {end}")
            return
        left.remove(piece)
        length = piece.dims[piece.access[dimension].variables[0]]
        end = _sum(end, _extent(length)).with_sizes(sizes)
    total = None if whole is None else _extent(whole).with_sizes(sizes)
    if total is not None and not total.terms and not end.terms and total != end:
        place.error(
            f"the pieces of `{tensor}` cover {end.constant} of {total.constant}",
            pieces[-1].node.targets[0].span,
            f"pieces that together cover {describe(scope, whole)}",
        )


def _not_tiled(
    tensor: str, piece: Piece, dimension: int, place: Place, expected: str | None = None
) -> None:
    indices = piece.node.targets[0].indices or ()
    place.error(
        f"the pieces written with `=` do not tile `{tensor}`",
        indices[dimension].span,
        expected or "pieces end to end from 0, or interleaved",
        "write += for pieces that overlap or leave gaps",
    )


def _step(index: IndexExpr) -> int | None:
    """The coefficient of the only variable, None if it is not a plain positive integer."""
    terms = [term for term in index.terms if term.path is not None]
    simple = len(terms) == 1 and not terms[0].sizes and index.division is None
    return terms[0].coefficient if simple and terms[0].coefficient > 0 else None


def _offset(index: IndexExpr, sizes: Mapping[str, int]) -> IndexExpr:
    rest = [term for term in index.terms if term.path is None]
    return IndexExpr.make(rest, index.constant).with_sizes(sizes)


def _extent(dim: Dim) -> IndexExpr:
    if isinstance(dim, int):
        return IndexExpr.make((), dim)
    return IndexExpr.make([Term(1, None, (dim,))])


def _sum(left: IndexExpr, right: IndexExpr) -> IndexExpr:
    return IndexExpr.make(left.terms + right.terms, left.constant + right.constant)
