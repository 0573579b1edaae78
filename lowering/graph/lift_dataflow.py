"""A function of the `graph` dialect as a `Dataflow`, the form in which passes search.

Enters: a `graph.func`. Leaves: the same statements as nodes (ir/dataflow.py). Pieces that together
fill a tensor along one axis become one `concat`; sums and products of several terms become one
n-ary sum or product, if floats may be added in another order. Nothing is lost: `lower_dataflow`
makes a function of it that means the same.

    %z = graph.statement add [n, o] for (n: node, o: 64, i: 32) { x[n, i] * W[i, o] }

becomes a node of the operands x and W with the form

    add [i0, i1] for (i0: node, i1: 64, i2: 32) : f32[node, 64] mul(#0[i0, i2], #1[i2, i1])
"""

from collections.abc import Callable, Collection

from xdsl.dialects.builtin import DictionaryAttr
from xdsl.ir import Attribute, Operation, OpResult, SSAValue

from hectorite.dialects.graph import (
    FuncOp,
    IndexOp,
    ReadOp,
    ReturnOp,
    SizeOp,
    SoftmaxOp,
    StatementOp,
)
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.element import ELEMENTS, element_of
from hectorite.ir.formula import (
    NARY,
    Apply,
    Cast,
    Constant,
    Formula,
    Index,
    Read,
    Size,
    nary,
)
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp
from hectorite.ir.schedule import ATTRIBUTE
from hectorite.ir.schema import Schema
from hectorite.ir.space import TensorType
from hectorite.ir.statement_form import Note, Shape, concat, form, softmax
from hectorite.lowering.graph.statement_body import operations_of


def lift(
    func: FuncOp, schema: Schema, reassociate: bool = True, fixed: Collection[str] = ()
) -> Dataflow:
    """The statements of a function. `fixed` names arguments that are the same in every call."""
    lifting = _Lifting(Dataflow(schema, reassociate))
    for name, argument in zip(func.names, func.body.block.args, strict=True):
        lifting.known[argument] = lifting.flow.input(name, shape_of(argument.type), name in fixed)
    results = list[int]()
    for op in func.body.block.ops:
        if isinstance(op, StatementOp):
            lifting.known[op.result] = lifting.statement(op)
        elif isinstance(op, SoftmaxOp):
            lifting.known[op.result] = lifting.softmax(op)
        elif isinstance(op, ReturnOp):
            results = [lifting.known[value] for value in op.values]
        else:
            lifting.outside[op.results[0]] = op
    lifting.flow.give(results)
    return lifting.flow


def shape_of(type: Attribute) -> Shape:
    """The shape of a tensor, or of a scalar argument."""
    if not isinstance(type, TensorType):
        return Shape((), element_of(type).name, scalar=True)
    format = getattr(type.format, "data", None)
    return Shape(type.dims, type.element_type.name, type.pad_value, format)


class _Lifting:
    def __init__(self, flow: Dataflow):
        self.flow = flow
        self.known = dict[SSAValue, int]()
        self.outside = dict[SSAValue, Operation]()
        """Scalar operations beside the statements, taken into the bodies that use them."""

    def softmax(self, op: SoftmaxOp) -> int:
        names = [name for name, _ in op.variables.data]
        made = softmax(shape_of(op.result.type), op.keys.data, names)
        return self.flow.add(made, [self.known[op.input]], op.result.name_hint, tuple(names))

    def statement(self, op: StatementOp) -> int:
        pieces = _pieces(op)
        if pieces is not None:
            return self._concat(pieces, op)
        operands = list[SSAValue]()
        body = self._body(op.value, operands)
        if op.init is not None:
            operands.append(op.init)
        note = self._note(op)
        made, slots, names = form(
            op.kind.data,
            op.access.data,
            dict(op.variables.data),
            shape_of(op.result.type),
            body,
            op.init is not None,
            note,
        )
        chosen = [*slots, *([len(operands) - 1] if op.init is not None else [])]
        nodes = [self.known[operands[slot]] for slot in chosen]
        return self.flow.add(made, nodes, op.result.name_hint, names)

    def _note(self, op: StatementOp) -> Note | None:
        if ATTRIBUTE not in op.attributes:
            return None
        names = tuple(name for name, _ in op.variables.data)
        return DictionaryAttr(dict(op.attributes)), names

    def _body(self, value: SSAValue, operands: list[SSAValue]) -> Formula:
        made = dict[SSAValue, Formula]()

        def of(value: SSAValue) -> Formula:
            if value in made:
                return made[value]
            if value in self.outside:
                return self._formula(self.outside[value], of, operands)
            return Read(_slot(operands, value), None)

        for op in operations_of(value):
            made[op.results[0]] = self._formula(op, of, operands)
        return of(value)

    def _formula(
        self, op: Operation, of: Callable[[SSAValue], Formula], operands: list[SSAValue]
    ) -> Formula:
        element = element_of(op.results[0].type).name
        if isinstance(op, ReadOp):
            return Read(_slot(operands, op.tensor), op.access.data)
        if isinstance(op, IndexOp):
            return Index(op.index.data[0], element)
        if isinstance(op, SizeOp):
            return Size(op.of.data, element)
        if isinstance(op, ConstantOp):
            return Constant(op.number, element)
        if isinstance(op, CastOp):
            return Cast(of(op.input), element)
        assert isinstance(op, ScalarOp)
        name, arguments = op.FUNCTION.name, [of(operand) for operand in op.operands]
        if name in NARY and (self.flow.reassociate or not ELEMENTS[element].is_float):
            return nary(name, arguments)
        return Apply(name, tuple(arguments))

    def _concat(self, pieces: list[StatementOp], last: StatementOp) -> int:
        axis = next(i for i in range(len(last.access.data)) if not _is_whole(last, i))
        parts = [self._part(op) for op in pieces]
        shapes = [self.flow.nodes[part].shape for part in parts]
        return self.flow.add(concat(shapes, axis), parts, last.result.name_hint)

    def _part(self, op: StatementOp) -> int:
        """What a piece puts in its place, as a tensor of its own."""
        names = [index.variables[0] for index in op.access.data]
        extents = dict(op.variables.data)
        shape = Shape(tuple(extents[name] for name in names), op.type.element_type.name)
        operands = list[SSAValue]()
        body = self._body(op.value, operands)
        if isinstance(body, Read) and body.access is not None:
            whole = [index.variable for index in body.access] == names
            source = self.known[operands[body.slot]]
            if whole and self.flow.nodes[source].shape == shape:
                return source
        left = tuple(map(IndexExpr.of, names))
        made, slots, hints = form("assign", left, extents, shape, body)
        return self.flow.add(made, [self.known[operands[slot]] for slot in slots], None, hints)


def _slot(operands: list[SSAValue], value: SSAValue) -> int:
    if value not in operands:
        operands.append(value)
    return operands.index(value)


def _is_whole(op: StatementOp, axis: int) -> bool:
    """Whether the statement writes all of an axis, in its order."""
    index, dim = op.access.data[axis], op.type.dims[axis]
    return index.variable is not None and dict(op.variables.data)[index.variable] == dim


def _pieces(last: StatementOp) -> list[StatementOp] | None:
    """The `=` statements that fill consecutive stretches of one axis and together all of it, the
    last of which this is, in the order of the stretches; None if it is no such statement."""
    chain = _chain(last)
    partial = [i for i in range(len(last.access.data)) if not _is_whole(last, i)]
    if len(chain) < 2 or len(partial) != 1:
        return None
    axis = partial[0]
    stretches = [_stretch(op, axis) for op in chain]
    found = [(*stretch, op) for stretch, op in zip(stretches, chain, strict=True) if stretch]
    found.sort(key=lambda entry: entry[0])
    end = 0
    for start, length, _ in found:
        if start != end:
            return None
        end += length
    is_all = len(found) == len(chain) and end == last.type.dims[axis]
    return [op for _, _, op in found] if is_all else None


def _chain(op: StatementOp) -> list[StatementOp]:
    """The statement and those that it goes on from, as far as nothing else sees them."""
    chain = list[StatementOp]()
    here: Operation | None = op
    while isinstance(here, StatementOp) and here.kind.data == "assign":
        if ATTRIBUTE in here.attributes or (chain and here.result.uses.get_length() != 1):
            return []
        chain.append(here)
        if here.init is None:
            return chain
        here = here.init.owner if isinstance(here.init, OpResult) else None
    return []


def _stretch(op: StatementOp, axis: int) -> tuple[int, int] | None:
    """Start and length of what a statement writes along an axis, all other axes being written
    whole; None if it writes anything else."""
    others = all(_is_whole(op, i) for i in range(len(op.access.data)) if i != axis)
    index = op.access.data[axis]
    named = [name for i in op.access.data for name in i.variables]
    alone = len(index.terms) == 1 and index.division is None and not index.terms[0].sizes
    if not others or not alone or len(set(named)) != len(op.variables.data):
        return None
    path = index.terms[0].path
    if path is None or path.fields or index.terms[0].coefficient != 1 or index.constant < 0:
        return None
    length = dict(op.variables.data)[path.variable]
    return (index.constant, length) if isinstance(length, int) else None
