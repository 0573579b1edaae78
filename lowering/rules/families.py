"""The rules, each a law between terms; what they mean is in `term.py`.

`...` are any other variables, so each covers products of matrices, of batches, by types, and
convolutions, dense and in groups, with any map and window in the accesses of what is not cut.
"""

from __future__ import annotations

from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.rules.binding import Binding
from hectorite.lowering.rules.term import (
    Concat,
    Condition,
    Law,
    Part,
    Pick,
    Stack,
    Tag,
    Total,
    View,
    Widen,
    Window,
    bundle,
    contract,
    function,
    tensor,
)


def fixed(*names: str) -> Condition:
    """All that the names stand for follows from weights alone."""

    def test(flow: Dataflow, binding: Binding) -> bool:
        return all(flow.nodes[node].fixed for name in names for node in binding.nodes(name))

    return Condition(f"{' and '.join(names)} fixed", test, names)


def varies(name: str) -> Condition:
    """Something that the name stands for differs between calls."""

    def test(flow: Dataflow, binding: Binding) -> bool:
        return not all(flow.nodes[node].fixed for node in binding.nodes(name))

    return Condition(f"{name} varies", test)


def some(name: str) -> Condition:
    """The name stands for something."""

    def test(flow: Dataflow, binding: Binding) -> bool:
        return bool(binding.nodes(name))

    return Condition(f"{name} is there", test)


def tags(*names: Tag) -> frozenset[Tag]:
    """Algebra that a rule needs."""
    return frozenset(names)


RING = tags("ring", "commutative", "reassoc_fp", "exact_int")

x, a, b, c = (bundle(name) for name in "xabc")
many_w, many_x = bundle("w", "... n", many=True), bundle("x", "... n", many=True)
each, piece = tensor("w", "...", many=True), tensor("w", "... n", many=True)
f = function("f")

LAWS = (
    Law(
        "merge-siblings",
        "merge",
        f("... n", x, many_w),
        Part(f("... n", x, Concat(many_w, "n")), "n"),
        "Statements that share an operand become one, over the others one after another: query, "
        "key and value products, gates, parallel convolutions and their biases.",
        where=(some("x"), fixed("w")),
    ),
    Law(
        "merge-rows",
        "merge-rows",
        f("... n", a, many_w),
        Part(f("... n", a, Concat(many_w, "n")), "n"),
        "Statements that share weights become one, over their inputs one after another: the input "
        "products of a recurrent network over all its steps.",
        where=(some("a"), fixed("a"), varies("w")),
    ),
    Law(
        "merge-stretches",
        "merge-stretches",
        f("... n", many_x),
        Part(f("... n", Concat(many_x, "n")), "n"),
        "One function of stretches of one tensor is that of the tensor: activations of gates.",
        where=(varies("x"),),
    ),
    Law(
        "stack-siblings",
        "stack",
        f("...", x, bundle("w", "...", many=True)),
        Pick(f("s ...", x, Stack(bundle("w", "...", many=True), "s")), "s"),
        "Statements of one shape that share an operand become one with a batch axis.",
        where=(some("x"), fixed("w")),
    ),
    Law(
        "stack-rows",
        "merge-rows",
        f("...", a, bundle("w", "...", many=True)),
        Pick(f("s ...", a, Stack(bundle("w", "...", many=True), "s")), "s"),
        "Statements that share weights become one with a batch axis: the input products of all "
        "steps of a recurrent network.",
        where=(some("a"), fixed("a"), varies("w")),
    ),
    Law(
        "stack-stretches",
        "stack",
        f("...", bundle("w", "...", many=True)),
        Pick(f("s ...", Stack(bundle("w", "...", many=True), "s")), "s"),
        "One function of equal stretches of tensors is done once, with a batch axis: heads of "
        "attention that are cut out one by one.",
        where=(varies("w"),),
    ),
    Law(
        "concat-sum",
        "concat-sum",
        Total(contract("...", bundle("x", "... k", many=True), bundle("w", "... k", many=True))),
        contract(
            "...",
            Concat(bundle("x", "... k", many=True), "k"),
            Concat(bundle("w", "... k", many=True), "k"),
        ),
        "A sum of products is one product over all their summed axes one after another.",
        RING,
    ),
    Law(
        "split-sum",
        "concat-sum",
        contract("...", tensor("w", "... k"), Concat(tensor("x", "... k", many=True), "k")),
        Total(contract("...", Part(tensor("w", "... k"), "k"), tensor("x", "... k", many=True))),
        "A product with tensors one after another along a summed axis is a sum of products.",
        RING,
        where=(fixed("w"), varies("x")),
    ),
    Law(
        "factor-sum",
        "distribute",
        Total(contract("...", x, each)),
        contract("...", x, Total(each)),
        "x A + x B = x (A + B).",
        RING,
        where=(some("x"),),
    ),
    Law(
        "distribute-sum",
        "distribute",
        contract("...", x, Total(each)),
        Total(contract("...", x, each)),
        "x (A + B) = x A + x B.",
        RING,
        where=(some("x"), varies("w")),
    ),
    Law(
        "associate-right",
        "associate",
        contract("...", contract("...", a, b), c),
        contract("...", a, contract("...", b, c)),
        "(A B) C = A (B C), the order of contractions; with B and C fixed, weights are folded, and "
        "so are scales and diagonals into weights.",
        RING,
        where=(some("a"), some("b"), some("c")),
    ),
    Law(
        "scale-weights",
        "scale",
        contract("...", contract("...", a, tensor("w")), c),
        contract("...", a, contract("...", tensor("w"), c)),
        "A fixed scale of a product with fixed weights scales the weights: batch normalisation.",
        RING,
        where=(some("a"), varies("a"), fixed("w", "c"), some("c")),
        inside=True,
    ),
    Law(
        "absorb-into-product",
        "absorb",
        contract("...", contract("...", a, b)),
        contract("...", a, b),
        "What scales a product, turns its axes or sums it is done by the product.",
        RING,
        where=(some("a"), some("b")),
    ),
    Law(
        "widen-window",
        "widen",
        contract("...", tensor("x"), tensor("w")),
        contract("...", Window(tensor("x")), Widen(tensor("w"))),
        "A product reads its operand in the window of another one, with zeros beside its weights, "
        "so that the two can be merged: convolutions 1 by 1 and 3 by 3.",
        RING | tags("annihilates_zero"),
        where=(fixed("w"), varies("x")),
    ),
    Law(
        "fold-factors",
        "fold",
        contract("...", x, tensor("a"), tensor("b")),
        contract("...", x, contract("...", tensor("a"), tensor("b"))),
        "Fixed factors of a product are multiplied beforehand.",
        RING,
        where=(some("x"), varies("x"), fixed("a", "b")),
    ),
    Law(
        "push-through-concat",
        "motion",
        f("... n", x, Concat(piece, "n")),
        Concat(f("... n", x, piece), "n"),
        "A function of tensors one after another is that of each, one after another.",
        where=(varies("w"),),
    ),
    Law(
        "pull-out-of-concat",
        "motion",
        Concat(f("... n", x, many_w), "n"),
        f("... n", x, Concat(many_w, "n")),
        "What one function makes of several tensors, one after another, is what it makes of them "
        "one after another.",
        where=(varies("w"),),
    ),
    Law(
        "read-through-view",
        "views",
        f("...", x, View(tensor("v"))),
        f("...", x, tensor("v")),
        "A view is not made but read through: transposes, slices, reshapes and gathers go into the "
        "access that reads them.",
        where=(varies("v"),),
    ),
)
"""All laws, in the order of documentation."""
