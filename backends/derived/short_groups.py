"""Short groups of numbers, put in order in vector registers: LLVM IR, compiled once on a machine.

Enters: numbers of 32 bits in any order, some of them several times. Leaves: each once, in order.

A number moves by comparing it with others at fixed places, whatever they are, so that nothing has
to be guessed (a bitonic network). What fills up the last register is above all numbers.

    i64 @derive.distinct(ptr %numbers, i64 %count, ptr %out)

takes up to MOST numbers at a boundary of 64 bytes, and writes over them. It returns how many it
wrote, and may write LANES - 1 words behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from llvmlite import ir

from hectorite.backends.cache import cache_key, default_cache
from hectorite.backends.cpu import jit
from hectorite.backends.cpu.lanes import I1, I16, I32, I64, constant, declare
from hectorite.backends.cpu.memory import POINTER

LANES = 16
MOST = 256
"""Numbers of the longest group that is sorted so."""

BLOCK = 4
"""Registers that are sorted together; more of them are merged from memory."""

ENTRY = "derive.distinct"
ABOVE = (1 << 31) - 1
VECTOR, MASK = ir.VectorType(I32, LANES), ir.VectorType(I1, LANES)
Registers = list[ir.Value]


@cache
def is_served() -> bool:
    """Whether this machine has registers and moves of that kind."""
    return "+avx512f" in jit.host().features.split(",")


@cache
def symbols() -> dict[str, int]:
    """What `jit.load` needs so that code can call the function."""
    text = distinct_ir()
    store, key = default_cache(), cache_key("short groups", str(jit.host()), text)
    entry = store.lookup(key)
    if entry is None:
        object_code = jit.compile_object(text, "short_groups.ll")
        store.store(key, {"what": "short groups"}, {"object": object_code})
    else:
        object_code = entry.blobs["object"]
    code = jit.load(object_code, [ENTRY])
    code.keep()
    return {ENTRY: code.address(ENTRY)}


def declared(module: ir.Module) -> ir.Function:
    """The function, declared in a module."""
    return declare(module, ENTRY, I64, [POINTER, I64, POINTER])


def distinct_ir() -> str:
    """The text of the module."""
    module = ir.Module("short_groups")
    network = _Network(declared(module))
    sizes = [LANES << k for k in range((MOST // LANES).bit_length())]
    for size in sizes[:-1]:
        with network.builder.if_then(network.at_most(size)):
            network.write(size // LANES)
    network.write(sizes[-1] // LANES)
    dropped = ("target triple", "target datalayout", "; ModuleID")
    return "\n".join(line for line in str(module).splitlines() if not line.startswith(dropped))


class _Network:
    """Writes a function. Runs are lists of registers, each in order, one behind the other."""

    def __init__(self, function: ir.Function):
        function.attributes.add("nounwind")
        self.module = function.module
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.numbers, self.count, self.out = function.args

    def at_most(self, size: int) -> ir.Value:
        return self.builder.icmp_signed("<=", self.count, ir.Constant(I64, size))

    def write(self, registers: int) -> None:
        """All there is to do for numbers that fill so many registers or fewer, but more than half
        of them; ends in a return."""
        if registers <= BLOCK:
            run = self.sorted([self.padded(k) for k in range(registers)])
            self.builder.ret(self.kept(run))
            return
        for first in range(0, registers, BLOCK):
            self.stretch("sorted", BLOCK, first)
        length = 2 * BLOCK
        while length < registers:
            for first in range(0, registers, length):
                self.stretch("merged", length, first)
            length *= 2
        self.builder.ret(self.kept(self.merged([self.load(k) for k in range(registers)])))

    def stretch(self, what: str, length: int, first: int) -> None:
        """Have so many registers in memory, from the first on, `sorted` or `merged`."""
        name = f"{what}.{length}"
        known = name in self.module.globals
        function = declare(self.module, name, I64, [POINTER, I64, POINTER])
        if not known:
            function.linkage = "internal"
            function.attributes.add("noinline")
            _Network(function).write_stretch(what, length)
        b = self.builder
        left = b.sub(self.count, ir.Constant(I64, first * LANES))
        b.call(function, [self.place(first), left, self.out])

    def write_stretch(self, what: str, length: int) -> None:
        if what == "sorted":
            run = self.sorted([self.padded(k) for k in range(length)])
        else:
            run = self.merged([self.load(k) for k in range(length)])
        for k, register in enumerate(run):
            self.builder.store(register, self.place(k), align=64)
        self.builder.ret(self.count)

    # Memory -------------------------------------------------------------------------------------

    def place(self, number: int) -> ir.Value:
        offset = ir.Constant(I64, number * LANES)
        return self.builder.gep(self.numbers, [offset], source_etype=I32, inbounds=True)

    def load(self, number: int) -> ir.Value:
        return self.builder.load(self.place(number), typ=VECTOR, align=64)

    def padded(self, number: int) -> ir.Value:
        """A register; lanes that are not taken are above all others."""
        b, register = self.builder, self.load(number)
        left = b.trunc(b.sub(self.count, ir.Constant(I64, number * LANES)), I32)
        lanes = ir.Constant(VECTOR, list(range(LANES)))
        taken = b.icmp_signed("<", lanes, self.spread(left))
        return b.select(taken, register, constant(VECTOR, ABOVE))

    def spread(self, number: ir.Value) -> ir.Value:
        b = self.builder
        one = b.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.Constant(I32, 0))
        return b.shuffle_vector(one, one, ir.Constant(VECTOR, [0] * LANES))

    def kept(self, run: Registers) -> ir.Value:
        """Write the first of each number; returns how many there are."""
        b = self.builder
        name = f"llvm.experimental.vector.compress.v{LANES}i32"
        move = declare(self.module, name, VECTOR, [VECTOR, MASK, VECTOR])
        ones = declare(self.module, "llvm.ctpop.i16", I16, [I16])
        behind = ir.Constant(VECTOR, list(range(LANES - 1, 2 * LANES - 1)))
        before, total = constant(VECTOR, -1), ir.Constant(I64, 0)
        for register in run:
            fresh = b.icmp_signed("!=", register, b.shuffle_vector(before, register, behind))
            chosen = b.call(move, [register, fresh, ir.Constant(VECTOR, None)])
            target = b.gep(self.out, [total], source_etype=I32, inbounds=True)
            b.store(chosen, target, align=4)
            total = b.add(total, b.zext(b.call(ones, [b.bitcast(fresh, I16)]), I64))
            before = register
        fills = b.icmp_signed("<", self.count, ir.Constant(I64, len(run) * LANES))
        return b.sub(total, b.zext(fills, I64))

    # The network --------------------------------------------------------------------------------

    def sorted(self, run: Registers) -> Registers:
        """A run of registers of which nothing is known."""
        run = [self.sorted_lanes(register) for register in run]
        length = 1
        while length < len(run):
            length *= 2
            parts = [run[k : k + length] for k in range(0, len(run), length)]
            run = [register for part in parts for register in self.merged(part)]
        return run

    def merged(self, run: Registers) -> Registers:
        """A run of which both halves are in order."""
        run, half = list(run), len(run) // 2
        for k in range(half):
            low, high = run[k], run[-1 - k]
            run[k] = self.least(low, self.mirrored(high))
            run[-1 - k] = self.greatest(self.mirrored(low), high)
        while half > 1:
            half //= 2
            for k in range(len(run)):
                if not k & half:
                    low, high = run[k], run[k + half]
                    run[k], run[k + half] = self.least(low, high), self.greatest(low, high)
        return [self.settled(register, LANES // 2) for register in run]

    def sorted_lanes(self, register: ir.Value) -> ir.Value:
        length = 2
        while length <= LANES:
            register = self.exchanged(register, lambda lane, n=length: lane ^ (n - 1))
            register = self.settled(register, length // 4)
            length *= 2
        return register

    def settled(self, register: ir.Value, distance: int) -> ir.Value:
        """Lanes of which the lower half, in stretches twice as long as the distance, are all below
        the upper half."""
        while distance:
            register = self.exchanged(register, lambda lane, d=distance: lane ^ d)
            distance //= 2
        return register

    def exchanged(self, register: ir.Value, partner: Callable[[int], int]) -> ir.Value:
        """Each lane and its partner, the lesser number first."""
        b, partners = self.builder, [partner(lane) for lane in range(LANES)]
        other = self.moved(register, partners)
        upper = [int(other < lane) for lane, other in enumerate(partners)]
        greatest = self.greatest(register, other)
        return b.select(ir.Constant(MASK, upper), greatest, self.least(register, other))

    def moved(self, register: ir.Value, lanes: Sequence[int]) -> ir.Value:
        return self.builder.shuffle_vector(register, register, ir.Constant(VECTOR, list(lanes)))

    def mirrored(self, register: ir.Value) -> ir.Value:
        return self.moved(register, range(LANES - 1, -1, -1))

    def least(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.pick("smin", left, right)

    def greatest(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.pick("smax", left, right)

    def pick(self, which: str, left: ir.Value, right: ir.Value) -> ir.Value:
        function = declare(self.module, f"llvm.{which}.v{LANES}i32", VECTOR, [VECTOR, VECTOR])
        return self.builder.call(function, [left, right])
