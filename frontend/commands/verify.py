"""`hectorite verify PROGRAM`: every level against the reference, as a table.

Enters: parsed arguments. Leaves: a row for each level and data set with error and bound; the status
is 1 if any is beyond its bound.
"""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from hectorite.frontend.compiled.gpu_targets import executed
from hectorite.frontend.console import note, table, working
from hectorite.frontend.levels.verify import Row, Verification, verify_program
from hectorite.frontend.program_text import read_program


def run(chosen: Namespace) -> int:
    """Verify one function."""
    text = read_program(chosen.program, dict(chosen.size))
    gpu = executed(chosen.target)
    with working(f"verifying {text.name}") as progress:
        report = verify_program(
            text,
            chosen.data,
            chosen.fn,
            dict(chosen.size),
            chosen.seed,
            progress,
            gpu,
            tuple(chosen.formats),
        )
    if chosen.json:
        print(json.dumps(_facts(report), indent=1))
    else:
        _print(report)
    return 0 if report.ok else 1


def _print(report: Verification) -> None:
    for line in report.notes:
        note(line)
    shown = list(_condensed(report.rows))
    rows = [
        [row.data, row.level, _number(row.error), _number(row.bound), _verdict(row)]
        for row in shown
    ]
    styles = ["" if row.ok else "red" for row in shown]
    table(["data", "level", "error", "bound", ""], rows, styles)
    print(report)


def _condensed(rows: Sequence[Row]) -> Iterator[Row]:
    """Rows with those of passes that agree put into one: the worst of them."""
    for (data, agree), run in groupby(rows, lambda row: (row.data, row.is_pass and row.ok)):
        several = list(run)
        if not agree or len(several) == 1:
            yield from several
            continue
        worst = max(several, key=lambda row: row.error)
        label = f"after each of {len(several)} passes"
        yield Row(data, label, worst.error, worst.bound, is_pass=True)


def _verdict(row: Row) -> str:
    if row.fault is not None:
        return f"FAILED: {row.fault}"
    return "ok" if row.ok else "FAILED"


def _number(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def _facts(report: Verification) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for row in report.rows:
        facts = asdict(row) | {"ok": row.ok}
        for key in ("error", "bound"):
            facts[key] = facts[key] if math.isfinite(facts[key]) else None
        rows.append(facts)
    return {"function": report.function, "ok": report.ok, "notes": report.notes, "rows": rows}
