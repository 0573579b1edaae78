"""Random walks over structural rewrites of random programs change no result."""

import agreement
from datasets import datasets
from hypothesis import given, note
from hypothesis import strategies as st
from programs import programs
from sampling import sampled
from xdsl.context import Context

from hectorite.backends.reference.interpreter import run_reference
from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.frontend.compiled.executable import given_sets
from hectorite.ir.extents import Extents
from hectorite.lowering.graph.expand_softmax import ExpandSoftmax
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.lower_dataflow import lower
from hectorite.lowering.graph.specialize_sizes import specialize
from hectorite.lowering.structural import structural_rules

SMALL = 2000
STEPS = 5


def walked(compiled, draw):
    """The module after some rewrites, each chosen among all that apply."""
    module = compiled.module.clone()
    specialize(module, compiled.program.sizes)
    ExpandSoftmax().apply(Context(), module)
    for func in [op for op in module.ops if isinstance(op, FuncOp)]:
        flow = lift(func, schema_of(module))
        rules = structural_rules(Extents(flow.schema), None)
        for _ in range(STEPS):
            found = [m for n in flow.order() for rule in rules for m in rule.matches(flow, n)]
            if not found:
                break
            chosen = found[draw(st.integers(0, len(found) - 1))]
            note(f"{flow.nodes[chosen.nodes[0]].name}: {chosen.rule} {chosen.detail}")
            chosen.apply(flow)
        lower(flow, module, func.sym_name.data)
    module.verify()
    return module


@sampled(25)
@given(st.data())
def test_a_walk_over_structural_rewrites_changes_no_result(data):
    program = data.draw(programs(most=4))
    note(program.text)
    compiled = agreement.read(program)
    module = walked(compiled, data.draw)
    dataset = data.draw(datasets(program, SMALL))

    def run(binding, arguments, sizes):
        extents, maps = given_sets(binding)
        return run_reference(module, program.function, extents | sizes, maps, arguments)

    agreement._compare(compiled, dataset, [("rewritten", True, run)])
