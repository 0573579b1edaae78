"""Formats from the outside: results, kernels for GPUs, the level `sparse`, options, the choice."""

import json
import re

import numpy as np
import pytest

import hectorite
from hectorite import HectoriteError
from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.reference.error_bound import difference, run_with_bounds
from hectorite.frontend.cli import main
from hectorite.frontend.compiled.executable import given_sets
from hectorite.lowering.options import Options

SETS = """
set row
set col
set nz { row: row, col: col }
"""
ATTENTION = (
    SETS
    + """
def f(q: f32[row, 2, 8], k: f32[col, 2, 8], v: f32[col, 2, 8], w: f32[nz]) -> f32[row, 2, 8] {
  s[z, h] += q[z.row, h, i] * k[z.col, h, i]
  a[z, h] = softmax(s[z, h] by z.row, h)
  y[z.row, h, j] += a[z, h] * w[z] * v[z.col, h, j]
  return y
}
"""
)
SPMM = (
    SETS
    + """
def spmm(A: f32[nz], B: f32[col, 64]) -> f32[row, 64] {
  C[z.row, j] += A[z] * B[z.col, j]
  return C
}
"""
)
CHAINS = (
    "split(row, 1).into(csr(row).by(col), ell(row))",
    "split(row, 1).into(permute(row).by(similar).sgt(row, col, 16, 8), ell(row))",
    "split(row, 3).into(split(row, 1).into(csr(row), ell(row)), hyb(row, col, 1, 2))",
)
"""Formats whose parts have formats of several words, as they are printed."""
FORMATS = (
    "csr(row).by(col)",
    "csc(col)",
    "jagged(row)",
    "ell(row)",
    "permute(row).by(degree).ell(row, 4)",
    "hyb(row, col, 1, 1)",
    "sgt(row, col, 16, 8)",
    "sgt(row, col, 8, 8)",
    "sgt(col, row, 16, 16)",
    "bsr(row, col, 4, 8)",
    "permute(row).by(degree).sgt(16, 8)",
    *CHAINS,
)


def drawn(rows=37, cols=29, elements=160, seed=0):
    """Maps in the order of the rows, with rows that are empty and elements that are alike."""
    rng = np.random.default_rng(seed)
    row = np.sort(rng.integers(0, max(1, rows - 5), elements)).astype(np.int32)
    col = (rng.integers(0, cols, elements) ** 2 // cols).astype(np.int32)
    return {"row": rows, "col": cols, "nz": {"row": row, "col": col}}


def agrees(text, target, format, sets):
    """Whether a program in a format gives what the reference gives without it."""
    program = hectorite.compile(text, target, formats={"nz": format}, cache=False)
    (function,) = program.functions.values()
    binding = program.bind(**sets)
    rng = np.random.default_rng(1)
    extents, maps = given_sets(binding)
    arguments = {
        p.name: rng.standard_normal([extents.get(d, d) for d in p.dims]).astype(p.element.storage)
        for p in function.signature.parameters
    }
    module = hectorite.parse(text)
    (expected,) = run_with_bounds(module, function.signature.name, extents, maps, arguments)
    return difference(expected, function(binding, **arguments)).ok


@pytest.mark.parametrize("format", FORMATS)
def test_attention_is_the_same_in_every_format(format):
    assert agrees(ATTENTION, "cpu", format, drawn())


@pytest.mark.parametrize("format", FORMATS)
def test_kernels_for_gpus_are_right_and_assemble(format):
    text = SPMM.replace("64", "16")
    assert agrees(text, "ptx", format, drawn(19, 9, 40))
    if not installed():
        pytest.skip("no assembler")
    for target in ("sm_80", "sm_90"):
        shown = hectorite.emit(text, "ptx", target=target, formats={"nz": format})
        assert assemble(shown, target)


SKEWED = {"row": [2] * 25 + [3, 3, 4], "col": [n % 9 for n in range(28)]}


@pytest.mark.parametrize("format", CHAINS)
@pytest.mark.parametrize("target", ["cpu", "ptx"])
def test_parts_of_several_words_on_little_and_skewed_data(target, format):
    text = SPMM.replace("64", "16")
    skewed = {name: np.array(values, np.int32) for name, values in SKEWED.items()}
    for sets in (drawn(3, 3, 0), drawn(1, 1, 1), {"row": 7, "col": 9, "nz": skewed}):
        assert agrees(text, target, format, sets)


@pytest.mark.parametrize("format", CHAINS)
def test_parts_of_several_words_are_printed_as_they_are_read(format):
    text = SPMM.replace("col: col }", f"col: col }} as {format}")
    shown = hectorite.emit(text, "graph")
    assert f'as "{format}"' in shown and hectorite.emit(shown, "graph") == shown


SPARSE_TEXTS = {
    "sampled": SETS
    + """
def f(w: f32[nz], P: f32[row, 16], Q: f32[col, 16]) -> f32[nz] {
  s[z] += w[z] * P[z.row, i] * Q[z.col, i]
  return s
}
""",
    "pooled": SETS
    + """
def f(table: f32[col, 16], W: f32[16, 8]) -> f32[row, 8] {
  pooled[z.row, d] mean= table[z.col, d]
  y[r, o] += pooled[r, d] * W[d, o]
  return y
}
""",
    "vector": SPMM.replace(", 64]", "]").replace(", j]", "]"),
    "attention": ATTENTION,
}


@pytest.mark.parametrize("name", SPARSE_TEXTS)
def test_the_level_sparse_of_itself_is_the_same_text(name):
    served = 0
    for format in (*FORMATS, "dedup(row)"):
        try:
            stored = hectorite.emit(SPARSE_TEXTS[name], "sparse", formats={"nz": format})
        except HectoriteError as error:
            assert "cannot serve" in str(error)
            continue
        assert hectorite.emit(stored, "sparse") == stored
        assert hectorite.emit(stored, "sparse", target="sm_90") == stored
        served += 1
    assert served >= len(FORMATS) - 1


@pytest.mark.parametrize("format", ["nm(2, 4)", "nm(3, 7)", "bsr(4, 8)"])
def test_the_level_sparse_of_tensors_of_itself_is_the_same_text(format):
    text = f"""def f(W: f32[8, 16] as {format}, X: f32[16, 32]) -> f32[8, 32] {{
  C[m, n] += W[m, k] * X[k, n]
  return C
}}
"""
    stored = hectorite.emit(text, "sparse")
    assert "W." in stored and hectorite.emit(stored, "sparse") == stored


def test_codes_of_a_program_over_parts_have_to_stay_in_range():
    text = """def f(W: f32[8, 14] as nm(3, 7), X: f32[14, 32]) -> f32[8, 32] {
  C[m, n] += W[m, k] * X[k, n]
  return C
}
"""
    W, X = np.eye(8, 14, dtype=np.float32), np.ones((16, 32), np.float32)
    parts = hectorite.nm(W, 3, 7).parts("W")
    stored = hectorite.emit(text, "sparse")
    with pytest.raises(HectoriteError, match="7\\*k_group . k_place is 14"):
        hectorite.compile(stored, cache=False).f(X=X[:14], **parts)
    whole = hectorite.compile(stored.replace("[14, 32]", "[15, 32]").replace("f32[14", "f32[15"))
    np.testing.assert_array_equal(whole.f(X=X[:15], **parts), np.ones((8, 32)))


def test_a_program_over_positions_takes_no_other_format():
    stored = hectorite.emit(SPMM, "sparse", formats={"nz": "csr(row)"})
    assert hectorite.emit(stored, "sparse", formats={"nz": "csr(row)"}) == stored
    with pytest.raises(HectoriteError, match=r"`nz` cannot be ell\(row\): .* as csr\(row\)"):
        hectorite.emit(stored, "sparse", formats={"nz": "ell(row)"})


CHAINED = """
set kind
set row { kind: kind }
set col { kind: kind }
set nz { row: row, col: col }

def f(P: f32[kind, 16], Q: f32[col, 16], B: f32[kind, 16]) -> f32[kind, 16] {
  s[z] += P[z.row.kind, i] * Q[z.col, i]
  C[z.row.kind, j] += s[z] * B[z.col.kind, j]
  return C
}
"""


@pytest.mark.parametrize("format", ["sgt(16, 8)", "sgt(col, row, 4, 3)", "bsr(4, 8)", CHAINS[1]])
@pytest.mark.parametrize("target", ["cpu", "ptx"])
def test_maps_go_on_from_rows_and_columns(target, format):
    kinds = {"row": {"kind": np.arange(19) % 3}, "col": {"kind": np.arange(9) % 2}}
    assert agrees(CHAINED, target, format, drawn(19, 9, 40) | kinds | {"kind": 4})


def test_attention_is_right_on_a_gpu():
    assert agrees(ATTENTION, "ptx", "sgt(row, col, 16, 8)", drawn(19, 9, 40))


@pytest.mark.parametrize("format", ["sgt(16, 8)", "bsr(16, 4)", "sgt(col, row, 16, 8)"])
def test_nothing_is_written_past_the_last_row(format):
    text = SPMM.replace("64", "16")
    for rows in (1, 16, 17):
        assert agrees(text, "tile", format, drawn(rows, 3, 9))  # which checks every access
    assert agrees(text, "cpu", format, drawn(17, 3, 9))


SDDMM = (
    SETS
    + """
def sddmm(A: f32[row, 64], B: f32[col, 64]) -> f32[nz] {
  C[z] += A[z.row, j] * B[z.col, j]
  return C
}
"""
)


@pytest.mark.parametrize("format", ["sgt(16, 8)", "bsr(16, 8)"])
@pytest.mark.parametrize("elements", ["f16", "bf16", "tf32"])
def test_blocks_are_multiplied_by_tensor_instructions(elements, format):
    options = Options(formats=(f"nz={format}",))
    for text in (SPMM, SDDMM):
        text = text.replace("B: f32", f"B: {elements}").replace("A: f32", f"A: {elements}")
        shown = hectorite.emit(text, "ptx", target="sm_80", options=options)
        assert f"f32.{elements}.{elements}.f32" in shown
        assert not re.search(r"\b(atom|red)\.", shown)


@pytest.mark.parametrize("text", [SPMM, SDDMM], ids=["spmm", "sddmm"])
def test_tensor_instructions_of_blocks_are_right(text):
    text = text.replace("64", "16").replace("A: f32", "A: f16").replace("B: f32", "B: f16")
    assert agrees(text, "ptx", "bsr(16, 8)", drawn(19, 9, 40))


def test_numbers_of_f32_are_two_of_tf32():
    text = SPMM.replace("B: f32", "B: tf32").replace("B[z.col, j]", "f32(B[z.col, j])")
    options = Options(formats=("nz=sgt(16, 8)",))
    shown = hectorite.emit(text, "sparse", target="sm_80", options=options)
    assert "%C_high" in shown and "%C_low" in shown
    assert "tf32.tf32.f32" in hectorite.emit(text, "ptx", target="sm_80", options=options)
    assert "%C_high" not in hectorite.emit(text, "sparse", options=options)
    assert agrees(text, "ptx", "sgt(16, 8)", drawn())


def test_the_level_sparse_is_a_program(tmp_path, capsys):
    file = tmp_path / "spmm.hec"
    file.write_text(SPMM.replace("col }", "col } as csr(row)"))
    assert main(["emit", str(file), "--level", "sparse", "--out", str(tmp_path / "s.mlir")]) == 0
    shown = (tmp_path / "s.mlir").read_text()
    assert 'sparse.set @nz_element {row: row, col: col, elem: nz} = "element" of @nz' in shown
    assert main(["verify", str(tmp_path / "s.mlir")]) == 0
    assert hectorite.emit(shown, "sparse") == shown
    capsys.readouterr()
    assert main(["emit", str(file), "--level", "sparse", "--as", "nz=coo"]) == 0
    assert "sparse.set" not in capsys.readouterr().out


@pytest.mark.parametrize("format", ["ell(row)", "sgt(3, 5)"])
def test_the_level_sparse_as_a_program_is_rewritten_for_its_data(format):
    maps = {"row": np.array([1, 0, 1], np.int32), "col": np.array([0, 2, 2], np.int32)}
    A, B = np.arange(3, dtype=np.float32), np.ones((3, 64), np.float32)
    stored = hectorite.compile(hectorite.emit(SPMM, "sparse", formats={"nz": format}))
    found = stored.spmm(stored.bind(row=2, col=3, nz=maps), A=A, B=B)
    np.testing.assert_allclose(found[:, 0], [1, 2])


def test_verify_compares_the_level_sparse(tmp_path):
    sets = drawn(9, 5, 20)
    data = str(tmp_path / "small.npz")
    maps = {f"nz.{name}": values for name, values in sets["nz"].items()}
    np.savez(data, row=9, col=5, **maps)
    report = hectorite.verify(SPMM, data, formats={"nz": "ell(row)"})
    assert report and "sparse" in {row.level for row in report.rows}
    assert "sparse" not in {row.level for row in hectorite.verify(SPMM, data).rows}


def test_a_format_that_serves_nothing_is_an_error_at_the_statement():
    text = SPMM.replace("+=", "max=")
    with pytest.raises(HectoriteError, match=r"<text>:7:3: error: .* cannot serve .* is no sum"):
        hectorite.compile(text, formats={"nz": "sgt(16, 8)"}, cache=False).bind(**drawn())


@pytest.mark.parametrize(
    "formats, message",
    [
        ({"nx": "csr(row)"}, "there is no set `nx`"),
        ({"nz": "csr(rows)"}, "the set has no field `rows`"),
        ({"nz": "cs(row)"}, "`cs` is not a format of sets"),
        ([("nz", "csr")], "`formats` is"),
    ],
)
def test_faults_in_formats(formats, message):
    with pytest.raises(HectoriteError, match=message):
        hectorite.compile(SPMM, formats=formats)


@pytest.mark.parametrize(
    "text, format, message",
    [
        (
            SPMM.replace("+=", "max="),
            "permute(row).by(similar).sgt(16, 8)",
            "`sgt(row, col, 16, 8)` in `permute(row).by(similar).sgt(row, col, 16, 8)` of `nz` "
            "cannot serve `C[z.row, j] max= A[z] * B[z.col, j]`: products of blocks",
        ),
        (
            SDDMM,
            "split(row, 3).into(split(row, 1).into(ell, dedup(row)), coo)",
            " of `nz` cannot serve `C[z] += A[z.row, j] * B[z.col, j]`: it makes a number for each "
            "z, and the format serves what is reduced at z.row",
        ),
        (
            SPMM,
            "permute(row).dedup(row)",
            "`dedup(row)` in `permute(row).by(degree).dedup(row)` of `nz` cannot serve "
            "`C[z.row, j] += A[z] * B[z.col, j]`: it reads a number of each z",
        ),
        (
            SDDMM,
            "dedup(row)",
            "the format `dedup(row)` of `nz` cannot serve `C[z] += A[z.row, j] * B[z.col, j]`: it "
            "makes a number for each z",
        ),
    ],
)
def test_refusals_name_what_the_program_says(text, format, message):
    with pytest.raises(HectoriteError) as caught:
        hectorite.compile(text, formats={"nz": format}, cache=False).bind(**drawn())
    assert message in str(caught.value) and "<text>:7:3" in str(caught.value)
    assert "hint: declare `nz` without it" in str(caught.value)


def test_distinct_rows_of_a_part():
    text = SPMM.replace("A[z] * ", "").replace("A: f32[nz], ", "").replace("64", "8")
    row = [0, 0, 1, 1, 2, 3, 3, 3, 4, 5, 5]
    col = [1, 2, 1, 2, 0, 0, 1, 2, 0, 1, 2]
    maps = {"row": np.array(row, np.int32), "col": np.array(col, np.int32)}
    sets = {"row": 7, "col": 3, "nz": maps}
    for format in ("split(row, 2).into(dedup(row), coo)", "permute(row).dedup(row)"):
        assert agrees(text, "cpu", format, sets)
        program = hectorite.compile(hectorite.emit(text, "sparse", formats={"nz": format}))
        binding = program.bind(**sets)
        (unique,) = (name for name in binding.schema.sets if name.endswith("unique"))
        assert binding.size(unique) == (4 if "permute" in format else 3)


def test_formats_of_the_program_as_it_is_written():
    with pytest.raises(HectoriteError, match="change nothing at the level graph"):
        hectorite.emit(SPMM, "graph", formats={"nz": "csr(row)"})
    with pytest.raises(HectoriteError, match="past the choice of formats"):
        ptx = hectorite.emit(SPMM, "ptx")
        hectorite.emit(ptx, "ptx", formats={"nz": "csr(row)"})


def full_blocks(rows=256, side=32):
    """A matrix of full blocks on the diagonal."""
    row, col = (part.ravel() for part in np.indices((rows, side)))
    return {"row": rows, "col": rows, "nz": {"row": row, "col": col + row // side * side}}


def test_formats_are_explained_and_chosen_by_cost(tmp_path, capsys):
    file, data = tmp_path / "spmm.hec", tmp_path / "blocks.npz"
    file.write_text(SPMM)
    sets = full_blocks()
    maps = {f"nz.{name}": values.astype(np.int32) for name, values in sets["nz"].items()}
    np.savez(data, row=sets["row"], col=sets["col"], **maps)
    given = ["explain", str(file), "--data", str(data), "--device", "cpu", "--json"]
    assert main(given) == 0
    found = {each["format"]: each for each in json.loads(capsys.readouterr().out)["formats"]}
    (best,) = (name for name, each in found.items() if each["chosen"])
    assert found[best]["seconds"] == min(e["seconds"] for e in found.values() if e["seconds"])
    assert found["sgt(row, col, 16, 8)"]["note"] == "64 blocks of 16 x 8, 100.0 % full"
    assert "may differ" in found["dedup(row)"]["note"]
    assert main([*given[:-1], "--as", "nz=ell(row)"]) == 0
    shown = capsys.readouterr().out
    assert "formats of nz" in shown and "ell(row)" in shown
    page = tmp_path / "page.html"
    assert main([*given, "--html", str(page)]) == 0
    assert "<h2>Formats</h2>" in page.read_text("utf-8")


def test_a_format_without_a_use_is_told(tmp_path, capsys):
    text = SPMM.replace("C[z.row, j] += A[z] * B[z.col, j]", "S[z] = A[z] * B[z.col, 0]")
    text = text.replace("-> f32[row, 64]", "-> f32[nz]").replace("return C", "return S")
    file, data = tmp_path / "each.hec", tmp_path / "data.npz"
    file.write_text(text.replace("col: col }", "col: col } as sgt(16, 8)"))
    np.savez(data, row=2, col=2, **{"nz.row": [0, 1], "nz.col": [1, 1]})
    assert hectorite.emit(file.read_text(), "sparse") == hectorite.emit(
        file.read_text(), "graph-opt"
    )
    assert main(["explain", str(file), "--data", str(data)]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"sgt\(row, col, 16, 8\) +chosen +no effect: no statement reduces over it", shown
    )
    file.write_text(text)
    assert main(["explain", str(file), "--data", str(data)]) == 0
    assert "formats of nz" not in capsys.readouterr().out


def test_auto_takes_the_format_that_explain_chooses():
    assert agrees(SPMM, "cpu", "auto", full_blocks())
    assert agrees(SPMM.replace("col }", "col } as auto"), "cpu", "auto", drawn())


def test_results_do_not_depend_on_the_run():
    program = hectorite.compile(SPMM, "ptx", formats={"nz": "sgt(16, 8)"}, cache=False)
    binding, rng = program.bind(**drawn()), np.random.default_rng(0)
    A, B = (rng.standard_normal(shape).astype(np.float32) for shape in [(160,), (29, 64)])
    one, other = (program.spmm(binding, A=A, B=B).tobytes() for _ in range(2))
    assert one == other


CONVOLUTION = """
set voxel
set offset
set nz { in: voxel, out: voxel, k: offset }
def f(I: f32[voxel, 8], F: f32[offset, 8, 16]) -> f32[voxel, 16] {
  O[p.out, o] += I[p.in, i] * F[p.k, i, o]
  return O
}
"""
MAPS = ("segmented(k, 4)", "bitmask(4, 2)", "coded_csr", "csr(k)", "ell(out)")


def pairs(voxels=11, elements=60):
    rng = np.random.default_rng(3)
    maps = {name: rng.integers(0, n, elements) for name, n in (("in", 11), ("out", 11), ("k", 5))}
    maps = {name: values.astype(np.int32) for name, values in maps.items()}
    return {"voxel": voxels, "offset": 5, "nz": maps}


@pytest.mark.parametrize("format", MAPS)
def test_convolutions_are_the_same_in_every_format(format):
    assert agrees(CONVOLUTION, "cpu", format, pairs())


@pytest.mark.parametrize("format", MAPS[:2])
def test_convolutions_are_the_same_on_a_gpu(format):
    assert agrees(CONVOLUTION, "ptx", format, pairs())


@pytest.mark.parametrize("format", MAPS)
def test_a_cpu_needs_no_tensor_of_pairs(format):
    """Also where the format is declared, and where it pads."""
    text = CONVOLUTION.replace("k: offset }", f"k: offset }} as {format}")
    text = text.replace("8", "64").replace("16]", "64]")
    options = Options(cardinalities=("nz=285855", "voxel=94595", "offset=27", "nz(k,in)=285855"))
    shown = hectorite.emit(text, "sparse", options=options)
    assert shown.count("graph.statement") == 1
