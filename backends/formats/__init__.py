"""Storage formats of sets: one file for each, built from bound data by NumPy.

Enters: a set bound to data and its format. Leaves: the arrays of its position sets, in the order in
which `ir/set_format.py` declares their maps.
"""

from __future__ import annotations

from collections.abc import Callable

from hectorite.backends.formats.bsr import build_bsr
from hectorite.backends.formats.csr import build_csr, build_jagged, check_jagged
from hectorite.backends.formats.dedup import build_dedup
from hectorite.backends.formats.ell import build_ell
from hectorite.backends.formats.hyb import build_hyb
from hectorite.backends.formats.kernel_maps import (
    build_bitmask,
    build_coded_csr,
    build_segmented,
)
from hectorite.backends.formats.parts import Bound, Part, Source
from hectorite.backends.formats.permute import build_permute
from hectorite.backends.formats.sgt import build_sgt
from hectorite.backends.formats.split import build_split
from hectorite.ir.diagnostics import fail
from hectorite.ir.format_text import FormatFault
from hectorite.ir.set_format import canonical

BUILDERS: dict[str, Callable[[Bound], dict[str, Part]]] = {
    "coo": lambda bound: {},
    "csr": build_csr,
    "csc": build_csr,
    "jagged": build_jagged,
    "ell": build_ell,
    "hyb": build_hyb,
    "sgt": build_sgt,
    "bsr": build_bsr,
    "dedup": build_dedup,
    "segmented": build_segmented,
    "bitmask": build_bitmask,
    "coded_csr": build_coded_csr,
    "permute": build_permute,
    "split": build_split,
}


def bound_format(source: Source, over: str, text: str) -> Bound:
    """The set `over` with the format `text`. Raises `HectoriteError` if the format is no format of
    this set."""
    try:
        return Bound(source, over, canonical(source.schema, over, text))
    except FormatFault as fault:
        raise fail(
            f"`{over} as {text}`: {fault.message}", expected=fault.expected, hint=fault.hint
        ) from fault


def build_parts(source: Source, over: str, text: str) -> dict[str, Part]:
    """The parts of the set `over` in the format `text`, by name.

    Raises `HectoriteError` if the data is not as the format wants it.
    """
    bound = bound_format(source, over, text)
    return BUILDERS[bound.format.kind](bound)


def check_data(source: Source, over: str, text: str) -> None:
    """Raises `HectoriteError` if data breaks its format: a jagged set that is out of order."""
    bound = bound_format(source, over, text)
    if bound.format.kind == "jagged":
        check_jagged(bound)
