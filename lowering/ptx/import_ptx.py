"""PTX text into the `ptx` dialect: registers that are written again and again become SSA.

    mov.u32 %r1, 0;                        ptx.bra ^1(%zero)
    $L: add.s32 %r1, %r1, 1;             ^1(%0: !ptx.reg<b32>):
    setp.lt.s32 %p1, %r1, %r2;             %1 = ptx.add "s32" %0, %one : (b32)
    @%p1 bra $L;                           %2 = ptx.setp "lt.s32" %1, %n : (pred)
                                           ptx.branch %2, ^1(%1), ^2

Enters: a `syntax.Module`, ours or another compiler's. Leaves: a module of the dialect. A block
that several others lead to gets an argument for each register that lives there; arguments that
turn out to be one value everywhere go away again. What the dialect cannot say (functions and
calls, parameters that are structures, initialised memory) is one error that names the line.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import Block, Region, SSAValue

from hectorite.dialects.ptx import (
    BranchOp,
    BraOp,
    ConstantOp,
    KernelOp,
    RetOp,
    SpecialOp,
    UndefinedOp,
    VariableOp,
)
from hectorite.dialects.ptx_instruction import OPERATIONS, RegisterType, Slot, kind_of
from hectorite.dialects.ptx_legality import TARGET
from hectorite.ir.diagnostics import fail
from hectorite.ir.ptx.isa import register_kind, result_registers, row_of, types_of
from hectorite.ir.ptx.syntax import (
    Address,
    Braces,
    Call,
    Function,
    Immediate,
    Instruction,
    Label,
    Module,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
    Variable,
)
from hectorite.lowering.ptx.blocks import merge, remove_single_valued_arguments, thread_jumps

WIDE_SPECIALS = ("clock64", "globaltimer", "gridid")
ENDS = ("ret", "exit")
BYTES = {"8": 1, "16": 2, "32": 4, "64": 8, "128": 16}


def import_ptx(module: Module) -> ModuleOp:
    """The kernels of a PTX file as SSA. Raises `HectoriteError` naming the line of what the dialect
    has no operation for."""
    kernels = [_Importer(module, function).kernel() for function in module.entries]
    return ModuleOp(kernels, {TARGET: StringAttr(module.target)})


@dataclass
class _Part:
    """A basic block of the text: its instructions without the jump, and where it goes."""

    instructions: list[Instruction] = field(default_factory=list[Instruction])
    jump: Instruction | None = None
    following: int | None = None  # where it goes if the jump is not taken, or there is none
    taken: list[int] = field(default_factory=list[int])

    @property
    def successors(self) -> list[int]:
        """All blocks that may come next."""
        return [*self.taken, *([] if self.following is None else [self.following])]


def _parts(function: Function) -> list[_Part]:
    """The basic blocks of a function, in the order of the text."""
    labels: dict[str, int] = {}
    tables = {item.name: item.targets for item in function.body if isinstance(item, Label)}
    parts = [_Part()]
    for item in function.body:
        if isinstance(item, Label):
            if item.targets:
                continue
            if (
                parts[-1].instructions
                or parts[-1].jump is not None
                or len(parts) - 1 in (labels.values())
            ):
                parts.append(_Part())
            labels[item.name] = len(parts) - 1
        elif item.name in ("bra", "brx", *ENDS):
            parts[-1].jump = item
            parts.append(_Part())
        else:
            parts[-1].instructions.append(item)
    for number, part in enumerate(parts):
        _link(part, number, len(parts), labels, tables)
    return parts


def _link(
    part: _Part, number: int, count: int, labels: dict[str, int], tables: dict[str, tuple[str, ...]]
) -> None:
    jump = part.jump
    if (jump is None or jump.guard is not None) and number + 1 < count:
        part.following = number + 1
    if jump is None or jump.name in ENDS:
        return
    target = jump.operands[-1]
    assert isinstance(target, Symbol)
    names = tables[target.name] if jump.name == "brx" else (target.name,)
    part.taken = [labels[name] for name in names]


def _order(parts: Sequence[_Part]) -> list[int]:
    """Blocks that can be reached, each after all that must come before it: as in the text if a
    predecessor of each stands before it there."""
    reverse_postorder = _reverse_postorder(parts)
    in_text, seen = sorted(reverse_postorder), {0}
    for number in in_text:
        if number not in seen:
            return reverse_postorder
        seen.update(parts[number].successors)
    return in_text


def _reverse_postorder(parts: Sequence[_Part]) -> list[int]:
    """Blocks that can be reached, each after at least one that leads to it."""
    done: list[int] = []
    seen = {0}
    stack = [(0, iter(parts[0].successors))]
    while stack:
        number, following = stack[-1]
        for successor in following:
            if successor not in seen:
                seen.add(successor)
                stack.append((successor, iter(parts[successor].successors)))
                break
        else:
            done.append(number)
            stack.pop()
    return done[::-1]


def _registers(operand: Operand) -> Iterable[str]:
    match operand:
        case Register(name):
            yield name
        case Negated(register):
            yield register.name
        case Address(base, _, coordinates):
            yield from _registers(base)
            for item in coordinates:
                yield from _registers(item)
        case Braces(items):
            for item in items:
                yield from _registers(item)
        case Pair(first, second):
            yield from _registers(first)
            yield from _registers(second)
        case _:
            pass


def _has_result(instruction: Instruction) -> bool:
    row = row_of(instruction.name, instruction.suffix)
    return row is not None and row.slots[:1] in ("d", "D")


def _is_tied(instruction: Instruction) -> bool:
    row = row_of(instruction.name, instruction.suffix)
    return row is not None and row.tied


def _written(instruction: Instruction) -> list[str]:
    return list(_registers(instruction.operands[0])) if _has_result(instruction) else []


def _read(instruction: Instruction) -> set[str]:
    keeps = instruction.guard is not None or _is_tied(instruction)
    first = 1 if _has_result(instruction) and not keeps else 0
    names = {name for operand in instruction.operands[first:] for name in _registers(operand)}
    if instruction.guard is not None:
        names.add(instruction.guard.register)
    return names


class _Importer:
    """Builds one kernel."""

    def __init__(self, module: Module, function: Function):
        self.module, self.function = module, function
        self.parts = _parts(function)
        self.order = _order(self.parts)
        self.live = self._live_in()
        self.blocks: dict[int, Block] = {}
        self.ends: dict[int, dict[str, SSAValue]] = {}
        self.variables: dict[str, SSAValue] = {}
        self.block = Block()
        self.values: dict[str, SSAValue] = {}
        self.parameters: dict[str, SSAValue] = {}
        self.constants: list[ConstantOp] = []

    def kernel(self) -> KernelOp:
        """The kernel, built."""
        entry = self._entry()
        for number in self.order:
            names = sorted(self.live[number])
            kinds = [self._kind(name) for name in names]
            self.blocks[number] = Block(arg_types=[RegisterType(kind) for kind in kinds])
        region = Region([entry, *(self.blocks[number] for number in self.order)])
        first = self.order[0]
        undefined = [self._undefined(entry, name) for name in sorted(self.live[first])]
        entry.add_op(BraOp(self.blocks[first], undefined))
        for number in self.order:
            self._fill(number)
        entry_first = entry.first_op
        assert entry_first is not None
        entry.insert_ops_before(self.constants, entry_first)
        if not any(first in self.parts[number].successors for number in self.order):
            merge(entry, self.blocks[first])
        threads = self.function.directives.get("maxntid", self.function.directives.get("reqntid"))
        count = None
        if threads:
            count = 1
            for extent in threads:
                count *= extent
        kernel = KernelOp(self.function.name, region, count)
        thread_jumps(kernel)
        remove_single_valued_arguments(kernel)
        return kernel

    # Registers ---------------------------------------------------------------------------------

    def _kind(self, name: str) -> str:
        kind = register_kind(self.function.registers[name])
        assert kind is not None
        return kind

    def _live_in(self) -> dict[int, set[str]]:
        """Registers that are read at or after the start of each block before they are written."""
        gen: dict[int, set[str]] = {}
        kill: dict[int, set[str]] = {}
        for number in self.order:
            part = self.parts[number]
            read: set[str] = set()
            written: set[str] = set()
            for instruction in [*part.instructions, *([part.jump] if part.jump else [])]:
                read |= _read(instruction) - written
                written |= set(_written(instruction))
            gen[number], kill[number] = read, written
        live = {number: set(gen[number]) for number in self.order}
        changed = True
        while changed:
            changed = False
            for number in reversed(self.order):
                following = (live[s] for s in self.parts[number].successors)
                new = gen[number] | (set[str]().union(*following) - kill[number])
                if new != live[number]:
                    live[number], changed = new, True
        return live

    def _undefined(self, block: Block, name: str) -> SSAValue:
        op = UndefinedOp(self._kind(name))
        block.add_op(op)
        return op.result

    # The entry: parameters and memory ----------------------------------------------------------

    def _entry(self) -> Block:
        kinds = [self._parameter_kind(p) for p in self.function.parameters]
        entry = Block(arg_types=[RegisterType(kind) for kind in kinds])
        for parameter, argument in zip(self.function.parameters, entry.args, strict=True):
            self.parameters[parameter.name] = argument
            argument.name_hint = parameter.name
        for variable in (*self.module.variables, *self.function.variables):
            size = BYTES["".join(c for c in variable.type if c.isdigit())]
            count = 1 if variable.count is None else variable.count
            data = _data(variable, size, count)
            if variable.space == "param" or (variable.values and data is None):
                continue  # an error only where it is used
            align = variable.align or size
            op = VariableOp(variable.space, variable.name, size * count, align, data)
            entry.add_op(op)
            self.variables[variable.name] = op.result
        return entry

    def _parameter_kind(self, parameter: Variable) -> str:
        kind = register_kind(parameter.type)
        if kind is None or parameter.count is not None or parameter.type[1:] not in ("32", "64"):
            raise self._failure(parameter.line, "parameters but numbers of 32 or 64 bits")
        return kind

    def _failure(self, line: int, what: str) -> Exception:
        return fail(
            f"line {line}: the ptx dialect has no {what}",
            hint="the text itself runs: see `hectorite ptx run`",
        )

    # Blocks ------------------------------------------------------------------------------------

    def _fill(self, number: int) -> None:
        part, self.block = self.parts[number], self.blocks[number]
        names = sorted(self.live[number])
        self.values = dict(zip(names, self.block.args, strict=True))
        for instruction in part.instructions:
            self._instruction(instruction)
        self._end(part)

    def _passed(self, number: int) -> list[SSAValue]:
        return [self._register(name) for name in sorted(self.live[number])]

    def _end(self, part: _Part) -> None:
        jump = part.jump
        if jump is None or (jump.name == "bra" and jump.guard is None):
            target = part.following if jump is None else part.taken[0]
            if target is None:
                self.block.add_op(RetOp())
            else:
                self.block.add_op(BraOp(self.blocks[target], self._passed(target)))
            return
        if jump.name == "brx":
            self._indexed(jump, part)
            return
        if jump.guard is None:
            self.block.add_op(RetOp())
            return
        condition = self._register(jump.guard.register)
        if jump.name in ENDS:
            taken, passed = self._new_block([RetOp()]), list[SSAValue]()
        else:
            taken, passed = self.blocks[part.taken[0]], self._passed(part.taken[0])
        if part.following is None:
            other, rest = self._new_block([RetOp()]), list[SSAValue]()
        else:
            other, rest = self.blocks[part.following], self._passed(part.following)
        pair = (taken, passed), (other, rest)
        then, otherwise = pair[::-1] if jump.guard.negated else pair
        self.block.add_op(BranchOp(condition, *then, *otherwise))

    def _new_block(self, operations: Sequence[RetOp]) -> Block:
        block = Block(operations)
        region = self.block.parent_region()
        assert region is not None
        region.add_block(block)
        return block

    def _indexed(self, jump: Instruction, part: _Part) -> None:
        """`brx.idx` as a chain of comparisons."""
        (index,) = self._values(jump, jump.operands[0])
        region = self.block.parent_region()
        assert region is not None
        for number, target in enumerate(part.taken[:-1]):
            constant = ConstantOp(number, "b32")
            equal = OPERATIONS["setp"]("eq.s32", [Slot(), Slot()], [index, constant.result])
            self.block.add_ops([constant, equal])
            here, following = self.block, Block()
            region.insert_block_after(following, here)
            passed = self._passed(target)
            here.add_op(BranchOp(equal.registers[0], self.blocks[target], passed, following, ()))
            self.block = following
        last = part.taken[-1]
        self.block.add_op(BraOp(self.blocks[last], self._passed(last)))

    # Instructions ------------------------------------------------------------------------------

    def _register(self, name: str) -> SSAValue:
        if name not in self.values:
            self.values[name] = self._undefined(self.block, name)
        return self.values[name]

    def _instruction(self, instruction: Instruction) -> None:
        if instruction.name == "ld" and instruction.suffix[0] == "param":
            self._load_parameter(instruction)
            return
        if self._is_copy(instruction):
            return
        row = row_of(instruction.name, instruction.suffix)
        if row is None or instruction.name not in OPERATIONS:
            raise self._failure(instruction.line, f"instruction {instruction.mnemonic}")
        operands = list(instruction.operands)
        written: list[Register | Sink] = []
        if _has_result(instruction):
            written = self._destinations(instruction, operands.pop(0))
        slots: list[Slot] = []
        values: list[SSAValue] = []
        for operand in operands:
            found = self._values(instruction, operand)
            slots.append(_slot(operand, len(found)))
            values += found
        olds = [self._register(d.name) for d in written if isinstance(d, Register)]
        if row.tied:
            slots.append(Slot(len(olds), braces=True))
            values += olds
        guard = instruction.guard
        kinds = self._result_kinds(instruction, written)
        op = OPERATIONS[instruction.name](
            ".".join(instruction.suffix),
            slots,
            values,
            kinds,
            None if guard is None else self._register(guard.register),
            guard is not None and guard.negated,
            () if guard is None else olds,
        )
        self.block.add_op(op)
        for destination, result in zip(written, op.registers, strict=True):
            if isinstance(destination, Register):
                self.values[destination.name] = result

    def _is_copy(self, instruction: Instruction) -> bool:
        """Let a plain move give its register the value moved; whether it was one."""
        if instruction.name != "mov" or instruction.guard is not None:
            return False
        target, source = instruction.operands
        if not isinstance(target, Register) or isinstance(source, Braces | Negated | Call):
            return False
        kind = self._kind(target.name)
        if isinstance(source, Immediate):
            self.values[target.name] = self._number(_number(source, kind), kind)
            return kind != "pred"
        if isinstance(source, Register) and self._kind(source.name) != kind:
            return False
        (value,) = self._values(instruction, source)
        if value.type != RegisterType(kind):
            return False
        self.values[target.name] = value
        return True

    def _destinations(self, instruction: Instruction, operand: Operand) -> list[Register | Sink]:
        match operand:
            case Register() | Sink():
                return [operand]
            case Braces(items):
                return [d for item in items for d in self._destinations(instruction, item)]
            case Pair(first, second):
                both = (first, second)
                return [d for item in both for d in self._destinations(instruction, item)]
            case _:
                raise self._failure(instruction.line, "such a result")

    def _result_kinds(
        self, instruction: Instruction, written: Sequence[Register | Sink]
    ) -> list[str]:
        expected = result_registers(instruction.name, instruction.suffix)
        kinds = [*expected, *["pred"] * len(written)]
        return [
            self._kind(d.name) if isinstance(d, Register) else kind
            for d, kind in zip(written, kinds, strict=False)
        ]

    def _load_parameter(self, instruction: Instruction) -> None:
        target, address = instruction.operands
        if not isinstance(target, Register) or not isinstance(address, Address):
            raise self._failure(instruction.line, "load of part of a parameter")
        base = address.base
        name = base.name if isinstance(base, Symbol) else ""
        if name not in self.parameters or address.offset or instruction.guard is not None:
            raise self._failure(instruction.line, "load of part of a parameter")
        value, kind = self.parameters[name], self._kind(target.name)
        type = types_of(instruction.suffix)[-1]
        if _bits(type) != _bits(kind_of(value)):
            raise self._failure(instruction.line, "load of part of a parameter")
        if kind != kind_of(value):
            sign = "s" if type[0] == "s" else "u"
            wider = f"{sign}{_bits(kind)}.{sign}{_bits(type)}"
            same = _bits(kind) == _bits(type)
            move = OPERATIONS["mov" if same else "cvt"](
                kind if same else wider, [Slot()], [value], [kind]
            )
            self.block.add_op(move)
            value = move.registers[0]
        self.values[target.name] = value

    # Operands ----------------------------------------------------------------------------------

    def _values(self, instruction: Instruction, operand: Operand) -> list[SSAValue]:
        match operand:
            case Register(name):
                return [self._in_register(instruction, self._register(name))]
            case Immediate():
                return [self._constant(instruction, operand)]
            case Special(name):
                special = SpecialOp(name, "b64" if name in WIDE_SPECIALS else "b32")
                self.block.add_op(special)
                return [special.result]
            case Negated(register):
                negated = OPERATIONS["not"]("pred", [Slot()], [self._register(register.name)])
                self.block.add_op(negated)
                return [negated.registers[0]]
            case Symbol(name, 0) if name in self.variables:
                return [self.variables[name]]
            case Symbol(name):
                raise self._failure(instruction.line, f"memory such as {name}")
            case Address(base, _, coordinates):
                values = self._values(instruction, base)
                return values + [v for c in coordinates for v in self._values(instruction, c)]
            case Braces(items):
                return [v for item in items for v in self._values(instruction, item)]
            case _:
                raise self._failure(instruction.line, "such an operand")

    def _in_register(self, instruction: Instruction, value: SSAValue) -> SSAValue:
        """The value of a register. A number is put in one where an instruction takes it for
        another kind: bits for a float, which the text would make an integer, or a float for
        bits."""
        if not isinstance(value.owner, ConstantOp):
            return value
        takes_floats = any(map(_is_float, types_of(instruction.suffix)))
        if takes_floats == (kind_of(value)[0] == "f"):
            return value
        move = OPERATIONS["mov"](kind_of(value), [Slot()], [value], [kind_of(value)])
        self.block.add_op(move)
        return move.registers[0]

    def _constant(self, instruction: Instruction, operand: Immediate) -> SSAValue:
        kinds = [register_kind(type) for type in types_of(instruction.suffix)]
        last = kinds[-1] if kinds else None
        is_float = isinstance(operand.value, float)
        kind = last if last in ("f32", "f64") and is_float else "b32"
        if is_float and kind == "b32":
            kind = "f64" if operand.width == 64 else "f32"
        return self._number(operand.value, kind)

    def _number(self, number: int | float, kind: str) -> SSAValue:
        """A constant; all stand in the first block, so that blocks which only set registers to
        numbers are empty."""
        op = ConstantOp(number, kind)
        self.constants.append(op)
        return op.result


def _bits(type: str) -> int:
    return int("".join(c for c in type if c.isdigit()))


def _is_float(type: str) -> bool:
    return type[0] in "fte" or type.startswith("bf")


def _number(source: Immediate, kind: str) -> int | float:
    """A number as a register of a kind holds it."""
    if kind in ("f32", "f64"):
        if isinstance(source.value, int) and source.bits is None and source.value:
            width = "f" if kind == "f32" else "d"
            bits = source.value.to_bytes(struct.calcsize(width), "little", signed=source.value < 0)
            return struct.unpack(f"<{width}", bits)[0]
        return float(source.value)
    if source.bits is not None:
        return source.bits
    return source.value


def _data(variable: Variable, size: int, count: int) -> str | None:
    """The initial bytes of a variable in hexadecimal; None if it has none, or no plain ones."""
    if not variable.values:
        return None
    out = bytearray()
    for value in variable.values:
        if isinstance(value, Symbol):
            return None
        if isinstance(value, float):
            out += struct.pack("<f" if size == 4 else "<d", value)
        else:
            out += (value % (1 << 8 * size)).to_bytes(size, "little")
    return out.ljust(size * count, b"\0").hex()


def _slot(operand: Operand, count: int) -> Slot:
    if isinstance(operand, Address):
        return Slot(count, offset=operand.offset)
    return Slot(count, braces=isinstance(operand, Braces))
