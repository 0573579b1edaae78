"""Random kernels: compiled code and the tile interpreter must agree."""

import numpy as np
import pytest
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cpu.program import build
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.context import make_context
from hectorite.ir.element import ELEMENTS

SETS = {"n": 6, "m": 11, "empty": 0}
FUNCTIONS = ("add", "sub", "mul", "min", "max", "neg", "relu", "abs")


class Random:
    """Writes one kernel, a line at a time, that loads, computes and stores tiles."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.element = self.pick(["f32", "f64", "i32", "i64", "i8", "f16"])
        self.lines: list[str] = []
        self.inputs: dict[str, list[int | str]] = {}
        self.outputs: dict[str, list[int | str]] = {}
        self.count = 0

    def pick(self, choices):
        return choices[int(self.rng.integers(len(choices)))]

    def line(self, text: str) -> str:
        self.count += 1
        self.lines.append(f"%v{self.count} = {text}")
        return f"%v{self.count}"

    def index(self, low: int, high: int, lanes: int | None) -> str:
        """An index between the bounds, or a vector of different ones."""
        if lanes is None or self.rng.random() < 0.5:
            return self.line(f"scalar.constant {self.rng.integers(low, high)} : index")
        type = f"vector<{lanes}xindex>"
        start = self.line(f"scalar.constant {low} : {type}")
        numbers = self.line(f"tile.lanes : {type}")
        scale = self.line(f"scalar.constant {self.rng.integers(1, 4)} : {type}")
        moved = self.line(f"scalar.mul {numbers}, {scale} : {type}")
        span = self.line(f"scalar.constant {high - low} : {type}")
        turned = self.line(f"scalar.mod {moved}, {span} : {type}")
        return self.line(f"scalar.add {start}, {turned} : {type}")

    def tensor(self, names: dict[str, list[int | str]]) -> tuple[str, list[int], str]:
        dims = [self.pick(["n", "m", "n", 3, 8, "empty"]) for _ in range(self.rng.integers(1, 4))]
        name = f"t{len(self.inputs)}" if names is self.inputs else f"y{len(self.outputs)}"
        names[name] = dims
        extents = [SETS.get(dim, dim) for dim in dims]
        return f"%{name}", extents, f"!hec.tensor<{self.element}{spelled(dims)}>"

    def load(self, shape: list[int]) -> str:
        """A padded load of a tile, so that any position will do."""
        tensor, extents, type = self.tensor(self.inputs)
        axis = int(self.rng.integers(len(extents)))
        rows = shape[0] if len(shape) == 2 else None
        lanes = rows if rows else shape[0] if shape and self.rng.random() < 0.4 else None
        indices = [self.index(-2, extent + 2, lanes) for extent in extents]
        tail = f" axis {axis} step {self.pick([1, 1, 1, 2, 0, -1])}" if shape else ""
        result = f"vector<{'x'.join(map(str, shape))}x{self.element}>" if shape else self.element
        number = self.pick([0, 1, -1])
        at = f"{tensor}[{', '.join(indices)}]{tail} pad {number}"
        return self.line(f"tile.load {at} : {type} -> {result}")

    def store(self, value: str, shape: list[int]) -> None:
        """Write a tile where its lanes cannot meet, padded, behind zeros everywhere."""
        name = f"y{len(self.outputs)}"
        dims: list[int | str] = [*shape[:-1], shape[-1] + 2] if shape else [1]
        self.outputs[name] = dims
        type = f"!hec.tensor<{self.element}{spelled(dims)}>"
        zero = self.line(f"scalar.constant 0 : {tile(shape, self.element)}")
        column = self.line(f"scalar.constant {self.rng.integers(-2, 4)} : index")
        valid = self.line(f"scalar.constant {self.rng.integers(-1, 20)} : index")
        first = self.line("scalar.constant 0 : index")
        two = self.line("scalar.constant 2 : index")
        row = [self.line(f"tile.lanes : vector<{shape[0]}xindex>")] if len(shape) == 2 else []
        axis = f"axis {len(shape) - 1}" if shape else ""
        for begin in (first, two) if shape else (first,):
            at = f"%{name}[{', '.join([*row, begin])}]"
            self.lines.append(
                f"tile.store {zero}, {at} {axis} : {type}, {tile(shape, self.element)}"
            )
        at = f"%{name}[{', '.join([*row, column])}]"
        tail = f"{axis} pad 0 valid {valid}" if shape else "pad 0"
        self.lines.append(f"tile.store {value}, {at} {tail} : {type}, {tile(shape, self.element)}")

    def compute(self, a: str, b: str, shape: list[int]) -> str:
        function = self.pick(FUNCTIONS)
        arguments = a if function in ("neg", "relu", "abs") else f"{a}, {b}"
        return self.line(f"scalar.{function} {arguments} : {tile(shape, self.element)}")

    def loop(self, value: str, shape: list[int]) -> str:
        start, stop = (self.index(0, 5, None) for _ in range(2))
        self.count += 1
        result, type = f"%v{self.count}", tile(shape, self.element)
        self.lines.append(
            f"{result} = scf.for %i{self.count} = {start} to {stop} step %one "
            f"iter_args(%c{self.count} = {value}) -> ({type}) {{"
        )
        carried = f"%c{self.count}"
        new = self.compute(carried, self.load(shape), shape)
        self.lines.append(f"scf.yield {new} : {type} }}")
        return result

    def kernel(self) -> str:
        for _ in range(3):
            shape = self.pick([[], [4], [7], [16], [50], [3, 5], [2, 16]])
            value = self.compute(self.load(shape), self.load(shape), shape)
            if self.rng.random() < 0.5:
                value = self.loop(value, shape)
            self.store(value, shape)
            if len(shape) == 1:
                kind, type = self.pick(["add", "max", "min"]), tile(shape, self.element)
                valid = self.index(-1, shape[0] + 2, None)
                total = self.line(
                    f'tile.reduce "{kind}" {value} valid {valid} : {type} -> {self.element}'
                )
                self.store(total, [])
        return "\n".join(self.lines)

    def arguments(self):
        storage = ELEMENTS[self.element].storage
        return {
            name: self.rng.integers(-9, 9, [SETS.get(dim, dim) for dim in dims]).astype(storage)
            for name, dims in self.inputs.items()
        }


def spelled(dims) -> str:
    return f"[{', '.join(map(str, dims))}]"


def tile(shape: list[int], element: str) -> str:
    return f"vector<{'x'.join(map(str, shape))}x{element}>" if shape else element


@pytest.mark.parametrize("seed", range(60))
def test_random_kernels(program_text, seed: int):
    random = Random(seed)
    body = random.kernel()
    types = [
        {name: f"{random.element}{spelled(dims)}" for name, dims in group.items()}
        for group in (random.inputs, random.outputs)
    ]
    declarations = "".join(f"graph.set @{name}\n" for name in SETS)
    text = declarations + program_text(body, *types)
    module = Parser(make_context(), text).parse_module()
    module.verify()
    arguments = random.arguments()
    program = build(module)
    binding = Binding(program.schema, SETS)
    compiled = program.run(binding, arguments)
    interpreted = run_tile(module, binding, arguments)
    for name, a, b in zip(random.outputs, compiled, interpreted, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"{name} of\n{text}")
