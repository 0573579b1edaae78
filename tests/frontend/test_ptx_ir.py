"""The level `ptx-ir`: printed, read back, printed as PTX, run."""

import numpy as np
import pytest

import hectorite
from hectorite.frontend.program_text import form_of
from hectorite.ir.diagnostics import HectoriteError

PROGRAM = """set row
set col
set nz { row: row, col: col }
def spmm(A: f32[nz], B: f32[col, J]) -> f32[row, J] {
  C[z.row, j] += A[z] * B[z.col, j]
  return C
}
"""

FOREIGN = """.version 7.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p) {
  .reg .b64 %rd<2>; .reg .b32 %r<3>;
  ld.param.u64 %rd1, [p];
  mov.u32 %r1, %tid.x;
  mad.wide.u32 %rd1, %r1, 4, %rd1;
  st.global.u32 [%rd1], %r1;
  ret;
}
"""


@pytest.fixture(scope="module")
def printed() -> str:
    return hectorite.emit(PROGRAM, "ptx-ir", {"J": 16}, target="sm_80")


def test_it_is_a_form_of_its_own(printed):
    assert form_of(printed) == "ptx-ir"


def test_it_prints_as_it_was_read(printed):
    assert hectorite.emit(printed, "ptx-ir") == printed


def test_it_gives_the_same_ptx(printed):
    assert hectorite.emit(printed, "ptx") == hectorite.emit(
        PROGRAM, "ptx", {"J": 16}, target="sm_80"
    )


def test_ptx_with_its_plan_comes_back_into_the_dialect(printed):
    ptx = hectorite.emit(printed, "ptx")
    again = hectorite.emit(ptx, "ptx-ir")
    assert again.startswith("// hectorite plan")
    assert form_of(again) == "ptx-ir"


def test_it_runs(printed):
    rows, cols = np.array([0, 2, 2], np.int32), np.array([1, 0, 1], np.int32)
    values, dense = np.array([2, 3, 5], np.float32), np.arange(32, dtype=np.float32).reshape(2, 16)
    program = hectorite.compile(printed, target="ptx")
    nz = {"row": rows, "col": cols}
    result = program.spmm(program.bind(nz=nz, row=3, col=2), A=values, B=dense)
    expected = np.zeros((3, 16), np.float32)
    np.add.at(expected, rows, values[:, None] * dense[cols])
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_the_generic_form(printed):
    text = hectorite.emit(printed, "ptx-ir", generic=True)
    assert '"ptx.kernel"' in text


def test_ptx_of_another_compiler():
    text = hectorite.emit(FOREIGN, "ptx-ir")
    assert "ptx.kernel @k" in text
    assert "st.global.u32" in hectorite.emit(text, "ptx")


def test_faults_have_a_place(printed):
    broken = printed.replace("ptx.special", "ptx.spacial", 1)
    with pytest.raises(HectoriteError, match="spacial"):
        hectorite.emit(broken, "ptx")
