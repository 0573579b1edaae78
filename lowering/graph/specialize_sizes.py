"""`specialize-sizes`: put integers in for named sizes.

Enters: the `graph` dialect. Leaves: the same, where the given sizes, and those that the module
fixes, stand as integers in types, variables, index expressions and values. Sets keep their names:
how many elements they have is data.

With `specialize-sizes{sizes="O=64"}`

    y[n, o] = x[n, -o + O - 1]

becomes

    y[n, o] = x[n, -o + 63]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, IntegerAttr, ModuleOp
from xdsl.ir import Attribute, Operation
from xdsl.passes import ModulePass
from xdsl.rewriter import Rewriter

from hectorite.dialects.graph import SizeOp
from hectorite.dialects.graph_sets import DimOp, schema_of
from hectorite.ir.diagnostics import fail
from hectorite.ir.scalar import ConstantOp
from hectorite.ir.space import AccessAttr, ConditionsAttr, Dim, TensorType, VariablesAttr


@dataclass(frozen=True)
class SpecializeSizes(ModulePass):
    """Put integers in for named sizes."""

    name = "specialize-sizes"

    sizes: tuple[str, ...] = ()
    """Sizes as `NAME=INTEGER`."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        specialize(op, dict(map(_parsed, self.sizes)))


def specialize(module: ModuleOp, sizes: Mapping[str, int]) -> None:
    """Put integers in for the named sizes, and for those that the module itself fixes.

    Raises `HectoriteError` if a name is that of a set, if the size is negative, or if the module
    fixes it otherwise. Names that do not occur are allowed.
    """
    schema = schema_of(module)
    known = {name: value for name, value in schema.sizes.items() if value is not None}
    for name, value in sizes.items():
        if name in schema.sets:
            raise fail(f"`{name}` is a set, whose size comes with the data")
        if known.get(name, value) != value:
            raise fail(
                f"the size of `{name}` cannot be {value}", expected=f"{known[name]}, as declared"
            )
        if value < 0:
            raise fail(f"the size of `{name}` cannot be {value}")
        known[name] = value
    if known:
        for op in list(module.walk()):
            _specialize(op, known)


def _parsed(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not name or not value.isdecimal():
        raise fail(f"`{text}` is not a size", expected="NAME=INTEGER, such as O=64")
    return name, int(value)


def _specialize(op: Operation, sizes: Mapping[str, int]) -> None:
    if isinstance(op, DimOp):
        if op.declared.data in sizes:
            op.value = IntegerAttr(sizes[op.declared.data], 64)
        return
    if isinstance(op, SizeOp) and op.of.data in sizes:
        Rewriter.replace_op(op, ConstantOp(sizes[op.of.data], op.result.type))
        return
    for name, attribute in op.properties.items():
        op.properties[name] = _attribute(attribute, sizes)
    values = [*op.results, *(arg for region in op.regions for arg in region.block.args)]
    for value in values:
        type = _attribute(value.type, sizes)
        if type != value.type:
            Rewriter.replace_value_with_new_type(value, type)


def _attribute(attribute: Attribute, sizes: Mapping[str, int]) -> Attribute:
    if isinstance(attribute, TensorType):
        return attribute.with_dims(_dims(attribute.dims, sizes))
    if isinstance(attribute, AccessAttr):
        return AccessAttr(tuple(index.with_sizes(sizes) for index in attribute.data))
    if isinstance(attribute, ConditionsAttr):
        return ConditionsAttr(
            tuple(
                replace(c, left=c.left.with_sizes(sizes), right=c.right.with_sizes(sizes))
                for c in attribute.data
            )
        )
    if isinstance(attribute, VariablesAttr):
        names = [name for name, _ in attribute.data]
        dims = _dims([dim for _, dim in attribute.data], sizes)
        return VariablesAttr(tuple(zip(names, dims, strict=True)))
    if isinstance(attribute, FunctionType):
        inputs = [_attribute(type, sizes) for type in attribute.inputs]
        return FunctionType.from_lists(inputs, [_attribute(t, sizes) for t in attribute.outputs])
    return attribute


def _dims(dims: Sequence[Dim], sizes: Mapping[str, int]) -> list[Dim]:
    return [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in dims]
