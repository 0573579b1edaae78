"""An explanation as one page that needs nothing else: no network, no script library.

Enters: an `Explanation`. Leaves: HTML. The statements before and after stand side by side, each
with a bar for its predicted cost; arcs at their left lead from what a statement reads to it. Below
come the steps, those of a losing chain in a bracket, what was refused, and what the storage formats
of sets would cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hectorite.frontend.explanation import Candidate, Explanation, RefusalRow, Row, StepRow
from hectorite.frontend.units import ratio, seconds

ROW = 26
"""Height of a row, in pixels; arcs are drawn to it."""
GUTTER = 70
"""Width of the arcs."""

_STYLE = f"""
:root {{ color-scheme: light dark; --line: #8885; --bar: #4a7fd4;
  --gain: #2e8b57; --loss: #c0503c }}
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; }}
h1 {{ font-size: 1.3rem; margin: 0 }} h2 {{ font-size: 1.05rem; margin: 1.5rem 0 .4rem }}
code, .text {{ font-family: ui-monospace, monospace; font-size: 12.5px }}
.sides {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(34rem, 1fr)); gap: 1.5rem }}
.side {{ overflow-x: auto }}
.graph {{ display: flex }}
.graph svg {{ flex: none }} .graph path {{ fill: none; stroke: var(--line); stroke-width: 1.2 }}
.graph path.on {{ stroke: var(--bar); stroke-width: 2.2 }}
.rows {{ flex: 1 }}
.row {{ height: {ROW}px; display: grid; grid-template-columns: 1fr 5.5rem 7rem 5rem; gap: .5rem;
  align-items: center; white-space: nowrap }}
.row .text {{ overflow: hidden; text-overflow: ellipsis }}
.row:hover {{ background: #8882 }} .row.fixed .text {{ opacity: .55 }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }}
.bar {{ height: 9px; background: var(--bar); border-radius: 2px; min-width: 0 }}
.why {{ opacity: .65; font-size: 12px }}
table {{ border-collapse: collapse }} td, th {{ padding: .15rem .7rem .15rem 0; text-align: left;
  vertical-align: top }} th {{ font-weight: 600; border-bottom: 1px solid var(--line) }}
tr.chain td:first-child {{ border-left: 3px solid var(--bar); padding-left: .5rem }}
.gain {{ color: var(--gain) }} .loss {{ color: var(--loss) }}
"""

_SCRIPT = """
for (const row of document.querySelectorAll('.row')) {
  const arcs = row.closest('.graph').querySelectorAll('path');
  const light = on => arcs.forEach(a => (a.dataset.from === row.dataset.at
    || a.dataset.to === row.dataset.at) && a.classList.toggle('on', on));
  row.addEventListener('mouseenter', () => light(true));
  row.addEventListener('mouseleave', () => light(false));
}
"""


def page(explanation: Explanation) -> str:
    """The whole page."""
    title = f"{explanation.function} in {explanation.program}"
    most = max((row.seconds for row in (*explanation.before, *explanation.after)), default=0.0)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(_summary(explanation))}</p>",
        *(f"<p class=why>{escape(note)}</p>" for note in explanation.notes),
        "<div class=sides>",
        _side("Before", explanation.before, explanation.predicted[0], most),
        _side("After", explanation.after, explanation.predicted[1], most),
        "</div>",
        _steps(explanation),
        _refused(explanation.refused),
        _formats(explanation.formats),
        f"<script>{_SCRIPT}</script></body></html>",
    ]
    return "\n".join(parts) + "\n"


def _summary(explanation: Explanation) -> str:
    before, after = explanation.predicted
    text = (
        f"{len(explanation.steps)} steps for {explanation.device}: predicted {seconds(before)} "
        f"before, {seconds(after)} after ({ratio(before, after)})"
    )
    if explanation.measured is not None:
        found = explanation.measured
        before, after = found.before, found.after
        text += f"; measured {seconds(before)} and {seconds(after)} ({ratio(before, after)})"
        text += f", {found.verdict}"
    return text + "."


def _side(title: str, rows: Sequence[Row], total: float, most: float) -> str:
    lines = "".join(_row(position, row, most) for position, row in enumerate(rows))
    return (
        f"<section class=side><h2>{title}: {len(rows)} statements, {seconds(total)}</h2>"
        f"<div class=graph>{_arcs(rows)}<div class=rows>{lines}</div></div></section>"
    )


def _row(position: int, row: Row, most: float) -> str:
    width = 100 * row.seconds / most if most else 0
    kind = "row fixed" if row.fixed else "row"
    why = row.why
    text = escape(row.text)
    return (
        f'<div class="{kind}" data-at="{position}" data-name="{escape(row.name)}">'
        f'<span class=text title="{text}">{text}</span>'
        f"<span class=number>{seconds(row.seconds) if row.seconds else ''}</span>"
        f'<span><div class=bar style="width:{width:.1f}%"></div></span>'
        f"<span class=why>{escape(why)}</span></div>"
    )


def _arcs(rows: Sequence[Row]) -> str:
    """A curve from each statement to those that read it, wider the further they are apart."""
    farthest = max((at - source for at, row in enumerate(rows) for source in row.reads), default=1)
    paths = list[str]()
    for at, row in enumerate(rows):
        for source in row.reads:
            start, end = ROW * source + ROW / 2, ROW * at + ROW / 2
            out = GUTTER - 10 - (GUTTER - 22) * (at - source) / farthest
            paths.append(
                f'<path data-from="{source}" data-to="{at}" '
                f'd="M{GUTTER - 4},{start} C{out:.0f},{start} {out:.0f},{end} {GUTTER - 4},{end}"/>'
            )
    return f'<svg width="{GUTTER}" height="{ROW * len(rows)}">{"".join(paths)}</svg>'


def _steps(explanation: Explanation) -> str:
    if not explanation.steps:
        return "<h2>Steps</h2><p>Nothing that is allowed makes it cheaper.</p>"
    head = "<tr><th>rule</th><th>where</th><th>how</th><th>before</th><th>after</th><th></th></tr>"
    lines = [
        _step(step, chain is not None) for chain, steps in explanation.chains() for step in steps
    ]
    return f"<h2>Steps</h2><table>{head}{''.join(lines)}</table>"


def _step(step: StepRow, in_chain: bool) -> str:
    kind = "gain" if step.after < step.before else "loss"
    cells = (
        f"<td title='{escape(step.family)}'><code>{escape(step.rule)}</code></td>"
        f"<td>{escape(', '.join(step.statements))}</td><td>{escape(step.detail)}</td>"
        f"<td class=number>{seconds(step.before)}</td><td class=number>{seconds(step.after)}</td>"
        f"<td class='number {kind}'>{ratio(step.before, step.after)}</td>"
    )
    return f"<tr{' class=chain' if in_chain else ''}>{cells}</tr>"


def _refused(rows: Sequence[RefusalRow]) -> str:
    if not rows:
        return ""
    head = "<tr><th>rule</th><th>where</th><th>how</th><th>would add</th><th>why not</th></tr>"
    lines = [
        f"<tr><td><code>{escape(row.rule)}</code></td><td>{escape(', '.join(row.statements))}</td>"
        f"<td>{escape(row.detail)}</td><td class=number>{seconds(row.loss) if row.loss else ''}"
        f"</td><td>{escape(row.why)}</td></tr>"
        for row in rows
    ]
    return f"<h2>Refused</h2><table>{head}{''.join(lines)}</table>"


def _formats(rows: Sequence[Candidate]) -> str:
    if not rows:
        return ""
    head = "<tr><th>set</th><th>format</th><th>predicted</th><th></th><th>on this data</th></tr>"
    lines = [
        f"<tr><td>{escape(row.set)}</td><td><code>{escape(row.format)}</code></td>"
        f"<td class=number>{'' if row.seconds is None else seconds(row.seconds)}</td>"
        f"<td>{'chosen' if row.chosen else ''}</td><td>{escape(row.note)}</td></tr>"
        for row in rows
    ]
    return f"<h2>Formats</h2><table>{head}{''.join(lines)}</table>"
