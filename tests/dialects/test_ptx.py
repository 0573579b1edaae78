"""The ptx dialect: what it accepts, refuses, prints and reads back."""

import pytest
from xdsl.dialects.builtin import ModuleOp, StringAttr, UnitAttr
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from hectorite.backends.ptx.print import module_to_text
from hectorite.dialects import ptx
from hectorite.dialects.context import make_context
from hectorite.lowering.ptx.writer import At, PtxCode


def example() -> str:
    """The example at the head of the dialect's file."""
    lines = (ptx.__doc__ or "").split("\n\n")[2].splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines)


def parsed(text: str) -> ModuleOp:
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return module


def module_of(code: PtxCode, target: str = "sm_80") -> ModuleOp:
    return ModuleOp([code.finish()], {"ptx.target": StringAttr(target)})


def test_the_example_of_the_dialect_parses_and_prints_as_it_stands():
    module = parsed(example())
    assert str(parsed(str(module))) == str(module)
    assert "mad.wide.s32" in module_to_text(module)


def one(mnemonic: str, *kinds: str, allow: bool = False, target: str = "sm_80") -> ModuleOp:
    """A module with one instruction on parameters of these kinds."""
    code = PtxCode.kernel("k", [f"p{i}" for i in range(len(kinds))], kinds)
    code.op(mnemonic, *code.parameters)
    module = module_of(code, target)
    if allow:
        module.attributes["ptx.allow_emulated"] = UnitAttr()
    return module


def mma(shape: str, types: str, a: int, b: int, c: int, target: str) -> ModuleOp:
    code = PtxCode.kernel("k", ["x"], ["b32"])
    (x,) = code.parameters
    floats = [code.op("cvt.rn.f32.s32", x)] if types.startswith("f32") else [x]
    code.op(f"mma.sync.aligned.{shape}.row.col.{types}", [x] * a, [x] * b, floats * c)
    return module_of(code, target)


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_native_matrix_instructions_are_accepted(target):
    mma("m16n8k16", "f32.bf16.bf16.f32", 4, 2, 4, target).verify()
    mma("m16n8k32", "s32.s8.s8.s32", 4, 2, 4, target).verify()


def test_what_a_target_emulates_is_refused_unless_asked_for():
    module = mma("m16n8k64", "s32.s4.s4.s32", 4, 2, 4, "sm_80")
    module.verify()
    module.attributes["ptx.target"] = StringAttr("sm_90")
    with pytest.raises(VerifyException, match="sm_90 only emulates mma"):
        module.verify()
    module.attributes["ptx.allow_emulated"] = UnitAttr()
    module.verify()


def test_what_a_target_lacks_is_refused():
    code = PtxCode.kernel("k", ["x"], ["b64"])
    (x,) = code.parameters
    value = code.constant(1.0, "f32")
    code.op("red.global.add.v4.f32", At(x), [value] * 4)
    with pytest.raises(VerifyException, match="sm_80 has no red"):
        module_of(code, "sm_80").verify()
    code.kernel_op.detach()
    ModuleOp([code.kernel_op], {"ptx.target": StringAttr("sm_90")}).verify()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('%1 = ptx.add "f32" %0 : (f32)', "takes 2 operands or more"),
        ('ptx.ld "global.f32" [%0]', "gives f32"),
        ('ptx.st "global.f32" [%0], %0 if %0', "expected a predicate"),
        ('%1 = ptx.add "f32" %0, %0 if %p : (f32)', "expected a value for each result"),
    ],
)
def test_malformed_instructions(line, message):
    text = f"""ptx.kernel @k(%0: !ptx.reg<b64>, %p: !ptx.reg<pred>) {{
      {line}
      ptx.ret
    }}"""
    with pytest.raises(VerifyException, match=message):
        parsed(text)


def test_registers_that_are_not_defined_above():
    with pytest.raises(ParseError, match="defined above"):
        parsed('ptx.kernel @k() {\n %1 = ptx.add "f32" %0, %0 : (f32)\n ptx.ret\n}')


def test_a_block_gets_what_it_takes():
    text = """ptx.kernel @k(%0: !ptx.reg<b64>) {
      ptx.bra ^next(%0)
    ^next(%1: !ptx.reg<b32>):
      ptx.ret
    }"""
    with pytest.raises(VerifyException, match="the block takes"):
        parsed(text)


def test_guards_addresses_and_braces_print_and_parse():
    code = PtxCode.kernel("k", ["x", "n"], ["b64", "b32"])
    x, n = code.parameters
    p, q = code.op("setp.lt.and.s32", n, 3, results=("pred", "pred"))
    a, b = code.op("ld.global.v2.f32", At(x, 8))
    new = code.op("add.f32", a, b, guard_not=p, otherwise=[a])
    code.op("st.global.v2.f32", At(x, -16), [new, b], guard=q)
    code.op("bar.sync", 0)
    code.op("membar.gl")
    module = module_of(code)
    assert str(parsed(str(module))) == str(module)
    text = module_to_text(module)
    assert "setp.lt.and.s32 %p0|%p1, %r0, 3;" in text
    assert "@%p1 st.global.v2.f32 [%rd0+-16]" in text
    assert "@!%p0 add.f32" in text
