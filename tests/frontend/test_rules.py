"""Rewrite rules: every rule passes its check, every mutant fails, and wrong rules are refused."""

import json

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.dialects.pdl import PDL
from xdsl.parser import Parser

from hectorite.backends.reference.prime_field import PRIMES, FieldArithmetic
from hectorite.frontend.rules.api import (
    Concat,
    Law,
    Part,
    Total,
    apply,
    bundle,
    contract,
    fixed,
    function,
    register,
    tensor,
)
from hectorite.frontend.rules.check import MUTANTS, check_rule
from hectorite.frontend.rules.synthesis import synthesise
from hectorite.frontend.rules.values import field_values
from hectorite.frontend.rules.well_formed import check_form
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.element import ELEMENTS
from hectorite.ir.formula import Apply, Constant, Read
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Shape, form
from hectorite.lowering.rules.catalogue import law_of, rules
from hectorite.lowering.rules.matching import LawRule
from hectorite.lowering.rules.pdl import pdl_of
from hectorite.lowering.rules.scalar import ScalarLaw

ALL = [rule.name for rule in rules()]
RING = frozenset({"ring", "reassoc_fp"})
N = IndexExpr.of


@pytest.mark.parametrize("name", ALL)
def test_every_rule_passes_and_its_mutants_fail(name):
    report = check_rule(law_of(name))
    assert report.fault is None, report
    assert len(report.rejected) >= MUTANTS
    assert report.matched


@pytest.mark.parametrize("name", ALL)
def test_every_rule_is_a_pattern_that_xdsl_reads(name):
    context = Context()
    context.load_dialect(Builtin)
    context.load_dialect(PDL)
    Parser(context, pdl_of(law_of(name))).parse_module().verify()


def test_every_rule_says_what_it_does():
    assert all(rule.law.doc and rule.family for rule in rules())
    assert len(set(ALL)) == len(ALL) >= 20


# rules of users

X, W = tensor("x", "n c"), tensor("w", "q c", many=True)
GROUPED = tensor("x", "n q:g c")


def merged(x, name):
    return Law(
        name,
        "mine",
        Concat(contract("n q", x, W), "q"),
        contract("n q", x, Concat(W, "q")),
        "",
        RING,
    )


def test_a_rule_for_grouped_convolution_that_a_published_set_has_is_refused():
    with pytest.raises(HectoriteError, match="refused"):
        register(merged(GROUPED, "grouped"))
    assert "grouped" not in [rule.name for rule in rules()]


def test_the_same_rule_for_dense_convolution_is_admitted(monkeypatch):
    from hectorite.lowering.rules import catalogue

    monkeypatch.setattr(catalogue, "_RULES", dict(catalogue._RULES))
    assert register(merged(X, "dense")).ok
    assert "dense" in [rule.name for rule in rules()]


A, B, C = tensor("A", "m j"), tensor("B", "j k"), tensor("C", "k n")
F = function("f")
WRONG = [
    (contract("m n", A, contract("j n", B, C)), contract("m n", A, contract("n j", B, C), C)),
    (F("... n", bundle("x"), Concat(bundle("w", "... n", many=True), "n")),
     F("... n", bundle("x"), Concat(bundle("w", "... n", many=True), "n", "reversed"))),
    (Total(contract("m n", tensor("x", "m k", many=True), tensor("w", "k n", many=True))),
     contract("m n", Total(tensor("x", "m k", many=True)), Total(tensor("w", "k n", many=True)))),
    (Concat(F("... n", bundle("w", "... n", many=True)), "n"),
     F("... n", Concat(bundle("w", "... n", many=True), "n", "rotated"))),
]  # fmt: skip


@pytest.mark.parametrize("source, target", WRONG)
def test_wrong_rules_are_refused(source, target):
    with pytest.raises(HectoriteError, match="refused"):
        register(Law("wrong", "mine", source, target, "", RING))


LEFT, RIGHT = contract("m n", A, contract("j n", B, C)), contract("m n", contract("m k", A, B), C)


@pytest.mark.parametrize("algebra", [(), ("ring",), ("reassoc_fp",)])
def test_rules_that_round_differently_have_to_say_so(algebra):
    for law in (
        Law("order", "mine", LEFT, RIGHT, "", frozenset(algebra)),
        ScalarLaw("order", "mine", "y * s + b * s = (y + b) * s", "", frozenset(algebra)),
    ):
        report = check_rule(law)
        assert report.fault is not None and "reassoc_fp" in report.fault
    assert check_rule(Law("order", "mine", LEFT, RIGHT, "", RING)).ok


@pytest.mark.parametrize(
    "text, fixed",
    [("(y + b) * s = y * s + b", "bs"), ("y / s = y * s", "s"), ("y - b = b - y", "b")],
)
def test_wrong_laws_of_scalars_are_refused(text, fixed):
    with pytest.raises(HectoriteError, match="refused"):
        register(ScalarLaw("wrong", "mine", text, "", RING, frozenset(fixed)))


@pytest.mark.parametrize(
    "law, said",
    [
        (Law("Wrong Name", "mine", A, A), "no name"),
        (Law("tags", "mine", A, A, "", frozenset({"magic"})), "algebra tag"),
        (Law("missing", "mine", contract("m j", A), contract("m j", A, B)), "not on the left"),
        (Law("letters", "mine", contract("m j", A), contract("m", A)), "different letters"),
        (Law("one-many", "mine", X, Part(Concat(W, "q"), "q")), "not on the left"),
        (ScalarLaw("text", "mine", "y +"), "no law"),
        (ScalarLaw("text", "mine", "y = [y]"), "no law"),
    ],
)
def test_malformed_rules_are_faults(law, said):
    with pytest.raises(HectoriteError, match=said):
        register(law)


# matching


def put(flow, kind, left, over, dims, body, operands, element="f32"):
    made, slots, _ = form(kind, tuple(map(N, left)), over, Shape(dims, element), body)
    return flow.add(made, [operands[slot] for slot in slots])


def products(element="f32", reassociate=True, sizes=(3, 5, 4)):
    """Products of one matrix with several weights."""
    flow = Dataflow(reassociate=reassociate)
    x = flow.input("x", Shape((2, 6), element))
    body = Apply("mul", (Read(0, (N("m"), N("k"))), Read(1, (N("k"), N("n")))))
    made = []
    for number, size in enumerate(sizes):
        w = flow.input(f"w{number}", Shape((6, size), element), True)
        over = {"m": 2, "n": size, "k": 6}
        made.append(put(flow, "add", "mn", over, (2, size), body, (x, w), element))
    flow.give(made)
    return flow, x


def test_query_key_and_value_become_one_product():
    flow, x = products()
    (match,) = LawRule(law_of("merge-siblings")).matches(flow, x)
    assert len(match.nodes) == 3
    match.apply(flow)
    sums = [node for _, node, made in flow.statements() if made.kind == "add"]
    assert [node.shape.dims for node in sums] == [(2, 12)]


def test_the_order_of_weights_is_that_of_their_names():
    one, x = products()
    other = Dataflow()
    x2 = other.input("x", Shape((2, 6), "f32"))
    body = Apply("mul", (Read(0, (N("m"), N("k"))), Read(1, (N("k"), N("n")))))
    made = []
    for number, size in ((2, 4), (0, 3), (1, 5)):
        w = other.input(f"w{number}", Shape((6, size), "f32"), True)
        made.append(put(other, "add", "mn", {"m": 2, "n": size, "k": 6}, (2, size), body, (x2, w)))
    other.give(made)
    labels = []
    for flow, start in ((one, x), (other, x2)):
        (match,) = LawRule(law_of("merge-siblings")).matches(flow, start)
        match.apply(flow)
        labels.append(sorted(n.label for _, n, made in flow.statements() if made.kind == "concat"))
    assert labels[0] == labels[1]


def sum_of_products(element, reassociate):
    flow, _ = products(element, reassociate, (4, 4))
    reads = tuple(Read(slot, (N("m"), N("n"))) for slot in range(2))
    over = {"m": 2, "n": 4}
    made = put(flow, "assign", "mn", over, (2, 4), Apply("add", reads), flow.results, element)
    flow.give([made])
    return [m.rule for rule in rules() for m in rule.matches(flow, made)]


@pytest.mark.parametrize(
    "element, reassociate, found",
    [("f32", True, True), ("f32", False, False), ("i32", False, True), ("f16", True, False)],
)
def test_the_algebra_of_elements_decides(element, reassociate, found):
    assert ("factor-sum" in sum_of_products(element, reassociate)) == found


def test_a_constant_in_one_of_two_products_keeps_them_apart():
    flow = Dataflow()
    x = flow.input("x", Shape((2, 6), "f32"))
    reads = (Read(0, (N("m"), N("k"))), Read(1, (N("k"), N("n"))))
    made = []
    for number, more in enumerate(((), (Constant(2.0, "f32"),))):
        w = flow.input(f"w{number}", Shape((6, 4), "f32"), True)
        over = {"m": 2, "n": 4, "k": 6}
        made.append(put(flow, "add", "mn", over, (2, 4), Apply("mul", reads + more), (x, w)))
    terms = tuple(Read(slot, (N("m"), N("n"))) for slot in range(2))
    over = {"m": 2, "n": 4}
    flow.give([put(flow, "assign", "mn", over, (2, 4), Apply("add", terms), made)])
    assert not list(LawRule(law_of("factor-sum")).matches(flow, flow.results[0]))


# prime fields


@pytest.mark.parametrize("prime", PRIMES)
def test_the_field_has_its_laws(prime):
    arithmetic, f32 = FieldArithmetic(prime), ELEMENTS["f32"]
    a, b = np.random.default_rng(0).integers(1, prime, (2, 50))

    def of(name, *values):
        return arithmetic.apply(name, [(np.asarray(v),) for v in values], f32)[0]

    assert np.array_equal(of("mul", of("div", a, b), b), a)
    assert np.array_equal(of("add", of("sub", a, b), b), a)
    assert np.array_equal(of("max", a, b), of("max", b, a))
    assert np.array_equal(of("lt", a, b), ~of("ge", a, b))
    assert np.array_equal(of("relu", a), of("relu", a)) and of("relu", 0) == 0
    assert not np.array_equal(of("relu", a), of("tanh", a))
    tenth = arithmetic.constant(0.1, f32)[0]
    assert int(tenth) * 2**27 % prime == round(float(np.float32(0.1)) * 2**27) % prime


# synthesis and command line


def test_synthesis_finds_associativity():
    found = synthesise(["matmul", "transpose"], 2)
    assert [str(c.law.doc) for c in found.laws] == [
        "matmul(matmul(A, B), C) = matmul(A, matmul(B, C))."
    ]
    namespace = {"Law": Law, "tensor": tensor, "contract": contract}
    declared = found.laws[0].code.replace("Law(", "law = Law(", 1)
    exec(declared, namespace)
    assert str(namespace["law"]) == str(found.laws[0].law)


@pytest.mark.parametrize("words", [("--ops", "sort"), ("--max-ops", "9")])
def test_synthesis_that_cannot_be_is_a_fault(hectorite, words):
    status, _, said = hectorite("rules", "synth", *words)
    assert status == 1 and "error" in said


def test_rules_on_the_command_line(hectorite):
    status, printed, _ = hectorite("rules", "list")
    assert status == 0 and all(name in printed for name in ALL)
    assert hectorite("rules", "show", "merge-siblings")[1].count("mutant") >= MUTANTS
    assert "distribute-scale" in hectorite("rules", "show", "distribute-scale")[1]
    assert "pdl.pattern" in hectorite("rules", "pdl", "merge-siblings")[1]
    status, printed, _ = hectorite("rules", "check", "read-through-view", "--json")
    assert status == 0 and json.loads(printed)[0]["fault"] is None
    status, _, said = hectorite("rules", "show", "merge-sibling")
    assert status == 1 and "merge-siblings" in said


def fire(unit):
    """Convolutions of one image with windows of one, perhaps written as such, and of three."""
    flow = Dataflow()
    x = flow.input("x", Shape((2, 3, 8), "f32", pad=0.0))
    more = (1,) if unit else ()
    one = flow.input("w", Shape((4, 3, *more), "f32"), True)
    three = flow.input("u", Shape((5, 3, 3), "f32"), True)
    at = IndexExpr.make((*N("p").terms, *(N("r").terms if unit else ())))
    shifted = IndexExpr.make((*N("p").terms, *N("r").terms), -1)
    weights = (N("o"), N("c"), *((N("r"),) if unit else ()))
    narrow = Apply("mul", (Read(0, (N("n"), N("c"), at)), Read(1, weights)))
    wide = Apply("mul", (Read(0, (N("n"), N("c"), shifted)), Read(1, (N("o"), N("c"), N("r")))))
    over = {"n": 2, "o": 4, "p": 8, "c": 3}
    small = over | ({"r": 1} if unit else {})
    flow.give(
        [
            put(flow, "add", "nop", small, (2, 4, 8), narrow, (x, one)),
            put(flow, "add", "nop", over | {"o": 5, "r": 3}, (2, 5, 8), wide, (x, three)),
        ]
    )
    return flow, x


@pytest.mark.parametrize("unit", [False, True])
def test_a_small_convolution_is_widened_and_merged_with_a_large_one(unit):
    flow, x = fire(unit)
    before = field_values(flow, {}, 1, PRIMES[0])
    (match,) = LawRule(law_of("widen-window")).matches(flow, flow.results[0])
    match.apply(flow)
    (match,) = LawRule(law_of("merge-siblings")).matches(flow, x)
    match.apply(flow)
    sums = [node.shape.dims for _, node, made in flow.statements() if made.kind == "add"]
    assert sums == [(2, 9, 8)]
    assert all(map(np.array_equal, before, field_values(flow, {}, 1, PRIMES[0])))


def test_batch_normalisation_goes_into_the_weights():
    flow, _ = products(sizes=(4,))
    weights = [flow.input(name, Shape((4,), "f32"), True) for name in "abs"]
    y, a, b, s = (Read(0, (N("m"), N("n"))), *(Read(k, (N("n"),)) for k in (1, 2, 3)))
    moved = Apply("add", (Apply("mul", (Apply("sub", (y, a)), s)), b))
    over = {"m": 2, "n": 4}
    made = put(
        flow, "assign", "mn", over, (2, 4), Apply("relu", (moved,)), (*flow.results, *weights)
    )
    flow.give([made])
    before = field_values(flow, {}, 1, PRIMES[0])
    wanted = ("distribute-scale-shift", "scale-weights", "join-shifts")
    for name in wanted:
        rule = next(rule for rule in rules() if rule.name == name)
        (match,) = (m for number in flow.order() for m in rule.matches(flow, number))
        match.apply(flow)
    varying = [made for _, node, made in flow.statements() if not node.fixed]
    assert [str(made.body) for made in varying] == [
        "mul(#0[i0, i2], #1[i2, i1])", "relu(add(#0[i0, i1], #1[i1]))"
    ]  # fmt: skip
    assert all(map(np.array_equal, before, field_values(flow, {}, 1, PRIMES[0])))


def test_a_wrong_rule_is_refused_with_a_counterexample():
    wrong = ScalarLaw("drops-a-factor", "mine", "(y + b) * s = y * s + b", fixed=frozenset("bs"))
    told = r"for .*\[.*\]: element \[.*\] is \d+, not \d+, modulo"
    with pytest.raises(HectoriteError, match=told):
        register(wrong)
    left = contract("m n", tensor("A", "m k"), tensor("B", "k n"))
    turned = contract("m n", tensor("A", "n k"), tensor("B", "k m"))
    with pytest.raises(HectoriteError, match=r"\[\d+, \d+\], .*: "):
        register(Law("turned", "mine", left, turned, "Wrong.", frozenset({"ring", "reassoc_fp"})))
    with pytest.raises(HectoriteError, match="is no rule"):
        register("associate")


X = tensor("x", "m k")


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (Law("f", "mine", apply("frob", "m k", X), X), "there is no function `frob`"),
        (Law("f", "mine", apply("relu", "m k", X, X), X), "`relu` takes 1, and `f` gives it 2"),
        (Law("f", "mine", contract("m k"), contract("m k")), "without an operand"),
        (Law("f", "mine", contract("m k", X, "y"), X), "'y' is no term of `f`"),
        (Law("f", "mine", X, X), "`f` replaces a tensor"),
        (Law("f", "mine", contract("m k", X), X, where=(fixed("q"),)), "asks something of `q`"),
        (Law("f", "mine", contract("m k", X), X, where=("q",)), "'q' is no condition"),
        (ScalarLaw("f", "mine", "frob(x) = x"), "there is no function `frob`"),
        (ScalarLaw("f", "mine", "max(x) = x"), "`max` takes 2, and `f` gives it 1"),
        (ScalarLaw("f", "mine", "x + x = x + y"), "`y` stands on the right, but not on the left"),
        (ScalarLaw("f", "mine", None), "None is no law"),
    ],
)
def test_what_is_no_law_is_told(law, message):
    with pytest.raises(HectoriteError, match=message):
        register(law)


def test_laws_of_the_project_are_laws():
    for rule in rules():
        check_form(rule.law)
