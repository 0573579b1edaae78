"""The `scalar` dialect: one operation for each scalar function of the language.

    constant ::= "scalar.constant" number ":" type
    cast     ::= "scalar.cast" %x ":" type "to" type
    other    ::= "scalar." function (%x ("," %y)*)? ":" type       the type of the last operand

    %x = scalar.constant -inf : f32
    %two = scalar.constant 2.0 : f32
    %y = scalar.mul %x, %two : f32
    %c = scalar.lt %x, %y : f32
    %z = scalar.select %c, %x, %y : f32

Comparisons give `i1`. Operands may also be vectors, element by element; every level uses the same
operations. The table `FUNCTIONS` gives arity, result and meaning of each, `apply` evaluates one on
NumPy arrays.

Integers wrap in their type; floor division and modulo by zero give 0; float to integer saturates
with NaN to 0; `min`, `max` and `relu` propagate NaN; `round` is half to even; `gelu` uses erf.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import new_class
from typing import Any, ClassVar, Literal, cast

import numpy as np
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, IntegerType, VectorType
from xdsl.ir import Attribute, Dialect, Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import Commutative, ConstantLike, Pure
from xdsl.utils.exceptions import VerifyException

from hectorite.ir.element import ElementType, element_of, is_element
from hectorite.ir.number import check_number, number_text, parse_number
from hectorite.ir.rounding import stored

Array = np.ndarray[Any, Any]
Result = Literal["same", "bool"]


@dataclass(frozen=True)
class Function:
    """One scalar function: `result` is the type of the last operand or bool, `domain` the kinds
    of element it is defined on."""

    name: str
    arity: int
    evaluate: Callable[..., Array]
    result: Result = "same"
    domain: tuple[str, ...] = ("float",)
    commutative: bool = False


def _floordiv(a: Array, b: Array) -> Array:
    if np.issubdtype(np.result_type(a, b), np.floating):
        return np.floor_divide(a, b)
    return np.where(b == 0, 0, np.floor_divide(a, np.where(b == 0, 1, b)))


def _mod(a: Array, b: Array) -> Array:
    if np.issubdtype(np.result_type(a, b), np.floating):
        return np.mod(a, b)
    return np.where(b == 0, 0, np.mod(a, np.where(b == 0, 1, b)))


def _pow(a: Array, b: Array) -> Array:
    if np.issubdtype(np.result_type(a, b), np.floating):
        return np.power(a, b)
    powers = np.power(a, np.maximum(b, 0))
    inverse = np.where(np.abs(a) == 1, np.where(b % 2 == 0, 1, a), 0)
    return np.where(b < 0, inverse, powers)


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _erf(x: Array) -> Array:
    values = np.asarray(x)
    flat = np.fromiter(map(math.erf, values.ravel()), values.dtype, values.size)
    return flat.reshape(values.shape)


def _rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def _leaky_relu(x: Array, slope: Array) -> Array:
    return np.where(x > 0, x, x * slope)


def _gelu(x: Array) -> Array:
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))


def _silu(x: Array) -> Array:
    return x * _sigmoid(x)


def _relu(x: Array) -> Array:
    return np.maximum(x, np.zeros((), np.asarray(x).dtype))


NUMBERS = ("float", "int", "uint", "sign", "index")
ANY = (*NUMBERS, "bool")

_TABLE = (
    Function("add", 2, np.add, domain=NUMBERS, commutative=True),
    Function("sub", 2, np.subtract, domain=NUMBERS),
    Function("mul", 2, np.multiply, domain=NUMBERS, commutative=True),
    Function("div", 2, np.true_divide),
    Function("floordiv", 2, _floordiv, domain=NUMBERS),
    Function("mod", 2, _mod, domain=NUMBERS),
    Function("pow", 2, _pow, domain=NUMBERS),
    Function("neg", 1, np.negative, domain=NUMBERS),
    Function("abs", 1, np.abs, domain=NUMBERS),
    Function("min", 2, np.minimum, domain=ANY, commutative=True),
    Function("max", 2, np.maximum, domain=ANY, commutative=True),
    Function("eq", 2, np.equal, "bool", ANY, commutative=True),
    Function("ne", 2, np.not_equal, "bool", ANY, commutative=True),
    Function("lt", 2, np.less, "bool", ANY),
    Function("le", 2, np.less_equal, "bool", ANY),
    Function("gt", 2, np.greater, "bool", ANY),
    Function("ge", 2, np.greater_equal, "bool", ANY),
    Function("and", 2, np.logical_and, "bool", ("bool",), commutative=True),
    Function("or", 2, np.logical_or, "bool", ("bool",), commutative=True),
    Function("not", 1, np.logical_not, "bool", ("bool",)),
    Function("select", 3, np.where, domain=ANY),
    Function("exp", 1, np.exp),
    Function("log", 1, np.log),
    Function("sqrt", 1, np.sqrt),
    Function("rsqrt", 1, _rsqrt),
    Function("sin", 1, np.sin),
    Function("cos", 1, np.cos),
    Function("tanh", 1, np.tanh),
    Function("sigmoid", 1, _sigmoid),
    Function("relu", 1, _relu, domain=NUMBERS),
    Function("leaky_relu", 2, _leaky_relu),
    Function("gelu", 1, _gelu),
    Function("silu", 1, _silu),
    Function("erf", 1, _erf),
    Function("floor", 1, np.floor),
    Function("ceil", 1, np.ceil),
    Function("round", 1, np.round),
)

FUNCTIONS: dict[str, Function] = {function.name: function for function in _TABLE}
"""Every scalar function by name; `constant` and `cast` are operations of their own."""


def wrap(value: Array, element: ElementType) -> Array:
    """Reduce exact integers to the range of their type, as two's complement does."""
    if element.kind == "bool":
        return np.asarray(value).astype(np.bool_)
    if element.kind == "sign" or not element.is_integer:
        return value
    if element.bits >= 64:
        return np.asarray(value).astype(np.int64)
    least, _ = element.bounds
    return (np.asarray(value).astype(np.int64) - least) % (1 << element.bits) + least


def convert(value: Array, source: ElementType, target: ElementType) -> Array:
    """Cast between element types. Floats stay in the precision of the array that carries them,
    except that a cast to tf32 or to a float of fewer bits rounds to it."""
    value = np.asarray(value)
    if target.kind == "bool":
        return value != 0
    if target.kind == "sign":
        positive = value if source.kind == "bool" else value >= 0
        return np.where(positive, 1, -1)
    if target.is_float:
        carried = value if source.is_float else value.astype(np.float64)
        return stored(carried, target).astype(carried.dtype) if target.is_short else carried
    if not source.is_float:
        return wrap(value.astype(np.int64), target)
    least, greatest = target.bounds
    rounded = np.trunc(
        np.nan_to_num(value.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    )
    inside = (rounded > least) & (rounded < greatest)
    exact = np.where(inside, rounded, 0).astype(np.int64)
    return np.where(inside, exact, np.where(rounded <= least, least, greatest))


def apply(name: str, arguments: Sequence[Array], element: ElementType) -> Array:
    """Evaluate one function on arrays; `element` is the type of the last operand."""
    with np.errstate(all="ignore"):
        value = FUNCTIONS[name].evaluate(*arguments)
    return value if FUNCTIONS[name].result == "bool" else wrap(value, element)


def scalar_type(type: Attribute) -> Attribute:
    """The element of a vector type, any other type itself."""
    return cast(VectorType, type).element_type if isinstance(type, VectorType) else type


def like(type: Attribute, element: Attribute) -> Attribute:
    """`element`, as a vector if `type` is one."""
    return VectorType(element, type.get_shape()) if isinstance(type, VectorType) else element


class ScalarOp(IRDLOperation):
    """One scalar function applied element by element. All operands have one type, except the
    condition of `select`."""

    FUNCTION: ClassVar[Function]

    operands_ = var_operand_def()
    result = result_def()

    def __init__(self, *arguments: SSAValue | Operation):
        values = [SSAValue.get(argument) for argument in arguments]
        last = values[-1].type
        is_bool = self.FUNCTION.result == "bool"
        super().__init__(
            operands=[values], result_types=[like(last, IntegerType(1)) if is_bool else last]
        )

    def verify_(self) -> None:
        function = self.FUNCTION
        if len(self.operands) != function.arity:
            raise VerifyException(f"expected {function.arity} operands, got {len(self.operands)}")
        last = self.operands[-1].type
        if not is_element(scalar_type(last)):
            raise VerifyException(f"expected a scalar or a vector of scalars, got {last}")
        if element_of(scalar_type(last)).kind not in function.domain:
            raise VerifyException(f"{function.name} is not defined on {last}")
        for position, operand in enumerate(self.operands):
            is_condition = function.name == "select" and position == 0
            expected = like(last, IntegerType(1)) if is_condition else last
            if operand.type != expected:
                raise VerifyException(f"expected operand of type {expected}, got {operand.type}")
        expected = like(last, IntegerType(1)) if function.result == "bool" else last
        if self.result.type != expected:
            raise VerifyException(f"expected result of type {expected}, got {self.result.type}")

    @classmethod
    def parse(cls, parser: Parser) -> "ScalarOp":
        names = parser.parse_comma_separated_list(
            parser.Delimiter.NONE, parser.parse_unresolved_operand
        )
        parser.parse_punctuation(":")
        type = parser.parse_type()
        types: list[Attribute] = [type] * len(names)
        if cls.FUNCTION.name == "select":
            types[0] = like(type, IntegerType(1))
        return cls(*parser.resolve_operands(names, types, parser.pos))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_list(self.operands, printer.print_ssa_value)
        printer.print_string(" : ")
        printer.print_attribute(self.operands[-1].type)


def _operation(function: Function) -> type[ScalarOp]:
    traits = (Pure(), Commutative()) if function.commutative else (Pure(),)
    body = {
        "name": f"scalar.{function.name}",
        "FUNCTION": function,
        "traits": traits_def(*traits),
        "__doc__": f"The scalar function `{function.name}`.",
        "__module__": __name__,
        "__annotations__": {"FUNCTION": ClassVar[Function]},
    }
    name = "".join(part.capitalize() for part in function.name.split("_")) + "Op"
    made = new_class(name, (ScalarOp,), exec_body=lambda space: space.update(body))
    return irdl_op_definition(cast(type[ScalarOp], made))


OPERATIONS: dict[str, type[ScalarOp]] = {name: _operation(f) for name, f in FUNCTIONS.items()}
"""The operation class of each function."""


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """A constant of any element type, or a vector that repeats it."""

    name = "scalar.constant"

    value = prop_def(FloatAttr | IntegerAttr)
    result = result_def()
    traits = traits_def(Pure(), ConstantLike())

    def __init__(self, number: float | int, type: Attribute):
        element = element_of(scalar_type(type))
        value = FloatAttr(float(number), 64) if element.is_float else IntegerAttr(int(number), 64)
        super().__init__(properties={"value": value}, result_types=[type])

    @property
    def number(self) -> float | int:
        """The value as a Python number."""
        return self.value.value.data

    @classmethod
    def parse(cls, parser: Parser) -> "ConstantOp":
        number = parse_number(parser)
        parser.parse_punctuation(":")
        type = parser.parse_type()
        if not is_element(scalar_type(type)):
            parser.raise_error(f"expected a scalar or a vector of scalars, got {type}")
        check_number(parser, number, element_of(scalar_type(type)))
        op = cls(number, type)
        op.attributes |= parser.parse_optional_attr_dict()
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {number_text(self.number)} : ")
        printer.print_attribute(self.result.type)
        printer.print_op_attributes(self.attributes)


@irdl_op_definition
class CastOp(IRDLOperation):
    """Conversion between element types: integers wrap, floats to integers saturate."""

    name = "scalar.cast"

    input = operand_def()
    result = result_def()
    traits = traits_def(Pure())

    assembly_format = "$input attr-dict `:` type($input) `to` type($result)"

    def __init__(self, value: SSAValue | Operation, type: Attribute):
        super().__init__(operands=[value], result_types=[type])

    def verify_(self) -> None:
        for type in (self.input.type, self.result.type):
            if not is_element(scalar_type(type)):
                raise VerifyException(f"expected a scalar or a vector of scalars, got {type}")


Scalar = Dialect("scalar", [*OPERATIONS.values(), ConstantOp, CastOp], [])
