"""Compiled functions that are ready to be timed, each beside the graph of its statements.

Enters: the text of a program, values of its sizes, sets, and how to rewrite it. Leaves: a
`Subject`: a call without arguments, its statements as a `Dataflow`, the `Extents` of its data.

The time of a function is about the shortest of many calls: other work on the machine adds to it.
With one thread it is the time that the thread was running, so that waiting for a core does not
count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cache import Cache
from hectorite.backends.cpu.threads import thread_count
from hectorite.frontend.compiled.executable import given_sets
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.request import only
from hectorite.frontend.data.inputs import inputs_for
from hectorite.frontend.program_text import read_program

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.ir.dataflow import Dataflow
    from hectorite.ir.extents import Extents

Rewrite = Callable[["ModuleOp"], None]
"""Takes a graph module whose sizes are known to one that means the same, in place."""

LEAST_CALLS = 5
LEFT_OUT = 50
"""One time in so many may be too short: what a hypervisor took is subtracted from a thread's own
clock, now and then from the wrong call."""


@dataclass(frozen=True)
class Subject:
    """A compiled function with its data; `call` runs it once."""

    call: Callable[[], Any]
    flow: Dataflow
    extents: Extents


def subject(
    source: str,
    sizes: Mapping[str, int],
    sets: Mapping[str, Any],
    rewrite: Rewrite,
    cache: Cache | None = None,
    seed: int = 0,
) -> Subject:
    """The last function of a program, its tensors drawn from a seed, compiled for this CPU.

    `sets` are given as to `bind`, `sizes` have to be complete. Raises `HectoriteError` for what is
    wrong in the program or in these.
    """
    from xdsl.context import Context

    from hectorite.backends.cpu.program import build
    from hectorite.ir.extents import Extents
    from hectorite.lowering.graph.lower_dataflow import lower
    from hectorite.lowering.graph.specialize_sizes import specialize
    from hectorite.lowering.pipelines import finish, to_tile

    text = read_program(source)
    facts = facts_of(text, None)
    name, signature = list(facts.signatures.items())[-1]
    binding = Binding(facts.schema, sets)
    inputs = inputs_for(signature, facts, binding, None, sizes, seed)
    module = only(text.module, name)
    specialize(module, inputs.sizes)
    rewrite(module)
    flow = flow_of(module, name)
    lower(flow, module, name)
    for each in finish():
        each.apply(Context(), module)
    code = build(to_tile(module, name), cache)
    ready = code.prepare(binding, inputs.sizes)
    known, maps = given_sets(binding)
    extents = Extents(flow.schema, known | inputs.sizes, maps=maps)
    return Subject(lambda: ready(inputs.arguments), flow, extents)


def flow_of(module: ModuleOp, name: str) -> Dataflow:
    """The statements of a function of a graph module."""
    from hectorite.dialects.graph import FuncOp
    from hectorite.dialects.graph_sets import schema_of
    from hectorite.lowering.graph.lift_dataflow import lift

    func = next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == name)
    return lift(func, schema_of(module))


def shortest(calls: Sequence[Callable[[], Any]], seconds: float) -> list[float]:
    """About the shortest time of each of several calls, made in turns for `seconds` together, and
    each at least a few times. Turns are in drawn orders, as what runs before a call decides what
    it finds in caches."""
    clock = time.thread_time if thread_count() == 1 else time.perf_counter
    taken: list[list[float]] = [[] for _ in calls]
    until, turns = time.perf_counter() + seconds, 0
    order, draw = list(range(len(calls))), Random(0)
    while turns < LEAST_CALLS or time.perf_counter() < until:
        draw.shuffle(order)
        for number in order:
            start = clock()
            calls[number]()
            taken[number].append(clock() - start)
        turns += 1
    return [sorted(times)[len(times) // LEFT_OUT] for times in taken]
