"""JAX on the CPU (XLA): segment sums over gathered rows, its sparse format, and dense products."""

from __future__ import annotations

from benchmarks.cases import SLOPE, Case, Data
from benchmarks.peers.table import Call, peer


def ready(compiled, *arguments: object) -> Call:
    """A call of a compiled function that waits for the result."""
    import jax

    placed = [jax.numpy.array(a) for a in arguments]
    return lambda: compiled(*placed).block_until_ready()


@peer("jax segment_sum", "jax", "spmm spmv sddmm gat")
def segments(data: Data, case: Case) -> Call:
    import jax
    from jax import numpy as jnp

    row, col, n = jnp.array(data["row"]), jnp.array(data["col"]), data["n"]

    def over_rows(combine, value):
        return combine(value, row, n, indices_are_sorted=True)

    def spmm(a, b):
        return over_rows(jax.ops.segment_sum, a[:, None] * b[col])

    def spmv(a, x):
        return over_rows(jax.ops.segment_sum, a * x[col])

    def sddmm(a, p, q):
        return a * (p[row] * q[col]).sum(1)

    def gat(x, w, al, ar):
        z = jnp.einsum("ni,iko->nko", x, w)
        score = (z * al).sum(2)[col] + (z * ar).sum(2)[row]
        score = jnp.where(score > 0, score, SLOPE * score)
        weight = jnp.exp(score - over_rows(jax.ops.segment_max, score)[row])
        weight /= over_rows(jax.ops.segment_sum, weight)[row]
        return over_rows(jax.ops.segment_sum, weight[:, :, None] * z[col])

    if case.kind == "spmm":
        return ready(jax.jit(spmm), data["A"], data["B"])
    if case.kind == "spmv":
        return ready(jax.jit(spmv), data["A"], data["x"])
    if case.kind == "sddmm":
        return ready(jax.jit(sddmm), data["A"], data["P"], data["Q"])
    return ready(jax.jit(gat), data["x"], data["W"], data["al"], data["ar"])


@peer("jax BCSR", "jax", "spmm")
def block_rows(data: Data, case: Case) -> Call:
    import jax
    from jax import numpy as jnp
    from jax.experimental import sparse

    parts = tuple(jnp.array(data[name]) for name in ("A", "col", "indptr"))
    a, b = sparse.BCSR(parts, shape=(data["n"], data["n"])), jnp.array(data["B"])
    product = jax.jit(lambda a, b: a @ b)
    return lambda: product(a, b).block_until_ready()


@peer("jax", "jax", "gemm")
def dense(data: Data, case: Case) -> Call:
    import jax

    highest = jax.lax.Precision.HIGHEST
    product = jax.jit(lambda a, b: jax.lax.dot(a, b, precision=highest))
    return ready(product, data["A"], data["B"])
