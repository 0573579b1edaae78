"""ONNX models as they come: reading a file, and what has to hold before nodes are looked at.

Enters: a path or an `onnx.ModelProto`. Leaves: a checked model of opset 13 or later whose functions
are put in where they are called, or one diagnostic. Nothing else imports the package `onnx`, which
is an extra.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.ir.diagnostics import did_you_mean, fail

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

Array = np.ndarray[Any, Any]
OLDEST = 13
"""The first opset in which axes are inputs; older models can be converted."""

ALWAYS_KNOWN = ("Constant", "Range")
"""Operators that are computed while a model is imported, however ONNX defines them."""

LARGE = 1024
"""Initialisers of more bytes are not shown to shape inference, which copies the model."""


def package() -> ModuleType:
    """The package `onnx`. Raises `HectoriteError` if it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise fail(
            "ONNX models need the package `onnx`, which is not installed",
            hint='pip install "hectorite[onnx]"',
        ) from error
    return onnx


def read_model(path_or_model: ModelProto | str | os.PathLike[str]) -> tuple[ModelProto, str, str]:
    """The model, what messages call it, and the folder that its external data is relative to.

    Raises `HectoriteError` if there is no such file, or it does not hold a valid model.
    """
    onnx = package()
    name, folder = "<model>", ""
    if isinstance(path_or_model, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(path_or_model)
    elif isinstance(path_or_model, str | os.PathLike):
        name = str(Path(path_or_model))
        model, folder = _read_file(name), str(Path(name).parent)
    else:
        given = type(path_or_model).__name__
        raise fail(f"{given} is no type of models", expected="a path, or an onnx.ModelProto")
    try:
        # A model with weights beside it, or too large for one message, is checked as a file.
        whole = isinstance(path_or_model, onnx.ModelProto)
        onnx.checker.check_model(model if whole else name)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise fail(f"{name} is not a valid ONNX model: {_first_line(error)}") from error
    versions = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    version = versions.get("ai.onnx", OLDEST)
    if version < OLDEST:
        raise fail(
            f"{name} is written for opset {version}",
            expected=f"opset {OLDEST} or later",
            hint=f"onnx.version_converter.convert_version(model, {OLDEST + 4}) converts it",
        )
    return model, name, folder


def _read_file(name: str) -> ModelProto:
    onnx = package()
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        folder = Path(name).parent
        beside = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        hint = did_you_mean(Path(name).name, beside)
        raise fail(
            f"cannot read {name}: {error.strerror or error}",
            expected="the path of an ONNX model",
            hint=hint,
        ) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # the parser of protobuf has exceptions of its own
        raise fail(f"{name} is not an ONNX model, or it is damaged") from error
    if not model.HasField("graph"):
        raise fail(f"{name} is not an ONNX model, or it is damaged")
    return model


def expanded(model: ModelProto, supported: Collection[str]) -> ModelProto:
    """The model with its functions put in, and with those operators that are not in `supported`
    and that ONNX itself defines by others."""
    from onnx.inliner import inline_local_functions

    while True:
        model = inline_local_functions(model) if model.functions else model
        if not (_define_by_others(model, supported) or _define_by_types(model, supported)):
            return model


def _foreign(model: ModelProto, supported: Collection[str]) -> list[tuple[NodeProto, Any]]:
    """The nodes of operators that are not supported, with how ONNX defines them."""
    onnx, version = package(), opset(model)
    return [
        (node, onnx.defs.get_schema(node.op_type, version))
        for node in model.graph.node
        if node.domain in ("", "ai.onnx")
        and node.op_type not in (*supported, *ALWAYS_KNOWN)
        and onnx.defs.has(node.op_type)
    ]


def _define_by_others(model: ModelProto, supported: Collection[str]) -> bool:
    """Add functions for operators that ONNX defines by others; whether there are any."""
    found = {schema.name: schema for _, schema in _foreign(model, supported) if schema.has_function}
    model.functions.extend(_defined(schema, opset(model)) for schema in found.values())
    return bool(found)


def _define_by_types(model: ModelProto, supported: Collection[str]) -> bool:
    """The same for operators whose definition depends on types, a function for each node."""
    onnx, version = package(), opset(model)
    nodes = [(n, s) for n, s in _foreign(model, supported) if s.has_context_dependent_function]
    if not nodes:
        return False
    inferred = onnx.shape_inference.infer_shapes(_without_weights(model))
    graph = inferred.graph
    types = {v.name: v.type for v in (*graph.input, *graph.value_info, *graph.output)}
    for tensor in graph.initializer:
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        types[tensor.name] = info.type
    none, found = onnx.TypeProto(), False
    for number, (node, schema) in enumerate(nodes):
        known = [types.get(name, none).SerializeToString() for name in node.input]
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        text = node.SerializeToString()
        body = schema.get_context_dependent_function_with_opset_version(max(versions), text, known)
        function = onnx.FunctionProto()
        function.ParseFromString(body)
        if not function.node:
            continue
        _same_opset(function, version)
        function.domain, function.name = "hectorite", f"{node.op_type}{number}"
        function.attribute.extend(attribute.name for attribute in node.attribute)
        node.domain, node.op_type = function.domain, function.name
        model.functions.append(function)
        found = True
    if found and all(entry.domain != "hectorite" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("hectorite", 1))
    return found


def _defined(schema: Any, version: int) -> Any:
    """The function by which ONNX defines an operator, with the defaults of its attributes."""
    onnx = package()
    function = onnx.FunctionProto()
    function.CopyFrom(schema.function_body)
    function.domain = ""
    function.name = schema.name
    _same_opset(function, version)
    del function.attribute[:]
    del function.attribute_proto[:]
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            function.attribute_proto.append(attribute.default_value)
        else:
            function.attribute.append(name)
    return function


def _same_opset(function: Any, version: int) -> None:
    """Let a function be of the opset of the model, as others are not put in."""
    del function.opset_import[:]
    function.opset_import.append(package().helper.make_opsetid("", version))


def opset(model: ModelProto, domain: str = "") -> int:
    """The version of a domain that a model is written for."""
    names = ("", "ai.onnx") if domain in ("", "ai.onnx") else (domain,)
    return max((e.version for e in model.opset_import if e.domain in names), default=1)


def plain_attribute(attribute: AttributeProto) -> Any:
    """An attribute in Python's terms; tensors are arrays, texts are text."""
    onnx = package()
    value: Any = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return array_of(value, "")
    if attribute.type == onnx.AttributeProto.STRINGS:
        return [part.decode("utf-8", "replace") for part in value]
    several = (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS)
    return list(value) if attribute.type in several else value


def array_of(tensor: TensorProto, folder: str) -> Array:
    """The numbers of a tensor, external data relative to `folder`. Raises `HectoriteError` if they
    cannot be read."""
    onnx = package()
    try:
        return onnx.numpy_helper.to_array(tensor, folder)
    except Exception as error:  # missing files, wrong lengths, unknown types: each in its own way
        raise fail(f"cannot read the tensor `{tensor.name}`: {_first_line(error)}") from error


def check_shapes(model: ModelProto, name: str) -> None:
    """Raises `HectoriteError` if ONNX infers that the shapes of a model do not fit together."""
    onnx = package()
    try:
        # Propagating data would find more, but refuses some models that are right.
        onnx.shape_inference.infer_shapes(_without_weights(model), strict_mode=True)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise fail(f"the shapes of {name} do not fit: {_first_line(error)}") from error


def _inferable(node: NodeProto) -> NodeProto:
    """The node, or one that gives the same shape where ONNX has no rule for the operator."""
    if node.op_type != "GroupNormalization" or node.domain not in ("", "ai.onnx"):
        return node
    return package().helper.make_node("Identity", node.input[:1], node.output[:1])


def _without_weights(model: ModelProto) -> ModelProto:
    """The model with large initialisers as inputs, of which shape inference needs only shapes."""
    onnx = package()
    light = onnx.ModelProto()
    for entry in model.opset_import:
        light.opset_import.append(entry)
    light.ir_version = model.ir_version
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(_inferable(node) for node in model.graph.node)
    graph.output.extend(model.graph.output)
    graph.input.extend(model.graph.input)
    known = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims, dtype=np.int64)) * 8 <= LARGE:
            graph.initializer.append(tensor)
        elif tensor.name not in known:
            helper = onnx.helper
            info = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(info)
    return light


def shape_of(value: ValueInfoProto) -> tuple[int | str | None, ...]:
    """The declared lengths of a value: numbers, names, or None."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)
        for dim in value.type.tensor_type.shape.dim
    )


def with_sizes(model: ModelProto, sizes: Mapping[str, int]) -> None:
    """Put numbers in the place of named lengths, in the inputs and outputs."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
