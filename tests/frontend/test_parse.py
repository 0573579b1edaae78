"""The grammar: everything of the language parses, and into the right tree."""

import pytest

from hectorite.frontend.parsing import syntax
from hectorite.frontend.parsing.parse import parse_program
from hectorite.ir.diagnostics import HectoriteError, Source, Span

EVERYTHING = """\
# every construct of the language
import "other.hec"
set node { type: ntype } as coo
set edge {
  src: node, dst: node   # two on a line
  type: etype
} as csr(dst).by(type)
set c { row: row, col: col } = distinct(x.row, y.col) for x: a, y: b where x.col == y.row
set block { src: node } as sgt(dst, src, 16, 8)
dim K; dim D = 64
fn swish(x) = x * sigmoid(x)
def f(
    h: f32[node, I] as nm(2, 4) on host pad -inf,
    W: q4(block=32)[etype, 64, O], eps: f32,
) -> (f32[node, O] pad 0, f32) {
  y[n, o] += h[n, i] * W0[i, o]; s max= x[i]
  y[(e: edge).dst, o] min= h[e: edge.src, 2*y + r - 1, (y + r) // 2, i % size(K)]
  a[e, c] = softmax(leaky_relu(s[e, c], 0.2) by e.dst, c) + mean(x[e] by)
  m[e.dst] mean= where(not a[e] and b[e] or c[e] >= -2 ** -x ** 2, .5e-3, true)
  p, q = g(x, y=z)
  scan t: T { h[t + 1, b, d] = h[t, b, d] }
  d[i] = dfp16(block=16)(x[i])
  return y, s
}
schedule { y: tile(n = 64, o = 64, i = 32) pipeline(3) work(split), s: work(row) }
"""


def parse(text: str) -> syntax.Program:
    return parse_program(Source("test.hec", text))


def expression(text: str) -> syntax.Expr:
    program = parse(f"fn f(x) = {text}\n")
    function = program.declarations[0]
    assert isinstance(function, syntax.ScalarFunction)
    return function.body


def outline(node: syntax.Expr) -> str:
    """An expression with every operator in brackets."""
    match node:
        case syntax.Binary():
            return f"({outline(node.left)} {node.operator} {outline(node.right)})"
        case syntax.Unary():
            return f"({node.operator} {outline(node.operand)})"
        case syntax.NameRef():
            return node.name
        case syntax.Literal():
            return repr(node.value)
        case syntax.Path():
            return f"{outline(node.base)}.{node.field.text}"
        case syntax.Binder():
            return f"<{node.name.text}: {node.extent.value}>"
        case syntax.Access():
            return f"{node.tensor.text}[{', '.join(map(outline, node.indices))}]"
        case syntax.Call():
            return f"{node.callee.text}({', '.join(map(outline, node.arguments))})"
        case _:
            return type(node).__name__


def test_everything_parses():
    kinds = [type(node).__name__ for node in parse(EVERYTHING).declarations]
    assert kinds == (
        ["ImportDecl"]
        + ["SetDeclaration"] * 4
        + ["DimDecl"] * 2
        + ["ScalarFunction", "Function", "Schedule"]
    )


def test_function_parts():
    function = next(n for n in parse(EVERYTHING).declarations if isinstance(n, syntax.Function))
    h, w, eps = function.parameters
    assert [extent.value for extent in h.type.extents] == ["node", "I"]
    assert h.type.format is not None and h.type.place is not None and h.type.pad is not None
    assert h.type.pad.value == float("-inf")
    assert w.type.element.arguments[0].name is not None and w.type.extents[1].value == 64
    assert eps.type.extents == ()
    assert len(function.results) == 2
    operators = [node.operator for node in function.body if isinstance(node, syntax.Assign)]
    assert operators == ["+=", "max=", "min=", "=", "mean=", "=", "="]
    assert [type(node).__name__ for node in function.body[-3:]] == ["Scan", "Assign", "Return"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("-a ** 2", "(- (a ** 2))"),
        ("2 ** -a", "(2 ** (- a))"),
        ("a ** b ** c", "(a ** (b ** c))"),
        ("a // b % c / d", "(((a // b) % c) / d)"),
        ("not a == b and c or d", "(((not (a == b)) and c) or d)"),
        ("a < b + 1", "(a < (b + 1))"),
        ("x[e.src.type, 2*y + r]", "x[e.src.type, ((2 * y) + r)]"),
        ("x[e: edge.src, i: 64]", "x[<e: edge>.src, <i: 64>]"),
        ("(e: edge).in", "<e: edge>.in"),
        ("1e-3 + .5 + 2. + 7", "(((0.001 + 0.5) + 2.0) + 7)"),
        ("where(true, inf, -nan)", "where(True, inf, (- nan))"),
        ("max(a, (b))", "max(a, b)"),
    ],
)
def test_precedence(text: str, expected: str):
    assert outline(expression(text)) == expected


@pytest.mark.parametrize(
    "word", ["in", "type", "set", "def", "by", "as", "on", "pad", "where", "not", "inf", "return"]
)
def test_fields_may_be_any_word(word: str):
    program = parse(
        f"set e {{ {word}: n }}\ndef f(x: f32[n]) -> f32[n] {{\n y[z.{word}] += 1\n}}\n"
    )
    declaration = program.declarations[0]
    assert isinstance(declaration, syntax.SetDeclaration)
    assert declaration.fields[0].name.text == word


def test_spans_are_exact():
    text = "def f(x: f32[N]) -> f32[N] {\n  y[i] = (x[i] +\n    1) * 2\n  return y\n}\n"
    function = parse(text).declarations[0]
    assert isinstance(function, syntax.Function)
    statement = function.body[0]
    assert isinstance(statement, syntax.Assign)
    assert statement.span == Span(2, 3, 3, 11)
    assert statement.value.span == Span(2, 10, 3, 11)
    assert isinstance(statement.value, syntax.Binary) and statement.value.at == Span(3, 8, 3, 9)


@pytest.mark.parametrize(
    "body",
    [
        "y[i] = x[i] +\n  2\nreturn y",
        "y[\n  i] = (x[i]\n  + 2)\nreturn y",
        "y[i] = x[i] + # why\n\n  # because\n  2\nreturn y",
        "y[i] = x[i] + 2; return y",
        "\n\n# nothing\n  y[i] = x[i] + 2\r\n\n return y\n\n",
    ],
)
def test_line_ends(body: str):
    program = parse(f"def f(x: f32[N]) -> f32[N]\n{{\n{body}\n}}")
    function = program.declarations[0]
    assert isinstance(function, syntax.Function) and len(function.body) == 2


@pytest.mark.parametrize("text", ["", "\n", "# only this", ";;\n", " \t\r\n"])
def test_nothing_is_a_program(text: str):
    assert parse(text).declarations == ()


def test_twenty_errors_and_no_more():
    lines = "\n".join(f"  y{k}[i] = = x[i]" for k in range(100))
    with pytest.raises(HectoriteError) as caught:
        parse(f"def f(x: f32[N]) -> f32[N] {{\n{lines}\n  return y\n}}\n")
    assert len(caught.value.diagnostics) == 20
