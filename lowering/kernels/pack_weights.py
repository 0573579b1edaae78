"""Write the kernel that copies the weights of a product into panels.

    panel[..., strip, k, lane] = weights[..., k, strip * width + lane]

Enters: a product whose weights are wide, or stored with k last. Leaves: a kernel with one task for
each strip, and for each index of the dimensions that are neither k nor n. In a panel the rows of a
strip follow each other, so that a block product reads it from start to end. Lanes past the end of
the last strip are zero.
"""

from dataclasses import dataclass

from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, StoreOp
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.kernel_plan import Product
from hectorite.lowering.kernels.tile_code import Code


@dataclass(frozen=True)
class Panels:
    """The panels of one product: `others` are the dimensions that are neither k nor n."""

    product: Product
    width: int
    extent: int
    depth: int
    others: tuple[tuple[int, Dim], ...]
    """(dimension of the weights, its extent) pairs."""

    @staticmethod
    def of(product: Product, statement: StatementOp) -> "Panels":
        dims = dict(statement.variables.data)
        extent, depth = dims[product.lanes], dims[product.inner]
        assert isinstance(extent, int) and isinstance(depth, int)
        inside = (product.lane_axis, product.inner_axis)
        weights = enumerate(product.weights.type.dims)
        others = tuple((i, dim) for i, dim in weights if i not in inside)
        return Panels(product, product.shape.lanes, extent, depth, others)

    @property
    def strips(self) -> int:
        return -(-self.extent // self.width)

    @property
    def type(self) -> TensorType:
        """The type of the tensor that holds all panels."""
        dims = [dim for _, dim in self.others]
        element = self.product.weights.type.element
        return TensorType.of(element, (*dims, self.strips, self.depth, self.width))


def emit_pack(builder: KernelBuilder, panels: Panels, weights: SSAValue, target: SSAValue) -> None:
    """The body of the kernel; `weights` and `target` are values of the host program."""
    code, product = builder.code, panels.product
    source, packed = builder.parameter(weights), builder.parameter(target)
    strips = code.constant(panels.strips)
    strip = code.scalar("mod", builder.task, strips)
    rest = code.scalar("floordiv", builder.task, strips)
    indices = [code.constant(0)] * len(product.weights.type.dims)
    for position, dim in reversed(panels.others):
        size = builder.size(dim)
        indices[position] = code.scalar("mod", rest, size)
        rest = code.scalar("floordiv", rest, size)
    others = [indices[position] for position, _ in panels.others]
    start = code.scalar("mul", strip, code.constant(panels.width))
    left = code.scalar("sub", code.constant(panels.extent), start)
    valid = code.scalar("min", left, code.constant(panels.width))
    n_axis, k_axis = product.lane_axis, product.inner_axis
    indices[n_axis] = start
    lanes = VectorType(product.weights.type.element, [panels.width])
    zeros = code.constant(0, lanes)

    def row(inner: Code, k: SSAValue, _: object) -> tuple[()]:
        at = [k if i == k_axis else value for i, value in enumerate(indices)]
        value = inner.add(LoadOp(source, at, lanes, n_axis, valid=valid))
        if panels.extent % panels.width:
            inside = inner.scalar("lt", inner.add(LanesOp(panels.width)), valid)
            value = inner.scalar("select", inside, value, zeros)
        place = [*others, strip, k, inner.constant(0)]
        inner.block.add_op(StoreOp(value, packed, place, len(place) - 1))
        return ()

    code.loop(code.constant(0), code.constant(panels.depth), 1, (), row)
