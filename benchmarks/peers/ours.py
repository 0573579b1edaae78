"""hectorite itself, through its public interface only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.cases import Case, Data
from benchmarks.peers.table import OURS, Call, peer

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN = Path(__file__).parents[1] / "programs"
SHIPPED = ("rgcn", "rgat", "spmm", "spmv", "sddmm", "gat")
PROGRAMS = {kind: EXAMPLES / f"{kind}.hec" for kind in SHIPPED}
PROGRAMS |= {kind: OWN / f"{kind}.hec" for kind in ("hgt", "gemm", "gemm16")}

TENSORS = {
    "rgcn": ("h", "W", "W0", "norm"),
    "rgat": ("h", "W", "al", "ar"),
    "hgt": ("h", "Wk", "Wq", "Wv", "Wa", "Wm", "mu", "Wo"),
    "spmm": ("A", "B"),
    "spmv": ("A", "x"),
    "sddmm": ("A", "P", "Q"),
    "gat": ("x", "W", "al", "ar"),
    "gemm": ("A", "B"),
    "gemm16": ("A", "B"),
}

# Sizes are given when compiling, so that binding prepares the adjacency, as peers build their CSR.
SIZES = {
    "rgcn": {"I": ("h", 1), "O": ("W", 2)},
    "rgat": {"I": ("h", 1), "O": ("W", 2)},
    "hgt": {"I": ("h", 1), "K": ("Wk", 2), "D": ("Wk", 3), "O": ("Wo", 3)},
    "spmm": {"J": ("B", 1)},
    "spmv": {},
    "sddmm": {"K": ("P", 1)},
    "gat": {"I": ("x", 1), "K": ("W", 1), "O": ("W", 2)},
    "gemm": {"M": ("A", 0), "K": ("A", 1), "N": ("B", 1)},
    "gemm16": {"M": ("A", 0), "K": ("A", 1), "N": ("B", 1)},
}


def sets(kind: str, data: Data) -> dict[str, object]:
    """The sets of a case as `bind` takes them: a size, or the maps of the set."""
    if kind in ("gemm", "gemm16"):
        return {}
    if kind in ("spmm", "spmv", "sddmm"):
        return {"nz": {"row": data["row"], "col": data["col"]}, "row": data["n"], "col": data["n"]}
    if kind == "gat":
        return {"edge": {"src": data["col"], "dst": data["row"]}, "node": data["n"]}
    edge = {field: data[field] for field in ("src", "dst", "type")}
    bound: dict[str, object] = {"edge": edge, "node": data["n"], "etype": data["R"]}
    if kind == "hgt":
        bound |= {"node": {"type": data["ntype"]}, "ntype": data["T"]}
    return bound


@peer(OURS, OURS, "rgcn rgat hgt spmm spmv sddmm gat gemm gemm16")
def compiled(data: Data, case: Case) -> Call:
    function, graph, tensors = prepared(data, case)
    return lambda: function(graph, **tensors)


@peer(f"{OURS}, recorded", "cuda", "rgcn rgat hgt spmm spmv sddmm gat gemm gemm16")
def recorded(data: Data, case: Case) -> Call:
    """The call as a CUDA graph."""
    function, graph, tensors = prepared(data, case)
    return function.graph(graph, **tensors).replay


def prepared(data: Data, case: Case) -> tuple[Any, Any, dict[str, Any]]:
    """The function compiled for the target of a case, its sets bound, and its tensors in place."""
    import hectorite

    tensors = {name: data[name] for name in TENSORS[case.kind]}
    sizes = {size: tensors[name].shape[axis] for size, (name, axis) in SIZES[case.kind].items()}
    program = hectorite.compile(PROGRAMS[case.kind], target=case.target, sizes=sizes)
    graph = program.bind(**sets(case.kind, data))
    if case.target.startswith("cuda"):
        tensors = {name: on_device(array) for name, array in tensors.items()}
    return getattr(program, case.kind), graph, tensors


def on_device(array: Any) -> Any:
    """An array on the GPU: a torch tensor, or memory of our own where torch does not see it."""
    from benchmarks.gpu_process import gpu_torch

    if gpu_torch() is not None:
        from benchmarks.peers.torch_sparse_ops import tensor

        return tensor(array)
    from hectorite.backends.cuda.driver import device
    from hectorite.backends.cuda.memory import pool, synchronise, upload

    span = pool(0).empty(array.shape, array.dtype, 0)
    with device().active():
        upload(array, span, 0)
        synchronise(0)
    return span
