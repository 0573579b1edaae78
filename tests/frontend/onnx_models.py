"""Small ONNX models for the tests, and what they give: by ONNX's own evaluator, and by ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hectorite.backends.reference.interpreter import run_reference
from hectorite.frontend.onnx.importer import Imported, import_model

Array = np.ndarray[Any, Any]
OPSET = 20


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Array],
    constants: Mapping[str, Any] | None = None,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    opset: int = OPSET,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of some nodes; what no node takes is a result. `shapes` declares inputs otherwise
    than by the arrays that are given for them."""
    taken = {name for node in nodes for name in node.input}
    made = [name for node in nodes for name in node.output if name]
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info(
                name,
                helper.np_dtype_to_tensor_dtype(array.dtype),
                (shapes or {}).get(name, array.shape),
            )
            for name, array in inputs.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in made if name not in taken],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in (constants or {}).items()],
    )
    version = helper.make_opsetid("", opset)
    versions = [version, *(helper.make_opsetid(f.domain, 1) for f in functions)]
    model = helper.make_model(graph, opset_imports=versions, functions=functions, ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    for value in model.graph.output:
        if not value.type.HasField("tensor_type"):
            like = next(iter(inputs.values())).shape
            value.CopyFrom(helper.make_tensor_value_info(value.name, 1, like))
    return model


def by_onnx(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """The results as ONNX defines them."""
    return ReferenceEvaluator(model).run(None, dict(inputs))


def by_us(imported: Imported, inputs: Mapping[str, Array]) -> tuple[Array, ...]:
    """The results of the graph level."""
    sizes = dict[str, int]()
    maps = dict[tuple[str, str], Array]()
    for each in imported.index_sets:
        source = inputs[each.source] if isinstance(each.source, str) else each.source
        rows = each.rows
        assert isinstance(rows, int)
        indices = source.ravel()
        sizes |= {each.target: rows, each.name: indices.size}
        maps[each.name, "at"] = np.where(indices < 0, indices + rows, indices).astype(np.int32)
    arguments = {imported.inputs[name]: array for name, array in inputs.items()}
    return run_reference(
        imported.module, imported.function, sizes, maps, arguments | imported.arrays
    )


def compare(
    nodes: Sequence[onnx.NodeProto] | onnx.NodeProto,
    inputs: Mapping[str, Array],
    constants: Mapping[str, Any] | None = None,
    opset: int = OPSET,
) -> Imported:
    """Import a model and compare: shapes exactly, floats to the precision of ONNX's evaluator."""
    nodes = [nodes] if isinstance(nodes, onnx.NodeProto) else nodes
    model = model_of(nodes, inputs, constants, opset=opset)
    imported = import_model(model)
    for want, got in zip(by_onnx(model, inputs), by_us(imported, inputs), strict=True):
        close(got, want)
    return imported


def close(got: Array, want: Array) -> None:
    """Equal, floats up to the rounding of a computation in the type of `want`."""
    want = np.asarray(want)
    assert got.shape == want.shape
    if want.dtype.kind in "fV":
        step = 4e-3 if want.dtype.itemsize == 2 else 3e-5
        np.testing.assert_allclose(got, want.astype(np.float64), rtol=step, atol=step)
    else:
        np.testing.assert_array_equal(got, want)
