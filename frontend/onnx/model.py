"""An imported ONNX model as something to call.

Enters: a path or an `onnx.ModelProto`. Leaves: an object whose weights are bound, called with the
inputs of the model; `hectorite.compile`, `emit` and `verify` take it as a program.

    model = hectorite.from_onnx("resnet50.onnx")
    y = model(x)
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.frontend.onnx.data import Given
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.diagnostics import did_you_mean, fail

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.backends.bound.binding import Binding
    from hectorite.frontend.compiled.program import Program
    from hectorite.frontend.onnx.importer import Imported

Array = np.ndarray[Any, Any]
BINDINGS = 8
"""Bindings to indices that are kept: what follows from weights is kept with each."""


class OnnxModel:
    """A model, ready to be called.

    `module` is its program, `function` the only function of that, `arrays` its initialisers by the
    name of the parameter, `fixed` the parameters that are the same in every call, `inputs` the
    parameter of each input. It compiles for its target when it is first called.
    """

    def __init__(self, imported: Imported, target: str | None = None):
        self.name = imported.name
        self.module: ModuleOp = imported.module
        self.function = imported.function
        self.inputs: Mapping[str, str] = imported.inputs
        self.outputs = imported.outputs
        self.arrays: Mapping[str, Array] = imported.arrays
        self.fixed = imported.fixed
        self.target = target
        self._index_sets = imported.index_sets
        self._dims = imported.dims
        self._bindings: OrderedDict[bytes, Binding] = OrderedDict()

    @cached_property
    def program_text(self) -> ProgramText:
        """The program, as everything that takes programs takes it."""
        given = Given(self.arrays, self._index_sets, self.inputs)
        text = str(self.module) + "\n"
        return ProgramText(self.name, text, "graph", ready=self.module, given=given)

    @cached_property
    def program(self) -> Program:
        """The compiled program, its initialisers fixed."""
        from hectorite.frontend.api import compile

        return compile(self, self.target, fixed=self.arrays or None)

    def __call__(self, *inputs: Any, **by_name: Any) -> Any:
        """Run the model on its inputs, in order or by name: arrays of exactly the declared types,
        as the functions of a program take them. Returns an array, or a tuple of them.

        Raises `HectoriteError` naming every input that is missing, unknown or wrong.
        """
        arguments = self._arguments(inputs, by_name)
        function = self.program[self.function]
        if not self._index_sets:
            return function(**arguments)
        return function(self._binding(arguments), **arguments)

    def _arguments(self, inputs: tuple[Any, ...], by_name: dict[str, Any]) -> dict[str, Any]:
        names = list(self.inputs)
        if len(inputs) > len(names):
            raise fail(f"{self.name} takes {len(names)} inputs, not {len(inputs)}")
        arguments = {self.inputs[name]: x for name, x in zip(names, inputs, strict=False)}
        for name, value in by_name.items():
            parameter = self.inputs.get(name, name)
            if parameter not in self.inputs.values():
                listed = ", ".join(f"`{n}`" for n in names)
                hint = did_you_mean(name, names)
                raise fail(f"{self.name} has no input `{name}`", expected=listed, hint=hint)
            if parameter in arguments:
                raise fail(f"the input `{name}` is given twice")
            arguments[parameter] = value
        for name, parameter in self.inputs.items():
            if parameter not in arguments:
                raise fail(f"the input `{name}` is missing", expected=", ".join(names))
        return arguments

    def _binding(self, arguments: Mapping[str, Any]) -> Binding:
        """The sets of this call, and of calls before with the same indices."""
        given = self.program_text.given
        assert given is not None
        sizes = dict[str, int]()
        for name, dims in self._dims.items():
            shape = np.shape(arguments.get(name, self.arrays.get(name)))
            sizes |= {str(dim): length for dim, length in zip(dims, shape, strict=False)}
        sets = given.sets(arguments, sizes)
        key = b"".join(
            np.int64(sets[each.target]).tobytes() + sets[each.name]["at"].tobytes()
            for each in self._index_sets
        )
        if key in self._bindings:
            self._bindings.move_to_end(key)
            return self._bindings[key]
        self._bindings[key] = self.program.bind(**sets)
        if len(self._bindings) > BINDINGS:
            self._bindings.popitem(last=False)
        return self._bindings[key]

    def __repr__(self) -> str:
        inputs = ", ".join(self.inputs)
        return f"<ONNX model {self.name}: {inputs} -> {', '.join(self.outputs)}>"


def from_onnx(
    path_or_model: str | os.PathLike[str] | Any,
    sizes: Mapping[str, int] | None = None,
    target: str | None = None,
    fixed: Collection[str] = (),
) -> OnnxModel:
    """Import an ONNX model: a path, or an `onnx.ModelProto`.

    `sizes` gives numbers to lengths that are names in the model; those left out stay free as far as
    its operators allow that. `target` is that of `compile`. `fixed` names inputs that are the same
    in every call. Raises `HectoriteError` for a file that is no model, for a package that is
    missing, and for all operators that are not supported, in one error.
    """
    from hectorite.frontend.onnx.import_read import package

    package()
    from hectorite.frontend.onnx.importer import import_model

    return OnnxModel(import_model(path_or_model, sizes, fixed), target)
