"""The right side of a statement to operations of the `scalar` and `graph` dialects.

Enters: a `typed.Scalar` and an environment. Leaves: operations at the end of a block, and the value
that they compute. A scalar that stands at several places is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue

from hectorite.dialects.graph import IndexOp, ReadOp, SizeOp
from hectorite.frontend.typed import (
    Apply,
    Cast,
    Constant,
    Dim,
    Grouped,
    Position,
    Read,
    Scalar,
    Size,
)
from hectorite.ir.index import IndexExpr, Term
from hectorite.ir.scalar import OPERATIONS, CastOp, ConstantOp
from hectorite.ir.space import TensorType


@dataclass(eq=False)
class Environment:
    """What names stand for inside one function body, put in or not.

    A tensor is a value; a scalar argument of a call is an expression of the caller. `sizes` gives
    the size variables of a callee in terms of the outermost caller. `grouped` holds what softmax
    and mean expressions have been replaced with.
    """

    values: dict[str, SSAValue | Argument] = field(default_factory=dict[str, "SSAValue | Argument"])
    sizes: Mapping[str, Dim] = field(default_factory=dict[str, Dim])
    grouped: dict[Grouped, Scalar] = field(default_factory=dict[Grouped, Scalar])

    def dim(self, dim: Dim) -> Dim:
        return self.sizes.get(dim, dim) if isinstance(dim, str) else dim

    def index(self, index: IndexExpr) -> IndexExpr:
        """An index expression with the sizes of the outermost caller."""
        if not self.sizes:
            return index
        terms: list[Term] = []
        for term in index.terms:
            coefficient, names = term.coefficient, list[str]()
            for name in term.sizes:
                size = self.dim(name)
                if isinstance(size, int):
                    coefficient *= size
                else:
                    names.append(size)
            terms.append(Term(coefficient, term.path, tuple(names)))
        division = index.division
        if division is not None:
            division = (division[0], self.dim(division[1]))
        return IndexExpr.make(terms, index.constant, division)

    def access(self, access: tuple[IndexExpr, ...]) -> tuple[IndexExpr, ...]:
        return tuple(map(self.index, access))

    def value(self, name: str) -> SSAValue:
        """The value of a tensor."""
        value = self.values[name]
        assert isinstance(value, SSAValue), "a scalar argument is not a tensor"
        return value


@dataclass(frozen=True, eq=False)
class Argument:
    """A scalar argument of a call: an expression and the environment of the caller."""

    scalar: Scalar
    environment: Environment


class BodyBuilder:
    """Appends to the block of one statement."""

    def __init__(self, block: Block):
        self.block = block
        self._done: dict[tuple[int, Scalar], SSAValue] = {}

    def value(self, scalar: Scalar, environment: Environment) -> SSAValue:
        """The value of a scalar, computed at the end of the block unless it has been."""
        key = (id(environment), scalar)
        if key not in self._done:
            self._done[key] = self._compute(scalar, environment)
        return self._done[key]

    def _compute(self, scalar: Scalar, environment: Environment) -> SSAValue:
        match scalar:
            case Constant():
                return self._add(ConstantOp(scalar.value, scalar.type.xdsl))
            case Read():
                return self._read(scalar, environment)
            case Position():
                return self._add(IndexOp(environment.index(scalar.index), scalar.type.xdsl))
            case Size():
                size = environment.dim(scalar.of)
                if isinstance(size, int):
                    return self._add(ConstantOp(size, scalar.type.xdsl))
                return self._add(SizeOp(size, scalar.type.xdsl))
            case Apply():
                arguments = [self.value(part, environment) for part in scalar.arguments]
                return self._add(OPERATIONS[scalar.function](*arguments))
            case Cast():
                return self._add(CastOp(self.value(scalar.argument, environment), scalar.type.xdsl))
            case Grouped():
                return self.value(environment.grouped[scalar], environment)
            case _:
                raise AssertionError(scalar)

    def _read(self, scalar: Read, environment: Environment) -> SSAValue:
        value = environment.values[scalar.tensor]
        if isinstance(value, Argument):
            return self.value(value.scalar, value.environment)
        if not isinstance(value.type, TensorType):
            return value
        return self._add(ReadOp(value, environment.access(scalar.access)))

    def _add(self, op: Operation) -> SSAValue:
        self.block.add_op(op)
        return op.results[0]
