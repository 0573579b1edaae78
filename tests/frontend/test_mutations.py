"""No text, however broken, ends in anything but a module or a `HectoriteError`."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hectorite.frontend.to_graph.program import load_source
from hectorite.ir.diagnostics import HectoriteError

EXAMPLES = [
    path.read_text() for path in sorted((Path(__file__).parents[2] / "examples").glob("*.hec"))
]
MORE = """\
set node
set edge { src: node, dst: node }
set two { a: node, b: node } = distinct(x.src, y.dst) for x: edge, y: edge where x.dst == y.src
dim D = 4
fn swish(x) = x * sigmoid(x)
def g(a: f32[n, D] pad 0, b: i8[n], c: f32) -> (f32[n, D], i32) {
  y[i, j] = where(b[i] > 2 and i % 2 == 0, swish(a[i - 1, j] * c), mean(a[i, j] by i))
  s += b[i] * b[i]
  return y, s
}
def f(x: f32[node, D], k: i8[node]) -> f32[node, D] {
  p, q = g(x, k, c=0.5)
  m[e.dst, j] mean= p[e.src, j]
  r[i, j] = quantize(m[i, j], 0.5, 0, i8) + i8(q)
  z[i, j] = softmax(m[i, j] / sqrt(size(D)) by j) ** 2
  z[t.a, j] max= z[t.b, j]
  return z
}
"""
# fmt: off
FRAGMENTS = [
    "[", "]", "(", ")", "{", "}", "=", "+=", "mean=", "max=", ":", ",", ".", "->", "def",
    "set", "dim", "fn", "return", "scan", "schedule", "by", "as", "on", "pad", "#", '"', ";",
    "softmax(", "mean(", "size(", "where(", "i8(", "0.5", "1e999", "99999999999999999999999",
    "-", "not", "**", "//", "%", "\x00", "�", "e.src", "e:", "edge", "i:", "4", "distinct(",
    "quantize(", "inf", "nan", "true", "bool", "u3", "f64", "tf32", "q4(block=8)",
]
# fmt: on


def accepted(text: str) -> bool:
    """Whether a text is a program; anything but a `HectoriteError` is a fault."""
    try:
        str(load_source(text + "\n"))
    except HectoriteError as error:
        assert any(diagnostic.severity == "error" for diagnostic in error.diagnostics)
        assert "error:" in str(error)
        return False
    return True


def mutate(text: str, source: random.Random) -> str:
    """The text with one small thing changed."""
    at = source.randrange(len(text) + 1)
    to = min(len(text), at + source.choice([1, 1, 2, 5, 20]))
    words = [match.span() for match in re.finditer(r"\w+|[^\w\s]+", text)]
    match source.randrange(6):
        case 0:
            return text[:at] + text[to:]
        case 1:
            return text[:at] + f" {source.choice(FRAGMENTS)} " + text[at:]
        case 2:
            return text[:at] + chr(source.choice([source.randrange(128), 0x3B1])) + text[to:]
        case 3 if words:
            (start, end), (other, last) = source.choice(words), source.choice(words)
            return text[:start] + text[other:last] + text[end:]
        case 4:
            lines = text.split("\n")
            source.shuffle(lines)
            return "\n".join(lines)
        case _:
            lines = text.split("\n")
            lines.insert(source.randrange(len(lines)), source.choice(lines))
            return "\n".join(lines)


def test_programs_are_accepted():
    assert all(map(accepted, [*EXAMPLES, MORE]))


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from([*EXAMPLES, MORE, MORE]), st.integers(1, 4), st.randoms(use_true_random=False)
)
def test_mutated_programs(text: str, times: int, source: random.Random):
    for _ in range(times):
        text = mutate(text, source)
    accepted(text)


@settings(max_examples=60)
@given(st.text(alphabet=st.characters(codec=None), max_size=60))
def test_garbage(text: str):
    accepted(text)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=20))
def test_words_in_any_order(words: list[str]):
    body = " ".join(words)
    accepted(body)
    accepted(f"def f(x: f32[N]) -> f32[N] {{\n  y[i] = {body}\n  return y\n}}")


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 5000 + "x[i]" + ")" * 5000,
        "relu(" * 5000 + "x[i]" + ")" * 5000,
        "x[" * 5000 + "i" + "]" * 5000,
        "-" * 5000 + "x[i]",
        "2 ** " * 5000 + "x[i]",
        "x[i] + " * 5000 + "x[i]",
        "x[i" + ".a" * 5000 + "]",
        "x[" + "i + " * 5000 + "i]",
        "f16(f32(" * 40 + "x[i]" + "))" * 40,
        "softmax(" * 40 + "x[i]" + " by i)" * 40,
        "(" * 90 + "x[i]" + ")" * 90,
    ],
    ids=lambda text: text[:8],
)
def test_deep_nesting(expression: str):
    accepted(f"def f(x: f32[N]) -> f32[N] {{\n  y[i] = {expression}\n  return y\n}}")


def test_deep_chains_of_functions():
    scalar = "fn g0(x) = x\n" + "".join(f"fn g{k}(x) = g{k - 1}(x) + 1\n" for k in range(1, 300))
    body = "def f(x: f32[N]) -> f32[N] {\n  y[i] = g299(x[i])\n  return y\n}"
    assert not accepted(scalar + body)
    tensor = "def g0(x: f32[N]) -> f32[N] {\n  return x\n}\n" + "".join(
        f"def g{k}(x: f32[N]) -> f32[N] {{\n  y = g{k - 1}(x)\n  return y\n}}\n"
        for k in range(1, 300)
    )
    assert not accepted(tensor)


@pytest.mark.parametrize("text", ["{" * 3000, "}" * 3000, "(" * 3000, '"' * 3000, "set " * 3000])
def test_repetition(text: str):
    assert not accepted(text)
