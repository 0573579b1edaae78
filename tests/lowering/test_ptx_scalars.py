"""Scalar functions, casts and elements in memory as PTX, run here, against `ir.scalar`."""

import math
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import SSAValue

from hectorite.backends.ptx.jit import Allocation, Geometry, compile_kernel
from hectorite.backends.ptx.machine import Launch, execute
from hectorite.backends.ptx.print import module_to_text
from hectorite.backends.ptx.watch import Checks
from hectorite.dialects.ptx_legality import TARGET
from hectorite.ir.element import ELEMENTS, INDEX, ElementType
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.ir.scalar import FUNCTIONS, apply, convert
from hectorite.lowering.ptx import arithmetic as ptx_arithmetic
from hectorite.lowering.ptx import convert as ptx_convert
from hectorite.lowering.ptx.elements import load_element, pieces, store_element, stored_bytes
from hectorite.lowering.ptx.writer import At, PtxCode

F32, F64, BOOL = ELEMENTS["f32"], ELEMENTS["f64"], ELEMENTS["bool"]
EVERY = tuple(ELEMENTS.values())
FLOATS = [name for name, element in ELEMENTS.items() if element.is_float]
INTEGERS = ["i64", "i32", "i16", "i8", "i5", "i2", "i1", "u8", "u3", "u1", "index"]
BLOCK = 128

Values = Sequence[SSAValue]
Build = Callable[[PtxCode, Values], Values]


def element_named(name: str) -> ElementType:
    return INDEX if name == "index" else ELEMENTS[name]


def stored_as(element: ElementType) -> np.dtype:
    return np.dtype(np.int32) if element.kind == "index" else element.storage


def module_of(
    build: Build,
    sources: Sequence[ElementType],
    targets: Sequence[ElementType],
    each: int = 1,
    target: str = "sm_80",
) -> ModuleOp:
    """A kernel `all`: each thread takes `each` elements of every source to as many of the targets.

    `build` takes one value of each source and gives one of each target.
    """
    names = [f"p{i}" for i in range(len(sources) + len(targets))]
    kinds = ["b64"] * len(names) + ["b32"]
    code = PtxCode.kernel("all", [*names, "count"], kinds, BLOCK)
    *pointers, count = code.parameters
    thread = code.op("mad.lo.s32", code.special("ctaid.x"), BLOCK, code.special("tid.x"))
    first = code.op("mul.lo.s32", thread, each)

    def at(position: int, element: ElementType) -> tuple[At, int]:
        size = stored_bytes(element)
        place = code.op("mad.wide.s32", first, size, pointers[position])
        return At(place), min(16, size * (each & -each))

    def body() -> Values:
        loaded = []
        for position, element in enumerate(sources):
            place, align = at(position, element)
            loaded.append(load_element(code, place, element, each, align))
        made = [build(code, column) for column in zip(*loaded, strict=True)]
        for position, element in enumerate(targets):
            place, align = at(len(sources) + position, element)
            store_element(code, place, [row[position] for row in made], element, align)
        return ()

    code.when(code.op("setp.lt.s32", thread, count), body)
    module = ModuleOp([code.finish()])
    module.attributes[TARGET] = StringAttr(target)
    module.verify()
    return module


def aligned(data: np.ndarray) -> np.ndarray:
    room = np.zeros(data.nbytes + 16, np.uint8)
    start = -room.ctypes.data % 16
    view = room[start : start + data.nbytes].view(data.dtype)
    view[:] = data
    return view


def run(
    build: Build,
    arrays: Sequence[np.ndarray],
    sources: Sequence[ElementType],
    targets: Sequence[ElementType],
    each: int = 1,
) -> list[np.ndarray]:
    """The arrays that the kernel of `module_of` makes of some arrays of one length."""
    text = module_to_text(module_of(build, sources, targets, each))
    kernel = compile_kernel(parse_ptx(text), "all", None, checked=True)
    length = len(arrays[0]) // each * each
    inputs = [
        aligned(array[:length].astype(stored_as(e)))
        for array, e in zip(arrays, sources, strict=True)
    ]
    outputs = [aligned(np.zeros(length, stored_as(element))) for element in targets]
    every = [*inputs, *outputs]
    threads = length // each
    parameters = b"".join(struct.pack("<Q", array.ctypes.data) for array in every)
    kernel.launch(
        Geometry((-(-threads // BLOCK), 1, 1), (BLOCK, 1, 1)),
        parameters + struct.pack("<i", threads),
        [Allocation(array.ctypes.data, array.nbytes) for array in every],
    )
    return outputs


def applied(names: Sequence[str], element: ElementType) -> Build:
    """Scalar functions of some values."""
    return lambda code, values: [
        ptx_arithmetic.apply(code, name, element, values) for name in names
    ]


def converted(source: ElementType, targets: Sequence[ElementType]) -> Build:
    """A value in several types."""
    return lambda code, values: [
        ptx_convert.convert(code, values[0], source, target) for target in targets
    ]


def evaluate(
    names: Sequence[str], arrays: Sequence[np.ndarray], element: ElementType
) -> dict[str, np.ndarray]:
    """Scalar functions of one arity on arrays."""

    sources = [BOOL if names == ["select"] and i == 0 else element for i in range(len(arrays))]
    targets = [BOOL if FUNCTIONS[name].result == "bool" else element for name in names]
    return dict(zip(names, run(applied(names, element), arrays, sources, targets), strict=True))


def of_arity(arity: int, element: ElementType) -> list[str]:
    return [n for n, f in FUNCTIONS.items() if f.arity == arity and element.kind in f.domain]


def reference(name: str, arrays: Sequence[np.ndarray], element: ElementType) -> np.ndarray:
    """The function in the precision that it is computed in."""
    dtype = element.compute.storage if element.is_float else None
    return apply(name, [a.astype(dtype) if dtype else a for a in arrays], element)


# Values -------------------------------------------------------------------------------------------

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3.0, 1.5, 2.5, -2.5, math.inf, -math.inf, math.nan]
EXTREME = [1e-45, -1e-45, 1e-38, 1.2e-38, 1e-20, 3.4e38, -3.4e38, 1000.0, -1000.0, 88.72283, 88.73]
EXTREME += [-87.3, -103.9, 99999.0, 100001.0, math.pi, math.pi / 2, 2.0**30, 2.0**31, 1e30]
WIDE = [5e-324, 2.3e-308, 1e300, -1e300, 709.78, 709.79, -745.1, -745.2, 2.0**62, 2.0**63]


def floats(element: ElementType) -> np.ndarray:
    rng = np.random.default_rng(0)
    double = element.bits == 64
    least, greatest = (-1060, 1023) if double else (-140, 127)
    wide = rng.uniform(-1, 1, 700) * 2.0 ** rng.integers(least, greatest, 700)
    near = rng.uniform(-100, 100, 700), rng.uniform(-2, 2, 700)
    values = np.concatenate([SPECIAL, EXTREME, WIDE if double else [], wide, *near])
    with np.errstate(over="ignore"):
        return values.astype(element.storage)


def pairs(element: ElementType) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    grid = np.meshgrid([*SPECIAL, 7.0, 1e30, 1e-30], [*SPECIAL, 7.0, 1e30, 1e-30])
    normal, whole = rng.normal(0, 10, (2, 400)), rng.integers(-9, 9, (2, 400))
    wide = rng.uniform(-1, 1, (2, 400)) * 2.0 ** rng.integers(-100, 100, (2, 400))
    with np.errstate(over="ignore", invalid="ignore"):
        return [
            np.concatenate([grid[i].ravel(), normal[i], whole[i], wide[i]]).astype(element.storage)
            for i in (0, 1)
        ]


def integers(element: ElementType, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    least, greatest = ELEMENTS["i32"].bounds if element.kind == "index" else element.bounds
    if element.kind == "sign":
        return [rng.choice([-1, 1], 64) for _ in range(count)]
    edge = [v for v in (least, least + 1, -3, -1, 0, 1, 2, 7, greatest) if least <= v <= greatest]
    grid = [m.ravel() for m in np.meshgrid(*[np.array(edge, np.int64)] * count)]
    small = np.clip(rng.integers(-20, 20, (count, 200)), least, greatest)
    wide = rng.integers(least, greatest, (count, 200), endpoint=True)
    return [np.concatenate(parts) for parts in zip(grid, small, wide, strict=True)]


def values_of(element: ElementType) -> np.ndarray:
    """Values to cast, with those halfway between short floats."""
    if element.kind == "bool":
        return np.array([True, False] * 8)
    if not element.is_float:
        return integers(element, 1)[0]
    steps = np.concatenate([(1 + np.arange(32) / 2.0**k) * 2.0**j
                            for k in (3, 4, 6, 9, 12) for j in (-20, -9, 0, 8, 15)])  # fmt: skip
    limits = [448.0, 464.0, 464.1, 57344.0, 61439.0, 61440.0, 65504.0, 65520.0, 2.0**31, -(2.0**31)]
    small = np.arange(40) * 2.0**-13, np.arange(20) * 2.0**-19
    with np.errstate(over="ignore"):
        every = np.concatenate([floats(F64), steps, -steps, limits, *small])
        return every.astype(element.storage)


def same(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    return (actual == expected) | (np.isnan(actual) & np.isnan(expected))


# Functions ----------------------------------------------------------------------------------------

BOUNDS = {"exp": 2, "log": 2, "sqrt": 0.5, "rsqrt": 2, "sin": 4, "cos": 4, "tanh": 4, "sigmoid": 4}
BOUNDS |= {"gelu": 6, "silu": 4, "erf": 4}
"""Units in the last place."""


def exact_of(name: str, x: np.ndarray) -> np.ndarray:
    """The function in long doubles or by the C library."""
    x = x.astype(np.float64)
    tails = {"gelu": lambda v: v * 0.5 * math.erfc(-v * math.sqrt(0.5)) if v > -40 else v * 0.0}
    with np.errstate(all="ignore"):
        if name in tails:
            return np.array([tails[name](float(v)) for v in x])
        if name in ("erf", "sigmoid", "silu"):
            return apply(name, [x], F64)
        wide = x.astype(np.longdouble)
        return {"rsqrt": lambda v: 1 / np.sqrt(v)}.get(name, getattr(np, name, None))(wide)


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_elementary_functions(element: str):
    kind = ELEMENTS[element]
    x = floats(kind)
    tiny = float(np.finfo(kind.storage).tiny)
    for name, actual in evaluate(list(BOUNDS), [x], kind).items():
        exact = exact_of(name, x)
        with np.errstate(all="ignore"):
            nearest = exact.astype(kind.storage)
            unit = np.spacing(np.maximum(np.abs(nearest), tiny))
            error = np.abs(actual.astype(np.longdouble) - exact) / unit
            # Below the normal numbers, products with a power of e lose digits.
            lost = (name == "silu") & (np.abs(exact) < 64 * tiny)
        error = np.where(same(actual, nearest), 0, np.where(np.isnan(error), np.inf, error))
        error = np.where(lost & np.isfinite(actual), 0, error)
        allowed = np.full(x.shape, BOUNDS[name])
        if kind.bits == 64 and name in ("gelu", "silu"):
            # The argument of the C library's function has been rounded.
            allowed = allowed + 2 + 3 * np.minimum(np.abs(x), 40) ** 2
        wrong = np.flatnonzero(error > allowed)[:5]
        assert not wrong.size, (name, x[wrong], actual[wrong], exact[wrong])


def test_the_lockstep_executor_finds_the_same():
    x = np.concatenate([SPECIAL, EXTREME, np.linspace(-20, 20, 300)]).astype(np.float32)
    names = list(BOUNDS)
    compiled = evaluate(names, [x], F32)
    arrays = [aligned(x), *(aligned(np.zeros_like(x)) for _ in names)]
    text = module_to_text(module_of(applied(names, F32), [F32], [F32] * len(names)))
    arguments = [*arrays, np.int32(len(x))]
    launch = Launch(parse_ptx(text), "all", (-(-len(x) // BLOCK),), (BLOCK,), arguments)
    assert execute(launch, checks=Checks()).is_clean
    for name, actual in zip(names, arrays[1:], strict=True):
        assert same(actual, compiled[name]).all(), name


@pytest.mark.parametrize("element", ["f32", "f64"])
def test_great_angles(element: str):
    """An angle so great that its neighbours are many turns away still has its sine."""
    kind = ELEMENTS[element]
    x = np.array([2.0**90, 1.25 * 2.0**100, 3.0e38, 1e22, 123456789.0], kind.storage)
    made = evaluate(["sin", "cos"], [x], kind)
    np.testing.assert_allclose(made["sin"], np.sin(x.astype(np.float64)), rtol=1e-6)
    np.testing.assert_allclose(made["cos"], np.cos(x.astype(np.float64)), rtol=1e-6)
    circle = made["sin"].astype(np.float64) ** 2 + made["cos"].astype(np.float64) ** 2
    np.testing.assert_allclose(circle, 1, rtol=1e-6 if kind.bits == 32 else 1e-15)


@pytest.mark.parametrize("element", FLOATS)
def test_exact_functions_of_floats(element: str):
    kind = ELEMENTS[element]
    names = ["neg", "abs", "relu", "floor", "ceil", "round"]
    x = np.concatenate([floats(kind), np.arange(-9, 9) / 2]).astype(kind.storage)
    if element == "tf32":
        x = as_tensor_float(x)
    for name, actual in evaluate(names, [x], kind).items():
        assert same(actual, reference(name, [x], kind).astype(kind.storage)).all(), name


@pytest.mark.parametrize("element", ["f32", "f64", "f16", "bf16"])
def test_pairs_of_floats(element: str):
    kind = ELEMENTS[element]
    a, b = pairs(kind)
    for name, actual in evaluate(of_arity(2, kind), [a, b], kind).items():
        with np.errstate(over="ignore"):
            expected = reference(name, [a, b], kind).astype(actual.dtype)
        if name == "pow":
            _check_powers(actual, a, b, kind)
        else:
            differ = np.flatnonzero(~same(actual, expected))[:5]
            assert not differ.size, (name, a[differ], b[differ], actual[differ], expected[differ])


def _check_powers(actual: np.ndarray, a: np.ndarray, b: np.ndarray, kind: ElementType) -> None:
    with np.errstate(all="ignore"):
        x, y = a.astype(np.longdouble), b.astype(np.longdouble)
        exact = np.power(x, y)
        nearest = exact.astype(kind.storage)
        size = 1 + np.abs(y * np.log(np.abs(np.where(x == 0, 1, x))))
        relative = np.abs(actual.astype(np.longdouble) - exact) / np.abs(exact)
    inside = relative <= 2 * kind.epsilon * np.where(np.isfinite(size), size, 1)
    tiny = np.abs(exact) < np.finfo(np.float64 if kind.bits == 64 else np.float32).tiny
    assert (same(actual, nearest) | inside | (tiny & (np.abs(actual) < 1e-37))).all()


@pytest.mark.parametrize("exponent", [0.0, 0.5, -0.5, 1.0, 2.0, 3.0, 8.0, -1.0, -3.0, 2.5])
def test_powers_with_a_known_exponent(exponent: float):
    x = floats(F32)

    def build(code: PtxCode, values: Values) -> Values:
        known = ptx_convert.constant(code, exponent, F32)
        return [ptx_arithmetic.apply(code, "pow", F32, [values[0], known])]

    (actual,) = run(build, [x], [F32], [F32])
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(np.float64), np.full(x.shape, exponent)).astype(np.float32)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("element", INTEGERS)
def test_functions_of_integers(element: str):
    kind = element_named(element)
    for arity in (1, 2):
        arrays = integers(kind, arity)
        for name, actual in evaluate(of_arity(arity, kind), arrays, kind).items():
            expected = reference(name, arrays, kind).astype(actual.dtype)
            differ = np.flatnonzero(actual != expected)[:5]
            given = [array[differ] for array in arrays]
            assert not differ.size, (name, given, actual[differ], expected[differ])


@pytest.mark.parametrize("element", ["i64", "i32", "i8", "u8"])
def test_integers_and_a_known_one(element: str):
    kind = ELEMENTS[element]
    (a,) = integers(kind, 1)
    numbers = [n for n in (1, 2, 3, 4, 7, 8, -1, -2, -3, 0) if kind.bounds[0] <= n]
    cases = [(name, n) for name in ("floordiv", "mod", "pow") for n in numbers]

    def build(code: PtxCode, values: Values) -> Values:
        known = {n: ptx_convert.constant(code, n, kind) for n in numbers}
        return [ptx_arithmetic.apply(code, f, kind, [values[0], known[n]]) for f, n in cases]

    for case, actual in zip(cases, run(build, [a], [kind], [kind] * len(cases)), strict=True):
        expected = apply(case[0], [a, np.full_like(a, case[1])], kind)
        np.testing.assert_array_equal(actual, expected.astype(actual.dtype), str(case))


def test_logic():
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    for name, actual in evaluate(of_arity(2, BOOL), [a, b], BOOL).items():
        np.testing.assert_array_equal(actual, apply(name, [a, b], BOOL), name)
    np.testing.assert_array_equal(evaluate(["not"], [a], BOOL)["not"], ~a)


@pytest.mark.parametrize("element", ["f32", "f64", "f16", "f8e4m3", "i64", "u8", "i3", "bool"])
def test_select(element: str):
    condition = np.array([True, True, False, False])
    a, b = np.array([1, 0, 1, 1]), np.array([0, 1, 0, 1])
    made = evaluate(["select"], [condition, a, b], ELEMENTS[element])["select"]
    np.testing.assert_array_equal(made.astype(int), [1, 0, 0, 1])


# Casts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [*ELEMENTS, "index"])
def test_casts(source: str):
    kind = element_named(source)
    x = values_of(kind).astype(stored_as(kind))
    targets = [*EVERY, INDEX]
    carried = x.astype(np.float64) if kind.is_float else x
    if source == "tf32":
        carried = as_tensor_float(x).astype(np.float64)
    for target, actual in zip(
        targets, run(converted(kind, targets), [x], [kind], targets), strict=True
    ):
        bounded = ELEMENTS["i32"] if target.kind == "index" and kind.is_float else target
        with np.errstate(all="ignore"):
            expected = np.asarray(convert(carried, kind, bounded)).astype(stored_as(target))
        differ = np.flatnonzero(~same(actual, expected))[:5]
        assert not differ.size, (target.name, x[differ], actual[differ], expected[differ])


def as_tensor_float(x: np.ndarray) -> np.ndarray:
    """Rounded to 10 bits of mantissa, half away from zero."""
    bits = x.view(np.uint32)
    rounded = ((bits + 0x1000) & 0xFFFFE000).view(np.float32)
    return np.where(np.isfinite(x), rounded, x)


def test_tensor_floats_round_when_they_are_loaded_and_made():
    x, tensor = floats(F32), ELEMENTS["tf32"]

    def build(code: PtxCode, values: Values) -> Values:
        return [values[0], ptx_convert.convert(code, values[1], F32, tensor)]

    loaded, made = run(build, [x, x], [tensor, F32], [F32, F32])
    assert same(loaded, as_tensor_float(x)).all()
    assert same(made, as_tensor_float(x)).all()


def test_a_double_is_rounded_once():
    x = np.array([1 + 2.0**-8 + 2.0**-40, 1 + 2.0**-11 + 2.0**-40, 1 + 2.0**-4 + 2.0**-40])
    short = [ELEMENTS[name] for name in ("bf16", "f16", "f8e4m3")]
    made = run(converted(F64, short), [x], [F64], [F32] * 3)
    assert [float(made[i][i]) for i in range(3)] == [1 + 2.0**-7, 1 + 2.0**-10, 1.125]


@pytest.mark.parametrize("name", ["f64", "f32", "f16", "bf16", "f8e4m3", "i64", "i8", "u3", "bool"])
def test_constants(name: str):
    kind, numbers = ELEMENTS[name], [0, 1, 0.1, 3]

    def build(code: PtxCode, values: Values) -> Values:
        return [ptx_convert.constant(code, number, kind) for number in numbers]

    wide = F64 if kind.bits == 64 and kind.is_float else F32 if kind.is_float else kind
    made = run(build, [np.zeros(1)], [F32], [wide] * 4)
    expected = [np.array(number).astype(kind.storage).astype(np.float64) for number in numbers]
    assert [float(array[0]) for array in made] == [float(number) for number in expected]


# Memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("element", ["f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64", "i32",
                                     "i16", "i8", "i3", "i1", "u8", "bool"])  # fmt: skip
def test_many_elements_at_once(element: str, each: int):
    kind = ELEMENTS[element]
    x = np.resize(values_of(kind), 240).astype(kind.storage)
    (copied,) = run(lambda code, values: values, [x], [kind], [kind], each)
    assert same(copied, x[: len(copied)]).all()


def test_pieces_are_as_wide_as_the_alignment():
    assert list(pieces(4, 4, 16)) == [(0, 16)]
    assert list(pieces(4, 4, 4)) == [(0, 4), (4, 4), (8, 4), (12, 4)]
    assert list(pieces(1, 7, 4)) == [(0, 4), (4, 2), (6, 1)]
    assert list(pieces(2, 12, 8)) == [(0, 8), (8, 8), (16, 8)]
    assert list(pieces(8, 3, 16)) == [(0, 16), (16, 8)]


def test_where_a_guard_does_not_hold_elements_are_zero():
    code = PtxCode.kernel("all", ["p", "q", "n"], ["b64", "b64", "b32"], BLOCK)
    p, q, n = code.parameters
    thread = code.special("tid.x")
    inside = code.op("setp.lt.s32", thread, n)
    kind = ELEMENTS["f16"]
    values = load_element(
        code, At(code.op("mad.wide.s32", thread, 4, p)), kind, 2, align=4, guard=inside
    )
    store_element(code, At(code.op("mad.wide.s32", thread, 8, q)), values, F32, align=8)
    module = ModuleOp([code.finish()])
    kernel = compile_kernel(parse_ptx(module_to_text(module)), "all", None, checked=True)
    x = aligned(np.arange(10).astype(np.float16))
    y = aligned(np.full(2 * BLOCK, 7.0, np.float32))
    parameters = struct.pack("<QQi", x.ctypes.data, y.ctypes.data, 5)
    memory = [Allocation(array.ctypes.data, array.nbytes) for array in (x, y)]
    kernel.launch(Geometry((1, 1, 1), (BLOCK, 1, 1)), parameters, memory)
    np.testing.assert_array_equal(y, [*range(10), *[0] * (2 * BLOCK - 10)])


# The assembler ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="no ptxas")
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_the_assembler_takes_everything(target: str, tmp_path):
    names = "f64 f32 tf32 f16 bf16 f8e4m3 f8e5m2 i64 i32 i16 i5 i1 u3 bool"
    some = [ELEMENTS[name] for name in names.split()]
    modules: list[ModuleOp] = []
    for element in some:
        for names in (of_arity(1, element), of_arity(2, element)):
            targets = [BOOL if FUNCTIONS[name].result == "bool" else element for name in names]
            build = applied(names, element)
            modules.append(module_of(build, [element] * FUNCTIONS[names[0]].arity, targets,
                                     target=target))  # fmt: skip
        modules.append(module_of(converted(element, some), [element], some, target=target))
    file = tmp_path / "all.ptx"
    for module in modules:
        file.write_text(module_to_text(module))
        command = ["ptxas", "-arch", target, str(file), "-o", str(tmp_path / "all.cubin")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
