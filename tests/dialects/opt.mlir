// RUN: hectorite opt %s -p 'specialize-sizes{sizes="O=16"},optimise-graph' | filecheck %s
// RUN: hectorite opt %s -p 'optimise-graph{reassociate=false}' | filecheck %s --check-prefix=EXACT
// RUN: hectorite opt %s -p annotate-forms | filecheck %s --check-prefix=FORMS
// RUN: not hectorite opt %s -p no-such-pass 2>&1 | filecheck %s --check-prefix=UNKNOWN

graph.set @node
graph.set @edge {src: node, dst: node}
graph.func @f(%x: !hec.tensor<f32[node, 8]>, %w: !hec.tensor<f32[8, O]>) -> !hec.tensor<f32[node, O]> {
  %y = graph.statement add [e.dst, o] for (e: edge, o: O, i: 8) : !hec.tensor<f32[node, O]> {
    %0 = graph.read %x[e.src, i] : f32
    %1 = graph.read %w[i, o] : f32
    %2 = scalar.mul %0, %1 : f32
    graph.yield %2 : f32
  }
  graph.return %y : !hec.tensor<f32[node, O]>
}

// CHECK:      graph.statement add [e.dst, i] for (e: edge, i: 8)
// CHECK-NEXT:   graph.read %x[e.src, i]
// CHECK:      %y = graph.statement add [[[U:.*]], o] for ([[U]]: node, o: 16, i: 8)

// EXACT:     graph.func
// EXACT-NEXT:  %y = graph.statement add [e.dst, o] for (e: edge, o: O, i: 8)

// FORMS:     attributes {form = "segment-reduction by=(e.dst) k=(i)"}

// UNKNOWN:   error: {{.*}}no-such-pass
