"""`ir.ptx.origin`: comments that tell the statement of each line."""

import pytest

from hectorite.ir.ptx.origin import Origin, origin_comment, statement_of

UPDATE = Origin("y[e.dst] += x[e.src]", "spread.hec", 5)
PLAIN = Origin("z[v] = 2")

TEXT = f""".entry k() {{
  mov.u32 %r1, 0;
  {origin_comment(UPDATE)}
  add.u32 %r1, %r1, 1;
  // a comment of somebody else
  add.u32 %r1, %r1, 2;
  {origin_comment(PLAIN)}
  add.u32 %r1, %r1, 3;
  {origin_comment(None)}
  ret;
}}
.entry l() {{
  ret;
}}
"""


@pytest.mark.parametrize(
    ("line", "origin"),
    [(2, None), (3, UPDATE), (4, UPDATE), (6, UPDATE), (8, PLAIN), (10, None), (13, None)],
)
def test_a_comment_holds_until_the_next_or_the_end(line, origin):
    assert statement_of(TEXT, line) == origin


def test_comments():
    assert origin_comment(UPDATE) == "// at spread.hec:5: y[e.dst] += x[e.src]"
    assert origin_comment(Origin("a\n  + b")) == "// at a + b"
    assert origin_comment(None) == "// at -"
    assert origin_comment(Origin("\N{GREEK SMALL LETTER BETA}[v] = 1")) == r"// at \u03b2[v] = 1"
