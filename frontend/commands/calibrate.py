"""`hectorite calibrate`: measure this machine for the cost model, or show what is known of it.

Enters: parsed arguments. Leaves: a table of rates, or JSON that `ir/device.py` reads. What was
measured is kept, and programs that are compiled for this machine from then on are optimised for it.
"""

from __future__ import annotations

from argparse import Namespace

from hectorite.backends.cpu.host_device import host_device, keep_device, measured_device
from hectorite.frontend.console import note, table, working
from hectorite.ir.device import Device
from hectorite.ir.devices import device_named

UNITS = {"fma_f32": "additions", "transcendental": "exponentials", "scalar": "outside of vectors"}


def run(chosen: Namespace) -> int:
    """Measure, or show."""
    device = _shown(chosen) if chosen.show is not None else _measured()
    if chosen.json:
        print(device.to_json(), end="")
    else:
        _print(device)
    return 0


def _shown(chosen: Namespace) -> Device:
    if chosen.show != "cpu":
        return device_named(chosen.show)
    if measured_device() is None:
        note("this machine was not measured: `hectorite calibrate` does that")
    return host_device()


def _measured() -> Device:
    from hectorite.frontend.calibration import measured

    with working("measuring") as progress:
        device = measured(progress)
    keep_device(device)
    return device


def _print(device: Device) -> None:
    rows = [
        ["device", device.name],
        ["threads", str(device.threads)],
        ["call", f"{device.call * 1e6:.2f} us"],
        ["kernel", f"{device.launch * 1e6:.2f} us"],
        *(
            [f"{UNITS.get(unit, unit)}/s", f"{rate / 1e9:,.1f} G"]
            for unit, rate in device.peak.items()
        ),
        *([f"bytes/s of {_size(size)}", f"{rate / 1e9:,.1f} G"] for size, rate in device.caches),
        ["bytes/s of memory", f"{device.bandwidth / 1e9:,.1f} G"],
    ]
    gather, product = device.tables.get("gather"), device.tables.get("product")
    if gather is not None:
        for bytes, of in ((4, 1 << 19), (4, 1 << 27), (256, 1 << 19), (256, 1 << 27)):
            seconds = gather.at((bytes, of))
            rows.append([f"row of {bytes} B out of {_size(of)}", f"{seconds * 1e9:.2f} ns"])
    if product is not None:
        for shape in ((1, 1024, 1024), (64, 64, 64), (1024, 1024, 1024)):
            name = " x ".join(map(str, shape))
            rows.append([f"product {name}, flop/s", f"{product.at(shape) / 1e9:,.1f} G"])
    table(["what", "value"], rows, [""] * len(rows))


def _size(bytes: float) -> str:
    return f"{bytes / 1024:.0f} KiB" if bytes < 1 << 20 else f"{bytes / (1 << 20):.0f} MiB"
