"""PTX of other compilers: CUDA C by nvcc and Triton, where they are installed.

The kernels are in tests/cuda. `HECTORITE_TRITON_PYTHON` may name a Python that has Triton.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from hectorite.backends.ptx.machine import Launch, execute
from hectorite.backends.ptx.watch import Checks
from hectorite.ir.diagnostics import Source
from hectorite.ir.ptx.parse import parse_ptx
from tests.driver import on_device

CUDA = Path(__file__).parents[2] / "cuda"
SCHEDULES = ["lockstep", "sequential", "reversed"]
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")


@cache
def compiled(name: str, *options: str) -> str:
    """The PTX of a CUDA file."""
    command = ["nvcc", "-arch=sm_90", "-ptx", *options, "-o", "-", str(CUDA / f"{name}.cu")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def run(name, grid, block, arguments, schedule="lockstep", checks=True, text=None, **options):
    """What the executor reports; with `--target cuda` arrays hold what the device makes of them."""
    text = text or compiled(name)
    source = Source(f"{name}.ptx", text)
    launch = Launch(parse_ptx(text, source.name), name, grid, block, arguments, source=source)
    before = [value.copy() if isinstance(value, np.ndarray) else value for value in arguments]
    report = execute(launch, schedule, Checks() if checks else None, **options)
    if report.is_clean and on_device.run(text, name, grid, block, before):
        for value, made in zip(arguments, before, strict=True):
            if isinstance(value, np.ndarray):
                value[...] = made
    return report


@needs_nvcc
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_vector_add(schedule):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 1000)).astype("f4")
    c = np.zeros_like(a)
    report = run("vector_add", (8,), (128,), [a, b, c, 1000], schedule, unwritten=[c])
    assert (c == a + b).all()
    assert report.is_clean


@needs_nvcc
def test_vector_add_past_the_end():
    a = np.ones(1000, "f4")
    c = np.zeros_like(a)
    report = run("vector_add", (8,), (128,), [a, a.copy(), c, 1001])
    assert {f.kind for f in report.findings} == {"out_of_bounds"}
    assert len(report.findings) == 3
    assert "array of 4000 bytes" in report.findings[0].message


def product(schedule="lockstep", text=None, checks=True):
    rng = np.random.default_rng(0)
    m, n, k = 37, 50, 20
    a, b = rng.standard_normal((m, k)).astype("f4"), rng.standard_normal((k, n)).astype("f4")
    c = np.zeros((m, n), "f4")
    report = run("shared_product", (7, 5), (8, 8), [a, b, c, m, n, k], schedule, checks, text)
    return np.abs(c - a @ b).max(), report


@needs_nvcc
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_shared_product(schedule):
    error, report = product(schedule)
    assert error < 1e-4
    assert report.is_clean


@needs_nvcc
@pytest.mark.parametrize("which", [0, 1])
def test_shared_product_without_one_of_its_barriers(which):
    first, *pieces = compiled("shared_product").split("bar.sync \t0;")
    assert len(pieces) % 2 == 0, "two barriers in each step of the loop, which may be unrolled"
    kept = ("" if i % 2 == which else "bar.sync \t0;" for i in range(len(pieces)))
    broken = first + "".join(bar + piece for bar, piece in zip(kept, pieces, strict=True))
    error, report = product(text=broken)
    assert error < 1e-4, "lockstep hides it"
    assert {f.kind for f in report.findings} == {"race"}
    errors = [product(schedule, broken, False)[0] for schedule in ("sequential", "reversed")]
    assert max(errors) > 1, "threads alone show it"


@needs_nvcc
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_block_reduce(schedule):
    x = np.random.default_rng(0).standard_normal(5000).astype("f4") * 10
    total, most = np.zeros(1, "f4"), np.full(1, -100, "i4")
    report = run("block_reduce", (4,), (128,), [x, total, most, x.size], schedule)
    assert abs(total[0] - x.sum(dtype="f8")) < 1e-2
    assert most[0] == np.rint(x).max()
    assert report.is_clean


@needs_nvcc
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_spmm_csr(schedule):
    rng = np.random.default_rng(0)
    rows, columns, width = 60, 40, 35
    dense = rng.standard_normal((rows, columns)) * (rng.random((rows, columns)) < 0.2)
    dense[rng.random(rows) < 0.2] = 0
    dense = dense.astype("f4")
    row, column = np.nonzero(dense)
    starts = np.searchsorted(row, np.arange(rows + 1)).astype("i4")
    x, y = rng.standard_normal((columns, width)).astype("f4"), np.zeros((rows, width), "f4")
    report = run(
        "spmm_csr",
        (15,),
        (32, 4),
        [starts, column.astype("i4"), dense[row, column], x, y, rows, width],
        schedule,
    )
    assert np.abs(y - dense @ x).max() < 1e-4
    assert report.is_clean


@needs_nvcc
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_mma_product(schedule):
    rng = np.random.default_rng(0)
    m, n, k = 64, 128, 96
    a = rng.standard_normal((m, k)).astype(ml_dtypes.bfloat16)
    b = rng.standard_normal((k, n)).astype(ml_dtypes.bfloat16)
    c = np.zeros((m, n), "f4")
    report = run("mma_product", (n // 64, m // 64), (128,), [a, b, c, n, k], schedule)
    assert np.abs(c - a.astype("f4") @ b.astype("f4")).max() < 1e-4
    assert report.is_clean


@needs_nvcc
def test_mma_product_without_its_wait():
    text = compiled("mma_product").replace("cp.async.wait_group 1;", "")
    rng = np.random.default_rng(0)
    a = rng.standard_normal((64, 96)).astype(ml_dtypes.bfloat16)
    b = rng.standard_normal((96, 64)).astype(ml_dtypes.bfloat16)
    c = np.zeros((64, 64), "f4")
    report = run("mma_product", (1, 1), (128,), [a, b, c, 64, 96], text=text)
    assert np.abs(c - a.astype("f4") @ b.astype("f4")).max() > 1
    assert "race" in {f.kind for f in report.findings}


@needs_nvcc
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_wmma_product(schedule):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((32, 48)).astype("f2"), rng.standard_normal((48, 32)).astype("f2")
    c = np.zeros((32, 32), "f4")
    columns = np.ascontiguousarray(b.T)
    report = run("wmma_product", (2, 2), (32,), [a, columns, c, 32, 48], schedule)
    assert np.abs(c - 2 * (1 + a.astype("f4") @ b.astype("f4"))).max() < 1e-4
    assert report.is_clean
    a, b = rng.integers(-128, 128, (32, 16)), rng.integers(-128, 128, (16, 8))
    whole = np.zeros((8, 32), "i4")
    arguments = [np.ascontiguousarray(a.T).astype("i1"), b.astype("i1"), whole]
    module = parse_ptx(compiled("wmma_product"))
    report = execute(Launch(module, "wmma_bytes", (1,), (32,), arguments), schedule, Checks())
    assert (a @ b == whole.T).all()
    assert report.is_clean


@needs_nvcc
@pytest.mark.parametrize("options", [(), ("-G",), ("-lineinfo",)])
@pytest.mark.parametrize("schedule", ["lockstep", "sequential"])
def test_mixture(options, schedule):
    n = 100
    x = np.random.default_rng(0).standard_normal(n).astype("f4")
    y, z, h = np.zeros(n, "f4"), np.zeros(n, "i8"), np.zeros(n, "f2")
    settings = np.array([(3, 1.5, -0.25)], dtype="i4, f4, f8").tobytes()
    run("mixture", (2,), (64,), [x, y, z, h, settings, n], schedule, False,
        compiled("mixture", *options))  # fmt: skip
    for i in range(n):
        stack = [0.0] * 8
        for j in range(8):
            stack[j * 3 & 7] = x[i] * np.float32(j)
        case = i % 7
        if case < 3:
            stack[case + 1] += (1, 2, -3)[case]
        else:
            stack[min(case + 1, 6)] = {3: stack[4] * 4, 4: 5.0}.get(case, 6.0)
        value = float(stack[i & 7])
        want = value * np.sin(value) * 1.5 - 0.25 + (1.0, -2.0, 0.5, 4.0)[i & 3]
        assert abs(y[i] - want) < 1e-4
        wide = i * 1234567890123 - 55555
        quotient = abs(wide) // (i + 3) * (1 if wide >= 0 else -1)
        assert z[i] == quotient + (abs(wide) % 7) * (1 if wide >= 0 else -1)
        assert h[i] == np.float16(x[i]) + np.float16(0.25) * np.float16(i)


TRITON = """
import sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

@triton.jit
def product(a, b, c, m, n, k, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, T: tl.constexpr):
    row = tl.program_id(0) * M + tl.arange(0, M)
    column = tl.program_id(1) * N + tl.arange(0, N)
    inner = tl.arange(0, K)
    total = tl.zeros((M, N), dtype=T)
    for start in range(0, k, K):
        left = tl.load(a + row[:, None] * k + start + inner[None, :])
        right = tl.load(b + (start + inner)[:, None] * n + column[None, :])
        total = tl.dot(left, right, total, out_dtype=T)
    tl.store(c + row[:, None] * n + column[None, :], total)

element, arch = sys.argv[1], int(sys.argv[2])
whole = element == "i8"
names = dict(a="*" + element, b="*" + element, c="*i32" if whole else "*fp32",
             m="i32", n="i32", k="i32",
             M="constexpr", N="constexpr", K="constexpr", T="constexpr")
values = dict(M=64, N=64, K=64, T=tl.int32 if whole else tl.float32)
even = {(i,): [["tt.divisibility", 16]] for i in range(6)}
source = ASTSource(fn=product, signature=names, constexprs=values, attrs=even)
made = compile(source, target=GPUTarget("cuda", arch, 32), options=dict(num_warps=4, num_stages=3))
print("SHARED", made.metadata.shared)
print(made.asm["ptx"])
"""


def triton_python() -> str | None:
    """A Python that can import Triton."""
    for python in (os.environ.get("HECTORITE_TRITON_PYTHON"), sys.executable):
        if (
            python
            and subprocess.run([python, "-c", "import triton"], capture_output=True).returncode == 0
        ):
            return python
    return None


@pytest.mark.parametrize(("element", "arch"), [("fp16", 80), ("bf16", 90), ("fp32", 80),
                                               ("fp32", 90),
                                               ("i8", 80), ("i8", 90), ("fp8e4nv", 89),
                                               ("fp8e4nv", 90)])  # fmt: skip
def test_triton_products(element, arch, tmp_path):
    python = triton_python()
    if python is None:
        pytest.skip("Triton is not installed")
    script = tmp_path / "product.py"
    script.write_text(TRITON, "utf-8")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    made = subprocess.run([python, str(script), element, str(arch)], capture_output=True, text=True,
                          check=True, env=environment, timeout=300)  # fmt: skip
    first, _, text = made.stdout.partition("\n")
    shared = int(first.split()[1])
    dtype = {"fp16": "f2", "bf16": ml_dtypes.bfloat16, "fp32": "f4", "i8": "i1",
             "fp8e4nv": ml_dtypes.float8_e4m3fn}[element]  # fmt: skip
    rng = np.random.default_rng(0)
    m, n, k = 128, 64, 192
    if element == "i8":
        a, b = (rng.integers(-128, 128, shape).astype(dtype) for shape in ((m, k), (k, n)))
    else:
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((m, k), (k, n)))
    c = np.zeros((m, n), "i4" if element == "i8" else "f4")
    module = parse_ptx(text, "triton.ptx")
    spare = len(module.entries[0].parameters) - 6
    launch = Launch(module, "product", (2, 1), (128,), [a, b, c, m, n, k, *[0] * spare], shared)
    report = execute(launch, checks=Checks())
    want = a.astype("f8") @ b.astype("f8")
    bound = 0.1 if element == "fp32" else 1e-3
    assert np.abs(c - want).max() <= bound
    assert report.is_clean
