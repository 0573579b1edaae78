"""What a caller of a function has to know: its parameters, results and sizes, apart from any IR.

Enters: a module of the graph level, or of the tile level with its one program. Leaves: a
`Signature` for each function, and plain JSON of it, so that a program from the cache is called
without its IR.

    def rgcn(h: f32[node, I], W: f32[etype, I, O]) -> f32[node, O]

has the parameters `h` and `W`, one result, and the sizes `I` and `O`; `node` and `etype` are sets,
whose sizes come with the binding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hectorite.ir.element import ELEMENTS, ElementType, element_of
from hectorite.ir.schema import Schema

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.ir import Attribute, Operation

    from hectorite.dialects.graph import FuncOp
    from hectorite.dialects.tile_program import ProgramOp

Dim = int | str


@dataclass(frozen=True)
class Parameter:
    """One parameter or result. `dims` is empty for a scalar, and `scalar` tells it from a tensor
    without dimensions."""

    name: str
    element_name: str
    dims: tuple[Dim, ...] = ()
    scalar: bool = False
    format: str | None = None

    @property
    def element(self) -> ElementType:
        return ELEMENTS[self.element_name]

    def __str__(self) -> str:
        shape = f"[{', '.join(map(str, self.dims))}]" if self.dims else ""
        return f"{self.element_name}{shape}"


@dataclass(frozen=True)
class Signature:
    """One function. `sizes` are all names that it uses which are neither sets nor fixed; those
    that no parameter has as a dimension must be given."""

    name: str
    parameters: tuple[Parameter, ...]
    results: tuple[Parameter, ...]
    sizes: tuple[str, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @cached_property
    def determined(self) -> frozenset[str]:
        """Sizes that the shapes of the arguments determine."""
        return frozenset(
            dim for parameter in self.parameters for dim in parameter.dims if isinstance(dim, str)
        )

    def __str__(self) -> str:
        parameters = ", ".join(f"{p.name}: {p}" for p in self.parameters)
        results = ", ".join(map(str, self.results))
        results = f"({results})" if len(self.results) != 1 else results
        return f"{self.name}({parameters}) -> {results}"


def signatures(module: ModuleOp, schema: Schema) -> dict[str, Signature]:
    """The functions of a module by name, in order."""
    from hectorite.dialects.graph import FuncOp
    from hectorite.dialects.tile_program import ProgramOp

    functions = [op for op in module.ops if isinstance(op, FuncOp | ProgramOp)]
    return {op.sym_name.data: _signature(op, schema) for op in functions}


def _signature(op: FuncOp | ProgramOp, schema: Schema) -> Signature:
    parameters = tuple(_parameter(n, type) for n, type in zip(op.names, op.inputs, strict=True))
    results = tuple(_parameter(n, type) for n, type in zip(_result_names(op), op.outputs))  # noqa: B905
    fixed = {name for name, value in schema.sizes.items() if value is not None}
    names = dict.fromkeys(_names_of(op))
    sizes = tuple(name for name in names if name not in schema.sets and name not in fixed)
    return Signature(op.sym_name.data, parameters, results, sizes)


def _result_names(op: FuncOp | ProgramOp) -> list[str]:
    """What the returned values are called, or `result0`, ...; never twice the same."""
    last = op.body.block.last_op
    assert last is not None, "a function ends in a return"
    names: list[str] = []
    for number, value in enumerate(last.operands):
        hint = value.name_hint
        names.append(hint if hint and hint not in names else f"result{number}")
    return names


def _parameter(name: str, type: Attribute) -> Parameter:
    from xdsl.dialects.builtin import StringAttr

    from hectorite.ir.space import TensorType

    if not isinstance(type, TensorType):
        return Parameter(name, element_of(type).name, scalar=True)
    format = type.format.data if isinstance(type.format, StringAttr) else None
    return Parameter(name, type.element_type.name, type.dims, format=format)


def _names_of(op: Operation) -> Iterable[str]:
    """Every name of a set or size in a function."""
    from hectorite.dialects.graph import SizeOp as GraphSizeOp
    from hectorite.dialects.tile import SizeOp as TileSizeOp

    for inner in op.walk():
        if isinstance(inner, GraphSizeOp | TileSizeOp):
            yield inner.of.data
        values = [*inner.results, *(arg for region in inner.regions for arg in _arguments(region))]
        for value in values:
            yield from _names_in(value.type)
        for attribute in inner.properties.values():
            yield from _names_in(attribute)


def _arguments(region: Any) -> Sequence[Any]:
    return region.block.args if region.blocks else ()


def _names_in(attribute: Attribute) -> Iterable[str]:
    from xdsl.dialects.builtin import FunctionType

    from hectorite.ir.space import AccessAttr, TensorType, VariablesAttr

    if isinstance(attribute, TensorType):
        yield from (dim for dim in attribute.dims if isinstance(dim, str) and dim != "_")
    elif isinstance(attribute, VariablesAttr):
        yield from (dim for _, dim in attribute.data if isinstance(dim, str))
    elif isinstance(attribute, FunctionType):
        for type in (*attribute.inputs, *attribute.outputs):
            yield from _names_in(type)
    elif isinstance(attribute, AccessAttr):
        for index in attribute.data:
            yield from (name for term in index.terms for name in term.sizes)
            if index.division is not None and isinstance(index.division[1], str):
                yield index.division[1]
