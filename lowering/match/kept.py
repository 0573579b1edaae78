"""Recognise products with what is kept of a tensor in the format `nm(N, M)`.

Enters: a statement as `apply-tensor-formats` leaves it. Leaves: its `KeptProduct`, or None.

    C[m, n] += where(V[m, N*g + s] != 0, V[m, N*g + s] * X[4*g + place, n], 0)    rows m, lanes n
    C[b, n, m] += V[m, N*g + s] * X[b, n, 4*g + place]                         loops b

with `place` the code of entry (g, s) of row m. Nothing is matched by name: the code is compared
with what the format says it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm
from typing import cast

from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.scalar import OPERATIONS, CastOp, ConstantOp
from hectorite.ir.space import TensorType
from hectorite.ir.tensor_format import Nm
from hectorite.lowering.formats.nm import decode
from hectorite.lowering.graph.statement_body import Body, factors, operations_of

EIGHT = 8
"""Codes whose bits fill whole bytes, whatever the format."""

LEAST_LANES = 8
"""Fewer points of a variable are no lanes."""

MOST_ENTRIES = 40
"""The most entries that are written out."""


@dataclass(frozen=True)
class KeptProduct:
    """result[loops, row, lane] += values[.., row, N * g + s] * dense[.., M * g + code, .., lane].

    `values` and `dense` are the reads, `codes` the tensor with the codes. `rows` is a variable of
    the values and `lanes` one of the dense tensor, which they do not share, or None if there is
    none with enough points; `loops` are the other variables of the result. `inner_axis` is the
    dimension of the dense tensor that is picked from.
    """

    format: Nm
    values: ReadOp
    codes: SSAValue
    dense: ReadOp
    rows: str
    lanes: str | None
    loops: tuple[str, ...]
    inner_axis: int

    @property
    def chunk(self) -> int:
        """Entries that begin a group as well as a byte."""
        return lcm(EIGHT, self.format.keep)

    @property
    def groups(self) -> int:
        """Groups of a row."""
        extent = self.values.type.dims[-1]
        assert isinstance(extent, int)
        return extent // self.format.keep

    @property
    def outer(self) -> tuple[IndexExpr, ...]:
        """Where a row stands among the values, and among the codes."""
        return self.values.access.data[:-1]


def match_kept(statement: StatementOp) -> KeptProduct | None:
    """`statement` as a product with what is kept of a tensor, or None."""
    dims = dict(statement.variables.data)
    left = [index.variable for index in statement.access.data]
    if statement.kind.data != "add" or statement.type.pad_value is not None:
        return None
    if None in left or len(set(left)) != len(left):
        return None
    parts = [_uncast(part) for part in factors(_unguarded(statement.value))]
    if len(parts) != 2 or not all(isinstance(part.owner, ReadOp) for part in parts):
        return None
    reads = [part.owner for part in parts if isinstance(part.owner, ReadOp)]
    values, dense = sorted(reads, key=lambda read: read.pick is not None)
    if values.pick is not None or dense.pick is None or dense.type.pad_value is not None:
        return None
    format, axis = _format(values, dense, dims)
    entry = _entry(values, dims)
    codes = None if format is None or not entry else _codes(values, dense.pick, format, entry)
    if format is None or codes is None or lcm(EIGHT, format.keep) > MOST_ENTRIES:
        return None
    others = [e.variable for i, e in enumerate(dense.access.data) if i != axis]
    own = [index.variable for index in values.access.data[:-1]]
    if None in others or None in own or not {*others, *own} <= set(left):
        return None
    rows = [str(name) for name in own if name not in others]
    if not rows or set(left) != {*others, *own} or len(set(others)) < len(others):
        return None
    lanes = {str(name): dims[str(name)] for name in others if name not in own}
    fixed = {n: d for n, d in lanes.items() if isinstance(d, int) and d >= LEAST_LANES}
    lane = max(fixed, key=lambda name: fixed[name], default=None)
    loops = tuple(str(name) for name in left if name not in (rows[-1], lane))
    return KeptProduct(format, values, codes, dense, rows[-1], lane, loops, axis)


def _unguarded(value: SSAValue) -> SSAValue:
    """What is added where the entry is not 0; `formats/nm.py` guards it so."""
    op = value.owner
    if not isinstance(op, OPERATIONS["select"]):
        return value
    condition, yes, no = op.operands
    nothing = isinstance(no.owner, ConstantOp) and no.owner.number == 0
    return yes if nothing and isinstance(condition.owner, OPERATIONS["ne"]) else value


def _uncast(value: SSAValue) -> SSAValue:
    return value.owner.input if isinstance(value.owner, CastOp) else value


def _format(values: ReadOp, dense: ReadOp, dims: dict[str, int | str]) -> tuple[Nm | None, int]:
    """The format, by the extents that entries have and by how far groups are apart, with the axis
    of the dense tensor that is picked from."""
    entry = _entry(values, dims)
    picked = None if dense.picked is None else dense.picked.data
    places = [i for i, e in enumerate(dense.access.data) if picked in e.variables]
    if entry is None or len(places) != 1:
        return None, 0
    (group, slot), index = entry, dense.access.data[places[0]]
    keep = dims[slot]
    steps = [term.coefficient for term in index.terms if term.path == Path(group)]
    if len(steps) != 1 or not isinstance(keep, int):
        return None, 0
    whole = IndexExpr.make((Term(steps[0], Path(group)), Term(1, Path(str(picked)))))
    return (Nm(keep, steps[0]) if index == whole else None), places[0]


def _entry(values: ReadOp, dims: dict[str, int | str]) -> tuple[str, str] | None:
    """The variables of groups and of the entries in one, if the values lie by them."""
    if not values.access.data or len(names := values.access.data[-1].variables) != 2:
        return None
    for group, slot in (names, names[::-1]):
        keep, groups = dims[slot], dims[group]
        if isinstance(keep, int) and isinstance(groups, int):
            entry = IndexExpr.make((Term(keep, Path(group)), Term(1, Path(slot))))
            if values.access.data[-1] == entry and values.type.dims[-1] == keep * groups:
                return group, slot
    return None


def _codes(values: ReadOp, pick: SSAValue, format: Nm, entry: tuple[str, str]) -> SSAValue | None:
    """The tensor that the code of the entry is read from, if it is that code."""
    tensors = {op.tensor for op in operations_of(pick) if isinstance(op, ReadOp)}
    if len(tensors) != 1:
        return None
    codes = tensors.pop()
    if cast(TensorType, codes.type).element_type.name != "u8":
        return None
    wanted = decode(Body(), codes, values.access.data[:-1], *entry, format)
    return codes if _alike(pick, wanted) else None


def _alike(one: SSAValue, other: SSAValue) -> bool:
    """Whether two values are computed in the same way."""
    a, b = one.owner, other.owner
    if not isinstance(a, Operation) or not isinstance(b, Operation) or one == other:
        return one == other
    if type(a) is not type(b) or a.properties != b.properties:
        return False
    return all(_alike(x, y) for x, y in zip(a.operands, b.operands, strict=True))
