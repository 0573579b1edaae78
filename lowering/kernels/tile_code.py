"""Writing tile IR: a cursor at the end of a block, with constants, arithmetic and loops."""

from collections.abc import Callable, Sequence

from xdsl.dialects import scf
from xdsl.dialects.builtin import IndexType, VectorType
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from hectorite.dialects.tile import PrefetchOp, SplatOp
from hectorite.ir.scalar import OPERATIONS, CastOp, ConstantOp, like, scalar_type

index = IndexType()

PREFETCH_ELEMENTS = 8192
"""Elements of a row that are asked for at most: the hardware runs ahead in a longer one, and each
cache line that is asked for is an instruction."""


class Code:
    """Appends operations to `block`. Constants go to `entry`, once each, so that loops share
    them; `entry` is the block of the kernel or program itself."""

    def __init__(
        self,
        block: Block,
        entry: Block | None = None,
        constants: dict[tuple[object, ...], SSAValue] | None = None,
    ):
        self.block = block
        self.entry = block if entry is None else entry
        self.constants = {} if constants is None else constants

    def add(self, op: Operation) -> SSAValue:
        """Append an operation; its first result, if it has one."""
        self.block.add_op(op)
        return op.results[0] if op.results else None  # pyright: ignore[reportReturnType]

    def constant(self, number: float | int, type: Attribute = index) -> SSAValue:
        key = (repr(number), type)
        if key not in self.constants:
            op = ConstantOp(number, type)
            first = self.entry.first_op
            if first is None:
                self.entry.add_op(op)
            else:
                self.entry.insert_op_before(op, first)
            self.constants[key] = op.result
        return self.constants[key]

    def scalar(self, name: str, *arguments: SSAValue) -> SSAValue:
        """A scalar function; scalars are repeated where the other operands are vectors."""
        return self.add(OPERATIONS[name](*self.same_shape(arguments)))

    def same_shape(self, values: Sequence[SSAValue]) -> list[SSAValue]:
        """Repeat scalars so that all values have the shape of the vectors among them."""
        types = [v.type for v in values]
        shapes = [type.get_shape() for type in types if isinstance(type, VectorType)]
        if not shapes:
            return list(values)
        return [
            v if isinstance(v.type, VectorType) else self.add(SplatOp(v, shapes[0])) for v in values
        ]

    def spread(self, value: SSAValue, count: int) -> SSAValue:
        """A vector of `count` lanes; a scalar is repeated."""
        if isinstance(value.type, VectorType):
            return value
        return self.add(SplatOp(value, [count]))

    def cast(self, value: SSAValue, element: Attribute) -> SSAValue:
        """Convert to another element type, keeping the shape."""
        if scalar_type(value.type) == element:
            return value
        return self.add(CastOp(value, like(value.type, element)))

    def plus(self, a: SSAValue, number: int) -> SSAValue:
        return a if number == 0 else self.scalar("add", a, self.constant(number))

    def prefetch(self, tensor: SSAValue, indices: Sequence[SSAValue], count: int) -> None:
        """Ask for a row of a tensor that will be read soon."""
        self.add(PrefetchOp(tensor, indices, min(count, PREFETCH_ELEMENTS)))

    def choose(
        self, condition: SSAValue, yes: Callable[["Code"], None], no: Callable[["Code"], None]
    ) -> None:
        """`scf.if`: one of two pieces of code."""
        blocks = Block(), Block()
        for block, write in zip(blocks, (yes, no), strict=True):
            write(Code(block, self.entry, self.constants))
            block.add_op(scf.YieldOp())
        self.block.add_op(scf.IfOp(condition, [], [blocks[0]], [blocks[1]]))

    def loop(
        self,
        lower: SSAValue,
        upper: SSAValue,
        step: int,
        carried: Sequence[SSAValue],
        body: Callable[["Code", SSAValue, Sequence[SSAValue]], Sequence[SSAValue]],
    ) -> Sequence[SSAValue]:
        """`scf.for`: `body` writes one iteration and gives the carried values of the next."""
        block = Block(arg_types=[index, *(value.type for value in carried)])
        inner = Code(block, self.entry, self.constants)
        results = body(inner, block.args[0], block.args[1:])
        block.add_op(scf.YieldOp(*results))
        op = scf.ForOp(lower, upper, self.constant(step), carried, Region(block))
        self.block.add_op(op)
        return op.results
