"""Matrix instructions that a GPU does not have, found in what the assembler made of them.

Enters: PTX text, and the listings of its cubin. Leaves: for each kernel the matrix instructions
that became something else than machine instructions of their kind. This is a measurement; what to
expect is in `ir/ptx/limits.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from hectorite.backends.machine_code.sass import Listing
from hectorite.ir.ptx.isa import split

_FAMILIES = (
    (("b1",), r"B(G)?MMA\."),
    (("s4",), r"IMMA\..*\bS4\b"),
    (("u4",), r"IMMA\..*\bU4\b"),
    (("s8", "u8"), r"I(G)?MMA\."),
    (("e4m3", "e5m2", "e2m1", "e2m3", "e3m2"), r"[QO](G)?MMA\."),
    (("f64",), r"DMMA\."),
    (("f16", "bf16", "tf32"), r"H(G)?MMA\."),
)
"""The machine instruction of each type of operand; the first that an instruction has decides."""

_ENTRY = re.compile(r"\.(?:entry|func)\b[^;{]*?([\w$]+)\s*\(", re.DOTALL)
_MATRIX = re.compile(r"^\s*(?:@!?%\w+\s+)?(?:\{\s*)?(w?g?mma(?:\.[\w:]+)+)\s", re.MULTILINE)
_ROUTINE = re.compile(r"(__cuda_sm_\w*(?:mma|mdata)\w*)")


def emulated(text: str, listings: Mapping[str, Listing]) -> dict[str, tuple[str, ...]]:
    """For each kernel that has any: the matrix instructions of the PTX that are not in its machine
    code, and the routines of the assembler that it calls in their place."""
    found: dict[str, tuple[str, ...]] = {}
    for name, mnemonics in matrix_instructions(text).items():
        if name not in listings:
            continue
        missing = [m for m in mnemonics if not _is_in(m, listings[name])]
        routines = {match[1] for match in map(_ROUTINE.search, _called(listings[name])) if match}
        if missing or routines:
            found[name] = (*missing, *sorted(routines))
    return found


def matrix_instructions(text: str) -> dict[str, tuple[str, ...]]:
    """The distinct mnemonics of `mma` and `wgmma.mma_async` in each function of a PTX text."""
    entries = list(_ENTRY.finditer(text))
    ends = [entry.start() for entry in entries[1:]] + [len(text)]
    found: dict[str, tuple[str, ...]] = {}
    for entry, end in zip(entries, ends, strict=False):  # there may be no entry
        used = (m[1] for m in _MATRIX.finditer(text, entry.end(), end))
        found[entry[1]] = tuple(sorted({name for name in used if _multiplies(name)}))
    return found


def _multiplies(mnemonic: str) -> bool:
    return mnemonic.startswith(("mma.", "wgmma.mma_async."))


def _is_in(mnemonic: str, listing: Listing) -> bool:
    """Has the machine code an instruction of the kind that does this one at once?"""
    parts = set(split(mnemonic)[1])
    pattern = next((shape for types, shape in _FAMILIES if parts & set(types)), None)
    if pattern is None:
        return True
    opcodes = [i.opcode for i in listing.instructions if re.match(pattern, i.opcode)]
    if "xor" in parts:
        opcodes = [opcode for opcode in opcodes if ".XOR." in opcode]
    return bool(opcodes)


def _called(listing: Listing) -> Iterable[str]:
    return (i.operands for i in listing.instructions if i.name == "CALL")
