"""The compiler from top to bottom: the levels in order, and the passes between them.

    text --frontend--> graph --rewrite--> graph-opt --TILE--> tile --> llvm --> asm

A program enters as graph IR, from the language (`frontend/build.py`) or as text. Passes below take
the graph level to itself; `graph_to_tile` turns groups of statements into kernels and the host
program that launches them; `backends/llvm_module.py` turns kernels into LLVM IR, and
`backends/jit.py` that into machine code. Every level can be printed, parsed, checked and run.
"""

from collections.abc import Callable, Mapping

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.lowering.canonicalize_graph import CanonicalizeGraph
from hectorite.lowering.compose_gathers import ComposeGathers
from hectorite.lowering.drop_dead_statements import DropDeadStatements
from hectorite.lowering.expand_softmax import ExpandSoftmax
from hectorite.lowering.factor_through_maps import FactorThroughMaps
from hectorite.lowering.graph_to_tile import graph_to_tile
from hectorite.lowering.hoist_factors import HoistFactors
from hectorite.lowering.inline_elementwise import InlineElementwise
from hectorite.lowering.merge_statements import MergeStatements
from hectorite.lowering.options import Options
from hectorite.lowering.reassociate_products import ReassociateProducts
from hectorite.lowering.search_rewrites import SearchRewrites
from hectorite.lowering.simplify_access import SimplifyAccess
from hectorite.lowering.specialize_sizes import specialize
from hectorite.lowering.split_contraction import SplitContraction
from hectorite.lowering.split_sum import SplitSum
from hectorite.lowering.widen_accumulators import WidenAccumulators

LEVELS = ("graph", "graph-opt", "tile", "llvm", "asm")
Observe = Callable[[str, ModuleOp], None]  # called after each pass with its name and the module


def clean() -> tuple[ModulePass, ...]:
    """Simple bodies and shared values show what depends on what."""
    return (CanonicalizeGraph(), SimplifyAccess(), ComposeGathers(), MergeStatements())


def searched(options: Options) -> tuple[ModulePass, ...]:
    """Once, in the place of the rounds, where the structural rewrites are chosen by cost."""
    dead = DropDeadStatements()
    return (*clean(), dead, SearchRewrites.of(options), *clean(), dead)


def rewrite_round(options: Options) -> tuple[ModulePass, ...]:
    """Again and again until nothing changes: each factoring uncovers the next."""
    reassociate, known = options.reassociate, options.cardinalities
    return (
        *clean(),
        # What is split is worth splitting only for the factoring after it.
        SplitSum(reassociate, known),
        SplitContraction(reassociate, known),
        HoistFactors(reassociate),
        ReassociateProducts(reassociate, known),
        FactorThroughMaps(known),
        # The gathers that factoring leaves go into their readers before the next round.
        SimplifyAccess(),
        ComposeGathers(),
        DropDeadStatements(),
        MergeStatements(),
    )


def finish(options: Options) -> tuple[ModulePass, ...]:
    """Once, last."""
    return (
        # Inlining would put a sum that can be split behind a function, so it waits until here.
        InlineElementwise(),
        CanonicalizeGraph(),
        MergeStatements(),
        # Kernels add into tensors in place only where the tensor has the type of the sum.
        WidenAccumulators(),
        DropDeadStatements(),
    )


MOST_ROUNDS = 16  # more than any program needs


def optimise(
    module: ModuleOp,
    sizes: Mapping[str, int],
    options: Options | None = None,
    observe: Observe | None = None,
) -> ModuleOp:
    """graph -> graph-opt: a rewritten copy, with the given sizes put in."""
    module, watch = module.clone(), observe or (lambda name, module: None)
    specialize(module, sizes)
    watch("specialize-sizes", module)
    rewrite(module, options or Options(), watch)
    return module


def rewrite(module: ModuleOp, options: Options, watch: Observe) -> None:
    """All passes of the graph level, in place."""
    _run((ExpandSoftmax(),), module, watch)  # no later pass needs to know of softmax
    if options.searches:
        _run((*searched(options), *finish(options)), module, watch)
        return
    for _ in range(MOST_ROUNDS):
        before = str(module)
        _run(rewrite_round(options), module, watch)
        if str(module) == before:
            break
    _run(finish(options), module, watch)


def _run(passes: tuple[ModulePass, ...], module: ModuleOp, watch: Observe) -> None:
    for each in passes:
        each.apply(Context(), module)
        watch(each.name, module)


to_tile = graph_to_tile
"""graph-opt -> tile: kernels and host program of one function, all of whose sizes are known."""
