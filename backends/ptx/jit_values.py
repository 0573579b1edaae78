"""The values of one thread of compiled PTX: registers, operands, special registers, variables.

Enters: a kernel without calls, and code being written. Leaves: code that reads and writes operands.
Registers are memory of the function, in the LLVM type of their declaration; instructions read them
in the type they need, as PTX allows: a wider register is cut, the same bits are taken as a float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import cast

from hectorite.backends.ptx.jit_frame import SIZES, BlockSlot, Launch, Layout, aligned, layout_of
from hectorite.backends.ptx.jit_inline import refuse
from hectorite.backends.ptx.jit_text import (
    TRUE,
    Code,
    V,
    f32,
    f32_bits,
    f64,
    f64_bits,
    i32,
    i64,
    integer,
    width,
)
from hectorite.ir.diagnostics import HectoriteError, Source
from hectorite.ir.ptx.flow import blocks_of
from hectorite.ir.ptx.syntax import (
    Function,
    Immediate,
    Instruction,
    Module,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
)

STORAGE = {
    "pred": "i1",
    "f32": "float",
    "f64": "double",
    "b128": "i128",
    **{name: f"i{8 * size}" for name, size in SIZES.items() if name not in ("pred", "f32", "f64")},
}
"""LLVM type of a register, and of a value in memory, for each PTX type."""

INVARIANT = ", !invariant.load !0"


RELATIONS = ("lt", "le", "gt", "ge")
ZEROS = (
    "smid", "gridid", "clock_hi", "globaltimer_lo", "globaltimer_hi", "cluster_ctaid",
    "cluster_ctarank", "is_explicit_cluster",
)  # fmt: skip


class Values:
    """Reads and writes the operands of the instruction that is being written (`instruction`)."""

    def __init__(self, module: Module, kernel: Function, code: Code, source: Source | None):
        self.module, self.kernel, self.code, self.source = module, kernel, code, source
        self.blocks = blocks_of(kernel.body)
        self.here = (self.blocks[0], 0)
        self.parameters = layout_of(kernel.parameters)
        self.parameter_order = [p.name for p in kernel.parameters]
        self.variables = self._layouts()
        self.preloads: dict[str, tuple[V, list[str]]] = {}
        self.registers = {name: STORAGE[type] for name, type in kernel.registers.items()}

    @property
    def instruction(self) -> Instruction:
        block, index = self.here
        return block.instructions[index]

    def _layouts(self) -> dict[str, Layout]:
        """Offsets of the variables of each space; of shared memory, what the kernel declares or
        uses."""
        used = {name for item in self.kernel.body for name in symbols_in(item)}
        every = (*self.module.variables, *self.kernel.variables)
        own = {v.name for v in self.kernel.variables}
        shared = [v for v in every if v.space == "shared" and (v.name in used or v.name in own)]
        frame = [v for v in self.kernel.variables if v.space in ("local", "param")]
        fixed = [v for v in self.module.variables if v.space in ("global", "const")]
        fixed += [v for v in self.kernel.variables if v.space in ("global", "const")]
        layouts = {"shared": layout_of([v for v in shared if v.count != 0])}
        layouts["shared"].end = aligned(layouts["shared"].end, 16)
        end = layouts["shared"].end
        for variable in shared:
            if variable.count == 0:  # sized by the launch: all of these begin at one place
                layouts["shared"].end = aligned(end, max(16, variable.align or 1))
                layouts["shared"].add(variable.name, 0, 1)
        layouts["frame"] = layout_of(frame)
        layouts["fixed"] = layout_of(fixed)
        return layouts

    @property
    def shared_bytes(self) -> int:
        """Static shared memory, and where the memory sized by the launch begins."""
        return self.variables["shared"].end

    @property
    def frame_bytes(self) -> int:
        """Variables in local memory and of calls, of one thread."""
        return aligned(self.variables["frame"].end, 16)

    def wrong(
        self, instruction: Instruction, why: str = "", hint: str | None = None
    ) -> HectoriteError:
        """The error for an instruction that this mode has no code for."""
        message = f"compiled mode has no code for `{instruction.mnemonic}`"
        return refuse(self.source, instruction.line, f"{message}{why and ': ' + why}", hint)

    def place_of(self, name: str) -> V:
        return V("ptr", f'%"r:{name}"')

    def raw(self, register: str) -> V:
        """What a register holds, in its own type."""
        return self.code.load(self.registers[register], self.place_of(register))

    def read(self, operand: Operand, type: str) -> V:
        """An operand as a value of an LLVM type; a wider register is cut, a narrower one extended
        with zeros."""
        match operand:
            case Register(name):
                return self.fitted(self.raw(name), type)
            case Immediate():
                return self.constant(operand, type)
            case Negated(register):
                return self.code.op("xor", self.read(register, "i1"), TRUE)
            case Special(name):
                return self.fitted(self.special(name), type)
            case Symbol():
                return self.fitted(self.symbol_address(operand), type)
            case _:
                raise self.wrong(self.instruction, "this operand")

    def fitted(self, value: V, type: str, signed: bool = False) -> V:
        """A value in another type: its bits, cut or extended."""
        if value.type == type:
            return value
        whole = self.code.bits(value, f"i{width(value.type)}")
        return self.code.bits(self.code.resized(whole, f"i{width(type)}", signed), type)

    def constant(self, operand: Immediate, type: str) -> V:
        value = operand.value
        if type == "float":
            exact = operand.bits is not None and operand.width == 32
            return f32_bits(operand.bits or 0) if exact else f32(value)
        if type == "double":
            exact = operand.bits is not None and operand.width == 64
            return f64_bits(operand.bits or 0) if exact else f64(value)
        if operand.bits is not None:
            return integer(width(type), operand.bits)
        if isinstance(value, float):
            raise self.wrong(self.instruction, "a fraction as an integer")
        return integer(width(type), value)

    def write(self, operand: Operand, value: V, signed: bool = False) -> None:
        """Put a value into a register, extended to its width where that is wider."""
        if isinstance(operand, Sink):
            return
        if isinstance(operand, Pair):
            operand = operand.first
        if not isinstance(operand, Register):
            raise self.wrong(self.instruction, "this result")
        stored = self.fitted(value, self.registers[operand.name], signed)
        self.code.store(stored, self.place_of(operand.name))

    def slot(self, number: int) -> V:
        """A slot of the launch, loaded where the function begins: all threads have the same."""
        name = f"%slot{number}"
        at = f"getelementptr i64, ptr %launch, i64 {number}"
        value = V("i64", name)
        load = f"{name} = load i64, ptr {name}.at{INVARIANT}"
        self.preloads[name] = (value, [f"{name}.at = {at}", load])
        return value

    def parameter(self, name: str) -> V:
        """A parameter of at most 64 bits as an integer, loaded where the function begins."""
        type = f"i{8 * self.parameters.sizes[name]}"
        start = self.slot(Launch.PARAMETERS)
        value, at = V(type, f'%"p:{name}"'), f'%"at:{name}"'
        offset = self.parameters.offsets[name]
        lines = [
            f'%"base:{name}" = inttoptr {start} to ptr',
            f'{at} = getelementptr i8, ptr %"base:{name}", i64 {offset}',
            f"{value.name} = load {type}, ptr {at}{INVARIANT}",
        ]
        self.preloads[value.name] = (value, lines)
        return value

    def word(self, number: int) -> V:
        return self.code.resized(self.slot(number), "i32")

    # Variables.

    def symbol_address(self, symbol: Symbol) -> V:
        """The address of a variable, in the space where it is."""
        name = symbol.name
        for space, layout in self.variables.items():
            if name in layout.offsets:
                offset = layout.offsets[name] + symbol.offset
                if space == "fixed":
                    return self.code.op("add", self.slot(Launch.VARIABLES), i64(offset))
                return i64(offset)
        if name in self.parameters.offsets:
            offset = self.parameters.offsets[name] + symbol.offset
            return self.code.op("add", self.slot(Launch.PARAMETERS), i64(offset))
        raise refuse(
            self.source, self.instruction.line, f"`{name}` is not in memory that can be read"
        )

    # Special registers.

    def special(self, name: str) -> V:
        base, _, axis = name.partition(".")
        index = "xyzw".find(axis) if axis else 0
        known: dict[str, Sequence[Callable[[], V]]] = {
            "tid": [lambda: V("i32", "%x"), lambda: V("i32", "%y"), lambda: V("i32", "%z")],
            "ctaid": [lambda: V("i32", "%cx"), lambda: V("i32", "%cy"), lambda: V("i32", "%cz")],
            "ntid": [lambda s=s: self.word(Launch.BLOCK_X + s) for s in range(3)],
            "nctaid": [lambda s=s: self.word(Launch.GRID_X + s) for s in range(3)],
        }
        known["clusterid"], known["nclusterid"] = known["ctaid"], known["nctaid"]
        known["cluster_nctaid"] = [lambda: i32(1)] * 3
        if base in known:
            return known[base][index]() if index < 3 else i32(0)
        code, warp = self.code, self.thread_number
        single: dict[str, Callable[[], V]] = {
            "laneid": self.lane,
            "warpid": lambda: code.op("lshr", warp(), i32(5)),
            "nwarpid": self._warps,
            "nsmid": lambda: i32(1),
            "clock": lambda: code.resized(self._clock(), "i32"),
            "clock64": self._clock,
            "globaltimer": self._clock,
            "dynamic_smem_size": lambda: self.word(Launch.DYNAMIC_BYTES),
            "total_smem_size": lambda: self.word(Launch.SHARED_BYTES),
            "cluster_nctarank": lambda: i32(1),
            **{f"lanemask_{r}": lambda r=r: self._lane_mask(r) for r in ("eq", *RELATIONS)},
            **dict.fromkeys(ZEROS, lambda: i32(0)),
        }
        if base not in single:
            raise refuse(
                self.source, self.instruction.line, f"compiled mode does not know `%{name}`"
            )
        return single[base]()

    def thread_number(self) -> V:
        """The number of this thread in its block."""
        code = self.code
        column = code.op("mul", V("i32", "%z"), self.word(Launch.BLOCK_Y))
        row = code.op("mul", code.op("add", column, V("i32", "%y")), self.word(Launch.BLOCK_X))
        return code.op("add", row, V("i32", "%x"))

    def lane(self) -> V:
        return self.code.op("and", self.thread_number(), i32(31))

    def _warps(self) -> V:
        code = self.code
        threads = code.op("mul", self.word(Launch.BLOCK_X), self.word(Launch.BLOCK_Y))
        threads = code.op("mul", threads, self.word(Launch.BLOCK_Z))
        return code.op("lshr", code.op("add", threads, i32(31)), i32(5))

    def _lane_mask(self, relation: str) -> V:
        code = self.code
        own = code.op("shl", i32(1), self.lane())
        below = code.op("sub", own, i32(1))
        upto = code.op("or", own, below)
        flipped = {"ge": below, "gt": upto}
        if relation in flipped:
            return code.op("xor", flipped[relation], i32(-1))
        return {"eq": own, "lt": below, "le": upto}[relation]

    def _clock(self) -> V:
        """Clocks count the reads of clocks: they rise, and are the same in every run."""
        code = self.code
        at = code.at(V("ptr", "%block"), BlockSlot.CLOCK, "i64")
        value = code.op("add", code.load("i64", at, 8), i64(1))
        code.store(value, at, 8)
        return value


def symbols_in(item: object) -> set[str]:
    """The names of variables that an instruction mentions."""
    found: set[str] = set()
    if isinstance(item, Symbol):
        found.add(item.name)
    elif isinstance(item, tuple):
        for part in cast(tuple[object, ...], item):
            found |= symbols_in(part)
    elif is_dataclass(item):
        for part in fields(item):
            found |= symbols_in(getattr(item, part.name))
    return found
