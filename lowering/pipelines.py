"""The compiler from top to bottom: the levels in order, and the passes between them.

    text -> graph --rewrite-> graph-opt --formats-> sparse --tiles-> tile -> llvm -> asm

A program enters as graph IR, from the language (`frontend/to_graph`) or as text. Passes below take
the graph level to itself; those of formats put position sets in the place of sets that have a
storage format, and without any the level `sparse` is `graph-opt`; `graph_to_tile` turns groups of
statements into kernels and the host program that launches them; `backends/cpu/module.py` turns
kernels into LLVM IR, and `backends/cpu/jit.py` that into machine code. Every level prints and runs.
"""

from collections.abc import Callable, Mapping

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.lowering.formats.apply_formats import ApplyFormats
from hectorite.lowering.formats.apply_tensor_formats import ApplyTensorFormats
from hectorite.lowering.formats.parts import is_stored
from hectorite.lowering.gpu.choose_work import orders_of_work
from hectorite.lowering.graph.canonicalize_graph import CanonicalizeGraph
from hectorite.lowering.graph.compose_gathers import ComposeGathers
from hectorite.lowering.graph.drop_dead_statements import DropDeadStatements
from hectorite.lowering.graph.expand_softmax import ExpandSoftmax
from hectorite.lowering.graph.inline_elementwise import InlineElementwise
from hectorite.lowering.graph.merge_statements import MergeStatements
from hectorite.lowering.graph.scatter_products import ScatterProducts
from hectorite.lowering.graph.search_rewrites import SearchRewrites
from hectorite.lowering.graph.simplify_access import SimplifyAccess
from hectorite.lowering.graph.specialize_sizes import specialize
from hectorite.lowering.graph.widen_accumulators import WidenAccumulators
from hectorite.lowering.kernels.graph_to_tile import graph_to_tile
from hectorite.lowering.options import Options

LEVELS = ("graph", "graph-opt", "sparse", "tile", "llvm", "asm")
Observe = Callable[[str, ModuleOp], None]  # called after each pass with its name and the module


def clean() -> tuple[ModulePass, ...]:
    """Simple bodies and shared values show what depends on what."""
    return (CanonicalizeGraph(), SimplifyAccess(), ComposeGathers(), MergeStatements())


def structural(options: Options) -> tuple[ModulePass, ...]:
    """Once: where work is done and in which order, as the cost model finds it cheapest."""
    dead = DropDeadStatements()
    # What a search leaves are gathers, which go into their readers.
    return (*clean(), dead, SearchRewrites.of(options), *clean(), dead)


def finish() -> tuple[ModulePass, ...]:
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


def optimise(
    module: ModuleOp,
    sizes: Mapping[str, int],
    options: Options | None = None,
    observe: Observe | None = None,
) -> ModuleOp:
    """graph -> graph-opt: a rewritten copy, with the given sizes put in."""
    module, watch = module.clone(), observe or _unobserved
    specialize(module, sizes)
    watch("specialize-sizes", module)
    rewrite(module, options or Options(), watch)
    return module


def rewrite(module: ModuleOp, options: Options, watch: Observe) -> None:
    """All passes of the graph level, in place; of the level `sparse` what later ones need."""
    # No pass after the first knows of softmax. What is scattered has to be one sum still.
    late = (*ScatterProducts.of(options), *orders_of_work(options), *finish())
    stored = (WidenAccumulators(), DropDeadStatements())
    passes = stored if is_stored(module) else (*structural(options), *late)
    _run((ExpandSoftmax(), *passes), module, watch)


def _unobserved(name: str, module: ModuleOp) -> None:
    pass


def _run(passes: tuple[ModulePass, ...], module: ModuleOp, watch: Observe) -> None:
    for each in passes:
        each.apply(Context(), module)
        watch(each.name, module)


def apply_formats(
    module: ModuleOp,
    options: Options | None = None,
    tensor_cores: bool = False,
    observe: Observe | None = None,
    only_sets: bool = False,
) -> ModuleOp:
    """graph-opt -> sparse: a copy, where a set that has a storage format is computed on by its
    positions, and a tensor, unless `only_sets`, by its parts; `tensor_cores` tells that the target
    multiplies short numbers in blocks."""
    module, watch = module.clone(), observe or _unobserved
    chosen = options or Options()
    formats = ApplyFormats(chosen.formats, chosen.reassociate, tensor_cores)
    # What was made for several readers may be left with one, and blocks may be of a short type.
    tidy = (DropDeadStatements(), InlineElementwise(), WidenAccumulators(), DropDeadStatements())
    tidy = () if is_stored(module) else tidy
    tensors = () if only_sets else (ApplyTensorFormats(chosen.reassociate),)
    _run((formats, *tidy, *tensors), module, watch)
    return module


to_tile = graph_to_tile
"""sparse -> tile: kernels and host program of one function, all of whose sizes are known."""
