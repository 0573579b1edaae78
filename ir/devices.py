"""The devices that are known without a measurement: GPUs from their data sheets, a usual CPU.

Enters: a name. Leaves: a `Device`. Figures of GPUs are dense peaks and bandwidths as their makers
publish them, with seconds that are usual for launches of recorded graphs; those of the CPU were
measured with two cores of a quiet server whose vectors have 512 bits, and rounded.
"""

from __future__ import annotations

from hectorite.ir.device import Device, Grid
from hectorite.ir.diagnostics import did_you_mean, fail

GATHERED = Grid(
    ((16.0, 64.0, 256.0, 1024.0), (float(1 << 15), float(1 << 19), float(1 << 22), float(1 << 26))),
    (
        (1.0e-10, 3.0e-10, 1.5e-9, 2.4e-9)
        + (1.0e-10, 4.0e-10, 1.6e-9, 3.0e-9)
        + (5.0e-10, 9.0e-10, 2.2e-9, 6.5e-9)
        + (3.2e-9, 4.2e-9, 9.0e-9, 2.2e-8)
    ),
)
"""Seconds of a gathered row by its bytes and those of the table. Two cores ask for rows ahead, so
that they wait for several at a time."""

CPU = Device(
    name="cpu",
    is_gpu=False,
    threads=2,
    peak={
        "tensor_f16": 5.0e11,
        "tensor_tf32": 5.0e11,
        "fma_f32": 5.0e11,
        "fma_f64": 2.5e11,
        "int": 3.0e11,
        "transcendental": 1.2e10,
        "scalar": 4.0e10,
    },
    bandwidth=4.0e10,
    caches=((64e3, 2.5e11), (2e6, 1.9e11), (24e6, 1.2e11)),
    call=5.0e-6,
    launch=1.0e-6,
    atomic=0.0,
    element=3.0e-10,
    row=3.3e-9,
    step=3.0e-10,
    half=(2.0, 4.0, 4.0),
    tile=(6, 16),
    tables={"gather": GATHERED},
)

H200 = Device(
    name="h200",
    is_gpu=True,
    threads=132,
    peak={
        "tensor_f16": 9.89e14,
        "tensor_tf32": 4.94e14,
        "fma_f32": 6.7e13,
        "fma_f64": 3.4e13,
        "int": 3.3e13,
        "transcendental": 4.2e12,
        "scalar": 6.7e13,
    },
    bandwidth=4.8e12,
    caches=((50e6, 1.0e13),),
    call=0.0,
    launch=3.0e-6,
    atomic=1.0e-11,
    element=2.0e-12,
    row=1.0e-11,
    miss=(2.0e-12, 1.0e-11),
    half=(0.0, 0.0, 16.0),
    tile=(16, 8),
    block=(64, 64),
)

A100 = Device(
    name="a100",
    is_gpu=True,
    threads=108,
    peak={
        "tensor_f16": 3.12e14,
        "tensor_tf32": 1.56e14,
        "fma_f32": 1.95e13,
        "fma_f64": 9.7e12,
        "int": 9.7e12,
        "transcendental": 2.4e12,
        "scalar": 1.95e13,
    },
    bandwidth=2.0e12,
    caches=((40e6, 5.0e12),),
    call=0.0,
    launch=3.0e-6,
    atomic=2.0e-11,
    element=4.0e-12,
    row=2.0e-11,
    miss=(4.0e-12, 2.0e-11),
    half=(0.0, 0.0, 16.0),
    tile=(16, 8),
    block=(64, 64),
)

DEVICES = {device.name: device for device in (CPU, H200, A100)}


def device_named(name: str) -> Device:
    """A device of `DEVICES`; `HectoriteError` if there is none of this name."""
    if name not in DEVICES:
        raise fail(
            f"there is no device `{name}`",
            expected=f"one of {', '.join(DEVICES)}",
            hint=did_you_mean(name, DEVICES),
        )
    return DEVICES[name]
