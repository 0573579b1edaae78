"""The arguments of `run` and `emit` that say how rewrites are chosen; `rewrites.py` reads them.

Enters: a parser. Leaves: the parser with more arguments.
"""

from __future__ import annotations

import argparse


def rewrite_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    parser.add_argument(
        "--no-search", action="store_true", help="compute every statement as it is written"
    )
    add_formats(parser)
    add_choices(parser)


def add_formats(parser: argparse.ArgumentParser) -> None:
    """Add the storage formats of sets."""
    parser.add_argument(
        "--as",
        dest="formats",
        metavar="SET=FORMAT",
        action="append",
        default=[],
        help="store a set so, as nz=csr(row), instead of as it is declared; auto for no format",
    )


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add those that pin single choices."""
    parser.add_argument(
        "--forbid",
        metavar="RULE",
        action="append",
        default=[],
        help="choose without a rule or a family of them",
    )
    parser.add_argument(
        "--force",
        metavar="STATEMENT:DETAIL",
        action="append",
        default=[],
        help="have a statement rewritten like this, or with `stay` as it is",
    )
