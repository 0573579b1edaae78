"""The tables of PTX instructions against the assembler and what it makes of them.

Each line of `data/ptx_instructions.txt` becomes a small kernel; many kernels make a module. Every
target must take what `ir.ptx.limits` calls legal and refuse the rest; the `.version` below the
lowest must refuse too; matrix instructions are native or not in the machine code as the table says.
"""

import itertools
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.machine_code.emulation import emulated
from hectorite.backends.machine_code.sass import disassemble, find_nvdisasm
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.ptx.isa import TABLE, result_registers, row_of, shape_of, split
from hectorite.ir.ptx.limits import (
    LIMITS,
    OLDEST,
    TARGET_VERSIONS,
    legal,
    limits_of,
    lowest_version,
    machine_instructions,
    native,
    why_not,
)
from hectorite.ir.target import TARGETS

needs_assembler = pytest.mark.skipif(not installed(), reason="no assembler for PTX")
needs_disassembler = pytest.mark.skipif(
    not installed() or find_nvdisasm() is None, reason="no assembler, or no disassembler"
)

FILE = Path(__file__).parent / "data" / "ptx_instructions.txt"
LATEST = (9, 0)
VERSIONS = [
    (6, 3),
    (6, 4),
    (6, 5),
    *((7, n) for n in range(9)),
    *((8, n) for n in range(9)),
    (9, 0),
]
KINDS = {"p": "pred", "h": "b16", "r": "b32", "l": "b64", "q": "b128", "f": "f32", "d": "f64"}
PLACES = {"G": "[%l90]", "S": "[%r90]", "B": "[%r91]", "O": "[%l91]", "C": "[number]"}
PLACES["T"] = "[%l92, {%r92, %r93}]"
BITS = {"f64": 64, "tf32": 32, "f16": 16, "bf16": 16, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1}


def matrix_operands(mnemonic):
    """The operands of an `mma`, which follow from its shape and types."""
    parts = split(mnemonic)[1]
    m, n, k = shape_of(parts)
    types = [p for p in parts if p in BITS or p in ("f32", "s32") or re.fullmatch(r"e\dm\d", p)]
    d, a, b, c = types[:4]
    sparse = mnemonic.startswith("mma.sp")

    def fragment(type, elements):
        bits = BITS.get(type, 8)
        return f"D{elements // 32}" if bits == 64 else f"R{elements * bits // 1024}"

    def accumulator(type):
        letter = {"f32": "F", "s32": "R", "f64": "D"}.get(type)
        return f"{letter}{m * n // 32}" if letter else f"R{m * n // 64}"

    fragments = fragment(a, m * k // (2 if sparse else 1)), fragment(b, n * k)
    shown = [accumulator(d), *fragments, accumulator(c)]
    return ", ".join(shown + (["r", "0"] if sparse else []))


def operands_of(text):
    return [part.strip() for part in text.split(",")] if text.strip() else []


@cache
def samples():
    """Each instruction: mnemonic and operands."""
    found = []
    for line in FILE.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        choices = [part.split("|") for part in re.findall(r"<([^>]*)>", line)]
        pattern = re.sub(r"<[^>]*>", "{}", line.replace("{", "{{").replace("}", "}}"))
        for picked in itertools.product(*choices):
            mnemonic, _, rest = pattern.format(*picked).partition(" ")
            if mnemonic.startswith("mma."):
                rest = matrix_operands(mnemonic)
            found.append((mnemonic, rest))
    return found


def source_operands(mnemonic, rest):
    """How many operands are no results."""
    row = row_of(*split(mnemonic))
    return len(operands_of(rest)) - sum(slot[0] in "dD" for slot in row.slots.split())


class Kernel:
    """One instruction between loads of its operands and stores of its results."""

    def __init__(self, number, mnemonic, rest):
        self.number, self.mnemonic = number, mnemonic
        self.taken = dict.fromkeys(KINDS, 0)
        self.before, self.after = [], []
        results = [slot[0] in "dD" for slot in row_of(*split(mnemonic)).slots.split()]
        results += [False] * 8
        shown = [self.operand(o, r) for o, r in zip(operands_of(rest), results, strict=False)]
        self.line = f"  {mnemonic} {', '.join(shown)}".rstrip() + ";"

    def operand(self, text, is_result):
        if text in PLACES:
            place = PLACES[text]
            return place[1:-1] if self.mnemonic.startswith("mapa") else place
        if "|" in text:
            return "|".join(self.register(letter, is_result) for letter in text.split("|"))
        if text in KINDS:
            return self.register(text, is_result)
        if match := re.fullmatch(r"([HRLFD])(\d+)", text):
            letter, count = match[1].lower(), int(match[2])
            return "{" + ", ".join(self.register(letter, is_result) for _ in range(count)) + "}"
        return text

    def register(self, letter, is_result):
        self.taken[letter] += 1
        name, kind = f"%{letter}{self.taken[letter]}", KINDS[letter]
        place = f"[%l90+{64 * len(self.before) + 16 * (is_result is None)}]"
        if letter == "p":
            self.before.append(f"ld.global.b32 %r94, {place}; setp.ne.b32 {name}, %r94, 0;")
            if is_result:
                self.after.append(f"selp.b32 %r94, 1, 0, {name}; st.global.b32 {place}, %r94;")
            return name
        # Registers that are tied to a result need a value before.
        self.before.append(f"ld.global.{kind} {name}, {place};")
        if is_result:
            self.after.append(f"st.global.{kind} {place}, {name};")
        return name

    @property
    def text(self):
        declared = "".join(
            f".reg .{kind} %{letter}<96>; "
            for letter, kind in KINDS.items()
            if letter != "q" or self.taken["q"]
        )
        return [
            f".visible .entry k{self.number}(.param .u64 p) {{ {declared}"
            ".shared .align 128 .b8 s[4096]; .local .align 16 .b8 o[64]; ld.param.u64 %l90, [p]; "
            "mov.u32 %r90, s; add.u32 %r91, %r90, 64; mov.u64 %l91, o; mov.b64 %l92, p; "
            "mov.u32 %r92, 0; mov.u32 %r93, 0; " + " ".join(self.before),
            self.line,
            f"  {' '.join(self.after)} ret; }}",
        ]


def module(numbers, version, target):
    """A module of kernels, and which of them each line belongs to."""
    lines = [f".version {version[0]}.{version[1]}", f".target {target}", ".address_size 64"]
    lines.append(".const .f32 number;")
    places = {}
    for number in numbers:
        text = Kernel(number, *samples()[number]).text
        places |= {len(lines) + offset: number for offset in (1, 2, 3)}
        lines += text
    return "\n".join(lines) + "\n", places


def refused(numbers, version, target, on):
    """Which instructions the assembler refuses."""
    text, places = module(numbers, version, target)
    try:
        assemble(text, on)
    except HectoriteError as error:
        lines = {d.span.line for d in error.diagnostics if d.span is not None}
        # A `.version` that does not know the target refuses everything.
        return set(numbers) if lines & {1, 2} else {places[line] for line in lines}
    return set()


def everything(where):
    return [number for number in range(len(samples())) if where(*samples()[number])]


@pytest.mark.parametrize("target", TARGETS)
@needs_assembler
def test_a_target_takes_what_is_legal_and_nothing_else(target):
    def is_legal(mnemonic, rest):
        return legal(mnemonic, target, source_operands(mnemonic, rest))

    kept = everything(is_legal)
    wrongly = refused(kept, LATEST, target, target)
    assert not [samples()[number] for number in wrongly]
    others = sorted(set(range(len(samples()))) - set(kept))
    accepted = set(others) - refused(others, LATEST, target, target)
    assert not [samples()[number] for number in accepted]


@needs_assembler
def test_the_lowest_version_is_the_lowest():
    groups = defaultdict(list)
    for number, (mnemonic, rest) in enumerate(samples()):
        count = source_operands(mnemonic, rest)
        target = next((t for t in ("sm_75", *TARGETS) if legal(mnemonic, t, count)), None)
        if target is not None:
            groups[target, lowest_version(mnemonic, target, count)].append(number)
    for (target, version), numbers in groups.items():
        on = target if target in TARGETS else "sm_80"
        wrongly = refused(numbers, version, target, on)
        assert not [samples()[number] for number in wrongly], (target, version)
        before = VERSIONS[max(0, VERSIONS.index(version) - 1)]
        if version == OLDEST or version == TARGET_VERSIONS[target]:
            continue
        accepted = set(numbers) - refused(numbers, before, target, on)
        assert not [samples()[number] for number in accepted], (target, before)


@pytest.mark.parametrize("target", TARGETS)
@needs_disassembler
def test_matrix_instructions_are_native_as_the_table_says(target):
    numbers = everything(lambda m, rest: "mma" in m and legal(m, target))
    text, _ = module(numbers, LATEST, target)
    listings = disassemble(assemble(text, target).cubin)
    found = emulated(text, listings)
    for number in numbers:
        mnemonic = samples()[number][0]
        assert native(mnemonic, target) == (f"k{number}" not in found), mnemonic


@needs_disassembler
def test_the_counts_of_emulation_are_about_right():
    """Against the same kernel on a target that has the instruction. Assemblers differ: nvJitLink
    compiles the routines apart, and moves operands to them."""
    numbers = everything(
        lambda m, rest: m.startswith("mma") and legal(m, "sm_89") and not native(m, "sm_100")
    )
    text, _ = module(numbers, LATEST, "sm_89")
    has = disassemble(assemble(text, "sm_89").cubin)
    lacks = disassemble(assemble(text, "sm_100").cubin)
    for number in numbers:
        mnemonic = samples()[number][0]
        count = _instructions(lacks, f"k{number}") - _instructions(has, f"k{number}") + 3
        expected = machine_instructions(mnemonic, "sm_100")
        assert 0.4 * count - 4 < expected < 1.3 * count + 4, (mnemonic, count, expected)


def _instructions(listings, name):
    """Instructions of a kernel and of the routines it calls, some of which call others."""
    waiting, seen = [name], set()
    while waiting:
        current = waiting.pop()
        if current in listings and current not in seen:
            seen.add(current)
            called = (i.target for i in listings[current].instructions if i.name == "CALL")
            waiting += [target for target in called if target]
    return sum(i.name != "NOP" for name in seen for i in listings[name].instructions)


def test_every_row_has_an_instruction():
    rows = {row_of(*split(mnemonic)) for mnemonic, _ in samples()}
    assert not [row for row in TABLE if row not in rows]
    limits = {limit for m, rest in samples() for limit in _limits(m, source_operands(m, rest))}
    missing = [limit for limit in LIMITS if (limit.name, limit.parts) not in limits]
    assert not [(limit.name, *limit.parts) for limit in missing]


def test_results_are_the_registers_that_the_assembler_takes():
    for mnemonic, rest in samples():
        operands = operands_of(rest)
        slots = row_of(*split(mnemonic)).slots.split()
        pairs = zip(operands, slots, strict=False)
        shown = [operand.split("|")[0] for operand, slot in pairs if slot[0] in "dD"]
        kinds = [kind for operand in shown for kind in _kinds(operand)]
        given = result_registers(*split(mnemonic))
        # What elect chooses, it tells in a second result; an arrival elsewhere gives no state.
        assert kinds == list(given[: len(kinds)]) and (kinds or shown in ([], ["_"])), mnemonic
        most = [slot for slot in slots if slot[0] not in "dDp"]
        least = [slot for slot in most if slot[-1] != "?"]
        assert len(least) <= source_operands(mnemonic, rest) <= len(most), mnemonic


def _kinds(operand):
    if operand in KINDS:
        return [KINDS[operand]]
    braces = re.fullmatch(r"([HRLFD])(\d+)", operand)
    return [KINDS[braces[1].lower()]] * int(braces[2]) if braces else []


def _limits(mnemonic, operands):
    return [(limit.name, limit.parts) for limit in limits_of(mnemonic, operands)]


def test_what_lacks_an_instruction_is_told():
    assert why_not("wgmma.fence.sync.aligned", "sm_90") == "sm_90a only"
    assert why_not("stmatrix.sync.aligned.m8n8.x4.shared.b16", "sm_80") == "sm_90 and later"
    assert why_not("add.f32", "sm_80") is None
    assert lowest_version("add.f32") == OLDEST
    assert lowest_version("add.f32", "sm_90") == (7, 8)
