"""wgmma of compiled PTX: a product of 64 rows by four warps, operands in shared memory.

Enters: a `Step` and an instruction. Leaves: a `Collective` of one warp: each of the four has its
own 16 rows, so warps need not wait for each other; what they read in shared memory is there since
the last barrier. A product is made when it is issued, so groups need no code.

A descriptor names a matrix: its start, two offsets and a swizzle. Row r and piece c (16 bytes) of a
matrix stored along k are at

    swizzle of W bytes   W (r % 8) + stride (r / 8) + 16 c
    none                 16 (r % 8) + stride (r / 8) + leading c

and of one stored along its other direction, r counting k,

    swizzle of W bytes   W (r % 8) + stride (r / 8) + 16 (c % (W / 16)) + leading (c / (W / 16))
    none                 16 (r % 8) + leading (r / 8) + stride c

Then bits 4 to 6 are exchanged by those from 7 on, as many as the swizzle has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hectorite.backends.ptx.jit_frame import aligned
from hectorite.backends.ptx.jit_mma import (
    BITS,
    Shape,
    element,
    items_of,
    multiply,
    spread,
    word,
)
from hectorite.backends.ptx.jit_rounding import to_half
from hectorite.backends.ptx.jit_step import Collective, Step
from hectorite.backends.ptx.jit_text import Code, V, helper, i32, i64
from hectorite.ir.ptx.syntax import Braces, Immediate, Instruction

SHARED = V("ptr", "%shared")
ACCUMULATORS = {"f32", "f16", "s32"}


@dataclass(frozen=True)
class Product:
    """A wgmma: `shape` as of one warp, its columns, how A and B are stored, and their signs."""

    shape: Shape
    columns: int
    a_in_registers: bool
    signs: tuple[int, int] = (1, 1)
    flips: tuple[bool, bool] = (False, False)

    @property
    def sums(self) -> int:
        """Registers of the result in each lane."""
        return self.columns // (4 if self.shape.accumulator == "f16" else 2)

    @property
    def a_words(self) -> int:
        return self.shape.a_registers if self.a_in_registers else 2

    @property
    def name(self) -> str:
        place = "r" if self.a_in_registers else "s"
        switches = "".join("n" if s < 0 else "p" for s in self.signs)
        switches += "".join("t" if f else "k" for f in self.flips)
        return f"hec.wg{self.shape.name[4:]}.n{self.columns}.{place}{switches}"


def ordered(step: Step, instruction: Instruction) -> None:
    """wgmma.fence, commit_group, wait_group."""
    if instruction.suffix[0] not in ("fence", "commit_group", "wait_group"):
        raise step.wrong(instruction)


def group_product(step: Step, instruction: Instruction) -> Collective:
    """wgmma.mma_async."""
    product = _product_of(step, instruction)
    code, operands = step.code, instruction.operands
    targets = items_of(operands[0])
    if len(targets) != product.sums:
        raise step.wrong(instruction, f"it has {product.sums} results")
    inputs = [step.read(item, "i32") for item in targets]
    descriptors: list[tuple[V, int, bool]] = []
    if product.a_in_registers:
        inputs += [step.read(item, "i32") for item in items_of(operands[1])]
    else:
        descriptors.append((step.read(operands[1], "i64"), 64, product.flips[0]))
    descriptors.append((step.read(operands[2], "i64"), product.columns, product.flips[1]))
    for descriptor, rows, flips in descriptors:
        if step.checked:
            bits = BITS[product.shape.b]
            start, size = _extent(code, descriptor, rows, product.shape.k, bits, flips)
            step.check_shared(start, size, 1)
        high = code.op("lshr", descriptor, i64(32))
        inputs += [code.resized(descriptor, "i32"), code.resized(high, "i32")]
    inputs.append(code.resized(step.read(operands[3], "i1"), "i32"))
    inputs.append(code.op("and", code.op("lshr", step.thread_number(), i32(5)), i32(3)))

    def perform(inner: Code, mail: V, taking: V) -> None:
        def body(written: Code, given: list[V]) -> None:
            _multiply_group(written, given[0], given[1], product)

        parameters = [("ptr", "mail"), ("ptr", "shared")]
        helper(inner.pieces, product.name, "void", parameters, body, "nounwind noinline")
        inner.call_void(product.name, mail, SHARED)

    return Collective(inputs, [(item, "i32") for item in targets], perform)


def _product_of(step: Step, instruction: Instruction) -> Product:
    suffix, operands = instruction.suffix, instruction.operands
    size = next(p for p in suffix if re.fullmatch(r"m64n\d+k\d+", p))
    columns, k = (int(number) for number in size[4:].split("k"))
    types = [p for p in suffix if p in BITS or p in ACCUMULATORS]
    known = suffix[:3] == ("mma_async", "sync", "aligned") and len(types) == 3
    if not known or types[0] not in ACCUMULATORS or "b1" in types:
        raise step.wrong(instruction)
    switches: list[int] = []
    for operand in operands[4:]:
        if not isinstance(operand, Immediate):
            raise step.wrong(instruction, "switches that are no numbers")
        switches.append(int(operand.value))
    in_registers = isinstance(operands[1], Braces)
    signs = (switches[0], switches[1]) if len(switches) > 1 else (1, 1)
    flips = [bool(s) for s in switches[2:]]
    flips = [False, *flips] if in_registers else flips
    a_flip, b_flip = (*flips, False, False)[:2]
    shape = Shape(types[0], types[1], types[2], k, "", "satfinite" in suffix)
    return Product(shape, columns, in_registers, signs, (a_flip, b_flip))


# Descriptors.


def _field(code: Code, descriptor: V, first: int) -> V:
    """Fourteen bits of a descriptor, in bytes."""
    moved = code.op("lshr", descriptor, i64(first)) if first else descriptor
    return code.op("shl", code.op("and", moved, i64(0x3FFF)), i64(4))


def _swizzle(code: Code, descriptor: V) -> tuple[V, V]:
    """The bytes that a swizzle spans (0: none), and which bits it exchanges."""
    kind = code.op("lshr", descriptor, i64(62))
    none = code.compare("eq", kind, i64(0))
    span = code.select(none, i64(0), code.op("lshr", i64(256), kind))
    mask = code.select(none, i64(0), code.op("sub", code.op("lshr", i64(16), kind), i64(1)))
    return span, mask


def piece_address(code: Code, descriptor: V, row: V, piece: V, flips: bool) -> V:
    """The offset in shared memory of 16 bytes of a matrix (i64s)."""
    name = f"hec.wgmma.piece.{'t' if flips else 'k'}"

    def body(inner: Code, given: list[V]) -> V:
        d, r, c = given
        span, mask = _swizzle(inner, d)
        plain = inner.compare("eq", span, i64(0))
        start, leading, stride = (_field(inner, d, first) for first in (0, 16, 32))
        within, above = inner.op("and", r, i64(7)), inner.op("lshr", r, i64(3))
        pitch = inner.select(plain, i64(16), span)
        at = inner.op("add", start, inner.op("mul", within, pitch))
        if not flips:
            along = inner.op("mul", c, inner.select(plain, leading, i64(16)))
            at = inner.op("add", at, inner.op("add", along, inner.op("mul", above, stride)))
        else:
            across = inner.select(plain, i64(1), inner.op("lshr", span, i64(4)))
            inside = inner.op("mul", inner.op("urem", c, across), i64(16))
            beyond = inner.op("mul", inner.op("udiv", c, across), leading)
            swizzled = inner.op("add", inner.op("add", inside, beyond),
                                inner.op("mul", above, stride))  # fmt: skip
            simple = inner.op("add", inner.op("mul", above, leading), inner.op("mul", c, stride))
            at = inner.op("add", at, inner.select(plain, simple, swizzled))
        exchanged = inner.op("and", inner.op("lshr", at, i64(7)), mask)
        return inner.op("xor", at, inner.op("shl", exchanged, i64(4)))

    parameters = [("i64", "descriptor"), ("i64", "row"), ("i64", "piece")]
    helper(code.pieces, name, "i64", parameters, body)
    return code.call("i64", name, descriptor, row, piece)


def _extent(code: Code, descriptor: V, rows: int, k: int, bits: int, flips: bool) -> tuple[V, V]:
    """Where a matrix starts, and how many bytes from there hold it, up to its last piece."""
    counts = (k, rows * bits // 128) if flips else (rows, k * bits // 128)
    last_row, last_piece = (count - 1 for count in counts)
    start = _field(code, descriptor, 0)
    end = piece_address(code, descriptor, i64(last_row), i64(last_piece), flips)
    size = code.op("sub", code.op("add", end, i64(16)), start)
    positive = code.call("i64", "llvm.smax.i64", size, i64(16))
    return start, positive


# The product.


def _multiply_group(code: Code, mail: V, shared: V, product: Product) -> None:
    """What one warp adds: its 16 rows of A times B, eight columns at a time."""
    shape, depth = product.shape, product.shape.depth
    kind = "float" if shape.is_float else "i32"
    blocks = product.columns // 8
    a = code.alloca(f"[{16 * depth} x {kind}]", 64)
    b = code.alloca(f"[{aligned(product.columns, 16) * depth} x {kind}]", 64)
    c = code.alloca(f"[{16 * product.columns} x {kind}]", 64)
    lane = i32(0)
    b_slot = product.sums + product.a_words
    scale = code.load("i32", word(code, mail, b_slot + 2, lane), 4)
    warp = code.resized(code.load("i32", word(code, mail, b_slot + 3, lane), 4), "i64")
    if product.a_in_registers:
        _spread_registers(code, mail, product, a)
    else:
        first = code.op("mul", warp, i64(16))
        descriptor = _descriptor(code, mail, product.sums)
        _from_shared(code, shared, descriptor, product, 0, first, (a, 16))
    descriptor = _descriptor(code, mail, b_slot)
    _from_shared(code, shared, descriptor, product, 1, i64(0), (b, product.columns))
    _sums(code, mail, product, c, scale, into=True)
    with code.loop(i64(blocks)) as block:
        b_block = code.at(b, code.op("mul", block, i64(8 * depth)), kind)
        c_block = code.at(c, code.op("mul", block, i64(128)), kind)
        multiply(code, a, b_block, c_block, shape)
    _sums(code, mail, product, c, scale, into=False)


def _descriptor(code: Code, mail: V, slot: int) -> V:
    low, high = (
        code.resized(code.load("i32", word(code, mail, slot + i, i32(0)), 4), "i64") for i in (0, 1)
    )
    return code.op("or", low, code.op("shl", high, i64(32)))


def _spread_registers(code: Code, mail: V, product: Product, a: V) -> None:
    shape = product.shape
    with code.loop(i32(32)) as lane:
        g, t = code.op("lshr", lane, i32(2)), code.op("and", lane, i32(3))
        start = code.op("mul", t, i32(shape.per_register))
        for r in range(shape.a_registers):
            row = code.op("add", g, i32(8 * (r & 1)))
            column = code.op("add", start, i32((r >> 1) * 4 * shape.per_register))
            at = code.op("add", code.op("mul", row, i32(shape.depth)), column)
            spread(code, mail, product.sums + r, lane, shape.a, a, at, 1)


def _from_shared(
    code: Code,
    shared: V,
    descriptor: V,
    product: Product,
    which: int,
    first: V,
    matrix: tuple[V, int],
) -> None:
    """A (which = 0, its rows from `first` on) or B (1) out of shared memory.

    A is kept as [row][k]; B as [column / 8][k][column % 8].
    """
    place, rows = matrix
    shape, flips = product.shape, product.flips[which]
    type = (shape.a, shape.b)[which]
    each = 128 // BITS[type]
    count, pieces = (shape.k, rows // each) if flips else (rows, shape.k // each)
    with code.loop(i64(count)) as row, code.loop(i64(pieces)) as piece:
        source_row, source_piece = row, piece
        if flips:
            source_piece = code.op("add", piece, code.op("udiv", first, i64(each)))
        else:
            source_row = code.op("add", row, first)
        at = piece_address(code, descriptor, source_row, source_piece, flips)
        for number in range(4):
            value = code.load("i32", code.at(shared, code.op("add", at, i64(4 * number))), 4)
            for i in range(each // 4):
                along = code.op("add", code.op("mul", piece, i64(each)),
                                i64(number * (each // 4) + i))  # fmt: skip
                r, k = (along, row) if flips else (row, along)
                index = _kept_at(code, r, k, shape.depth, which)
                found = _signed(code, element(code, value, type, i), product.signs[which])
                code.store(found, code.at(place, index, found.type), 4)


def _kept_at(code: Code, row: V, k: V, depth: int, which: int) -> V:
    if which == 0:
        return code.op("add", code.op("mul", row, i64(depth)), k)
    block, inside = code.op("lshr", row, i64(3)), code.op("and", row, i64(7))
    start = code.op("add", code.op("mul", block, i64(depth)), k)
    return code.op("add", code.op("shl", start, i64(3)), inside)


def _signed(code: Code, value: V, sign: int) -> V:
    return code.let(value.type, f"fneg {value}") if sign < 0 else value


def _sums(code: Code, mail: V, product: Product, c: V, scale: V, into: bool) -> None:
    """The accumulators from the mail into [column / 8][row][column % 8], or back behind the words
    that came in."""
    shape = product.shape
    kind = "float" if shape.is_float else "i32"
    narrow = shape.accumulator == "f16"
    first = 0 if into else product.sums + product.a_words + 4
    kept = code.compare("ne", scale, i32(0))
    with code.loop(i32(32)) as lane:
        g, t = code.op("lshr", lane, i32(2)), code.op("and", lane, i32(3))
        start = code.op("add", code.op("mul", g, i32(8)), code.op("shl", t, i32(1)))
        for r in range(product.sums):
            per = 2 if narrow else 4
            inner = 64 * (r % per) if narrow else 64 * ((r % per) >> 1) + (r & 1)
            index = code.op("add", start, i32(128 * (r // per) + inner))
            at = code.at(c, code.resized(index, "i64"), kind)
            place = word(code, mail, first + r, lane)
            if into:
                _add_start(code, place, at, kept, kind, narrow)
            else:
                code.store(_result(code, at, kind, narrow), place, 4)


def _add_start(code: Code, place: V, at: V, kept: V, kind: str, narrow: bool) -> None:
    value = code.select(kept, code.load("i32", place, 4), i32(0))
    parts = [element(code, value, "f16", i) for i in (0, 1)] if narrow else [code.bits(value, kind)]
    for i, part in enumerate(parts):
        code.store(part, code.at(at, 4 * i), 4)


def _result(code: Code, at: V, kind: str, narrow: bool) -> V:
    if not narrow:
        return code.load("i32", at, 4)
    halves: Sequence[V] = [
        code.resized(to_half(code, code.load(kind, code.at(at, 4 * i), 4)), "i32") for i in (0, 1)
    ]
    return code.op("or", halves[0], code.op("shl", halves[1], i32(16)))
