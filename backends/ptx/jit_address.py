"""Addresses of compiled PTX, and the checks before every access.

Enters: an address operand. Leaves: code that makes a pointer of it, and in a checked kernel ends
the thread with a fault where the access is not allowed. Addresses in shared and local memory are
offsets; all others are addresses of the process. Most addresses are a parameter plus something:
then the array behind that parameter is tried first, and the offset is left for LLVM to see.
"""

from __future__ import annotations

from collections.abc import Sequence

from hectorite.backends.ptx.jit_frame import SIZES, Fault, Launch
from hectorite.backends.ptx.jit_text import Code, V, i32, i64
from hectorite.backends.ptx.jit_values import Values
from hectorite.ir.diagnostics import Source
from hectorite.ir.ptx.flow import Block
from hectorite.ir.ptx.syntax import Address, Function, Module, Operand, Register, Symbol


class Addresses(Values):
    """Makes pointers. `checked` kernels stop at a wrong one."""

    def __init__(
        self, module: Module, kernel: Function, code: Code, source: Source | None, checked: bool
    ):
        super().__init__(module, kernel, code, source)
        self.checked = checked
        self.origins = pointer_origins(kernel, self.blocks)

    def address(self, operand: Operand) -> V:
        """The i64 that an address operand says: a host address, or an offset in its space."""
        if not isinstance(operand, Address):
            raise self.wrong(self.instruction, "this address")
        base = operand.base
        if isinstance(base, Symbol):
            return self.symbol_address(Symbol(base.name, base.offset + operand.offset))
        value = self.read(base, "i64")
        return self.code.op("add", value, i64(operand.offset)) if operand.offset else value

    def pointer(self, operand: Operand, space: str, size: int, alignment: int) -> V:
        """Where an access of `size` bytes goes, checked if this is a checked kernel.

        `space` is that of the instruction; `generic` addresses are those of the host.
        """
        assert isinstance(operand, Address)
        if space == "param":
            return self._parameter(operand)
        value = self.address(operand)
        if space == "shared":
            self.check_shared(value, size, alignment)
            return self.code.at(V("ptr", "%shared"), value)
        if space == "local":
            frame = i64(self.variables["frame"].end)
            self.check_window(value, frame, size, alignment, Fault.LOCAL_OUT_OF_BOUNDS)
            return self.code.at(V("ptr", "%frame"), value)
        origin = self.origin(operand)
        self.check_global(value, size, alignment, origin, space == "generic")
        if origin is not None:
            # An offset from a parameter is what LLVM can reason about.
            base = self.parameter(origin)
            pointer = self.code.cast("inttoptr", base, "ptr")
            return self.code.at(pointer, self.code.op("sub", value, base))
        return self.code.cast("inttoptr", value, "ptr")

    def origin(self, operand: Address) -> str | None:
        """The only parameter that an address can come from."""
        if not isinstance(operand.base, Register):
            return None
        found = self.origins.get(operand.base.name, frozenset())
        return next(iter(found)) if len(found) == 1 else None

    def _parameter(self, operand: Address) -> V:
        if isinstance(operand.base, Symbol) and operand.base.name in self.variables["frame"].sizes:
            offset = self.variables["frame"].offsets[operand.base.name]
            return self.code.at(V("ptr", "%frame"), offset + operand.base.offset + operand.offset)
        return self.code.cast("inttoptr", self.address(operand), "ptr")

    def whole_parameter(self, operand: Operand, size: int) -> V | None:
        """The kernel's parameter that an address names, if `size` bytes are all of it."""
        base = operand.base if isinstance(operand, Address) else None
        if not isinstance(operand, Address) or not isinstance(base, Symbol):
            return None
        is_start = operand.offset == base.offset == 0 and size <= 8
        if is_start and self.parameters.sizes.get(base.name) == size:
            return self.parameter(base.name)
        return None

    # Checks.

    def check_shared(self, offset: V, size: V | int, alignment: int) -> None:
        total = self.slot(Launch.SHARED_BYTES)
        self.check_window(offset, total, size, alignment, Fault.SHARED_OUT_OF_BOUNDS)

    def check_window(self, offset: V, total: V, size: V | int, alignment: int, kind: Fault) -> None:
        """In shared or local memory: stop unless `offset` has `size` bytes below `total`."""
        if not self.checked:
            return
        size, code = sized(size), self.code
        inside = code.compare("ult", offset, self._room(total, size))
        fine, bad = code.name("fine"), code.name("bad")
        code.do(f"br {self._and_aligned(inside, offset, alignment)}, label %{fine}, label %{bad}")
        code.label(bad)
        place = (offset, size, i64(alignment))
        code.call_void("hec.outside", *self._thread(), i32(kind), *place)
        code.do(f"br label %{STOPPED}")
        code.label(fine)

    def _room(self, total: V, size: V) -> V:
        """How many places below `total` have `size` bytes behind them."""
        less = self.code.op("sub", size, i64(1))
        return self.code.call("i64", "llvm.usub.sat.i64", total, less)

    def check_global(
        self,
        address: V,
        size: V | int,
        alignment: int,
        origin: str | None,
        is_generic: bool = False,
    ) -> None:
        """Stop unless the bytes are of one allocation. That of `origin` is tried first, in place;
        what is not there is asked of a function, which records the fault if there is one."""
        if not self.checked:
            return
        size, code = sized(size), self.code
        fine = code.name("fine")
        if origin is not None:
            number = Launch.FIRST_RANGE + 2 * self.parameter_order.index(origin)
            room = self._room(self.slot(number + 1), size)
            inside = code.compare("ult", code.op("sub", address, self.slot(number)), room)
            self._pass(self._and_aligned(inside, address, alignment), fine)
        if is_generic and self.frame_bytes:
            start = code.cast("ptrtoint", V("ptr", "%frame"), "i64")
            room = self._room(i64(self.frame_bytes), size)
            inside = code.compare("ult", code.op("sub", address, start), room)
            self._pass(self._and_aligned(inside, address, alignment), fine)
        found = code.call("i1", "hec.access", *self._thread(), address, size, i64(alignment))
        code.do(f"br {found}, label %{fine}, label %{STOPPED}")
        code.label(fine)

    def _pass(self, holds: V, fine: str) -> None:
        """Go to `fine` if the i1 holds."""
        other = self.code.name("other")
        self.code.do(f"br {holds}, label %{fine}, label %{other}")
        self.code.label(other)

    def _and_aligned(self, holds: V, address: V, alignment: int) -> V:
        if alignment <= 1:
            return holds
        low = self.code.op("and", address, i64(alignment - 1))
        return self.code.op("and", holds, self.code.compare("eq", low, i64(0)))

    def _thread(self) -> tuple[V, ...]:
        """Who does what is being written, and the line of it."""
        # Lines count from that of the kernel, so that equal kernels are one text in the cache.
        line = i32(self.instruction.line - self.kernel.line)
        place = (V("i32", name) for name in ("%x", "%y", "%z"))
        return (V("ptr", "%launch"), V("ptr", "%block"), *place, line)

    def stop(self, kind: Fault) -> None:
        """End this thread with a fault."""
        place = (i64(0), i64(1), i64(1))
        self.code.call_void("hec.outside", *self._thread(), i32(kind), *place)
        self.code.do(f"br label %{STOPPED}")


STOPPED = "stopped"
"""The block in which a thread ends that has a fault."""


def sized(size: V | int) -> V:
    return i64(size) if isinstance(size, int) else size


ADDITIVE = frozenset({"mov", "cvta", "add", "sub", "mad", "selp"})


def pointer_origins(kernel: Function, blocks: Sequence[Block]) -> dict[str, frozenset[str]]:
    """For each register the 64-bit parameters that its value may be an address near to."""
    wide = {p.name for p in kernel.parameters if p.count is None and SIZES.get(p.type) == 8}
    found: dict[str, frozenset[str]] = {}
    changed = True
    while changed:
        changed = False
        for block in blocks:
            for item in block.instructions:
                target = item.operands[0] if item.operands else None
                if not isinstance(target, Register):
                    continue
                sources: frozenset[str] = frozenset()
                base = item.operands[1] if len(item.operands) > 1 else None
                if item.name == "ld" and "param" in item.suffix and isinstance(base, Address):
                    if isinstance(base.base, Symbol) and base.base.name in wide:
                        sources = frozenset({base.base.name})
                elif item.name in ADDITIVE:
                    for operand in item.operands[1:]:
                        if isinstance(operand, Register):
                            sources |= found.get(operand.name, frozenset())
                name = target.name
                merged = found.get(name, frozenset()) | sources
                if merged != found.get(name, frozenset()):
                    found[name] = merged
                    changed = True
    return found
