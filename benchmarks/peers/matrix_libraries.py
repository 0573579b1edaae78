"""Sparse matrix libraries: SciPy, and MKL through sparse_dot_mkl."""

from __future__ import annotations

from benchmarks.cases import Case, Data
from benchmarks.peers.table import Call, peer


@peer("scipy", "numpy", "spmm spmv")
def scipy_product(data: Data, case: Case) -> Call:
    from scipy.sparse import csr_matrix

    a = csr_matrix((data["A"], data["col"], data["indptr"]), (data["n"], data["n"]))
    b = data["B" if case.kind == "spmm" else "x"]
    return lambda: a @ b


@peer("MKL", "mkl", "spmm spmv")
def mkl_product(data: Data, case: Case) -> Call:
    from scipy.sparse import csr_matrix
    from sparse_dot_mkl import dot_product_mkl

    a = csr_matrix((data["A"], data["col"], data["indptr"]), (data["n"], data["n"]))
    b = data["B" if case.kind == "spmm" else "x"]
    return lambda: dot_product_mkl(a, b)
