"""PTX text to kernels that a GPU can be told to launch.

Enters: PTX text and a device. Leaves: a `CudaModule`. The driver's own compiler makes a cubin of
the text, which is kept in the cache on disk; where it is missing or does not take the text, or
where the environment variable HECTORITE_ASSEMBLER asks for one, an assembler of the machine does
(`machine_code/assemble.py`). What either finds wrong becomes diagnostics at the lines of the text.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Any

from hectorite.backends.cache import Cache, cache_key
from hectorite.backends.cuda.driver import CudaDevice, check, driver
from hectorite.backends.machine_code.assemble import VARIABLE, assemble, faults, installed
from hectorite.ir.diagnostics import HectoriteError, Source

LOG_BYTES = 1 << 14
STATIC_SHARED = 48 << 10
"""Dynamic shared memory that a kernel may have without asking, in bytes."""


class CudaModule:
    """Kernels in the memory of a device. `shared` gives the bytes of dynamic shared memory that
    launches of each kernel have at most.

    They stay there until the process ends: taking them away would have to wait for the device, at a
    time that the garbage collector chooses, which breaks whatever a caller is recording then.
    """

    def __init__(self, device: CudaDevice, cubin: bytes, shared: Mapping[str, int]):
        cu = driver()
        self.device = device
        with device.active():
            self._module = check(cu.cuModuleLoadDataEx(cubin, 0, [], []), "load machine code")
            self.kernels = {name: self._kernel(name, shared[name]) for name in shared}

    def _kernel(self, name: str, shared: int) -> Any:
        cu = driver()
        doing = f"find the kernel {name}"
        kernel = check(cu.cuModuleGetFunction(self._module, name.encode()), doing)
        if shared > STATIC_SHARED:
            most = cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            doing = f"give {shared} bytes of shared memory to {name}"
            check(cu.cuFuncSetAttribute(kernel, most, shared), doing)
        return kernel

    def resources(self, kernel: str) -> dict[str, int]:
        """What a kernel takes: registers of a thread, bytes of static shared memory of a block, and
        bytes of local memory of a thread (spills among them)."""
        facts = driver().CUfunction_attribute
        wanted = {
            "registers": facts.CU_FUNC_ATTRIBUTE_NUM_REGS,
            "shared_bytes": facts.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES,
            "local_bytes": facts.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
        }
        handle = self.kernels[kernel]
        with self.device.active():
            return {
                name: check(driver().cuFuncGetAttribute(fact, handle), "describe a kernel")
                for name, fact in wanted.items()
            }


def load(
    device: CudaDevice,
    text: str,
    shared: Mapping[str, int],
    cache: Cache | None = None,
    name: str = "<ptx>",
) -> CudaModule:
    """The kernels of PTX text on a device, its machine code from the cache if it is there.

    `shared` names the kernels wanted, `name` is what messages call the text. Raises
    `HectoriteError` for what is wrong in the text, at its line, with the statement behind it.
    """
    chosen = os.environ.get(VARIABLE, "")
    identity = device.target.name, str(device.driver_version), chosen, text
    key = cache_key("cubin", *identity)
    entry = cache.lookup(key) if cache else None
    if entry is not None:
        return CudaModule(device, entry.blobs["cubin"], shared)
    cubin = compile_ptx(device, text, name)
    if cache:
        cache.store(key, {"target": device.target.name}, {"cubin": cubin})
    return CudaModule(device, cubin, shared)


def compile_ptx(device: CudaDevice, text: str, name: str = "<ptx>") -> bytes:
    """The machine code of PTX text for a device. Raises as `load` does."""
    if os.environ.get(VARIABLE):
        return assemble(text, device.target.name, name).cubin
    with device.active():
        status, made = _linked(text)
    if status == "CUDA_SUCCESS":
        return made
    refused = HectoriteError(faults(made.decode(errors="replace") or status, Source(name, text)))
    if not installed():
        raise refused
    try:
        # A driver may be older than the text, or know less of this target than an assembler does.
        return assemble(text, device.target.name, name).cubin
    except HectoriteError:
        if status in _UNABLE:
            raise
        raise refused from None


_UNABLE = ("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "CUDA_ERROR_JIT_COMPILER_NOT_FOUND")
"""What a driver reports that cannot compile this text, and therefore does not say what is wrong."""


def _linked(text: str) -> tuple[str, bytes]:
    """The name of the status of compiling with the driver, and machine code, or what it said."""
    cu = driver()
    option = cu.CUjit_option
    log = bytearray(LOG_BYTES)
    options = [option.CU_JIT_ERROR_LOG_BUFFER, option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES]
    state = check(cu.cuLinkCreate(len(options), options, [log, LOG_BYTES]), "start its compiler")
    try:
        data = text.encode("ascii", "replace") + b"\0"  # compilers refuse others, in comments too
        kind = cu.CUjitInputType.CU_JIT_INPUT_PTX
        (status,) = cu.cuLinkAddData(state, kind, data, len(data), b"kernels.ptx", 0, [], [])
        if status == cu.CUresult.CUDA_SUCCESS:
            status, address, size = cu.cuLinkComplete(state)
            if status == cu.CUresult.CUDA_SUCCESS:
                return status.name, ctypes.string_at(int(address), size)
        return status.name, bytes(log).rstrip(b"\0")
    finally:
        cu.cuLinkDestroy(state)
