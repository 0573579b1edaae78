"""Laws of scalar functions, applied inside the bodies of statements.

    ScalarLaw("distribute-scale", "scale", "(y + b) * s = y * s + b * s", fixed=frozenset("bs"))

    y[n, o, p] = relu((z[n, o, p] - mean[o]) * scale[o])
    y[n, o, p] = relu(z[n, o, p] * scale[o] - t[o])        t[o] = mean[o] * scale[o], fixed

A name stands for any formula; in a sum or product of many for all terms that are fixed, if the law
wants it fixed, else for all others. What is fixed in the result is computed in a statement of its
own, which calls need not repeat.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.element import ELEMENTS
from hectorite.ir.form_views import recognised
from hectorite.ir.formula import (
    NARY,
    Apply,
    Cast,
    Constant,
    Formula,
    Read,
    nary,
    reads,
    rebuild,
    variables,
    walk,
)
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Form, Shape
from hectorite.lowering.rules.apply import applied_to, created, put_inside
from hectorite.lowering.rules.smart import put
from hectorite.lowering.rules.term import Tag
from hectorite.lowering.search.step import Match

_FUNCTIONS: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
}


@dataclass(frozen=True)
class ScalarLaw:
    """Two formulas of equal value, written `left = right`; the left one is replaced."""

    name: str
    family: str
    text: str
    doc: str = ""
    algebra: frozenset[Tag] = frozenset()
    fixed: frozenset[str] = frozenset()
    """Names that stand for what is the same in every call."""

    def __str__(self) -> str:
        names = " and ".join(sorted(self.fixed))
        return (
            f"{self.name}: {self.text.replace('=', '->')}{f'  where {names} fixed' * bool(names)}"
        )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names on the left, as they appear; a name's number is its hole."""
        left = ast.parse(self.text.partition("=")[0].strip(), mode="eval")
        found = [node.id for node in ast.walk(left) if isinstance(node, ast.Name)]
        functions = {
            node.func.id
            for node in ast.walk(left)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        return tuple(dict.fromkeys(name for name in found if name not in functions))

    @property
    def source(self) -> Formula:
        return self._side(0)

    @property
    def target(self) -> Formula:
        return self._side(2)

    def _side(self, number: int) -> Formula:
        text = self.text.partition("=")[number].strip()
        return _parsed(ast.parse(text, mode="eval").body, self.names)


def _parsed(node: ast.expr, names: tuple[str, ...]) -> Formula:
    match node:
        case ast.Name(id=name):
            if name not in names:
                raise ValueError(f"`{name}` stands on the right, but not on the left")
            return Read(names.index(name), None)
        case ast.Constant(value=float() | int() as number):
            return Constant(number, "")
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return Apply("neg", (_parsed(inner, names),))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _FUNCTIONS:
            return applied_to(_FUNCTIONS[type(op)], [_parsed(left, names), _parsed(right, names)])
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return applied_to(name, [_parsed(argument, names) for argument in arguments])
        case _:
            raise ValueError(f"{ast.unparse(node)} is no formula")


SCALAR_LAWS = (
    ScalarLaw(
        "distribute-scale",
        "scale",
        "(y + b) * s = y * s + b * s",
        "A fixed scale of a sum with a fixed term: a step of folding bias and batch normalisation.",
        frozenset({"ring", "reassoc_fp"}),
        frozenset("bs"),
    ),
    ScalarLaw(
        "distribute-scale-shift",
        "scale",
        "(y - b) * s = y * s - b * s",
        "A fixed scale of a difference to a fixed term.",
        frozenset({"ring", "reassoc_fp"}),
        frozenset("bs"),
    ),
    ScalarLaw(
        "divide-by-fixed",
        "scale",
        "y / s = y * (1 / s)",
        "A fixed divisor becomes a factor.",
        frozenset({"field", "reassoc_fp"}),
        frozenset("s"),
    ),
    ScalarLaw(
        "join-shifts",
        "scale",
        "(y - b) + c = y + (c - b)",
        "Fixed terms of a sum are added beforehand.",
        frozenset({"ring", "reassoc_fp"}),
        frozenset("bc"),
    ),
)


class ScalarRule:
    """A rule of the search, made from a scalar law."""

    def __init__(self, law: ScalarLaw):
        self.law = law
        self._possible = dict[Form, bool]()

    @property
    def name(self) -> str:
        return self.law.name

    @property
    def family(self) -> str:
        return self.law.family

    local = True

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """One match for each place in the body of the statement."""
        node = flow.nodes[number]
        form = node.form
        if form is None or form.body is None or node.fixed or not self._may(form):
            return
        for place, part in enumerate(walk(form.body)):
            found = matched(self.law, part, flow, node)
            if found is not None and permitted(self.law, part, flow, node):
                yield self._match(number, place, found, node)

    def _may(self, form: Form) -> bool:
        """Whether a body has all functions of the law."""
        if form not in self._possible:
            names = {p.function for p in walk(self.law.source) if isinstance(p, Apply)}
            inside = walk(form.body) if form.body is not None and recognised(form) else ()
            has = {part.function for part in inside if isinstance(part, Apply)}
            self._possible[form] = names <= has
        return self._possible[form]

    def _match(self, number: int, place: int, found: Mapping[int, Formula], node: Node) -> Match:
        def apply(flow: Dataflow) -> Sequence[int]:
            return _replace(flow, number, place, filled(self.law.target, found, flow, node))

        return Match(self.name, self.family, (number,), node.name or f"%{number}", apply)


def matched(law: ScalarLaw, part: Formula, flow: Dataflow, node: Node) -> dict[int, Formula] | None:
    """What the names of a law stand for if its left side is this formula."""
    wanted = {law.names.index(name) for name in law.fixed}
    found = dict[int, Formula]()
    ok = _unify(law.source, part, found, wanted, flow, node)
    varies = any(not is_fixed(formula, flow, node) for formula in found.values())
    return found if ok and varies else None


def permitted(law: ScalarLaw, part: Formula, flow: Dataflow, node: Node) -> bool:
    """Whether the algebra of the element type permits a law here."""
    element = ELEMENTS[node.shape.element]
    if "reassoc_fp" in law.algebra and element.is_float and not flow.reassociate:
        return False
    if "field" in law.algebra and not element.is_float:
        return False
    alike = all(
        flow.nodes[node.operands[read.slot]].shape.element == element.name for read in reads(part)
    )
    plain = not any(isinstance(inside, Cast) for inside in walk(part))
    return alike and plain and element.compute == element and element.kind in ("float", "int")


def is_fixed(formula: Formula, flow: Dataflow, node: Node) -> bool:
    """Whether a formula is the same in every call."""
    return all(flow.nodes[node.operands[read.slot]].fixed for read in reads(formula))


def _unify(
    pattern: Formula,
    formula: Formula,
    found: dict[int, Formula],
    wanted: set[int],
    flow: Dataflow,
    node: Node,
) -> bool:
    if isinstance(pattern, Read):
        if pattern.slot in wanted and not is_fixed(formula, flow, node):
            return False
        return found.setdefault(pattern.slot, formula) == formula
    if isinstance(pattern, Constant):
        return isinstance(formula, Constant) and formula.number == pattern.number
    if not isinstance(pattern, Apply) or not isinstance(formula, Apply):
        return False
    if pattern.function != formula.function:
        return False
    if pattern.function not in NARY:
        pairs = zip(pattern.arguments, formula.arguments, strict=True)
        return all(_unify(a, b, found, wanted, flow, node) for a, b in pairs)
    rest = list(formula.arguments)
    for inner in (a for a in pattern.arguments if not isinstance(a, Read)):
        for taken in rest:
            trial = dict(found)
            if _unify(inner, taken, trial, wanted, flow, node):
                found.update(trial)
                rest.remove(taken)
                break
        else:
            return False
    holes = [a.slot for a in pattern.arguments if isinstance(a, Read)]
    for hole in sorted(holes, key=lambda hole: hole not in wanted):
        mine = [r for r in rest if is_fixed(r, flow, node)] if hole in wanted else list(rest)
        if not mine:
            return False
        stands = nary(pattern.function, mine)
        if found.setdefault(hole, stands) != stands:
            return False
        rest = [r for r in rest if r not in mine]
    return not rest


def filled(target: Formula, found: Mapping[int, Formula], flow: Dataflow, node: Node) -> Formula:
    """The right side of a law, with constants of the type of the statement."""

    def change(part: Formula) -> Formula | None:
        if isinstance(part, Read):
            return found[part.slot]
        if isinstance(part, Constant):
            return Constant(part.number, node.shape.element)
        if isinstance(part, Apply) and part.function in NARY:
            return nary(part.function, [filled(a, found, flow, node) for a in part.arguments])
        return None

    return rebuild(target, change)


def _replace(flow: Dataflow, number: int, place: int, by: Formula) -> Sequence[int]:
    """Put a formula in the place of a part of the body, what is fixed in it as own statements."""
    node = flow.nodes[number]
    form = node.form
    assert form is not None and form.body is not None
    operands, start = list(node.operands), len(flow.edits)

    def settle(part: Formula) -> Formula | None:
        if not isinstance(part, Apply) or not reads(part) or not is_fixed(part, flow, node):
            return None
        names = [name for name in form.extents if name in variables(part)]
        left = tuple(map(IndexExpr.of, names))
        over = {name: form.extents[name] for name in names}
        shape = Shape(tuple(over.values()), form.shape.element)
        operands.append(put(flow, "assign", left, over, shape, part, node.operands))
        return Read(len(operands) - 1, left)

    put_inside(flow, number, place, rebuild(by, settle), operands)
    return created(flow, start)
