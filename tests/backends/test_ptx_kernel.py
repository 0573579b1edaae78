"""Kernels as PTX, executed here: threads that pass values on, and how memory is accessed.

What kernels compute is tested where the CPU's are, in `test_llvm_kernel` and `test_llvm_memory`.
"""

import numpy as np
import pytest

from hectorite.ir.diagnostics import HectoriteError


@pytest.mark.parametrize("threads", [32, 64, 128, 256])
@pytest.mark.parametrize("lanes", [5, 64, 300])
@pytest.mark.parametrize("tasks", [1, 7])
def test_tasks_wait_for_their_own_threads(run_ptx, threads: int, lanes: int, tasks: int):
    """Each task turns a row around through its private memory, some rows longer than others."""
    row = f"!hec.tensor<f32[{lanes}]>"
    body = f"""
      %t = tile.local : {row}
      %last = scalar.constant {lanes - 1} : index
      %times = scalar.add %task, %one : index
      scf.for %i = %zero to %times step %one {{
        %v = tile.load %x[%task, %zero] axis 1 : !hec.tensor<f32[n, {lanes}]> -> vector<{lanes}xf32>
        tile.store %v, %t[%last] axis 0 step -1 : {row}, vector<{lanes}xf32>
        %w = tile.load %t[%zero] axis 0 : {row} -> vector<{lanes}xf32>
        tile.store %w, %y[%task, %zero] axis 1 : !hec.tensor<f32[n, {lanes}]>, vector<{lanes}xf32>
        %s = tile.reduce "max" %w : vector<{lanes}xf32> -> f32
        %p = tile.load %t[%times] pad 0.0 : {row} -> f32
        %q = scalar.add %s, %p : f32
        tile.store %q, %z[%task] : !hec.tensor<f32[n]>, f32
      }}
    """
    x = np.random.default_rng(lanes).standard_normal((tasks, lanes)).astype("f4")
    shape = f"f32[n, {lanes}]"
    outputs = {"y": shape, "z": "f32[n]"}
    y, z = run_ptx(threads, body, {"x": shape}, outputs, {"x": x}, tasks, n=tasks)
    np.testing.assert_array_equal(y, x[:, ::-1])
    picked = [row[i] if i < lanes else 0 for i, row in enumerate(x[:, ::-1], 1)]
    np.testing.assert_array_equal(z, x.max(axis=1) + np.array(picked, "f4"))


@pytest.mark.parametrize("threads", [32, 64, 128])
@pytest.mark.parametrize("type", ["f32", "f64", "i8", "i1", "f16", "i64"])
def test_tiles_change_their_layout(run_ptx, threads: int, type: str):
    layouts = [
        f"[6, 20] threads {threads}:[0,1] registers 6:[1,0]",
        f"[6, 20] threads 8:[1,0] {threads // 8}:[0,8] registers 8:[0,1]",
        f"[6, 20] threads 4:[0,2] 8:[1,0] {threads // 32}:[0,8] registers 2:[0,1] 3:[0,8]",
    ]
    tensor, tile = f"!hec.tensor<{type}[6, 20]>", f"vector<6x20x{type}>"
    body = f"""
      %r = tile.lanes : vector<6xindex>
      %a = tile.load %x[%r, %zero] axis 1 : {tensor} -> {tile}
      %b = tile.convert %a {{layout = #tile.layout<{layouts[0]}>}} : {tile}
      %c = tile.convert %b {{layout = #tile.layout<{layouts[1]}>}} : {tile}
      %d = tile.convert %c {{layout = #tile.layout<{layouts[2]}>}} : {tile}
      tile.store %d, %y[%r, %zero] axis 1 : {tensor}, {tile}
    """
    x = (np.arange(120).reshape(6, 20) % 7 - 3).astype("i1" if type == "i8" else "f4")
    kind = {"f32": "f4", "f64": "f8", "i8": "i1", "i1": "?", "f16": "f2", "i64": "i8"}[type]
    x = x.astype(kind)
    (y,) = run_ptx(threads, body, {"x": f"{type}[6, 20]"}, {"y": f"{type}[6, 20]"}, {"x": x})
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("row", [-1, 0, 3, 4, 1 << 30])
@pytest.mark.parametrize("column", [-20, -3, 0, 2, 8, -(1 << 30)])
@pytest.mark.parametrize("step", [1, 2])
def test_pad(run_ptx, row: int, column: int, step: int):
    body = f"""
      %r = scalar.cast %row : i64 to index
      %c = scalar.cast %column : i64 to index
      %v = tile.load %x[%r, %c] axis 1 step {step} pad 2.5
        : !hec.tensor<f32[4, 12]> -> vector<64xf32>
      tile.store %v, %y[%zero] axis 0 : !hec.tensor<f32[64]>, vector<64xf32>
    """
    x = np.arange(48, dtype="f4").reshape(4, 12)
    arguments = {"x": x, "row": row, "column": column}
    inputs = {"x": "f32[4, 12]", "row": "i64", "column": "i64"}
    (y,) = run_ptx(32, body, inputs, {"y": "f32[64]"}, arguments)
    columns = column + step * np.arange(64)
    inside = (0 <= row < 4) & (columns >= 0) & (columns < 12)
    read = x[row if 0 <= row < 4 else 0, np.clip(columns, 0, 11)]
    np.testing.assert_array_equal(y, np.where(inside, read, np.float32(2.5)))


def test_large_memory_comes_with_the_launch(run_ptx, kernel_ptx):
    body = """
      %t = tile.local : !hec.tensor<f32[16384]>
      %v = tile.load %x[%zero] axis 0 : !hec.tensor<f32[16384]> -> vector<16384xf32>
      tile.store %v, %t[%zero] axis 0 : !hec.tensor<f32[16384]>, vector<16384xf32>
      scf.for %i = %zero to %one step %one {
        %w = tile.load %t[%task] axis 0 valid %one : !hec.tensor<f32[16384]> -> vector<16384xf32>
        tile.store %w, %y[%zero] axis 0 valid %one : !hec.tensor<f32[1]>, vector<16384xf32>
      }
    """
    ptx = kernel_ptx(256, body, {"x": "f32[16384]"}, {"y": "f32[1]"})
    assert ".extern .shared" in ptx
    assert '"shared": 65536' in ptx
    x = np.arange(3, 16387).astype("f4")
    (y,) = run_ptx(256, body, {"x": "f32[16384]"}, {"y": "f32[1]"}, {"x": x})
    assert y[0] == 3


def test_too_much_memory_is_a_message(kernel_ptx):
    body = """
      %t = tile.local : !hec.tensor<f64[65536]>
      %v = tile.load %t[%task] : !hec.tensor<f64[65536]> -> f64
      tile.store %v, %t[%zero] : !hec.tensor<f64[65536]>, f64
    """
    with pytest.raises(HectoriteError, match="needs 524288 bytes of shared memory in each block"):
        kernel_ptx(256, body, {}, {"y": "f32[1]"})


def test_neighbours_are_one_access(kernel_ptx):
    body = """
      %n = scalar.constant 128 : index
      %i = scalar.mul %task, %n : index
      %v = tile.load %x[%i] axis 0 : !hec.tensor<f32[n]> -> vector<128xf32>
      %w = tile.load %h[%i] axis 0 : !hec.tensor<f16[n]> -> vector<128xf16>
      tile.store %v, %y[%i] axis 0 : !hec.tensor<f32[n]>, vector<128xf32>
      tile.store %w, %z[%i] axis 0 : !hec.tensor<f16[n]>, vector<128xf16>
    """
    inputs = {"x": "f32[n]", "h": "f16[n]"}
    ptx = kernel_ptx(32, body, inputs, {"y": "f32[n]", "z": "f16[n]"}, "n")
    for access in ("ld.global.nc.v4.f32", "ld.global.nc.v2.b32", "st.global.v4.f32"):
        assert ptx.count(access) == 1
