"""Convolutional networks: those of published operator graphs, and ResNeXt-50.

Enters: a scale for channels, and for most the folder of the operator graphs
(`op_onnx_NAME.json.gz`, `op_taso_NAME.json.gz`: inputs, outputs, initialisers, nodes). Leaves:
networks. The graphs hold shapes and no weights.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks.network import Net, Network, scaled

CLASSES = 1000


def squeezenet(scale: float = 1.0, data_dir: Path | str = ".") -> Network:
    """SqueezeNet 1.0, from the operator graph of ONNX."""
    return _from_onnx("squeezenet", scale, data_dir)


def inception_v1(scale: float = 1.0, data_dir: Path | str = ".") -> Network:
    """Inception v1 (GoogLeNet), from the operator graph of ONNX."""
    return _from_onnx("inception_v1", scale, data_dir)


def resnet50(scale: float = 1.0, data_dir: Path | str = ".") -> Network:
    """ResNet-50 with its batch normalisations, from the operator graph of ONNX."""
    return _from_onnx("resnet50", scale, data_dir)


def inception_v3(scale: float = 1.0, data_dir: Path | str = ".") -> Network:
    """Inception v3 without batch normalisations, from the operator graph of TASO."""
    return _from_taso("inception_v3", "op_taso_inceptionv3.json.gz", scale, data_dir)


def _read(data_dir: Path | str, file: str) -> dict[str, Any]:
    with gzip.open(Path(data_dir) / file) as stream:
        return json.load(stream)


@dataclass
class _Copy:
    """A network on the way from an operator graph; `names` and `channels` of values by their names
    in the graph, `shapes` of weights."""

    net: Net
    scale: float
    names: dict[str, str] = field(default_factory=dict[str, str])
    channels: dict[str, int] = field(default_factory=dict[str, int])
    shapes: dict[str, list[int]] = field(default_factory=dict[str, "list[int]"])

    def input(self, key: str, shape: list[int]) -> None:
        self.names[key] = self.net.input(shape)
        self.channels[key] = shape[1]

    def give(self, key: str, value: str, channels: int) -> None:
        self.names[key], self.channels[key] = value, channels

    def kernel(self, weight: str, source: str) -> tuple[str, int]:
        """The weights of a convolution, and how many channels it gives."""
        outputs, _, *window = self.shapes[weight]
        outputs = scaled(outputs, self.scale)
        shape = [outputs, self.channels[source], *window]
        return self.net.weight(shape, gain=2**0.5), outputs

    def concat(self, out: str, parts: list[str]) -> None:
        value = self.net.op("Concat", *(self.names[part] for part in parts), axis=1)
        self.give(out, value, sum(self.channels[part] for part in parts))


def _from_onnx(name: str, scale: float, data_dir: Path | str) -> Network:
    graph = _read(data_dir, f"op_onnx_{name}.json.gz")
    copy = _Copy(Net(name), scale)
    copy.shapes = {key: value["shape"] for key, value in graph["initializers"].items()}
    for key, value in graph["inputs"].items():
        copy.input(key, value["shape"])
    for node in graph["nodes"]:
        first, out = node["inputs"][0], node["outputs"][0]
        if node["op"] == "ConstantOfShape":
            copy.shapes[out] = graph["initializers"][first]["data"]
        elif node["op"] == "Reshape" and first in copy.shapes:
            copy.shapes[out] = graph["initializers"][node["inputs"][1]]["data"]
        elif node["op"] == "Concat":
            copy.concat(out, node["inputs"])
        else:
            _copied(copy, node)
    return copy.net.network(copy.names[graph["nodes"][-1]["outputs"][0]])


def _copied(copy: _Copy, node: dict[str, Any]) -> None:
    """A node that has one operand that is no weight, or adds several."""
    net, op, (first, *rest), out = copy.net, node["op"], node["inputs"], node["outputs"][0]
    x, channels = copy.names[first], copy.channels[first]
    attributes = {key: value for key, value in node["attrs"].items() if key != "ratio"}
    others = list[str]()
    if op == "Conv":
        kernel, channels = copy.kernel(rest[0], first)
        others = [kernel, *(net.bias(channels) for _ in rest[1:])]
    elif op == "Gemm":
        classes = scaled(copy.shapes[rest[0]][0], copy.scale)
        others, channels = [net.weight([classes, channels]), net.bias(classes)], classes
    elif op == "BatchNormalization":
        # Scale, shift, mean, variance.
        kinds = ((1.0, False), (0.0, False), (0.0, False), (1.0, True))
        others = [net.weight([channels], 100, mean=mean, positive=p) for mean, p in kinds]
    elif op == "Reshape":
        others = [net.constant([1, -1], np.int64)]
    elif op == "Softmax":
        attributes = {"axis": 1}
    else:
        others = [copy.names[key] for key in rest]
    copy.give(out, net.op(op, x, *others, **attributes), channels)


def _from_taso(name: str, file: str, scale: float, data_dir: Path | str) -> Network:
    """TASO's integers: of a convolution [n, c, h, w, out, in, kh, kw, sh, sw, padding, activation,
    ph, pw], of a pool [n, c, h, w, kind, kh, kw, ...]; activation 2 is relu."""
    graph = _read(data_dir, file)
    copy, last = _Copy(Net(name), scale), ""
    for node in sorted(graph["nodes"], key=lambda n: int(n["outputs"][0].split(":")[0])):
        numbers, out = node["attrs"]["params"], node["outputs"][0]
        if node["op"] == "INPUT":
            copy.input(out, numbers)
        elif node["op"] == "WEIGHT":
            copy.shapes[out] = numbers
        elif node["op"] == "CONCAT":
            copy.concat(out, node["inputs"])
        else:
            _copied_from_taso(copy, node["op"], node["inputs"], numbers, out)
        last = copy.names.get(out, last)
    return copy.net.network(last)


def _copied_from_taso(
    copy: _Copy, op: str, inputs: list[str], numbers: list[int], out: str
) -> None:
    """A convolution or a pool."""
    net, x, channels = copy.net, copy.names[inputs[0]], copy.channels[inputs[0]]
    geometry = {"strides": numbers[-6:-4], "pads": [*numbers[-2:], *numbers[-2:]]}
    if op == "CONV2D":
        kernel, channels = copy.kernel(inputs[1], inputs[0])
        x = net.op("Conv", x, kernel, **geometry)
        x = net.op("Relu", x) if numbers[-3] == 2 else x
    else:
        kind = "AveragePool" if op == "POOL2D_AVG" else "MaxPool"
        x = net.op(kind, x, kernel_shape=numbers[5:7], **geometry)
    copy.give(out, x, channels)


def resnext50(scale: float = 1.0, side: int = 224) -> Network:
    """ResNeXt-50 of 32 groups without batch normalisations."""
    net, groups = Net("resnext50"), scaled(32, scale)
    x = _conv(net, net.input([1, 3, side, side]), 3, width := scaled(64, scale), 7, 2, 3)
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage, blocks in enumerate((3, 4, 6, 3)):
        inner = groups * max(1, round(4 * 2**stage * scale**0.5))
        for block in range(blocks):
            stride = 2 if stage and block == 0 else 1
            x = _block(net, x, width, inner, groups, stride)
            width = 2 * inner
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    classes = scaled(CLASSES, scale)
    return net.network(net.op("MatMul", x, net.weight([width, classes])))


def _conv(
    net: Net,
    x: str,
    inputs: int,
    outputs: int,
    size: int,
    stride: int = 1,
    pad: int = 0,
    group: int = 1,
    relu: bool = True,
) -> str:
    w = net.weight([outputs, inputs // group, size, size], gain=2**0.5 if relu else 1.0)
    attributes = {"strides": [stride] * 2, "pads": [pad] * 4, "group": group}
    x = net.op("Conv", x, w, **attributes)
    return net.op("Relu", x) if relu else x


def _block(net: Net, x: str, width: int, inner: int, groups: int, stride: int) -> str:
    y = _conv(net, x, width, inner, 1)
    y = _conv(net, y, inner, inner, 3, stride, 1, groups)
    y = _conv(net, y, inner, 2 * inner, 1, relu=False)
    if stride > 1 or width != 2 * inner:
        x = _conv(net, x, width, 2 * inner, 1, stride, relu=False)
    return net.op("Relu", net.op("Add", x, y))
