"""Arguments of a PTX kernel: checked against its parameters, and made bytes.

Enters: a kernel of `ir/ptx/syntax.py` and what the caller passes. Leaves: for each parameter an
array, which is passed by address, or the bytes of a value; and the sizes of grid and block. PTX
says only how wide a parameter is and, sometimes, whether it is a float, so a Python number is taken
where that is enough: an int for an integer or float, a float for a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from hectorite.backends.ptx.jit_frame import SIZES, bytes_of
from hectorite.ir.diagnostics import HectoriteError, fail
from hectorite.ir.ptx.syntax import Function, Variable

Array = np.ndarray[Any, Any]
Value = Array | bytes

FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
MOST_THREADS = 1024
MOST_IN_BLOCK = (1024, 1024, 64)
MOST_IN_GRID = (2**31 - 1, 65535, 65535)
MOST_SHARED = 227 << 10
"""The most shared memory that a block of any GPU has."""


def describe(parameter: Variable) -> str:
    """`.u64 x`, `.b8 map[128]`, as the text has it."""
    count = "" if parameter.count is None else f"[{parameter.count}]"
    return f".{parameter.type} {parameter.name}{count}"


def signature(kernel: Function) -> str:
    """`axpy(.u64 x, .u64 y, .f32 a, .u32 n)`."""
    return f"{kernel.name}({', '.join(map(describe, kernel.parameters))})"


def values_of(kernel: Function, arguments: Sequence[Any]) -> list[Value]:
    """The arguments in parameter order, arrays as they are and numbers as bytes.

    Raises `HectoriteError` naming the first that does not fit.
    """
    if isinstance(arguments, str | bytes) or not isinstance(arguments, Sequence):
        raise fail(f"args is {_named(arguments)}", expected="a list of arrays and numbers")
    if len(arguments) != len(kernel.parameters):
        raise fail(
            f"`{kernel.name}` is called with {_counted(len(arguments))}",
            expected=f"{len(kernel.parameters)}: {signature(kernel)}",
        )
    pairs = zip(kernel.parameters, arguments, strict=True)
    return [_value(number, *pair) for number, pair in enumerate(pairs)]


def _counted(count: int) -> str:
    return "1 argument" if count == 1 else f"{count} arguments"


def _value(number: int, parameter: Variable, argument: Any) -> Value:
    """One argument. An array without dimensions is a number."""
    given: Any = argument
    if isinstance(argument, np.ndarray):
        array = cast(Array, argument)
        if array.ndim:
            return _array(number, parameter, array)
        given = array[()]
    size = bytes_of(parameter)
    if given is None and size == 8 and parameter.type[0] in "usb":
        return bytes(8)
    if isinstance(given, bytes | bytearray | np.void):
        data = given.tobytes() if isinstance(given, np.void) else bytes(given)
        if len(data) != size:
            raise _unfit(number, parameter, f"{len(data)} bytes", f"{size} bytes")
        return data
    if parameter.count is not None:
        if isinstance(given, np.generic) and given.nbytes == size:
            return given.tobytes()
        raise _unfit(number, parameter, _named(given), f"{size} bytes")
    if isinstance(given, np.generic):
        return _scalar(number, parameter, cast("np.generic[Any]", given))
    if isinstance(given, bool | int | float):
        return _number(number, parameter, given)
    raise _unfit(number, parameter, _named(given), _wanted(parameter))


def _array(number: int, parameter: Variable, given: Array) -> Value:
    what = f"argument {number} (`{describe(parameter)}`)"
    if bytes_of(parameter) != 8 or parameter.count is not None or parameter.type in FLOATS:
        raise _unfit(number, parameter, _named(given), _wanted(parameter))
    if given.dtype.hasobject:
        raise fail(f"{what} is an array of Python objects", expected="an array of numbers")
    if given.dtype.kind in "SUMm":
        raise fail(f"{what} is an array of {given.dtype}", expected="an array of numbers")
    if not given.flags.c_contiguous:
        raise fail(
            f"{what} is not contiguous: a kernel sees its memory, not its strides",
            hint="pass numpy.ascontiguousarray(x), which is a copy",
        )
    if not given.flags.writeable:
        raise fail(f"{what} is read-only, and kernels change arrays in place", hint="pass a copy")
    if given.dtype.byteorder == ">":
        raise fail(f"{what} is {given.dtype}, in big-endian order", expected="native order")
    return given


def _scalar(number: int, parameter: Variable, given: np.generic[Any]) -> bytes:
    """A NumPy scalar, by value: of the parameter's width, and a float for a float."""
    kind = given.dtype.kind
    is_integer = kind in "iub"
    wants_float = parameter.type in FLOATS or parameter.type == "bf16"
    wants_integer = parameter.type[0] in "us"
    mismatch = (wants_float and is_integer) or (wants_integer and not is_integer)
    if given.nbytes != SIZES[parameter.type] or mismatch or kind in "cOSUMm":
        found = f"a {given.dtype} of {8 * given.nbytes} bits"
        raise _unfit(number, parameter, found, _wanted(parameter))
    return given.tobytes()


def _number(number: int, parameter: Variable, given: float) -> bytes:
    size = SIZES[parameter.type]
    if parameter.type in FLOATS:
        return FLOATS[parameter.type](given).tobytes()
    if isinstance(given, float) or parameter.type == "bf16":
        hint = f"pass numpy.float{8 * size}({given})" if parameter.type[0] == "b" else None
        raise _unfit(number, parameter, f"the float {given}", _wanted(parameter), hint)
    bits = 8 * size
    if not -(1 << bits - 1) <= given < 1 << bits:
        raise _unfit(number, parameter, f"{given}", f"an integer of {bits} bits")
    return (given & (1 << bits) - 1).to_bytes(size, "little")


def _wanted(parameter: Variable) -> str:
    """What a parameter takes, in words."""
    size = bytes_of(parameter)
    if parameter.count is not None:
        return f"{size} bytes"
    if parameter.type in FLOATS:
        return f"a float of {8 * size} bits"
    if size == 8:
        return "an array, or a number of 64 bits"
    kind = "integer" if parameter.type[0] in "us" else "number"
    return f"a NumPy {kind} of {8 * size} bits or a Python int"


def _unfit(
    number: int, parameter: Variable, found: str, expected: str, hint: str | None = None
) -> HectoriteError:
    message = f"argument {number} is {found}, and the parameter is `{describe(parameter)}`"
    return fail(message, expected=expected, hint=hint)


def _named(given: Any) -> str:
    if isinstance(given, np.ndarray):
        array = cast(Array, given)
        return f"an array of {' x '.join(map(str, array.shape))} {array.dtype}"
    return f"of type {type(given).__name__}"


# Grid and block.


def three_sizes(given: Any, what: str) -> tuple[int, int, int]:
    """An int or up to three of them, filled up with ones, within what GPUs can do.

    Raises `HectoriteError` for anything else. `what` is "grid" or "block".
    """
    several = isinstance(given, Sequence) and not isinstance(given, str)
    sizes: list[Any] = list(given) if several else [given]  # pyright: ignore[reportUnknownArgumentType]
    if not 1 <= len(sizes) <= 3 or not all(map(_is_int, sizes)):
        raise fail(f"{what}={given!r} is no size", expected=f"{what}=256 or up to three ints")
    x, y, z = (*(int(size) for size in sizes), 1, 1)[:3]
    limits = MOST_IN_BLOCK if what == "block" else MOST_IN_GRID
    for size, most, axis in zip((x, y, z), limits, "xyz", strict=True):
        if not 1 <= size <= most:
            raise fail(f"the {what} has {size} in {axis}", expected=f"1 to {most}")
    return x, y, z


def _is_int(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_launch(kernel: Function, block: tuple[int, int, int], shared: Any) -> int:
    """The dynamic shared memory, if a GPU could launch this; else raises `HectoriteError`."""
    threads = block[0] * block[1] * block[2]
    if threads > MOST_THREADS:
        raise fail(f"a block of {threads} threads", expected=f"at most {MOST_THREADS}")
    for word, exact in (("maxntid", False), ("reqntid", True)):
        limits = kernel.directives.get(word)
        if limits is None:
            continue
        allowed = 1
        for size in limits:
            allowed *= size
        if threads > allowed or (exact and threads != allowed):
            raise fail(
                f"`{kernel.name}` is launched with blocks of {threads} threads",
                expected=f"{'exactly' if exact else 'at most'} {allowed}, as .{word} says",
            )
    if not _is_int(shared):
        raise fail(f"shared={shared!r} is no size", expected="a number of bytes")
    if not 0 <= shared <= MOST_SHARED:
        raise fail(f"shared is {shared} bytes", expected=f"0 to {MOST_SHARED}")
    return int(shared)
