"""Products with a matrix of which N of each M elements are kept, against dense products.

Enters: nothing. Leaves: the kind `kept`. Ours takes the matrix as `nm(N, M)`, converted once; peers
multiply the pruned matrix as a dense one, which is what those do that have it in no other form.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cases import Case, Data
from benchmarks.families import Kind
from benchmarks.peers.table import OURS, Call, peer

FORMATS = ((1, 4), (2, 8), (1, 16))
SHAPES = ((1024, 1024, 64), (1024, 1024, 1024), (4096, 4096, 64), (2048, 2048, 256))

TEXT = """def kept(W: f32[M, K] as nm({keep}, {group}), X: f32[K, N]) -> f32[M, N] {{
  Y[m, n] += W[m, k] * X[k, n]
  return Y
}}
"""


def cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """Every format at every size; with `quick` the first of both."""
    formats, shapes = (FORMATS[:1], SHAPES[:1]) if quick else (FORMATS, SHAPES)
    return [_case(*format, shape) for shape in shapes for format in formats]


def _case(keep: int, group: int, shape: tuple[int, int, int]) -> Case:
    name = f"kept.{keep}of{group}.{'x'.join(map(str, shape))}"
    return Case("sparse", name, "kept", shape=shape)


def build(case: Case, data_dir: Path | None) -> Data:
    """`W`, pruned to its format, and `X`; `keep` and `group` are its numbers."""
    keep, group = map(int, case.name.split(".")[1].split("of"))
    rows, depth, columns = case.shape
    generator = np.random.default_rng(17)
    weights = generator.standard_normal((rows, depth), np.float32)
    rank = np.abs(weights).reshape(rows, depth // group, group).argsort(-1).argsort(-1)
    dense = np.where((rank >= group - keep).reshape(rows, depth), weights, np.float32(0))
    X = generator.standard_normal((depth, columns), np.float32)
    return {"W": dense, "X": X, "keep": keep, "group": group}


def expected(data: Data) -> np.ndarray:
    return np.asarray(data["W"], np.float64) @ np.asarray(data["X"], np.float64)


@peer(OURS, OURS, "kept")
def compiled(data: Data, case: Case) -> Call:
    import hectorite

    rows, depth, columns = case.shape
    format = {"keep": data["keep"], "group": data["group"]}
    sizes = {"M": rows, "K": depth, "N": columns}
    call = hectorite.compile(TEXT.format(**format), target=case.target, sizes=sizes).kept
    W, X = hectorite.nm(data["W"], data["keep"], data["group"]), data["X"]
    return lambda: call(W=W, X=X)


@peer("numpy (OpenBLAS)", "numpy", "kept")
def numpy_product(data: Data, case: Case) -> Call:
    W, X = data["W"], data["X"]
    return lambda: W @ X


@peer("torch (MKL)", "torch", "kept")
def torch_product(data: Data, case: Case) -> Call:
    from benchmarks.peers.torch_sparse_ops import tensor, threaded_torch

    threaded_torch()
    W, X = tensor(data["W"]), tensor(data["X"])
    return lambda: W @ X


@peer("torch oneDNN (packed)", "torch", "kept")
def packed_product(data: Data, case: Case) -> Call:
    from benchmarks.peers.torch_sparse_ops import tensor, threaded_torch

    torch = threaded_torch()
    W, X = tensor(data["W"]), tensor(data["X"].T)
    packed = torch.ops.mkldnn._reorder_linear_weight(X, len(W))
    return lambda: torch.ops.mkldnn._linear_pointwise(W, packed, None, "none", [], "")


KINDS = (Kind("kept", cases, build, expected, small=_case(1, 4, (16, 16, 16))),)
