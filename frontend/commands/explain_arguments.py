"""The arguments of `hectorite explain`."""

from __future__ import annotations

import argparse

from hectorite.frontend.commands.rewrites_arguments import add_choices, add_formats


def add_arguments(parser: argparse.ArgumentParser, data: str) -> None:
    """Add them; `data` says what a data file is."""
    parser.add_argument("--data", metavar="DATA", help=data)
    parser.add_argument("--seed", type=int, default=0, help="draws the tensors that data lacks")
    parser.add_argument("--device", default="cpu", help="whose costs: cpu (default), h200, a100")
    add_formats(parser)
    add_choices(parser)
    parser.add_argument(
        "--fixed",
        metavar="NAME",
        action="append",
        default=[],
        help="an argument that is the same in every call; what follows from it is computed once",
    )
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="all searches and all rules, as the pass `superoptimise`",
    )
    parser.add_argument("--measure", action="store_true", help="time it here, before and after")
    parser.add_argument("--replay", metavar="FILE.json", help="take the steps that --json wrote")
    parser.add_argument(
        "--bisect", action="store_true", help="find the first step that changes the results"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page that needs nothing else")
    parser.add_argument("--json", action="store_true", help="print JSON")
