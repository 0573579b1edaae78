"""How a product with what is kept of a tensor is cut up for a CPU.

Enters: a `KeptProduct` with lanes. Leaves: a `KeptPlan`: lanes of a strip, and how many entries
make a block, whose part of a panel fits the first cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects.builtin import VectorType
from xdsl.ir import Attribute

from hectorite.dialects.graph import StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.emit.kept_block import fits_block
from hectorite.lowering.emit.kept_gather import fits_gather
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.kept import KeptProduct, match_kept

PANEL_BYTES = 24 << 10
"""The part of a panel that a block of steps reads: together with rows of results and of values it
fits the first cache."""

LEAST_ENTRIES = 16
"""Entries of a row that a block of steps has at least, so that taking up the row's sums and putting
them down is little beside them."""

LANES = 64
"""The most lanes of a strip, for elements of four bytes."""

PACKED_STEPS = 256
"""Steps of a panel that a task packs."""

REGISTERS, REGISTER_BYTES = 16, 64
"""Registers of sums that are added to before the first has its result."""

TASK_ROWS = 128
"""The most rows of a task; their sums stay in the second cache."""


@dataclass(frozen=True)
class KeptPlan:
    """Sizes of one product. `width` lanes make a strip, `steps` chunks of entries a block."""

    product: KeptProduct
    statement: StatementOp
    width: int
    steps: int

    @staticmethod
    def of(product: KeptProduct, statement: StatementOp) -> KeptPlan:
        extent = dict(statement.variables.data)[str(product.lanes)]
        assert isinstance(extent, int)
        item = element_of(statement.value.type).storage.itemsize
        most = LANES * 4 // item
        width = most if extent >= most else max(16, 1 << (extent - 1).bit_length())
        row = width * item * product.format.group * product.chunk // product.format.keep
        least = -(-LEAST_ENTRIES // product.chunk)
        return KeptPlan(product, statement, width, max(least, PANEL_BYTES // row))

    @property
    def sums(self) -> int:
        """Sums of a row that entries are added to in turn, so that none waits for another."""
        registers = self.width * element_of(self.type).storage.itemsize // REGISTER_BYTES
        return max(1, REGISTERS // registers)

    @property
    def dims(self) -> dict[str, Dim]:
        return dict(self.statement.variables.data)

    @property
    def type(self) -> Attribute:
        """The type that is accumulated in."""
        return self.statement.value.type

    @property
    def lanes(self) -> VectorType[Attribute]:
        return VectorType(self.type, [self.width])

    @property
    def extent(self) -> int:
        """Lanes of the result."""
        extent = self.dims[str(self.product.lanes)]
        assert isinstance(extent, int)
        return extent

    @property
    def strips(self) -> int:
        return -(-self.extent // self.width)

    @property
    def groups(self) -> int:
        return self.product.groups

    @property
    def chunk_groups(self) -> int:
        """Groups that a chunk of entries is of."""
        return self.product.chunk // self.product.format.keep

    @property
    def chunks(self) -> int:
        """Whole chunks of a row."""
        return self.groups // self.chunk_groups

    @property
    def depth(self) -> int:
        """Steps k."""
        extent = self.product.dense.type.dims[self.product.inner_axis]
        assert isinstance(extent, int)
        return extent

    @property
    def panel_loops(self) -> tuple[str, ...]:
        """Loops that the panels depend on."""
        used = {name for e in self.product.dense.access.data for name in e.variables}
        return tuple(name for name in self.product.loops if name in used)

    @property
    def panels(self) -> TensorType:
        dims = [self.dims[name] for name in self.panel_loops]
        return TensorType.of(self.type, (*dims, self.strips, self.depth, self.width))

    @property
    def flags(self) -> TensorType:
        """For each part of a panel 0, or NaN if it holds what is not finite."""
        return TensorType.of(self.type, (*self.panels.dims[:-2], self.parts))

    @property
    def parts(self) -> int:
        """Parts of a panel that tasks pack."""
        return -(-self.depth // PACKED_STEPS)

    @property
    def is_float(self) -> bool:
        return element_of(self.type).is_float


def kept_product(statement: StatementOp, machine: Machine) -> KeptProduct | None:
    """A statement as a product with what is kept of a tensor that has kernels of its own; None if
    it is done as any other."""
    product = match_kept(statement)
    if product is None or not machine.is_gpu:
        return product
    fits = fits_block(product, statement) or fits_gather(product, statement)
    return product if fits else None
