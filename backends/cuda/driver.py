"""The CUDA driver through cuda-python: whether it is there, its devices, and what it reports.

Enters: the number of a device. Leaves: a `CudaDevice`, whose context is the primary one, which
torch, CuPy and the CUDA runtime use too, so that their memory and streams can be used here. Every
call of the driver goes through `check`, which turns a status into a diagnostic.

Only `cuda.bindings.driver` is used: its functions are those of the driver, one to one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache, cached_property
from importlib import import_module
from typing import Any

from hectorite.ir.diagnostics import HectoriteError, fail
from hectorite.ir.target import Target, target_for

INSTEAD = "use the target `ptx`, which executes the same kernels without a GPU, or `cpu`"


@cache
def driver() -> Any:
    """The module `cuda.bindings.driver`, initialised.

    Raises `HectoriteError`, one line that says why and what to use instead, where the package, the
    driver or a device is missing.
    """
    try:
        bindings: Any = import_module("cuda.bindings.driver")
    except ImportError as error:
        raise _no_gpu(
            "cuda-python is not installed", f"pip install cuda-python; or {INSTEAD}"
        ) from error
    try:
        status = bindings.cuInit(0)[0]
    except RuntimeError as error:  # cuda.pathfinder found no libcuda
        raise _no_gpu("there is no NVIDIA driver on this machine", INSTEAD) from error
    if status != bindings.CUresult.CUDA_SUCCESS:
        raise _no_gpu(f"the NVIDIA driver does not start: {status.name}", INSTEAD)
    if bindings.cuDeviceGetCount()[1] < 1:
        raise _no_gpu("the NVIDIA driver sees no device", INSTEAD)
    return bindings


def _no_gpu(why: str, instead: str) -> HectoriteError:
    return fail(f"no GPU: {why}; {instead}")


def check(returned: tuple[Any, ...], doing: str, log: str | None = None) -> Any:
    """What a function of the driver returned besides its status.

    `doing` completes "the GPU failed to". Raises `HectoriteError` with the name and description of
    the status, and the log if there is one.
    """
    status, *values = returned
    if status == status.__class__.CUDA_SUCCESS:
        return values[0] if len(values) == 1 else tuple(values)
    said = driver().cuGetErrorString(status)[1]
    reason = f"{status.name}: {said.decode()}" if said else status.name
    raise fail(f"the GPU failed to {doing} ({reason})", hint=log or _ADVICE.get(status.name))


_CHECKING = "run the same with the target `ptx`, which tells the instruction that is at fault"
_ADVICE = {
    "CUDA_ERROR_OUT_OF_MEMORY": "smaller data, or less memory held by others on this device",
    "CUDA_ERROR_ILLEGAL_ADDRESS": _CHECKING,
    "CUDA_ERROR_MISALIGNED_ADDRESS": _CHECKING,
    "CUDA_ERROR_LAUNCH_FAILED": _CHECKING,
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": _CHECKING,
}


class CudaDevice:
    """One GPU by its number, with its primary context."""

    def __init__(self, ordinal: int):
        cu = driver()
        count = cu.cuDeviceGetCount()[1]
        if not 0 <= ordinal < count:
            raise fail(f"there is no device cuda:{ordinal}", expected=f"0 to {count - 1}")
        self.ordinal = ordinal
        self.handle = check(cu.cuDeviceGet(ordinal), "find a device")
        self.context = check(cu.cuDevicePrimaryCtxRetain(self.handle), "open a context")

    @cached_property
    def name(self) -> str:
        """As the driver calls it: `NVIDIA H200`."""
        raw = check(driver().cuDeviceGetName(256, self.handle), "name itself")
        return raw.rstrip(b"\0").decode()

    @cached_property
    def target(self) -> Target:
        """The best target that this device runs."""
        kind = driver().CUdevice_attribute
        return target_for(
            (
                self.attribute(kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
                self.attribute(kind.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
            )
        )

    @cached_property
    def driver_version(self) -> int:
        """The version of CUDA that the driver implements: 13000 for 13.0."""
        return check(driver().cuDriverGetVersion(), "tell the driver's version")

    def attribute(self, attribute: Any) -> int:
        """A fact about the device, by its `CUdevice_attribute`."""
        return check(driver().cuDeviceGetAttribute(attribute, self.handle), "describe itself")

    @contextmanager
    def active(self) -> Generator[None, None, None]:
        """Have the context of this device current in this thread, and afterwards what was."""
        cu = driver()
        if int(check(cu.cuCtxGetCurrent(), "tell its context")) == int(self.context):
            yield
            return
        check(cu.cuCtxPushCurrent(self.context), "enter its context")
        try:
            yield
        finally:
            cu.cuCtxPopCurrent()


@cache
def device(ordinal: int = 0) -> CudaDevice:
    """The device of a number; its context is opened once. Raises as `driver` does."""
    return CudaDevice(ordinal)


def stream_handle(stream: Any) -> int:
    """The driver's handle of a stream: None or 0 (the default one), the handle itself, an object
    with `__cuda_stream__` (cuda.core, torch, ...), a torch or a CuPy stream.

    Raises `HectoriteError` if it is none of these.
    """
    if stream is None:
        return 0
    if isinstance(stream, int) and not isinstance(stream, bool):
        return stream
    protocol: Any = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        pair: Any = protocol() if callable(protocol) else protocol
        return int(pair[1])
    for name in ("cuda_stream", "ptr"):
        handle = getattr(stream, name, None)
        if isinstance(handle, int):
            return handle
    if type(stream).__name__ == "CUstream":
        return int(stream)
    raise fail(
        f"`stream` is a {type(stream).__name__}",
        expected="a stream of torch or CuPy, the handle of one, or an object with __cuda_stream__",
    )
