"""Every scalar function in machine code, on vectors and numbers, against NumPy in f64."""

import ctypes
import math
from functools import cache

import numpy as np
import pytest
from llvmlite import ir

from hectorite.backends.cpu import jit
from hectorite.backends.cpu.conversion import cast, from_storage, register_type, storage_type
from hectorite.backends.cpu.conversion import to_storage as stored
from hectorite.backends.cpu.lanes import I64
from hectorite.backends.cpu.vector_math import EMITTERS, emit
from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.ir.rounding import loaded
from hectorite.ir.scalar import FUNCTIONS, apply, convert

F32, F64, BOOL = ELEMENTS["f32"], ELEMENTS["f64"], ELEMENTS["bool"]
INTEGERS = ("i64", "i32", "i16", "i8", "u8", "i5", "u3", "i2", "u1")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 1.5, 2.5, -2.5, math.inf, -math.inf, math.nan]
RANGE = [
    1e-45,
    -1e-45,
    1e-38,
    1.2e-38,
    1e-20,
    3.4e38,
    -3.4e38,
    1000.0,
    -1000.0,
    88.7,
    -88.0,
    -103.9,
]
PTR = ir.PointerType()


def as_vector(type: ir.Type, width: int) -> ir.Type:
    return ir.VectorType(type, width) if width > 1 else type


@cache
def compiled(build, sources: tuple[str, ...], target: str, width: int):
    """A loop over arrays: `build(builder, values)` for each vector of elements."""
    module = ir.Module()
    kind = ir.FunctionType(ir.VoidType(), [PTR] * (len(sources) + 1) + [I64])
    function = ir.Function(module, kind, "loop")
    entry, body, out = (function.append_basic_block(name) for name in ("entry", "body", "out"))
    builder = ir.IRBuilder(entry)
    builder.branch(body)
    builder.position_at_end(body)
    index = builder.phi(I64)
    values = []
    for name, pointer in zip(sources, function.args, strict=False):
        lane = storage_type(ELEMENTS[name])
        place = builder.gep(pointer, [index], source_etype=lane)
        loaded = builder.load(place, typ=as_vector(lane, width), align=1)
        values.append(from_storage(builder, loaded, ELEMENTS[name]))
    result = stored(builder, build(builder, values), ELEMENTS[target])
    place = builder.gep(function.args[-2], [index], source_etype=storage_type(ELEMENTS[target]))
    builder.store(result, place, align=1)
    following = builder.add(index, ir.Constant(I64, width))
    index.add_incoming(ir.Constant(I64, 0), entry)
    index.add_incoming(following, builder.block)
    builder.cbranch(builder.icmp_signed("<", following, function.args[-1]), body, out)
    builder.position_at_end(out)
    builder.ret_void()
    code = jit.load(jit.compile_object(str(module)), ["loop"])
    return code.function("loop", None, *[ctypes.c_void_p] * (len(sources) + 1), ctypes.c_int64)


def evaluate(build, arrays, sources: list[str], target: str, width: int = 16) -> np.ndarray:
    """Run the loop on arrays of one length, which is padded to whole vectors."""
    length = len(arrays[0])
    padded = -(-length // width) * width
    inputs = [np.resize(array, padded).astype(ELEMENTS[s].storage) for array, s in
              zip(arrays, sources, strict=True)]  # fmt: skip
    output = np.zeros(padded, ELEMENTS[target].storage)
    function = compiled(build, tuple(sources), target, width)
    function(*(array.ctypes.data for array in (*inputs, output)), padded)
    return output[:length]


@cache
def builder_of(name: str, element: ElementType):
    return lambda builder, values: emit(builder, name, values, element)


@cache
def cast_of(source: str, target: str):
    return lambda b, values: cast(b, values[0], ELEMENTS[source], ELEMENTS[target])


def run(name: str, arrays, element: ElementType, width: int = 16) -> np.ndarray:
    """One scalar function on arrays."""
    function = FUNCTIONS[name]
    sources = [element.name] * function.arity
    if name == "select":
        sources[0] = "bool"
    target = "bool" if function.result == "bool" else element.name
    return evaluate(builder_of(name, element), arrays, sources, target, width)


def ulps(actual: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Distance in units in the last place of f32; 0 where both are the same special value."""
    with np.errstate(over="ignore"):
        exact32 = exact.astype(np.float32)
    same = (actual == exact32) | (np.isnan(actual) & np.isnan(exact32))
    unit = np.spacing(np.abs(exact32).astype(np.float32)).astype(np.float64)
    with np.errstate(all="ignore"):
        distance = np.abs(actual.astype(np.float64) - exact) / unit
    return np.where(same, 0.0, np.where(np.isfinite(distance), distance, np.inf))


def floats(low: float = -100.0, high: float = 100.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    wide = rng.uniform(-1, 1, 3000) * 2.0 ** rng.integers(-140, 128, 3000)
    near = rng.uniform(low, high, 6000), rng.uniform(-2, 2, 4000)
    return np.concatenate([SPECIAL, RANGE, wide, *near]).astype(np.float32)


def exact_of(name: str, x: np.ndarray) -> np.ndarray:
    """The function in f64, where the plain formula would lose digits by a better one."""
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        if name == "gelu":
            tail = [math.erfc(v) if not math.isnan(v) else v for v in -x * math.sqrt(0.5)]
            return x * 0.5 * np.array(tail)
        return apply(name, [x], F64)


BOUNDS = {"exp": 2, "log": 2, "sqrt": 0.5, "rsqrt": 2, "sin": 4, "cos": 4, "tanh": 4}
BOUNDS |= {"sigmoid": 4, "gelu": 6, "silu": 4, "erf": 4}


@pytest.mark.parametrize("name", BOUNDS)
def test_f32_accuracy(name: str):
    x = floats()
    error = ulps(run(name, [x], F32), exact_of(name, x))
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS[name], (x[worst], error[worst])


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("width", [1, 2, 5, 64])
def test_any_width(name: str, width: int):
    x = np.array([*SPECIAL, *RANGE, 3.0, 0.1, 7.0], np.float32)
    assert ulps(run(name, [x], F32, width), exact_of(name, x)).max() <= BOUNDS[name]


@pytest.mark.parametrize("name", BOUNDS)
def test_f64_accuracy(name: str):
    x = floats().astype(np.float64)
    exact = exact_of(name, x)
    actual = run(name, [x], F64, 4)
    np.testing.assert_allclose(actual, exact, rtol=1e-14, atol=1e-300)


def test_known_values():
    def single(name: str, x: float) -> float:
        return float(run(name, [np.array([x])], F32)[0])

    assert single("exp", 1000) == math.inf and single("exp", -1000) == 0 == single("exp", -math.inf)
    assert single("exp", 0) == 1 and math.isnan(single("exp", math.nan))
    assert single("log", 0) == -math.inf and math.isnan(single("log", -1)) and single("log", 1) == 0
    assert math.isnan(single("sin", math.inf)) and single("cos", 0) == 1
    assert single("tanh", math.inf) == 1 and single("sigmoid", -math.inf) == 0
    assert single("round", 2.5) == 2 and math.copysign(1, single("round", -0.2)) == -1


def test_portable_scaling(monkeypatch: pytest.MonkeyPatch):
    host = jit.host()
    monkeypatch.setattr(jit, "host", lambda: jit.Host(host.triple, host.cpu, ""))
    x = floats()
    actual = evaluate(lambda b, v: emit(b, "exp", v, F32), [x], ["f32"], "f32")
    assert ulps(actual, exact_of("exp", x)).max() <= 2


def pairs(special: list[float]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    a, b = np.meshgrid(special, special)
    random = rng.normal(0, 10, (2, 2000)), rng.integers(-9, 9, (2, 2000))
    return tuple(np.concatenate([m.ravel(), *(r[i] for r in random)]).astype(np.float32)
                 for i, m in enumerate((a, b)))  # fmt: skip


BINARY = [name for name, function in FUNCTIONS.items()
          if function.arity == 2 and "float" in function.domain]  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("element", ["f32", "f64"])
@pytest.mark.parametrize("width", [1, 16])
def test_float_pairs(name: str, element: str, width: int):
    dtype = ELEMENTS[element].storage
    a, b = (array.astype(dtype) for array in pairs([*SPECIAL, 3.0, 1e30]))
    actual = run(name, [a, b], ELEMENTS[element], width)
    with np.errstate(all="ignore"):
        expected = apply(name, [a, b], ELEMENTS[element])
    np.testing.assert_allclose(actual, expected, rtol=4 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("name", ["neg", "abs", "relu", "floor", "ceil", "round"])
@pytest.mark.parametrize("element", ["f32", "f64"])
def test_exact_floats(name: str, element: str):
    x = np.concatenate([floats(), np.arange(-9, 9) / 2])
    actual, expected = run(name, [x], ELEMENTS[element], 8), apply(name, [x], ELEMENTS[element])
    np.testing.assert_array_equal(actual, expected)


def integers(element: ElementType, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    least, greatest = element.bounds
    edge = [v for v in (least, least + 1, -3, -1, 0, 1, 2, 7, greatest) if least <= v <= greatest]
    grid = [m.ravel() for m in np.meshgrid(*[np.array(edge, np.int64)] * count)]
    small = np.clip(rng.integers(-20, 20, (count, 500)), least, greatest)
    wide = rng.integers(least, greatest, (count, 500), endpoint=True)
    return [np.concatenate(parts) for parts in zip(grid, small, wide, strict=True)]


INTEGER_FUNCTIONS = [name for name, f in FUNCTIONS.items() if "int" in f.domain and f.arity < 3]


@pytest.mark.parametrize("name", INTEGER_FUNCTIONS)
@pytest.mark.parametrize("element", INTEGERS)
def test_integers(name: str, element: str):
    kind = ELEMENTS[element]
    arrays = integers(kind, FUNCTIONS[name].arity)
    actual, expected = run(name, arrays, kind), apply(name, arrays, kind)
    np.testing.assert_array_equal(actual, expected.astype(actual.dtype))


def test_logic():
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    for name in ("and", "or", "min", "max", "eq", "ne", "lt", "le", "gt", "ge"):
        np.testing.assert_array_equal(run(name, [a, b], BOOL, 4), apply(name, [a, b], BOOL))
    np.testing.assert_array_equal(run("not", [a], BOOL, 4), ~a)


@pytest.mark.parametrize("element", ["f32", "f64", "tf32", "f16", "i64", "u8", "i3", "bool"])
def test_select(element: str):
    a, b = np.array([1, 0, 1, 1]), np.array([0, 1, 0, 1])
    condition = np.array([True, True, False, False])
    actual = run("select", [condition, a, b], ELEMENTS[element], 4)
    np.testing.assert_array_equal(actual.astype(int), [1, 0, 0, 1])


CASTABLE = ["f64", "f32", "tf32", "f16", "bf16", *INTEGERS, "i1", "bool"]


@pytest.mark.parametrize("source", CASTABLE)
@pytest.mark.parametrize("target", CASTABLE)
def test_casts(source: str, target: str):
    s, t = ELEMENTS[source], ELEMENTS[target]
    if s.is_float:
        edges = [127.5, 128, -128.9, 255.9, 256, 2.0**31, -(2.0**31), 2.0**63, 65519.9, 65520, 1e-8]
        close = 1 + 2.0**-11 + np.array([0, 2.0**-30, -(2.0**-30), 2.0**-9, 2.0**-45])
        x = np.concatenate([floats(), edges, close])
        with np.errstate(over="ignore"):
            x = x.astype(s.storage)
    else:
        x = np.array([-1, 1, 1]) if source == "i1" else integers(s, 1)[0]
        x = x.astype(s.storage)
    with np.errstate(all="ignore"):
        carried = loaded(x, s).astype(np.float64) if s.is_float else x
        expected = convert(carried, s, t).astype(t.storage)
    actual = evaluate(cast_of(source, target), [x], [source], target, 8)
    np.testing.assert_array_equal(actual.astype(np.float64), expected.astype(np.float64))
    assert t.is_float or (actual == expected).all()


def test_every_function_is_emitted():
    assert set(EMITTERS) == set(FUNCTIONS)


def test_registers_hold_what_memory_holds():
    for name in CASTABLE:
        assert storage_type(ELEMENTS[name]) and register_type(ELEMENTS[name])
        x = np.array([1, 0, 1, 0]).astype(ELEMENTS[name].storage)
        same = evaluate(cast_of(name, name), [x], [name], name, 4)
        np.testing.assert_array_equal(same, x if name != "i1" else np.ones(4))
