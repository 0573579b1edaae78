"""A small algebra of square matrices: random graphs, rules that hold in it, a local cost.

Products, sums and relu of 4 x 4 matrices; concatenation of two along the columns, and the halves.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.formula import Apply, Constant, Read, nary
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Form, Shape, concat, form
from hectorite.lowering.search.step import Match

ROW, COLUMN, TERM = (IndexExpr.of(name) for name in "ijk")
SQUARE = Shape((4, 4), "f32")
WIDE = Shape((4, 8), "f32")


def product(columns: int = 4) -> Form:
    body = Apply("mul", (Read(0, (ROW, TERM)), Read(1, (TERM, COLUMN))))
    extents = {"i": 4, "j": columns, "k": 4}
    return form("add", (ROW, COLUMN), extents, Shape((4, columns), "f32"), body)[0]


def total() -> Form:
    body = nary("add", (Read(0, (ROW, COLUMN)), Read(1, (ROW, COLUMN))))
    return form("assign", (ROW, COLUMN), {"i": 4, "j": 4}, SQUARE, body)[0]


def relu() -> Form:
    body = Apply("relu", (Read(0, (ROW, COLUMN)),))
    return form("assign", (ROW, COLUMN), {"i": 4, "j": 4}, SQUARE, body)[0]


def twice() -> Form:
    body = nary("mul", (Read(0, (ROW, COLUMN)), Constant(2.0, "f32")))
    return form("assign", (ROW, COLUMN), {"i": 4, "j": 4}, SQUARE, body)[0]


def half(which: int) -> Form:
    body = Read(0, (ROW, IndexExpr(COLUMN.terms, 4 * which)))
    return form("assign", (ROW, COLUMN), {"i": 4, "j": 4}, SQUARE, body)[0]


PRODUCT, PRODUCT_WIDE, SUM, RELU, TWICE = product(), product(8), total(), relu(), twice()
HALVES = (half(0), half(1))
JOIN = concat([SQUARE, SQUARE], 1)


@dataclass(frozen=True)
class Toy:
    """A rule made of a function that yields (nodes, detail, apply)."""

    name: str
    family: str
    find: object
    local = False

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        if number in flow.nodes:
            for nodes, detail, apply in self.find(flow, number):
                yield Match(self.name, self.family, nodes, detail, apply)


def parts(flow, number, wanted):
    node = flow.nodes[number]
    return node.operands if node.form is wanted and len(node.operands) == 2 else None


def _reassociate(flow, number):
    outer = parts(flow, number, PRODUCT)
    inner = outer and parts(flow, outer[0], PRODUCT)
    if not inner:
        return

    def apply(flow):
        right = flow.add(PRODUCT, [inner[1], outer[1]])
        whole = flow.add(PRODUCT, [inner[0], right])
        flow.replace(number, whole)
        return [right, whole]

    yield (number, outer[0]), "right", apply


def _distribute(flow, number):
    outer = parts(flow, number, PRODUCT)
    inner = outer and parts(flow, outer[1], SUM)
    if not inner:
        return

    def apply(flow):
        made = [flow.add(PRODUCT, [outer[0], term]) for term in inner]
        made.append(flow.add(SUM, made))
        flow.replace(number, made[-1])
        return made

    yield (number, outer[1]), "out", apply


def _collect(flow, number):
    terms = parts(flow, number, SUM)
    inner = terms and [parts(flow, term, PRODUCT) for term in terms]
    if not inner or not all(inner) or inner[0][0] != inner[1][0]:
        return

    def apply(flow):
        right = flow.add(SUM, [inner[0][1], inner[1][1]])
        whole = flow.add(PRODUCT, [inner[0][0], right])
        flow.replace(number, whole)
        return [right, whole]

    yield (number, *terms), "in", apply


def _merge(flow, number):
    users = [u for u in sorted(flow.users[number]) if parts(flow, u, PRODUCT)]
    mine = [u for u in users if flow.nodes[u].operands[0] == number]
    for one, other in combinations(mine, 2):
        weights = [flow.nodes[u].operands[1] for u in (one, other)]
        if any(flow.needs(w, u) for w in weights for u in (one, other)):
            continue

        def apply(flow, pair=(one, other), weights=weights):
            both = flow.add(JOIN, weights)
            wide = flow.add(PRODUCT_WIDE, [number, both])
            halves = [flow.add(piece, [wide]) for piece in HALVES]
            for old, new in zip(pair, halves, strict=True):
                flow.replace(old, new)
            return [both, wide, *halves]

        yield (number, one, other), "pair", apply


def _double(flow, number):
    terms = flow.nodes[number]
    if terms.form is not TWICE:
        return

    def apply(flow):
        body = nary("add", (Read(0, (ROW, COLUMN)), Read(0, (ROW, COLUMN))))
        made = form("assign", (ROW, COLUMN), {"i": 4, "j": 4}, SQUARE, body)[0]
        new = flow.add(made, [terms.operands[0]])
        flow.replace(number, new)
        return [new]

    yield (number,), "sum", apply


RULES = [
    Toy("associate", "order", _reassociate),
    Toy("distribute", "sums", _distribute),
    Toy("collect", "sums", _collect),
    Toy("merge", "merging", _merge),
    Toy("double", "scale", _double),
]


@dataclass
class ToyCosts:
    """Products cost by their columns; a point-wise statement costs less if its only user or its
    operand is point-wise as well; what is fixed is free."""

    launch: float = 1e-6

    def node(self, flow, number):
        node = flow.nodes[number]
        if node.form is None or node.fixed:
            return 0.0
        if node.form in HALVES:
            return 1e-8
        if node.form.kind == "concat":
            return self.launch
        if node.form.kind == "add":
            return self.launch + 1e-7 * node.shape.dims[1]
        fused = any(flow.nodes[o].form in (SUM, RELU, TWICE) for o in node.operands)
        return 2e-7 if fused else self.launch

    def neighbours(self, flow, number):
        yield from flow.users[number]

    def bytes_of(self, shape):
        return 4.0 * shape.dims[0] * shape.dims[1]

    def total(self, flow):
        return sum(self.node(flow, number) for number in flow.order())


def random_flow(seed: int, statements: int = 20) -> Dataflow:
    draw = random.Random(seed)
    flow = Dataflow()
    known = [flow.input(f"x{n}", SQUARE) for n in range(2)]
    weights = [flow.input(f"w{n}", SQUARE, fixed=True) for n in range(6)]
    for at in range(statements):
        kind = draw.choice([PRODUCT, PRODUCT, PRODUCT, SUM, RELU, TWICE])
        recent = known[-6:]
        if kind is PRODUCT:
            operands = [draw.choice(recent), draw.choice(weights + recent[-1:])]
        else:
            operands = [draw.choice(recent) for _ in range(2 if kind is SUM else 1)]
        known.append(flow.add(kind, operands, f"t{at}"))
    flow.give(known[-3:])
    return flow


def layers(count: int, width: int = 3) -> Dataflow:
    """Layers alike: `width` products that share an input, added up, relu."""
    flow = Dataflow()
    here = flow.input("x", SQUARE)
    for layer in range(count):
        weights = [flow.input(f"w{layer}_{n}", SQUARE, fixed=True) for n in range(width)]
        made = [flow.add(PRODUCT, [here, w], f"p{layer}_{n}") for n, w in enumerate(weights)]
        for n, term in enumerate(made):
            made[n] = flow.add(RELU, [term], f"r{layer}_{n}")
        here = made[0]
        for term in made[1:]:
            here = flow.add(SUM, [here, term], f"s{layer}")
        here = flow.add(RELU, [here], f"y{layer}")
    flow.give([here])
    return flow


def evaluate(flow: Dataflow, seed: int = 0):
    """The results of a graph for random inputs, as NumPy arrays."""
    import numpy as np

    rng = np.random.default_rng(seed)
    values = {number: rng.normal(size=(4, 4)) for number in flow.inputs.values()}
    for number, node, made in flow.statements():
        given = [values[operand] for operand in node.operands]
        if made.kind == "concat":
            values[number] = np.concatenate(given, made.axis)
        elif made.kind == "add":
            values[number] = given[0] @ given[-1]
        elif made in HALVES:
            start = 4 * HALVES.index(made)
            values[number] = given[0][:, start : start + 4]
        elif made is RELU:
            values[number] = np.maximum(given[0], 0.0)
        else:
            values[number] = 2 * given[0] if len(given) == 1 else given[0] + given[1]
    return [values[result] for result in flow.results]
