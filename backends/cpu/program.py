"""Compiled programs on the CPU: machine code and a plan, bound to data and called.

Enters: a module of the `tile` dialect, or LLVM IR or assembly as `emit` prints it; then bindings
and arguments. Leaves: arrays. Everything that depends on the binding alone (layouts, extents,
numbers of tasks) is worked out once for each binding; a call fills in addresses and makes one call
of machine code, without the interpreter lock. Calls from several threads at once are independent.

    program = build(module, default_cache())
    (y,) = program.run(binding, {"x": x, "A": a})
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from hectorite.backends.cache import Cache, cache_key
from hectorite.backends.cpu import jit
from hectorite.backends.cpu.call import Call
from hectorite.backends.cpu.module import ENTRY, compile_tile
from hectorite.backends.cpu.threads import symbols
from hectorite.backends.host.plan import COMMENT, HEADER, Plan, plan_from_text
from hectorite.ir.schema import Schema

if TYPE_CHECKING:
    from hectorite.backends.bound.binding import Binding

Array = np.ndarray[Any, Any]
Sizes = tuple[tuple[str, int], ...]


class CpuExecutable:
    """A compiled program: `plan`, and `object_code`, which is for this computer only."""

    def __init__(self, plan: Plan, object_code: bytes):
        self.plan = plan
        self.object_code = object_code
        code = jit.load(object_code, [ENTRY], symbols())
        self._entry = code.function(ENTRY, None, ctypes.c_void_p)
        self._calls: WeakKeyDictionary[Binding, dict[Sizes, Call]] = WeakKeyDictionary()

    @cached_property
    def schema(self) -> Schema:
        """The sets and sizes that the program declares."""
        return self.plan.schema

    def prepare(self, binding: Binding, sizes: Mapping[str, int] | None = None) -> Call:
        """The program ready to be called on a binding; worked out the first time.

        `sizes` gives the sizes that the binding does not know. Raises `HectoriteError` for data
        that a derived set cannot be built from.
        """
        key = tuple(sorted(sizes.items())) if sizes else ()
        try:
            return self._calls[binding][key]
        except KeyError:
            binding.extend(self.schema)
            call = Call(self.plan, binding, sizes or {}, self._entry)
            return self._calls.setdefault(binding, {}).setdefault(key, call)

    def run(
        self,
        binding: Binding,
        arguments: Mapping[str, Any],
        sizes: Mapping[str, int] | None = None,
    ) -> tuple[Array, ...]:
        """The results of a call.

        `arguments` gives every tensor by name, as a C-contiguous array of the declared element
        type and shape (`backends.arrays.as_array` makes one), and every number.
        """
        return self.prepare(binding, sizes)(arguments)


def build(module: ModuleOp, cache: Cache | None = None) -> CpuExecutable:
    """Compile the program of a `tile` module for this computer."""
    return build_once(lambda: compile_tile(module), cache, str(module))


def build_once(
    make: Callable[[], tuple[Plan, str]], cache: Cache | None, *identity: str
) -> CpuExecutable:
    """The executable of the plan and LLVM IR that `make` returns, from the cache if it is there.

    `identity` is everything that they depend on: with the same, `make` need not be called.
    """
    key = cache_key("cpu", str(jit.host()), *identity)
    entry = cache.lookup(key) if cache else None
    if entry is not None:
        return CpuExecutable(Plan.from_json(entry.metadata), entry.blobs["object"])
    plan, text = make()
    code = jit.compile_object(text, f"{plan.name}.ll")
    if cache:
        cache.store(key, plan.to_json(), {"object": code})
    return CpuExecutable(plan, code)


def build_from_text(text: str, name: str = "<text>") -> CpuExecutable:
    """The executable of LLVM IR or assembly text with its plan ahead, as `emit` prints it.

    `name` is what messages call the text. Raises `HectoriteError` if it is not valid.
    """
    plan = plan_from_text(text, name)
    is_assembly = text.startswith(f"{COMMENT['asm']} {HEADER}")
    compiled = jit.assemble(text, name) if is_assembly else jit.compile_object(text, name)
    return CpuExecutable(plan, compiled)
