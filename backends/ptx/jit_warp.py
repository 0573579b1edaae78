"""Warp collectives of compiled PTX: what each thread brings, and the exchange itself.

Enters: a `Step` and an instruction; and, for the exchange, the words of all lanes. Leaves: a
`Collective`. The exchange runs once for a warp, when all lanes that take part have come, so its
code loops over lanes.
"""

from __future__ import annotations

from collections.abc import Callable

from hectorite.backends.ptx.jit_integer import SIGNED, pair_of, type_of
from hectorite.backends.ptx.jit_memory import space_of
from hectorite.backends.ptx.jit_mma import matrix_product, word
from hectorite.backends.ptx.jit_step import Collective, Step
from hectorite.backends.ptx.jit_text import Code, V, helper, i32, i64, width
from hectorite.backends.ptx.jit_values import STORAGE
from hectorite.backends.ptx.jit_wgmma import group_product
from hectorite.ir.ptx.syntax import Braces, Instruction, Operand, Sink

SHARED = V("ptr", "%shared")


def taken(code: Code, taking: V, lane: V) -> V:
    """Whether a lane takes part, an i1."""
    bit = code.op("and", code.op("lshr", taking, code.op("and", lane, i32(31))), i32(1))
    return code.compare("ne", bit, i32(0))


def words_of(code: Code, value: V) -> list[V]:
    """A value as 32-bit words, the low one first."""
    bits = width(value.type)
    whole = code.bits(value, f"i{bits}")
    if bits <= 32:
        return [code.resized(whole, "i32")]
    low = code.resized(whole, "i32")
    return [low, code.resized(code.op("lshr", whole, i64(32)), "i32")]


def shuffle(step: Step, instruction: Instruction) -> Collective:
    """shfl.sync."""
    mode = next(p for p in instruction.suffix if p in ("up", "down", "bfly", "idx"))
    if "sync" not in instruction.suffix:
        raise step.wrong(instruction, "without `.sync`")
    target, predicate = pair_of(instruction.operands[0])
    value, b, c, mask = (step.read(operand, "i32") for operand in instruction.operands[1:5])
    outputs: list[tuple[Operand, str]] = [(target, "i32")]
    outputs.append((predicate or Sink(), "i1"))

    def body(code: Code, given: list[V]) -> None:
        mail, taking = given
        with code.loop(i32(32)) as lane:
            shift, clamp = (code.load("i32", word(code, mail, slot, lane), 4) for slot in (1, 2))
            source, inside = _source(code, mode, lane, shift, clamp)
            fine = code.op("and", inside, taken(code, taking, source))
            source = code.op("and", code.select(fine, source, lane), i32(31))
            moved = code.load("i32", word(code, mail, 0, source), 4)
            code.store(moved, word(code, mail, 3, lane), 4)
            code.store(code.resized(inside, "i32"), word(code, mail, 4, lane), 4)

    return Collective([value, b, c], outputs, _shared_code(f"hec.shfl.{mode}", body), mask)


def _source(code: Code, mode: str, lane: V, shift: V, clamp: V) -> tuple[V, V]:
    """From which lane a value comes, and whether that is within the segment."""
    shift = code.op("and", shift, i32(31))
    segment = code.op("and", code.op("lshr", clamp, i32(8)), i32(31))
    outside = code.op("xor", segment, i32(31))
    first = code.op("and", lane, segment)
    last = code.op("or", first, code.op("and", code.op("and", clamp, i32(31)), outside))
    if mode == "up":
        source = code.op("sub", lane, shift)
        return source, code.compare("sge", source, last)
    if mode == "down":
        source = code.op("add", lane, shift)
    elif mode == "bfly":
        source = code.op("xor", lane, shift)
    else:
        source = code.op("or", first, code.op("and", shift, outside))
    return source, code.compare("sle", source, last)


def _shared_code(name: str, body: Callable[[Code, list[V]], None]) -> Callable[[Code, V, V], None]:
    """The exchange as a function of the module, made once for all places that need it."""

    def perform(code: Code, mail: V, taking: V) -> None:
        def write(inner: Code, given: list[V]) -> None:
            body(inner, given)

        helper(
            code.pieces,
            name,
            "void",
            [("ptr", "mail"), ("i32", "taking")],
            write,
            "nounwind optsize",
        )
        code.call_void(name, mail, taking)

    return perform


def _folded(
    code: Code, taking: V, first: V, fold: Callable[[V, V], V], mail: V, slot: int = 0
) -> V:
    """One value out of a word of all lanes that take part."""
    place = code.alloca("i32")
    code.store(first, place)
    with code.loop(i32(32)) as lane:
        value = code.load("i32", word(code, mail, slot, lane), 4)
        now = code.load("i32", place)
        code.store(code.select(taken(code, taking, lane), fold(now, value), now), place)
    return code.load("i32", place)


def _everyone(code: Code, mail: V, slot: int, value: V) -> None:
    with code.loop(i32(32)) as lane:
        code.store(value, word(code, mail, slot, lane), 4)


def _ballot(code: Code, mail: V, taking: V) -> V:
    """A bit for each lane that takes part and brings a word that is not 0."""
    place = code.alloca("i32")
    code.store(i32(0), place)
    with code.loop(i32(32)) as lane:
        holds = code.compare("ne", code.load("i32", word(code, mail, 0, lane), 4), i32(0))
        bit = code.op("shl", code.resized(holds, "i32"), lane)
        code.store(code.op("or", code.load("i32", place), bit), place)
    return code.op("and", code.load("i32", place), taking)


def vote(step: Step, instruction: Instruction) -> Collective:
    """vote.sync."""
    suffix = instruction.suffix
    mode = next(p for p in suffix if p in ("all", "any", "uni", "ballot"))
    brought = step.code.resized(step.read(instruction.operands[1], "i1"), "i32")
    soft = "sync" not in suffix
    mask = None if soft else step.read(instruction.operands[2], "i32")
    type = "i32" if mode == "ballot" else "i1"

    def body(code: Code, given: list[V]) -> None:
        mail, taking = given
        ballot = _ballot(code, mail, taking)
        if mode == "ballot":
            result = ballot
        else:
            every = code.compare("eq", ballot, taking)
            some = code.compare("ne", ballot, i32(0))
            none = code.op("xor", some, V("i1", "true"))
            result = {"all": every, "any": some}.get(mode) or code.op("or", every, none)
            result = code.resized(result, "i32")
        _everyone(code, mail, 1, result)

    perform = _shared_code(f"hec.vote.{mode}", body)
    return Collective([brought], [(instruction.operands[0], type)], perform, mask, soft)


def match(step: Step, instruction: Instruction) -> Collective:
    """match.sync: which lanes bring the same."""
    everyone = "all" in instruction.suffix
    target, predicate = pair_of(instruction.operands[0])
    type = STORAGE[type_of(instruction)]
    brought = words_of(step.code, step.read(instruction.operands[1], type))
    brought = brought if len(brought) == 2 else [*brought, i32(0)]
    mask = step.read(instruction.operands[2], "i32")

    def body(code: Code, given: list[V]) -> None:
        mail, taking = given
        with code.loop(i32(32)) as lane:
            mine = [code.load("i32", word(code, mail, slot, lane), 4) for slot in (0, 1)]
            place = code.alloca("i32")
            code.store(i32(0), place)
            with code.loop(i32(32)) as other:
                same = V("i1", "true")
                for slot, own in enumerate(mine):
                    theirs = code.load("i32", word(code, mail, slot, other), 4)
                    same = code.op("and", same, code.compare("eq", own, theirs))
                bit = code.op("shl", code.resized(same, "i32"), other)
                code.store(code.op("or", code.load("i32", place), bit), place)
            equal = code.op("and", code.load("i32", place), taking)
            all_equal = code.compare("eq", equal, taking)
            if everyone:
                equal = code.select(all_equal, equal, i32(0))
            code.store(equal, word(code, mail, 2, lane), 4)
            code.store(code.resized(all_equal, "i32"), word(code, mail, 3, lane), 4)

    outputs: list[tuple[Operand, str]] = [(target, "i32"), (predicate or Sink(), "i1")]
    name = f"hec.match.{'all' if everyone else 'any'}"
    return Collective(brought, outputs, _shared_code(name, body), mask)


def reduce(step: Step, instruction: Instruction) -> Collective:
    """redux.sync."""
    operation = next(p for p in instruction.suffix if p != "sync")
    type = type_of(instruction)
    brought = step.read(instruction.operands[1], "i32")
    mask = step.read(instruction.operands[2], "i32")
    is_float = type == "f32"
    if is_float and ("abs" in instruction.suffix or "NaN" in instruction.suffix):
        raise step.wrong(instruction)
    sign = "s" if type in SIGNED else "u"
    starts = {"add": 0, "or": 0, "xor": 0, "and": -1}
    edges = {"smin": 0x7FFFFFFF, "smax": -0x80000000, "umin": -1, "umax": 0}
    floats = {"min": 0x7FC00000, "max": 0x7FC00000}
    first = floats[operation] if is_float else starts.get(operation, edges.get(sign + operation))

    def body(code: Code, given: list[V]) -> None:
        mail, taking = given

        def fold(a: V, b: V) -> V:
            if is_float:
                pair = [code.bits(value, "float") for value in (a, b)]
                name = f"llvm.{operation}imumnum.f32"
                return code.bits(code.call("float", name, *pair), "i32")
            if operation in ("min", "max"):
                return code.call("i32", f"llvm.{sign}{operation}.i32", a, b)
            return code.op(operation, a, b)

        _everyone(code, mail, 1, _folded(code, taking, i32(first or 0), fold, mail))

    name = f"hec.redux.{operation}.{type}"
    return Collective([brought], [(instruction.operands[0], "i32")], _shared_code(name, body), mask)


def elect(step: Step, instruction: Instruction) -> Collective:
    """elect.sync: the first lane that takes part."""
    target, predicate = pair_of(instruction.operands[0])
    mask = step.read(instruction.operands[1], "i32")

    def body(code: Code, given: list[V]) -> None:
        mail, taking = given
        leader = code.call("i32", "llvm.cttz.i32", taking, V("i1", "false"))
        with code.loop(i32(32)) as lane:
            code.store(leader, word(code, mail, 0, lane), 4)
            is_leader = code.compare("eq", lane, leader)
            code.store(code.resized(is_leader, "i32"), word(code, mail, 1, lane), 4)

    outputs: list[tuple[Operand, str]] = [(target, "i32"), (predicate or Sink(), "i1")]
    return Collective([], outputs, _shared_code("hec.elect", body), mask)


def active(step: Step, instruction: Instruction) -> Collective:
    """activemask: those that are here when nobody else of the warp can come."""

    def body(code: Code, given: list[V]) -> None:
        _everyone(code, given[0], 0, given[1])

    outputs: list[tuple[Operand, str]] = [(instruction.operands[0], "i32")]
    return Collective([], outputs, _shared_code("hec.active", body), None, soft=True)


def synchronise(step: Step, instruction: Instruction) -> Collective:
    """bar.warp.sync."""
    mask = step.read(instruction.operands[0], "i32")
    return Collective([], [], lambda code, mail, taking: None, mask)


# Matrices in shared memory: eight rows of 16 bytes, a row for each lane of eight.


def _matrix_address(step: Step, operand: Operand, instruction: Instruction, count: int) -> V:
    """The offset of the row that a lane names; checked where a row is wanted of it."""
    code = step.code
    address = step.address(operand)
    if space_of(instruction) == "generic":
        window = code.cast("ptrtoint", SHARED, "i64")
        address = code.op("sub", address, window)
    if step.checked:
        with code.when(code.compare("slt", step.lane(), i32(8 * count))):
            step.check_shared(address, 16, 16)
    return code.resized(address, "i32")


def _count(instruction: Instruction) -> int:
    if "b16" not in instruction.suffix or "m8n8" not in instruction.suffix:
        raise ValueError("another element type or shape")
    return int(next(p for p in instruction.suffix if p in ("x1", "x2", "x4"))[1:])


def move_matrix(step: Step, instruction: Instruction) -> Collective:
    """ldmatrix, and the reverse: register j of a lane holds elements 2*(lane%4) and the next of row
    lane/4 of matrix j."""
    loads, transposed = instruction.name == "ldmatrix", "trans" in instruction.suffix
    count, operands = _count(instruction), list(instruction.operands[:2])
    held, place = operands if loads else reversed(operands)
    items = held.items if isinstance(held, Braces) else (held,)
    address = _matrix_address(step, place, instruction, count)

    def body(code: Code, given: list[V]) -> None:
        mail, _, shared = given
        with code.loop(i32(32)) as lane:
            row = code.op("lshr", lane, i32(2))
            column = code.op("shl", code.op("and", lane, i32(3)), i32(1))
            for matrix in range(count):
                register = word(code, mail, 1 + matrix, lane)
                value = i32(0) if loads else code.load("i32", register, 4)
                for half in (0, 1):
                    at = (row, code.op("add", column, i32(half)))
                    r, c = reversed(at) if transposed else at
                    element, shift = _element(code, mail, shared, matrix, r, c), i32(16 * half)
                    if loads:
                        part = code.resized(code.load("i16", element, 2), "i32")
                        value = code.op("or", value, code.op("shl", part, shift))
                    else:
                        part = code.resized(code.op("lshr", value, shift), "i16")
                        code.store(part, element, 2)
                if loads:
                    code.store(value, register, 4)

    name = f"hec.{instruction.name}.x{count}{'.trans' if transposed else ''}"
    inputs = [] if loads else [step.read(item, "i32") for item in items]
    outputs = [(item, "i32") for item in items] if loads else []
    return Collective([address, *inputs], outputs, _with_shared(name, body))


def _element(code: Code, mail: V, shared: V, matrix: int, row: V, column: V) -> V:
    lane = code.op("add", row, i32(8 * matrix))
    start = code.resized(code.load("i32", word(code, mail, 0, lane), 4), "i64")
    offset = code.op("add", start, code.resized(code.op("shl", column, i32(1)), "i64"))
    return code.at(shared, offset)


def _with_shared(name: str, body: Callable[[Code, list[V]], None]) -> Callable[..., None]:
    def perform(code: Code, mail: V, taking: V) -> None:
        def write(inner: Code, given: list[V]) -> None:
            body(inner, given)

        parameters = [("ptr", "mail"), ("i32", "taking"), ("ptr", "shared")]
        helper(code.pieces, name, "void", parameters, write, "nounwind optsize")
        code.call_void(name, mail, taking, SHARED)

    return perform


def transpose(step: Step, instruction: Instruction) -> Collective:
    """movmatrix: eight rows of eight 16-bit elements, transposed among the lanes."""
    value = step.read(instruction.operands[1], "i32")

    def body(code: Code, given: list[V]) -> None:
        mail, _ = given
        with code.loop(i32(32)) as lane:
            row = code.op("lshr", lane, i32(2))
            column = code.op("shl", code.op("and", lane, i32(3)), i32(1))
            result = i32(0)
            for half in (0, 1):
                from_row = code.op("add", column, i32(half))
                source = code.op("add", code.op("shl", from_row, i32(2)),
                                 code.op("lshr", row, i32(1)))  # fmt: skip
                moved = code.load("i32", word(code, mail, 0, source), 4)
                shift = code.op("shl", code.op("and", row, i32(1)), i32(4))
                part = code.op("and", code.op("lshr", moved, shift), i32(0xFFFF))
                result = code.op("or", result, code.op("shl", part, i32(16 * half)))
            code.store(result, word(code, mail, 1, lane), 4)

    outputs: list[tuple[Operand, str]] = [(instruction.operands[0], "i32")]
    return Collective([value], outputs, _shared_code("hec.movmatrix", body))


COLLECTIVES: dict[str, Callable[[Step, Instruction], Collective]] = {
    "shfl": shuffle,
    "vote": vote,
    "match": match,
    "redux": reduce,
    "elect.sync": elect,
    "activemask": active,
    "bar.warp": synchronise,
    "barrier.warp": synchronise,
    "ldmatrix": move_matrix,
    "stmatrix": move_matrix,
    "movmatrix": transpose,
    "mma": matrix_product,
    "wgmma.mma_async": group_product,
}
