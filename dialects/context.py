"""The xDSL context in which IR of every level parses."""

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.scf import Scf

from hectorite.dialects.graph import Graph
from hectorite.dialects.ptx import Ptx
from hectorite.dialects.sparse import Sparse
from hectorite.dialects.tile import Tile
from hectorite.ir.scalar import Scalar
from hectorite.ir.space import Hec


def make_context() -> Context:
    """A fresh context with builtin, scf and the dialects of hectorite loaded."""
    context = Context()
    for dialect in (Builtin, Scf, Hec, Scalar, Graph, Sparse, Tile, Ptx):
        context.load_dialect(dialect)
    return context
