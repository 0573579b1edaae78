"""PTX text to data: forms, scopes, and what is said of faults."""

from __future__ import annotations

import pytest

from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.ir.ptx.syntax import (
    Address,
    Braces,
    Call,
    Function,
    Guard,
    Immediate,
    Instruction,
    Label,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
)

HEAD = ".version 8.0\n.target sm_90a, texmode_independent\n.address_size 64\n"
DECLARED = (
    ".reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<9>; .reg .pred %p<9>; .reg .b16 x;\n"
    ".shared .align 16 .b8 tile[64];\n"
)


def body_of(statements: str) -> tuple[Instruction | Label, ...]:
    text = f"{HEAD}.visible .entry k(.param .u64 a)\n{{\n{DECLARED}{statements}\n}}\n"
    return parse_ptx(text).functions[0].body


def operands_of(instruction: str) -> tuple[Operand, ...]:
    (found,) = body_of(instruction)
    assert isinstance(found, Instruction)
    return found.operands


def test_an_instruction() -> None:
    (found,) = body_of("@!%p1 ld.global.L2::128B.v2.f32 {%f1, _}, [%rd1+-8];")
    assert found == Instruction(
        8,
        "ld",
        ("global", "L2::128B", "v2", "f32"),
        (Braces((Register("%f1"), Sink())), Address(Register("%rd1"), -8)),
        Guard("%p1", negated=True),
    )


@pytest.mark.parametrize(
    ("written", "operand"),
    [
        ("7", Immediate(7)),
        ("-7", Immediate(-7)),
        ("0x1FU", Immediate(31)),
        ("017", Immediate(15)),
        ("0b101", Immediate(5)),
        ("4294967295U", Immediate(4294967295)),
        ("0f3F800000", Immediate(1.0, 0x3F800000, 32)),
        ("0dC000000000000000", Immediate(-2.0, 0xC000000000000000, 64)),
        ("1.5e3", Immediate(1500.0)),
        ("%tid.x", Special("tid.x")),
        ("%clock64", Special("clock64")),
        ("WARP_SZ", Immediate(32)),
        ("x", Register("x")),
        ("!%p3", Negated(Register("%p3"))),
        ("%p1|%p2", Pair(Register("%p1"), Register("%p2"))),
        ("%r1|_", Pair(Register("%r1"), Sink())),
        ("tile", Symbol("tile")),
        ("tile+8", Symbol("tile", 8)),
        ("[tile+8]", Address(Symbol("tile"), 8)),
        ("[%r1]", Address(Register("%r1"))),
        ("[%r1 - 4]", Address(Register("%r1"), -4)),
        ("[16]", Address(Immediate(16))),
        (
            "[%rd1, {%r1, 0}]",
            Address(Register("%rd1"), 0, (Register("%r1"), Immediate(0))),
        ),
        ("{%r1, 3}", Braces((Register("%r1"), Immediate(3)))),
    ],
)
def test_operands(written: str, operand: Operand) -> None:
    assert operands_of(f"any.b32 {written};") == (operand,)


def test_an_immediate_without_a_number_keeps_its_bits() -> None:
    (found,) = operands_of("any.b32 0f7FC00001;")
    assert isinstance(found, Immediate)
    assert found.bits == 0x7FC00001


def test_scopes_are_flattened() -> None:
    scope = "{ .reg .b32 t; .param .b32 q; st.param.b32 [q], t; bra L; L: }\n"
    found = body_of(scope + scope)
    assert [item.name for item in found if isinstance(item, Label)] == ["L", "L_1"]
    stores = [item.operands for item in found if isinstance(item, Instruction) if item.name == "st"]
    assert stores == [
        (Address(Symbol("q")), Register("t")),
        (Address(Symbol("q_1")), Register("t_1")),
    ]


def test_calls() -> None:
    text = HEAD + (
        ".extern .func (.param .b32 r) g(.param .b64 a, .param .b64 b) .noreturn ;\n"
        ".func h { ret; }\n"
        ".entry k { .param .b32 r; .param .b64 p;\n"
        "call.uni (r), g, (p, p);\ncall h; }\n"
    )
    module = parse_ptx(text)
    kernel = module.functions[-1]
    calls = [item.operands[0] for item in kernel.body if isinstance(item, Instruction)]
    assert calls == [
        Call((Symbol("r"),), Symbol("g"), (Symbol("p"), Symbol("p"))),
        Call((), Symbol("h"), ()),
    ]
    assert module.functions[0].is_declaration
    assert module.functions[0].directives == {"noreturn": ()}
    assert module.entries == (kernel,)


def test_variables() -> None:
    text = HEAD + (
        ".extern .shared .align 16 .b8 dynamic[];\n"
        ".global .align 4 .u32 one = 7, two;\n"
        ".visible .const .f32 table[2][2] = {{0f3F800000, 2.0}, {-3, 0}};\n"
        ".global .u64 pointer = generic(one)+4;\n"
        ".global .v4 .f32 vector;\n"
    )
    dynamic, one, two, table, pointer, vector = parse_ptx(text).variables
    assert (dynamic.space, dynamic.count, dynamic.align, dynamic.is_extern) == (
        "shared",
        0,
        16,
        True,
    )
    assert (one.values, one.count, two.name) == ((7,), None, "two")
    assert (table.count, table.values) == (4, (1.0, 2.0, -3, 0))
    assert pointer.values == (Symbol("one", 4),)
    assert (vector.type, vector.count, vector.align) == ("f32", 4, 16)


def test_a_kernel_with_everything_around_it() -> None:
    text = (
        "// comment\n/* over\n lines */\n"
        + HEAD
        + '.file 1 "a.cu"\n'
        + ".visible .entry k(.param .u64 .ptr .global .align 16 a,\n"
        + " .param .align 64 .b8 map[128])\n"
        + ".maxntid 128, 1, 1\n.minnctapersm 2\n"
        + '{ .pragma "nounroll"; .loc 1 2 3\n'
        + " .reg .b32 %r<3>; .reg .pred p, q;\n"
        + " mov.u32 %r1, %tid.x;\n"
        + "$L: brx.idx %r1, T;\n T: .branchtargets $L, U;\nU: ret; }\n"
        + ".section .debug_abbrev\n{\n.b8 1\n.b8 0 { }\n}\n"
    )
    (kernel,) = parse_ptx(text).functions
    assert kernel.directives == {"maxntid": (128, 1, 1), "minnctapersm": (2,)}
    assert [(p.name, p.type, p.align, p.count) for p in kernel.parameters] == [
        ("a", "u64", None, None),
        ("map", "b8", 64, 128),
    ]
    assert kernel.registers == {"%r0": "b32", "%r1": "b32", "%r2": "b32", "p": "pred", "q": "pred"}
    assert [item.targets for item in kernel.body if isinstance(item, Label)] == [
        (),
        ("$L", "U"),
        (),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected `.version`, with which every PTX text begins, the text ends here"),
        (HEAD + ".entry k { mov.b32 %r1, 0; }", "the register `%r1` is not declared"),
        (HEAD + ".entry k { bra AWAY; }", "`AWAY` is not declared"),
        (HEAD + ".entry k { ret }", "expected an operand, found `}`"),
        (HEAD + ".entry k { L: L: ret; }", "`L` is declared a second time"),
        (HEAD + ".entry k { .reg .b32 a, a; }", "`a` is declared a second time"),
        (HEAD + ".entry k { { ret;", "this `{` is never closed"),
        (HEAD + ".entry k { mov.b32 %tid.x, ?; }", "`?` begins no word of PTX"),
        (HEAD + ".texref t;", "`.texref` is not understood at this place"),
        (HEAD + ".global .u64 p = q;", "`q` is not declared"),
    ],
)
def test_faults(text: str, message: str) -> None:
    with pytest.raises(HectoriteError) as raised:
        parse_ptx(text, "a.ptx")
    assert raised.value.diagnostics[0].message == message


def test_where_a_fault_is() -> None:
    text = HEAD + ".entry k\n{\n  .reg .b32 %r1;\n  add.s32 %r1, %r2, 1;\n}\n"
    with pytest.raises(HectoriteError) as raised:
        parse_ptx(text, "a.ptx")
    assert str(raised.value) == (
        "a.ptx:7:16: error: the register `%r2` is not declared\n"
        "  7 |   add.s32 %r1, %r2, 1;\n"
        "    |                ^^^\n"
        "  hint: did you mean `%r1`?"
    )


def test_names_that_shadow() -> None:
    text = HEAD + ".global .b32 a;\n.entry k { .shared .b32 a; .reg .b32 r; ld.shared.b32 r, [a]; }"
    (kernel,) = parse_ptx(text).functions
    assert isinstance(kernel, Function)
    assert kernel.variables[0].name == "a_1"
    (load,) = kernel.body
    assert isinstance(load, Instruction)
    assert load.operands[1] == Address(Symbol("a_1"))
