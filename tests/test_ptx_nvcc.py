"""The PTX that nvcc makes of `cuda/kernels.cu`, run in every mode and compared with NumPy."""

import math
import shutil
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from hectorite import ptx

SOURCE = Path(__file__).parent / "cuda" / "kernels.cu"
RNG = np.random.default_rng(0)
N = 300

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


@pytest.fixture(scope="module", params=["sm_80", "sm_90"])
def program(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("nvcc") / "kernels.ptx"
    command = ["nvcc", f"-arch={request.param}", "-ptx", "-o", str(path), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True)
    return ptx.load(path)


@pytest.fixture(params=["compiled", "lockstep", "sequential"])
def launch(request, program):
    def run(name, grid, block, *arguments, shared=0):
        program[name](grid, block, arguments, shared, mode=request.param)

    return run


def blocks(n=N, threads=256):
    return -(-n // threads), threads


def test_product(launch):
    m, n, k = 20, 37, 21
    a, b = RNG.random((m, k), np.float32), RNG.random((k, n), np.float32)
    c = np.zeros((m, n), np.float32)
    launch("product", (3, 2), (16, 16), a, b, c, m, n, k)
    np.testing.assert_allclose(c, a @ b, rtol=1e-5)


def test_reduce(launch):
    x, total = RNG.random(20000, np.float32), np.zeros(1, np.float32)
    launch("reduce", 8, 128, x, total, len(x))
    np.testing.assert_allclose(total[0], x.sum(dtype=np.float64), rtol=1e-5)


def test_sparse_rows(launch):
    start = np.r_[0, np.cumsum(RNG.integers(0, 9, 64))].astype(np.int32)
    column = RNG.integers(0, 64, start[-1]).astype(np.int32)
    value = RNG.random(start[-1], np.float32)
    x, y = RNG.random((64, 33), np.float32), np.zeros((64, 33), np.float32)
    launch("rows_times", 16, (32, 4), start, column, value, x, y, 64, 33)
    expected = np.zeros((64, 33))
    np.add.at(expected, np.repeat(np.arange(64), np.diff(start)), value[:, None] * x[column])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_divergent_loops(launch):
    def steps(v):
        count = 0
        while v != 1:
            v, count = (3 * v + 1 if v & 1 else v // 2), count + 1
        return count

    x = RNG.integers(1, 10**3, N).astype(np.uint32)
    y = np.zeros(N, np.int32)
    launch("collatz", *blocks(), x, y, N)
    assert y.tolist() == [steps(int(v)) for v in x]


def test_elementary(launch):
    x = (RNG.standard_normal(N) * 3).astype(np.float32)
    y = np.zeros((8, N), np.float32)
    launch("elementary", *blocks(), x, y, N)
    size, large = np.abs(x), (x * np.float32(1e5)).astype(np.float64)
    expected = [np.exp(x), np.log(size + np.float32(1e-3)), np.sin(x), np.tanh(x),
                size ** np.float32(1.7), [math.erf(v) for v in x], None, np.cos(large)]  # fmt: skip
    for row, wanted in zip(y, expected, strict=True):
        if wanted is not None:
            np.testing.assert_allclose(row, wanted, rtol=4e-6, atol=1e-6)
    np.testing.assert_array_equal(y[6], x / np.float32(3.7))


def test_narrow_floats(launch):
    a, b = RNG.standard_normal(N).astype(np.float16), RNG.standard_normal(N)
    b = b.astype(ml_dtypes.bfloat16)
    c, d = np.zeros_like(a), np.zeros_like(b)
    launch("narrow", *blocks(), a, b, c, d, N)
    np.testing.assert_array_equal(c, (a.astype(np.float64) ** 2 + 0.5).astype(np.float16))
    np.testing.assert_array_equal(d, (b + b) * b)


def test_calls(launch):
    x, y = RNG.random(N, np.float32), np.zeros(N, np.float32)
    launch("calls", *blocks(), x, y, N)
    terms = np.array([sum(range(i % 7)) for i in range(N)])
    np.testing.assert_allclose(y, x * terms + 2 * x * 3, rtol=1e-5)


def test_local_memory_and_variables(launch):
    def expected(v):
        t = [v * k for k in range(16)]
        for k in range(16):
            t[(k * v) & 15] += k
        return sum(t[k] * (k + 1) for k in range(16)) + 2 ** (v & 7) + 7

    x, y = RNG.integers(0, 100, N).astype(np.int32), np.zeros(N, np.float32)
    launch("local_array", *blocks(), x, y, N)
    assert y.tolist() == [expected(int(v)) for v in x]


def test_votes(launch):
    x, y = RNG.integers(0, 100, 32).astype(np.int32), np.zeros((32, 6), np.uint32)
    launch("votes", 1, 32, x, y)

    def mask(holds):
        return sum(int(h) << lane for lane, h in enumerate(holds))

    for lane in range(32):
        wanted = [mask(x & 1), (x > 90).any(), 1, mask(x % 5 == x[lane] % 5), x.sum(),
                  (x & 1).sum()]  # fmt: skip
        assert y[lane].tolist() == [int(v) for v in wanted]


def test_atomics(launch):
    x, bins = RNG.integers(0, 100, N).astype(np.int32), np.zeros(17, np.int32)
    total, count = np.zeros(1), np.zeros(2, np.float16)
    launch("histogram", *blocks(), x, bins, total, count, N)
    assert bins[:16].tolist() == np.bincount(x & 15, minlength=16).tolist()
    assert (bins[16], total[0], count[0]) == (x.max(), x.sum(), N)


def test_division_of_64_bits(launch):
    a, b = RNG.integers(-(10**15), 10**15, N), RNG.integers(1, 10**6, N)
    q, r, high = np.zeros_like(a), np.zeros_like(a), np.zeros(N, np.uint64)
    launch("divide", *blocks(), a, b, q, r, high, N)
    assert (q * b + r == a).all()
    assert (np.abs(r) < b).all() and (np.sign(r) * np.sign(a) >= 0).all()
    wanted = [(int(u) % 2**64 * int(v)) >> 64 for u, v in zip(a, b, strict=True)]
    assert high.tolist() == wanted


def test_dynamic_shared_memory(launch):
    x = RNG.integers(0, 100, (3, 128)).astype(np.int32)
    y = np.zeros_like(x)
    launch("scan", 3, 128, x, y, shared=512)
    np.testing.assert_array_equal(y, np.cumsum(x, axis=1))


def test_a_clean_kernel_has_no_findings(program):
    m, n, k = 9, 17, 20
    a, b = RNG.random((m, k), np.float32), RNG.random((k, n), np.float32)
    c = np.zeros((m, n), np.float32)
    report = program["product"].check((2, 1), (16, 16), [a, b, c, m, n, k])
    assert report.findings == []
    assert not c.any(), "a check leaves the arguments as they are"
