"""The registers of the kernels in a cubin of any compiler.

Enters: the bytes of a cubin, an ELF file of 64 bits. Leaves: registers of a thread by kernel, from
the section `.nv.info`, whose entries are a form, an attribute, a size and a value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

REGISTERS = 0x2F
WITH_SIZE = 0x04
"""The form of entries whose value has a size of its own; the others are 4 bytes in all."""


def registers(cubin: bytes) -> dict[str, int]:
    """Registers of a thread of each function."""
    sections = dict(_sections(cubin))
    names, info = _symbols(sections), sections[".nv.info"]
    found: dict[str, int] = {}
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        if form == WITH_SIZE:
            if attribute == REGISTERS:
                symbol, count = struct.unpack_from("<II", info, at + 4)
                found[names[symbol]] = count
            at += size
        at += 4
    return found


def _sections(cubin: bytes) -> Iterator[tuple[str, bytes]]:
    """Each section by name."""
    (start,) = struct.unpack_from("<Q", cubin, 0x28)
    size, count, of_names = struct.unpack_from("<HHH", cubin, 0x3A)
    heads = [struct.unpack_from("<IIQQQQ", cubin, start + size * i) for i in range(count)]
    names = cubin[heads[of_names][4] :]
    for name, kind, _, _, offset, length in heads:
        no_bits = 8
        content = b"" if kind == no_bits else cubin[offset : offset + length]
        yield names[name : names.index(b"\0", name)].decode(), content


def _symbols(sections: dict[str, bytes]) -> list[str]:
    """The names of the symbols, in order."""
    table, names = sections[".symtab"], sections[".strtab"]
    starts = (struct.unpack_from("<I", table, at)[0] for at in range(0, len(table), 24))
    return [names[start : names.index(b"\0", start)].decode() for start in starts]
