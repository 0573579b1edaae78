"""Memory instructions of PTX as LLVM IR: loads, stores, atomics, copies that run by themselves.

Enters: a `Step` and an instruction. Leaves: code. Asynchronous copies are made when they are
issued, so their groups need no code; the lockstep executor is the one that finds too early reads.
Global and generic addresses are host addresses; shared and local ones are offsets.
"""

from __future__ import annotations

from hectorite.backends.ptx import jit_mbarrier as mbarrier
from hectorite.backends.ptx.jit_float import narrowed, widened
from hectorite.backends.ptx.jit_frame import SIZES, BlockSlot, Status
from hectorite.backends.ptx.jit_integer import SIGNED, type_of
from hectorite.backends.ptx.jit_step import Handler, Step
from hectorite.backends.ptx.jit_text import Code, V, i32, i64
from hectorite.backends.ptx.jit_values import STORAGE
from hectorite.backends.ptx.jit_wgmma import ordered
from hectorite.ir.ptx.syntax import Address, Braces, Immediate, Instruction, Operand

SPACES = ("global", "shared", "local", "const", "param")


def space_of(instruction: Instruction) -> str:
    """The state space that the suffix names; `generic` if none."""
    for part in instruction.suffix:
        if part.partition("::")[0] in SPACES:
            return part.partition("::")[0]
    return "generic"


def elements(instruction: Instruction, operand: Operand) -> tuple[Operand, ...]:
    """The registers that a load or store moves."""
    vector = next((p for p in instruction.suffix if p in ("v2", "v4", "v8")), None)
    items = operand.items if isinstance(operand, Braces) else (operand,)
    if vector is not None and len(items) != int(vector[1:]):
        raise ValueError("another number of registers than the vector has")
    return items


def is_strong(instruction: Instruction) -> bool:
    """Whether another thread may write or read the same place meanwhile."""
    return bool({"volatile", "relaxed", "acquire", "release", "mmio"} & set(instruction.suffix))


def pause(step: Step, instruction: Instruction) -> None:
    """In a loop, let the other threads of the block go on: this may be waiting for them."""
    if step.here[0].number in step.cycles:
        step.suspend(Status.PAUSE, 0)


def load(step: Step, instruction: Instruction) -> None:
    """ld, ldu."""
    target, source = instruction.operands[:2]
    items = elements(instruction, target)
    ptx_type = type_of(instruction)
    type, size = STORAGE[ptx_type], SIZES[ptx_type]
    code, space = step.code, space_of(instruction)
    known = step.whole_parameter(source, size) if space == "param" else None
    if known is not None and len(items) == 1:
        step.write(items[0], known, ptx_type in SIGNED)
        return
    place = step.pointer(source, space, size * len(items), size * len(items))
    for index, item in enumerate(items):
        at = code.at(place, size * index) if index else place
        if is_strong(instruction):
            order = "acquire" if "acquire" in instruction.suffix else "monotonic"
            value = code.let(type, f"load atomic volatile {type}, {at} {order}, align {size}")
        else:
            value = code.load(type, at, size)
        step.write(item, value, ptx_type in SIGNED)
    if is_strong(instruction):
        pause(step, instruction)


def store(step: Step, instruction: Instruction) -> None:
    """st."""
    target, source = instruction.operands[:2]
    items = elements(instruction, source)
    ptx_type = type_of(instruction)
    type, size = STORAGE[ptx_type], SIZES[ptx_type]
    code = step.code
    values = [step.read(item, type) for item in items]
    place = step.pointer(target, space_of(instruction), size * len(items), size * len(items))
    for index, value in enumerate(values):
        at = code.at(place, size * index) if index else place
        if is_strong(instruction):
            order = "release" if "release" in instruction.suffix else "monotonic"
            code.do(f"store atomic volatile {value}, {at} {order}, align {size}")
        else:
            code.store(value, at, size)


SIMPLE_ATOMICS = {"add": "add", "and": "and", "or": "or", "xor": "xor", "exch": "xchg",
                  "inc": "uinc_wrap", "dec": "udec_wrap"}  # fmt: skip
ATOMICS = (*SIMPLE_ATOMICS, "min", "max", "cas")
NARROW = {"f16": ("f16", 1), "bf16": ("bf16", 1), "f16x2": ("f16", 2), "bf16x2": ("bf16", 2)}


def atomic(step: Step, instruction: Instruction) -> None:
    """atom, and red, which has no result."""
    is_red = instruction.name == "red"
    rest = instruction.operands if is_red else instruction.operands[1:]
    type = type_of(instruction)
    operation = next(part for part in instruction.suffix if part in ATOMICS)
    items = elements(instruction, rest[1])
    size = SIZES[type]
    place = step.pointer(rest[0], space_of(instruction), size * len(items), size * len(items))
    weak = {"acquire", "release", "acq_rel"} & set(instruction.suffix)
    order = "seq_cst" if weak else "monotonic"
    compared = step.read(rest[1], STORAGE[type]) if operation == "cas" else None
    sources = (rest[2],) if compared is not None else items
    values = [step.read(item, STORAGE[type]) for item in sources]
    targets = () if is_red else elements(instruction, instruction.operands[0])
    for index, value in enumerate(values):
        at = step.code.at(place, size * index) if index else place
        if compared is not None:
            old = _exchanged(step.code, at, compared, value, order)
        else:
            old = _changed(step.code, instruction, operation, type, at, value, order)
        if targets:
            step.write(targets[index], old, type in SIGNED)
    if operation in ("cas", "exch") and not is_red:
        pause(step, instruction)


def _exchanged(code: Code, at: V, compared: V, value: V, order: str) -> V:
    both = f"{{ {value.type}, i1 }}"
    pair = code.let(both, f"cmpxchg {at}, {compared}, {value} {order} {order}")
    return code.let(value.type, f"extractvalue {pair}, 0")


def _changed(
    code: Code, instruction: Instruction, operation: str, type: str, at: V, value: V, order: str
) -> V:
    if type in NARROW:
        return _changed_narrow(code, operation, type, at, value, order)
    if type in ("f32", "f64"):
        name = {"add": "fadd", "min": "fmin", "max": "fmax", "exch": "xchg"}[operation]
    elif operation in ("min", "max"):
        name = operation if type in SIGNED else f"u{operation}"
    else:
        name = SIMPLE_ATOMICS[operation]
    return code.let(value.type, f"atomicrmw {name} {at}, {value} {order}")


def _changed_narrow(code: Code, operation: str, type: str, at: V, value: V, order: str) -> V:
    """16-bit floats: compute, and try to exchange until nobody came between."""
    single, count = NARROW[type]
    names = {"add": "fadd", "min": "minimumnum", "max": "maximumnum"}
    whole = f"i{16 * count}"
    before = code.alloca(whole)
    code.store(code.let(whole, f"load atomic {whole}, {at} monotonic, align {2 * count}"), before)
    again, done = code.name("again"), code.name("done")
    code.do(f"br label %{again}")
    code.label(again)
    old = code.load(whole, before)
    new = V(whole, "0")
    for index in range(count):
        shift = V(whole, str(16 * index))
        a, b = (
            widened(code, single, code.resized(code.op("lshr", word, shift), "i16"))
            for word in (old, value)
        )
        if operation == "add":
            result = code.op("fadd", a, b)
        else:
            result = code.call("float", f"llvm.{names[operation]}.f32", a, b)
        part = code.resized(narrowed(code, single, result), whole)
        new = code.op("or", new, code.op("shl", part, shift))
    pair = code.let(f"{{ {whole}, i1 }}", f"cmpxchg {at}, {old}, {new} {order} {order}")
    code.store(code.let(whole, f"extractvalue {pair}, 0"), before)
    fine = code.let("i1", f"extractvalue {pair}, 1")
    code.do(f"br {fine}, label %{done}, label %{again}")
    code.label(done)
    return old


def copy(step: Step, instruction: Instruction) -> None:
    """cp.async and cp.async.bulk, and what belongs to them."""
    suffix = instruction.suffix
    if any(p in ("commit_group", "wait_group", "wait_all", "prefetch") for p in suffix):
        return
    if suffix[:2] == ("async", "mbarrier"):
        if "noinc" in suffix:
            mbarrier.arrive(step, instruction.operands[0], i64(1))
        return
    if suffix[0] != "async" or "tensor" in suffix:
        raise step.wrong(instruction)
    if suffix[1] == "bulk":
        _bulk_copy(step, instruction)
        return
    target, source, size = instruction.operands[:3]
    assert isinstance(size, Immediate) and isinstance(size.value, int)
    if size.value not in ((16,) if "cg" in suffix else (4, 8, 16)):
        raise step.wrong(instruction, f"{size.value} bytes")
    place = step.pointer(target, "shared", size.value, size.value)
    given = instruction.operands[3] if len(instruction.operands) > 3 else None
    wide = given is not None and "L2::cache_hint" in suffix and len(instruction.operands) == 4
    if given is None or wide:
        origin = step.pointer(source, "global", size.value, size.value)
        copy_bytes(step.code, place, origin, i64(size.value))
        return
    code = step.code
    zeros = f"ptr align 1 {place.name}, i8 0, i64 {size.value}, i1 false"
    code.pieces.declare("llvm.memset.p0.i64", "void", "ptr", "i8", "i64", "i1")
    code.do(f"call void @llvm.memset.p0.i64({zeros})")
    count = _source_bytes(step, given, size.value)
    with code.when(code.compare("ne", count, i64(0))):
        address = step.address(source)
        assert isinstance(source, Address)
        step.check_global(address, count, size.value, step.origin(source))
        copy_bytes(code, place, code.cast("inttoptr", address, "ptr"), count)


def _source_bytes(step: Step, operand: Operand, size: int) -> V:
    """How many bytes are copied; the others become zeros. A predicate that holds: none."""
    name = getattr(operand, "name", None)
    if isinstance(name, str) and step.registers.get(name) == "i1":
        ignored = step.read(operand, "i1")
        return step.code.select(ignored, i64(0), i64(size))
    count = step.code.resized(step.read(operand, "i32"), "i64")
    return step.code.call("i64", "llvm.umin.i64", count, i64(size))


def copy_bytes(code: Code, target: V, source: V, count: V) -> None:
    code.pieces.declare("llvm.memmove.p0.p0.i64", "void", "ptr", "ptr", "i64", "i1")
    code.do(f"call void @llvm.memmove.p0.p0.i64({target}, {source}, {count}, i1 false)")


def _bulk_copy(step: Step, instruction: Instruction) -> None:
    """cp.async.bulk without a tensor map: a stretch of bytes, 16 at a time."""
    named = [p.partition("::")[0] for p in instruction.suffix if p.partition("::")[0] in SPACES]
    to, where = named[0], named[1]
    target, source, size = instruction.operands[:3]
    code = step.code
    count = code.resized(step.read(size, "i32"), "i64")
    places: list[V] = []
    for operand, space in ((target, to), (source, where)):
        assert isinstance(operand, Address)
        address = step.address(operand)
        if space == "shared":
            step.check_shared(address, count, 16)
            places.append(code.at(V("ptr", "%shared"), address))
        else:
            step.check_global(address, count, 16, step.origin(operand))
            places.append(code.cast("inttoptr", address, "ptr"))
    copy_bytes(code, places[0], places[1], count)
    if to == "shared":
        mbarrier.complete_bytes(step, instruction.operands[3], count)


def fence(step: Step, instruction: Instruction) -> None:
    """fence, membar."""
    step.code.do("fence seq_cst")


def sleep(step: Step, instruction: Instruction) -> None:
    pause(step, instruction)


def memory_barrier(step: Step, instruction: Instruction) -> None:
    """mbarrier."""
    mbarrier.written(step, instruction)
    if instruction.suffix[0] in ("test_wait", "try_wait"):
        pause(step, instruction)


CLUSTER_BARRIER = 16
REDUCTIONS = {"and": 1, "or": 2, "popc": 3}


def barrier(step: Step, instruction: Instruction) -> None:
    """bar, barrier: of the block. A cluster is one block."""
    words = [p for p in instruction.suffix if p not in ("cta", "aligned")]
    kind = words[0]
    if kind == "cluster":
        if words[1] == "wait":
            _wait(step, i32(CLUSTER_BARRIER), i32(0), None)
        return
    operands = list(instruction.operands)
    if kind == "red":
        _barrier_reduction(step, instruction, words, operands)
        return
    number = step.read(operands[0], "i32") if operands else i32(0)
    count = step.read(operands[1], "i32") if len(operands) > 1 else i32(0)
    if kind == "arrive":
        place = step.code.at(V("ptr", "%block"), 8 * BlockSlot.ARRIVED)
        at = step.code.at(place, step.code.resized(number, "i64"), "i32")
        step.code.store(step.code.op("add", step.code.load("i32", at, 4), i32(1)), at, 4)
        step.needs_threads = True
    elif kind == "sync":
        _wait(step, number, count, None)
    else:
        raise step.wrong(instruction)


def _wait(step: Step, number: V, count: V, value: V | None) -> None:
    """Wait at a barrier. Its number travels in the low byte of the key, a reduction above it."""
    step.suspend(Status.BARRIER, 0, mask=count, value=value, key_value=number)


def _barrier_reduction(
    step: Step, instruction: Instruction, words: list[str], operands: list[Operand]
) -> None:
    code = step.code
    target, number = operands[0], step.read(operands[1], "i32")
    count = step.read(operands[2], "i32") if len(operands) > 3 else i32(0)
    brought = code.resized(step.read(operands[-1], "i1"), "i32")
    how = REDUCTIONS[words[1]]
    _wait(step, code.op("or", number, i32(how << 8)), count, brought)
    result = code.load("i32", code.at(V("ptr", "%record"), 28), 4)
    if how != 3:
        result = code.compare("ne", result, i32(0))
    step.write(target, result)


MEMORY: dict[str, Handler] = {
    **dict.fromkeys(("ld", "ldu"), load),
    "st": store,
    **dict.fromkeys(("atom", "red"), atomic),
    "cp": copy,
    **dict.fromkeys(("fence", "membar"), fence),
    "nanosleep": sleep,
    "mbarrier": memory_barrier,
    **dict.fromkeys(("bar", "barrier"), barrier),
    "wgmma": ordered,
}
