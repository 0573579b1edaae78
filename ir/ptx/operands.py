"""The words and operands of PTX text, and what names mean at a place.

Enters: tokens. Leaves: operands of `syntax.py`. `parse.py` reads everything around them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hectorite.ir.diagnostics import HectoriteError, Source, did_you_mean, fail
from hectorite.ir.ptx.syntax import (
    Address,
    Braces,
    Immediate,
    Instruction,
    Label,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
    Variable,
)
from hectorite.ir.ptx.tokens import tokenize

SPECIAL_REGISTERS = frozenset(
    """
    tid ntid ctaid nctaid laneid warpid nwarpid smid nsmid gridid clock clock64 clock_hi
    globaltimer globaltimer_lo globaltimer_hi
    lanemask_eq lanemask_lt lanemask_le lanemask_gt lanemask_ge
    clusterid nclusterid cluster_ctaid cluster_nctaid cluster_ctarank cluster_nctarank
    is_explicit_cluster dynamic_smem_size total_smem_size aggr_smem_size current_graph_exec
    reserved_smem_offset_begin reserved_smem_offset_end reserved_smem_offset_cap
    """.split()  # noqa: SIM905
)
WARP_SIZE = 32


@dataclass
class Scope:
    """What `{ }` declares: each name with the name it has in the flattened function."""

    names: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class FunctionText:
    """A function while it is read."""

    registers: dict[str, str] = field(default_factory=dict[str, str])
    variables: list[Variable] = field(default_factory=list[Variable])
    items: list[Instruction | Label] = field(default_factory=list[Instruction | Label])
    scopes: list[Scope] = field(default_factory=lambda: [Scope()])
    taken: set[str] = field(default_factory=set[str])

    def declare(self, name: str) -> str:
        """The name under which a declaration of the innermost scope is kept."""
        kept, count = name, 0
        while kept in self.taken:
            count += 1
            kept = f"{name}_{count}"
        self.taken.add(kept)
        self.scopes[-1].names[name] = kept
        return kept

    def is_declared_here(self, name: str) -> bool:
        return name in self.scopes[-1].names

    def find(self, name: str) -> str | None:
        """The kept name of the declaration that `name` means at this place."""
        for scope in reversed(self.scopes):
            if name in scope.names:
                return scope.names[name]
        return None


class OperandParser:
    """Walks the tokens once; `at` is the index of the next one."""

    def __init__(self, source: Source):
        self.tokens = tokenize(source)
        self.kinds, self.texts = self.tokens.kinds, self.tokens.texts
        self.at: int = 0
        self.globals: set[str] = set()
        self.body = FunctionText()

    # Words.

    def wrong(self, message: str, at: int | None = None, hint: str | None = None) -> HectoriteError:
        index = self.at if at is None else at
        return fail(message, source=self.tokens.source, span=self.tokens.span(index), hint=hint)

    def unexpected(self, wanted: str) -> HectoriteError:
        found = self.texts[self.at]
        what = f"found `{found}`" if found else "the text ends here"
        return self.wrong(f"expected {wanted}, {what}")

    def take(self, kind: str, wanted: str | None = None) -> str:
        """The next token, which must be of this kind."""
        if self.kinds[self.at] != kind:
            raise self.unexpected(wanted or f"`{kind}`")
        self.at += 1
        return self.texts[self.at - 1]

    def accept(self, kind: str) -> bool:
        """Whether the next token is of this kind; passes it if so."""
        if self.kinds[self.at] == kind:
            self.at += 1
            return True
        return False

    def accept_dot(self, *words: str) -> str | None:
        """The next `.word` without its dot if it is one of these, passed."""
        if self.kinds[self.at] == "dot" and self.texts[self.at][1:] in words:
            self.at += 1
            return self.texts[self.at - 1][1:]
        return None

    def dot(self, wanted: str) -> str:
        return self.take("dot", wanted)[1:]

    def integer(self) -> int:
        sign = -1 if self.accept("-") else 1
        start = self.at
        value = _number(self.take("number", "an integer"))
        if not isinstance(value, int):
            raise self.wrong("expected an integer", start)
        return sign * value

    def integers(self) -> tuple[int, ...]:
        """Integers with commas between them; none if the next token is no number."""
        values: list[int] = []
        while self.kinds[self.at] == "number":
            values.append(self.integer())
            if not self.accept(","):
                break
        return tuple(values)

    def skip_block(self) -> None:
        """Pass `{ ... }`, whatever is inside."""
        start, depth = self.at, 0
        while True:
            kind = self.kinds[self.at]
            if kind == "end":
                raise self.wrong("this `{` is never closed", start)
            depth += (kind == "{") - (kind == "}")
            self.at += 1
            if depth == 0:
                return

    def skip_statement(self) -> None:
        while self.kinds[self.at] not in (";", "end"):
            self.at += 1
        self.take(";")

    def declare(self, name: str, at: int) -> str:
        """The name under which a declaration, written at token `at`, is kept."""
        if self.body.is_declared_here(name):
            raise self.wrong(f"`{name}` is declared a second time", at)
        return self.body.declare(name)

    def offset(self) -> int:
        """`+4`, `+-4`, `-4`, or nothing, which is 0."""
        if self.kinds[self.at] == "+":
            self.at += 1
            return self.integer()
        return self.integer() if self.kinds[self.at] == "-" else 0

    def listed(self, opening: str, closing: str) -> tuple[Operand, ...]:
        self.take(opening)
        found: list[Operand] = []
        while not self.accept(closing):
            found.append(self.operand())
            if self.kinds[self.at] != closing:
                self.take(",", f"`,` or `{closing}`")
        return tuple(found)

    def operand(self) -> Operand:
        kind = self.kinds[self.at]
        if kind == "name":
            return self.named()
        if kind == "[":
            return self.address()
        if kind == "{":
            return Braces(self.listed("{", "}"))
        if kind == "!":
            self.at += 1
            return Negated(Register(self.register(self.take("name", "a predicate"))))
        return self.immediate()

    def named(self) -> Operand:
        first = self.plain(self.take("name"))
        if not self.accept("|"):
            return first
        return Pair(first, self.plain(self.take("name", "a predicate")))

    def plain(self, name: str) -> Operand:
        """The operand that a name just passed is."""
        if name == "_":
            return Sink()
        kept = self.body.find(name)
        if kept in self.body.registers:
            return Register(kept)
        if name.startswith("%"):
            return self.special(name)
        if name == "WARP_SZ":
            return Immediate(WARP_SIZE)
        return self.symbol(name)

    def special(self, name: str) -> Special:
        base = name[1:].partition(".")[0]
        if base in SPECIAL_REGISTERS or base.startswith(("envreg", "pm")):
            return Special(name[1:])
        raise self.undeclared_register(name)

    def register(self, name: str) -> str:
        """The name just passed, which must be a declared register, as it is kept."""
        kept = self.body.find(name)
        if kept is None or kept not in self.body.registers:
            raise self.undeclared_register(name)
        return kept

    def undeclared_register(self, name: str) -> HectoriteError:
        known = self.body.registers
        if name.partition(".")[0] in known:
            return self.wrong("parts of a register are not supported", self.at - 1)
        message = f"the register `{name}` is not declared"
        return self.wrong(message, self.at - 1, did_you_mean(name, known))

    def symbol(self, name: str) -> Symbol:
        """A label, variable, parameter or function, whose name was just passed."""
        kept = self.body.find(name)
        if kept is None:
            if name not in self.globals:
                known = self.globals | self.body.taken
                hint = did_you_mean(name, known)
                raise self.wrong(f"`{name}` is not declared", self.at - 1, hint)
            kept = name
        return Symbol(kept, self.offset())

    def address(self) -> Address:
        """`[base + offset]`, `[map, {x, y}]`."""
        self.take("[")
        base = self.operand()
        offset = self.offset()
        if isinstance(base, Symbol):
            base, offset = Symbol(base.name), offset + base.offset
        if not isinstance(base, Register | Symbol | Immediate):
            raise self.wrong("expected a register, a name or a number as address", self.at - 1)
        coordinates: tuple[Operand, ...] = ()
        if self.accept(","):
            coordinates = self.listed("{", "}")
        self.take("]")
        return Address(base, offset, coordinates)

    def immediate(self) -> Immediate:
        negative = self.accept("-")
        if not negative:
            self.accept("+")
        kind, text = self.kinds[self.at], self.texts[self.at]
        if kind == "bits":
            self.at += 1
            return _exact(text, negative)
        if kind != "number":
            raise self.unexpected("an operand")
        self.at += 1
        value = _number(text)
        return Immediate(-value if negative else value)


def _number(text: str) -> int | float:
    """The value of a decimal, hexadecimal, octal or binary literal, or of a decimal fraction."""
    digits = text.removesuffix("U").lower()
    if digits.startswith("0x"):
        return int(digits, 16)
    if digits.startswith("0b"):
        return int(digits, 2)
    if "." in digits or "e" in digits:
        return float(digits)
    if len(digits) > 1 and digits[0] == "0" and set(digits) <= set("01234567"):
        return int(digits, 8)
    return int(digits)


def _exact(text: str, negative: bool) -> Immediate:
    """`0f3F800000` or `0d...`: bits of an f32 or f64."""
    bits, width = int(text[2:], 16), 32 if text[1] in "fF" else 64
    if negative:
        bits ^= 1 << (width - 1)
    raw = bits.to_bytes(width // 8, "little")
    value = struct.unpack("<f" if width == 32 else "<d", raw)[0]
    return Immediate(value, bits, width)
