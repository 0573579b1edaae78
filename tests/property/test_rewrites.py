"""A random walk of legal rewrites over random graphs of statements never changes the result."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectorite.backends.reference.prime_field import PRIMES
from hectorite.frontend.rules.values import field_values, float_values, same_within_rounding
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.extents import Extents
from hectorite.ir.formula import Apply, Constant, Read, nary
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema, SetDecl
from hectorite.ir.statement_form import Shape, concat, form, softmax
from hectorite.lowering.graph.superoptimise import all_rules
from hectorite.lowering.rules.catalogue import rules

SIZES = {"node": 3, "edge": 4}
SCHEMA = Schema(
    {"node": SetDecl("node"), "edge": SetDecl("edge", (("src", "node"), ("dst", "node")))}
)
EXTENTS = (1, 2, 3, 4)
STEPS = 8


def index(name, *fields):
    return IndexExpr.of(name, *fields)


class Growing:
    """A graph of matrices that grows by one statement at a time."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.flow = Dataflow(SCHEMA)
        self.matrices = [self.input((self.random.choice(EXTENTS), 2), False) for _ in range(2)]

    def input(self, dims, fixed):
        return self.flow.input(f"t{len(self.flow.inputs)}", Shape(dims, "f32"), fixed)

    def dims(self, node):
        return self.flow.nodes[node].shape.dims

    def put(self, kind, left, over, dims, body, operands):
        made, slots, _ = form(kind, left, over, Shape(dims, "f32"), body)
        return self.flow.add(made, [operands[slot] for slot in slots])

    def whole(self, dims, body, *operands):
        left = (index("i"), index("j"))
        return self.put("assign", left, dict(zip("ij", dims, strict=True)), dims, body, operands)

    def grow(self):
        x = self.random.choice(self.matrices)
        grown = getattr(self, self.random.choice(GROWTHS))(x)
        if grown is not None:
            self.matrices.append(grown)

    def product(self, x):
        inner, columns = self.dims(x)[1], self.random.choice(EXTENTS)
        known = [m for m in self.matrices if self.dims(m)[0] == inner]
        fixed = self.random.random() < 0.7 or not known
        w = self.input((inner, columns), True) if fixed else self.random.choice(known)
        dims = (self.dims(x)[0], self.dims(w)[1])
        reads = [Read(0, (index("i"), index("k"))), Read(1, (index("k"), index("j")))]
        if self.random.random() < 0.3:
            reads.reverse()
        if self.random.random() < 0.2:
            reads.append(Constant(0.5, "f32"))
        over = {"i": dims[0], "j": dims[1], "k": inner}
        return self.put(
            "add", (index("i"), index("j")), over, dims, Apply("mul", tuple(reads)), (x, w)
        )

    def total(self, x):
        same = [m for m in self.matrices if self.dims(m) == self.dims(x)]
        terms = [x, *self.random.choices(same, k=self.random.randrange(1, 3))]
        reads = [Read(slot, (index("i"), index("j"))) for slot in range(len(terms))]
        body = nary("add", reads)
        return self.whole(self.dims(x), body, *terms)

    def function(self, x):
        read = Read(0, (index("i"), index("j")))
        body = Apply(self.random.choice(("relu", "tanh", "neg")), (read,))
        return self.whole(self.dims(x), body, x)

    def bias(self, x):
        reads = (Read(0, (index("i"), index("j"))), Read(1, (index("j"),)))
        body = Apply(self.random.choice(("add", "mul", "sub")), reads)
        return self.whole(self.dims(x), body, x, self.input((self.dims(x)[1],), True))

    def scale(self, x):
        reads = [Read(0, (index("i"), index("j"))), *(Read(n, (index("j"),)) for n in (1, 2))]
        moved = Apply(self.random.choice(("add", "sub")), tuple(reads[:2]))
        body = Apply(self.random.choice(("mul", "div")), (moved, reads[2]))
        if self.random.random() < 0.5:
            body = Apply("relu", (body,))
        columns = self.dims(x)[1]
        weights = [self.input((columns,), True) for _ in range(2)]
        return self.whole(self.dims(x), body, x, *weights)

    def stretch(self, x):
        rows, columns = self.dims(x)
        if not isinstance(columns, int) or columns < 2:
            return None
        start = self.random.randrange(columns)
        length = self.random.randrange(1, columns - start + 1)
        moved = IndexExpr(index("j").terms, start)
        return self.whole((rows, length), Read(0, (index("i"), moved)), x)

    def joined(self, x):
        same = [m for m in self.matrices if self.dims(m)[0] == self.dims(x)[0] and m != x]
        if not same or not isinstance(self.dims(x)[1], int):
            return None
        parts = [x, self.random.choice(same)]
        return self.flow.add(concat([self.flow.nodes[p].shape for p in parts], 1), parts)

    def turned(self, x):
        if not isinstance(self.dims(x)[0], int):
            return None
        return self.whole(self.dims(x)[::-1], Read(0, (index("j"), index("i"))), x)

    def messages(self, x):
        nodes = self.input(("node", self.dims(x)[1]), False)
        scale = self.input(("edge",), False)
        body = Apply("mul", (Read(0, (index("e", "src"), index("j"))), Read(1, (index("e"),))))
        left, dims = (index("e", "dst"), index("j")), ("node", self.dims(x)[1])
        return self.put("add", left, {"e": "edge", "j": dims[1]}, dims, body, (nodes, scale))

    def weighed(self, x):
        made = softmax(self.flow.nodes[x].shape, (index("i"),), ("i", "j"))
        return self.flow.add(made, [x])


GROWTHS = (
    *("product",) * 6,
    *("total", "function", "bias", "scale", "stretch") * 2,
    *("joined", "turned", "messages", "weighed"),
)


def grown(seed, count):
    growing = Growing(seed)
    for _ in range(count):
        growing.grow()
    used = {o for n in growing.flow.nodes.values() for o in n.operands}
    growing.flow.give([m for m in growing.matrices if m not in used][-4:])
    return growing.flow


def walk(flow, seed):
    """Take steps that are drawn; the names of the rules that were applied."""
    drawn, taken = random.Random(seed), []
    every = all_rules(Extents(flow.schema, SIZES))
    for _ in range(STEPS):
        found = [m for n in flow.order() for rule in every for m in rule.matches(flow, n)]
        if not found:
            break
        by_rule = sorted({match.rule for match in found})
        rule = drawn.choice(by_rule)
        match = drawn.choice([m for m in found if m.rule == rule])
        if match.apply(flow):
            taken.append(match.rule)
    return taken


def values(flow, seed):
    return [field_values(flow, SIZES, seed, prime) for prime in PRIMES]


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_a_walk_of_rewrites_keeps_every_result(seed):
    flow = grown(seed, 14)
    before, floats = values(flow, seed), float_values(flow, SIZES, seed)[0]
    taken = walk(flow, seed)
    for old, new in zip(before, values(flow, seed), strict=True):
        assert all(map(np.array_equal, old, new)), taken
    found, own = float_values(flow, SIZES, seed)
    assert same_within_rounding(floats, found, own), taken


@pytest.mark.parametrize("seed", range(3))
def test_rewrites_are_the_same_in_every_run(seed):
    one, other = grown(seed, 14), grown(seed, 14)
    assert walk(one, seed) == walk(other, seed)
    assert [one.nodes[r].label for r in one.results] == [
        other.nodes[r].label for r in other.results
    ]


def test_a_step_can_be_taken_back():
    flow = grown(5, 14)
    before = values(flow, 5)
    for number in flow.order():
        for rule in rules():
            for match in list(rule.matches(flow, number)):
                mark = flow.mark()
                match.apply(flow)
                flow.take_back(mark)
    for old, new in zip(before, values(flow, 5), strict=True):
        assert all(map(np.array_equal, old, new))
