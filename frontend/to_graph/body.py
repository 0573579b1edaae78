"""The right side of a statement to operations of the `scalar` and `graph` dialects.

Enters: a `typed.Scalar` and an environment. Leaves: operations at the end of a block, and the value
that they compute. A scalar that stands at several places is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xdsl.ir import Block, Operation, SSAValue

from hectorite.dialects.graph import IndexOp, ReadOp, SizeOp
from hectorite.frontend.check.typed import (
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
        pending = [(scalar, environment)]
        while pending:  # not recursive, since casts make expressions deeper than the source is
            part, inner = pending[-1]
            below = [item for item in _parts(part, inner) if self._key(*item) not in self._done]
            if self._key(part, inner) in self._done or not below:
                pending.pop()
                if self._key(part, inner) not in self._done:
                    self._done[self._key(part, inner)] = self._compute(part, inner)
            else:
                pending += reversed(below)
        return self._done[self._key(scalar, environment)]

    @staticmethod
    def _key(scalar: Scalar, environment: Environment) -> tuple[int, Scalar]:
        return id(environment), scalar

    def _compute(self, scalar: Scalar, environment: Environment) -> SSAValue:
        """One operation; the parts of the scalar have been computed."""
        done = [self._done[self._key(*part)] for part in _parts(scalar, environment)]
        match scalar:
            case Constant():
                return self._add(ConstantOp(scalar.value, scalar.type.xdsl))
            case Read():
                return done[0] if done else self._read(scalar, environment)
            case Position():
                return self._add(IndexOp(environment.index(scalar.index), scalar.type.xdsl))
            case Size():
                size = environment.dim(scalar.of)
                if isinstance(size, int):
                    return self._add(ConstantOp(size, scalar.type.xdsl))
                return self._add(SizeOp(size, scalar.type.xdsl))
            case Apply():
                return self._add(OPERATIONS[scalar.function](*done))
            case Cast():
                return self._add(CastOp(done[0], scalar.type.xdsl))
            case Grouped():
                return done[0]
            case _:
                raise AssertionError(scalar)

    def _read(self, scalar: Read, environment: Environment) -> SSAValue:
        value = environment.value(scalar.tensor)
        if not isinstance(value.type, TensorType):
            return value
        return self._add(ReadOp(value, environment.access(scalar.access)))

    def _add(self, op: Operation) -> SSAValue:
        self.block.add_op(op)
        return op.results[0]


def _parts(scalar: Scalar, environment: Environment) -> list[tuple[Scalar, Environment]]:
    """What has to be computed before a scalar, each with its environment."""
    match scalar:
        case Apply():
            return [(part, environment) for part in scalar.arguments]
        case Cast():
            return [(scalar.argument, environment)]
        case Grouped():
            return [(environment.grouped[scalar], environment)]
        case Read():
            value = environment.values[scalar.tensor]
            return [(value.scalar, value.environment)] if isinstance(value, Argument) else []
        case _:
            return []
