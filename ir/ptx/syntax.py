"""PTX text as data: modules, kernels, instructions and operands, one to one with the text.

    @%p1 ld.global.v2.f32 {%f1, %f2}, [%rd1+8];

    Instruction(line, guard=Guard("%p1"), name="ld", suffix=("global", "v2", "f32"),
                operands=(Braces((Register("%f1"), Register("%f2"))), Address(Register("%rd1"), 8)))

`parse.py` reads text into these; what executes, compiles or imports PTX starts from here.
Registers may be written more than once: this is the text as it stands, not SSA.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Register:
    """A register of the program, with its percent sign: `%r1`, `%p2`."""

    name: str


@dataclass(frozen=True)
class Special:
    """A special register, without the percent sign: `tid.x`, `laneid`, `clock64`."""

    name: str


@dataclass(frozen=True)
class Immediate:
    """A number. `bits` is set for `0f3F800000` and `0d...`: the exact bits of an f32 or f64."""

    value: int | float
    bits: int | None = None
    width: int | None = None  # 32 or 64 with `bits`


@dataclass(frozen=True)
class Symbol:
    """A name: a label, a variable in shared or global memory, a parameter, a function."""

    name: str
    offset: int = 0


@dataclass(frozen=True)
class Address:
    """`[base + offset]`, with coordinates for tensor copies: `[map, {x, y}]`."""

    base: Register | Symbol | Immediate
    offset: int = 0
    coordinates: tuple[Operand, ...] = ()


@dataclass(frozen=True)
class Braces:
    """`{a, b, c, d}`."""

    items: tuple[Operand, ...]


@dataclass(frozen=True)
class Pair:
    """`d|p`: a result and a predicate beside it."""

    first: Operand
    second: Operand


@dataclass(frozen=True)
class Negated:
    """`!%p` as an operand."""

    operand: Register


@dataclass(frozen=True)
class Sink:
    """`_`: a result that nobody wants."""


@dataclass(frozen=True)
class Call:
    """The operands of a call: `call (results), function, (arguments)`."""

    results: tuple[Operand, ...]
    function: Symbol
    arguments: tuple[Operand, ...]


Operand = Register | Special | Immediate | Symbol | Address | Braces | Pair | Negated | Sink | Call


@dataclass(frozen=True)
class Guard:
    """`@%p` or, negated, `@!%p`."""

    register: str
    negated: bool = False


@dataclass(frozen=True)
class Instruction:
    """One instruction. `suffix` is what follows the name at each dot (`::` stays inside a part);
    `line` is its line in the text, from 1."""

    line: int
    name: str
    suffix: tuple[str, ...] = ()
    operands: tuple[Operand, ...] = ()
    guard: Guard | None = None

    @property
    def mnemonic(self) -> str:
        """`ld.global.v2.f32`."""
        return ".".join((self.name, *self.suffix))


@dataclass(frozen=True)
class Label:
    """A place that branches name. `targets` are those of a `.branchtargets` table."""

    line: int
    name: str
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variable:
    """A variable or parameter: `.shared .align 16 .b8 tile[4096]`, `.param .u64 p`.

    `count` is the number of elements (None: one, no brackets; 0: `[]`, sized by the launch).
    `values` are the initial ones.
    """

    line: int
    space: str  # param, shared, global, const, local
    type: str  # u64, f32, b8, ...
    name: str
    align: int | None = None
    count: int | None = None
    values: tuple[int | float | Symbol, ...] = ()
    is_extern: bool = False


@dataclass(frozen=True)
class Function:
    """A kernel (`is_entry`) or function. `registers` gives the type of each register by name,
    `%r<5>` written out; nested scopes are flattened, their names made distinct."""

    line: int
    name: str
    is_entry: bool
    parameters: tuple[Variable, ...]
    results: tuple[Variable, ...] = ()
    directives: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    registers: dict[str, str] = field(default_factory=dict[str, str])
    variables: tuple[Variable, ...] = ()
    body: tuple[Instruction | Label, ...] = ()
    is_declaration: bool = False


@dataclass(frozen=True)
class Module:
    """One PTX file."""

    version: tuple[int, int]
    target: str
    address_size: int
    variables: tuple[Variable, ...] = ()
    functions: tuple[Function, ...] = ()

    @property
    def entries(self) -> tuple[Function, ...]:
        """The kernels, in order."""
        return tuple(f for f in self.functions if f.is_entry and not f.is_declaration)
