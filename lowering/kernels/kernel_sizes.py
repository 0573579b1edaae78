"""The sizes that a launch passes to a kernel behind its arguments.

Enters: a `tile.kernel`. Leaves: names of sets and sizes, in the order in which they are passed.
"""

from xdsl.ir import SSAValue

from hectorite.dialects.tile import KernelOp, SizeOp
from hectorite.ir.space import TensorType


def kernel_sizes(kernel: KernelOp) -> list[str]:
    """The sets and sizes whose extents a kernel needs, sorted by name."""
    names: set[str] = set()
    results = (r for op in kernel.walk() for r in op.results)
    values: list[SSAValue] = [*kernel.parameters, *results]
    for value in values:
        if isinstance(value.type, TensorType):
            names.update(dim for dim in value.type.dims if isinstance(dim, str) and dim != "_")
    names.update(op.of.data for op in kernel.walk() if isinstance(op, SizeOp))
    return sorted(names)
