// RUN: hectorite emit %s --level tile | filecheck %s
// RUN: hectorite opt %s | filecheck %s
// RUN: not hectorite emit %s --level graph 2>&1 | filecheck %s --check-prefix=EARLY
// RUN: hectorite run %s --target tile --size node=3 | filecheck %s --check-prefix=RAN
// RUN: hectorite run %s --target cpu --size node=3 | filecheck %s --check-prefix=RAN

graph.set @node
tile.program @double(%x: !hec.tensor<f32[node, 8]>) -> !hec.tensor<f32[node, 8]> {
  %y = tile.allocate : !hec.tensor<f32[node, 8]>
  %n = tile.size "node"
  tile.launch @row(%x, %y) tasks %n : (!hec.tensor<f32[node, 8]>, !hec.tensor<f32[node, 8]>)
  tile.return %y : !hec.tensor<f32[node, 8]>
}
tile.kernel @row(%task: index, %x: !hec.tensor<f32[node, 8]>, %y: !hec.tensor<f32[node, 8]>) {
  %zero = scalar.constant 0 : index
  %v = tile.load %x[%task, %zero] axis 1 : !hec.tensor<f32[node, 8]> -> vector<8xf32>
  %w = scalar.add %v, %v : vector<8xf32>
  tile.store %w, %y[%task, %zero] axis 1 : !hec.tensor<f32[node, 8]>, vector<8xf32>
  tile.end
}

// CHECK:      tile.program @double(%x: !hec.tensor<f32[node, 8]>)
// CHECK-NEXT:   %y = tile.allocate : !hec.tensor<f32[node, 8]>
// CHECK-NEXT:   %n = tile.size "node"
// CHECK:      tile.kernel @row(%task: index, %x: !hec.tensor<f32[node, 8]>
// CHECK:        %w = scalar.add %v, %v : vector<8xf32>
// CHECK-NEXT:   tile.store %w, %y[%task, %zero] axis 1

// EARLY: is of the level tile, from which graph cannot be made
// EARLY: expected: one of tile, llvm, asm

// RAN: y       f32[node, 8]  3 x 8
