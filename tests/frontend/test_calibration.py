"""A machine is measured into tables, kept, and found again; the command shows them."""

import json

import pytest

from hectorite.backends.cache import Cache
from hectorite.backends.cpu import host_device
from hectorite.frontend import calibration, cli
from hectorite.frontend.commands import calibrate as cli_calibrate
from hectorite.ir.device import device_from_json
from hectorite.ir.devices import CPU


@pytest.fixture
def quick(monkeypatch):
    """A few small points, each measured for an instant."""
    monkeypatch.setattr(calibration, "PRODUCT_ROWS", (4.0, 64.0))
    monkeypatch.setattr(calibration, "PRODUCT_COLUMNS", (16.0,))
    monkeypatch.setattr(calibration, "PRODUCT_TERMS", (8.0, 16.0))
    monkeypatch.setattr(calibration, "MOST_FLOPS", 2.0e4)
    monkeypatch.setattr(calibration, "STREAM_BYTES", (16384.0, 65536.0))
    monkeypatch.setattr(calibration, "GATHER_ROWS", (4.0, 64.0))
    monkeypatch.setattr(calibration, "GATHER_TABLES", (4096.0,))
    monkeypatch.setattr(calibration, "shortest", _once)


def _once(calls, seconds):
    from hectorite.frontend.timing import shortest

    return shortest(calls, 0.0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    kept = Cache(tmp_path)
    monkeypatch.setattr(host_device, "default_cache", lambda: kept)
    return kept


def test_measured_device(quick):
    told = []
    device = calibration.measured(lambda done, total: told.append(done))
    assert told == sorted(told)
    assert device_from_json(device.to_json()) == device
    assert set(device.tables) == {"stream", "gather", "product"}
    assert device.call > 0
    assert device.launch > 0


def test_kept_until_threads_change(cache, monkeypatch):
    assert host_device.measured_device() is None
    assert host_device.host_device().name == "cpu"
    host_device.keep_device(CPU)
    assert host_device.measured_device() == CPU
    monkeypatch.setattr(host_device, "thread_count", lambda: 77)
    assert host_device.measured_device() is None
    assert host_device.host_device().threads == 77


def test_an_entry_of_another_version_is_absent(cache):
    cache.store(host_device._key(), {"name": "cpu"}, {})
    assert host_device.measured_device() is None


def test_command_measures_and_keeps(cache, monkeypatch, capsys):
    monkeypatch.setattr("hectorite.frontend.calibration.measured", lambda progress: CPU)
    assert cli.main(["calibrate", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "cpu"
    assert host_device.measured_device() == CPU
    assert cli.main(["calibrate", "--show"]) == 0
    assert "bytes/s of memory" in capsys.readouterr().out


def test_command_shows_shipped_devices(capsys):
    assert cli.main(["calibrate", "--show", "h200", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_gpu"]
    assert cli.main(["calibrate", "--show", "h2000"]) == 1
    assert "h200" in capsys.readouterr().err


def test_sizes_in_words():
    assert cli_calibrate._size(1 << 15) == "32 KiB"
    assert cli_calibrate._size(1 << 25) == "32 MiB"
