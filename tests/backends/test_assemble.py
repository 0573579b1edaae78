"""PTX to machine code: what kernels take, and errors at the lines and statements of the text."""

import re

import pytest

import hectorite
from hectorite.backends.machine_code import assemble as module
from hectorite.backends.machine_code import sass
from hectorite.backends.machine_code.assemble import ASSEMBLERS, VARIABLE, assemble, installed
from hectorite.backends.machine_code.resources import machine_code, table
from hectorite.ir.diagnostics import HectoriteError

HEAD = ".version 7.0\n.target sm_80\n.address_size 64\n"

STORES = (
    HEAD
    + """
.visible .entry constant(.param .u64 out) {
  .reg .b64 %rd<2>; .shared .align 16 .b8 held[2048]; .reg .b32 %r<2>;
  ld.param.u64 %rd1, [out];
  mov.u32 %r1, held;
  st.shared.b32 [%r1], 7;
  bar.sync 0;
  ld.shared.b32 %r1, [%r1];
  st.global.b32 [%rd1], %r1;
  ret;
}
.visible .entry nothing() { ret; }
"""
)

WRONG = (
    HEAD
    + """
.visible .entry wrong(.param .u64 out) {
  .reg .f32 %f<4>;
  // at spread.hec:5: y[e.dst, d] += x[e.src, d]
  add.f32 %f1, %f2;
  add.f32 %f1, %f2, %f3;
  // at -
  sub.f32 %f1, %f2;
  ret;
}
"""
)


def crowded(live):
    """A kernel with more values than its registers hold."""
    loads = "".join(f"  ld.volatile.global.b32 %r{i}, [%rd1+{4 * i}];\n" for i in range(live))
    stores = "".join(f"  st.volatile.global.b32 [%rd1+{4 * i}], %r{i};\n" for i in range(live))
    return (
        f"{HEAD}.visible .entry crowded(.param .u64 p)\n.maxnreg 24\n{{\n"
        f"  .reg .b64 %rd<2>; .reg .b32 %r<{live}>;\n  ld.param.u64 %rd1, [p];\n"
        f"{loads}  bar.sync 0;\n{stores}  ret;\n}}\n"
    )


@pytest.fixture(params=installed() or [pytest.param("", marks=pytest.mark.skip("no assembler"))])
def assembler(request):
    return request.param


def test_kernels_and_what_they_take(assembler):
    made = assemble(STORES, "sm_80", assembler=assembler)
    assert made.cubin.startswith(b"\x7fELF")
    assert list(made.kernels) == ["constant", "nothing"]
    used = made.kernels["constant"]
    assert used.shared_bytes == 2048
    assert used.spill_bytes == used.stack_bytes == 0
    assert used.barriers == 1
    assert 4 <= used.registers <= 16


def test_a_text_for_an_older_target_is_taken(assembler):
    for target in ("sm_86", "sm_90a", "sm_100", "sm_120"):
        assert assemble(STORES, target, assembler=assembler).kernels["constant"].registers > 0


def test_spills_are_counted(assembler):
    used = assemble(crowded(60), "sm_80", assembler=assembler).kernels["crowded"]
    assert used.registers <= 24
    assert used.spill_bytes >= 2 * 4 * (60 - 24)
    assert used.stack_bytes > 0


def test_errors_are_at_their_lines_and_tell_the_statement(assembler):
    with pytest.raises(HectoriteError) as caught:
        assemble(WRONG, "sm_80", "wrong.ptx", assembler)
    first, second = caught.value.diagnostics
    text = str(first)
    assert text.startswith("wrong.ptx:8:3: error: the assembler says: ")
    assert "8 |   add.f32 %f1, %f2;" in text
    assert text.endswith("comes from spread.hec:5: y[e.dst, d] += x[e.src, d]")
    assert second.span.line == 11 and second.hint is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "has no `.version`"),
        (HEAD.replace("sm_80", "sm_90a"), "the assembler says"),
        (HEAD.replace("7.0", "99.0"), "Unsupported .version"),
        (f"{HEAD}.visible .entry k() {{", "the assembler says"),
    ],
)
def test_a_bad_text_is_one_clear_message(assembler, text, said):
    with pytest.raises(HectoriteError, match=said):
        assemble(text, "sm_80", assembler=assembler)


def test_a_text_without_kernels_is_a_cubin_too(assembler):
    assert assemble(HEAD, "sm_80", assembler=assembler).kernels == {}


def test_letters_beyond_ascii_may_stand_in_comments(assembler):
    assert assemble(f"// \N{GREEK SMALL LETTER ALPHA}\n{STORES}", "sm_80", assembler=assembler)


def test_a_fault_of_a_whole_kernel_is_told(assembler):
    with pytest.raises(HectoriteError, match="'constant' uses too much shared data"):
        assemble(STORES.replace("2048", "100000"), "sm_80", assembler=assembler)


def test_unknown_targets_and_assemblers():
    with pytest.raises(HectoriteError, match=r"did you mean `sm_80`\?"):
        assemble(HEAD, "sm80")
    with pytest.raises(HectoriteError, match="there is no assembler `gas`"):
        assemble(HEAD, "sm_80", assembler="gas")


def test_the_environment_chooses(monkeypatch):
    monkeypatch.setenv(VARIABLE, "ptxas")
    monkeypatch.setitem(ASSEMBLERS, "ptxas", lambda text, target: (True, b"made", ""))
    assert assemble(HEAD, "sm_80").cubin == b"made"


def test_without_tools_the_message_tells_what_to_install(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(module, "_nvjitlink", lambda: None)
    monkeypatch.setattr(module, "find_ptxas", lambda: None)
    with pytest.raises(HectoriteError, match=r"pip install 'hectorite\[asm\]'"):
        assemble(HEAD, "sm_80")
    for name in ("nvjitlink", "ptxas"):
        with pytest.raises(HectoriteError, match=r"pip install 'hectorite\[asm\]'"):
            assemble(HEAD, "sm_80", assembler=name)
    monkeypatch.setattr(sass, "find_nvdisasm", lambda: None)
    with pytest.raises(HectoriteError, match=r"pip install 'hectorite\[sass\]'"):
        sass.disassemble(b"")


def test_the_table_of_resources(assembler, monkeypatch):
    monkeypatch.setenv(VARIABLE, assembler)
    code = machine_code(STORES, "sm_80", listed=False)
    assert code.listings is None and code.sass == ""
    assert code.kernels[0].to_json() == {
        "name": "constant",
        "registers": code.kernels[0].registers,
        "shared_bytes": 2048,
        "spill_bytes": 0,
    }
    lines = table(code.kernels).splitlines()
    assert lines[0] == "kernel    registers  shared  spills  flop/instr  instructions"
    assert lines[1].split()[::2] == ["constant", "2048", "-"]


def test_shared_memory_of_launches_is_counted(assembler, monkeypatch):
    monkeypatch.setenv(VARIABLE, assembler)
    plan = (
        '// hectorite plan 1\n// {"name": "f", "sets": [], "parameters": [], "results": [],\n'
        '//  "steps": [{"do": "launch", "kernel": "constant", "shared": 4096}]}\n'
    )
    assert machine_code(plan + STORES, "sm_80", listed=False).kernels[0].shared_bytes == 6144


def test_faults_of_our_own_code_name_the_line_of_the_program(tmp_path):
    program = tmp_path / "spread.hec"
    program.write_text(
        "set node\nset edge { src: node, dst: node }\n\n"
        "def f(x: f32[node, F], w: f32[edge]) -> f32[node, F] {\n"
        "  a[e] = leaky_relu(w[e], 0.2)\n"
        "  b[e] = softmax(a[e] by e.dst)\n"
        "  y[e.dst, f] += b[e] * x[e.src, f]\n  return y\n}\n"
    )
    text = hectorite.emit(program, "ptx", {"F": 64}, target="sm_90")
    places = set(re.findall(r"// at (\S+): ", text))
    assert places == {"spread.hec:5", "spread.hec:6", "spread.hec:7"}
    with pytest.raises(HectoriteError) as error:
        assemble(text.replace("fma.rn.f32", "add.f32"), "sm_90", "spread.ptx")
    assert "the line comes from spread.hec:7: y[e.dst, f] += " in str(error.value)
