"""Elements between memory and registers, many at a time.

Enters: an address of memory, how well it is aligned, an element type and a number of elements.
Leaves: loads and stores as wide as the alignment allows, up to 16 bytes, and what brings their
words into the form that registers have (`convert.py`), or back.

    x0, x1, x2, x3 = load_element(code, At(p), ELEMENTS["f16"], 4, align=8)     ld.global.v2.b32
    store_element(code, At(q), [x0, x1, x2, x3], ELEMENTS["f32"], align=16)     st.global.v4.f32

Elements are stored as NumPy does: bool and integers below 8 bits one to a byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xdsl.ir import SSAValue

from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.lowering.ptx.convert import register_type, rounded
from hectorite.lowering.ptx.number import PtxNumber
from hectorite.lowering.ptx.small_floats import small_float_bits, small_float_value
from hectorite.lowering.ptx.writer import At, PtxCode

WIDEST = 16
"""Bytes of the widest access."""


def stored_bytes(element: ElementType) -> int:
    """The bytes of one element in memory."""
    return 4 if element.kind == "index" else element.storage.itemsize


def pieces(size: int, count: int, align: int) -> Iterator[tuple[int, int]]:
    """(offset, bytes) of the accesses to so many elements of a size: each of a power of two of
    bytes, at most 16, and as aligned as it is wide."""
    at, end = 0, size * count
    while at < end:
        width = WIDEST
        while width > size and (width > end - at or at % width or align % width):
            width //= 2
        yield at, width
        at += width


def load_element(
    code: PtxCode,
    address: At,
    element: ElementType,
    count: int = 1,
    align: int | None = None,
    space: str = "global",
    guard: SSAValue | None = None,
) -> list[SSAValue]:
    """`count` elements from an address on, in registers.

    `align` is what the address is known to be a multiple of, the size of an element if None.
    `space` is what follows `ld.`, such as `shared` or `global.nc`. Where `guard` does not hold,
    nothing is read and the elements are 0.
    """
    size = stored_bytes(element)
    values: list[SSAValue] = []
    for offset, width in pieces(size, count, align or size):
        words = _load(code, address.plus(offset), element, width, space, guard)
        if size >= 4:
            values += words
            continue
        for word in words:
            values += _unpacked(PtxNumber(code, word, "s32"), element, min(4, width) // size)
    return _tensor_floats(code, values) if element.name == "tf32" else values


def store_element(
    code: PtxCode,
    address: At,
    values: Sequence[SSAValue],
    element: ElementType,
    align: int | None = None,
    space: str = "global",
    guard: SSAValue | None = None,
) -> None:
    """Elements from registers to an address and on, each float as the nearest of its type; integers
    must be in the range of theirs. `align`, `space` and `guard` are as for loads."""
    size = stored_bytes(element)
    if element.name == "tf32":
        values = _tensor_floats(code, values)
    for offset, width in pieces(size, len(values), align or size):
        first = offset // size
        part = values[first : first + width // size]
        mnemonic = f"st.{space}.{_access(element, width)}"
        words = part if size >= 4 else _packed(code, part, element)
        code.op(mnemonic, address.plus(offset), words, guard=guard)


def combine_element(
    code: PtxCode,
    kind: str,
    address: At,
    values: Sequence[SSAValue],
    element: ElementType,
    together: bool,
    guard: SSAValue | None = None,
) -> None:
    """`add`, `max` or `min` of elements of 4 or 8 bytes and those in global memory, each as one
    step. Sums of f32 go `together`, as far as they are aligned, where the target can do that."""
    type = register_type(element)
    if not element.is_float:
        # Sums wrap alike whatever the sign; those of 64 bits are there without one alone.
        signed = element.kind == "int" and (kind != "add" or type == "b32")
        type = ("s" if signed else "u") + type[1:]
    if together and type == "f32" and kind == "add" and len(values) in (2, 4):
        code.op(f"red.global.add.v{len(values)}.f32", address, list(values), guard=guard)
        return
    for number, value in enumerate(values):
        at = address.plus(number * stored_bytes(element))
        code.op(f"red.global.{kind}.{type}", at, value, guard=guard)


def _tensor_floats(code: PtxCode, values: Sequence[SSAValue]) -> list[SSAValue]:
    return [rounded(PtxNumber(code, value, "f32"), ELEMENTS["tf32"]).value for value in values]


def _access(element: ElementType, width: int) -> str:
    """The vector and the type of an access."""
    if width < 4:
        sign = "s" if element.kind in ("int", "sign") else "u"
        return f"{sign}{8 * width}"
    type = register_type(element) if stored_bytes(element) >= 4 else "b32"
    lanes = 8 * width // int(type[1:])
    return type if lanes == 1 else f"v{lanes}.{type}"


def _load(
    code: PtxCode, address: At, element: ElementType, width: int, space: str, guard: SSAValue | None
) -> list[SSAValue]:
    access = _access(element, width)
    # A register may be wider than what is loaded into it.
    kind = "b32" if width < 4 else access.rpartition(".")[2]
    kinds = [kind] * max(1, width * 8 // int(kind[1:]))
    zero = 0.0 if kind.startswith("f") else 0
    otherwise = [] if guard is None else [code.constant(zero, kind)] * len(kinds)
    loaded: SSAValue | tuple[SSAValue, ...] = code.op(
        f"ld.{space}.{access}", address, guard=guard, otherwise=otherwise, results=kinds
    )
    return list(loaded) if isinstance(loaded, tuple) else [loaded]


# Elements of one and two bytes ------------------------------------------------------------------


def _unpacked(word: PtxNumber, element: ElementType, count: int) -> list[SSAValue]:
    """The elements in a word; one that was loaded alone is extended already."""
    code = word.code
    if element.name == "f16":
        halves = code.op("mov.b32", word.value, results=("b16", "b16"))
        return [code.op("cvt.f32.f16", half) for half in halves[:count]]
    if element.name == "bf16":
        return [half.from_bits().value for half in (word << 16, word & -65536)[:count]]
    if stored_bytes(element) == 2:
        low = code.op("bfe.s32", word.value, 0, 16)
        return [word.value] if count == 1 else [low, (word >> 16).value]
    signed = element.kind in ("int", "sign")
    chosen = [word] if count == 1 else [_byte(word, at, signed) for at in range(count)]
    if element.kind == "bool":
        return [byte.differs(0).value for byte in chosen]
    if element.is_float:
        return [small_float_value(byte, element.name).value for byte in chosen]
    return [byte.value for byte in chosen]


def _byte(word: PtxNumber, at: int, signed: bool) -> PtxNumber:
    """One byte of a word, extended; 8 in a selector repeats the sign."""
    selector = (0x1110 * (8 + at) if signed else 0x4440) + at
    return word.emit("prmt.b32", word, 0, selector)


def _packed(code: PtxCode, values: Sequence[SSAValue], element: ElementType) -> list[SSAValue]:
    """Elements as the words that are stored, the last one perhaps less than full."""
    each = 4 // stored_bytes(element)
    return [_word(code, values[i : i + each], element) for i in range(0, len(values), each)]


def _word(code: PtxCode, values: Sequence[SSAValue], element: ElementType) -> SSAValue:
    if element.name in ("f16", "bf16"):
        high = values[1] if len(values) > 1 else 0.0
        return code.op(f"cvt.rn.{element.name}x2.f32", high, values[0])
    if stored_bytes(element) == 2:
        return values[0] if len(values) == 1 else code.op("prmt.b32", *values, 0x5410)
    parts = [_stored_byte(code, value, element) for value in values]
    if len(parts) == 1:
        return parts[0]
    pairs = [code.op("prmt.b32", *parts[i : i + 2], 0x0040) for i in range(0, len(parts), 2)]
    return pairs[0] if len(pairs) == 1 else code.op("prmt.b32", *pairs, 0x5410)


def _stored_byte(code: PtxCode, value: SSAValue, element: ElementType) -> SSAValue:
    if element.kind == "bool":
        return code.op("selp.b32", 1, 0, value)
    if element.is_float:
        return small_float_bits(PtxNumber(code, value, "f32"), element.name).value
    return value
