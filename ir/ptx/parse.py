"""PTX text to data.

Enters: the text of a module, from any compiler. Leaves: a `syntax.Module`.

    @%p1 ld.global.v2.f32 {%f1, %f2}, [%rd1+8];      an Instruction of a Function of the Module

What is not code is skipped: line tables, debug sections, pragmas. Scopes `{ }` inside a function
are flattened; what they declare a second time gets a name of its own (`param0`, `param0_1`).
Instructions are read by form alone: whether `ld.global.v2.f32` exists and takes these operands is
the business of `isa.py`. Every name, though, must be declared.
"""

from __future__ import annotations

from dataclasses import replace

from hectorite.ir.diagnostics import Source, did_you_mean
from hectorite.ir.ptx.operands import FunctionText, OperandParser, Scope
from hectorite.ir.ptx.syntax import (
    Call,
    Function,
    Guard,
    Instruction,
    Label,
    Module,
    Operand,
    Symbol,
    Variable,
)

SPACES = frozenset({"param", "shared", "global", "const", "local"})
LINKING = frozenset({"visible", "extern", "weak", "common"})


def parse_ptx(text: str, name: str = "<ptx>") -> Module:
    """The module written in `text`; `name` is what messages call it.

    Raises `HectoriteError`, with line and column, where the text is not PTX or names what it does
    not declare.
    """
    return _Parser(Source(name, text)).module()


class _Parser(OperandParser):
    """Reads modules, functions, declarations and instructions."""

    # The module.

    def module(self) -> Module:
        version = self.version()
        target, address_size = "", 64
        variables: list[Variable] = []
        functions: list[Function] = []
        while self.kinds[self.at] != "end":
            if self.accept_dot("target"):
                target = self.target()
            elif self.accept_dot("address_size"):
                address_size = self.integer()
            elif self.accept_dot("section"):
                self.section()
            elif self.accept_dot("pragma"):
                self.skip_statement()
            else:
                self.declaration(variables, functions)
        return Module(version, target, address_size, tuple(variables), tuple(functions))

    def version(self) -> tuple[int, int]:
        if not self.accept_dot("version"):
            raise self.unexpected("`.version`, with which every PTX text begins")
        major, _, minor = self.take("number", "a version, as in 8.0").partition(".")
        return int(major), int(minor or 0)

    def target(self) -> str:
        name = self.take("name", "a target, as in sm_90")
        while self.accept(","):
            self.take("name", "a target or option")
        return name

    def section(self) -> None:
        """Debug information: `.section .debug_info { ... }`, or empty."""
        if self.kinds[self.at] in ("dot", "name"):
            self.at += 1
        if self.kinds[self.at] == "{":
            self.skip_block()

    def declaration(self, variables: list[Variable], functions: list[Function]) -> None:
        linking: set[str] = set()
        while word := self.accept_dot(*LINKING):
            linking.add(word)
        if self.kinds[self.at] != "dot":
            raise self.unexpected("a declaration such as `.entry`, `.func` or `.global`")
        if kind := self.accept_dot("entry", "func"):
            functions.append(self.function(kind == "entry"))
            self.globals.add(functions[-1].name)
        elif self.texts[self.at][1:].partition("::")[0] in SPACES:
            space = self.dot("a state space").partition("::")[0]
            variables += self.variables(space, "extern" in linking)
            self.globals.update(variable.name for variable in variables)
            self.take(";")
        else:
            raise self.wrong(f"`{self.texts[self.at]}` is not understood at this place")

    # Variables.

    def variables(self, space: str, is_extern: bool) -> list[Variable]:
        """After the space: `.align 16 .b8 tile[4096], other[16]`, up to the semicolon."""
        align, vector, type_ = self.variable_type()
        found = [self.variable(space, type_, align, vector, is_extern)]
        while self.accept(","):
            found.append(self.variable(space, type_, align, vector, is_extern))
        return found

    def variable_type(self) -> tuple[int | None, int, str]:
        """Alignment, elements of a vector type (1 for none), and element type."""
        align, vector = None, 1
        while word := self.accept_dot("align", "attribute", "v2", "v4"):
            if word == "align":
                align = self.integer()
            elif word == "attribute":
                self.skip_parentheses()
            else:
                vector = int(word[1:])
        return align, vector, self.dot("a type such as `.b32`")

    def skip_parentheses(self) -> None:
        self.take("(")
        while self.kinds[self.at] not in (")", "end"):
            self.at += 1
        self.take(")")

    def variable(
        self, space: str, type_: str, align: int | None, vector: int, is_extern: bool
    ) -> Variable:
        line = self.tokens.line(self.at)
        name = self.take("name", "a name")
        count: int | None = None if vector == 1 else vector
        while self.accept("["):
            if self.accept("]"):
                count = 0
                continue
            count = (1 if count is None else count) * self.integer()
            self.take("]")
        values = tuple(self.initial_values()) if self.accept("=") else ()
        if count == 0 and values:
            count = len(values)
        if vector > 1 and align is None:
            align = vector * int(type_[1:]) // 8
        return Variable(line, space, type_, name, align, count, values, is_extern)

    def initial_values(self) -> list[int | float | Symbol]:
        """What follows `=`; nested braces are flattened."""
        if not self.accept("{"):
            return [self.initial_value()]
        values: list[int | float | Symbol] = []
        while not self.accept("}"):
            values += self.initial_values()
            if self.kinds[self.at] != "}":
                self.take(",", "`,` or `}`")
        return values

    def initial_value(self) -> int | float | Symbol:
        if self.kinds[self.at] != "name":
            return self.immediate().value
        start = self.at
        name = self.take("name")
        if name == "generic" and self.accept("("):
            start = self.at
            name = self.take("name", "the name of a variable")
            self.take(")")
        if name not in self.globals:
            raise self.wrong(f"`{name}` is not declared", start, did_you_mean(name, self.globals))
        return Symbol(name, self.offset())

    # Functions.

    def function(self, is_entry: bool) -> Function:
        self.body = FunctionText(taken=set(self.globals))
        body = self.body
        self.skip_attribute()
        results = self.parameters() if self.kinds[self.at] == "(" else ()
        self.skip_attribute()
        line = self.tokens.line(self.at)
        name = self.take("name", "the name of a function")
        self.globals.add(name)
        parameters = self.parameters() if self.kinds[self.at] == "(" else ()
        directives = self.directives()
        is_declaration = self.accept(";")
        if not is_declaration:
            self.block()
        return Function(
            line,
            name,
            is_entry,
            parameters,
            results,
            directives,
            body.registers,
            tuple(body.variables),
            tuple(body.items),
            is_declaration,
        )

    def skip_attribute(self) -> None:
        if self.accept_dot("attribute"):
            self.skip_parentheses()

    def parameters(self) -> tuple[Variable, ...]:
        self.take("(")
        found: list[Variable] = []
        while not self.accept(")"):
            found.append(self.parameter())
            if self.kinds[self.at] != ")":
                self.take(",", "`,` or `)`")
        return tuple(found)

    def parameter(self) -> Variable:
        """`.param .u64 .ptr .global .align 16 a`, `.param .align 64 .b8 map[128]`."""
        space = self.accept_dot("param", "reg")
        if space is None:
            raise self.unexpected("`.param`")
        align, vector, type_ = self.variable_type()
        if self.accept_dot("ptr"):
            # What is said about the memory behind the pointer says nothing about the parameter.
            while word := self.accept_dot("global", "shared", "const", "local", "param", "align"):
                if word == "align":
                    self.integer()
        start = self.at
        found = self.variable(space, type_, align, vector, False)
        self.declare(found.name, start)
        if space == "reg":
            self.body.registers[found.name] = found.type
        return found

    def directives(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        while self.kinds[self.at] == "dot":
            word = self.dot("a directive")
            if word == "pragma":
                self.skip_statement()
            elif word == "attribute":
                self.skip_parentheses()
            else:
                found[word] = self.integers()
        return found

    def block(self) -> None:
        """`{ statements }` of a function, scopes inside it included."""
        start = self.at
        self.take("{", "`{` or `;`")
        self.declare_labels()
        depth = 1
        while depth:
            kind = self.kinds[self.at]
            if kind == "{":
                self.at += 1
                self.body.scopes.append(Scope())
                self.declare_labels()
                depth += 1
            elif kind == "}":
                self.at += 1
                depth -= 1
                if depth:
                    self.body.scopes.pop()
            elif kind == "end":
                raise self.wrong("this `{` is never closed", start)
            else:
                self.statement()

    def declare_labels(self) -> None:
        """Labels are known in their whole scope, so branches may name them before they stand."""
        depth, at, kinds = 0, self.at, self.kinds
        while depth >= 0 and kinds[at] != "end":
            kind = kinds[at]
            if kind == "{":
                depth += 1
            elif kind == "}":
                depth -= 1
            elif kind == ":" and depth == 0 and kinds[at - 1] == "name":
                name = self.texts[at - 1]
                self.declare(name, at - 1)
            at += 1

    def statement(self) -> None:
        kind = self.kinds[self.at]
        if kind == "dot":
            self.local_declaration()
        elif kind == "name" and self.kinds[self.at + 1] == ":":
            self.label()
        elif kind in ("name", "@"):
            self.body.items.append(self.instruction())
        elif kind == ";":
            self.at += 1
        else:
            raise self.unexpected("an instruction")

    def local_declaration(self) -> None:
        if self.accept_dot("pragma"):
            self.skip_statement()
        elif self.accept_dot("reg"):
            self.registers()
        elif self.accept_dot("section"):
            self.section()
        else:
            while self.accept_dot(*LINKING):
                pass
            word = self.dot("a state space").partition("::")[0]
            if word not in SPACES:
                raise self.wrong(f"`.{word}` is not understood at this place", self.at - 1)
            for found in self.variables(word, False):
                kept = self.declare(found.name, self.at - 1)
                self.body.variables.append(replace(found, name=kept))
            self.take(";")

    def registers(self) -> None:
        """After `.reg`: `.b32 %r<5>, %x;`."""
        _, vector, type_ = self.variable_type()
        if vector > 1:
            raise self.wrong("registers of vector types are not supported", self.at - 1)
        while True:
            start = self.at
            name = self.take("name", "a register")
            if self.accept("<"):
                for number in range(self.integer()):
                    self.body.registers[self.declare(f"{name}{number}", start)] = type_
                self.take(">")
            else:
                self.body.registers[self.declare(name, start)] = type_
            if not self.accept(","):
                break
        self.take(";")

    def label(self) -> None:
        line = self.tokens.line(self.at)
        name = self.body.find(self.take("name")) or ""
        self.take(":")
        targets: list[str] = []
        if self.accept_dot("branchtargets", "calltargets"):
            targets.append(self.symbol(self.take("name", "a label")).name)
            while self.accept(","):
                targets.append(self.symbol(self.take("name", "a label")).name)
            self.take(";")
        elif self.accept_dot("callprototype"):
            self.skip_statement()
        self.body.items.append(Label(line, name, tuple(targets)))

    # Instructions.

    def instruction(self) -> Instruction:
        line = self.tokens.line(self.at)
        guard = None
        if self.accept("@"):
            negated = self.accept("!")
            guard = Guard(self.register(self.take("name", "a predicate")), negated)
        name, *suffix = self.take("name", "an instruction").split(".")
        if name.startswith("%"):
            raise self.wrong("expected an instruction, found a register", self.at - 1)
        operands: list[Operand] = []
        if name == "call":
            operands.append(self.call())
        elif self.kinds[self.at] != ";":
            operands.append(self.operand())
            while self.accept(","):
                operands.append(self.operand())
        self.take(";", "`,` or `;`")
        return Instruction(line, name, tuple(suffix), tuple(operands), guard)

    def call(self) -> Call:
        """`(results), function, (arguments)`, the parentheses only where there are any."""
        results: tuple[Operand, ...] = ()
        if self.kinds[self.at] == "(":
            results = self.listed("(", ")")
            self.take(",")
        name = self.take("name", "the function that is called")
        if self.body.find(name) in self.body.registers:
            raise self.wrong("calls through a register are not supported", self.at - 1)
        function, arguments = self.symbol(name), ()
        if self.accept(","):
            arguments = self.listed("(", ")")
        return Call(results, function, arguments)
