"""A network to be optimised: a graph function, what is fixed in it, and arrays to call it with.

Enters: a model that `Net` builds operator by operator, or a program of the language. Leaves: a
`Network`. Weights are not stored: they are parameters named as fixed, drawn from a seed, each value
with a deviation of one over the root of its fan-in.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper
from xdsl.dialects.builtin import ModuleOp

from hectorite.dialects.graph import FuncOp
from hectorite.frontend.onnx.importer import import_model
from hectorite.frontend.program_text import read_program

Array = np.ndarray[Any, Any]
OPSET = 20


@dataclass(frozen=True)
class Draw:
    """How an array is drawn: normal around `mean`; `positive` takes the size of each value. With
    `below`, whole numbers from 0 up to it instead, the more of them small the larger `skew` is."""

    shape: tuple[int, ...]
    deviation: float = 1.0
    mean: float = 0.0
    positive: bool = False
    below: int = 0
    skew: float = 1.0

    def array(self, generator: np.random.Generator) -> Array:
        if self.below:
            share = generator.random(self.shape) ** self.skew
            return (share * self.below).astype(np.int32)
        values = generator.standard_normal(self.shape, np.float32)
        values = values * np.float32(self.deviation) + np.float32(self.mean)
        return np.abs(values) if self.positive else values


@dataclass(frozen=True)
class Network:
    """`module` holds the function `function` at the graph level, whose sizes are all numbers or in
    `sizes`; `fixed` names the parameters that are the same in every call. `maps` are the sets of a
    graph: sizes, and maps by field. `model` is the ONNX model that it was made from, if any."""

    name: str
    module: ModuleOp
    function: str
    fixed: tuple[str, ...]
    draws: Mapping[str, Draw]
    constants: Mapping[str, Array] = field(default_factory=dict[str, Array], repr=False)
    """Parameters that the model holds, such as masks."""
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    maps: Mapping[str, int | Mapping[str, Draw]] = field(
        default_factory=dict[str, "int | Mapping[str, Draw]"]
    )
    model: onnx.ModelProto | None = field(default=None, repr=False)

    def arguments(self, seed: int = 0) -> dict[str, Array]:
        """An array for every parameter. Each depends on its name and the seed alone."""
        drawn = {
            name: draw.array(_generator(seed, self.name, name)) for name, draw in self.draws.items()
        }
        return drawn | dict(self.constants)

    def sets(self, seed: int = 0) -> dict[str, Any]:
        """What `bind` takes; empty for a network without sets."""
        return {
            name: held
            if isinstance(held, int)
            else {f: d.array(_generator(seed, self.name, f"{name}.{f}")) for f, d in held.items()}
            for name, held in self.maps.items()
        }

    @property
    def statements(self) -> int:
        """How many operations the function has."""
        (func,) = (op for op in self.module.ops if isinstance(op, FuncOp))
        return len(func.body.block.ops) - 1


def _generator(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32("/".join(names).encode())])


def scaled(length: int, scale: float, multiple: int = 1) -> int:
    """A length times the scale, a positive multiple of `multiple`."""
    return max(1, round(length * scale / multiple)) * multiple


@dataclass
class Net:
    """Builds an ONNX model; values are known by their names."""

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list[onnx.NodeProto])
    draws: dict[str, Draw] = field(default_factory=dict[str, Draw])
    fixed: list[str] = field(default_factory=list[str])
    constants: list[onnx.TensorProto] = field(default_factory=list[onnx.TensorProto])
    count: int = 0

    def fresh(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def input(self, shape: Sequence[int], name: str = "x", deviation: float = 1.0) -> str:
        """An input that differs from call to call."""
        self.draws[name] = Draw(tuple(shape), deviation)
        return name

    def weight(
        self,
        shape: Sequence[int],
        fan_in: int | None = None,
        gain: float = 1.0,
        mean: float = 0.0,
        positive: bool = False,
        name: str | None = None,
    ) -> str:
        """A fixed input; the fan-in is the first of two lengths, or all but the first of more."""
        if fan_in is None:
            fan_in = shape[0] if len(shape) == 2 else math.prod(shape[1:])
        name = name or self.fresh("w")
        self.draws[name] = Draw(tuple(shape), gain / math.sqrt(fan_in), mean, positive)
        self.fixed.append(name)
        return name

    def bias(self, length: int) -> str:
        return self.weight([length], 100)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Numbers that are part of the model."""
        name = self.fresh("c")
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output, whose name it gives."""
        (output,) = self.ops(op, 1, *inputs, **attributes)
        return output

    def ops(self, op: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """A node with several outputs."""
        outputs = [self.fresh(op[0].lower()) for _ in range(count)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, **attributes))
        return outputs

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        return self.op("Reshape", x, self.constant(shape, np.int64))

    def transpose(self, x: str, order: Sequence[int]) -> str:
        return self.op("Transpose", x, perm=list(order))

    def network(self, *results: str) -> Network:
        """The finished network."""
        info = helper.make_tensor_value_info
        inputs = [info(name, 1, draw.shape) for name, draw in self.draws.items()]
        outputs = [onnx.ValueInfoProto(name=name) for name in results]
        graph = helper.make_graph(self.nodes, self.name, inputs, outputs, self.constants)
        versions = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=10)
        model = onnx.shape_inference.infer_shapes(model)
        made = import_model(model, fixed=self.fixed)
        draws = {made.inputs[name]: draw for name, draw in self.draws.items()}
        return Network(
            self.name, made.module, made.function, made.fixed, draws, made.arrays, model=model
        )


def from_program(
    name: str,
    text: str,
    draws: Mapping[str, Draw],
    fixed: Sequence[str],
    maps: Mapping[str, int | Mapping[str, Draw]],
) -> Network:
    """A network of one function, written in the language with all sizes as numbers."""
    module = read_program(text).module
    (func,) = (op for op in module.ops if isinstance(op, FuncOp))
    return Network(name, module, func.sym_name.data, tuple(fixed), draws, maps=maps)


Make = Callable[..., Network]
"""Makes a network; takes `scale`, and `data_dir` where it is made from a file."""
