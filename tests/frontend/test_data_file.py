"""Data files: what a program takes from them, and what happens to broken ones."""

import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hectorite.backends.bound.binding import Binding
from hectorite.frontend.data.file import Data, load_data, write_npz
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schema import Schema, SetDecl

SCHEMA = Schema(
    {
        "node": SetDecl("node"),
        "etype": SetDecl("etype"),
        "edge": SetDecl("edge", (("src", "node"), ("dst", "node"))),
    }
)
ARRAYS: dict[str, Any] = {
    "node": np.array(4),
    "etype": np.array(2),
    "edge.src": np.array([0, 3, 1], np.int32),
    "edge.dst": np.array([2, 2, 0], np.int32),
    "edge.type": np.array([0, 1, 0], np.int32),
    "ntype": np.array(1),
    "W": np.ones((2, 3), np.float32),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "graph.npz"
    write_npz(path, ARRAYS)
    return path


@pytest.mark.parametrize("size", [np.nan, 4.5, "four"])
@pytest.mark.parametrize("name", ["node", "edge"])
def test_a_size_that_is_no_integer_is_not_called_missing(name: str, size: object):
    data = Data("graph.npz", ARRAYS | {name: np.array(size)})
    with pytest.raises(HectoriteError, match=f"the size of the set `{name}` is (?!missing)"):
        Binding(SCHEMA, data.sets(SCHEMA))


def test_a_program_takes_what_it_declares(file: Path):
    data = load_data(str(file))
    sets = data.sets(SCHEMA)
    assert set(sets) == {"node", "etype", "edge"} and set(sets["edge"]) == {"src", "dst"}
    binding = Binding(SCHEMA, sets)
    assert binding.size("edge") == 3 and binding.size("node") == 4
    assert list(data.tensors(["W", "h"], SCHEMA)) == ["W"]
    assert data.sizes(["ntype", "W", "O"]) == {"ntype": 1}


@pytest.mark.parametrize("size", [-5, 1 << 40])
def test_sizes_that_no_dimension_has(size: int):
    with pytest.raises(HectoriteError, match=f"the size `D` in here is {size}"):
        Data("here", {"D": np.array(size)}).sizes(["D"])


def test_a_tensor_and_a_set_of_one_name():
    data = Data("d", {"node": np.array(4)})
    assert not data.tensors(["node"], SCHEMA)
    assert list(data.tensors(["node"], Schema())) == ["node"]


def test_sizes_of_sets_with_maps_are_checked():
    data = Data("d", {**ARRAYS, "edge": np.array(7)})
    with pytest.raises(HectoriteError, match="`size` says 7"):
        Binding(SCHEMA, data.sets(SCHEMA))


def test_what_is_absent_is_named():
    arrays = {name: values for name, values in ARRAYS.items() if name != "node"}
    with pytest.raises(HectoriteError, match="node=4 would hold every value"):
        Binding(SCHEMA, Data("d", arrays).sets(SCHEMA))
    arrays = {"edge.sorc": ARRAYS["edge.src"]}
    with pytest.raises(HectoriteError, match=r"d has no `edge.src`(.|\n)*did you mean"):
        Data("d", arrays).sets(SCHEMA)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "is not an .npz file"),
        (b"hello", "is not an .npz file"),
        (b"PK\x03\x04junk", "is not an .npz file"),
    ],
)
def test_files_that_are_no_data(tmp_path: Path, content: bytes | None, message: str):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HectoriteError, match=message):
        load_data(str(path))


def test_a_folder_and_a_single_array(tmp_path: Path):
    with pytest.raises(HectoriteError, match="cannot read"):
        load_data(str(tmp_path))
    np.save(tmp_path / "one.npy", np.ones(3))
    with pytest.raises(HectoriteError, match="one array without a name"):
        load_data(str(tmp_path / "one.npy"))


def test_python_objects_are_refused(tmp_path: Path):
    np.savez(tmp_path / "o.npz", W=np.array([{}, None], object))
    with pytest.raises(HectoriteError, match="cannot read `W`"):
        load_data(str(tmp_path / "o.npz")).tensors(["W"], Schema())


@given(st.data())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.mktemp("damaged") / "x.npz"
    write_npz(path, ARRAYS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        loaded = load_data(str(path))
        Binding(SCHEMA, loaded.sets(SCHEMA))
        loaded.tensors(["W"], SCHEMA)
    except HectoriteError as error:
        assert str(error)


def test_written_files(tmp_path: Path):
    path = tmp_path / "out.npz"
    results = {"y": np.arange(6.0).reshape(2, 3), "z": np.ones(3, ml_dtypes.bfloat16)}
    write_npz(path, results)
    first = path.read_bytes()
    write_npz(path, results)
    assert path.read_bytes() == first
    assert os.listdir(tmp_path) == ["out.npz"]
    read = load_data(str(path))
    assert (read["y"] == results["y"]).all()
    assert read["z"].dtype == np.float32 and (read["z"] == 1).all()


def test_a_place_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(HectoriteError, match="cannot write"):
        write_npz(tmp_path / "none" / "out.npz", {"y": np.ones(1)})
    (tmp_path / "taken.npz").mkdir()
    with pytest.raises(HectoriteError, match="cannot write"):
        write_npz(tmp_path / "taken.npz", {"y": np.ones(1)})
    assert os.listdir(tmp_path) == ["taken.npz"]
