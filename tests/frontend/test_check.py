"""Inference of spaces and shapes, and the typing rules, seen in the checked program."""

import pytest

from hectorite.frontend.check.program import check_program
from hectorite.frontend.check.typed import CheckedCall, CheckedFunction, CheckedStatement
from hectorite.frontend.parsing.parse import parse_program
from hectorite.ir.diagnostics import Source

GRAPH = """\
set etype
set node
set edge { src: node, dst: node, type: etype }
set pin { v: node, h: etype }
"""


def check(text: str) -> CheckedFunction:
    """The last function of a program."""
    program = check_program(parse_program(Source("test.hec", text)))
    return list(program.functions.values())[-1]


def spaces(function: CheckedFunction) -> list[str]:
    """What the variables of each statement range over."""
    return [
        ", ".join(f"{name}: {dim}" for name, dim in item.variables)
        for item in function.statements
        if isinstance(item, CheckedStatement)
    ]


def type_of(function: CheckedFunction, tensor: str) -> str:
    spec = function.tensors[tensor]
    return f"{spec.element.name}[{', '.join(map(str, spec.dims))}]"


def element(expression: str, parameters: str = "") -> str:
    """The type of an undeclared local."""
    known = "x: f32[N], d: f64[N], h: f16[N], g: bf16[N], k: i32[N], l: i64[N], c: i8[N], u: u2[N]"
    text = f"def f({known}, o: i1[N], b: bool[N]{parameters}) -> f32[N] {{\n"
    text += f"  y[i: N] = {expression}\n  return x\n}}\n"
    return check(text).tensors["y"].element.name


class TestInference:
    def test_positions_fields_and_integers(self):
        function = check(
            GRAPH
            + "def f(x: f32[node, I], W: f32[etype, I, 64]) -> f32[node, 64] {\n"
            + "  y[e.dst, o] += x[e.src, i] * W[e.type, i, o]\n  return y\n}\n"
        )
        assert spaces(function) == ["e: edge, o: 64, i: I"]
        assert function.sizes == ("I",)

    def test_locals_take_shape_from_later_statements(self):
        function = check(
            GRAPH
            + "def f(x: f32[node]) -> f32[node] {\n  t[p, j] = 1.0\n  s[q, j] = t[q, j] * x[j]\n"
            + "  y[p.v] += s[p, j]\n  return y\n}\n"
        )
        assert spaces(function) == ["p: pin, j: node", "q: pin, j: node", "p: pin, j: node"]
        assert type_of(function, "t") == "f32[pin, node]"

    def test_variable_belongs_to_the_only_set_with_its_fields(self):
        function = check(
            GRAPH + "def f(x: f32[node]) -> f32[etype] {\n  y[p.h] += x[p.v]\n  return y\n}\n"
        )
        assert spaces(function) == ["p: pin"]

    def test_where_fields_lead_decides_between_sets(self):
        function = check(
            "set a\nset b\nset e { to: a }\nset g { to: b }\n"
            "def f(x: f32[b]) -> f32[N] {\n  y[i: N] += x[z.to]\n  return y\n}\n"
        )
        assert spaces(function) == ["i: N, z: g"]

    @pytest.mark.parametrize(
        "statement",
        [
            "y[e: edge.src] += 1.0",
            "y[(e: edge).src] += 1.0",
            "y[e.src] += 1.0 * (e: edge)",
        ],
    )
    def test_binder_anywhere(self, statement: str):
        head = GRAPH + "set link { src: node }\n"
        function = check(
            f"{head}def f(x: f32[node]) -> f32[node] {{\n  {statement}\n  return y\n}}\n"
        )
        assert spaces(function) == ["e: edge"]

    def test_affine_access_constrains_nothing(self):
        function = check(
            "def f(I: f32[H, W] pad 0, F: f32[R, 3]) -> f32[H, W] {\n"
            "  O[y, x] += I[y + r - 1, 2*x + s - size(R)] * F[r, s]\n  return O\n}\n"
        )
        assert spaces(function) == ["y: H, x: W, r: R, s: 3"]

    def test_fixed_size_and_its_value_are_one(self):
        function = check(
            "dim D = 64\ndef f(x: f32[D], z: f32[64]) -> f32[64] {\n  y[i] = x[i] + z[i]\n"
            "  return y\n}\n"
        )
        assert spaces(function) == ["i: D"]

    def test_index_variable_may_share_the_name_of_a_tensor(self):
        function = check("def f(k: f32[N]) -> f32[N] {\n  y[k] = k[k]\n  return y\n}\n")
        assert spaces(function) == ["k: N"]

    def test_call_puts_sizes_together(self):
        function = check(
            "def g(a: f32[n, m]) -> f32[m, p] {\n  y[i, j] += a[k, i] + (j: p)\n  return y\n}\n"
            "def f(x: f32[N, 8]) -> f32[Q] {\n  t = g(x)\n  u = g(a=t)\n  y[q] += u[i, q]\n"
            "  return y\n}\n"
        )
        calls = [item for item in function.statements if isinstance(item, CheckedCall)]
        assert [call.sizes for call in calls] == [
            {"n": "N", "m": 8, "p": "p"},
            {"n": 8, "m": "p", "p": "Q"},
        ]
        assert function.sizes == ("N", "Q", "p")
        assert type_of(function, "t") == "f32[8, p]"

    def test_pieces(self):
        function = check(
            "def f(a: f32[A], b: f32[B]) -> (f32[C], f32[6]) {\n"
            "  y[i] = a[i]\n  y[i + size(A)] = b[i]\n"
            "  z[2*i] = 1 * (i: 3)\n  z[2*i + 1] = 2 * (i: 3)\n  return y, z\n}\n"
        )
        assert spaces(function) == ["i: A", "i: B", "i: 3", "i: 3"]
        continues = [s.continues for s in function.statements if isinstance(s, CheckedStatement)]
        assert continues == [False, True, False, True]


class TestTypes:
    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("x[i] * 2", "f32"),
            ("h[i] * 2 + 0.5", "f16"),
            ("g[i] * g[i]", "bf16"),
            ("tf32(x[i]) * tf32(d[i])", "tf32"),
            ("f32(tf32(h[i])) * x[i]", "f32"),
            ("d[i] / size(N)", "f64"),
            ("c[i]", "i8"),
            ("c[i] + u[i]", "i32"),
            ("c[i] * k[i]", "i32"),
            ("o[i] * o[i]", "i32"),
            ("-c[i]", "i32"),
            ("max(c[i], c[i])", "i32"),
            ("where(b[i], c[i], c[i])", "i8"),
            ("where(b[i], c[i], 1)", "i8"),
            ("where(b[i], c[i], u[i])", "i32"),
            ("where(b[i], x[i], 0)", "f32"),
            ("l[i] + 3000000000", "i64"),
            ("k[i] / k[i]", "f32"),
            ("c[i] / 2", "f32"),
            ("l[i] / 2", "f64"),
            ("l[i] // 2", "i64"),
            ("k[i] ** 2", "i32"),
            ("x[i] ** 2", "f32"),
            ("x[i] > 0", "bool"),
            ("b[i] == true", "bool"),
            ("not b[i] or k[i] > i", "bool"),
            ("min(b[i], b[i])", "bool"),
            ("i", "i32"),
            ("i / 2", "f32"),
            ("i * 0.5", "f32"),
            ("size(N)", "i32"),
            ("sqrt(size(N))", "f32"),
            ("round(x[i])", "f32"),
            ("round(k[i])", "i32"),
            ("floor(2.5)", "f32"),
            ("f16(x[i])", "f16"),
            ("i8(x[i]) + i8(k[i])", "i32"),
            ("f64(i)", "f64"),
            ("quantize(x[i], 0.1, 3, i4)", "i4"),
            ("dequantize(c[i], 0.1, 3)", "f32"),
            ("dequantize(u[i], h[i], u[i])", "f16"),
            ("mean(c[i] by i)", "f32"),
            ("mean(h[i] by i)", "f16"),
            ("softmax(d[i] by i)", "f64"),
            ("inf", "f32"),
        ],
    )
    def test_local_has_the_type_of_its_first_expression(self, expression: str, expected: str):
        assert element(expression) == expected

    def test_weak_value_takes_the_declared_type(self):
        function = check(
            "def f(x: f64[N]) -> (f64[N], u8) {\n  y[i] = 1\n  s = 2\n  return y, s\n}\n"
        )
        assert type_of(function, "y") == "f64[N]" and type_of(function, "s") == "u8[]"
        values = [s.value.type.name for s in function.statements if isinstance(s, CheckedStatement)]
        assert values == ["f64", "i32"]

    @pytest.mark.parametrize(
        ("target", "expression"),
        [("f32", "h[i] * h[i]"), ("f16", "x[i]"), ("i8", "c[i] * c[i]"), ("i32", "u[i]")],
    )
    def test_stored_without_a_cast(self, target: str, expression: str):
        check(
            f"def f(x: f32[N], h: f16[N], c: i8[N], u: u2[N]) -> {target} {{\n"
            f"  y += {expression}\n  return y\n}}\n"
        )

    @pytest.mark.parametrize(
        ("operator", "expected"), [("+=", "i32"), ("=", "i8"), ("max=", "i8"), ("mean=", "i32")]
    )
    def test_what_a_statement_accumulates_in(self, operator: str, expected: str):
        function = check(f"def f(c: i8[N]) -> i8[N] {{\n  y[i] {operator} c[i]\n  return c\n}}\n")
        first = function.statements[0]
        assert isinstance(first, CheckedStatement) and first.value.type.name == expected

    def test_scalar_function_computes_its_argument_once(self):
        function = check(
            "fn sq(x) = x * x\nfn quad(x) = sq(sq(x))\n"
            "def f(x: f32[N]) -> f32[N] {\n  y[i] = quad(exp(x[i]))\n  return y\n}\n"
        )
        statement = function.statements[0]
        assert isinstance(statement, CheckedStatement)
        outer = statement.value
        assert outer.arguments[0] is outer.arguments[1]  # pyright: ignore


class TestWarnings:
    def warnings(self, text: str) -> list[str]:
        program = check_program(parse_program(Source("test.hec", text)))
        return [diagnostic.message for diagnostic in program.warnings]

    def test_repeated_term_in_a_scatter(self):
        text = GRAPH + "def f(x: f32[node], b: f32[node]) -> f32[node] {\n"
        text += "  y[e.dst] += x[e.src] - b[n]\n  return y\n}\n"
        assert self.warnings(text) == [
            "`x[e.src]` is added once for each `n`",
            "`b[n]` is added once for each `e`",
        ]

    def test_no_warning_where_every_term_is_reduced(self):
        text = GRAPH + "def f(x: f32[node, I]) -> f32[node] {\n"
        text += "  y[n] += x[n, i] * x[n, i] + 2 * x[n, i]\n  y[e.dst] += 1.0\n  return y\n}\n"
        assert self.warnings(text) == []
