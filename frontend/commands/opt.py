"""`hectorite opt`: xDSL's driver with the dialects and passes of hectorite, which also reads .hec.

Enters: the arguments of `xdsl-opt`. Leaves: what `xdsl-opt` prints, except that faults in the input
are diagnostics of this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from xdsl.dialects.builtin import ModuleOp
from xdsl.universe import Universe
from xdsl.utils.exceptions import (
    ArgSpecParseError,
    DiagnosticException,
    ParseError,
    PassFailedException,
)
from xdsl.xdsl_opt_main import xDSLOptMain

from hectorite.frontend.program_text import parse_fault
from hectorite.frontend.registry import UNIVERSE
from hectorite.ir.diagnostics import fail


class Driver(xDSLOptMain):
    """xDSL's driver. Where the package is not installed, its entry point is not found: then our
    dialects and passes are added here."""

    def register_all_dialects(self) -> None:
        super().register_all_dialects()
        for name, dialect in UNIVERSE.all_dialects.items():
            if name not in self.ctx.registered_dialect_names:
                self.ctx.register_dialect(name, dialect)

    def register_all_passes(self) -> None:
        # Ours first, so that `--help` begins with them.
        for name, make in (UNIVERSE.all_passes | Universe.get_multiverse().all_passes).items():
            self.register_pass(name, make)

    def register_all_frontends(self) -> None:
        super().register_all_frontends()
        self.available_frontends["hec"] = _read_source


def _read_source(stream: IO[bytes]) -> ModuleOp:
    from hectorite.frontend.to_graph.program import load_source

    return load_source(stream.read().decode("utf-8") + "\n")


def run(arguments: Sequence[str]) -> int:
    """Run the driver."""
    try:
        Driver("xDSL's driver with the dialects and passes of hectorite", arguments).run()
    except ParseError as error:
        raise parse_fault(error) from error
    except ArgSpecParseError as error:
        hint = "passes are separated by commas, as in -p canonicalize-graph,cse"
        reason = str(error).rstrip().rsplit("\n", 1)[-1].strip()
        raise fail(f"this is not a list of passes: {reason}", hint=hint) from error
    except (DiagnosticException, PassFailedException, ValueError, OSError) as error:
        raise fail(str(error).strip().split("\n")[0] or type(error).__name__) from error
    return 0
