"""Calls replaced by what they call: a kernel as one text.

Enters: a module and the name of a kernel. Leaves: a function without calls. Parameters of calls
are variables of space `param`, in the frame of the thread; a called function's `ret` becomes a
branch behind the call.

    call.uni (retval0), square, (param0);
    =>  (the text of `square`, its registers and labels renamed, its parameter called param0)
        square$1$after:
"""

from __future__ import annotations

from dataclasses import replace

from hectorite.ir.diagnostics import HectoriteError, Source, Span, did_you_mean, fail
from hectorite.ir.ptx.flow import function_named
from hectorite.ir.ptx.syntax import (
    Address,
    Braces,
    Call,
    Function,
    Guard,
    Instruction,
    Label,
    Module,
    Negated,
    Operand,
    Pair,
    Register,
    Symbol,
    Variable,
)

ASSERTION = "__assertfail"
"""Called by `assert`; it becomes a trap that says so."""

MOST_INSTRUCTIONS = 200_000


def place(source: Source | None, line: int) -> Span:
    """The whole of a line, as messages show it."""
    text = source.lines[line - 1] if source and 1 <= line <= len(source.lines) else ""
    start = len(text) - len(text.lstrip()) + 1
    return Span(line, start, line, max(start + 1, len(text.rstrip()) + 1))


def refuse(
    source: Source | None, line: int, message: str, hint: str | None = None
) -> HectoriteError:
    """The error for a text that compiled mode has no code for."""
    hint = hint or "the lockstep mode may run it"
    return fail(message, span=place(source, line), source=source, hint=hint)


class Inliner:
    """Flattens one kernel."""

    def __init__(self, module: Module, source: Source | None):
        self.module = module
        self.source = source
        self.body: list[Instruction | Label] = []
        self.registers: dict[str, str] = {}
        self.variables: dict[str, Variable] = {}
        self.serial = 0

    def flatten(self, kernel: Function) -> Function:
        """The kernel with every call replaced."""
        self.registers.update(kernel.registers)
        self.variables.update({v.name: v for v in kernel.variables})
        self._copy(kernel, {}, "", None, (kernel.name,))
        return replace(
            kernel,
            body=tuple(self.body),
            registers=self.registers,
            variables=tuple(self.variables.values()),
        )

    def _copy(
        self,
        function: Function,
        names: dict[str, Operand],
        prefix: str,
        after: str | None,
        stack: tuple[str, ...],
    ) -> None:
        for item in function.body:
            if len(self.body) > MOST_INSTRUCTIONS:
                raise refuse(self.source, function.line, "calls make this kernel too long")
            if isinstance(item, Label):
                targets = tuple(prefix + target for target in item.targets)
                self.body.append(replace(item, name=prefix + item.name, targets=targets))
                continue
            if item.name == "call":
                self._call(item, names, prefix, stack)
                continue
            new = self._renamed(item, function, names, prefix)
            if item.name == "ret" and after is not None:
                new = replace(new, name="bra", suffix=(), operands=(Symbol(after),))
            self.body.append(new)

    def _renamed(
        self, item: Instruction, function: Function, names: dict[str, Operand], prefix: str
    ) -> Instruction:
        if not prefix:
            return item
        labels = {label.name for label in function.body if isinstance(label, Label)}
        guard = item.guard and Guard(prefixed(item.guard.register, prefix), item.guard.negated)
        operands = tuple(renamed(o, names, prefix, labels) for o in item.operands)
        return replace(item, guard=guard, operands=operands)

    def _call(
        self, item: Instruction, names: dict[str, Operand], prefix: str, stack: tuple[str, ...]
    ) -> None:
        call = next((o for o in item.operands if isinstance(o, Call)), None)
        if call is None:
            raise refuse(self.source, item.line, "this call names no function")
        called = function_named(self.module.functions, call.function.name)
        if call.function.name == ASSERTION:
            guard = item.guard and Guard(prefixed(item.guard.register, prefix), item.guard.negated)
            self.body.append(Instruction(item.line, "trap", ("assert",), (), guard))
            return
        if called is None or called.is_declaration:
            raise refuse(self.source, item.line, f"`{call.function.name}` has no definition here")
        if called.name in stack:
            raise refuse(self.source, item.line, f"`{called.name}` calls itself")
        self.serial += 1
        inner = f"{called.name}${self.serial}$"
        after = f"{inner}after"
        if item.guard is not None:
            guard = Guard(prefixed(item.guard.register, prefix), not item.guard.negated)
            self.body.append(Instruction(item.line, "bra", (), (Symbol(after),), guard))
        inside = self._bind(item, call, called, names, prefix, inner)
        self._copy(called, inside, inner, after, (*stack, called.name))
        self.body.append(Label(item.line, after))
        for result, variable in zip(call.results, called.results, strict=True):
            target = renamed(result, names, prefix, set())
            if variable.space == "reg":
                self._emit(item, "mov", (variable.type,), target, Register(inner + variable.name))
            elif not isinstance(result, Symbol):
                place = Address(Symbol(inner + variable.name))
                self._emit(item, "ld", ("param", variable.type), target, place)

    def _emit(
        self, item: Instruction, name: str, suffix: tuple[str, ...], *operands: Operand
    ) -> None:
        self.body.append(Instruction(item.line, name, suffix, operands))

    def _bind(
        self,
        item: Instruction,
        call: Call,
        called: Function,
        names: dict[str, Operand],
        prefix: str,
        inner: str,
    ) -> dict[str, Operand]:
        """What the called function's own names stand for."""
        wanted = (*called.results, *called.parameters)
        given = (*call.results, *call.arguments)
        if len(wanted) != len(given):
            raise refuse(
                self.source,
                item.line,
                f"`{called.name}` is called with {len(given)} results and arguments",
                f"it has {len(wanted)}",
            )
        self.registers.update({prefixed(n, inner): t for n, t in called.registers.items()})
        inside: dict[str, Operand] = {}
        for variable in called.variables:
            if variable.space in ("shared", "global", "const"):  # one for all calls
                common = replace(variable, name=f"{called.name}.{variable.name}")
                self.variables[common.name] = common
                inside[variable.name] = Symbol(common.name)
            else:
                own = replace(variable, name=inner + variable.name)
                self.variables[own.name] = own
                inside[variable.name] = Symbol(own.name)
        for number, (variable, operand) in enumerate(zip(wanted, given, strict=True)):
            value = renamed(operand, names, prefix, set())
            is_argument = number >= len(called.results)
            if variable.space == "reg":
                if is_argument:
                    target = Register(inner + variable.name)
                    self._emit(item, "mov", (variable.type,), target, value)
                continue
            if isinstance(operand, Symbol):
                inside[variable.name] = value
                continue
            own = replace(variable, name=inner + variable.name, space="param")
            self.variables[own.name] = own
            inside[variable.name] = Symbol(own.name)
            if is_argument:
                self._emit(item, "st", ("param", variable.type), Address(Symbol(own.name)), value)
        return inside


def inlined(module: Module, kernel: str, source: Source | None) -> Function:
    """The kernel of this name without calls.

    Raises `HectoriteError` for calls of unknown functions, through registers, or of itself.
    """
    function = function_named(module.functions, kernel)
    if function is None:
        known = [function.name for function in module.entries]
        raise fail(
            f"the module has no kernel `{kernel}`", source=source, hint=did_you_mean(kernel, known)
        )
    return Inliner(module, source).flatten(function)


def prefixed(register: str, prefix: str) -> str:
    return prefix + register


def prefixed_register(register: Register, prefix: str) -> Register:
    return Register(prefixed(register.name, prefix))


def renamed(operand: Operand, names: dict[str, Operand], prefix: str, labels: set[str]) -> Operand:
    """An operand of a called function as the caller sees it."""

    def inner(part: Operand) -> Operand:
        return renamed(part, names, prefix, labels)

    match operand:
        case Register():
            return prefixed_register(operand, prefix)
        case Symbol(name, offset):
            if name in labels:
                return Symbol(prefix + name)
            found = names.get(name)
            return replace(found, offset=offset) if isinstance(found, Symbol) else operand
        case Address(base, _, coordinates):
            new = inner(base)
            assert isinstance(new, Register | Symbol) or new is base
            return replace(operand, base=new, coordinates=tuple(map(inner, coordinates)))
        case Braces(items):
            return Braces(tuple(map(inner, items)))
        case Pair(first, second):
            return Pair(inner(first), inner(second))
        case Negated(register):
            return Negated(prefixed_register(register, prefix))
        case _:
            return operand
