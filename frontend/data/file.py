"""Data for a program on the command line: `--data FILE.npz` or `--data ast:PACKAGE`, and `--out`.

Enters: a file whose keys name what they hold: `SET` the size of a set, `SET.FIELD` one of its maps,
any other key a tensor (or a size of no set). Leaves: what binding takes for the sets of one
program, and the tensors it asks for. A file may hold more than a program uses.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from hectorite.backends.bound.intake import MOST
from hectorite.ir.diagnostics import Diagnostic, Report, did_you_mean, fail
from hectorite.ir.schema import Schema

Array = np.ndarray[Any, Any]
CONVENTION = "an .npz file: `SET` holds a size, `SET.FIELD` a map, any other key a tensor"


class Data:
    """Named arrays, read when they are first asked for.

    `source` is what messages call them, `arrays` a mapping (a dict or an open .npz file).
    """

    def __init__(self, source: str, arrays: Mapping[str, Array]):
        self.source = source
        self.keys = list(arrays)
        self._arrays = arrays
        self._read: dict[str, Array] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._arrays

    def __getitem__(self, key: str) -> Array:
        """The array under `key`, any shape and dtype. `HectoriteError` if it cannot be read."""
        if key not in self._read:
            try:
                self._read[key] = np.asarray(self._arrays[key])
            except Exception as error:  # a broken file raises whatever its decoder trips over
                raise fail(
                    f"cannot read `{key}` from {self.source}: {_reason(error)}",
                    expected="an array of numbers",
                    hint="write the file again; arrays of Python objects cannot be stored"
                    if "pickle" in str(error)
                    else "the file is damaged; write it again",
                ) from error
        return self._read[key]

    def sets(self, schema: Schema) -> dict[str, Any]:
        """What `bind` takes, for the sets of `schema` that data gives.

        A size that is absent is left to binding, which knows what size would do. Raises
        `HectoriteError` naming every map that is absent.
        """
        report, taken = Report(), dict[str, Any]()
        for name, decl in schema.sets.items():
            if not decl.given:
                continue
            size = self._number(name)
            if not decl.fields:
                taken |= {} if size is None else {name: size}
                continue
            taken[name] = {} if size is None or decl.target("size") else {"size": size}
            for field, target in decl.fields:
                key = f"{name}.{field}"
                if key in self:
                    taken[name][field] = self[key]
                else:
                    report.add(self._absent(key, f"an int32 array with values in `{target}`"))
        report.raise_errors()
        return taken

    def tensors(self, names: Iterable[str], schema: Schema) -> dict[str, Array]:
        """Those of the named tensors that are here. A single number under the name of a set is the
        size of that set, not a tensor."""
        return {
            name: self[name]
            for name in names
            if name in self and not (name in schema.sets and self[name].ndim == 0)
        }

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Those of the named sizes that are here as a single integer. Raises `HectoriteError` for
        one that no dimension can have."""
        sizes = {n: size for n in names if (size := self._size(n)) is not None}
        report = Report()
        for name, size in sizes.items():
            if not 0 <= size <= MOST:
                message = f"the size `{name}` in {self.source} is {size}"
                report.add(Diagnostic(message, expected=f"an integer from 0 to {MOST}"))
        report.raise_errors()
        return sizes

    def _number(self, name: str) -> Any:
        """What is here as a single value, whatever its type: binding tells what a size may be."""
        return self[name].item() if name in self and not self[name].ndim else None

    def _size(self, name: str) -> int | None:
        if name not in self or self[name].ndim or self[name].dtype.kind not in "iu":
            return None
        return int(self[name])

    def _absent(self, key: str, expected: str) -> Diagnostic:
        return Diagnostic(
            f"{self.source} has no `{key}`",
            expected=expected,
            hint=did_you_mean(key, self.keys) or f"it has {_listed(self.keys)}",
        )


def load_data(
    spec: str,
    progress: Callable[[int, int], None] | None = None,
    expected: str = CONVENTION,
) -> Data:
    """Open the data that `spec` names: a path, or `ast:PACKAGE` for the relational graph of an
    installed package's syntax trees (`progress` is told the files done and their number).
    `expected` says in messages what the file should be.

    Raises `HectoriteError` if there is no such file or package, or it holds no arrays.
    """
    if spec.startswith("ast:"):
        from hectorite.frontend.data.syntax_trees import syntax_graph

        return Data(spec, syntax_graph(spec.removeprefix("ast:"), progress))
    try:
        loaded = np.load(spec, allow_pickle=False)
    except Exception as error:  # a broken file raises whatever its decoder trips over
        reason = error.strerror if isinstance(error, OSError) else None
        raise fail(
            f"cannot read {spec}: {reason or 'it is not an .npz file'}", expected=expected
        ) from error
    if isinstance(loaded, np.ndarray):
        raise fail(f"{spec} holds one array without a name", expected=expected)
    return Data(os.path.basename(spec), loaded)


def write_npz(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write named arrays to an .npz file: either the whole file appears or nothing changes.

    Element types that NumPy does not know (bf16, f8) are widened to float32, without loss. The
    bytes depend on the arrays alone. Raises `HectoriteError` if the file cannot be written.
    """
    path = Path(path)
    stored = {name: _storable(values) for name, values in arrays.items()}
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **stored)  # pyright: ignore[reportArgumentType]
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise fail(f"cannot write {path}: {error.strerror or error}") from error


def _storable(values: Array) -> Array:
    values = np.asarray(values)
    foreign = values.dtype.kind == "V" and values.dtype.name in ml_dtypes.__dict__
    return values.astype(np.float32) if foreign else values


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _listed(keys: list[str], most: int = 12) -> str:
    shown = ", ".join(f"`{key}`" for key in keys[:most])
    return (shown or "nothing") + (f" and {len(keys) - most} more" if len(keys) > most else "")
