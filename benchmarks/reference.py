"""What every peer must compute: each kind once in NumPy and SciPy, in float64.

Enters: the data of a case (see `benchmarks.cases`). Leaves: the expected array. Written for
reading, not for speed; the relative error of a peer is measured against it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import erf

from benchmarks.cases import SLOPE, Case, Data, families


def expected(case: Case, data: Data) -> np.ndarray:
    """The result of a case in float64."""
    wide = {
        name: value.astype(np.float64)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        else value
        for name, value in data.items()
    }
    own = families().get(case.kind)
    return own.expected(wide) if own else REFERENCES[case.kind](wide)


def relative_error(result: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference over the largest magnitude of the reference; infinity on a mismatch."""
    if result.shape != reference.shape or not np.isfinite(result).all():
        return math.inf
    if reference.size == 0:
        return 0.0
    difference = np.abs(np.asarray(result, np.float64) - reference).max()
    return float(difference / max(np.abs(reference).max(), 1e-30))


def softmax(score: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Softmax of score [E, ...] over the elements that share a group."""
    top = np.full((groups, *score.shape[1:]), -np.inf)
    np.maximum.at(top, group, score)
    weight = np.exp(score - top[group])
    return weight / total(weight, group, groups)[group]


def total(value: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Sum of value [E, ...] over each group."""
    entries = (np.ones(len(group)), (group, np.arange(len(group))))
    flat = value.reshape(len(group), math.prod(value.shape[1:]))
    summed = csr_matrix(entries, (groups, len(group))) @ flat
    return summed.reshape(groups, *value.shape[1:])


def leaky_relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, SLOPE * x)


def typed(x: np.ndarray, kind: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """x[e] @ weight[kind[e]]."""
    out = np.empty((len(x), weight.shape[2]))
    for t in range(len(weight)):
        chosen = kind == t
        out[chosen] = x[chosen] @ weight[t]
    return out


def rgcn(d: Data) -> np.ndarray:
    message = typed(d["h"][d["src"]], d["type"], d["W"]) * d["norm"][:, None]
    return np.maximum(d["h"] @ d["W0"] + total(message, d["dst"], d["n"]), 0)


def rgat(d: Data) -> np.ndarray:
    source = typed(d["h"][d["src"]], d["type"], d["W"])
    score = (source * d["al"][d["type"]]).sum(1)
    score += (typed(d["h"][d["dst"]], d["type"], d["W"]) * d["ar"][d["type"]]).sum(1)
    a = softmax(leaky_relu(score), d["dst"], d["n"])
    return total(a[:, None] * source, d["dst"], d["n"])


def hgt(d: Data) -> np.ndarray:
    k, q, v = (typed(d["h"], d["ntype"], d[name][:, :, 0]) for name in ("Wk", "Wq", "Wv"))
    key = typed(k[d["src"]], d["type"], d["Wa"][:, 0])
    score = (key * q[d["dst"]]).sum(1) * d["mu"][d["type"], 0] / math.sqrt(key.shape[1])
    a = softmax(score, d["dst"], d["n"])
    message = typed(v[d["src"]], d["type"], d["Wm"][:, 0])
    t = total(a[:, None] * message, d["dst"], d["n"])
    gelu = t * 0.5 * (1 + erf(t / math.sqrt(2)))
    return typed(gelu, d["ntype"], d["Wo"][:, 0])


def matrix(d: Data, values: np.ndarray) -> csr_matrix:
    return csr_matrix((values, d["col"], d["indptr"]), (d["n"], d["n"]))


def spmm(d: Data) -> np.ndarray:
    return matrix(d, d["A"]) @ d["B"]


def spmv(d: Data) -> np.ndarray:
    return matrix(d, d["A"]) @ d["x"]


def sddmm(d: Data) -> np.ndarray:
    return d["A"] * np.einsum("zk,zk->z", d["P"][d["row"]], d["Q"][d["col"]])


def gat(d: Data) -> np.ndarray:
    z = np.einsum("ni,iko->nko", d["x"], d["W"])
    score = (z * d["al"]).sum(2)[d["col"]] + (z * d["ar"]).sum(2)[d["row"]]
    a = softmax(leaky_relu(score), d["row"], d["n"])
    heads = range(a.shape[1])
    return np.stack([matrix(d, a[:, k].copy()) @ z[:, k] for k in heads], axis=1)


def gemm(d: Data) -> np.ndarray:
    return d["A"] @ d["B"]


REFERENCES = {
    "rgcn": rgcn,
    "rgat": rgat,
    "hgt": hgt,
    "spmm": spmm,
    "spmv": spmv,
    "sddmm": sddmm,
    "gat": gat,
    "gemm": gemm,
    "gemm16": gemm,
}
