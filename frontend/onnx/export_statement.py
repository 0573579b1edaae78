"""Statements of the graph dialect as ONNX nodes.

Enters: a statement with the ONNX values that it reads. Leaves: the value of its result. Of what has
a form of its own there are convolutions, sums of products (`MatMul`, `Einsum`) and pieces put side
by side (`Concat`); else a body is computed over all its index variables, reduced, and added at the
places that its left side names (`ScatterND`).

    y[m, n] += x[m, k] * w[n, k]         Einsum("ab,cb->ac")
    y[e.dst, o] += x[e.src, o] * a[e]    Gather, Mul, ScatterND(reduction="add")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.ir import SSAValue

from hectorite.dialects.graph import IndexOp, ReadOp, SizeOp, StatementOp, YieldOp
from hectorite.frontend.onnx.export_access import (
    flat_position,
    index_value,
    read,
    table,
)
from hectorite.frontend.onnx.export_scalar import cast, scalar
from hectorite.frontend.onnx.export_values import Emitter, Extents, Impossible, Value, code_of
from hectorite.frontend.onnx.export_window import convolution, max_pool
from hectorite.ir.element import ELEMENTS, ElementType, element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import OPERATIONS
from hectorite.ir.space import Dim

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

_REDUCTIONS = {"add": "ReduceSum", "mul": "ReduceProd", "max": "ReduceMax", "min": "ReduceMin"}
_COMBINE = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}
_COMBINE_BOOL = {"max": "Or", "min": "And"}

Known = Callable[[SSAValue], str]
"""The ONNX value of a tensor or a scalar outside of the statement."""


@dataclass
class Statement:
    """One statement on its way."""

    emitter: Emitter
    op: StatementOp
    known: Known

    def __post_init__(self) -> None:
        self.extents: Extents = dict(self.op.variables.data)
        self.order = list(self.extents)
        self.kind = self.op.kind.data
        self.compute = element_of(self.op.value.type)
        self.stored = self.op.type.element_type

    def result(self) -> str:
        """The value of the tensor afterwards. Raises `Impossible` with a reason if there is no
        form for it."""
        left = self.op.access.data
        alone = [index.variable for index in left if index.variable is not None]
        plain = len(set(alone)) == len(alone) and all(
            index.variable is not None
            and self.extents[index.variable] == dim
            or index == IndexExpr()
            and dim == 1
            for index, dim in zip(left, self.op.type.dims, strict=True)
        )
        return self._whole(left, alone) if plain else self._scattered(left)

    def piece(self) -> str:
        """What an `=` statement puts in its place, its axes in the order of the left side."""
        names = [index.variables[0] for index in self.op.access.data]
        name = self.emitter.spread(self.value(self.op.value), names, self.extents).name
        return cast(self.emitter, name, self.compute, self.stored)

    # every element of the result is made once

    def _whole(self, left: Sequence[IndexExpr], alone: Sequence[str]) -> str:
        value = self._reduced(alone)
        name = self.emitter.spread(value, alone, self.extents).name
        single = [axis for axis, index in enumerate(left) if index.variable is None]
        if single:
            name = self.emitter.op("Unsqueeze", name, self.emitter.constant(single))
        if self.kind != "assign" and self.op.init is not None:
            start = cast(self.emitter, self.known(self.op.init), self.stored, self.compute)
            name = self.emitter.op(self._combine(), start, name)
        return cast(self.emitter, name, self.compute, self.stored)

    def _combine(self) -> str:
        if self.compute.kind == "bool":
            return _COMBINE_BOOL[self.kind]
        return _COMBINE[self.kind]

    def _reduced(self, kept: Sequence[str]) -> Value:
        """The body, reduced along all variables but these."""
        if self.kind == "assign":
            return self.value(self.op.value)
        reduced = [name for name in self.order if name not in kept]
        if self.kind == "add":
            found = convolution(self.emitter, self.op, self.known)
            if found is not None:
                return found
            found = self._product(kept, reduced)
            if found is not None:
                return found
        if self.kind == "max":
            found = max_pool(self.emitter, self.op, self.known)
            if found is not None:
                return found
        value = self.value(self.op.value)
        if not reduced:
            return value
        labels = [n for n in self.order if n in value.labels or n in reduced]
        if any(name not in value.labels for name in reduced):
            value = self.emitter.spread(value, labels, self.extents)
        gone = [axis for axis, name in enumerate(value.labels) if name in reduced]
        name, is_bool = value.name, self.compute.kind == "bool"
        if is_bool:
            name = self.emitter.op("Cast", name, to=code_of(ELEMENTS["u8"]))
        axes = self.emitter.constant(gone)
        name = self.emitter.op(_REDUCTIONS[self.kind], name, axes, keepdims=0)
        if is_bool:
            name = self.emitter.op("Cast", name, to=code_of(ELEMENTS["bool"]))
        return Value(name, tuple(n for n in value.labels if n not in reduced))

    def _product(self, kept: Sequence[str], reduced: Sequence[str]) -> Value | None:
        """A sum of products of reads as one node."""
        factors = _factors(self.op.value)
        if not reduced or len(factors) < 2 or len(self.order) > len(LETTERS):
            return None
        values = [self.value(factor) for factor in factors]
        present = {label for value in values for label in value.labels}
        if not set(reduced) <= present or any(not value.labels for value in values):
            return None
        labels = [name for name in kept if name in present]
        found = _matrices(values[0], values[1], labels) if len(values) == 2 else None
        if found is not None:
            return Value(self.emitter.op("MatMul", *found), tuple(labels))
        letters = dict(zip(self.order, LETTERS, strict=False))
        terms = ["".join(letters[label] for label in value.labels) for value in values]
        equation = f"{','.join(terms)}->{''.join(letters[label] for label in labels)}"
        names = [value.name for value in values]
        return Value(self.emitter.op("Einsum", *names, equation=equation), tuple(labels))

    # the left side says where

    def _scattered(self, left: Sequence[IndexExpr]) -> str:
        """Elements that come to places of the left side."""
        named = [name for name in self.order if any(name in index.variables for index in left)]
        value = self.emitter.spread(self._reduced(named), named, self.extents)
        start = self._start()
        rows = left[0].path if left else None
        others = [index.variable for index in left[1:]]
        by_row = (
            rows is not None
            and bool(rows.fields)
            and named == [rows.variable, *others]
            and all(
                name is not None and self.extents[name] == dim
                for name, dim in zip(others, self.op.type.dims[1:], strict=True)
            )
        )
        reduction = {"assign": "none"}.get(self.kind, self.kind)
        updates = value.name
        if by_row:
            along = index_value(self.emitter, left[0], named, self.extents).name
            places = self.emitter.op("Unsqueeze", along, self.emitter.constant([1]))
            return self._scatter(start, places, updates, reduction)
        dims = self.op.type.dims
        flat = self.emitter.op("Reshape", start, self.emitter.constant([-1]))
        updates = self.emitter.op("Reshape", updates, self.emitter.constant([-1]))
        kept = self._inside(left, dims, named)
        position = flat_position(self.emitter, dims, left, named, self.extents)
        position = self.emitter.spread(position, named, self.extents)
        places = self.emitter.op("Reshape", position.name, self.emitter.constant([-1, 1]))
        if kept is not None:
            chosen = self.emitter.constant(kept)
            places = self.emitter.op("Gather", places, chosen)
            updates = self.emitter.op("Gather", updates, chosen)
        done = self._scatter(flat, places, updates, reduction)
        return self.emitter.reshaped(done, dims)

    def _inside(
        self, left: Sequence[IndexExpr], dims: Sequence[Dim], named: Sequence[str]
    ) -> Any | None:
        """Which points fall inside a tensor that drops the others; None if all do."""
        if self.op.type.pad_value is None:
            return None
        tables = [table(index, named, self.extents) for index in left]
        parts: list[npt.NDArray[Any]] = []
        for found, dim in zip(tables, dims, strict=True):
            if found is None or isinstance(dim, str):
                raise Impossible("a write that drops what falls outside, at places that data tells")
            parts.append((found >= 0) & (found < dim))
        inside = np.all(parts, axis=0)
        return None if inside.all() else np.flatnonzero(inside.ravel())

    def _scatter(self, start: str, places: str, updates: str, reduction: str) -> str:
        done = self.emitter.op("ScatterND", start, places, updates, reduction=reduction)
        return cast(self.emitter, done, self.compute, self.stored)

    def _start(self) -> str:
        """What the statement goes on from, in the type that it computes in."""
        if self.compute.kind == "bool":
            raise Impossible("bool at places that the left side names")
        if self.op.init is not None:
            return cast(self.emitter, self.known(self.op.init), self.stored, self.compute)
        number = self.emitter.number(_identity(self.kind, self.compute), self.compute)
        return self.emitter.op("Expand", number, self.emitter.shape(self.op.type.dims))

    # bodies

    def value(self, wanted: SSAValue) -> Value:
        """A value of the body."""
        made = dict[SSAValue, Value]()
        for op in self.op.body.block.ops:
            if isinstance(op, YieldOp):
                break
            made[op.results[0]] = Value("")
        needed = _needed(wanted)
        for op in self.op.body.block.ops:
            if op in needed:
                made[op.results[0]] = self._made(op, made)
        return made[wanted] if wanted in made else Value(self.known(wanted))

    def _made(self, op: Any, made: dict[SSAValue, Value]) -> Value:
        if isinstance(op, ReadOp):
            return read(self.emitter, self.known(op.tensor), op.type, op.access.data, self.extents)
        if isinstance(op, IndexOp):
            found = index_value(self.emitter, op.index.data[0], self.order, self.extents)
            return self._as(found, op.result)
        if isinstance(op, SizeOp):
            return self._as(Value(self.emitter.length(op.of.data)), op.result)
        operands = [made[v] if v in made else Value(self.known(v)) for v in op.operands]
        return scalar(self.emitter, op, operands, self.order)

    def _as(self, value: Value, result: SSAValue) -> Value:
        element = element_of(result.type)
        return Value(cast(self.emitter, value.name, ELEMENTS["i64"], element), value.labels)


def pieces(last: StatementOp) -> tuple[int, list[StatementOp]] | None:
    """The `=` statements that fill consecutive stretches of one axis and together all of it, in the
    order of the stretches, and the axis; None if the statement is not the last of such."""
    chain = [last]
    while (init := chain[-1].init) is not None:
        op = init.owner
        if not isinstance(op, StatementOp) or init.uses.get_length() != 1:
            return None
        chain.append(op)
    stretches = [_stretch(op) for op in chain]
    axes = {stretch[0] for stretch in stretches if stretch is not None}
    if len(chain) < 2 or None in stretches or len(axes) != 1:
        return None
    (axis,) = axes
    ordered = sorted(zip(stretches, chain, strict=True), key=lambda pair: pair[0] or ())
    end = 0
    for stretch, _ in ordered:
        assert stretch is not None
        if stretch[1] != end:
            return None
        end += stretch[2]
    return (axis, [op for _, op in ordered]) if end == last.type.dims[axis] else None


def _stretch(op: StatementOp) -> tuple[int, int, int] | None:
    """Axis, start and length of what an `=` statement fills, all other axes being whole."""
    extents, found = dict(op.variables.data), list[tuple[int, int, int]]()
    for axis, (index, dim) in enumerate(zip(op.access.data, op.type.dims, strict=True)):
        moved = IndexExpr(index.terms, 0, index.division).variable
        if moved is None:
            return None
        length = extents[moved]
        if index.constant == 0 and length == dim:
            continue
        if not isinstance(length, int):
            return None
        found.append((axis, index.constant, length))
    names = {name for index in op.access.data for name in index.variables}
    is_piece = op.kind.data == "assign" and len(found) == 1 and names == set(extents)
    return found[0] if is_piece else None


def _needed(wanted: SSAValue) -> set[Any]:
    from hectorite.lowering.graph.statement_body import operations_of

    return set(operations_of(wanted))


def _factors(value: SSAValue) -> list[SSAValue]:
    """The factors of a product of floats; other values are their own."""
    if isinstance(value.owner, OPERATIONS["mul"]) and element_of(value.type).is_float:
        return [factor for operand in value.owner.operands for factor in _factors(operand)]
    return [value]


def _matrices(one: Value, other: Value, labels: Sequence[str]) -> tuple[str, str] | None:
    """Both factors in the order of a product of matrices, if they are one as they stand."""
    for a, b in ((one, other), (other, one)):
        batch, rest = a.labels[:-2], a.labels[-2:]
        if len(rest) < 2 or len(b.labels) < 2 or b.labels[:-2] not in (batch, ()):
            continue
        (m, k), (inner, n) = rest, b.labels[-2:]
        if inner == k and list(labels) == [*batch, m, n] and n not in a.labels:
            return a.name, b.name
    return None


def _identity(kind: str, element: ElementType) -> float | int:
    if kind in ("add", "assign"):
        return 0
    if kind == "mul":
        return 1
    if element.is_float:
        return -math.inf if kind == "max" else math.inf
    return element.bounds[0 if kind == "max" else 1]
