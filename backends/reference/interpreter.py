"""What a graph function means, in plain NumPy: the definition that every other level is tested on.

Enters: a module of the `graph` dialect, the sizes of its sets, their maps, and arguments. Leaves:
the results of one function, floats computed in float64 and integers exactly.

A statement is evaluated as it reads: every index variable is an axis, every index expression and
every value an array that broadcasts over these axes. Variables that do not occur on the left are
reduced along their axes, the rest is accumulated at the positions that the left access gives. Long
statements are visited a box of points at a time, which bounds the memory and nothing else.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from hectorite.backends.reference.arithmetic import Arithmetic, Lanes
from hectorite.backends.reference.data import POINTS, Data, Grid
from hectorite.dialects.graph import (
    FuncOp,
    IndexOp,
    ReadOp,
    ReturnOp,
    SizeOp,
    SoftmaxOp,
    StatementOp,
)
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.diagnostics import did_you_mean, fail
from hectorite.ir.element import ELEMENTS, ElementType, element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import OPERATIONS, Array, CastOp, ConstantOp, ScalarOp
from hectorite.ir.space import Dim, TensorType

Box = tuple[slice, ...]


def run_reference(
    module: ModuleOp,
    function_name: str,
    sizes: Mapping[str, int],
    maps: Mapping[tuple[str, str], Array],
    arguments: Mapping[str, Any],
    own_types: bool = False,
) -> tuple[Array, ...]:
    """Results of a function: float64 for floats, the storage type for the rest.

    `sizes` gives the elements of each set and the value of each size (those that an argument's
    shape determines may be left out), `maps` an integer array for each (set, field). Derived sets
    that `sizes` leaves out are built here. With `own_types` floats are computed and returned in the
    types of the program. Raises `HectoriteError` for a missing argument, map or size, and for an
    access out of range.
    """
    func = find_function(module, function_name)
    evaluator = Evaluator(bind(module, func, sizes, maps, arguments), Arithmetic(own_types))
    results = evaluator.function(func, arguments)
    return tuple(
        evaluator.arithmetic.result(lanes, value_element(type))
        for lanes, type in zip(results, func.outputs, strict=True)
    )


def find_function(module: ModuleOp, name: str) -> FuncOp:
    """The function of this name; `HectoriteError` if there is none."""
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
    if name not in functions:
        raise fail(f"there is no function `{name}`", hint=did_you_mean(name, functions))
    return functions[name]


def bind(
    module: ModuleOp,
    func: FuncOp,
    sizes: Mapping[str, int],
    maps: Mapping[tuple[str, str], Array],
    arguments: Mapping[str, Any],
) -> Data:
    """Sizes and maps, completed by what the shapes of the arguments determine."""
    known, schema = dict(sizes), schema_of(module)
    for name, type in zip(func.names, func.inputs, strict=True):
        if name not in arguments:
            raise fail(f"the argument `{name}` is missing")
        dims = type.dims if isinstance(type, TensorType) else ()
        shape = np.shape(arguments[name])
        if len(shape) != len(dims):
            raise fail(f"`{name}` has {len(shape)} dimensions", expected=f"{len(dims)}")
        for dim, length in zip(dims, shape, strict=True):
            decl = schema.sets.get(dim) if isinstance(dim, str) else None
            if isinstance(dim, str) and (decl is None or decl.derivation is None):
                known.setdefault(dim, length)
    data = Data(schema, known, maps)
    for name, type in zip(func.names, func.inputs, strict=True):
        dims = type.dims if isinstance(type, TensorType) else ()
        shape = tuple(map(data.size, dims))
        if np.shape(arguments[name]) != shape:
            raise fail(f"`{name}` has shape {np.shape(arguments[name])}", expected=f"{shape}")
    return data


def value_element(type: Any) -> ElementType:
    """The element type of a tensor, or of a scalar."""
    return type.element_type if isinstance(type, TensorType) else element_of(type)


def boxes(extents: Sequence[int], limit: int) -> Iterator[Box]:
    """Cover all points of a grid by boxes of at most `limit` points, the last axes whole."""
    if not extents:
        yield ()
        return
    rest = math.prod(extents[1:])
    if rest <= limit:
        step = max(1, limit // max(1, rest))
        whole = tuple(slice(0, extent) for extent in extents[1:])
        if rest:
            for start in range(0, extents[0], step):
                yield (slice(start, min(start + step, extents[0])), *whole)
    else:
        for start in range(extents[0]):
            for tail in boxes(extents[1:], limit):
                yield (slice(start, start + 1), *tail)


class Evaluator:
    """Evaluates the operations of one function in order, with any arithmetic."""

    def __init__(self, data: Data, arithmetic: Arithmetic):
        self.data = data
        self.arithmetic = arithmetic
        self.values: dict[SSAValue, Lanes] = {}

    def function(self, func: FuncOp, arguments: Mapping[str, Any]) -> tuple[Lanes, ...]:
        """Values of the results."""
        for name, argument in zip(func.names, func.body.block.args, strict=True):
            element = value_element(argument.type)
            self.values[argument] = self.arithmetic.load(arguments[name], element)
        nowhere = Grid(self.data, (), ())
        for op in func.body.block.ops:
            if isinstance(op, ReturnOp):
                return tuple(self.values[value] for value in op.values)
            if isinstance(op, StatementOp):
                self.values[op.result] = self.statement(op)
            elif isinstance(op, SoftmaxOp):
                self.values[op.result] = self.softmax(op)
            else:
                self.values[op.results[0]] = self.scalar(op, nowhere)
        raise AssertionError("a function ends in graph.return")

    def shape(self, dims: Sequence[Dim]) -> tuple[int, ...]:
        return tuple(self.data.size(dim) for dim in dims)

    def statement(self, op: StatementOp) -> Lanes:
        """The tensor after `T[access] kind= body` for every assignment of the variables."""
        kind, element = op.kind.data, element_of(op.value.type)
        stored, shape = op.type.element_type, self.shape(op.type.dims)
        folds = self.arithmetic.folds(kind, element)
        total = tuple(np.empty(0) for _ in folds)
        if op.init is None:
            like = self.arithmetic.spread(kind, self.arithmetic.constant(0, element))
            total = tuple(
                np.full(math.prod(shape), start, lane.dtype)
                for (_, start), lane in zip(folds, like, strict=True)
            )
        else:
            start = self.arithmetic.cast(self.values[op.init], stored, element)
            total = tuple(lane.flatten() for lane in self.arithmetic.spread(kind, start))
        variables = op.variables.data
        left = {name for index in op.access.data for name in index.variables}
        gone = tuple(axis for axis, (name, _) in enumerate(variables) if name not in left)
        for box in boxes(self.shape([dim for _, dim in variables]), POINTS):
            grid = Grid(self.data, variables, box)
            lanes = self._reduced(op, grid, gone)
            where, inside = self._positions(op, grid, shape, lanes[0].shape)
            for (fold, _), out, lane in zip(folds, total, lanes, strict=True):
                if kind == "assign":
                    out[where] = lane.ravel()[inside]
                else:
                    fold.at(out, where, lane.ravel()[inside])
        done = tuple(out.reshape(shape) for out in total)
        return self.arithmetic.settle(kind, done, element, stored)

    def _positions(
        self, op: StatementOp, grid: Grid, shape: tuple[int, ...], points: tuple[int, ...]
    ) -> tuple[Array, Any]:
        """Flat positions in the result of those points that lie inside it, and which these are."""
        flat, inside = grid.flat(op.access.data, shape)
        if np.all(inside):
            return np.broadcast_to(flat, points).ravel(), slice(None)
        if op.type.pad_value is None:
            raise self._outside(f"a write at {op.access}", grid, op.access.data, shape)
        keep = np.broadcast_to(inside, points).ravel()
        return np.broadcast_to(flat, points).ravel()[keep], keep

    def _reduced(self, op: StatementOp, grid: Grid, gone: tuple[int, ...]) -> Lanes:
        """What accumulates: the value of the body, reduced along the axes in `gone`."""
        kind, element, last = op.kind.data, element_of(op.value.type), op.value.owner
        is_dot = kind == "add" and gone and element.is_float
        product = last if is_dot and isinstance(last, OPERATIONS["mul"]) else None
        for inner in op.body.block.ops:
            if inner.results and inner is not product:
                self.values[inner.results[0]] = self.scalar(inner, grid)
        if product is not None:
            # The sum of a product, without a place for every product.
            one, other = (self.values[operand] for operand in product.operands)
            return self.arithmetic.dot(one, other, gone, grid.shape, element)
        lanes = self.arithmetic.spread(kind, self.values[op.value])
        lanes = tuple(np.broadcast_to(lane, grid.shape) for lane in lanes)
        if kind == "assign":
            return lanes
        return tuple(
            fold.reduce(lane, axis=gone, dtype=lane.dtype, keepdims=True)
            for (fold, _), lane in zip(self.arithmetic.folds(kind, element), lanes, strict=True)
        )

    def scalar(self, op: Operation, grid: Grid) -> Lanes:
        """The value of one scalar operation at every point of the grid."""
        arithmetic = self.arithmetic
        if isinstance(op, ReadOp):
            return self._read(op, grid)
        element = element_of(op.results[0].type)
        if isinstance(op, ConstantOp):
            return arithmetic.constant(op.number, element)
        if isinstance(op, CastOp):
            value = self.values[op.input]
            return arithmetic.cast(value, element_of(op.input.type), element)
        if isinstance(op, ScalarOp):
            values = [self.values[operand] for operand in op.operands]
            return arithmetic.apply(op.FUNCTION.name, values, element_of(op.operands[-1].type))
        if isinstance(op, IndexOp):
            exact = arithmetic.load(grid.index(op.index.data[0]), ELEMENTS["i64"])
            return arithmetic.cast(exact, ELEMENTS["i64"], element)
        if isinstance(op, SizeOp):
            return arithmetic.load(np.asarray(self.data.size(op.of.data)), element)
        raise fail(f"the reference cannot evaluate {op.name}")

    def _read(self, op: ReadOp, grid: Grid) -> Lanes:
        if op.picked is not None and op.pick is not None:
            grid = grid.picking(op.picked.data, self.values[op.pick][0])
        lanes, shape = self.values[op.tensor], self.shape(op.type.dims)
        if (read := grid.take(lanes, op.access.data, shape)) is not None:
            return read
        flat, inside = grid.flat(op.access.data, shape)
        if op.type.pad_value is None:
            raise self._outside(f"a read at {op.access}", grid, op.access.data, shape)
        element = op.type.element_type
        pads = self.arithmetic.constant(op.type.pad_value, element)
        padded = list[Array]()
        for lane, pad in zip(lanes, pads, strict=True):
            values = np.full(inside.shape, pad, lane.dtype)
            values[inside] = lane.ravel()[flat[inside]]
            padded.append(values)
        return tuple(padded)

    def _outside(
        self, what: str, grid: Grid, access: Sequence[IndexExpr], shape: tuple[int, ...]
    ) -> Exception:
        for expr, extent in zip(access, shape, strict=True):
            values = grid.index(expr)
            bad = values[(values < 0) | (values >= extent)]
            if bad.size:
                expected = f"0 to {extent - 1}, or declare the tensor `pad`"
                return fail(f"{what} gives {expr} = {bad[0]}", expected=expected)
        raise AssertionError("an access is outside only if one of its expressions is")

    def softmax(self, op: SoftmaxOp) -> Lanes:
        """exp(x - maximum) over its sum, both over the points that share the keys."""
        stored, shape = op.type.element_type, self.shape(op.type.dims)
        element = stored.compute
        grid = Grid(self.data, op.variables.data, tuple(slice(0, extent) for extent in shape))
        group = np.broadcast_to(grid.group(op.keys.data), shape).ravel()
        x = self.arithmetic.cast(self.values[op.input], stored, element)
        x = tuple(lane.ravel() for lane in x)
        top = self._by_group("max", x, group, element)
        power = self.arithmetic.apply(
            "exp", [self.arithmetic.apply("sub", [x, top], element)], element
        )
        total = self._by_group("add", power, group, element)
        quotient = self.arithmetic.apply("div", [power, total], element)
        done = tuple(lane.reshape(shape) for lane in quotient)
        return self.arithmetic.cast(done, element, stored)

    def _by_group(self, kind: str, value: Lanes, group: Array, element: ElementType) -> Lanes:
        """The reduction over each group, at every point of it."""
        count = int(group.max()) + 1 if group.size else 0
        total = list[Array]()
        lanes = self.arithmetic.spread(kind, value)
        for (fold, start), lane in zip(self.arithmetic.folds(kind, element), lanes, strict=True):
            out = np.full(count, start, lane.dtype)
            fold.at(out, group, np.broadcast_to(lane, group.shape))
            total.append(out)
        settled = self.arithmetic.settle(kind, tuple(total), element, element)
        return tuple(lane[group] for lane in settled)
