"""A `Dataflow` as a function of the `graph` dialect again.

Enters: a graph of statements (ir/dataflow.py) and the module it came from. Leaves: that module, its
function's body written anew, with sets that the graph's schema has gained declared before it. A
`concat` becomes one `=` statement for each operand; what an operation takes twice it computes once.
"""

from collections.abc import Sequence
from dataclasses import replace

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, SSAValue

from hectorite.dialects.graph import FuncOp, IndexOp, ReturnOp, SizeOp, SoftmaxOp, StatementOp
from hectorite.dialects.graph_sets import DeclarationOp, DeriveOp, schema_of
from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.element import ELEMENTS
from hectorite.ir.formula import NARY, Apply, Cast, Constant, Formula, Index, Read, Size
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim, TensorType
from hectorite.ir.statement_form import Form, Shape
from hectorite.lowering.graph.statement_body import Body, plain


def lower(flow: Dataflow, module: ModuleOp, name: str) -> None:
    """Put the statements of `flow` in the place of the body of the function called `name`."""
    func = next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == name)
    _declare_sets(flow, module)
    write_body(flow, func)


def write_body(flow: Dataflow, func: FuncOp) -> dict[int, SSAValue]:
    """Write the statements of `flow` into a function in the place of what it held; its arguments
    are inputs of the same names. Returns the value of each node."""
    for op in list(func.body.block.ops):
        op.detach()
    writer = _Writer(func, flow)
    for number, node, form in flow.statements():
        writer.values[number] = writer.statement(node, form)
    func.body.block.add_op(ReturnOp(*(writer.values[number] for number in flow.results)))
    return writer.values


def type_of(shape: Shape) -> Attribute:
    """The xDSL type of a shape."""
    element = ELEMENTS[shape.element]
    if shape.scalar:
        return element.xdsl
    return TensorType.of(element, shape.dims, shape.pad, shape.format)


def _declare_sets(flow: Dataflow, module: ModuleOp) -> None:
    known = schema_of(module).sets
    block = module.body.block
    after = [op for op in block.ops if isinstance(op, DeclarationOp)]
    for decl in flow.schema.sets.values():
        if decl.name in known or decl.derivation is None:
            continue
        derivation = decl.derivation
        op = DeriveOp(
            decl.name,
            dict(decl.fields),
            derivation.keys,
            derivation.binders,
            position=derivation.position,
        )
        block.insert_op_after(op, after[-1])
        after.append(op)


class _Writer:
    def __init__(self, func: FuncOp, flow: Dataflow):
        self.func, self.flow = func, flow
        arguments = zip(func.names, func.body.block.args, strict=True)
        self.values: dict[int, SSAValue] = {
            flow.inputs[name]: argument for name, argument in arguments if name in flow.inputs
        }

    def statement(self, node: Node, form: Form) -> SSAValue:
        operands = [self.values[operand] for operand in node.operands]
        if form.kind == "concat":
            return self._concat(node, form, operands)
        names = _names(node, form)
        if form.kind == "softmax":
            return self._softmax(node, form, operands[0], names)
        body = Body(lambda index: index.rename(names))
        assert form.body is not None
        value = _value(form.body, operands, body)
        op = body.statement(
            form.kind,
            [index.rename(names) for index in form.left],
            [(names[variable], dim) for variable, dim in form.dims],
            _tensor(form.shape),
            value,
            operands[-1] if form.init else None,
            node.name,
        )
        if form.note is not None:
            op.attributes.update(form.note[0].data)
        return self._put(op)

    def _put(self, op: StatementOp | SoftmaxOp) -> SSAValue:
        self.func.body.block.add_op(op)
        return op.result

    def _softmax(
        self, node: Node, form: Form, operand: SSAValue, names: dict[str, str]
    ) -> SSAValue:
        left = [index.rename(names) for index in form.left]
        keys = [index.rename(names) for index in form.keys]
        variables = [(names[variable], dim) for variable, dim in form.dims]
        op = SoftmaxOp(operand, left, keys, variables, _tensor(form.shape))
        op.result.name_hint = node.name
        return self._put(op)

    def _concat(self, node: Node, form: Form, operands: Sequence[SSAValue]) -> SSAValue:
        whole: SSAValue | None = None
        start = 0
        for operand in operands:
            dims = operand.type.dims if isinstance(operand.type, TensorType) else ()
            variables = list(zip(_letters(dims), dims, strict=True))
            left = list(plain(variables))
            left[form.axis] = replace(left[form.axis], constant=start)
            body = Body()
            value = body.read(operand, plain(variables))
            whole = self._put(
                body.statement(
                    "assign", left, variables, _tensor(form.shape), value, whole, node.name
                )
            )
            length = dims[form.axis]
            start += length if isinstance(length, int) else 0
        assert whole is not None
        return whole


def _tensor(shape: Shape) -> TensorType:
    type = type_of(replace(shape, scalar=False))
    assert isinstance(type, TensorType)
    return type


def _names(node: Node, form: Form) -> dict[str, str]:
    """What each variable is called: as it was, or by letters."""
    variables = [variable for variable, _ in form.dims]
    hints: Sequence[str] = node.hints
    if form.note is None and (len(hints) != len(variables) or len(set(hints)) != len(hints)):
        hints = _letters([dim for _, dim in form.dims])
    return dict(zip(variables, hints, strict=True))


def _letters(dims: Sequence[Dim]) -> list[str]:
    """A variable for each dimension: the initial of its set, or i, j, k and so on."""
    found = list[str]()
    for dim in dims:
        wanted = dim[0].lower() if isinstance(dim, str) else "i"
        choices = [wanted, *"ijklmnopqrstuvwxyz", *(f"{wanted}{n}" for n in range(2, 99))]
        found.append(next(name for name in choices if name not in found and name.isidentifier()))
    return found


def _value(formula: Formula, operands: Sequence[SSAValue], body: Body) -> SSAValue:
    made = dict[Formula, SSAValue]()

    def of(formula: Formula) -> SSAValue:
        if formula not in made:
            made[formula] = write(formula)
        return made[formula]

    def write(formula: Formula) -> SSAValue:
        match formula:
            case Read(slot, access):
                value = operands[slot]
                if access is None:
                    return value
                return body.read(value, tuple(map(body.change, access)))
            case Constant(number, element):
                return body.constant(number, ELEMENTS[element].xdsl)
            case Index(expression, element):
                return body.add(IndexOp(body.change(expression), ELEMENTS[element].xdsl))
            case Size(name, element):
                return body.add(SizeOp(name, ELEMENTS[element].xdsl))
            case Cast(argument, element):
                return body.cast(of(argument), ELEMENTS[element].xdsl)
            case Apply(function, arguments):
                return apply(function, [of(argument) for argument in arguments])

    def apply(function: str, arguments: list[SSAValue]) -> SSAValue:
        if function not in NARY:
            return body.apply(function, *arguments)
        total = arguments[0]
        for argument in arguments[1:]:
            total = body.apply(function, total, argument)
        return total

    return of(formula)


def identity(variables: Sequence[str]) -> tuple[IndexExpr, ...]:
    """The access at the variables themselves."""
    return tuple(map(IndexExpr.of, variables))
