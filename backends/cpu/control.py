"""Structured control flow as LLVM blocks: counted loops and conditionals with values.

Enters: a builder, and Python functions that emit the bodies. Leaves: blocks joined by phis, the
builder behind them. Values carried through are lists of LLVM values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

Values = list[ir.Value]


def counted_loop(
    builder: ir.IRBuilder,
    start: ir.Value,
    stop: ir.Value,
    stride: ir.Value,
    carried: Sequence[ir.Value],
    body: Callable[[ir.Value, Values], Values],
    rolled: bool = False,
    scalar: bool = False,
) -> Values:
    """What `carried` becomes by `body(i, carried)` for i from `start`, by `stride` > 0, below
    `stop`; all three are i64. A `rolled` one stays a single loop if its bounds are not known, a
    `scalar` one is not made into vectors either."""
    before = builder.block
    head = builder.append_basic_block("loop")
    inside = builder.append_basic_block("body")
    after = builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    counter = builder.phi(start.type)
    phis = [builder.phi(value.type) for value in carried]
    builder.cbranch(builder.icmp_signed("<", counter, stop), inside, after)
    builder.position_at_end(inside)
    results = body(counter, list(phis))
    following = builder.add(counter, stride, flags=("nsw",))
    for phi, first, last in zip(
        [counter, *phis], [start, *carried], [following, *results], strict=True
    ):
        phi.add_incoming(first, before)
        phi.add_incoming(last, builder.block)
    back = builder.branch(head)
    if rolled or scalar:
        _keep_rolled(back, scalar)
    builder.position_at_end(after)
    return phis


def _keep_rolled(back: ir.Instruction, scalar: bool) -> None:
    """Tell LLVM not to unroll the loop that this branch closes, unless its length is a constant,
    nor, if it is to stay `scalar`, to make vectors of it."""
    module = back.function.module
    advice = [module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.runtime.disable")])]
    if scalar:
        width = ir.MetaDataString(module, "llvm.loop.vectorize.width")
        advice.append(module.add_metadata([width, ir.Constant(ir.IntType(32), 1)]))
    number = ir.Constant(ir.IntType(64), len(module.metadata))  # makes each node one of its own
    loop = module.add_metadata([number, *advice])
    loop.operands = (loop, *advice)  # a loop's node begins with itself
    back.set_metadata("llvm.loop", loop)


def conditional(
    builder: ir.IRBuilder,
    condition: ir.Value,
    then: Callable[[], Values],
    otherwise: Callable[[], Values],
) -> Values:
    """The values of `then` where the i1 holds, else those of `otherwise`."""
    blocks = [builder.append_basic_block(name) for name in ("then", "else", "join")]
    builder.cbranch(condition, blocks[0], blocks[1])
    arms: list[tuple[Values, ir.Block]] = []
    for block, arm in zip(blocks[:2], (then, otherwise), strict=True):
        builder.position_at_end(block)
        values = arm()
        arms.append((values, builder.block))
        builder.branch(blocks[2])
    builder.position_at_end(blocks[2])
    phis = [builder.phi(value.type) for value in arms[0][0]]
    for values, block in arms:
        for phi, value in zip(phis, values, strict=True):
            phi.add_incoming(value, block)
    return phis
