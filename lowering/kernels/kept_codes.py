"""What kernels of products with what is kept of a tensor share: codes, and points of loops.

Enters: the number of a chunk of entries, as many as fill whole bytes with their codes. Leaves: the
code of each, taken from its byte, or the two, by known shifts; each byte is loaded once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from xdsl.ir import SSAValue

from hectorite.dialects.tile import LoadOp
from hectorite.ir.space import Dim, TensorType
from hectorite.ir.tensor_format import Nm
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.tile_code import Code, index


def split_point(
    code: Code,
    builder: KernelBuilder,
    number: SSAValue,
    names: Sequence[str],
    dims: Mapping[str, Dim],
) -> dict[str, SSAValue]:
    """The values of loop variables from the number of a point, the last one fastest."""
    found: dict[str, SSAValue] = {}
    for name in reversed(names):
        extent = builder.size(dims[name])
        found[name] = code.scalar("mod", number, extent)
        number = code.scalar("floordiv", number, extent)
    return found


class EntryCodes:
    """The codes of one chunk; each byte is loaded once."""

    def __init__(
        self,
        format: Nm,
        entries: int,
        tensor: SSAValue,
        code: Code,
        outer: Sequence[SSAValue],
        chunk: SSAValue,
    ):
        bytes = entries * format.bits // 8
        self.bits, self.cursor, self.outer = format.bits, code, outer
        self.tensor = tensor
        self.first = code.scalar("mul", chunk, code.constant(bytes))
        self.loaded: dict[int, SSAValue] = {}

    def code(self, entry: int) -> SSAValue:
        """The code of an entry, as an index."""
        code = self.cursor
        byte, shift = divmod(entry * self.bits, 8)
        word = self._byte(byte)
        if shift + self.bits > 8:
            high = code.scalar("mul", self._byte(byte + 1), code.constant(256))
            word = code.scalar("add", word, high)
        down = code.scalar("floordiv", word, code.constant(1 << shift)) if shift else word
        if shift + self.bits == 8:
            return down
        return code.scalar("mod", down, code.constant(1 << self.bits))

    def _byte(self, number: int) -> SSAValue:
        if number not in self.loaded:
            code = self.cursor
            place = [*self.outer, code.plus(self.first, number)]
            element = cast(TensorType, self.tensor.type)
            byte = code.add(LoadOp(self.tensor, place, element.element))
            self.loaded[number] = code.cast(byte, index)
        return self.loaded[number]
