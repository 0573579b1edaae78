// RUN: hectorite opt %s -p expand-softmax | filecheck %s

graph.set @node
graph.set @edge {dst: node}
graph.func @f(%s: !hec.tensor<f32[edge]>) -> !hec.tensor<f32[edge]> {
  %a = graph.softmax %s[e] by [e.dst] for (e: edge) : !hec.tensor<f32[edge]>
  graph.return %a : !hec.tensor<f32[edge]>
}

// CHECK:      graph.func @f
// CHECK:      graph.statement max [e.dst] for (e: edge)
// CHECK:      graph.statement assign [e] for (e: edge)
// CHECK:        scalar.exp
// CHECK:      graph.statement add [e.dst] for (e: edge)
// CHECK:        scalar.div
// CHECK-NOT:  graph.softmax
