"""Machine code: compiled, printed, assembled back, loaded, freed; faults become diagnostics."""

import ctypes
import gc
import math
import platform

import numpy as np
import pytest

from hectorite.backends.cpu import jit
from hectorite.ir.diagnostics import HectoriteError

AXPY = """
define void @axpy(ptr noalias %x, ptr noalias %y, i64 %n, float %a) nounwind {
  br label %each
each:
  %i = phi i64 [ 0, %0 ], [ %next, %each ]
  %px = getelementptr float, ptr %x, i64 %i
  %py = getelementptr float, ptr %y, i64 %i
  %vx = load float, ptr %px
  %vy = load float, ptr %py
  %scaled = fmul contract float %vx, %a
  %sum = fadd contract float %vy, %scaled
  store float %sum, ptr %py
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %each, label %out
out:
  ret void
}
"""

LIBM = """
declare double @erf(double)
define double @f(double %x) {
  %y = call double @erf(double %x)
  ret double %y
}
"""


def check_axpy(object_code: bytes) -> None:
    axpy = jit.load(object_code, ["axpy"]).function(
        "axpy", None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    )
    gc.collect()  # the function alone keeps the code
    x, y = np.arange(100, dtype=np.float32), np.ones(100, np.float32)
    axpy(x.ctypes.data, y.ctypes.data, 99, 2.0)
    assert (y[:99] == 1 + 2 * x[:99]).all() and y[99] == 1


def test_compile_and_run():
    check_axpy(jit.compile_object(AXPY))


def test_output_is_deterministic():
    assert jit.compile_object(AXPY) == jit.compile_object(AXPY)


def test_assembly_runs_again():
    assembly = jit.compile_assembly(AXPY)
    assert "axpy:" in assembly
    check_axpy(jit.assemble(assembly))


def test_optimised_ir_runs_again():
    check_axpy(jit.compile_object(jit.optimise(AXPY)))


@pytest.mark.skipif("+avx512f" not in jit.host().features.split(","), reason="no 512-bit vectors")
def test_full_vector_width():
    assert "%zmm" in jit.compile_assembly(AXPY)


def test_mathematics_library():
    function = jit.load(jit.compile_object(LIBM), ["f"]).function(
        "f", ctypes.c_double, ctypes.c_double
    )
    assert function(0.5) == math.erf(0.5)


def test_code_can_be_loaded_many_times():
    object_code = jit.compile_object(LIBM)
    for _ in range(50):
        assert jit.load(object_code, ["f"]).address("f")


def test_given_symbols():
    text = (
        "declare i32 @given(i32)\n"
        "define i32 @f(i32 %x) {\n  %y = call i32 @given(i32 %x)\n  ret i32 %y\n}\n"
    )
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    given = kind(lambda x: x + 1)
    code = jit.load(jit.compile_object(text), ["f"], {"given": jit.address_of(given)})
    assert code.function("f", ctypes.c_int, ctypes.c_int)(41) == 42
    with pytest.raises(HectoriteError, match="cannot be loaded"):
        jit.load(jit.compile_object(text), ["f"])


@pytest.mark.parametrize(
    "text, place",
    [
        ("define void @f( {\n", "module.ll:2:1"),
        ("define i32 @f() {\n  ret void\n}\n", "module.ll:2:7"),
        ("define i32 @f(i32 %a) {\n %d = add i32 %d, %a\n ret i32 %d\n}\n", "module.ll"),
        ("\0", "module.ll:1:1"),
        ("hello", "module.ll:1:1"),
    ],
)
def test_bad_ir(text: str, place: str):
    with pytest.raises(HectoriteError) as caught:
        jit.compile_object(text)
    assert str(caught.value).startswith(place)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 assembly")
def test_bad_assembly():
    with pytest.raises(HectoriteError) as caught:
        jit.assemble("  .text\n  vbogus %zmm1\n")
    assert str(caught.value).startswith("module.s:2:3: error: invalid instruction")


def test_bad_object():
    with pytest.raises(HectoriteError, match="cannot be loaded"):
        jit.load(b"junk", ["f"])
    with pytest.raises(HectoriteError, match="cannot be loaded"):
        jit.load(jit.compile_object(LIBM)[:200], ["f"])
