"""Rules as patterns of xDSL's PDL dialect.

Enters: a rule. Leaves: the text of a `pdl.pattern` for a fixed number of siblings, which is two.

PDL follows operands: statements that read one tensor, and a statement that reads the result of
another. What is inside the region of a `graph.statement` it cannot see, nor how many siblings there
are. Those conditions are native constraints, named `hectorite.*` and given the term of the rule
that a statement has to be, and the rewrite is native too: both are this rule's matcher and
builder. Laws of scalar functions are complete, but for what is fixed.
"""

from __future__ import annotations

from hectorite.ir.formula import Apply, Constant, Formula, Read
from hectorite.lowering.rules.scalar import ScalarLaw
from hectorite.lowering.rules.term import (
    Concat,
    Law,
    Statement,
    Tensor,
    Term,
    View,
    is_many,
    walk,
)

SIBLINGS = 2


def pdl_of(law: Law | ScalarLaw) -> str:
    """The text of a module with the pattern, which xDSL's parser takes."""
    writer = _Writer()
    if isinstance(law, ScalarLaw):
        return _module(law, writer.scalar(law))
    roots = [writer.term(law.source, number) for number in range(_count(law.source))]
    for condition in law.where:
        writer.holds(str(condition), roots)
    kinds = ", ".join(["!pdl.operation"] * len(roots))
    arguments = ", ".join(roots)
    rewrite = f'pdl.rewrite with "hectorite.{law.name}"({arguments} : {kinds})'
    return _module(law, [*writer.lines, rewrite])


def _module(law: Law | ScalarLaw, lines: list[str]) -> str:
    name = law.name.replace("-", "_")
    inside = [f"    {line}" for line in lines]
    head = [f"// {law}", "builtin.module {", f"  pdl.pattern @{name} : benefit(1) {{"]
    return "\n".join([*head, *inside, "  }", "}"]) + "\n"


def _count(term: Term) -> int:
    return SIBLINGS if is_many(term) else 1


class _Writer:
    def __init__(self):
        self.lines = list[str]()
        self.values = dict[tuple[str, int], str]()
        self.next = 0

    def put(self, text: str) -> str:
        name = f"%{self.next}"
        self.next += 1
        self.lines.append(f"{name} = {text}")
        return name

    def term(self, term: Term, sibling: int) -> str:
        """The operation that a term is the result of."""
        if isinstance(term, Statement):
            return self.statement(term, [self.value(a, sibling) for a in term.arguments])
        inner = term if isinstance(term, Tensor) else term.term
        count = range(_count(inner)) if is_many(inner) else [sibling]
        return self.statement(term, [self.value(inner, number) for number in count])

    def statement(self, term: Term, operands: list[str]) -> str:
        kind = self.put("pdl.type")
        made = self.put(f'pdl.operation "graph.statement" -> ({kind} : !pdl.type)')
        self.holds(str(term), [made])
        for operand in operands:
            element = self.put("pdl.type")
            read = self.put(
                f'pdl.operation "graph.read" ({operand} : !pdl.value) -> ({element} : !pdl.type)'
            )
            self.constraint("hectorite.inside", [read, made], ["operation", "operation"])
        return made

    def value(self, term: Term, sibling: int) -> str:
        """The tensor that a term stands for."""
        if isinstance(term, Tensor):
            key = (term.name, sibling if term.many else 0)
            if key not in self.values:
                self.values[key] = self.put("pdl.operand")
            return self.values[key]
        if isinstance(term, Statement | Concat | View) or any(map(is_many, walk(term))):
            return self.put(f"pdl.result 0 of {self.term(term, sibling)}")
        raise AssertionError("sources have no other terms")

    def holds(self, text: str, operations: list[str]) -> None:
        """A native constraint on operations, given by a text."""
        attribute = self.put(f'pdl.attribute = "{text}"')
        kinds = ["operation"] * len(operations)
        self.constraint("hectorite.is", [*operations, attribute], [*kinds, "attribute"])

    def scalar(self, law: ScalarLaw) -> list[str]:
        """A pattern of operations of the scalar dialect, which PDL can rewrite by itself."""
        kind = self.put("pdl.type")
        holes = [self.put(f"pdl.operand : {kind}") for _ in law.names]
        for name, hole in zip(law.names, holes, strict=True):
            if name in law.fixed:
                self.constraint("hectorite.fixed", [hole], ["value"])
        root = self.formula(law.source, holes, kind)
        matched, self.lines = self.lines, list[str]()
        new = self.formula(law.target, holes, kind)
        inside = [f"  {line}" for line in (*self.lines, f"pdl.replace {root} with {new}")]
        return [*matched, f"pdl.rewrite {root} {{", *inside, "}"]

    def formula(self, formula: Formula, holes: list[str], kind: str) -> str:
        """The operation of a formula; sums and products of many are taken two at a time."""
        if isinstance(formula, Constant):
            value = self.put(f"pdl.attribute = {float(formula.number)} : f64")
            return self.put(
                f'pdl.operation "scalar.constant" {{"value" = {value}}} -> ({kind} : !pdl.type)'
            )
        assert isinstance(formula, Apply)
        values = [self.operand(argument, holes, kind) for argument in formula.arguments]
        while len(values) > 2:
            first = self.operation(formula.function, values[:2], kind)
            values = [self.put(f"pdl.result 0 of {first}"), *values[2:]]
        return self.operation(formula.function, values, kind)

    def operand(self, formula: Formula, holes: list[str], kind: str) -> str:
        if isinstance(formula, Read):
            return holes[formula.slot]
        return self.put(f"pdl.result 0 of {self.formula(formula, holes, kind)}")

    def operation(self, function: str, values: list[str], kind: str) -> str:
        types = ", ".join(["!pdl.value"] * len(values))
        given = f"({', '.join(values)} : {types})"
        return self.put(f'pdl.operation "scalar.{function}" {given} -> ({kind} : !pdl.type)')

    def constraint(self, name: str, values: list[str], kinds: list[str]) -> None:
        types = ", ".join(f"!pdl.{kind}" for kind in kinds)
        self.lines.append(f'pdl.apply_native_constraint "{name}"({", ".join(values)} : {types})')
