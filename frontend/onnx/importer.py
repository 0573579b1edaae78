"""ONNX models as programs: a graph function, and the arrays that the model holds.

Enters: a path or an `onnx.ModelProto`, and numbers for lengths that are names. Leaves: an
`Imported`: a module of the `graph` dialect with one function, whose first parameters are the inputs
of the model and whose last are its initialisers; these come beside it as arrays.

    y = Relu(MatMul(x, w))      y[m, n] += x[m, k] * w[k, n];  z[i0, i1] = relu(y[i0, i1])

Each node becomes a few statements by the table of its file. Nodes that none has, and nodes with
attributes that a table refuses, are all told in one error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, BlockArgument, Region
from xdsl.utils.exceptions import VerifyException

from hectorite.dialects.graph import FuncOp, ReturnOp
from hectorite.dialects.graph_sets import DimOp, SetOp
from hectorite.frontend.onnx import import_elementwise as onnx_import_elementwise
from hectorite.frontend.onnx import import_gather as onnx_import_gather
from hectorite.frontend.onnx import import_layout as onnx_import_layout
from hectorite.frontend.onnx import import_product as onnx_import_product
from hectorite.frontend.onnx import import_recurrent as onnx_import_recurrent
from hectorite.frontend.onnx import import_reduce as onnx_import_reduce
from hectorite.frontend.onnx import import_window as onnx_import_window
from hectorite.frontend.onnx.data import IndexSet
from hectorite.frontend.onnx.import_node import Node, Table
from hectorite.frontend.onnx.import_read import (
    array_of,
    check_shapes,
    expanded,
    opset,
    package,
    plain_attribute,
    read_model,
    shape_of,
    with_sizes,
)
from hectorite.frontend.onnx.import_static import static
from hectorite.frontend.onnx.import_types import element_of_code
from hectorite.frontend.onnx.import_values import (
    Array,
    Dims,
    Graph,
    Tensor,
    Unsupported,
    identifier,
)
from hectorite.ir.diagnostics import HectoriteError, did_you_mean, fail
from hectorite.ir.space import TensorType

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

OPERATORS = Table()
"""All operators by name."""

for _file in (
    onnx_import_elementwise,
    onnx_import_gather,
    onnx_import_layout,
    onnx_import_product,
    onnx_import_recurrent,
    onnx_import_reduce,
    onnx_import_window,
):
    OPERATORS.update(_file.OPERATORS)


@dataclass(frozen=True)
class Imported:
    """A model as a program.

    `inputs` gives for each input of the model its parameter, `dims` the shape of each parameter,
    `arrays` the initialisers by
    parameter, `fixed` all parameters that are the same in every call, `index_sets` the sets to be
    bound to indices, and `outputs` the names of the results."""

    name: str
    module: ModuleOp
    function: str
    inputs: dict[str, str]
    dims: dict[str, Dims]
    outputs: tuple[str, ...]
    arrays: dict[str, Array]
    fixed: tuple[str, ...]
    index_sets: tuple[IndexSet, ...]


def import_model(
    path_or_model: Any,
    sizes: Mapping[str, int] | None = None,
    fixed: Collection[str] = (),
) -> Imported:
    """Import a model.

    `sizes` gives numbers to lengths that are names in the model; others stay sizes of the program.
    `fixed` names inputs that are the same in every call, as initialisers are. Raises
    `HectoriteError` for a file that is no model, for one error all operators that are not
    supported, with their counts and nodes, and for lengths that need a number.
    """
    model, name, folder = read_model(path_or_model)
    sizes = dict(sizes or {})
    names = _check_sizes(model, sizes, name)
    with_sizes(model, sizes)
    model = expanded(model, OPERATORS)
    check_shapes(model, name)
    importer = _Importer(model, name, folder, {**names, **sizes})
    importer.inputs()
    for node in model.graph.node:
        importer.node(node)
    importer.raise_problems()
    return importer.imported(sizes, fixed)


def _check_sizes(model: ModelProto, sizes: Mapping[str, int], name: str) -> dict[str, str]:
    """The lengths that are names in a model, with what they are called in the program. Raises
    `HectoriteError` for a size that none of them is."""
    held = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in held]
    found = dict[str, str]()
    for value in inputs:
        for axis, dim in enumerate(shape_of(value)):
            if not isinstance(dim, int):
                found[dim or _unnamed(value.name, axis)] = identifier(
                    dim or _unnamed(value.name, axis)
                )
    for size, number in sizes.items():
        if size not in found:
            listed = ", ".join(f"`{known}`" for known in found) or "none"
            hint = did_you_mean(size, found)
            raise fail(f"{name} has no size `{size}`", expected=f"sizes: {listed}", hint=hint)
        if type(number) is not int or number < 0:
            raise fail(f"the size `{size}` is {number!r}", expected="an integer, 0 or more")
    return found


def _unnamed(name: str, axis: int) -> str:
    """What a length without a name is called."""
    return f"{identifier(name)}_{axis}"


@dataclass
class _Importer:
    model: ModelProto
    name: str
    folder: str
    lengths: dict[str, int | str]
    graph: Graph = field(default_factory=Graph)
    tensors: dict[str, Tensor | None] = field(default_factory=dict[str, "Tensor | None"])
    """By name; None for what an unsupported node would have made."""
    problems: dict[tuple[str, str], list[str]] = field(
        default_factory=dict[tuple[str, str], "list[str]"]
    )
    """The nodes that cannot be imported, by operator and reason."""

    def inputs(self) -> None:
        """Parameters for the inputs, and tensors of known numbers for the initialisers."""
        self.graph.sizes = {str(length) for length in self.lengths.values()}
        for tensor in self.model.graph.initializer:
            try:
                element = element_of_code(tensor.data_type)
            except Unsupported as reason:
                self._problem(f"the initialiser `{tensor.name}`", str(reason), tensor.name)
                self.tensors[tensor.name] = None
                continue
            dims = tuple(tensor.dims)
            known = array_of(tensor, self.folder).reshape(dims)
            self.tensors[tensor.name] = Tensor(dims, element, known=known, name=tensor.name)
        for sparse in self.model.graph.sparse_initializer:
            self._problem("sparse initialisers", "", sparse.values.name)
        for value in self.model.graph.input:
            if value.name not in self.tensors:
                self.tensors[value.name] = self._input(value)

    def _input(self, value: Any) -> Tensor | None:
        if not value.type.HasField("tensor_type"):
            self._problem(f"the input `{value.name}`", "not a tensor", value.name)
            return None
        try:
            element = element_of_code(value.type.tensor_type.elem_type)
        except Unsupported as reason:
            self._problem(f"the input `{value.name}`", str(reason), value.name)
            return None
        if not value.type.tensor_type.HasField("shape"):
            self._problem(f"the input `{value.name}`", "without a shape", value.name)
            return None
        dims = tuple(
            dim if isinstance(dim, int) else self.lengths[dim or _unnamed(value.name, axis)]
            for axis, dim in enumerate(shape_of(value))
        )
        made = self.graph.parameter(value.name, element, dims)
        origin = value.name if element.is_integer else None
        return Tensor(dims, element, made, origin=origin, name=value.name)

    def node(self, proto: NodeProto) -> None:
        """Import one node, or note why that is not possible."""
        outputs = [name for name in proto.output if name]
        taken = [self.tensors.get(name) if name else None for name in proto.input]
        if any(name and tensor is None for name, tensor in zip(proto.input, taken, strict=True)):
            self.tensors |= dict.fromkeys(outputs)
            if proto.op_type not in OPERATORS and proto.op_type != "Constant":
                self._problem(proto.op_type, "", _label(proto))
            return
        try:
            made = self._outputs(proto, taken)
            if len(made) < len(proto.output) and any(proto.output[len(made) :]):
                raise Unsupported(f"with {len(proto.output)} outputs")
            self.tensors |= {n: t for n, t in zip(proto.output, made, strict=False) if n}
        except Unsupported as reason:
            self._problem(_operator(proto), str(reason), _label(proto))
            self.tensors |= dict.fromkeys(outputs)
        except HectoriteError:
            raise
        except Exception as error:  # what attributes and shapes trip over that no checker refuses
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._problem(_operator(proto), f"malformed: {told}", _label(proto))
            self.tensors |= dict.fromkeys(outputs)

    def _outputs(self, proto: NodeProto, taken: Sequence[Tensor | None]) -> Sequence[Tensor]:
        if proto.op_type == "Constant" and proto.domain in ("", "ai.onnx"):
            return [self._constant(proto)]
        node = Node(
            proto.op_type,
            taken,
            list(proto.output),
            {attribute.name: self._attribute(attribute) for attribute in proto.attribute},
            opset(self.model, proto.domain),
        )
        known = static(node, lambda arrays: self._evaluated(proto, node, arrays))
        if known is not None:
            return [
                self._known(array, name) for array, name in zip(known, proto.output, strict=False)
            ]
        if proto.op_type not in OPERATORS or proto.domain not in ("", "ai.onnx", "com.microsoft"):
            raise Unsupported("")
        self.graph.hint = identifier(proto.output[0])
        return OPERATORS[proto.op_type](self.graph, node)

    def _attribute(self, attribute: Any) -> Any:
        value = plain_attribute(attribute)
        if isinstance(value, np.ndarray):
            dims = tuple(attribute.t.dims)
            known = cast(Array, value)
            return Tensor(dims, element_of_code(attribute.t.data_type), known=known)
        return value

    def _constant(self, proto: NodeProto) -> Tensor:
        (attribute,) = proto.attribute
        value = plain_attribute(attribute)
        if attribute.name not in (
            "value",
            "value_float",
            "value_floats",
            "value_int",
            "value_ints",
        ):
            raise Unsupported(attribute.name)
        dtype = np.float32 if "float" in attribute.name else np.int64
        array = cast(Array, value) if isinstance(value, np.ndarray) else np.array(value, dtype)
        return self._known(array, proto.output[0])

    def _known(self, array: Array, name: str) -> Tensor:
        onnx = package()
        code = 7 if array.dtype == object else onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        return Tensor(array.shape, element_of_code(code), known=array, name=name)

    def _evaluated(self, proto: NodeProto, node: Node, arrays: Sequence[Array]) -> Sequence[Array]:
        """A node on arrays, as ONNX itself defines it."""
        onnx = package()
        from onnx.reference import ReferenceEvaluator

        names = [name for name in proto.input if name]
        helper = onnx.helper
        # Operators that are functions by the types of their inputs need these.
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for n, a in dict(zip(names, arrays, strict=True)).items()
        ]
        outputs = [helper.make_tensor_value_info(n, 0, None) for n in proto.output if n]
        graph = helper.make_graph([proto], "one", inputs, outputs)
        version = helper.make_opsetid("", node.opset)
        alone = helper.make_model(graph, opset_imports=[version])
        try:
            evaluator = cast(Any, ReferenceEvaluator(alone))
            found = evaluator.run(None, dict(zip(names, arrays, strict=True)))
        except Exception as error:  # what a wrong node trips over in the evaluator
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise Unsupported(f"on its constants: {reason}") from error
        return [np.asarray(array) for array in found]

    def _problem(self, operator: str, reason: str, node: str) -> None:
        self.problems.setdefault((operator, reason), []).append(node)

    def raise_problems(self) -> None:
        """One error with all that cannot be imported."""
        if not self.problems:
            return
        told = [
            f"{operator}{f' ({reason})' if reason else ''}: {_listed(nodes)}"
            for (operator, reason), nodes in sorted(self.problems.items())
        ]
        raise fail(
            f"{self.name} cannot be imported; not supported are {'; '.join(told)}",
            expected="the operators listed in docs/onnx.md",
        )

    def imported(self, sizes: Mapping[str, int], fixed: Collection[str]) -> Imported:
        """Close the function: results, sets and sizes."""
        graph, results = self.graph, list[Tensor]()
        for value in self.model.graph.output:
            tensor = self.tensors.get(value.name)
            if tensor is None:
                raise fail(f"{self.name} has no node that gives its output `{value.name}`")
            graph.hint = identifier(value.name)
            try:
                results.append(self._result(tensor, results))
            except Unsupported as reason:
                self._problem(f"the output `{value.name}`", str(reason), value.name)
        self.raise_problems()
        values = [graph.value(tensor) for tensor in results]
        for value, info in zip(values, self.model.graph.output, strict=True):
            value.name_hint = identifier(info.name)
        graph.block.add_op(ReturnOp(*values))
        name = identifier(self.model.graph.name or "model")
        types = [argument.type for argument in graph.block.args]
        outputs = [value.type for value in values]
        func = FuncOp(name, graph.names, types, outputs, Region(graph.block))
        module = ModuleOp([*self._declared(sizes), func])
        try:
            module.verify()
        except VerifyException as error:
            line = str(error).strip().splitlines()[0]
            raise fail(f"{self.name} mixes types as no operator can: {line}") from error
        inputs = self._inputs()
        held = {*graph.arrays, *(inputs[name] for name in fixed if name in inputs)}
        return Imported(
            self.name,
            module,
            name,
            inputs,
            {name: _dims(type) for name, type in zip(graph.names, types, strict=True)},
            tuple(value.name for value in self.model.graph.output),
            graph.arrays,
            tuple(name for name in graph.names if name in held),
            tuple(graph.index_sets),
        )

    def _result(self, tensor: Tensor, before: Sequence[Tensor]) -> Tensor:
        """A value of its own for each result."""
        value = self.graph.value(tensor)
        if isinstance(value, BlockArgument) or any(value is other.value for other in before):
            return self.graph.elementwise([tensor], lambda body, x: x)
        return tensor

    def _inputs(self) -> dict[str, str]:
        """The parameter of each input of the model."""
        held = {tensor.name for tensor in self.model.graph.initializer}
        names = [value.name for value in self.model.graph.input if value.name not in held]
        return dict(zip(names, self.graph.names, strict=False))

    def _declared(self, sizes: Mapping[str, int]) -> list[DimOp | SetOp]:
        found: list[DimOp | SetOp] = [DimOp(identifier(n), size) for n, size in sizes.items()]
        for each in self.graph.index_sets:
            found += [SetOp(each.target), SetOp(each.name, {"at": each.target})]
        return found


def _dims(type: Attribute) -> Dims:
    assert isinstance(type, TensorType)
    return type.dims


def _label(proto: NodeProto) -> str:
    """What messages call a node."""
    return proto.name or next((name for name in proto.output if name), "without a name")


def _operator(proto: NodeProto) -> str:
    return proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"


def _listed(nodes: Sequence[str], most: int = 4) -> str:
    shown = ", ".join(nodes[:most])
    rest = f" and {len(nodes) - most} more" if len(nodes) > most else ""
    return f"{len(nodes)} ({shown}{rest})"
