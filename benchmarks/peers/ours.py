"""hectorite itself, through its public interface only."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cases import Case, Data
from benchmarks.peers.table import OURS, Call, peer

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = {kind: EXAMPLES / f"{kind}.hec" for kind in ("rgcn", "rgat", "hgt", "spmm", "sddmm")}
PROGRAMS |= {"gat": EXAMPLES / "gat.hec", "gemm": Path(__file__).parents[1] / "gemm.hec"}

TENSORS = {
    "rgcn": ("h", "W", "W0", "norm"),
    "rgat": ("h", "W", "al", "ar"),
    "hgt": ("h", "Wk", "Wq", "Wv", "Wa", "Wm", "mu", "Wo"),
    "spmm": ("A", "B"),
    "sddmm": ("A", "P", "Q"),
    "gat": ("x", "W", "al", "ar"),
    "gemm": ("A", "B"),
}


def sets(kind: str, data: Data) -> dict[str, object]:
    """The sets of a case as `bind` takes them: a size, or the maps of the set."""
    if kind == "gemm":
        return {}
    if kind in ("spmm", "sddmm"):
        return {"nz": {"row": data["row"], "col": data["col"]}, "row": data["n"], "col": data["n"]}
    if kind == "gat":
        return {"edge": {"src": data["col"], "dst": data["row"]}, "node": data["n"]}
    edge = {field: data[field] for field in ("src", "dst", "type")}
    bound: dict[str, object] = {"edge": edge, "node": data["n"], "etype": data["R"]}
    if kind == "hgt":
        bound |= {"node": {"type": data["ntype"]}, "ntype": data["T"]}
    return bound


def output_sizes(kind: str, data: Data) -> dict[str, int]:
    """Sizes that only the result of the program names."""
    return {}


@peer(OURS, OURS, "rgcn rgat hgt spmm sddmm gat gemm")
def compiled(data: Data, case: Case) -> Call:
    import hectorite

    program = hectorite.compile(
        str(PROGRAMS[case.kind]), target=case.target, sizes=output_sizes(case.kind, data)
    )
    graph = program.bind(**sets(case.kind, data))
    function = getattr(program, case.kind)
    tensors = {name: data[name] for name in TENSORS[case.kind]}
    return lambda: function(graph, **tensors)
