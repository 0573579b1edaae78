"""Programs as ONNX models: a function of the graph level to nodes.

Enters: a program, and numbers for sizes. Leaves: an `onnx.ModelProto` of opset 20. Tensors and
scalars are inputs by their names, the maps of sets inputs `SET.FIELD`, sets and sizes the names of
lengths; the initialisers of an imported model are initialisers again.

    y[e.dst, o] += x[e.src, o]      Gather(x, edge.src), ScatterND(..., edge.dst)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import FuncOp, ReturnOp, SoftmaxOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.frontend.compiled.facts import check_sizes, pick_function
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.request import only
from hectorite.frontend.onnx.data import Given
from hectorite.frontend.onnx.export_scalar import scalar
from hectorite.frontend.onnx.export_statement import Statement, pieces
from hectorite.frontend.onnx.export_values import Emitter, Impossible, Value, code_of
from hectorite.frontend.onnx.import_read import package
from hectorite.frontend.program_text import CODE, ProgramLike, ProgramText, read_program
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, fail
from hectorite.ir.element import element_of
from hectorite.ir.schema import Schema
from hectorite.ir.space import TensorType, access_text
from hectorite.lowering.graph.expand_softmax import ExpandSoftmax
from hectorite.lowering.graph.specialize_sizes import specialize
from hectorite.lowering.graph.statement_body import indices_of

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 20


def to_onnx(
    path_or_source: ProgramLike,
    path: str | os.PathLike[str] | None = None,
    function: str | None = None,
    sizes: Mapping[str, int] | None = None,
) -> ModelProto:
    """A function of a program (the last one by default) as an ONNX model, written to `path` too if
    that is given.

    `sizes` gives numbers to sizes; others stay names, as far as its statements allow. Raises
    `HectoriteError` naming every statement that has no ONNX form, with the reason.
    """
    package()
    text = read_program(path_or_source, sizes)
    facts = facts_of(text, None)
    known = check_sizes(facts, sizes or {})
    model = export(text, pick_function(facts, function, text.name), known)
    if path is not None:
        try:
            Path(path).write_bytes(model.SerializeToString(deterministic=True))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise fail(f"cannot write {os.fspath(path)}: {reason}") from error
    return model


def export(text: ProgramText, function: str, sizes: Mapping[str, int]) -> ModelProto:
    """The model of one function."""
    if text.form in (*CODE, "tile"):
        raise fail(
            f"{text.name} is of the level {text.form}, from which onnx cannot be made",
            expected="a program, or IR of the levels graph or graph-opt",
        )
    module = only(text.module, function)
    fixed = {n: v for n, v in schema_of(module).sizes.items() if v is not None}
    specialize(module, {**fixed, **sizes})
    if any(_axis(op) is None for op in module.walk() if isinstance(op, SoftmaxOp)):
        ExpandSoftmax().apply(Context(), module)
    return _Exporter(module, text.name, text.given or Given({}, (), {})).model()


def _axis(op: SoftmaxOp) -> int | None:
    """The axis of a softmax along one, None if it is another."""
    keys = {key.variable for key in op.keys.data}
    free = [axis for axis, (name, _) in enumerate(op.variables.data) if name not in keys]
    return free[0] if len(free) == 1 and None not in keys else None


class _Exporter:
    def __init__(self, module: ModuleOp, name: str, given: Given):
        self.name = name
        self.schema: Schema = schema_of(module)
        (self.func,) = (op for op in module.ops if isinstance(op, FuncOp))
        self.given = given
        self.arrays = {n: a for n, a in given.arrays.items() if n in self.func.names}
        self.emitter = Emitter()
        self.values = dict[SSAValue, str]()
        self.faults = list[Diagnostic]()
        self.infos = list[Any]()

    def model(self) -> ModelProto:
        """The finished model, checked."""
        self._inputs()
        results = list[str]()
        for op in self.func.body.block.ops:
            if isinstance(op, ReturnOp):
                results = [self.values.get(value, "") for value in op.values]
            else:
                self._operation(op)
        if self.faults:
            raise HectoriteError(self.faults)
        return self._closed(results)

    def _inputs(self) -> None:
        helper = package().helper
        for name, argument in zip(self.func.names, self.func.body.block.args, strict=True):
            given = self.emitter.fresh(name)
            self.values[argument] = given
            type = argument.type
            dims = type.dims if isinstance(type, TensorType) else ()
            element = type.element_type if isinstance(type, TensorType) else element_of(type)
            try:
                code = code_of(element)
            except Impossible as reason:
                raise fail(f"the parameter `{name}` cannot be exported: {reason}") from reason
            for axis, dim in enumerate(dims):
                if isinstance(dim, str):
                    self.emitter.extents.setdefault(dim, (given, axis))
            if name in self.arrays:
                array = np.ascontiguousarray(self.arrays[name], element.storage)
                self.emitter.constants[given] = package().numpy_helper.from_array(array, given)
            else:
                self.infos.append(helper.make_tensor_value_info(given, code, dims))
        self._maps()

    def _maps(self) -> None:
        """The maps that statements follow, as inputs int64, and those of an imported model as what
        they were there: constants, or an input."""
        if not any(_follows_maps(op) for op in self.func.body.block.ops):
            return
        imported = {each.name: each.source for each in self.given.index_sets}
        for decl in self.schema.sets.values():
            if not decl.given:
                continue
            for field, target in decl.fields:
                if decl.name in imported:
                    name = self._indices(imported[decl.name])
                else:
                    name = f"{decl.name}.{field}"
                    self.emitter.taken.add(name)
                    info = package().helper.make_tensor_value_info(name, 7, [decl.name])
                    self.infos.append(info)
                self.emitter.maps[decl.name, field] = name
                self.emitter.targets[decl.name, field] = target
                self.emitter.extents.setdefault(decl.name, (name, 0))

    def _indices(self, source: Any) -> str:
        """The elements of an array, or of the input of a name, as one row of int64."""
        if not isinstance(source, str):
            return self.emitter.constant(np.ravel(source))
        argument = self.func.body.block.args[self.func.names.index(self.given.inputs[source])]
        whole = self.emitter.op("Cast", self.values[argument], to=7)
        return self.emitter.op("Reshape", whole, self.emitter.constant([-1]))

    def _operation(self, op: Operation) -> None:
        (result,) = op.results
        self.emitter.hint = result.name_hint or "t"
        if any(value not in self.values for value in self._read(op)):
            return  # what an earlier fault left out
        try:
            if isinstance(op, StatementOp):
                self.values[result] = self._statement(op)
            elif isinstance(op, SoftmaxOp):
                axis = _axis(op)
                source = self._known(op.input)
                self.values[result] = self.emitter.op("Softmax", source, axis=axis)
            else:
                operands = [Value(self._known(value)) for value in op.operands]
                self.values[result] = scalar(self.emitter, op, operands, ()).name
        except Impossible as reason:
            self.faults.append(
                Diagnostic(
                    f"`{_text(op)}` cannot be exported to ONNX: {reason}",
                    expected="a statement that has an ONNX form, see docs/onnx.md",
                )
            )

    def _statement(self, op: StatementOp) -> str:
        found = pieces(op)
        if found is not None:
            axis, parts = found
            named = [Statement(self.emitter, part, self._known).piece() for part in parts]
            return self.emitter.op("Concat", *named, axis=axis)
        following = op
        while following.result.uses.get_length() == 1:
            (use,) = following.result.uses
            after = use.operation
            if not isinstance(after, StatementOp) or after.init is not following.result:
                break
            following = after
            whole = pieces(following)
            if whole is not None and op in whole[1]:
                return ""  # the last piece puts all together
        return Statement(self.emitter, op, self._known).result()

    def _read(self, op: Operation) -> list[SSAValue]:
        """What an operation takes from outside of it."""
        inner = {result for each in op.walk() for result in each.results}
        return [v for each in op.walk() for v in each.operands if v not in inner]

    def _known(self, value: SSAValue) -> str:
        return self.values[value]

    def _closed(self, results: list[str]) -> ModelProto:
        onnx, names = package(), list[str]()
        helper = onnx.helper
        outputs = list[Any]()
        last = self.func.end
        assert last is not None
        for place, (value, made) in enumerate(zip(last.operands, results, strict=True)):
            # A result has a name of its own, even if it is an input or another result.
            name = self.emitter.fresh(value.name_hint or f"result{place}")
            self.emitter.nodes.append(helper.make_node("Identity", [made], [name]))
            names.append(name)
            type = value.type
            assert isinstance(type, TensorType)
            info = helper.make_tensor_value_info(name, code_of(type.element_type), type.dims)
            outputs.append(info)
        graph = helper.make_graph(
            self.emitter.nodes,
            self.func.sym_name.data,
            self.infos,
            outputs,
            list(self.emitter.constants.values()),
        )
        versions = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, producer_name="hectorite", opset_imports=versions, ir_version=9
        )
        if model.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF:
            onnx.checker.check_model(model)
        return model


def _follows_maps(op: Operation) -> bool:
    """Whether a statement follows maps."""
    if not isinstance(op, StatementOp):
        return False
    indices = [*op.access.data, *indices_of(op.value)]
    return any(path.fields for index in indices for path in index.paths)


def _text(op: Operation) -> str:
    """What messages call an operation."""
    name = op.results[0].name_hint or "t"
    if isinstance(op, StatementOp):
        sign = "=" if op.kind.data == "assign" else f"{op.kind.data}="
        over = ", ".join(f"{variable}: {dim}" for variable, dim in op.variables.data)
        return f"{name}{access_text(op.access.data)} {sign} ... for {over}"
    return f"{name} = {op.name}"
