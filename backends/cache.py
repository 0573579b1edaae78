"""Compiled code on disk, so that a program is compiled once on a machine.

Enters: a key made of everything the result depends on, a dictionary of facts that JSON can hold,
and named blobs (object files). Leaves: the same facts and blobs in a later process.

The folder is `$HECTORITE_CACHE`, or `hectorite` in the platform's folder for caches. Each entry is
one file, written beside its place and then moved there, so that readers see all of it or nothing:

    hectorite cache 1\\n | length of header, 8 bytes | sha256 of all that follows | header | blobs

The header is JSON: the facts, and name and length of each blob. An entry that is damaged counts as
absent. A cache never stops a program: where nothing can be written it warns once and goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite

MAGIC = b"hectorite cache 1\n"
CHECKSUM_BYTES = 32
HEADER_START = len(MAGIC) + 8 + CHECKSUM_BYTES
LIMIT_BYTES = 512 << 20
"""What the folder holds at most; the entries used longest ago go first."""

STALE_SECONDS = 3600
"""A temporary file older than this was left by a process that died."""


@dataclass(frozen=True)
class Entry:
    """What was stored under a key."""

    metadata: dict[str, Any]
    blobs: dict[str, bytes]


@dataclass
class Cache:
    """The entries in one folder. `limit` bounds their total bytes."""

    folder: Path
    limit: int = LIMIT_BYTES
    _warned: bool = field(default=False, repr=False)

    def lookup(self, key: str) -> Entry | None:
        """The entry stored under `key`, or None if there is none that is whole."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        entry = unpack(content)
        if entry is not None:
            with contextlib.suppress(OSError):
                os.utime(path)  # used now: last to be evicted
        return entry

    def store(self, key: str, metadata: Mapping[str, Any], blobs: Mapping[str, bytes]) -> None:
        """Keep `metadata` (what JSON can hold) and `blobs` under `key`, replacing what is there.

        An entry larger than the limit is not kept.
        """
        content = pack(metadata, blobs)
        if len(content) > self.limit:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
            self._evict()
        except OSError as error:
            self._warn(error)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.hecache"

    def _evict(self) -> None:
        """Remove the entries used longest ago until the rest is within the limit."""
        entries: list[tuple[float, str, int]] = []
        now = time.time()
        for item in os.scandir(self.folder):
            with contextlib.suppress(OSError):  # another process may have removed it
                status = item.stat()
                if item.name.endswith(".hecache"):
                    entries.append((status.st_mtime, item.path, status.st_size))
                elif item.name.endswith(".tmp") and now - status.st_mtime > STALE_SECONDS:
                    os.unlink(item.path)
        total = sum(size for _, _, size in entries)
        for _, path, size in sorted(entries):
            if total <= self.limit:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"compiled code cannot be kept in {self.folder} ({error.strerror}); "
                "set HECTORITE_CACHE to a folder that can be written",
                RuntimeWarning,
                stacklevel=3,
            )


@cache
def default_cache() -> Cache:
    """The cache of this user: in `$HECTORITE_CACHE`, or the platform's folder for caches."""
    return Cache(_default_folder())


def cache_key(*parts: str | bytes) -> str:
    """The key of a result that depends on `parts` alone.

    The versions of llvmlite and of every file of hectorite count too. Code for the host must have
    the host among the parts (`str(jit.host())`).
    """
    digest = hashlib.sha256()
    for part in (llvmlite.__version__, _compiler_identity(), *parts):
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def pack(metadata: Mapping[str, Any], blobs: Mapping[str, bytes]) -> bytes:
    """The file contents for an entry."""
    facts = {"metadata": metadata, "blobs": {name: len(blob) for name, blob in blobs.items()}}
    header = json.dumps(facts, separators=(",", ":")).encode()
    checked = len(header).to_bytes(8, "little"), b"".join((header, *blobs.values()))
    checksum = hashlib.sha256(b"".join(checked)).digest()
    return b"".join((MAGIC, checked[0], checksum, checked[1]))


def unpack(content: bytes) -> Entry | None:
    """The entry in file contents, or None if they are not exactly what `pack` made."""
    length, rest = content[len(MAGIC) : len(MAGIC) + 8], content[HEADER_START:]
    checksum = content[HEADER_START - CHECKSUM_BYTES : HEADER_START]
    whole = hashlib.sha256(length + rest).digest() == checksum
    if not whole or not content.startswith(MAGIC):
        return None
    position = int.from_bytes(length, "little")
    facts = json.loads(rest[:position])
    blobs: dict[str, bytes] = {}
    for name, size in facts["blobs"].items():
        blobs[name] = rest[position : position + size]
        position += size
    return Entry(facts["metadata"], blobs)


@cache
def _compiler_identity() -> str:
    """Changes whenever a file of the compiler does, so that no entry outlives what made it."""
    root = Path(__file__).parent.parent
    folders = ("ir", "dialects", "lowering", "backends", "frontend")
    files = sorted(file for folder in folders for file in (root / folder).rglob("*.[pl]*"))
    states = ((path.relative_to(root).as_posix(), path.stat()) for path in files)
    return "\n".join(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states)


def _default_folder() -> Path:
    chosen = os.environ.get("HECTORITE_CACHE")
    if chosen:
        return Path(chosen)
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "hectorite"
