"""The arguments of `hectorite ptx run | check`.

Enters: the parser of the command. Leaves: that parser with everything the two take. Nothing heavy
is imported here, so that `--help` is immediate.
"""

from __future__ import annotations

import argparse

FILE = "PTX text of any compiler"
ARGUMENTS = "arrays and numbers: keys arg0, arg1, ... in the order of the parameters; arrays \
without dimensions are numbers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `run` and `check`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    run = actions.add_parser("run", help="run a kernel without a GPU")
    _launch(run, required=True)
    run.add_argument("--out", metavar="OUT.npz", help="where to write the arrays afterwards")
    run.add_argument(
        "--mode", default="auto", help="auto (default), compiled, lockstep or sequential"
    )
    run.add_argument("--no-check", action="store_true", help="faster; wrong accesses may crash")
    run.add_argument("--time", action="store_true", help="print times, in seconds")
    run.add_argument("--json", action="store_true", help="print JSON")
    check = actions.add_parser("check", help="find faults, before and while a kernel runs")
    _launch(check, required=False)
    check.add_argument(
        "--coalescing", action="store_true", help="count the sectors of global accesses"
    )
    check.add_argument("--banks", action="store_true", help="count conflicts of shared accesses")
    check.add_argument("--json", action="store_true", help="print JSON")


def _launch(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument("file", metavar="FILE.ptx", help=FILE)
    parser.add_argument("--kernel", metavar="K", help="the kernel; the only one by default")
    for name, what in (("--grid", "blocks of the grid"), ("--block", "threads of a block")):
        parser.add_argument(name, metavar="X[,Y[,Z]]", type=_sizes, required=required, help=what)
    parser.add_argument("--shared", metavar="BYTES", type=int, default=0,
                        help="shared memory sized by the launch")  # fmt: skip
    parser.add_argument("--args", metavar="ARGS.npz", help=ARGUMENTS)


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.replace("x", ",").split(",")
    if not 1 <= len(parts) <= 3 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, such as 4 or 16,8")
    return tuple(map(int, parts))
