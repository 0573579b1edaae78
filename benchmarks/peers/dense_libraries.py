"""Dense float32 products: NumPy, MKL, torch, oneDNN with packed weights, onnxruntime."""

from __future__ import annotations

import os

from benchmarks.cases import Case, Data
from benchmarks.peers.table import Call, peer
from benchmarks.peers.torch_sparse_ops import tensor, threaded_torch


@peer("numpy (OpenBLAS)", "numpy", "gemm")
def numpy_product(data: Data, case: Case) -> Call:
    a, b = data["A"], data["B"]
    return lambda: a @ b


@peer("MKL", "mkl", "gemm")
def mkl_product(data: Data, case: Case) -> Call:
    from sparse_dot_mkl import dot_product_mkl

    a, b = data["A"], data["B"]
    return lambda: dot_product_mkl(a, b)


@peer("torch", "torch", "gemm gemm16")
def torch_product(data: Data, case: Case) -> Call:
    threaded_torch()
    a, b = tensor(data["A"]), tensor(data["B"])
    return lambda: a @ b


@peer("torch oneDNN (packed)", "torch", "gemm")
def packed_product(data: Data, case: Case) -> Call:
    torch = threaded_torch()
    a, transposed = tensor(data["A"]), tensor(data["B"].T)
    packed = torch.ops.mkldnn._reorder_linear_weight(transposed, len(a))
    return lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")


@peer("onnxruntime", "onnxruntime", "gemm")
def onnx_product(data: Data, case: Case) -> Call:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node("MatMul", ["A", "B"], ["C"])
    inputs = [helper.make_tensor_value_info("A", TensorProto.FLOAT, data["A"].shape)]
    outputs = [helper.make_tensor_value_info("C", TensorProto.FLOAT, None)]
    weight = numpy_helper.from_array(data["B"], "B")
    graph = helper.make_graph([node], "product", inputs, outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(["C"], {"A": data["A"]})[0]
