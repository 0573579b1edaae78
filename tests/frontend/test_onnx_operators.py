"""Every ONNX operator that is imported gives what ONNX's own evaluator gives, on odd shapes."""

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.helper import make_node as node  # noqa: E402
from xdsl.context import Context  # noqa: E402

import hectorite  # noqa: E402
from hectorite.backends.reference.interpreter import run_reference  # noqa: E402
from hectorite.frontend.onnx.importer import OPERATORS  # noqa: E402
from hectorite.lowering.graph.superoptimise import Superoptimise  # noqa: E402
from tests.frontend.onnx_models import compare, model_of  # noqa: E402

RNG = np.random.default_rng(4)


def floats(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def positive(*shape):
    return (RNG.random(shape) + 0.1).astype(np.float32)


def ints(*shape, low=-9, high=9, dtype=np.int64):
    return RNG.integers(low, high, shape).astype(dtype)


def bools(*shape):
    return RNG.random(shape) < 0.5


# fmt: off
UNARY = [
    "Erf", "Tanh", "Sigmoid", "Exp", "Abs", "Neg", "Floor", "Ceil", "Round", "Relu", "Sin",
    "Cos", "Softplus", "Sign", "Reciprocal", "LeakyRelu", "Elu", "Selu", "HardSigmoid",
    "HardSwish", "Gelu", "Identity", "Mish", "Softsign", "Celu", "IsNaN",
]
# fmt: on


@pytest.mark.parametrize("op", UNARY)
def test_one_argument(op):
    compare(node(op, ["x"], ["y"]), {"x": 2 * floats(3, 1, 5)})


@pytest.mark.parametrize("op", ["Sqrt", "Log"])
def test_one_positive_argument(op):
    compare(node(op, ["x"], ["y"]), {"x": positive(7)})


@pytest.mark.parametrize("op", ["Abs", "Neg", "Relu", "Sign"])
def test_one_integer(op):
    compare(node(op, ["x"], ["y"]), {"x": ints(2, 5, dtype=np.int32)})


ALPHAS = [
    ("LeakyRelu", {"alpha": 0.3}),
    ("Elu", {"alpha": 2.0}),
    ("Selu", {"alpha": 1.5, "gamma": 0.7}),
    ("HardSigmoid", {"alpha": 0.4, "beta": 0.1}),
    ("Celu", {"alpha": 1.7}),
    ("ThresholdedRelu", {"alpha": 0.6}),
    ("Shrink", {"lambd": 0.4, "bias": 0.1}),
    ("Gelu", {"approximate": "tanh"}),
]


@pytest.mark.parametrize(("op", "attributes"), ALPHAS)
def test_attributes_of_functions(op, attributes):
    compare(node(op, ["x"], ["y"], **attributes), {"x": 2 * floats(4, 3)})


def test_swish():
    x = {"x": floats(4, 3)}
    compare(node("Swish", ["x"], ["y"], alpha=0.5), x, opset=24)
    compare(node("Swish", ["x"], ["y"]), x, opset=24)


SHAPES = [((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((1, 5), (3, 1)), ((), (2, 2)), ((2, 1, 3), (4, 1))]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Less", "PRelu"])
def test_two_arguments(op, a, b):
    if op == "PRelu" and (len(b) > len(a) or np.broadcast_shapes(a, b) != a):
        b = a
    compare(node(op, ["x", "w"], ["y"]), {"x": floats(*a)}, {"w": floats(*b)})


@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "LessOrEqual", "Less"])
def test_comparisons(op):
    compare(node(op, ["x", "w"], ["y"]), {"x": ints(3, 4, high=-7), "w": ints(4, high=-7)})


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic(op):
    compare(node(op, ["x", "w"], ["y"]), {"x": bools(3, 4), "w": bools(3, 1)})
    compare(node("Not", ["x"], ["y"]), {"x": bools(3)})


@pytest.mark.parametrize("op", ["Sum", "Max", "Min", "Mean"])
def test_several_arguments(op):
    inputs = {"a": floats(3, 4), "b": floats(4), "c": floats(3, 1)}
    compare(node(op, ["a", "b", "c"], ["y"]), inputs)
    compare(node(op, ["a"], ["y"]), {"a": floats(3, 4)})


def test_integer_division():
    x, w = ints(5, 6), np.where((v := ints(6)) == 0, 3, v)
    compare(node("Mod", ["x", "w"], ["y"]), {"x": x, "w": w})
    compare(node("Mod", ["x", "w"], ["y"], fmod=1), {"x": x, "w": w})
    compare(node("Mod", ["x", "w"], ["y"], fmod=1), {"x": floats(5), "w": floats(5)})
    imported = compare(node("Div", ["x", "w"], ["y"]), {"x": np.abs(x), "w": np.abs(w)})
    assert "floordiv" in str(imported.module)


def test_powers():
    for exponent in (2, 3, 0.5, 1.7, -1):
        compare(node("Pow", ["x", "e"], ["y"]), {"x": positive(5)}, {"e": np.float32(exponent)})
    compare(node("Pow", ["x", "e"], ["y"]), {"x": ints(4)}, {"e": np.int64(2)})
    compare(node("Pow", ["x", "e"], ["y"]), {"x": positive(4), "e": ints(3, 1)})


def test_where_and_clip():
    compare(
        node("Where", ["c", "x", "w"], ["y"]),
        {"c": bools(3, 1), "x": floats(3, 4), "w": floats(4)},
    )
    limits = {"low": np.float32(-0.5), "high": np.float32(0.5)}
    compare(node("Clip", ["x", "low", "high"], ["y"]), {"x": floats(9)}, limits)
    compare(node("Clip", ["x", "", "high"], ["y"]), {"x": floats(9)}, {"high": limits["high"]})
    compare(node("Clip", ["x", "low"], ["y"]), {"x": floats(9), "low": np.float32(0.1)[()]} | {
        "low": np.array(0.1, np.float32)})  # fmt: skip


@pytest.mark.parametrize("to", ["FLOAT16", "DOUBLE", "INT32", "INT64", "BOOL", "INT8", "BFLOAT16"])
def test_casts(to):
    code = onnx.TensorProto.DataType.Value(to)
    compare(node("Cast", ["x"], ["y"], to=code), {"x": (3 * floats(3, 4)).round(1)})
    compare(node("Cast", ["x"], ["y"], to=code), {"x": ints(3, 4)})


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats(dtype):
    x, w = floats(3, 4, dtype=dtype), floats(4, 5, dtype=dtype)
    compare(node("MatMul", ["x", "w"], ["y"]), {"x": x}, {"w": w})
    compare(node("Tanh", ["x"], ["y"]), {"x": x})
    compare(node("ReduceMean", ["x"], ["y"]), {"x": x})


def test_dropout_is_the_identity():
    x = {"x": floats(3)}
    compare([node("Dropout", ["x"], ["d"]), node("Neg", ["d"], ["y"])], x)
    compare(
        [node("Dropout", ["x", "r", "t"], ["d"]), node("Neg", ["d"], ["y"])],
        x,
        {"r": np.float32(0.5), "t": np.bool_(False)},
    )


PRODUCTS = [
    ((2, 3), (3, 4)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((3,), (3,)),
    ((5, 1, 2, 3), (4, 3, 2)),
    ((4, 2, 3), (1, 3, 2)),
]


@pytest.mark.parametrize(("a", "b"), PRODUCTS)
def test_matmul(a, b):
    compare(node("MatMul", ["x", "w"], ["y"]), {"x": floats(*a)}, {"w": floats(*b)})


@pytest.mark.parametrize("turn", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_gemm(turn):
    a, b = ((4, 3) if turn[0] else (3, 4)), ((5, 4) if turn[1] else (4, 5))
    attributes = {"transA": turn[0], "transB": turn[1], "alpha": 0.5, "beta": 2.0}
    inputs, weights = {"x": floats(*a)}, {"w": floats(*b), "c": floats(5)}
    compare(node("Gemm", ["x", "w", "c"], ["y"], **attributes), inputs, weights)
    compare(node("Gemm", ["x", "w"], ["y"], transA=turn[0], transB=turn[1]), inputs, weights)


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "ij,kj->ki", "ij,ij", "ij->ji", "ijk->j"])
def test_einsum(equation):
    terms = equation.split("->")[0].split(",")
    extents = dict(zip("bijk", (2, 3, 4, 5), strict=True))
    arrays = {f"x{n}": floats(*(extents[c] for c in t)) for n, t in enumerate(terms)}
    compare(node("Einsum", list(arrays), ["y"], equation=equation), arrays)


CONVOLUTIONS = [
    ((2, 3, 7, 6), (4, 3, 3, 3), {}),
    ((2, 3, 7, 6), (4, 3, 3, 2), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ((1, 3, 9, 9), (4, 3, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    ((1, 4, 5, 5), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    ((1, 4, 5, 5), (4, 1, 3, 3), {"group": 4}),
    ((1, 4, 5, 5), (8, 1, 3, 3), {"group": 4}),
    ((1, 6, 5, 5), (3, 2, 1, 1), {"group": 3}),
    ((1, 3, 10), (4, 3, 3), {"strides": [2], "auto_pad": "SAME_UPPER"}),
    ((1, 3, 10), (4, 3, 4), {"strides": [1], "auto_pad": "SAME_LOWER"}),
    ((1, 3, 10), (4, 3, 3), {"auto_pad": "VALID"}),
    ((1, 2, 4, 4, 3), (3, 2, 2, 2, 2), {"pads": [1, 0, 0, 0, 1, 1]}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), CONVOLUTIONS)
def test_conv(x, w, attributes):
    inputs, weights = {"x": floats(*x)}, {"w": floats(*w), "b": floats(w[0])}
    compare(node("Conv", ["x", "w", "b"], ["y"], **attributes), inputs, weights)
    compare(node("Conv", ["x", "w"], ["y"], **attributes), inputs, weights)


def test_conv_transpose():
    weights = {"w": floats(3, 4, 3, 3), "b": floats(4)}
    attributes = {"strides": [2, 1], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}
    names = ["x", "w", "b"]
    compare(node("ConvTranspose", names, ["y"], **attributes), {"x": floats(1, 3, 4, 5)}, weights)
    compare(node("ConvTranspose", names[:2], ["y"]), {"x": floats(2, 3, 4, 5)}, weights)


POOLS = [
    {"kernel_shape": [3, 3]},
    {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [3, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 3], "strides": [2, 1], "auto_pad": "SAME_UPPER"},
]


@pytest.mark.parametrize("attributes", POOLS)
def test_pools(attributes):
    x = {"x": floats(1, 2, 8, 7)}
    compare(node("MaxPool", ["x"], ["y"], **attributes), x)
    compare(node("AveragePool", ["x"], ["y"], **attributes), x)
    if "auto_pad" not in attributes:
        compare(node("AveragePool", ["x"], ["y"], count_include_pad=1, **attributes), x)


def test_global_pools():
    for op in ("GlobalMaxPool", "GlobalAveragePool"):
        compare(node(op, ["x"], ["y"]), {"x": floats(2, 3, 4, 5)})


@pytest.mark.parametrize("size", [3, 4, 5])
def test_lrn(size):
    # ONNX's evaluator takes the number of channels from the wrong axis.
    attributes = {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 2.0}
    compare(node("LRN", ["x"], ["y"], **attributes), {"x": floats(7, 7, 1, 2)})


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax(op, axis):
    compare(node(op, ["x"], ["y"], axis=axis), {"x": 3 * floats(3, 4, 5)})


REDUCTIONS = [
    *["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"],
    *["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"],
]


@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions(op):
    x = {"x": positive(3, 4, 5)}
    compare(node(op, ["x", "a"], ["y"], keepdims=0), x, {"a": np.array([0, -1])})
    compare(node(op, ["x", "a"], ["y"]), x, {"a": np.array([1])})
    compare(node(op, ["x"], ["y"], keepdims=0), x)
    if op not in ("ReduceLogSum", "ReduceLogSumExp", "ReduceSum"):
        compare(node(op, ["x"], ["y"], axes=[1], keepdims=0), x, opset=13)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_extremes(op, last):
    x = {"x": ints(4, 9, low=-2, high=2, dtype=np.int32)}
    attributes = {"axis": 1, "select_last_index": last}
    compare(node(op, ["x"], ["y"], **attributes), x)
    compare(node(op, ["x"], ["y"], keepdims=0, **attributes), x)


def test_normalisations():
    x, by_channel = {"x": floats(2, 6, 3, 4)}, {"s": floats(6), "b": floats(6)}
    moments = {"m": floats(6), "v": positive(6)}
    names = ["x", "s", "b", "m", "v"]
    compare(node("BatchNormalization", names, ["y"], epsilon=0.1), x, by_channel | moments)
    compare(node("InstanceNormalization", names[:3], ["y"]), x, by_channel)
    compare(
        node("GroupNormalization", names[:3], ["y"], num_groups=3, epsilon=0.1),
        x,
        by_channel,
        opset=21,
    )


def test_normalisation_of_layers():
    weights = {"s": floats(4, 5), "b": floats(4, 5)}
    x = {"x": floats(2, 3, 4, 5)}
    attributes = {"axis": 2, "epsilon": 0.01}
    compare(node("LayerNormalization", ["x", "s", "b"], ["y"], **attributes), x, weights)
    compare(node("LayerNormalization", ["x", "s"], ["y", "m", "i"], axis=-2), x, weights)
    compare(node("RMSNormalization", ["x", "s"], ["y"], **attributes), x, weights, opset=23)


RESHAPES = [
    ((2, 3, 4), (6, 4)),
    ((2, 3, 4), (2, 12)),
    ((2, 3, 4), (24,)),
    ((2, 3, 4), (4, -1)),
    ((2, 3, 4, 5), (5, 4, 6)),
    ((3, 1, 4), (0, 2, 1, -1)),
    ((24,), (2, 3, 4)),
    ((2, 3, 2, 5), (4, 15)),
    ((2, 0, 3), (0, 5, 0)),
    ((1, 1), ()),
]


@pytest.mark.parametrize(("old", "new"), RESHAPES)
def test_reshape(old, new):
    if 0 in old:
        compare(node("Reshape", ["x", "s"], ["y"], allowzero=1), {"x": floats(*old)},
                {"s": np.array(new)})  # fmt: skip
    else:
        compare(node("Reshape", ["x", "s"], ["y"]), {"x": floats(*old)},
                {"s": np.array(new, np.int64)})  # fmt: skip


def test_axes_come_and_go():
    x = {"x": floats(3, 1, 4, 1)}
    compare(node("Squeeze", ["x", "a"], ["y"]), x, {"a": np.array([1])})
    compare(node("Squeeze", ["x"], ["y"]), x)
    compare(node("Unsqueeze", ["x", "a"], ["y"]), x, {"a": np.array([-1, 0])})
    for axis in (0, 2, -1, 4):
        compare(node("Flatten", ["x"], ["y"], axis=axis), x)
    compare(node("Transpose", ["x"], ["y"], perm=[2, 0, 3, 1]), x)
    compare(node("Transpose", ["x"], ["y"]), x)


def test_blocks():
    for mode in ("DCR", "CRD"):
        attributes = {"blocksize": 2, "mode": mode}
        compare(node("DepthToSpace", ["x"], ["y"], **attributes), {"x": floats(1, 8, 2, 3)})
    compare(node("SpaceToDepth", ["x"], ["y"], blocksize=2), {"x": floats(1, 2, 4, 6)})


def test_copies():
    compare(node("Expand", ["x", "s"], ["y"]), {"x": floats(3, 1)}, {"s": np.array([2, 1, 4])})
    compare(node("Tile", ["x", "r"], ["y"]), {"x": floats(3, 2)}, {"r": np.array([1, 3])})
    compare(
        [node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"], ["y"])],
        {"x": floats(3, 2)},
        {"s": np.array([3, 2])},
    )


def test_concat_and_split():
    parts = {"a": floats(2, 3, 2), "b": floats(2, 1, 2), "c": floats(2, 4, 2)}
    compare(node("Concat", ["a", "b", "c"], ["y"], axis=-2), parts)
    x = {"x": floats(7, 3)}
    compare(node("Split", ["x", "s"], ["a", "b"], axis=0), x, {"s": np.array([2, 5])})
    compare(node("Split", ["x"], ["a", "b", "c"], axis=0, num_outputs=3), x)
    compare(node("Split", ["x"], ["a", "b", "c"], axis=1), x, opset=13)


SLICES = [
    ([1], [3], [0], [1]),
    ([-1], [-100], [1], [-1]),
    ([0, 1], [9, -1], [0, 1], [2, 3]),
    ([0], [2**63 - 1], [1], [1]),
    ([5], [2], [1], [1]),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES)
def test_slice(starts, ends, axes, steps):
    cuts = dict(zip("seat", map(np.array, (starts, ends, axes, steps)), strict=True))
    compare(node("Slice", ["x", *"seat"], ["y"]), {"x": floats(5, 7)}, cuts)


def test_pad():
    x = {"x": floats(2, 3)}
    constants = {"p": np.array([1, 0, 2, 3]), "v": np.float32(7)}
    compare(node("Pad", ["x", "p", "v"], ["y"]), x, constants)
    compare(node("Pad", ["x", "p"], ["y"]), x, constants)
    constants["q"] = np.array([1, 2])
    compare(node("Pad", ["x", "q", "", "a"], ["y"]), x, constants | {"a": np.array([1])})


def test_pads_of_two_kinds_on_one_tensor():
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("MaxPool", ["r"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Conv", ["r", "w"], ["b"], pads=[1, 1, 1, 1]),
        node("Concat", ["a", "b"], ["c"], axis=1),
        node("Conv", ["c", "v"], ["y"], pads=[1, 1, 1, 1]),
    ]
    weights = {"w": floats(2, 2, 3, 3), "v": floats(3, 4, 3, 3)}
    compare(nodes, {"x": floats(1, 2, 5, 5)}, weights)


def test_triangles():
    for upper in (0, 1):
        x = {"x": floats(2, 4, 5)}
        compare(node("Trilu", ["x"], ["y"], upper=upper), x)
        compare(node("Trilu", ["x", "k"], ["y"], upper=upper), x, {"k": np.array(-1)})


INDICES = [
    np.array(2),
    np.array(-1),
    np.array([1, 3, 5]),
    np.array([3, 2]),
    np.array([[1, 0], [4, 4]]),
]


@pytest.mark.parametrize("indices", INDICES, ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_gather_at_constants(indices, axis):
    gather = node("Gather", ["x", "i"], ["y"], axis=axis)
    compare(gather, {"x": floats(6, 7, 2)}, {"i": indices})


def test_gather_at_inputs():
    ids = {"i": np.array([[1, -2, 0], [5, 5, 3]])}
    gather = node("Gather", ["w", "i"], ["y"])
    imported = compare(gather, ids, {"w": floats(6, 4)})
    assert [each.source for each in imported.index_sets] == ["i"]
    cast = node("Cast", ["i"], ["j"], to=onnx.TensorProto.INT32)
    flat = node("Flatten", ["j"], ["k"], axis=0)
    compare([cast, flat, node("Gather", ["w", "k"], ["y"], axis=1)], ids, {"w": floats(2, 6)})


@pytest.mark.parametrize("length", [4, "n"])
def test_gather_at_an_input_of_one_axis(length):
    """The elements of the set are the points of the axis, but the map does not start from it."""
    ids, w = {"i": np.array([1, -2, 0, 5])}, floats(6, 4)
    nodes = [node("Gather", ["w", "i"], ["y"]), node("Neg", ["y"], ["z"])]
    model = hectorite.from_onnx(model_of(nodes, ids, {"w": w}, {"i": [length]}))
    np.testing.assert_array_equal(model(**ids), -w[ids["i"]])
    assert ".at" in hectorite.emit(model, "graph-opt")
    module = hectorite.parse(model)
    Superoptimise(cardinalities=("i_element=4", "i_row=6")).apply(Context(), module)
    maps = {("i_element", "at"): ids["i"].astype(np.int32) % 6}
    known = {"n": 4, "i_element": 4, "i_row": 6}
    (found,) = run_reference(module, "net", known, maps, {**ids, "w": w})
    np.testing.assert_array_equal(found, -w[ids["i"]])


def test_gather_at_computed_indices():
    nodes = [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0), node("Gather", ["w", "i"], ["y"])]
    compare(nodes, {"x": floats(3, 5)}, {"w": floats(5, 2)})


@pytest.mark.parametrize("reduction", ["add", "mul", "max", "min"])
def test_scatter(reduction):
    nodes = [
        node("Unsqueeze", ["i", "a"], ["j"]),
        node("ScatterND", ["x", "j", "u"], ["y"], reduction=reduction),
    ]
    inputs = {"x": floats(4, 2), "u": floats(6, 2), "i": ints(6, low=0, high=4)}
    compare(nodes, inputs, {"a": np.array([1])})


CELLS = [
    ("LSTM", 4, {}),
    ("LSTM", 4, {"direction": "bidirectional"}),
    ("GRU", 3, {"direction": "forward"}),
    ("GRU", 3, {"linear_before_reset": 1}),
    ("RNN", 1, {}),
]


@pytest.mark.parametrize(("op", "gates", "attributes"), CELLS)
def test_recurrent(op, gates, attributes):
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    hidden = 3
    weights = {
        "w": floats(directions, gates * hidden, 5),
        "r": floats(directions, gates * hidden, hidden),
        "b": floats(directions, 2 * gates * hidden),
        "h": floats(directions, 2, hidden),
    }
    outputs = ["y", "last"]
    x = {"x": floats(3, 2, 5)}
    names = ["x", "w", "r", "b"]
    compare(node(op, names, outputs, hidden_size=hidden, **attributes), x, weights)
    if directions == 1:
        full = [*names, "", "h", *(["c"] if op == "LSTM" else [])]
        weights["c"] = floats(1, 2, hidden)
        compare(node(op, full, outputs, hidden_size=hidden, **attributes), x, weights)


def test_operators_that_onnx_defines_by_others():
    heads = {"q": floats(1, 4, 5, 4), "k": floats(1, 2, 6, 4), "v": floats(1, 2, 6, 4)}
    compare(node("Attention", list(heads), ["y"]), heads, opset=23)
    heads = {"q": floats(1, 2, 5, 4), "k": floats(1, 2, 5, 4), "v": floats(1, 2, 5, 4)}
    compare(node("Attention", list(heads), ["y"], is_causal=1), heads, opset=23)
    angles = {"c": floats(1, 5, 2), "s": floats(1, 5, 2)}
    compare(node("RotaryEmbedding", ["q", *angles], ["y"]), {"q": heads["q"]}, angles, opset=23)
    shape = {"s": np.array([4, 2])}
    compare(node("CenterCropPad", ["q", "s"], ["y"], axes=[1, 2]), {"q": heads["q"]}, shape)


TESTED_ELSEWHERE = {"CastLike", "SimplifiedLayerNormalization", "Shape", "Size"}


def test_every_operator_is_tested():
    text = Path(__file__).read_text("utf-8")
    assert not [op for op in OPERATORS if op not in TESTED_ELSEWHERE and op not in text]
