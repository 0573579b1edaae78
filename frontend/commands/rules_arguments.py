"""The arguments of `hectorite rules`."""

from __future__ import annotations

import argparse

from hectorite.frontend.rules.operations import OPERATIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their arguments."""
    tasks = parser.add_subparsers(dest="task", required=True, metavar="TASK")
    listed = tasks.add_parser("list", help="all rules, a line each")
    show = tasks.add_parser("show", help="what a rule says, asks for and is tested with")
    show.add_argument("rule", metavar="RULE")
    check = tasks.add_parser("check", help="test a rule and its mutants, or all rules")
    check.add_argument("rule", metavar="RULE", nargs="?")
    pdl = tasks.add_parser("pdl", help="a rule as a pattern of xDSL's PDL dialect")
    pdl.add_argument("rule", metavar="RULE")
    synth = tasks.add_parser("synth", help="find laws by enumerating small terms")
    listing = f"operations, by commas, of {', '.join(OPERATIONS)}"
    synth.add_argument("--ops", default="matmul,add,transpose", help=listing)
    synth.add_argument("--max-ops", type=int, default=2, metavar="N", help="operations in a side")
    for task in (listed, check, synth):
        task.add_argument("--json", action="store_true", help="print JSON")
