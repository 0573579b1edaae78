"""IR for the tests of dialects: reading and printing modules, and one that has everything."""

from collections.abc import Callable
from io import StringIO

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser
from xdsl.printer import Printer

from hectorite.dialects.context import make_context


def parse(text: str) -> ModuleOp:
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return module


def print_generic(module: ModuleOp) -> str:
    text = StringIO()
    Printer(text, print_generic_format=True).print_op(module)
    return text.getvalue()


@pytest.fixture(scope="session")
def ir() -> Callable[[str], ModuleOp]:
    """Parses and verifies a module."""
    return parse


@pytest.fixture(scope="session")
def generic() -> Callable[[ModuleOp], str]:
    """The generic form of a module."""
    return print_generic


GRAPH = """
graph.set @row
graph.set @node as "csr(dst)"
graph.set @edge {src: node, dst: node, in: row} as "coo"
graph.derive @pair {a: node} = distinct [e.src] for (e: edge) as pair
graph.derive @both {a: node, b: node} = distinct [2*e.src + 1, f.dst] for (e: edge, f: edge)
  where [e.dst eq f.src, e.src lt @D*f.dst - 1, e.src ne 3, e.src le 4, e.src gt 0, e.src ge 0]
graph.dim @D
graph.dim @K = 4
graph.func @f(%x: !hec.tensor<f32[node, D]>, %u: !hec.tensor<ui3[4], pad 0>,
              %p: !hec.tensor<f64[N], pad inf, as "nm(2, 4)">, %w: f32, %b: i1)
    -> (!hec.tensor<f32[node, D]>, !hec.tensor<f32[]>) {
  %y = graph.statement add [e.dst, d] for (e: edge, d: D) : !hec.tensor<f32[node, D]>
      attributes {form = "some"} {
    %0 = graph.read %x[e.src, (d + 2*e - @D*e.pair.a + 1) floordiv @D] : f32
    %1 = graph.index -e.pair + 3 : i32
    %2 = graph.index d mod 4 : i64
    %3 = graph.size "node" : i32
    %4 = scalar.cast %1 : i32 to f32
    %5 = scalar.mul %0, %4 : f32
    graph.yield %5 : f32
  }
  %z = graph.statement max %y[n, d] for (n: node, d: D) : !hec.tensor<f32[node, D]> {
    %0 = scalar.constant -inf : f32
    graph.yield %0 : f32
  }
  %m = graph.statement mul [] for (n: node, q: 7) : !hec.tensor<f32[]> {
    graph.yield %w : f32
  }
  %a = graph.softmax %z[n, d] by [d] for (n: node, d: D) : !hec.tensor<f32[node, D]>
  graph.return %a, %m : !hec.tensor<f32[node, D]>, !hec.tensor<f32[]>
}
"""

SPARSE = """
graph.set @row
graph.set @col
graph.set @nz {row: row, col: col} as "sgt(16, 8)"
sparse.set @nz_window = "window" of @nz as "sgt(row, col, 16, 8)"
sparse.set @columns {w: nz_window, c: col} = "column" of @nz as "sgt(16, 8)" gives {column: columns, lane: 16}
sparse.set @nz_slot {row: row, col: col, elem: nz, full: 2} = "slot" of @nz as "ell(row)" gives {place: nz_slot}
sparse.set @nz_unique = "unique" of @nz as "dedup(row)" gives {row.unique: nz_unique}
sparse.permute @nz_rows {elem: row} = "rows" of @nz as "permute(row).by(similar)" gives {row.place: nz_rows}
sparse.permute @nz_element {row: nz_rows, col: col, elem: nz} = "element" of @nz as "permute(row).by(similar)" gives {at: nz_element}
sparse.set @sorted {row: nz_rows, col: col, elem: nz, elem_2: nz_element} = "element" of @nz_element as "csr(row)" gives {place: sorted}
"""  # noqa: E501

TILE = """
graph.set @node
graph.set @edge {dst: node, type: node}
tile.program @g(%x: !hec.tensor<f32[node, 8]>) -> (!hec.tensor<f32[node, 8]>) {
  %y = tile.allocate : !hec.tensor<f32[node, 8]>
  %n = tile.size "node"
  %a = tile.layout map of edge path [e.dst] : !hec.tensor<i32[edge]>
  %b = tile.layout order of edge by [e.dst, e.type] : !hec.tensor<i32[edge]>
  %c = tile.layout along of edge by [e.dst] path [e.type] : !hec.tensor<i32[edge]>
  %o = tile.layout sorted of edge by [e.dst] : !hec.tensor<i32[1]>
  %d = tile.layout segments of edge by [e.dst] : !hec.tensor<i32[size]>
  %e = tile.layout runs of edge by [e.type] limit 64 : !hec.tensor<i32[size]>
  %f = tile.layout run_key of edge by [e.type] path [e.type] limit 64 : !hec.tensor<i32[size]>
  %g = tile.layout run_groups of edge by [e.type] limit 64 : !hec.tensor<i32[size]>
  %h = tile.layout cuts of edge by [e.dst] limit 8 : !hec.tensor<i32[9]>
  %i = tile.layout shares of edge by [e.dst] limit 8 : !hec.tensor<i32[size]>
  %p = tile.layout parts of edge by [e.dst] limit 8 : !hec.tensor<i32[size]>
  %q = tile.layout part_rows of edge by [e.dst] limit 8 : !hec.tensor<i32[size]>
  %sp = tile.layout spans of edge by [e.dst] limit 8 : !hec.tensor<i32[size]>
  %sr = tile.layout span_rows of edge by [e.dst] limit 8 : !hec.tensor<i32[size]>
  %j = tile.layout pairs of edge by [e.dst] limit 8 : !hec.tensor<i32[size]>
  %ba = tile.layout block_rows of edge by [e.dst, e.type] limit 8 : !hec.tensor<i32[size]>
  %bb = tile.layout block_order of edge by [e.dst, e.type] limit 8 : !hec.tensor<i32[edge]>
  %bc = tile.layout block_along of edge by [e.dst, e.type] path [e.dst] limit 8 : !hec.tensor<i32[edge]>
  %bd = tile.layout block_runs of edge by [e.dst, e.type] limit 8 : !hec.tensor<i32[size]>
  %be = tile.layout block_groups of edge by [e.dst, e.type] limit 8 : !hec.tensor<i32[size]>
  %sa = tile.layout slot_rows of edge by [e.dst, e.type] limit 8 : !hec.tensor<i32[size]>
  %sb = tile.layout slot_groups of edge by [e.dst, e.type] limit 8 : !hec.tensor<i32[size]>
  %sc = tile.layout slot_along of edge by [e.dst, e.type] path [e.dst] limit 8 : !hec.tensor<i32[size]>
  %sd = tile.layout slot_key of edge by [e.dst, e.type] path [e.type] limit 8 : !hec.tensor<i32[size]>
  %l = tile.length %e : !hec.tensor<i32[size]>
  tile.launch @k(%x, %y) tasks %l : (!hec.tensor<f32[node, 8]>, !hec.tensor<f32[node, 8]>)
  tile.return %y : !hec.tensor<f32[node, 8]>
}
tile.kernel @k(%t: index, %x: !hec.tensor<f32[node, 8]>, %y: !hec.tensor<f32[node, 8]>) work split {
  %zero = scalar.constant 0 : index
  %n = tile.size "node"
  %m = tile.local : !hec.tensor<f32[6, 8]>
  %lanes = tile.lanes : vector<6xindex>
  %rows = tile.splat %t : index to vector<6xindex>
  tile.prefetch %x[%t, %zero] count 8 : !hec.tensor<f32[node, 8]>
  %v = tile.load %x[%t, %zero] axis 1 step -2 pad -inf valid %n : !hec.tensor<f32[node, 8]> -> vector<8xf32>
  %s = tile.load %x[%t, %zero] pad nan : !hec.tensor<f32[node, 8]> -> f32
  %q = tile.load %x[%rows, %zero] axis 1 pad 1.0e+30 : !hec.tensor<f32[node, 8]> -> vector<6x8xf32>
  %r = tile.reduce "max" %v : vector<8xf32> -> f32
  %w = tile.reduce "add" %v valid %n : vector<8xf32> -> f32
  %p = tile.product %x[%rows, %zero] k 1, %y[%zero, %zero] k 0 to %n : !hec.tensor<f32[node, 8]>, !hec.tensor<f32[node, 8]> -> vector<6x8xf32>
  %o = tile.product %p + %x[%rows, %zero] k 1, %y[%zero, %zero] k 0 to %n columns %t : !hec.tensor<f32[node, 8]>, !hec.tensor<f32[node, 8]> -> vector<6x8xf32>
  tile.store %o, %y[%rows, %zero] axis 1 : !hec.tensor<f32[node, 8]>, vector<6x8xf32>
  tile.store %v, %y[%t, %zero] axis 1 step 2 pad 0.0 valid %n : !hec.tensor<f32[node, 8]>, vector<8xf32>
  tile.store %s, %y[%t, %zero] : !hec.tensor<f32[node, 8]>, f32
  %f = tile.shared : !hec.tensor<f32[2, 6, 8]>
  tile.copy %x[%rows, %zero] axis 1 to %f[%t, %zero, %zero] shape [6, 8] : !hec.tensor<f32[node, 8]>, !hec.tensor<f32[2, 6, 8]>
  tile.copy async %x[%t, %zero] rows 0 axis 1 valid %n, %t to %f[%t, %zero, %zero] shape [6, 8] : !hec.tensor<f32[node, 8]>, !hec.tensor<f32[2, 6, 8]>
  tile.commit
  tile.wait 1
  %b = tile.mbarrier : !tile.mbarrier<2>
  tile.expect %b[%zero] bytes 192
  tile.copy async bulk %x[%rows, %zero] axis 1 to %f[%t, %zero, %zero] tells %b[%zero] shape [6, 8] : !hec.tensor<f32[node, 8]>, !hec.tensor<f32[2, 6, 8]>
  tile.await %b[%zero] phase %t
  tile.release %b
  %done = tile.finish %o : vector<6x8xf32>
  tile.at "y[v, o] += x[v, o]"
  %g = tile.convert %o {layout = #tile.layout<[6, 8] threads 4:[0,2] 8:[1,0] registers 2:[0,1]>} : vector<6x8xf32>
  %h = tile.load %x[%t, %zero] axis 1 : !hec.tensor<f32[node, 8]> -> vector<8xf32> {layout = #tile.layout<[8] threads 32:[0] registers 8:[1]>}
  tile.barrier
  tile.end
}
"""  # noqa: E501


@pytest.fixture(scope="session")
def everything() -> dict[str, str]:
    """Modules that have every operation of `graph`, `sparse` and `tile` in every form."""
    return {"graph": GRAPH, "sparse": SPARSE, "tile": TILE}
