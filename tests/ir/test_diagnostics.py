"""How messages look, and that each fault is told once."""

import pytest

from hectorite.ir.diagnostics import (
    Diagnostic,
    HectoriteError,
    Report,
    Source,
    Span,
    did_you_mean,
    fail,
    render,
)

SOURCE = Source("a.hec", "set node\n\ty[e] = zz[e]\n" + "x" * 300 + "\nend\r\n")


def test_all_parts():
    span = Span(2, 9, 2, 11)
    text = render(Diagnostic("`zz` is unknown", span, SOURCE, "a tensor", "did you mean `z`?"))
    assert text == (
        "a.hec:2:9: error: `zz` is unknown\n"
        "  2 |  y[e] = zz[e]\n"
        "    |         ^^\n"
        "  expected: a tensor\n"
        "  hint: did you mean `z`?"
    )


def test_without_a_place():
    assert render(Diagnostic("no data", severity="warning")) == "warning: no data"
    assert render(Diagnostic("no data", source=SOURCE)) == "a.hec: error: no data"


def test_span_over_several_lines_and_past_the_end():
    over = render(Diagnostic("m", Span(1, 5, 2, 3), SOURCE)).splitlines()
    assert over[-1].endswith("|     ^^^^") and len(over) == 3
    assert render(Diagnostic("m", Span(4, 4, 4, 5), SOURCE)).splitlines()[1:] == [
        "  4 | end",
        "    |    ^",
    ]
    assert render(Diagnostic("m", Span(99, 1, 99, 2), SOURCE)) == "a.hec:99:1: error: m"


def test_long_line_is_cut_around_the_caret():
    _, line, caret = render(Diagnostic("m", Span(3, 200, 3, 203), SOURCE)).splitlines()
    assert line.startswith("  3 | ...xxx") and line.endswith("xxx...") and len(line) < 140
    assert caret.count("^") == 3 and len(caret) < 140


def test_what_cannot_be_printed_takes_one_column():
    source = Source("\x1b", "a\0\x1b[31m\ud800b")
    _, line, caret = render(Diagnostic("\x07", Span(1, 9, 1, 10), source)).splitlines()
    assert line == "  1 | a\ufffd\ufffd[31m\ufffdb"
    assert caret == "    |         ^"


def test_colour():
    text = render(Diagnostic("m", Span(1, 1, 1, 4), SOURCE, hint="h"), color=True)
    assert "\x1b[31;1merror:\x1b[0m" in text and "\x1b[31;1m^^^\x1b[0m" in text


def test_error_holds_its_diagnostics():
    with pytest.raises(HectoriteError, match="error: no data") as caught:
        raise fail("no data", hint="give some")
    assert caught.value.diagnostics[0].hint == "give some"
    assert str(HectoriteError([Diagnostic("a"), Diagnostic("b")])) == "error: a\nerror: b"


def test_report_sorts_and_tells_once():
    report = Report()
    report.add(Diagnostic("no place"))
    report.add(Diagnostic("late", Span(3, 1, 3, 2), SOURCE))
    report.add(Diagnostic("early", Span(1, 1, 1, 2), SOURCE, severity="warning"))
    report.add(Diagnostic("late again", Span(3, 1, 3, 2), SOURCE))
    report.add(Diagnostic("early", Span(1, 1, 1, 2), SOURCE, severity="warning"))
    assert [d.message for d in report.sorted()] == ["early", "late", "no place"]
    assert report.error_count == 2
    with pytest.raises(HectoriteError):
        report.raise_errors()


@pytest.mark.parametrize(
    ("word", "hint"),
    [("sorce", "did you mean `source`?"), ("SRC", "did you mean `src`?"), ("qqq", None)],
)
def test_did_you_mean(word: str, hint: str | None):
    assert did_you_mean(word, ["src", "source", "dst"]) == hint
