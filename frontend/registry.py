"""What xDSL's tools find of hectorite: its dialects and passes, each imported when first used.

The entry point `xdsl.universe` names `UNIVERSE`, so that `xdsl-opt` and every other tool built on
xDSL lists and runs them. A new pass is a row of `PASSES`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from xdsl.universe import Universe

DIALECTS = {
    "hec": ("hectorite.ir.space", "Hec"),
    "scalar": ("hectorite.ir.scalar", "Scalar"),
    "graph": ("hectorite.dialects.graph", "Graph"),
    "sparse": ("hectorite.dialects.sparse", "Sparse"),
    "tile": ("hectorite.dialects.tile", "Tile"),
    "ptx": ("hectorite.dialects.ptx", "Ptx"),
}
"""Each dialect: the module that defines it, and its name there."""

PASSES = {
    "annotate-forms": ("hectorite.lowering.graph.annotate_forms", "AnnotateForms"),
    "apply-formats": ("hectorite.lowering.formats.apply_formats", "ApplyFormats"),
    "apply-tensor-formats": (
        "hectorite.lowering.formats.apply_tensor_formats",
        "ApplyTensorFormats",
    ),
    "assign-layouts": ("hectorite.lowering.gpu.assign_layouts", "AssignLayouts"),
    "canonicalize-graph": ("hectorite.lowering.graph.canonicalize_graph", "CanonicalizeGraph"),
    "choose-work": ("hectorite.lowering.gpu.choose_work", "ChooseWork"),
    "compose-gathers": ("hectorite.lowering.graph.compose_gathers", "ComposeGathers"),
    "drop-dead-statements": (
        "hectorite.lowering.graph.drop_dead_statements",
        "DropDeadStatements",
    ),
    "expand-softmax": ("hectorite.lowering.graph.expand_softmax", "ExpandSoftmax"),
    "inline-elementwise": ("hectorite.lowering.graph.inline_elementwise", "InlineElementwise"),
    "insert-barriers": ("hectorite.lowering.gpu.insert_barriers", "InsertBarriers"),
    "merge-statements": ("hectorite.lowering.graph.merge_statements", "MergeStatements"),
    "scatter-products": ("hectorite.lowering.graph.scatter_products", "ScatterProducts"),
    "search-rewrites": ("hectorite.lowering.graph.search_rewrites", "SearchRewrites"),
    "optimise-graph": ("hectorite.lowering.graph.optimise_graph", "OptimiseGraph"),
    "promote-locals": ("hectorite.lowering.gpu.promote_locals", "PromoteLocals"),
    "pipeline-copies": ("hectorite.lowering.gpu.pipeline_copies", "PipelineCopies"),
    "reuse-values": ("hectorite.lowering.gpu.reuse_values", "ReuseValues"),
    "own-rows": ("hectorite.lowering.gpu.own_rows", "OwnRows"),
    "pack-operands": ("hectorite.lowering.gpu.pack_operands", "PackOperands"),
    "simplify-access": ("hectorite.lowering.graph.simplify_access", "SimplifyAccess"),
    "specialize-sizes": ("hectorite.lowering.graph.specialize_sizes", "SpecializeSizes"),
    "split-fixed": ("hectorite.lowering.graph.split_fixed", "SplitFixed"),
    "stage-products": ("hectorite.lowering.gpu.stage_products", "StageProducts"),
    "superoptimise": ("hectorite.lowering.graph.superoptimise", "Superoptimise"),
    "unroll-gathers": ("hectorite.lowering.gpu.unroll_gathers", "UnrollGathers"),
    "widen-accumulators": ("hectorite.lowering.graph.widen_accumulators", "WidenAccumulators"),
}
"""Each pass, in the same way."""


def _lazily(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(module), name)


UNIVERSE = Universe(
    all_dialects={name: _lazily(*place) for name, place in DIALECTS.items()},
    all_passes={name: _lazily(*place) for name, place in PASSES.items()},
)
