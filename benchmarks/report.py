"""What a race says: rows for a program to read, tables for a person.

Enters: a case, its bound in seconds, the entries of its race. Leaves: a list of `Row` with the
fields of the JSON, and rich tables. `ratio` is the best public peer's median over ours, so above 1
we are faster; `ratio_expert` is the same against the fastest hand-written version.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.cases import Case, goal
from benchmarks.peers.table import OURS
from benchmarks.race import Entry


@dataclass
class Row:
    """One peer in one case.

    Seconds and MiB; `spread` is the interquartile range over the median, `error` the largest
    difference from the reference over its largest magnitude. A case without a bound has None.
    `undisturbed` of the `calls` had the cores to themselves.
    """

    suite: str
    case: str
    kind: str
    who: str
    median_s: float
    spread: float
    error: float
    bound_s: float | None
    peak_mb: float | None
    calls: int
    undisturbed: int

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class OurRow(Row):
    """Our row: also how we compare. None where nobody else ran."""

    ratio: float | None
    ratio_expert: float | None


@dataclass
class Skipped:
    """A peer that did not compete, and why."""

    who: str
    reason: str


def rows_of(
    case: Case, bound: float | None, entries: Sequence[Entry]
) -> tuple[list[Row], list[Skipped]]:
    """The rows of a case, fastest first, and who was left out."""
    timed = [entry for entry in entries if not entry.reason and entry.samples]
    skipped = [Skipped(entry.peer.name, entry.reason) for entry in entries if entry.reason]
    public = fastest(e for e in timed if not e.peer.expert and not e.peer.name.startswith(OURS))
    expert = fastest(e for e in timed if e.peer.expert)
    rows: list[Row] = []
    named = (case.suite, case.name, case.kind)
    for entry in sorted(timed, key=lambda e: e.median):
        facts = (entry.median, entry.spread, entry.error, bound, entry.peak_mb)
        facts += (len(entry.samples), entry.undisturbed)
        if entry.peer.name == OURS:
            ratios = (divided(public, entry.median), divided(expert, entry.median))
            rows.append(OurRow(*named, OURS, *facts, *ratios))
        else:
            rows.append(Row(*named, entry.peer.name, *facts))
    return rows, skipped


def fastest(entries) -> float | None:
    return min((entry.median for entry in entries), default=None)


def divided(theirs: float | None, ours: float) -> float | None:
    return None if theirs is None else theirs / ours


def show_case(console: Console, rows: list[Row], skipped: list[Skipped], experts: set[str]) -> None:
    """The table of one case, and the peers that were left out."""
    if not rows and not skipped:
        return
    title = f"{rows[0].suite}  {rows[0].case}" if rows else "nobody ran"
    if rows and rows[0].bound_s:
        title += f"   bound {milliseconds(rows[0].bound_s)} ms"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("who")
    for heading in ("median ms", "spread", "calls", "x bound", "peak MiB", "error", "we are"):
        table.add_column(heading, justify="right")
    ours = next((row for row in rows if isinstance(row, OurRow)), None)
    for row in rows:
        who = f"{row.who} (hand-written)" if row.who in experts else row.who
        style = "green" if row is ours else ""
        table.add_row(who, *cells(row, ours), style=style)
    console.print(table)
    for left_out in skipped:
        console.print(f"  [dim]skipped {left_out.who}: {left_out.reason}[/dim]", highlight=False)


def cells(row: Row, ours: OurRow | None) -> list[str]:
    against = "" if ours is None or row is ours else f"{row.median_s / ours.median_s:.2f}x"
    return [
        ("" if settled(row) else "~") + milliseconds(row.median_s),
        f"{row.spread:.0%}",
        f"{row.undisturbed}/{row.calls}",
        f"{row.median_s / row.bound_s:.1f}" if row.bound_s else "",
        "n/a" if row.peak_mb is None else f"{row.peak_mb:.1f}",
        f"{row.error:.0e}",
        against,
    ]


def settled(row: Row) -> bool:
    """Whether the median stands on calls that no other process disturbed."""
    return row.undisturbed >= min(3, row.calls)


def milliseconds(seconds: float) -> str:
    """Three significant digits, no exponent."""
    value = seconds * 1e3
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def show_summary(console: Console, rows: Sequence[Row]) -> None:
    """One line for each case: ours against the best, the bound and the leanest."""
    table = Table(title="hectorite against the best of each case", title_justify="left")
    table.add_column("case", no_wrap=True)
    headings = (
        "ours ms",
        "best public",
        "ratio",
        "ratio expert",
        "x bound",
        "peak MiB",
        "leanest",
        "unsettled",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for ours in rows:
        if not isinstance(ours, OurRow):
            continue
        same_case = [r for r in rows if (r.suite, r.case) == (ours.suite, ours.case)]
        ratios = (ours.ratio, ours.ratio_expert)
        peaks = [r.peak_mb for r in same_case if r is not ours and r.peak_mb is not None]
        table.add_row(
            f"{ours.suite} {ours.case}",
            milliseconds(ours.median_s),
            "-" if ours.ratio is None else milliseconds(ours.ratio * ours.median_s),
            *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
            f"{ours.median_s / ours.bound_s:.1f}" if ours.bound_s else "-",
            *(
                "-" if peak is None else f"{peak:.1f}"
                for peak in (ours.peak_mb, min(peaks, default=None))
            ),
            f"{sum(not settled(row) for row in same_case)} of {len(same_case)}",
        )
    if table.row_count:
        console.print(table)
        show_means(console, [row for row in rows if isinstance(row, OurRow)])


def show_means(console: Console, rows: Sequence[OurRow]) -> None:
    """One line for each kind: geometric means and least ratios, and what is wanted of them."""
    table = Table(title="ratios of each kind (wanted)", title_justify="left")
    table.add_column("kind", no_wrap=True)
    for heading in ("cases", "mean", "least", "least case", "expert mean", "expert least"):
        table.add_column(heading, justify="right")
    for kind in dict.fromkeys(row.kind for row in rows):
        same = [row for row in rows if row.kind == kind]
        public = [(row.ratio, row.case) for row in same if row.ratio is not None]
        expert = [row.ratio_expert for row in same if row.ratio_expert is not None]
        wanted = goal(kind)
        least, case = min(public, default=(None, ""))
        table.add_row(
            kind,
            str(len(same)),
            compared(mean([ratio for ratio, _ in public]), wanted.mean),
            compared(least, wanted.ratio),
            case,
            compared(mean(expert), None),
            compared(min(expert, default=None), wanted.ratio_expert),
        )
    console.print(table)


def mean(ratios: Sequence[float]) -> float | None:
    """The geometric mean."""
    return statistics.geometric_mean(ratios) if ratios else None


def compared(ratio: float | None, wanted: float | None) -> str:
    """A ratio and what is wanted of it, red where it is less."""
    if ratio is None:
        return "-"
    text = f"{ratio:.2f}" + ("" if wanted is None else f" ({wanted})")
    return f"[red]{text}[/red]" if wanted is not None and ratio < wanted else text
