"""Imported models as programs: called, compiled, on the command line, and what is refused."""

import sys

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.helper import make_node as node  # noqa: E402

import hectorite  # noqa: E402
from hectorite.frontend.cli import main  # noqa: E402
from hectorite.ir.diagnostics import HectoriteError  # noqa: E402
from tests.frontend.onnx_models import by_onnx, close, model_of  # noqa: E402

RNG = np.random.default_rng(5)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def network():
    """A small convolutional network of any batch, and an input for it."""
    nodes = [
        node("Conv", ["data_0", "conv.w", "conv.b"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"]),
        node("Relu", ["n"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Shape", ["p"], ["shape"]),
        node("Gather", ["shape", "zero"], ["batch"]),
        node("Concat", ["batch", "rest"], ["flat"], axis=0),
        node("Reshape", ["p", "flat"], ["f"]),
        node("Gemm", ["f", "fc", "fb"], ["o"], transB=1),
        node("Softmax", ["o"], ["prob_1"]),
    ]
    weights = {"conv.w": floats(2, 3, 3, 3), "conv.b": floats(2), "fc": floats(5, 18)}
    weights |= {"s": floats(2), "t": floats(2), "m": floats(2), "v": np.abs(floats(2))}
    weights |= {"fb": floats(5), "zero": np.array([0]), "rest": np.array([18])}
    x = {"data_0": floats(2, 3, 6, 6)}
    return model_of(nodes, x, weights, {"data_0": ["N", 3, 6, 6]}), x


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(network[0], path)
    return str(path)


def test_a_model_is_called(network):
    model, x = network
    imported = hectorite.from_onnx(model, target="reference")
    (want,) = by_onnx(model, x)
    close(imported(x["data_0"]), want)
    close(imported(data_0=x["data_0"]), want)
    assert imported(floats(3, 3, 6, 6)).shape == (3, 5)
    assert set(imported.fixed) == set(imported.arrays)


def test_a_model_is_compiled(network):
    model, x = network
    imported = hectorite.from_onnx(model, sizes={"N": 2}, target="cpu")
    close(imported(x["data_0"]), by_onnx(model, x)[0])


def test_a_file_is_a_program(file):
    program = hectorite.compile(file, "reference")
    assert "conv_w" in program.functions["net"].signature.names
    text = hectorite.emit(file)
    assert hectorite.emit(text) == text
    assert hectorite.emit(file, "tile", sizes={"N": 1}).count("tile.launch")
    assert str(hectorite.from_onnx(file).module) + "\n" == text


def test_wrong_inputs_are_told(network):
    imported = hectorite.from_onnx(network[0], target="reference")
    for call, message in (
        (lambda: imported(), "`data_0` is missing"),
        (lambda: imported(1, 2), "takes 1 inputs"),
        (lambda: imported(data=1), "did you mean `data_0`"),
        (lambda: imported(np.zeros((1, 3, 6, 6))), "f32"),
    ):
        with pytest.raises(HectoriteError, match=message):
            call()


def test_the_command_line_takes_models(file, capsys):
    assert main(["check", file]) == 0
    assert main(["run", file, "--size", "N=2", "--target", "reference"]) == 0
    assert "2 x 5" in capsys.readouterr().out
    assert main(["emit", file, "--size", "N=1"]) == 0
    assert main(["run", file, "--size", "M=1"]) == 1
    assert "has no size `M`" in capsys.readouterr().err


@pytest.fixture
def lookup():
    """A model that looks rows up by its input."""
    nodes = [node("Gather", ["table", "ids"], ["e"]), node("MatMul", ["e", "w"], ["y"])]
    weights = {"table": floats(10, 4), "w": floats(4, 3)}
    ids = {"ids": np.array([[1, 2, -1]])}
    return model_of(nodes, ids, weights, {"ids": ["B", "S"]}), ids


def test_indices_are_bound(lookup, tmp_path, capsys):
    model, ids = lookup
    imported = hectorite.from_onnx(model, target="reference")
    close(imported(**ids), by_onnx(model, ids)[0])
    assert imported(ids=np.array([[0], [9]])).shape == (2, 1, 3)
    with pytest.raises(HectoriteError, match="holds the index 10"):
        imported(ids=np.array([[10]]))
    path = str(tmp_path / "lookup.onnx")
    onnx.save(model, path)
    assert main(["verify", path, "--size", "B=2", "--size", "S=3"]) == 0
    np.savez(tmp_path / "ids.npz", ids=np.array([[3, 4]]))
    run = ["run", path, "--data", str(tmp_path / "ids.npz"), "--target", "reference"]
    capsys.readouterr()
    assert main(run) == 0
    assert "1 x 2 x 3" in capsys.readouterr().out


def test_names_are_made_parameters():
    nodes = [node("Add", ["a/b:0", "1x_2"], ["s"]), node("Add", ["s", "a.b:0"], ["y"])]
    model = model_of(nodes, {"a/b:0": floats(2), "1x_2": floats(2), "a.b:0": floats(2)})
    imported = hectorite.from_onnx(model)
    assert list(imported.inputs.values()) == ["a_b_0", "_1x_2", "a_b_0v2"]
    again = hectorite.compile(hectorite.emit(imported), "reference", cache=False)
    assert again.functions["net"].signature.names == ("a_b_0", "_1x_2", "a_b_0v2")


def test_lengths_stay_names_where_they_can():
    nodes = [
        node("MatMul", ["x", "w"], ["q"]),
        node("Reshape", ["q", "heads"], ["h"]),
        node("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]),
        node("Softmax", ["t"], ["a"], axis=2),
        node("ReduceMean", ["a"], ["y"], axes=[2], keepdims=0),
    ]
    constants = {"w": floats(4, 6), "heads": np.array([0, 0, 2, 3])}
    x = {"x": floats(2, 5, 4)}
    model = model_of(nodes, x, constants, {"x": ["B", "S", 4]}, opset=17)
    imported = hectorite.from_onnx(model, target="reference")
    close(imported(x["x"]), by_onnx(model, x)[0])
    assert imported(floats(3, 7, 4)).shape == (3, 2, 3)


def test_lengths_that_need_numbers_are_named():
    nodes = [node("Reshape", ["x", "s"], ["y"])]
    x = {"x": floats(2, 5, 4)}
    model = model_of(nodes, x, {"s": np.array([-1, 4])}, {"x": ["B", "S", 4]})
    with pytest.raises(HectoriteError, match='give sizes={"B"'):
        hectorite.from_onnx(model)
    imported = hectorite.from_onnx(model, sizes={"B": 2, "S": 5}, target="reference")
    assert imported(x["x"]).shape == (10, 4)


def test_all_that_is_not_supported_is_told_at_once():
    nodes = [
        node("NonZero", ["x"], ["a"], name="first"),
        node("Cast", ["a"], ["b"], to=1),
        node("Pad", ["x", "p"], ["c"], mode="reflect", name="edge"),
        node("NonZero", ["c"], ["d"], name="second"),
        node("TopK", ["x", "k"], ["e", "f"]),
    ]
    constants = {"p": np.array([1, 1, 0, 0]), "k": np.array([1])}
    with pytest.raises(HectoriteError) as caught:
        hectorite.from_onnx(model_of(nodes, {"x": floats(3, 4)}, constants))
    (told,) = caught.value.diagnostics
    for part in ("NonZero: 2 (first, second)", "TopK: 1 (e)", "Pad (mode=reflect): 1 (edge)"):
        assert part in told.message
    assert "Cast" not in told.message


def test_broken_files_are_told(tmp_path, file):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07no model")
    for given, message in (
        (path, "not an ONNX model"),
        (5, "int is no type of models"),
        (tmp_path / "nett.onnx", "did you mean `net.onnx`"),
        (model_of([node("Relu", ["x"], ["y"])], {"x": floats(2)}, opset=11), "opset 13 or later"),
        (model_of([node("MatMul", ["x", "w"], ["y"])], {"x": floats(2, 3)}, {"w": floats(4, 5)}),
         "do not fit|lengths 3 and 4"),
    ):  # fmt: skip
        with pytest.raises(HectoriteError, match=message) as caught:
            hectorite.from_onnx(given)
        assert len(caught.value.diagnostics) == 1
    assert main(["run", str(path)]) == 1


def test_a_missing_package_is_told(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(HectoriteError, match=r"pip install .hectorite\[onnx\]"):
        hectorite.from_onnx(file)


def test_functions_of_a_model_are_put_in():
    body = [node("Mul", ["u", "u"], ["v"]), node("Add", ["v", "u"], ["w"])]
    versions = [onnx.helper.make_opsetid("", 20)]
    own = onnx.helper.make_function("own", "Grow", ["u"], ["w"], body, versions)
    x = {"x": floats(3)}
    model = model_of([node("Grow", ["x"], ["y"], domain="own")], x, functions=[own])
    close(hectorite.from_onnx(model, target="reference")(x["x"]), by_onnx(model, x)[0])


def test_importing_is_deterministic(network):
    texts = {str(hectorite.from_onnx(network[0]).module) for _ in range(3)}
    assert len(texts) == 1


def test_an_output_that_needs_numbers_is_named():
    x = {"x": floats(2, 3)}
    model = model_of([node("Shape", ["x"], ["s"])], x, shapes={"x": ["N", 3]})
    with pytest.raises(HectoriteError, match=r'the output `s` .*give sizes=\{"N": ...\}'):
        hectorite.from_onnx(model)


def test_constant_indices_beside_an_input_of_indices():
    nodes = [node("Gather", ["x", "i"], ["a"]), node("Gather", ["x", "j"], ["b"])]
    given = {"x": floats(4, 3), "i": np.array([[0, 3], [1, -1]])}
    for indices in (np.array([2, 0, 3]), np.array(-1)):
        model = model_of(nodes, given, {"j": indices})
        for ours, theirs in zip(
            hectorite.from_onnx(model)(**given), by_onnx(model, given), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        # The exported model takes what the imported one did.
        again = hectorite.to_onnx(hectorite.from_onnx(model))
        assert [value.name for value in again.graph.input] == ["x", "i"]
        for ours, theirs in zip(by_onnx(again, given), by_onnx(model, given), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_group_normalisation_of_constants_and_beside_others():
    groups = {"c": floats(2, 4, 3), "s": floats(4), "b": floats(4)}
    nodes = [
        node("GroupNormalization", ["c", "s", "b"], ["n"], num_groups=2),
        node("GroupNormalization", ["x", "s", "b"], ["m"], num_groups=4),
        node("Add", ["n", "m"], ["z"]),
    ]
    x = {"x": floats(2, 4, 3)}
    model = model_of(nodes, x, groups, opset=21)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("z", 1, (2, 4, 3)))
    close(hectorite.from_onnx(model)(**x), by_onnx(model, x)[0])


def test_averages_of_doubles_at_the_border():
    x = {"x": np.random.default_rng(0).standard_normal((1, 2, 5, 4))}
    pool = node("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], pads=[1, 1, 1, 0])
    model = model_of([pool], x)
    close(hectorite.from_onnx(model)(**x), by_onnx(model, x)[0])
