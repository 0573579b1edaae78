"""Atomic operations: `atom` and `red` in global and shared memory.

Lanes that name the same place take effect one after the other, in the order of lanes. Where only
memory counts (`red`), NumPy's unbuffered operations do that; where each lane gets what it found,
lanes are sorted by place and each place's operations are scanned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.access import Access, Places, accessed_space, items_of, vector_of
from hectorite.backends.ptx.float import element_of
from hectorite.backends.ptx.formats import DTYPES, decode, encode
from hectorite.backends.ptx.integer import Builder, value_type
from hectorite.backends.ptx.lanes import Lanes
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Instruction, Sink

Array = npt.NDArray[Any]
Combine = Callable[[Array, Array], Array]

_UFUNCS: dict[str, np.ufunc] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}
_FLOAT_EXTREMES = {"min": np.fmin, "max": np.fmax}


def _increment(old: Array, limit: Array) -> Array:
    return np.where(old >= limit, old.dtype.type(0), np.add(old, old.dtype.type(1)))


def _decrement(old: Array, limit: Array) -> Array:
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1))


def _exchange(old: Array, new: Array) -> Array:
    return new


def _exchange_equal(old: Array, compare: Array, new: Array) -> Array:
    return np.where(old == compare, new, old)


def atomic(code: Code, at: Instruction) -> Step:
    """`atom` and `red` of every operation and type, vectors and pairs included."""
    type, count = value_type(code, at), vector_of(at)
    operation = next((part for part in at.suffix if part in _NAMES), None)
    if operation is None:
        raise code.unsupported()
    operands = list(at.operands)
    results = items_of(operands.pop(0)) if at.name == "atom" else ()
    place, *values = operands
    space = accessed_space(code, at, place)
    dtype, parts = DTYPES[type]
    width = np.dtype(dtype).itemsize
    total = width * count * parts
    if operation in ("cas", "exch") and (total > 8 or parts > 1):
        raise code.unsupported(f".{operation} of {total} bytes")
    access = Access(code, at, place, space, total, "atomic")
    sources = [
        [code.operand(item, value_type(code, at)) for item in items_of(value)]
        for value in values[: 2 if operation == "cas" else 1]
    ]
    targets = [
        code.target(item, value_type(code, at)) for item in results if not isinstance(item, Sink)
    ]
    element = element_of(type)
    row = count * parts

    def run(lanes: Lanes) -> None:
        for places in access.places(lanes):
            chosen = [_row(source, places, row) for source in sources]
            old = _update(places, operation, element, chosen, row, bool(targets))
            if old is None:
                continue
            for number, target in enumerate(targets):
                part = old[:, number * parts : (number + 1) * parts]
                target.store(places.index, part if parts > 1 else part[:, 0])

    return run


_NAMES = frozenset({*_UFUNCS, "inc", "dec", "exch", "cas"})


def _row(sources: list[Array], places: Places, row: int) -> Array:
    """The values of a vector of registers as rows of `row` elements."""
    columns = [source[places.index].reshape(len(places.offsets), -1) for source in sources]
    return np.concatenate(columns, axis=1) if len(columns) > 1 else columns[0]


def _update(
    places: Places, operation: str, element: str, values: list[Array], row: int, wanted: bool
) -> Array | None:
    """Do the operation at every place and element; what was there before, if that is wanted."""
    dtype = np.dtype(DTYPES[element][0])
    data = places.buffer.typed(dtype.itemsize).view(dtype)
    first = places.offsets >> (dtype.itemsize.bit_length() - 1)
    index = (first[:, None] + np.arange(row)).ravel()
    given = [np.ascontiguousarray(value).ravel() for value in values]
    ufunc = _UFUNCS.get(operation)
    if ufunc is not None and element not in ("f16", "bf16"):
        if dtype.kind == "f":
            ufunc = _FLOAT_EXTREMES.get(operation, ufunc)
        if not wanted:
            ufunc.at(data, index, given[0])
            return None
        old = _scanned(data, index, given[0], ufunc)
        return old.reshape(-1, row)
    combine = _combination(operation, element)
    return _one_by_one(data, index, given, combine).reshape(-1, row)


def _combination(operation: str, element: str) -> Callable[..., Array]:
    """What is there and what is given -> what is there then."""
    if operation == "cas":
        return _exchange_equal
    if operation in ("inc", "dec"):
        return _increment if operation == "inc" else _decrement
    if operation == "exch":
        return _exchange
    ufunc = _FLOAT_EXTREMES.get(operation, _UFUNCS[operation])

    def run(old: Array, new: Array) -> Array:
        return encode(ufunc(decode(old, element), decode(new, element)), element)

    return run


def _scanned(data: Array, index: Array, values: Array, ufunc: np.ufunc) -> Array:
    """Apply an associative operation in the order of lanes; what each lane found."""
    order = np.argsort(index, kind="stable")
    place, value = index[order], values[order]
    starts = np.concatenate(([True], place[1:] != place[:-1]))
    found = data[place]
    if starts.all():
        data[place] = ufunc(found, value)
    elif value.dtype.kind == "f" and ufunc is np.add:
        return _one_by_one(data, index, [values], np.add)
    else:
        group = np.cumsum(starts) - 1
        position = np.arange(len(place)) - np.flatnonzero(starts)[group]
        total, step = np.where(starts, ufunc(found, value), value), 1
        while step <= position.max():
            joined = ufunc(total[:-step], total[step:])
            scanned = np.where(position[step:] >= step, joined, total[step:])
            total = np.concatenate((total[:step], scanned))
            step *= 2
        before = np.concatenate((total[:1], total[:-1]))
        found = np.where(starts, found, before)
        data[place] = total
    old = np.empty_like(found)
    old[order] = found
    return old


def _one_by_one(
    data: Array, index: Array, values: list[Array], combine: Callable[..., Array]
) -> Array:
    """Apply any operation in rounds: in each, every place serves its first lane still waiting."""
    old = np.empty(len(index), data.dtype)
    waiting = np.arange(len(index))
    while len(waiting):
        _, first = np.unique(index[waiting], return_index=True)
        served = waiting[np.sort(first)]
        place = index[served]
        found = data[place]
        old[served] = found
        data[place] = combine(found, *(value[served] for value in values))
        waiting = np.setdiff1d(waiting, served, assume_unique=True)
    return old


BUILDERS: dict[str, Builder] = {"atom": atomic, "red": atomic}
