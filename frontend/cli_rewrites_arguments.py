"""The arguments of `run` and `emit` that say how rewrites are chosen; `cli_rewrites.py` reads them.

Enters: a parser. Leaves: the parser with more arguments.
"""

from __future__ import annotations

import argparse


def rewrite_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    parser.add_argument(
        "--search", action="store_true", help="choose rewrites by what they cost on the data"
    )
    add_choices(parser)


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add those that pin single choices, which imply the search."""
    parser.add_argument(
        "--forbid",
        metavar="RULE",
        action="append",
        default=[],
        help="search without a rule or a family of them",
    )
    parser.add_argument(
        "--force",
        metavar="STATEMENT:DETAIL",
        action="append",
        default=[],
        help="search with a statement rewritten like this, or with `stay` as it is",
    )
