"""Which numbers of distinct tuples the choice of rewrites could need.

Enters: a function of the `graph` dialect. Leaves: for each set with maps the tuples of paths that
its statements depend on, of one to three paths, to be counted once data is bound.

    h[e.src, i] * W[e.type, i, o]  ->  y[e.dst, o]      edge: src, dst, type, (src, type), ...
"""

from itertools import combinations

from hectorite.dialects.graph import FuncOp, IndexOp, ReadOp, SoftmaxOp, StatementOp
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema
from hectorite.ir.space import AccessAttr
from hectorite.lowering.graph.derived_sets import Fields, independent
from hectorite.lowering.graph.statement_body import statements
from hectorite.lowering.kernels.join_walk import walked_joins

Counted = tuple[tuple[str, tuple[Fields, ...]], ...]
"""Sets, and tuples of paths out of them."""

MOST_PATHS = 4
"""Paths out of one set that are combined."""


def counted_paths(func: FuncOp, schema: Schema) -> Counted:
    """What to count for a function, sorted."""
    found = dict[str, dict[Fields, None]]()
    for op in func.body.block.walk():
        holder = op if isinstance(op, StatementOp | SoftmaxOp) else op.parent_op()
        if not isinstance(holder, StatementOp | SoftmaxOp):
            continue
        over = dict(holder.variables.data)
        for index in _indices(op):
            for path in index.paths:
                dim = over.get(path.variable)  # what a read picks is no variable
                if path.fields and isinstance(dim, str) and dim in schema.sets:
                    found.setdefault(dim, {})[path.fields] = None
    # To count elements of a join that is only walked through would be to build it.
    for join in walked_joins(statements(func), schema):
        found.pop(join, None)
    wanted = set[tuple[str, tuple[Fields, ...]]]()
    for owner, paths in found.items():
        few = sorted(paths, key=lambda fields: (len(fields), fields))[:MOST_PATHS]
        for size in (1, 2, 3):
            for chosen in combinations(few, size):
                if len(independent(schema, owner, chosen)) == size:
                    wanted.add((owner, tuple(sorted(chosen))))
    return tuple(sorted(wanted))


def _indices(op: object) -> list[IndexExpr]:
    if not isinstance(op, StatementOp | SoftmaxOp | ReadOp | IndexOp):
        return []
    accesses = (a for a in op.properties.values() if isinstance(a, AccessAttr))
    return [index for access in accesses for index in access.data]
