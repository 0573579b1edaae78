"""hectorite: a multi-level IR and code generator for graph, sparse and low-bit kernels.

The names below are the public interface; everything else may change between versions. They are
imported on first use, so that `import hectorite` costs nothing.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "HectoriteError": "hectorite.ir.diagnostics",
    **dict.fromkeys(
        ("bind", "compile", "emit", "grad", "parse", "verify"), "hectorite.frontend.api"
    ),
    "from_onnx": "hectorite.frontend.onnx.model",
    "bsr": "hectorite.backends.formats.bsr_operand",
    "nm": "hectorite.backends.formats.nm",
    "to_onnx": "hectorite.frontend.onnx.export",
}
_MODULES = {"ptx": "hectorite.frontend.ptx", "rules": "hectorite.frontend.rules.api"}

__all__ = [
    "HectoriteError",
    "bind",
    "bsr",
    "compile",
    "emit",
    "from_onnx",
    "grad",
    "nm",
    "parse",
    "ptx",
    "rules",
    "to_onnx",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hectorite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
