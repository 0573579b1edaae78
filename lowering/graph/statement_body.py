"""Taking the body of a statement apart, and writing the body of a new one.

Enters: values inside a statement of the `graph` dialect. Leaves: which index variables and paths
they depend on, and copies of them in other bodies with their index expressions changed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import UnknownLoc
from xdsl.ir import Attribute, Block, Operation, OpResult, SSAValue

from hectorite.dialects.graph import FuncOp, IndexOp, ReadOp, StatementOp, YieldOp
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.scalar import OPERATIONS, CastOp, ConstantOp, ScalarOp
from hectorite.ir.schedule import ATTRIBUTE
from hectorite.ir.space import AccessAttr, Dim, TensorType

ChangeIndex = Callable[[IndexExpr], IndexExpr]


def same(index: IndexExpr) -> IndexExpr:
    """The change of index expressions that changes nothing."""
    return index


def inner_op(value: SSAValue) -> Operation | None:
    """The operation inside a statement that computes `value`, or None for what comes from
    outside of it."""
    if isinstance(value, OpResult) and isinstance(value.op.parent_op(), StatementOp):
        return value.op
    return None


def operations_of(value: SSAValue) -> list[Operation]:
    """All operations of the body that `value` depends on, operands first, each once."""
    found = dict[Operation, None]()

    def visit(value: SSAValue) -> None:
        op = inner_op(value)
        if op is not None and op not in found:
            for operand in op.operands:
                visit(operand)
            found[op] = None

    visit(value)
    return list(found)


def indices_of(*values: SSAValue) -> Iterator[IndexExpr]:
    """Every index expression that the values depend on."""
    for value in values:
        for op in operations_of(value):
            if isinstance(op, ReadOp):
                yield from op.access.data
            elif isinstance(op, IndexOp):
                yield from op.index.data


def variables_of(*values: SSAValue) -> set[str]:
    """The index variables that the values depend on; what a read picks by a value is none."""
    ops = [op for value in values for op in operations_of(value)]
    picked = {op.picked.data for op in ops if isinstance(op, ReadOp) and op.picked is not None}
    return {name for index in indices_of(*values) for name in index.variables} - picked


def paths_of(variable: str, *values: SSAValue) -> list[Path]:
    """The paths along which the values depend on one index variable, each once, in order."""
    found = dict[Path, None]()
    for index in indices_of(*values):
        found.update(dict.fromkeys(path for path in index.paths if path.variable == variable))
    return list(found)


def statements(func: FuncOp) -> list[StatementOp]:
    """The statements of a function, in order."""
    return [op for op in func.body.block.ops if isinstance(op, StatementOp)]


def plain_left(op: StatementOp) -> bool:
    """Whether the left accesses are distinct plain variables: every element of the result is then
    made by its own points of the kept variables."""
    names = [index.variable for index in op.access.data]
    return None not in names and len(set(names)) == len(names)


def temporary(element: Attribute, dims: Sequence[Dim]) -> TensorType:
    """The type of a tensor that a pass introduces."""
    return TensorType.of(element, dims)


class Body:
    """Writes the body of a new statement.

    `copy` brings in a value of another body; equal values are copied once.
    """

    def __init__(self, change: ChangeIndex = same):
        self.block = Block()
        self.change = change
        self.copied = dict[SSAValue, SSAValue]()

    def add(self, op: Operation) -> SSAValue:
        self.block.add_op(op)
        return op.results[0]

    def read(self, tensor: SSAValue, access: Sequence[IndexExpr]) -> SSAValue:
        return self.add(ReadOp(tensor, access))

    def apply(self, name: str, *arguments: SSAValue) -> SSAValue:
        """A scalar function by its name."""
        return self.add(OPERATIONS[name](*arguments))

    def constant(self, number: float | int, type: Attribute) -> SSAValue:
        return self.add(ConstantOp(number, type))

    def cast(self, value: SSAValue, type: Attribute) -> SSAValue:
        """`value` in another type, itself if it has that type."""
        return value if value.type == type else self.add(CastOp(value, type))

    def copy(self, value: SSAValue) -> SSAValue:
        """The value of another body, its index expressions changed."""
        for op in operations_of(value):
            if op.results[0] not in self.copied:
                self.copied[op.results[0]] = self.add(self._copied(op))
        return self.copied.get(value, value)

    def _copied(self, op: Operation) -> Operation:
        if isinstance(op, ReadOp):
            access = tuple(map(self.change, op.access.data))
            if op.picked is None or op.pick is None:
                return ReadOp(op.tensor, access)
            return ReadOp(op.tensor, access, op.picked.data, self.copied.get(op.pick, op.pick))
        clone = op.clone({old: new for old, new in self.copied.items() if old in op.operands})
        if isinstance(op, IndexOp):
            clone.properties["index"] = AccessAttr(tuple(map(self.change, op.index.data)))
        return clone

    def statement(
        self,
        kind: str,
        access: Sequence[IndexExpr],
        variables: Sequence[tuple[str, Dim]],
        type: TensorType,
        value: SSAValue,
        init: SSAValue | None = None,
        name: str | None = None,
    ) -> StatementOp:
        """The statement whose body yields `value`; `name` is a hint for printing."""
        self.block.add_op(YieldOp(value))
        op = StatementOp(kind, access, variables, type, self.block, init)
        op.result.name_hint = name
        return op


def plain(variables: Sequence[tuple[str, Dim]]) -> tuple[IndexExpr, ...]:
    """The access at the variables themselves."""
    return tuple(IndexExpr.of(name) for name, _ in variables)


def replace_statement(old: Operation, *new: Operation) -> None:
    """Put operations in the place of one; the result of the last stands for its result. Those
    that reduce follow its schedule, or the last if none does. They come from where it came from."""
    block = cast(Block, old.parent)
    for op in new:
        if isinstance(op.location, UnknownLoc):
            op.location = old.location
    if ATTRIBUTE in old.attributes:
        reducing = [op for op in new if isinstance(op, StatementOp) and op.kind.data != "assign"]
        for op in reducing or new[-1:]:
            op.attributes[ATTRIBUTE] = old.attributes[ATTRIBUTE]
    block.insert_ops_before(new, old)
    if new[-1].results[0].name_hint is None:
        new[-1].results[0].name_hint = old.results[0].name_hint
    old.results[0].replace_all_uses_with(new[-1].results[0])
    old.detach()
    old.erase()


def hint(value: SSAValue, suffix: str) -> str | None:
    """A name for something made from `value`."""
    return None if value.name_hint is None else f"{value.name_hint}_{suffix}"


def factors(value: SSAValue) -> Iterator[SSAValue]:
    """Operands of a tree of multiplications, from left to right."""
    if isinstance(value.owner, OPERATIONS["mul"]):
        for operand in value.owner.operands:
            yield from factors(operand)
    else:
        yield value


@dataclass(frozen=True)
class Product:
    """A product as it stands in a body: its sign, what is multiplied and what it is divided by."""

    negative: bool
    factors: tuple[SSAValue, ...]
    divisors: tuple[SSAValue, ...] = ()


def product_of(value: SSAValue) -> Product:
    """The factors of a value, which itself is the only one if it is no product."""
    op = inner_op(value)
    name = op.FUNCTION.name if isinstance(op, ScalarOp) else ""
    if name not in ("mul", "neg", "div"):
        return Product(False, (value,))
    assert op is not None
    first = product_of(op.operands[0])
    if name == "neg":
        return Product(not first.negative, first.factors, first.divisors)
    if name == "div":
        return Product(first.negative, first.factors, (*first.divisors, op.operands[1]))
    second = product_of(op.operands[1])
    return Product(
        first.negative != second.negative,
        (*first.factors, *second.factors),
        (*first.divisors, *second.divisors),
    )
