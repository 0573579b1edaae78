"""Compiled PTX of nvcc with and without debug information, and of Triton where it is installed.

Every kernel of tests/cuda becomes LLVM IR; products of Triton by mma and wgmma are right.
`HECTORITE_TRITON_PYTHON` may name a Python that has Triton.
"""

import importlib.util
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import ml_dtypes
import numpy as np
import pytest

import hectorite
from hectorite import ptx
from hectorite.backends.ptx.jit import kernel_text

CUDA = Path(__file__).parents[2] / "cuda"
BESIDE = Path(__file__).with_name("test_ptx_compilers.py")


@cache
def beside():
    """The tests of the executor, which hold the Triton kernel."""
    spec = importlib.util.spec_from_file_location("ptx_compilers", BESIDE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("option", ["-O3", "-G"])
@pytest.mark.parametrize("file", sorted(CUDA.glob("*.cu")), ids=lambda file: file.stem)
def test_every_kernel_has_code(file, option):
    command = ["nvcc", "-arch=sm_90", "-ptx", option, "-o", "-", str(file)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    program = ptx.load(text, file.name)
    if "wmma" in file.stem:
        with pytest.raises(hectorite.HectoriteError, match=r"no code for `wmma\."):
            kernel_text(program.module, next(iter(program)), program.source)
        return
    for name in program:
        _, ir = kernel_text(program.module, name, program.source)
        llvm.parse_assembly(ir).verify()


@pytest.mark.parametrize(
    ("element", "arch"),
    [("fp16", 80), ("bf16", 80), ("fp32", 80), ("i8", 80), ("fp8e4nv", 89),
     ("fp16", 90), ("fp32", 90), ("i8", 90), ("fp8e4nv", 90)],
)  # fmt: skip
def test_triton_products(element, arch, tmp_path):
    python = beside().triton_python()
    if python is None:
        pytest.skip("Triton is not installed")
    script = tmp_path / "product.py"
    script.write_text(beside().TRITON, "utf-8")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    made = subprocess.run([python, str(script), element, str(arch)], capture_output=True, text=True,
                          check=True, env=environment, timeout=300)  # fmt: skip
    first, _, text = made.stdout.partition("\n")
    dtype = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16, "fp32": np.float32, "i8": np.int8,
             "fp8e4nv": ml_dtypes.float8_e4m3fn}[element]  # fmt: skip
    rng = np.random.default_rng(0)
    m, n, k = 128, 128, 256
    shapes = ((m, k), (k, n))
    if element == "i8":
        a, b = (rng.integers(-128, 128, shape).astype(dtype) for shape in shapes)
    else:
        a, b = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    c = np.zeros((m, n), np.int32 if element == "i8" else np.float32)
    kernel = ptx.load(text)["product"]
    spare = [None] * (len(kernel.parameters) - 6)
    kernel((2, 2), 128, [a, b, c, m, n, k, *spare], int(first.split()[1]), mode="compiled")
    bound = {"fp32": 0.1, "i8": 0}.get(element, 1e-3)
    assert np.abs(c - a.astype(np.float64) @ b.astype(np.float64)).max() <= bound
