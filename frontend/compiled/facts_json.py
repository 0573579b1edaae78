"""Schemas, signatures and accesses as plain JSON, for the cache and the head of emitted code.

Enters: the dataclasses listed in `CLASSES`, nested in tuples and dictionaries with string keys.
Leaves: what JSON can hold, and from that the same dataclasses again, without any IR.

    IndexExpr.of("e", "src")   {"is": "IndexExpr", "terms": [{"is": "Term", ...}], ...}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, cast

from hectorite.frontend.compiled.range_checks import Check
from hectorite.frontend.compiled.signature import Parameter, Signature
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.schema import Condition, Derivation, Encoded, Schema, SetDecl

CLASSES: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Check,
        Condition,
        Derivation,
        Encoded,
        IndexExpr,
        Parameter,
        Path,
        Schema,
        SetDecl,
        Signature,
        Term,
    )
}


def encode(value: Any) -> Any:
    """What JSON can hold, for a value made of the dataclasses above."""
    if is_dataclass(value):
        held = {f.name: encode(getattr(value, f.name)) for f in fields(value)}
        return {"is": type(value).__name__} | held
    if isinstance(value, tuple | list):
        return [encode(item) for item in cast(Sequence[Any], value)]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in cast(dict[str, Any], value).items()}
    return value


def decode(value: Any) -> Any:
    """The value that `encode` was given; every list becomes a tuple.

    Raises `KeyError` or `TypeError` for JSON that `encode` did not make.
    """
    if isinstance(value, list):
        return tuple(decode(item) for item in cast(list[Any], value))
    if isinstance(value, dict):
        given = cast(dict[str, Any], value)
        held = {key: decode(item) for key, item in given.items() if key != "is"}
        return CLASSES[given["is"]](**held) if "is" in given else held
    return value
