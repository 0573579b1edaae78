"""Structural rewrites: what each offers, what it makes, and that nothing changes."""

from pathlib import Path

import numpy as np
import pytest
from xdsl.context import Context

from hectorite.backends.reference.interpreter import run_reference
from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.frontend.program_text import read_program
from hectorite.ir.extents import Extents
from hectorite.lowering.graph.expand_softmax import ExpandSoftmax
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.lower_dataflow import lower
from hectorite.lowering.graph.notation import function_lines
from hectorite.lowering.graph.specialize_sizes import specialize
from hectorite.lowering.structural import structural_rules

EXAMPLES = Path(__file__).parents[2] / "examples"
SETS = """set kind
set node { kind: kind }
set edge { src: node, dst: node, type: kind }
"""
SIZES = {"node": 40, "edge": 4000, "kind": 3}


def module_of(text, sizes=None):
    module = read_program(SETS + text + "\n").module.clone()
    specialize(module, sizes or {"I": 6, "O": 5})
    ExpandSoftmax().apply(Context(), module)
    return module


class Case:
    """One function as a graph, and the matches that there are."""

    def __init__(self, module, sizes=SIZES, reassociate=True):
        self.original, self.module = module, module.clone()
        self.func = next(op for op in self.module.ops if isinstance(op, FuncOp))
        self.flow = lift(self.func, schema_of(self.module), reassociate)
        self.rules = structural_rules(Extents(self.flow.schema, sizes), None)

    def matches(self, rule=None):
        return [
            match
            for number in self.flow.order()
            for r in self.rules
            if rule in (None, r.name)
            for match in r.matches(self.flow, number)
        ]

    def details(self, rule):
        return [match.detail for match in self.matches(rule)]

    def apply(self, rule, start):
        match = next(m for m in self.matches(rule) if m.detail.startswith(start))
        match.apply(self.flow)
        return self

    def lines(self):
        lower(self.flow, self.module, self.func.sym_name.data)
        self.module.verify()
        func = next(op for op in self.module.ops if isinstance(op, FuncOp))
        return [line.strip() for line in function_lines(func)]

    def agrees(self, elements=(5, 12, 3), seed=0):
        """Runs both on random data, in which some elements are reached by no map."""
        self.lines()
        sizes = dict(zip(("node", "edge", "kind"), elements, strict=True))
        rng = np.random.default_rng(seed)
        targets = {("edge", "src"): "node", ("edge", "dst"): "node"}
        targets |= {("edge", "type"): "kind", ("node", "kind"): "kind"}
        maps = {
            (owner, name): rng.integers(0, max(1, sizes[to]), sizes[owner]).astype(np.int32)
            for (owner, name), to in targets.items()
        }
        arguments = {}
        for name, argument in zip(self.func.names, self.func.body.block.args, strict=True):
            shape = [sizes.get(dim, dim) for dim in argument.type.dims]
            storage = argument.type.element_type.storage
            values = rng.integers(-9, 9, shape) if storage.kind in "iu" else rng.normal(size=shape)
            arguments[name] = values.astype(storage)
        name = self.func.sym_name.data
        known = {s: n for s, n in sizes.items() if s in schema_of(self.original).sets}
        expected = run_reference(self.original, name, known, maps, arguments)
        found = run_reference(self.module, name, known, maps, arguments)
        for one, other in zip(expected, found, strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-9)


TYPED = """def f(h: f32[node, I], W: f32[kind, I, O], c: f32[edge]) -> f32[node, O] {
  z[e, o] += h[e.src, i] * W[e.type, i, o]
  y[e.dst, o] += z[e, o] * c[e]
  return y
}"""


def test_a_statement_moves_to_the_distinct_tuples_it_depends_on():
    case = Case(module_of(TYPED))
    assert case.details("factor-through-map") == ["domain=(type, src) for e"]
    case.apply("factor-through-map", "domain=(type, src)").agrees()
    text = "\n".join(case.lines())
    assert "z_type_src[u, o] += h[u.src, i] * W[u.type, i, o]" in text
    assert "y[e.dst, o] += z_type_src[e.type_src, o] * c[e]" in text


def test_a_statement_moves_back_to_where_it_is_read():
    case = Case(module_of(TYPED))
    case.apply("factor-through-map", "domain=(type, src)")
    case.apply("expand-onto-source", "domain=edge through type_src").agrees()
    assert any("+= h[e.src, i] * W[e.type, i, o]" in line for line in case.lines())


def test_a_sum_over_edges_comes_after_a_product():
    case = Case(
        module_of(
            "def f(x: f32[node, I], w: f32[edge], W: f32[I, O]) -> f32[node, O] {\n"
            "  a[e.dst, i] += x[e.src, i] * w[e]\n"
            "  y[n, o] += a[n, i] * W[i, o]\n  return y\n}"
        )
    )
    case.apply("contract-first", "order=x W").agrees()
    assert "y_x_W_src[u, o] += x[u, i] * W[i, o]" in "\n".join(case.lines())


def test_paths_may_be_cut_short():
    case = Case(
        module_of(
            "def f(W: f32[kind, I, O], V: f32[kind, O]) -> f32[edge, I] {\n"
            "  y[e, i] += W[e.src.kind, i, o] * V[e.type, o]\n  return y\n}"
        )
    )
    found = case.details("factor-through-map")
    assert found == ["domain=(src.kind, type) for e", "domain=(src, type) for e"]
    case.apply("factor-through-map", found[1]).agrees()


def test_what_does_not_depend_on_an_element_is_computed_once():
    case = Case(
        module_of(
            "def f(w: f32[I], x: f32[edge]) -> f32[edge] {\n"
            "  s[e] += w[i] * w[i] + 0.5 * x[e]\n  y[e] = s[e]\n  return y\n}"
        )
    )
    case.apply("split-sum", "parts on").agrees()
    assert any("s_part1_once" in line for line in case.lines())


def test_factors_that_no_reduction_needs_come_after_it():
    case = Case(
        module_of(
            "def f(x: f32[node, I], y: f32[node, I], m: f32[kind]) -> f32[edge] {\n"
            "  s[e] += x[e.src, i] * y[e.dst, i] * m[e.type]\n  return s\n}"
        )
    )
    case.apply("contract-first", "order=x y").agrees()


def test_weights_are_contracted_first_across_statements():
    text = """def f(h: f32[node, I], W: f32[kind, I, O], a: f32[kind, O]) -> f32[edge] {
  z[e, o] += h[e.dst, i] * W[e.type, i, o]
  s[e] += z[e, o] * a[e.type, o]
  return s
}"""
    case = Case(module_of(text))
    case.apply("contract-first", "order=W a domain=type through z").agrees()
    assert "s_W_a_type[u, i] += W[u, i, o] * a[u, o]" in "\n".join(case.lines())


def test_sums_are_taken_within_groups_first():
    case = Case(module_of(TYPED))
    details = case.details("aggregate-first")
    assert "order=h c by (type, dst) through z" in details
    case.apply("aggregate-first", "order=h c by (type, dst)").agrees()
    assert "y_h_c[e.type_dst, i] += h[e.src, i] * c[e]" in "\n".join(case.lines())


def test_neighbours_are_summed_before_the_product():
    text = """def f(h: f32[node, I], W: f32[I, O]) -> f32[node, O] {
  y[e.dst, o] += h[e.src, i] * W[i, o]
  return y
}"""
    case = Case(module_of(text))
    case.apply("aggregate-first", "order=h by dst").agrees()
    text = "\n".join(case.lines())
    assert "y_h[e.dst, i] += h[e.src, i]" in text and "y[u, o] += y_h[u, i] * W[i, o]" in text


def test_a_mean_is_not_divided_where_there_is_nothing_to_divide():
    """Nodes that no edge leads to would get 0 / 0."""
    text = """def f(h: f32[node, I], W: f32[I, O], deg: f32[node]) -> f32[node, O] {
  y[e.dst, o] += h[e.src, i] * W[i, o] / deg[e.dst]
  return y
}"""
    case = Case(module_of(text))
    assert not [d for d in case.details("aggregate-first") if d.startswith("order=h by dst")]
    for match in range(len(case.matches())):
        again = Case(case.original)
        again.matches()[match].apply(again.flow)
        again.agrees()


def test_each_term_of_scores_has_its_own_domain():
    text = """def f(z: f32[node, O], a: f32[O], b: f32[O]) -> f32[edge] {
  s[e] += z[e.src, o] * a[o] - z[e.dst, o] * b[o]
  return s
}"""
    case = Case(module_of(text))
    case.apply("split-sum", "parts on src, dst").agrees()
    assert "s[e] = s_part1_src[e.src] + s_part2_dst[e.dst]" in "\n".join(case.lines())


def test_functions_are_computed_before_a_map_is_followed():
    text = """def f(x: f32[node], w: f32[edge]) -> f32[node] {
  y[e.dst] += exp(x[e.src]) * w[e]
  return y
}"""
    case = Case(module_of(text))
    case.apply("compute-apart", "apart=exp domain=src").agrees()
    assert "y_exp_src[u] = exp(x[u])" in "\n".join(case.lines())


def test_a_function_that_no_term_changes_is_computed_once_for_each_element():
    text = """def f(x: f32[edge], w: f32[edge, I]) -> f32[edge] {
  y[e] += exp(x[e]) / (1.0 + w[e, i] * w[e, i])
  return y
}"""
    Case(module_of(text)).apply("compute-apart", "apart=exp").agrees()


def test_floats_stay_in_their_order_unless_allowed():
    assert not [
        match
        for match in Case(module_of(TYPED), reassociate=False).matches()
        if match.family != "domain"
    ]


def test_quotients_of_integers_are_not_taken_apart():
    text = """def f(x: i32[edge, I], c: i32[edge]) -> i32[edge] {
  s[e] += x[e, i] // c[e]
  return s
}"""
    assert not Case(module_of(text)).matches("contract-first")


def test_integers_are_exact_in_any_order():
    text = TYPED.replace("f32", "i32")
    case = Case(module_of(text), reassociate=False)
    case.apply("aggregate-first", "order=h c by").agrees()


def test_an_access_that_could_leave_its_tensor_stays():
    text = """def f(x: f32[I, O], w: f32[node, O]) -> f32[edge] {
  y[e] += w[e.src, o] * x[2 * e.src.kind, o]
  return y
}"""
    case = Case(module_of(text))
    assert case.details("factor-through-map") == []


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["rgat", "hgt", "rgcn", "gat", "gcn"])
def test_walks_over_examples_change_no_result(name, seed):
    module = read_program(EXAMPLES / f"{name}.hec").module.clone()
    specialize(module, {"I": 4, "O": 3})
    ExpandSoftmax().apply(Context(), module)
    rng = np.random.default_rng(seed)
    case = Case(module, {"node": 50, "edge": 3000, "kind": 3, "etype": 3, "ntype": 2})
    for _ in range(6):
        found = case.matches()
        if found:
            found[int(rng.integers(len(found)))].apply(case.flow)
    lower(case.flow, case.module, case.func.sym_name.data)
    case.module.verify()
    _agree(module, case.module, name, seed)


def _agree(one, other, name, seed):
    rng = np.random.default_rng(seed)
    sizes = {"node": 7, "edge": 30, "etype": 3, "ntype": 2}
    schema = schema_of(one)
    given = [d for d in schema.sets.values() if d.derivation is None]
    maps = {
        (d.name, field): rng.integers(0, sizes[to], sizes[d.name]).astype(np.int32)
        for d in given
        for field, to in d.fields
    }
    func = next(op for op in one.ops if isinstance(op, FuncOp))
    arguments = {
        n: rng.normal(size=[sizes.get(d, d) for d in a.type.dims])
        for n, a in zip(func.names, func.body.block.args, strict=True)
    }
    known = {d.name: sizes[d.name] for d in given}
    known |= {n: v for n, v in schema.sizes.items() if v is not None}
    expected = run_reference(one, name, known, maps, arguments)
    found = run_reference(other, name, known, maps, arguments)
    for left, right in zip(expected, found, strict=True):
        np.testing.assert_allclose(right, left, rtol=1e-8, atol=1e-9)
