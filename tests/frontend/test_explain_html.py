"""The page of an explanation: complete, self-contained, and readable in a browser."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from hectorite.frontend.explain.page import page
from hectorite.frontend.explanation import Explanation, Measured, RefusalRow, Row, StepRow

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "google-chrome", "chrome")) if p), None)
VOID = {"meta", "path"}


@pytest.fixture
def explanation():
    before = [
        Row("zs", "zs[e, o] += h[e.src, i] * W[e.type, i, o]", 3e-3, "arithmetic"),
        Row("s", "s[e] = zs[e, 0] < 1", 1e-3, "memory", (0,)),
        Row("y", "y[e.dst, o] += s[e] * zs[e, o]", 2e-3, "gather", (0, 1)),
    ]
    after = [
        Row("zs_u", "zs_u[u, o] += h[u.src, i] * W[u.type, i, o]", 1e-3, "arithmetic"),
        Row("w", "w[t] += W[t, i, o]", 0.0, "", (), True),
        Row("y", "y[e.dst, o] += zs_u[e.u, o]", 2e-3, "gather", (0,)),
    ]
    steps = [
        StepRow("factor-through-map", "factor", "domain=(type, src)", ("zs",), 6e-3, 4e-3),
        StepRow("split", "sums", "a < b & c", ("s",), 4e-3, 4.1e-3, 0),
        StepRow("merge", "siblings", "", ("s", "y"), 4.1e-3, 3e-3, 0),
    ]
    refused = [RefusalRow("merge", "siblings", "x", ("y",), 1e-4, "dearer")]
    measured = Measured(7e-3, 4e-3, 1.5, True)
    return Explanation("p.hec", "f", "cpu", before, after, steps, refused, (6e-3, 3e-3), measured)


class Balance(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.text = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_everything_is_on_the_page(explanation):
    reader = Balance()
    reader.feed(page(explanation))
    assert reader.open == []
    shown = " ".join(reader.text)
    for row in (*explanation.before, *explanation.after):
        assert row.text in shown
    for step in explanation.steps:
        assert step.rule in shown and step.detail in shown
    assert "predicted 6 ms before, 3 ms after (2.00x)" in shown
    assert "measured 7 ms and 4 ms (1.75x), at least 1.50x with confidence: ships" in shown


def test_nothing_is_fetched(explanation):
    assert not re.search(r"(src|href)=|url\(|@import|https?:", page(explanation))


def test_chains_are_bracketed_and_markup_in_programs_is_text(explanation):
    html = page(explanation)
    assert html.count("<tr class=chain>") == 2
    assert "zs[e, 0] &lt; 1" in html and "a &lt; b &amp; c" in html


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_shows_it(explanation, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page(explanation))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=500"]
    done = subprocess.run([*command, "--dump-dom", file.as_uri()], capture_output=True, text=True)
    assert done.stdout.count('class="row"') == 5
    assert done.stdout.count('class="row fixed"') == 1
    assert "factor-through-map" in done.stdout
    assert "Uncaught" not in done.stderr
