"""The `graph` dialect: functions made of one statement form over tensors on sets.

Sets, maps and sizes are declared by the operations of `graph_sets.py`, part of this dialect.

    func      ::= "graph.func" @name "(" (%arg ":" type)* ")" "->" types region
    statement ::= "graph.statement" kind (%init)? access "for" vars ":" tensor
                  ("attributes" dict)? region
    softmax   ::= "graph.softmax" %x access "by" access "for" vars ":" tensor
    read      ::= "graph.read" %tensor access ("with" name "=" %index)? ":" type    likewise
    index     ::= "graph.index" index-expression ":" type     inside a statement
    size      ::= "graph.size" name ":" type                  inside a statement

    graph.set @node
    graph.set @edge {src: node, dst: node}
    graph.func @copy(%x: !hec.tensor<f32[node]>) -> !hec.tensor<f32[node]> {
      %y = graph.statement add [e.dst] for (e: edge) : !hec.tensor<f32[node]> {
        %0 = graph.read %x[e.src] : f32
        graph.yield %0 : f32
      }
      graph.return %y : !hec.tensor<f32[node]>
    }

A statement means: start from `%init`, or from the identity of its kind; for every assignment of
its variables, combine the element at the access with the value of the body. The body computes and
accumulates in the type it yields; the result is rounded once to the element type of the tensor.
"""

from collections.abc import Sequence
from typing import ClassVar, cast

from xdsl.dialects.builtin import (
    IntegerType,
    StringAttr,
)
from xdsl.ir import Attribute, Block, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    lazy_traits_def,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    HasParent,
    IsTerminator,
    Pure,
    RecursiveMemoryEffect,
    SingleBlockImplicitTerminator,
)
from xdsl.utils.exceptions import VerifyException

from hectorite.dialects.graph_sets import DeriveOp, DimOp, SetOp
from hectorite.ir.element import element_of, is_element
from hectorite.ir.function import NamedFunctionOp
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import (
    AccessAttr,
    Dim,
    TensorType,
    VariablesAttr,
    access_text,
    parse_access,
    parse_index,
    parse_tensor,
)

KINDS = ("assign", "add", "mul", "max", "min")
"""What a statement does with a value: `=`, `+=`, `*=`, `max=`, `min=`."""


@irdl_op_definition
class FuncOp(NamedFunctionOp):
    """A function of tensors and scalars. Dimensions of its types that are neither sets nor
    declared sizes are its size variables."""

    name = "graph.func"

    RETURN: ClassVar[str] = "graph.return"

    @property
    def return_op(self) -> "ReturnOp":
        return cast(ReturnOp, self.end)


def _print_variables_and_type(op: "StatementOp | SoftmaxOp", printer: Printer) -> None:
    printer.print_string(f" for {op.variables} : ")
    printer.print_attribute(op.result.type)


def _parse_variables_and_type(parser: Parser) -> tuple[VariablesAttr, TensorType]:
    parser.parse_keyword("for")
    variables = VariablesAttr.parse_inline(parser)
    parser.parse_punctuation(":")
    return variables, cast(TensorType, parser.parse_type())


@irdl_op_definition
class StatementOp(IRDLOperation):
    """`T[access] kind= body` for every assignment of the variables.

    Without `init`, T starts at the identity of the kind: 0, 1, the least or the greatest value.
    """

    name = "graph.statement"

    kind = prop_def(StringAttr)
    access = prop_def(AccessAttr)
    variables = prop_def(VariablesAttr)
    init = opt_operand_def(TensorType)
    result = result_def(TensorType)
    body = region_def("single_block")
    traits = lazy_traits_def(
        lambda: (RecursiveMemoryEffect(), SingleBlockImplicitTerminator(YieldOp))
    )

    def __init__(
        self,
        kind: str,
        access: Sequence[IndexExpr],
        variables: Sequence[tuple[str, Dim]],
        type: TensorType,
        body: Region | Block,
        init: SSAValue | None = None,
    ):
        super().__init__(
            properties={
                "kind": StringAttr(kind),
                "access": AccessAttr(tuple(access)),
                "variables": VariablesAttr(tuple(variables)),
            },
            operands=[init],
            result_types=[type],
            regions=[body if isinstance(body, Region) else Region(body)],
        )

    @property
    def type(self) -> TensorType:
        return self.result.type

    @property
    def value(self) -> SSAValue:
        """What the body yields."""
        return self.yield_op.value

    @property
    def yield_op(self) -> "YieldOp":
        return cast(YieldOp, self.body.block.last_op)

    @property
    def reads(self) -> list["ReadOp"]:
        """The reads of the body, in order."""
        return [op for op in self.body.block.ops if isinstance(op, ReadOp)]

    @property
    def reduced(self) -> tuple[str, ...]:
        """Variables that do not stand alone on the left."""
        alone = {index.variable for index in self.access.data}
        return tuple(name for name, _ in self.variables.data if name not in alone)

    def verify_(self) -> None:
        if self.kind.data not in KINDS:
            raise VerifyException(f"expected a kind of {', '.join(KINDS)}, got {self.kind.data}")
        names = [name for name, _ in self.variables.data]
        if len(set(names)) != len(names):
            raise VerifyException("an index variable is declared twice")
        _verify_access(self.access.data, self.type, set(names))
        if self.init is not None and self.init.type != self.result.type:
            raise VerifyException("expected the initial tensor to have the type of the result")
        if not isinstance(self.body.block.last_op, YieldOp):
            raise VerifyException("expected graph.yield at the end of the body")
        if not is_element(self.value.type):
            raise VerifyException(f"expected a scalar from the body, got {self.value.type}")
        value, element = element_of(self.value.type), self.type.element_type
        if value.is_float != element.is_float or (value.kind == "bool") != (element.kind == "bool"):
            raise VerifyException(f"cannot store {value.name} into a tensor of {element.name}")

    @classmethod
    def parse(cls, parser: Parser) -> "StatementOp":
        kind = parser.parse_keyword_in(KINDS)
        init = parser.parse_optional_unresolved_operand()
        access = parse_access(parser)
        variables, type = _parse_variables_and_type(parser)
        operand = None if init is None else parser.resolve_operand(init, type)
        attributes = parser.parse_optional_attr_dict_with_keyword()
        op = cls(kind, access, variables.data, type, parser.parse_region(), operand)
        if attributes is not None:
            op.attributes.update(attributes.data)
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.kind.data} ")
        if self.init is not None:
            printer.print_ssa_value(self.init)
        printer.print_string(access_text(self.access.data))
        _print_variables_and_type(self, printer)
        printer.print_op_attributes(self.attributes, print_keyword=True)
        printer.print_string(" ")
        printer.print_region(self.body)


@irdl_op_definition
class SoftmaxOp(IRDLOperation):
    """At each point of the variables, exp(x) over the sum of exp(x) at all points that share the
    keys, with the maximum subtracted first. `x` has one dimension for each variable."""

    name = "graph.softmax"

    input = operand_def(TensorType)
    access = prop_def(AccessAttr)
    keys = prop_def(AccessAttr)
    variables = prop_def(VariablesAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())

    def __init__(
        self,
        input: SSAValue,
        access: Sequence[IndexExpr],
        keys: Sequence[IndexExpr],
        variables: Sequence[tuple[str, Dim]],
        type: TensorType,
    ):
        super().__init__(
            operands=[input],
            properties={
                "access": AccessAttr(tuple(access)),
                "keys": AccessAttr(tuple(keys)),
                "variables": VariablesAttr(tuple(variables)),
            },
            result_types=[type],
        )

    @property
    def type(self) -> TensorType:
        return self.result.type

    def verify_(self) -> None:
        if self.input.type != self.result.type:
            raise VerifyException("expected the result to have the type of the input")
        if [index.variable for index in self.access.data] != [n for n, _ in self.variables.data]:
            raise VerifyException("expected the access to be the variables, in order")
        _verify_access(self.access.data, self.type, self.variables.names)
        if not self.type.element_type.is_float:
            raise VerifyException("softmax is defined on floats")

    @classmethod
    def parse(cls, parser: Parser) -> "SoftmaxOp":
        input = parser.parse_unresolved_operand()
        access = parse_access(parser)
        parser.parse_keyword("by")
        keys = parse_access(parser)
        variables, type = _parse_variables_and_type(parser)
        return cls(parser.resolve_operand(input, type), access, keys, variables.data, type)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.input)
        printer.print_string(f"{access_text(self.access.data)} by {access_text(self.keys.data)}")
        _print_variables_and_type(self, printer)


def _verify_access(access: Sequence[IndexExpr], type: TensorType, names: set[str]) -> None:
    if len(access) != len(type.dims):
        raise VerifyException(f"expected {len(type.dims)} index expressions, got {len(access)}")
    for index in access:
        for variable in index.variables:
            if variable not in names:
                raise VerifyException(f"index variable {variable} is not declared here")


def _enclosing_variables(op: Operation) -> set[str]:
    parent = op.parent_op()
    return parent.variables.names if isinstance(parent, StatementOp) else set()


@irdl_op_definition
class ReadOp(IRDLOperation):
    """The element of a tensor at an access. With `picked`, the access may also name that, which
    stands for the value of `pick`, an i32 of the body: so formats that store where their entries
    are say which element of another tensor belongs to one."""

    name = "graph.read"

    tensor = operand_def(TensorType)
    pick = opt_operand_def(IntegerType(32))
    access = prop_def(AccessAttr)
    picked = opt_prop_def(StringAttr)
    result = result_def()
    traits = traits_def(Pure(), HasParent(StatementOp))

    def __init__(
        self,
        tensor: SSAValue,
        access: Sequence[IndexExpr],
        picked: str | None = None,
        pick: SSAValue | None = None,
    ):
        element = cast(TensorType, tensor.type).element
        super().__init__(
            operands=[tensor, pick],
            properties={
                "access": AccessAttr(tuple(access)),
                "picked": None if picked is None else StringAttr(picked),
            },
            result_types=[element],
        )

    @property
    def type(self) -> TensorType:
        """The type of the tensor."""
        return cast(TensorType, self.tensor.type)

    def verify_(self) -> None:
        names = _enclosing_variables(self)
        if (self.picked is None) != (self.pick is None):
            raise VerifyException("expected a name and a value of what is picked, or neither")
        if self.picked is not None:
            if self.picked.data in names:
                raise VerifyException(f"{self.picked.data} is an index variable already")
            names = names | {self.picked.data}
        _verify_access(self.access.data, self.type, names)
        if self.result.type != self.type.element:
            raise VerifyException(f"expected a result of type {self.type.element}")

    @classmethod
    def parse(cls, parser: Parser) -> "ReadOp":
        tensor = parse_tensor(parser)
        access = parse_access(parser)
        picked, pick = None, None
        if parser.parse_optional_keyword("with") is not None:
            picked = parser.parse_identifier("a name")
            parser.parse_punctuation("=")
            pick = parser.resolve_operand(parser.parse_unresolved_operand(), IntegerType(32))
        parser.parse_punctuation(":")
        parser.parse_type()
        return cls(tensor, access, picked, pick)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.tensor)
        printer.print_string(access_text(self.access.data))
        if self.picked is not None and self.pick is not None:
            printer.print_string(f" with {self.picked.data} = ")
            printer.print_ssa_value(self.pick)
        printer.print_string(" : ")
        printer.print_attribute(self.result.type)


@irdl_op_definition
class IndexOp(IRDLOperation):
    """The value of an index expression, as an integer."""

    name = "graph.index"

    index = prop_def(AccessAttr)
    result = result_def()
    traits = traits_def(Pure(), HasParent(StatementOp))

    def __init__(self, index: IndexExpr, type: Attribute | None = None):
        super().__init__(
            properties={"index": AccessAttr((index,))}, result_types=[type or IntegerType(32)]
        )

    def verify_(self) -> None:
        for variable in self.index.data[0].variables:
            if variable not in _enclosing_variables(self):
                raise VerifyException(f"index variable {variable} is not declared here")

    @classmethod
    def parse(cls, parser: Parser) -> "IndexOp":
        index = parse_index(parser)
        parser.parse_punctuation(":")
        return cls(index, parser.parse_type())

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.index.data[0]} : ")
        printer.print_attribute(self.result.type)


@irdl_op_definition
class SizeOp(IRDLOperation):
    """The number of elements of a set, or the value of a size, as an integer."""

    name = "graph.size"

    of = prop_def(StringAttr)
    result = result_def()
    traits = traits_def(Pure())

    assembly_format = "$of attr-dict `:` type($result)"

    def __init__(self, of: str, type: Attribute | None = None):
        super().__init__(properties={"of": StringAttr(of)}, result_types=[type or IntegerType(32)])


@irdl_op_definition
class YieldOp(IRDLOperation):
    """The value of a statement's body, in the type that the statement accumulates in."""

    name = "graph.yield"

    value = operand_def()
    traits = traits_def(IsTerminator(), Pure(), HasParent(StatementOp))

    assembly_format = "$value attr-dict `:` type($value)"

    def __init__(self, value: SSAValue | Operation):
        super().__init__(operands=[value])

    def verify_(self) -> None:
        if not is_element(self.value.type):
            raise VerifyException(f"expected a scalar, got {self.value.type}")


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """The results of a function."""

    name = "graph.return"

    values = var_operand_def()
    traits = traits_def(IsTerminator(), HasParent(FuncOp))

    assembly_format = "$values attr-dict `:` type($values)"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


Graph = Dialect(
    "graph",
    [
        SetOp,
        DeriveOp,
        DimOp,
        FuncOp,
        StatementOp,
        SoftmaxOp,
        ReadOp,
        IndexOp,
        SizeOp,
        YieldOp,
        ReturnOp,
    ],
    [],
)
