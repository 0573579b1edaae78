"""`hectorite ptx run | check`: results, planted defects, messages and exit statuses."""

import json
from pathlib import Path

import numpy as np
import pytest

KERNEL = Path(__file__).parent / "ptx" / "reverse.ptx"
TEXT = KERNEL.read_text()
LAUNCH = ("--kernel", "reverse", "--grid", 2, "--block", 64)
N = 120


def arguments(path, count=N, **changed):
    x = np.arange(4 * N, dtype=np.float32)
    values = {"arg0": x, "arg1": np.zeros(128, np.float32), "arg2": np.uint32(count), **changed}
    np.savez(path, **values)
    return path


@pytest.fixture
def data(tmp_path):
    return arguments(tmp_path / "args.npz")


def expected():
    sums = np.zeros(128, np.float32)
    sums[:N] = np.arange(4 * N, dtype=np.float32).reshape(N, 4).sum(1)
    return sums.reshape(2, 64)[:, ::-1].ravel()


@pytest.mark.parametrize("mode", ["auto", "compiled", "lockstep", "sequential"])
def test_run(hectorite, data, tmp_path, mode):
    out = tmp_path / "out.npz"
    command = ("ptx", "run", KERNEL, *LAUNCH, "--args", data, "--out", out, "--mode", mode)
    status, printed, said = hectorite(*command)
    assert status == 0, said
    assert "arg1   float32  128" in printed
    with np.load(out) as written:
        assert written.files == ["arg0", "arg1"], "numbers are no results"
        np.testing.assert_array_equal(written["arg1"], expected())


def test_run_json(hectorite, data):
    command = ("ptx", "run", KERNEL, *LAUNCH, "--args", data, "--json", "--time")
    facts = json.loads(hectorite(*command)[1])
    assert facts["kernel"] == "reverse"
    assert facts["arrays"][1] == {"name": "arg1", "dtype": "float32", "shape": [128]}
    assert facts["seconds"] > 0


def test_nothing_is_written_when_a_run_fails(hectorite, tmp_path):
    out = tmp_path / "out.npz"
    wrong = arguments(tmp_path / "wrong.npz", count=N + 1)
    status, _, said = hectorite("ptx", "run", KERNEL, *LAUNCH, "--args", wrong, "--out", out)
    assert status == 1 and not out.exists()
    assert f"{KERNEL}:24:3: error: an access of 16 bytes" in said
    assert "thread (56, 0, 0) of block (1, 0, 0)" in said


def check(hectorite, path, text, *more):
    path.write_text(text)
    status, printed, _ = hectorite("ptx", "check", path, *LAUNCH, *more)
    return status, [line.removeprefix(f"{path}:") for line in printed.splitlines()]


def kinds(lines):
    """The findings as (line, kind)."""
    return {(int(line.split(":")[0]), line.split(":")[1].strip()) for line in lines}


def test_clean(hectorite, data, tmp_path):
    assert check(hectorite, tmp_path / "k.ptx", TEXT, "--args", data) == (0, [])
    assert hectorite("ptx", "check", KERNEL)[0] == 0


def test_deleted_barrier(hectorite, data, tmp_path):
    text = TEXT.replace("  bar.sync 0;\n", "\n")
    status, lines = check(hectorite, tmp_path / "k.ptx", text, "--args", data)
    assert status == 1
    assert any(kind == "race" for _, kind in kinds(lines))
    assert any(kind in ("order", "uninitialized") for _, kind in kinds(lines)), lines


def test_one_past_the_end(hectorite, tmp_path):
    wrong = arguments(tmp_path / "args.npz", count=N + 1)
    status, lines = check(hectorite, tmp_path / "k.ptx", TEXT, "--args", wrong)
    assert status == 1 and (24, "out_of_bounds") in kinds(lines)


def test_shared_memory_one_past_the_end(hectorite, data, tmp_path):
    text = TEXT.replace("sub.u32 %t, 63, %t;", "sub.u32 %t, 64, %t;")
    status, lines = check(hectorite, tmp_path / "k.ptx", text, "--args", data)
    assert status == 1 and (36, "out_of_bounds") in kinds(lines)


def test_misaligned_vector(hectorite, data, tmp_path):
    text = TEXT.replace("[%from];", "[%from+4];")
    status, lines = check(hectorite, tmp_path / "k.ptx", text, "--args", data)
    assert status == 1 and (24, "misaligned") in kinds(lines)


def test_barrier_in_a_divergent_branch(hectorite, data, tmp_path):
    text = TEXT.replace("$store:\n", "  bar.sync 0;\n$store:\n")
    path = tmp_path / "k.ptx"
    status, lines = check(hectorite, path, text, "--args", data)
    assert status == 1 and (28, "divergent_barrier") in kinds(lines)
    status, printed, _ = hectorite("ptx", "check", path)
    assert status == 1, "this one is seen without a launch"
    assert f"{path}:28: divergent_barrier: whether a thread comes to this barrier" in printed


def test_read_of_shared_memory_that_nobody_wrote(hectorite, data, tmp_path):
    text = TEXT.replace("  st.shared.f32 [%place], %sum;\n", "\n")
    status, lines = check(hectorite, tmp_path / "k.ptx", text, "--args", data)
    assert status == 1 and (36, "uninitialized") in kinds(lines)


def test_register_that_nobody_wrote(hectorite, tmp_path):
    path = tmp_path / "k.ptx"
    path.write_text(TEXT.replace("  mov.u32 %t, %tid.x;\n", "\n"))
    status, printed, _ = hectorite("ptx", "check", path, "--json")
    found = json.loads(printed)["findings"]
    assert status == 1 and found[0]["kind"] == "uninitialized" and found[0]["line"] == 19
    assert "`%t` is read" in found[0]["message"]


def test_register_of_another_width(hectorite, tmp_path):
    path = tmp_path / "k.ptx"
    path.write_text(TEXT.replace("sub.u32 %t, 63, %t;", "sub.u32 %to, 63, %t;"))
    status, printed, _ = hectorite("ptx", "check", path)
    assert status == 1
    assert printed == (f"{path}:34: type_mismatch: `sub.u32` takes .u32 where `%to` is .b64\n")


@pytest.mark.parametrize(
    "change, message",
    [
        (("%tid.x;", "%tidy.x;"), "the register `%tidy.x` is not declared"),
        (("bra $store;", "bra $stare;"), "`$stare` is not declared"),
        (("ret;", "ret"), "expected"),
    ],
)
def test_text_that_is_no_ptx(hectorite, tmp_path, change, message):
    path = tmp_path / "k.ptx"
    path.write_text(TEXT.replace(*change))
    status, _, said = hectorite("ptx", "check", path)
    assert status == 1 and message in said and f"{path}:" in said


def test_requests_are_counted(hectorite, data):
    command = ("ptx", "check", KERNEL, *LAUNCH, "--args", data, "--coalescing", "--banks")
    status, printed, _ = hectorite(*command)
    assert status == 0
    assert ":24: global: " in printed and ":36: shared: " in printed
    facts = json.loads(hectorite(*command, "--json")[1])
    assert {one["space"] for one in facts["traffic"]} == {"global", "shared"}
    assert facts["findings"] == []


@pytest.mark.parametrize(
    "words, message",
    [
        (("--kernel", "revers", "--grid", 2, "--block", 64), "did you mean `reverse`?"),
        (("--grid", 2), "--grid and --block"),
        (("--grid", 0, "--block", 64), "the grid has 0 in x"),
        (("--grid", 2, "--block", 2000), "the block has 2000 in x"),
        (("--grid", 2, "--block", 64, "--shared", -1), "shared is -1 bytes"),
    ],
)
def test_wrong_launches(hectorite, data, words, message):
    status, _, said = hectorite("ptx", "check", KERNEL, "--args", data, *words)
    assert status == 1 and message in said


def test_requests_are_counted_in_a_run_only(hectorite):
    status, _, said = hectorite("ptx", "check", KERNEL, "--banks")
    assert status == 1 and "counted while a kernel runs" in said


def test_arrays_of_any_numbers_have_a_norm(hectorite, tmp_path):
    path = arguments(tmp_path / "complex.npz", arg0=np.full(2 * N, 3 + 4j, np.complex64))
    status, printed, said = hectorite("ptx", "run", KERNEL, *LAUNCH, "--args", path)
    assert status == 0 and "Warning" not in said
    assert f"{5 * np.sqrt(2 * N):.7g}" in printed


def test_wrong_sizes_are_wrong_arguments(hectorite):
    status, _, said = hectorite("ptx", "run", KERNEL, "--grid", "many", "--block", 64)
    assert status == 2 and "'many' is not a size" in said


def test_wrong_files(hectorite, tmp_path, data):
    status, _, said = hectorite("ptx", "check", tmp_path / "absent.ptx")
    assert status == 1 and "cannot read" in said
    status, _, said = hectorite("ptx", "run", KERNEL, *LAUNCH, "--args", KERNEL)
    assert status == 1 and "it is not an .npz file" in said and "the keys arg0, arg1" in said
    missing = tmp_path / "missing.npz"
    np.savez(missing, arg0=np.zeros(4), arg2=np.int32(1))
    status, _, said = hectorite("ptx", "run", KERNEL, *LAUNCH, "--args", missing)
    assert status == 1 and "has `arg2`" in said and "did you mean `arg1`?" in said
    status, _, said = hectorite("ptx", "run", KERNEL, *LAUNCH)
    assert status == 1 and "called with 0 arguments" in said
    folder = tmp_path / "no" / "out.npz"
    status, _, said = hectorite("ptx", "run", KERNEL, *LAUNCH, "--args", data, "--out", folder)
    assert status == 1 and "cannot write" in said
