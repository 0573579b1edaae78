"""The graph of statements: equal nodes are one, changes are local and can be taken back."""

import random
from dataclasses import replace

import pytest

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.formula import Apply, Constant, Read, nary
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Shape, concat, form

ROW, COLUMN, STEP = (IndexExpr.of(name) for name in "ijk")


def product(kind="add", names="ijk"):
    i, j, k = (IndexExpr.of(name) for name in names)
    body = Apply("mul", (Read(0, (i, k)), Read(1, (k, j))))
    extents = dict(zip(names, (4, 4, 4), strict=True))
    return form(kind, (i, j), extents, Shape((4, 4), "f32"), body)[0]


def relu():
    body = Apply("relu", (Read(0, (ROW, COLUMN)),))
    return form("assign", (ROW, COLUMN), {"i": 4, "j": 4}, Shape((4, 4), "f32"), body)[0]


def state(flow):
    users = {number: sorted(of) for number, of in flow.users.items()}
    return dict(flow.nodes), users, list(flow.results), flow.schema


@pytest.fixture
def flow():
    made = Dataflow()
    for name in "xyz":
        made.input(name, Shape((4, 4), "f32"), fixed=name != "x")
    return made


def test_names_of_variables_do_not_matter():
    assert product() is product(names="nqm")
    assert product() is not product("max")


def test_operands_are_numbered_as_they_appear():
    body = Apply("mul", (Read(5, (ROW, STEP)), Read(2, (STEP, COLUMN))))
    extents = {"i": 4, "j": 4, "k": 4}
    made, slots, names = form("add", (ROW, COLUMN), extents, Shape((4, 4), "f32"), body)
    assert made is product()
    assert (slots, names) == ((5, 2), ("i", "j", "k"))


def test_equal_statements_are_one_node(flow):
    first, again = flow.add(product(), [0, 1]), flow.add(product(), [0, 1])
    assert first == again
    assert flow.add(product(), [1, 0]) != first


def test_an_operand_has_one_slot(flow):
    square = flow.nodes[flow.add(product(), [0, 0])]
    assert square.operands == (0,)
    assert square.form is not None
    assert {read.slot for read in square.form.reads} == {0}


def test_fixed_is_what_depends_on_fixed_inputs_alone(flow):
    weights = flow.add(product(), [1, 2])
    assert flow.nodes[weights].fixed
    assert not flow.nodes[flow.add(product(), [0, weights])].fixed


def test_replacing_makes_users_equal(flow):
    one, other = flow.add(product(), [0, 1]), flow.add(product(), [0, 2])
    flow.give([flow.add(relu(), [one]), flow.add(relu(), [other])])
    flow.replace(other, one)
    assert flow.results[0] == flow.results[1]
    assert other not in flow.nodes
    assert len(flow.order()) == 5


def test_what_nothing_uses_is_gone(flow):
    hidden = flow.add(product(), [0, 1])
    top = flow.add(relu(), [hidden])
    flow.give([top])
    flow.replace(top, 0)
    assert sorted(flow.nodes) == [0, 1, 2]
    assert not flow.users[0]


def test_changes_are_taken_back_exactly(flow):
    rng = random.Random(3)
    nodes = [0, 1, 2]
    for _ in range(30):
        made = rng.choice((product(), relu()))
        nodes.append(flow.add(made, rng.choices(nodes, k=made.operands)))
    flow.give(nodes[-4:])
    for _ in range(60):
        before, mark = state(flow), flow.mark()
        for _ in range(rng.randint(1, 5)):
            old, new = rng.choices(flow.order(), k=2)
            if flow.nodes[old].form is not None and not flow.needs(new, old):
                flow.replace(old, flow.add(relu(), [new]))
        flow.take_back(mark)
        assert state(flow) == before


def test_copies_are_apart(flow):
    flow.give([flow.add(relu(), [flow.add(product(), [0, 1])])])
    before, other = state(flow), flow.copy()
    other.replace(other.results[0], 0)
    assert state(flow) == before


def test_labels_are_the_same_for_the_same_statements():
    def label():
        flow = Dataflow()
        a, b = flow.input("a", Shape((4, 4), "f32")), flow.input("b", Shape((4, 4), "f32"))
        return flow.nodes[flow.add(product(), [b, a])].label

    assert label() == label()


def test_concat_adds_extents():
    parts = [Shape((4, 2), "f32"), Shape((4, 3), "f32")]
    assert concat(parts, 1).shape == Shape((4, 5), "f32")
    assert concat(parts, 1) is not concat([replace(p, element="f64") for p in parts], 1)


def test_nested_sums_are_one():
    one, x = Constant(1.0, "f32"), Read(0, (ROW,))
    assert nary("add", [nary("add", [x, one]), x]) == Apply("add", (x, one, x))
    assert nary("add", [x]) == x


def test_an_operand_may_be_taken_twice(flow):
    double = flow.add(concat([Shape((4, 4), "f32")] * 2, 0), [0, 0])
    flow.give([double])
    assert flow.order()[-1] == double
    flow.replace(double, flow.add(concat([Shape((4, 4), "f32")] * 2, 0), [1, 1]))
    assert not flow.users[0]
