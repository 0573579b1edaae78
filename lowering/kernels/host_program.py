"""The host program being written: sizes and layouts that are asked for, each once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.ir import SSAValue

from hectorite.dialects.tile import SizeOp
from hectorite.dialects.tile_program import LayoutOp, LengthOp
from hectorite.ir.space import Dim
from hectorite.lowering.kernels.kernel_builder import LAYOUT_TYPE, Layout
from hectorite.lowering.kernels.tile_code import Code


@dataclass
class HostProgram:
    """A cursor in the host program, with what it has asked for so far."""

    code: Code
    layouts: dict[Layout, SSAValue] = field(default_factory=dict[Layout, SSAValue])
    sizes: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])

    def layout(self, request: Layout) -> SSAValue:
        """Bound data."""
        if request not in self.layouts:
            op = LayoutOp(
                request.what, request.of, LAYOUT_TYPE, request.keys, request.path, request.limit
            )
            value = self.code.add(op)
            value.name_hint = request.what
            self.layouts[request] = value
        return self.layouts[request]

    def length(self, request: Layout) -> SSAValue:
        """The number of elements of bound data."""
        return self.code.add(LengthOp(self.layout(request)))

    def size(self, dim: Dim) -> SSAValue:
        """The extent of a dimension."""
        if isinstance(dim, int):
            return self.code.constant(dim)
        if dim not in self.sizes:
            self.sizes[dim] = self.code.add(SizeOp(dim))
        return self.sizes[dim]

    def count(self, dims: Sequence[Dim]) -> SSAValue:
        """The number of tuples of a few dimensions."""
        total = self.size(dims[0])
        for dim in dims[1:]:
            total = self.code.scalar("mul", total, self.size(dim))
        return total

    def parts(self, count: SSAValue, size: int) -> SSAValue:
        """How many parts of `size` there are in `count`, the last not full."""
        rounded = self.code.plus(count, size - 1)
        return self.code.scalar("floordiv", rounded, self.code.constant(size))
