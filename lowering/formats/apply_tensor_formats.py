"""`apply-tensor-formats`: compute on what is kept of tensors that have a storage format.

Enters: the `graph` dialect without softmax, sizes known. Leaves: the same, where parameters in a
format are taken in parts (`ir/tensor_format.py`), and statements over them are over their entries
(`lowering/formats/nm.py`, `bsr.py`). Products with elements that are not kept are left out.

    C[m, n] += W[m, k] * X[k, n]          with W: f32[8, 16] as "nm(1, 4)"

becomes

    C[m, n] += where(W.values[m, k_group + k_kept] != 0.0,
                     W.values[m, k_group + k_kept] * X[4*k_group + k_place, n], 0.0)

with k_place = (W.codes[m, (2*k_group + 2*k_kept) // 8] >> (2*k_group + 2*k_kept) % 8) % 4. A
statement that has a use for elements that are not kept is an error that says why.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp
from hectorite.lowering.formats.bsr import apply_bsr
from hectorite.lowering.formats.nm import apply_nm


@dataclass(frozen=True)
class ApplyTensorFormats(ModulePass):
    """Compute on what is kept of tensors that have a storage format."""

    name = "apply-tensor-formats"

    finite: bool = False
    """Let 0 times anything be taken for 0, as tensor instructions for nm(2, 4) do."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for func in list(op.ops):
            if isinstance(func, FuncOp):
                apply_nm(func, self.finite)
                apply_bsr(op, func)
