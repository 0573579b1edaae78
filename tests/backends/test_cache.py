"""The disk cache: what goes in comes out, and nothing damaged ever does."""

import os
import stat
import warnings
from pathlib import Path

import pytest

from hectorite.backends.cache import Cache, Entry, cache_key, default_cache, pack, unpack

METADATA = {"entries": ["main"], "size": 3, "none": None}
BLOBS = {"object": b"\0\1\2", "empty": b"", "text": b"ret"}


def test_stored_is_found(tmp_path: Path):
    cache = Cache(tmp_path / "deep" / "er")
    key = cache_key("a", b"b")
    assert cache.lookup(key) is None
    cache.store(key, METADATA, BLOBS)
    assert cache.lookup(key) == Entry(METADATA, BLOBS)
    assert Cache(cache.folder).lookup(key) == Entry(METADATA, BLOBS)
    assert cache.lookup(cache_key("a", b"c")) is None
    assert [path.suffix for path in cache.folder.iterdir()] == [".hecache"]


def test_keys_tell_parts_apart():
    assert cache_key("ab", "c") != cache_key("a", "bc") != cache_key("abc")
    assert cache_key("a", "b") == cache_key(b"a", b"b")


def test_damage_is_absence():
    content = pack(METADATA, BLOBS)
    assert unpack(content) == Entry(METADATA, BLOBS)
    for length in range(len(content)):
        assert unpack(content[:length]) is None
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        assert unpack(bytes(damaged)) is None
    assert unpack(content + b"x") is None


def test_damaged_entry_is_rewritten(tmp_path: Path):
    cache, key = Cache(tmp_path), cache_key("x")
    cache.store(key, METADATA, BLOBS)
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert cache.lookup(key) is None
    cache.store(key, METADATA, BLOBS)
    assert cache.lookup(key) == Entry(METADATA, BLOBS)


def test_least_recently_used_goes_first(tmp_path: Path):
    size = len(pack({}, {"b": bytes(1000)}))
    cache = Cache(tmp_path, limit=3 * size)
    for index, key in enumerate("abc"):
        cache.store(key, {}, {"b": bytes(1000)})
        os.utime(tmp_path / f"{key}.hecache", (index, index))
    assert cache.lookup("a") is not None  # used now, so b is the oldest
    cache.store("d", {}, {"b": bytes(1000)})
    assert [key for key in "abcd" if cache.lookup(key)] == ["a", "c", "d"]
    cache.store("large", {}, {"b": bytes(4 * size)})
    assert cache.lookup("large") is None


def test_leftovers_are_removed(tmp_path: Path):
    (tmp_path / "old.tmp").write_bytes(b"")
    os.utime(tmp_path / "old.tmp", (0, 0))
    (tmp_path / "new.tmp").write_bytes(b"")
    Cache(tmp_path).store("a", {}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hecache", "new.tmp"]


def test_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file" / "cache")
    with pytest.warns(RuntimeWarning, match="HECTORITE_CACHE"):
        cache.store("a", METADATA, BLOBS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.store("a", METADATA, BLOBS)
        assert cache.lookup("a") is None


def test_entry_that_cannot_be_read(tmp_path: Path):
    cache = Cache(tmp_path)
    (tmp_path / "a.hecache").mkdir()
    assert cache.lookup("a") is None
    with pytest.warns(RuntimeWarning):
        cache.store("a", METADATA, BLOBS)
    assert stat.S_ISDIR((tmp_path / "a.hecache").stat().st_mode)
    assert len(list(tmp_path.iterdir())) == 1


def test_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HECTORITE_CACHE", str(tmp_path / "here"))
    default_cache.cache_clear()
    assert default_cache().folder == tmp_path / "here"
    monkeypatch.setenv("HECTORITE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    default_cache.cache_clear()
    assert default_cache().folder.name == "hectorite"
    default_cache.cache_clear()
