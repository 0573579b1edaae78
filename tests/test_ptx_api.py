"""`hectorite.ptx`: what a caller may pass, and what is said of everything else."""

from pathlib import Path

import numpy as np
import pytest

import hectorite
from hectorite import ptx

KERNEL = Path(__file__).parent / "ptx" / "reverse.ptx"
N = 120

HEAD = ".version 7.0\n.target sm_80\n.address_size 64\n"
STORE = (
    HEAD
    + """
.visible .entry store(.param .u64 to, .param {type} value)
{{
  .reg .b64 %a; .reg .{register} %v;
  ld.param.u64 %a, [to];
  ld.param.{register} %v, [value];
  st.global.{register} [%a], %v;
  ret;
}}
"""
)


@pytest.fixture
def kernel():
    return ptx.load(KERNEL)["reverse"]


@pytest.fixture
def arguments():
    return [np.arange(4 * N, dtype=np.float32), np.zeros(128, np.float32), N]


def expected():
    sums = np.zeros(128, np.float32)
    sums[:N] = np.arange(4 * N, dtype=np.float32).reshape(N, 4).sum(1)
    return sums.reshape(2, 64)[:, ::-1].ravel()


@pytest.mark.parametrize("mode", ptx.MODES)
@pytest.mark.parametrize("checked", [True, False])
def test_arrays_change_in_place(kernel, arguments, mode, checked):
    kernel(grid=(2,), block=(64,), args=arguments, shared=0, mode=mode, check=checked)
    np.testing.assert_array_equal(arguments[1], expected())


def test_names():
    program = hectorite.ptx.load(KERNEL.read_text())
    assert list(program) == ["reverse"] and len(program) == 1 and "reverse" in program
    kernel = program.kernels["reverse"]
    assert kernel.name == "reverse"
    assert [(p.name, p.type) for p in kernel.parameters] == [
        ("x", "u64"),
        ("y", "u64"),
        ("n", "u32"),
    ]
    assert repr(kernel) == "reverse(.u64 x, .u64 y, .u32 n)"
    assert repr(program) == "<<ptx>: reverse(.u64 x, .u64 y, .u32 n)>"


def test_text_bytes_and_paths(tmp_path):
    text = KERNEL.read_text()
    for given in (text, text.encode() + b"\0", KERNEL, str(KERNEL)):
        assert list(ptx.load(given)) == ["reverse"]
    binary = tmp_path / "k.cubin"
    binary.write_bytes(b"\x7fELF\xff\xfe")
    for given, message in (
        (tmp_path / "absent.ptx", "cannot read"),
        (binary, "is no text"),
        (7, "`int` is no PTX"),
        (".version 7.0\nfoo", "<ptx>:2:1: error"),
    ):
        with pytest.raises(hectorite.HectoriteError, match=message):
            ptx.load(given)


def stored(type, register, value, nbytes):
    """What a kernel stores that is given `value` as its parameter."""
    out = np.zeros(max(nbytes, 8), np.uint8)
    ptx.load(STORE.format(type=type, register=register))["store"](1, 1, [out, value])
    return out[:nbytes]


@pytest.mark.parametrize(
    "type, register, value, wanted",
    [
        (".u32", "b32", 7, np.uint32(7)),
        (".u32", "b32", -1, np.int32(-1)),
        (".s32", "b32", np.int32(-5), np.int32(-5)),
        (".u32", "b32", True, np.uint32(1)),
        (".b32", "b32", np.float32(2.5), np.float32(2.5)),
        (".f32", "b32", 2.5, np.float32(2.5)),
        (".f32", "b32", 3, np.float32(3)),
        (".f32", "b32", np.array(1.5, np.float32), np.float32(1.5)),
        (".f64", "b64", 0.1, np.float64(0.1)),
        (".u64", "b64", 1 << 40, np.uint64(1 << 40)),
        (".u64", "b64", None, np.uint64(0)),
        (".b64", "b64", np.float64(0.1), np.float64(0.1)),
        (".b16", "b16", np.float16(0.5), np.float16(0.5)),
        (".align 4 .b8", "b32", np.float16(0.5), None),
    ],
)
def test_numbers_go_by_value(type, register, value, wanted):
    if wanted is None:
        with pytest.raises(hectorite.HectoriteError, match="argument 1"):
            stored(type, register, value, 4)
        return
    assert stored(type, register, value, wanted.nbytes).tobytes() == wanted.tobytes()


def test_parameters_of_several_bytes():
    text = STORE.replace("{type} value", ".align 8 .b8 value[8]").format(type="", register="b64")
    out = np.zeros(1, np.uint64)
    kernel = ptx.load(text)["store"]
    kernel(1, 1, [out, b"\1\0\0\0\2\0\0\0"])
    assert out[0] == 1 | 2 << 32
    kernel(1, 1, [out, np.array([(3, 4)], "i4,i4")[0]])
    assert out[0] == 3 | 4 << 32
    with pytest.raises(hectorite.HectoriteError, match="8 bytes"):
        kernel(1, 1, [out, b"\1"])


def wrong(kernel, message, args, grid=2, block=64, **more):
    with pytest.raises(hectorite.HectoriteError) as caught:
        kernel(grid, block, args, **more)
    assert message in str(caught.value)


def test_arguments_that_do_not_fit(kernel, arguments):
    x, y, n = arguments
    read_only = x.copy()
    read_only.flags.writeable = False
    wrong(kernel, "called with 1 argument\n  expected: 3: reverse(.u64 x,", [x])
    wrong(kernel, "argument 2 is the float 2.5, and the parameter is `.u32 n`", [x, y, 2.5])
    wrong(kernel, "argument 2 is a float32 of 32 bits", [x, y, np.float32(2)])
    wrong(kernel, "argument 2 is a int64 of 64 bits", [x, y, np.int64(2)])
    wrong(kernel, "an integer of 32 bits", [x, y, 1 << 32])
    wrong(kernel, "argument 2 is an array of 480 float32", [x, y, x])
    wrong(kernel, "argument 0 is the float 1.0", [1.0, y, n])
    wrong(kernel, "argument 0 is of type str", ["x", y, n])
    wrong(kernel, "argument 1 (`.u64 y`) is not contiguous", [x, y[::2], n])
    wrong(kernel, "argument 0 (`.u64 x`) is read-only", [read_only, y, n])
    wrong(kernel, "is an array of Python objects", [np.array([None]), y, n])
    wrong(kernel, "is an array of <U1", [np.array(["a"]), y, n])
    wrong(kernel, "in big-endian order", [x.astype(">f4"), y, n])
    wrong(kernel, "args is of type dict", {})


def test_launches_that_no_gpu_would_take(kernel, arguments):
    wrong(kernel, "the block has 0 in x", arguments, block=0)
    wrong(kernel, "the block has 65 in z", arguments, block=(1, 1, 65))
    wrong(kernel, "a block of 2048 threads", arguments, block=(64, 32))
    wrong(kernel, "the grid has -1 in x", arguments, grid=-1)
    wrong(kernel, "the grid has 65536 in y", arguments, grid=(1, 65536))
    wrong(kernel, "grid=2.5 is no size", arguments, grid=2.5)
    wrong(kernel, "block='64' is no size", arguments, block="64")
    wrong(kernel, "shared is -1 bytes", arguments, shared=-1)
    wrong(kernel, "unknown mode `lock`", arguments, mode="lock")
    bounded = ptx.load(KERNEL.read_text().replace(".u32 n)", ".u32 n)\n.maxntid 32"))["reverse"]
    wrong(bounded, "at most 32, as .maxntid says", arguments)


@pytest.mark.parametrize("mode", ["compiled", "lockstep", "sequential"])
def test_wrong_accesses_are_told(kernel, arguments, mode):
    x, y, _ = arguments
    wrong(kernel, f"{KERNEL}:24:3: error", [x, y, N + 1], mode=mode)
    wrong(kernel, f"{KERNEL}:38:3: error", [x, y[:-1], N], mode=mode)


def test_compiled_says_where(kernel, arguments):
    x, y, _ = arguments
    wrong(kernel, "at byte 1920 of array 0, which has 1920 bytes", [x, y, N + 1])
    wrong(kernel, "thread (56, 0, 0) of block (1, 0, 0)", [x, y, N + 1])
    shifted = np.zeros(4 * N * 4 + 4, np.uint8)[4:]
    wrong(kernel, "of 16 bytes at byte 0 of array 0, which has 1920 bytes, is misaligned",
          [shifted, y, N])  # fmt: skip


def test_arrays_may_overlap(arguments):
    memory = np.arange(512, dtype=np.float32)
    kernel = ptx.load(KERNEL)["reverse"]
    results = []
    for mode in ("compiled", "lockstep"):
        own = memory.copy()
        kernel(1, 64, [own[:256], own[200:264], 64], mode=mode)
        results.append(own)
    np.testing.assert_array_equal(*results)


def test_unknown_kernels():
    with pytest.raises(hectorite.HectoriteError, match="did you mean `reverse`"):
        ptx.load(KERNEL)["revers"]


def test_what_has_no_code_is_told_before_anything_runs():
    text = HEAD + (
        ".visible .entry k(.param .u64 p)\n{\n  .reg .b64 %a;\n  ld.param.u64 %a, [p];\n"
        "  st.global.u32 [%a], 1;\n  tcgen05.fence::before_thread_sync;\n  ret;\n}\n"
    )
    out = np.zeros(1, np.uint32)
    for mode in ("compiled", "lockstep"):
        with pytest.raises(hectorite.HectoriteError, match="tcgen05.fence") as caught:
            ptx.load(text)["k"](1, 1, [out], mode=mode)
        assert "<ptx>:9:3" in str(caught.value)
    assert out[0] == 0


def test_check_leaves_the_arguments(kernel, arguments):
    report = kernel.check(2, 64, arguments)
    assert report.findings == [] and not arguments[1].any()
    found = kernel.check(2, 64, [*arguments[:2], N + 1]).findings
    assert [(f.kind, f.line) for f in found] == [("out_of_bounds", 24)]


def test_variables_keep_their_values():
    """Module variables live as long as the program, in compiled mode."""
    text = HEAD + (
        ".global .align 4 .u32 count = 5;\n.visible .entry k(.param .u64 p)\n{\n"
        "  .reg .b64 %a; .reg .b32 %v;\n  ld.param.u64 %a, [p];\n"
        "  atom.global.add.u32 %v, [count], 2;\n  st.global.u32 [%a], %v;\n  ret;\n}\n"
    )
    out = np.zeros(1, np.uint32)
    kernel = ptx.load(text)["k"]
    for wanted in (5, 7, 9):
        kernel(1, 1, [out], mode="compiled")
        assert out[0] == wanted
