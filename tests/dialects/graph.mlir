// RUN: hectorite emit %s | filecheck %s
// RUN: hectorite opt %s | filecheck %s
// RUN: hectorite emit %s --generic | filecheck %s --check-prefix=GENERIC
// RUN: hectorite opt %s --print-op-generic | filecheck %s --check-prefix=GENERIC

graph.set @node
graph.set @edge {src: node, dst: node}
graph.derive @source {node: node} = distinct [e.src] for (e: edge) as source
graph.dim @D = 4
graph.func @f(%x: !hec.tensor<f32[node, D]>, %w: f32) -> !hec.tensor<f32[node, D]> {
  %y = graph.statement add [e.dst, d] for (e: edge, d: D) : !hec.tensor<f32[node, D]> {
    %0 = graph.read %x[e.src, d] : f32
    %1 = scalar.mul %0, %w : f32
    graph.yield %1 : f32
  }
  graph.return %y : !hec.tensor<f32[node, D]>
}

// CHECK:       graph.set @node
// CHECK-NEXT:  graph.set @edge {src: node, dst: node}
// CHECK-NEXT:  graph.derive @source {node: node} = distinct [e.src] for (e: edge) as source
// CHECK-NEXT:  graph.dim @D = 4
// CHECK-NEXT:  graph.func @f(%x: !hec.tensor<f32[node, D]>, %w: f32) -> !hec.tensor<f32[node, D]> {
// CHECK-NEXT:    %y = graph.statement add [e.dst, d] for (e: edge, d: D) : !hec.tensor<f32[node, D]> {
// CHECK-NEXT:      %0 = graph.read %x[e.src, d] : f32
// CHECK-NEXT:      %1 = scalar.mul %0, %w : f32
// CHECK-NEXT:      graph.yield %1 : f32
// CHECK-NEXT:    }
// CHECK-NEXT:    graph.return %y : !hec.tensor<f32[node, D]>

// GENERIC: "graph.set"() <{name = "node", fields = {}}> : () -> ()
// GENERIC: "graph.statement"() <{{.*}}kind = "add"
// GENERIC: "graph.read"(%x) <{access = #hec.access<[e.src, d]>}>
