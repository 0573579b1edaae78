"""How many stages a loop should have: an analytic model of copies that overlap with computing.

Enters: the plan of a loop and a target. Leaves: a number of stages from 1 to 5.

An SM does `resident` blocks at a time, as many as registers and shared memory allow. In the time
of one iteration of them all it computes `resident` blocks' worth, and moves as many blocks' bytes
at its share of the card's bandwidth to memory or, more often, to the second-level cache. A copy
that starts `stages - 1` iterations before its block is needed hides its latency if that many
iterations last as long; other blocks of the SM hide it too. More stages take more shared memory,
so fewer blocks are resident. Where products of two iterations overlap, copies start one iteration
later, and what a loop does beside computing costs no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import cast

from xdsl.ir import SSAValue

from hectorite.dialects.tile import KernelOp, ProductOp
from hectorite.dialects.tile_async import SharedOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.element import element_of
from hectorite.ir.scalar import scalar_type
from hectorite.ir.space import TensorType
from hectorite.ir.target import Target
from hectorite.lowering.gpu.pipeline_loop import OVERLAP, overlapping
from hectorite.lowering.gpu.pipeline_plan import Plan
from hectorite.lowering.gpu.stage_products import UNIT, constant_value

MOST_STAGES = 5
LATENCY = 700.0
"""Cycles from the start of a copy until its bytes are in shared memory."""

CACHE_RATE = 3.0
"""The second-level cache gives about so many times the memory's bandwidth."""

OVERHEAD = 60.0
"""Cycles of an iteration that barriers and the loop itself take."""

OTHER_REGISTERS = 40
"""Registers of a thread that hold no part of a tile."""


@dataclass(frozen=True)
class LoopCost:
    """What one iteration of a block costs: cycles of computing on an SM of its own, bytes that it
    copies; and what the kernel takes: threads, registers of a thread, shared bytes for one stage of
    the loop's buffers and for all else; whether products overlap with enough stages."""

    cycles: float
    bytes: int
    threads: int
    registers: int
    stage_bytes: int
    other_bytes: int
    trips: int | None
    overlaps: bool = False


def shared_bytes(tensor: SSAValue) -> int:
    """Bytes of a buffer in shared memory."""
    type = cast(TensorType, tensor.type)
    return prod(cast(tuple[int, ...], type.dims)) * type.element_type.storage.itemsize


def loop_cost(kernel: KernelOp, plan: Plan, target: Target) -> LoopCost:
    """The cost of an iteration of a loop."""
    buffers = {copy.target for copy in plan.copies}
    every = {op.result for op in kernel.walk() if isinstance(op, SharedOp)}
    carried = sum(
        prod(shape_of(type)) * -(-element_of(scalar_type(type)).bits // 32)
        for type in plan.loop.result_types
        if shape_of(type)
    )
    tasks = max(1, 128 // kernel.thread_count)
    stage = sum(map(shared_bytes, buffers)) * tasks
    return LoopCost(
        sum(_cycles(op, target) for op in plan.loop.body.walk() if isinstance(op, ProductOp))
        * tasks,
        stage,
        kernel.thread_count * tasks,
        OTHER_REGISTERS + carried // kernel.thread_count,
        stage,
        sum(map(shared_bytes, every - buffers)) * tasks,
        _trips(plan),
        overlapping(plan, kernel.thread_count) is not None,
    )


def choose_stages(kernel: KernelOp, plan: Plan, target: Target) -> int:
    """The number of stages that keeps an SM busiest; the fewest of those about as good."""
    if not plan.copies:
        return 1
    cost = loop_cost(kernel, plan, target)
    most = MOST_STAGES if cost.trips is None else max(1, min(MOST_STAGES, cost.trips))
    rates = {stages: rate(cost, stages, target) for stages in range(1, most + 1)}
    best = max(rates.values())
    return next(stages for stages, each in rates.items() if each >= 0.97 * best)


def fits(cost: LoopCost, stages: int, target: Target) -> bool:
    """Whether a block with so many stages fits in an SM."""
    return _resident(cost, stages, target) > 0


def rate(cost: LoopCost, stages: int, target: Target) -> float:
    """Iterations per cycle of one SM; 0 if a block does not fit."""
    resident = _resident(cost, stages, target)
    if not resident:
        return 0.0
    bandwidth = CACHE_RATE * target.bandwidth / target.clock / target.sms
    moving = resident * cost.bytes / bandwidth
    computing = resident * cost.cycles
    overlaps = cost.overlaps and stages > OVERLAP
    alone = cost.cycles + (0 if overlaps else OVERHEAD)
    waiting = LATENCY + cost.bytes / bandwidth
    # One block's iteration takes as long as its computing, or as its copy less what is hidden.
    own = alone + waiting if stages == 1 else max(alone, waiting / (stages - 1 - overlaps))
    return resident / max(moving, computing, own)


def _resident(cost: LoopCost, stages: int, target: Target) -> int:
    shared = stages * cost.stage_bytes + cost.other_bytes
    return target.blocks_resident(cost.threads, min(cost.registers, 255), shared)


def _trips(plan: Plan) -> int | None:
    bounds = [constant_value(value) for value in (plan.loop.lb, plan.loop.ub, plan.loop.step)]
    if None in bounds:
        return None
    lower, upper, step = cast(list[int], bounds)
    return max(0, -(-(upper - lower) // step))


def _cycles(op: ProductOp, target: Target) -> float:
    """Cycles that an SM takes for a product of fixed extent."""
    flops = 2 * prod(shape_of(op.result.type)) * (constant_value(op.extent) or 0)
    name = cast(TensorType, op.a.type).element_type.name
    rates = target.wgmma if UNIT in op.attributes else target.tensor
    tensor = rates.get({"i8": "s8", "u8": "s8"}.get(name, name))
    result = element_of(op.result.type.get_element_type())
    if tensor is not None:
        return flops / tensor
    return flops / (2 * target.lanes["f64" if result.bits == 64 else "f32"])
