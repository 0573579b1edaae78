"""The command line: `hectorite run | emit | check | verify | stats | explain | ... | opt`.

Enters: arguments. Leaves: an exit status, 0 if all went well, 1 for a fault in a program, in data
or in what was found, 2 for wrong arguments. Faults are messages on the error stream, never a
traceback. Each command is a file of its own and is imported when it runs, so that `--help` is
immediate.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from hectorite.frontend.commands.explain_arguments import add_arguments as add_explain_arguments
from hectorite.frontend.commands.ptx_arguments import add_arguments as add_ptx_arguments
from hectorite.frontend.commands.rewrites_arguments import add_formats, rewrite_arguments
from hectorite.frontend.commands.rules_arguments import add_arguments as add_rules_arguments
from hectorite.ir.diagnostics import HectoriteError, render

PROGRAM = "a .hec file, IR of any level as `emit` prints it, PTX, or an .onnx model"
DATA = "FILE.npz (SET a size, SET.FIELD a map, else a tensor) or ast:PACKAGE (its syntax trees)"
LEVELS = ("graph", "graph-opt", "sparse", "tile", "llvm", "asm", "ptx", "cubin", "sass", "onnx")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the entry point of `hectorite`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["opt"]:
            status = import_module("hectorite.frontend.commands.opt").run(given[1:])
        else:
            chosen = _parser().parse_args(given)
            status = import_module(f"hectorite.frontend.commands.{chosen.command}").run(chosen)
        sys.stdout.flush()
        return status
    except HectoriteError as error:
        _tell(error)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        print("error: there is not enough memory for this", file=sys.stderr)
        return 1


def _tell(error: HectoriteError) -> None:
    color = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    for diagnostic in error.diagnostics:
        print(render(diagnostic, color), file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hectorite",
        description="Index notation over sets and maps, compiled to fused kernels.",
        epilog="hectorite COMMAND --help tells more. `hectorite opt` is xDSL's driver with the "
        "dialects and passes of hectorite.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _run_command(commands.add_parser("run", help="run a function on data"))
    _emit_command(commands.add_parser("emit", help="print a program at any level"))
    check = commands.add_parser("check", help="tell what is wrong in a program")
    _program_arguments(check)
    check.add_argument("--json", action="store_true", help="print JSON")
    _verify_command(commands.add_parser("verify", help="compare every level with the reference"))
    _stats_command(commands.add_parser("stats", help="tell what storage formats cost on data"))
    explain = commands.add_parser("explain", help="tell which rewrites were chosen, and why")
    _program_arguments(explain)
    add_explain_arguments(explain, DATA)
    _calibrate_command(commands.add_parser("calibrate", help="measure this machine"))
    add_ptx_arguments(commands.add_parser("ptx", help="run and check PTX without a GPU"))
    add_rules_arguments(commands.add_parser("rules", help="the rewrite rules of the optimiser"))
    commands.add_parser("opt", help="xDSL's driver: run passes one by one", add_help=False)
    return parser


def _program_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", metavar="PROGRAM", help=PROGRAM)
    parser.add_argument("--fn", metavar="F", help="the function; the last one by default")
    parser.add_argument(
        "--size",
        metavar="NAME=N",
        action="append",
        default=[],
        type=_size,
        help="the value of a size; one that nothing determines is 64",
    )


def _run_command(parser: argparse.ArgumentParser) -> None:
    _program_arguments(parser)
    parser.add_argument("--data", metavar="DATA", help=DATA)
    parser.add_argument(
        "--target", help="cpu (default, or $HECTORITE_TARGET), reference, tile, ptx[:SM], cuda[:N]"
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the tensors that data lacks")
    parser.add_argument("--out", metavar="FILE.npz", help="where to write the results")
    parser.add_argument("--time", action="store_true", help="print times, in seconds")
    rewrite_arguments(parser)
    parser.add_argument(
        "--measure",
        action="store_true",
        help="take what the search found only if it is faster than what is written, measured here",
    )
    parser.add_argument("--no-cache", action="store_true", help="compile anew, keep nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _emit_command(parser: argparse.ArgumentParser) -> None:
    _program_arguments(parser)
    parser.add_argument("--level", default="graph", help=", ".join(LEVELS))
    parser.add_argument("--data", metavar="DATA", help=f"rewrites are chosen for it: {DATA}")
    rewrite_arguments(parser)
    parser.add_argument(
        "--target", metavar="SM", help="the GPU, such as sm_80; sm_90 by default, for tile a CPU"
    )
    parser.add_argument("--between-passes", action="store_true", help="and after each pass")
    parser.add_argument("--generic", action="store_true", help="in MLIR's generic form")
    parser.add_argument("--out", metavar="FILE", help="where to write it")
    parser.add_argument(
        "--json", action="store_true", help="print what its GPU kernels take, as JSON"
    )
    parser.add_argument(
        "--resources", action="store_true", help="show what its GPU kernels take, as a table"
    )


def _verify_command(parser: argparse.ArgumentParser) -> None:
    _program_arguments(parser)
    parser.add_argument("--data", metavar="DATA", help=f"{DATA}; generated by default")
    parser.add_argument("--target", metavar="SM", help="the GPU of the level ptx; sm_80 by default")
    parser.add_argument("--seed", type=int, default=0, help="draws tensors and sets")
    add_formats(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _stats_command(parser: argparse.ArgumentParser) -> None:
    _program_arguments(parser)
    parser.add_argument("--data", metavar="DATA", help=DATA)
    parser.add_argument("--seed", type=int, default=0, help="draws the tensors that data lacks")
    add_formats(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _calibrate_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, tables included")
    parser.add_argument(
        "--show",
        metavar="DEVICE",
        nargs="?",
        const="cpu",
        help="measure nothing: show cpu (this machine, the default), h200 or a100",
    )


def _size(text: str) -> tuple[str, int]:
    name, equals, value = text.partition("=")
    if not name or not equals or not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N, such as O=64")
    return name, int(value)


if __name__ == "__main__":
    sys.exit(main())
