"""LLVM IR as text, written line by line: values, blocks, loops, functions declared as needed.

Enters: pieces of instructions. Leaves: the text of a function body.

    x = code.let("i32", f"add {a}, {b.name}")     # "  %v7 = add i32 %v5, %v6"; x is V("i32", "%v7")

A module's text is put together in `Pieces`: helper functions are added once, when first called.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

FLOATS = {"half": 16, "float": 32, "double": 64}


class V(NamedTuple):
    """A value: its LLVM type and its name or constant."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


TRUE, FALSE = V("i1", "true"), V("i1", "false")


def integer(bits: int, value: int) -> V:
    """An integer constant, taken modulo 2 to the power `bits`."""
    if bits == 1:
        return TRUE if value & 1 else FALSE
    value &= (1 << bits) - 1
    return V(f"i{bits}", str(value - (1 << bits) if value >> (bits - 1) else value))


def i32(value: int) -> V:
    return integer(32, value)


def i64(value: int) -> V:
    return integer(64, value)


def f32(value: float) -> V:
    """An f32 constant; the value is rounded to one."""
    return f32_bits(int(struct.unpack("<I", struct.pack("<f", value))[0]))


def f32_bits(bits: int) -> V:
    return V("float", f"bitcast (i32 {integer(32, bits).name} to float)")


def f64(value: float) -> V:
    return f64_bits(int(struct.unpack("<Q", struct.pack("<d", value))[0]))


def f64_bits(bits: int) -> V:
    return V("double", f"bitcast (i64 {integer(64, bits).name} to double)")


def width(type: str) -> int:
    """Bits of an LLVM integer, float or pointer type."""
    if type == "ptr":
        return 64
    return FLOATS.get(type) or int(type[1:])


class Pieces:
    """What a module is made of. Functions and declarations are kept by name."""

    def __init__(self) -> None:
        self.functions: dict[str, str] = {}

    def declare(self, name: str, result: str, *arguments: str) -> None:
        self.functions.setdefault(name, f"declare {result} @{name}({', '.join(arguments)})")

    def define(self, name: str, make: Callable[[], str]) -> None:
        """Add the function that `make` writes unless it is here."""
        if name not in self.functions:
            self.functions[name] = ""  # its own text may ask for it
            self.functions[name] = make()

    def text(self) -> str:
        return "\n".join([*self.functions.values(), "!0 = !{}", ""])


class Code:
    """The body of one function, being written."""

    def __init__(self, pieces: Pieces):
        self.pieces = pieces
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self._serial = 0

    def name(self, prefix: str = "v") -> str:
        self._serial += 1
        return f"{prefix}{self._serial}"

    def let(self, type: str, text: str) -> V:
        """A new value of this type, by an instruction."""
        name = "%" + self.name()
        self.lines.append(f"  {name} = {text}")
        return V(type, name)

    def do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def alloca(self, type: str, align: int = 8) -> V:
        """Memory for one value, made where the function begins."""
        name = "%" + self.name("m")
        self.allocas.append(f"  {name} = alloca {type}, align {align}")
        return V("ptr", name)

    def load(self, type: str, place: V, align: int | None = None, note: str = "") -> V:
        aligned = f", align {align}" if align else ""
        return self.let(type, f"load {type}, {place}{aligned}{note}")

    def store(self, value: V, place: V, align: int | None = None) -> None:
        aligned = f", align {align}" if align else ""
        self.do(f"store {value}, {place}{aligned}")

    def at(self, place: V, offset: V | int, type: str = "i8") -> V:
        """The address `offset` elements of `type` behind `place`."""
        index = i64(offset) if isinstance(offset, int) else offset
        return self.let("ptr", f"getelementptr {type}, {place}, {index}")

    def op(self, name: str, a: V, b: V) -> V:
        """`add`, `fmul`, ... of two values of one type."""
        return self.let(a.type, f"{name} {a}, {b.name}")

    def compare(self, relation: str, a: V, b: V) -> V:
        """`relation` is `slt`, `eq`, ... of integers, `olt`, `uno`, ... of floats."""
        kind = "fcmp" if a.type in FLOATS else "icmp"
        return self.let("i1", f"{kind} {relation} {a}, {b.name}")

    def select(self, condition: V, yes: V, no: V) -> V:
        return self.let(yes.type, f"select {condition}, {yes}, {no}")

    def cast(self, how: str, value: V, type: str) -> V:
        return self.let(type, f"{how} {value} to {type}")

    def bits(self, value: V, type: str) -> V:
        """The same bits as a value of another type of the same width."""
        return value if value.type == type else self.cast("bitcast", value, type)

    def resized(self, value: V, type: str, signed: bool = False) -> V:
        """An integer in another integer type: cut, or extended."""
        have, want = width(value.type), width(type)
        if have == want:
            return value
        if have > want:
            return self.cast("trunc", value, type)
        return self.cast("sext" if signed else "zext", value, type)

    def call(self, result: str, function: str, *arguments: V) -> V:
        """Call a function that the module has or an intrinsic, which is declared here."""
        if function not in self.pieces.functions:
            self.pieces.declare(function, result, *(argument.type for argument in arguments))
        return self.let(result, f"call {result} @{function}({', '.join(map(str, arguments))})")

    def call_void(self, function: str, *arguments: V) -> None:
        if function not in self.pieces.functions:
            self.pieces.declare(function, "void", *(argument.type for argument in arguments))
        self.do(f"call void @{function}({', '.join(map(str, arguments))})")

    @contextmanager
    def when(self, condition: V) -> Generator[None]:
        """What is written inside runs if the i1 holds."""
        inside, after = self.name("then"), self.name("after")
        self.do(f"br {condition}, label %{inside}, label %{after}")
        self.label(inside)
        yield
        self.do(f"br label %{after}")
        self.label(after)

    @contextmanager
    def loop(self, count: V, start: V | None = None) -> Generator[V]:
        """What is written inside runs for each index from `start` (0) below `count`."""
        first = start or integer(width(count.type), 0)
        place = self.alloca(count.type)
        self.store(first, place)
        head, body, done = self.name("head"), self.name("body"), self.name("done")
        self.do(f"br label %{head}")
        self.label(head)
        index = self.load(count.type, place)
        self.do(f"br {self.compare('slt', index, count)}, label %{body}, label %{done}")
        self.label(body)
        yield index
        self.store(self.op("add", index, integer(width(count.type), 1)), place)
        self.do(f"br label %{head}")
        self.label(done)

    def function(self, head: str) -> str:
        """The function with everything written so far. `head` is `define ...` up to the brace."""
        return "\n".join([f"{head} {{", "entry:", *self.allocas, *self.lines, "}"])


def helper(
    pieces: Pieces,
    name: str,
    result: str,
    parameters: Sequence[tuple[str, str]],
    body: Callable[[Code, list[V]], V | None],
    attributes: str = "alwaysinline",
) -> None:
    """Define a function of the module once. `body` writes it and gives what it returns."""

    def make() -> str:
        code = Code(pieces)
        values = [V(type, f"%{word}") for type, word in parameters]
        returned = body(code, values)
        code.do(f"ret {returned}" if returned else "ret void")
        listed = ", ".join(f"{type} %{word}" for type, word in parameters)
        return code.function(f"define internal {result} @{name}({listed}) {attributes}")

    pieces.define(name, make)
