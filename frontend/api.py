"""The public interface: `compile`, `emit`, `parse`, `bind`, `verify`, `grad`.

Enters: a program (a path, a text with a newline, or a `Program`). Leaves: something to call, IR as
text, a module, bound sets, or a report. Every fault of a program or of data raises
`HectoriteError`, whose text names the place, what was expected and a hint.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cache import default_cache
from hectorite.frontend.compiled.facts import Sizes, check_sizes, restricted
from hectorite.frontend.compiled.format_choice import chooser, split_known
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.program import Program
from hectorite.frontend.compiled.request import Request
from hectorite.frontend.compiled.targets import (
    Variants,
    check_measured,
    check_target,
    default_target,
    intake_of,
)
from hectorite.frontend.program_text import ProgramLike, ProgramText, read_program
from hectorite.ir.diagnostics import fail
from hectorite.lowering.options import Options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.frontend.levels.verify import Verification


def compile(
    path_or_source: ProgramLike,
    target: str | None = None,
    sizes: Mapping[str, int] | None = None,
    function: str | None = None,
    cache: bool = True,
    reassociate: bool = True,
    fixed: Mapping[str, Any] | None = None,
    search: bool = True,
    formats: Mapping[str, str] | None = None,
    measure: bool = False,
) -> Program:
    """Compile a program of the language, or IR of any level as `emit` prints it.

    - `target`: "cpu" (machine code for all cores), "reference" (NumPy in float64, the definition),
      "tile" (an interpreter of the tile level that checks every access), "cuda" (the first GPU,
      "cuda:1" the second), or "ptx" (its code executed without a GPU, "ptx:sm_90" for that one).
      By default what the environment variable HECTORITE_TARGET says, else "cpu".
    - `sizes` gives values to sizes; those that the shapes of arguments determine may be left out,
      and code is then built when a function is first called.
    - `function`: compile this one now, and only this one is callable. Otherwise all are callable,
      and the last is compiled now if its sizes are known.
    - `cache`: keep compiled code on disk, in `$HECTORITE_CACHE` or the platform's folder for it.
    - `reassociate`: let float sums be taken in another order, which they may unless values are
      infinite or a rounding decides something.
    - `fixed`: arrays for parameters that are the same in every call, such as weights. The functions
      then take the other parameters, and what depends on these alone is computed once.
    - `search`: choose structural rewrites by what they cost on the data that is bound; without it
      every statement is computed as it is written.
    - `formats`: storage formats for sets, `{"nz": "csr(row)"}`, in the place of those that they are
      declared with; with "auto" the cost model chooses by the data that is bound. They never
      change results.
    - `measure`: the first call of a function times what the search found and what is written in
      turns on its arguments, and what is found is shipped only if it is faster with confidence.
      That call takes a few seconds at most, unless a single call takes that long.

    Raises `HectoriteError` listing what is wrong in the program or in these arguments.
    """
    text = read_program(path_or_source, sizes)
    target = default_target(text.form) if target is None else target
    check_target(target)
    store = default_cache() if cache else None
    if measure:
        check_measured(target, search)
    facts = facts_of(text, store)
    known = check_sizes(facts, sizes or {})
    if function is not None:
        facts = restricted(facts, function, text.name)

    given = Options(reassociate, search=search, formats=_formats(text, formats))
    variants, choose = Variants(target), chooser(text, given, target)

    def build_function(name: str, values: Sizes, of_data: tuple[str, ...]) -> Any:
        counts, chosen = split_known(of_data)
        options = replace(given, cardinalities=counts, formats=(*given.formats, *chosen))
        request = Request(text, facts, name, values, options, store)
        return variants.measured(request) if measure else variants.build(request)

    program = Program(text.name, facts, build_function, known, intake_of(target))
    for each in program.functions.values():
        each.choose = choose
    for message in program.warnings:
        warnings.warn(message, UserWarning, stacklevel=2)
    if fixed is not None:
        from hectorite.frontend.fixed_split import fix_program

        if measure:
            raise fail(
                "`measure` does not go with `fixed`: what is computed once is not what is measured",
                hint="time programs that were compiled with `search=True` and `search=False`",
            )
        options = Options(reassociate, search=search)
        return fix_program(program, facts, fixed, text, target, options, cache, formats)
    if program.functions:
        last = list(program.functions.values())[-1]
        values = known | {n: v for n, v in facts.schema.sizes.items() if v is not None}
        if last.depends_on_data:
            last.eager = True
        elif all(name in values for name in last.signature.sizes):
            last.executable(values)
    return program


def emit(
    path_or_source: ProgramLike,
    level: str = "graph",
    sizes: Mapping[str, int] | None = None,
    function: str | None = None,
    generic: bool = False,
    between_passes: bool = False,
    reassociate: bool = True,
    target: str | None = None,
    options: Options | None = None,
    formats: Mapping[str, str] | None = None,
) -> str:
    """The text of a program at a level of `program_text.LEVELS`, of which "cubin" is no text.

    The text is a program again: `compile`, `emit`, `verify` and the command line take it. `sizes`
    has to give every size for levels from "tile" on; `function` is the last one by default there.
    `generic` prints MLIR's generic form, `between_passes` all modules on the way. `target` names
    the GPU of the levels "tile" (without it, for a CPU), "ptx" and "sass" (`sm_90` by default).
    PTX text of other compilers is taken too. `options` say more about the rewrites than
    `reassociate` does, and are taken instead of it; `formats` are those of `compile`,
    which the level "graph", the program as it is written, does not take.
    """
    from hectorite.frontend.levels.text import level_text, text_of_ptx

    if level == "onnx":
        raise fail("an ONNX model is no text", hint="hectorite.to_onnx(program, path) writes one")
    text = read_program(path_or_source, sizes)
    options = options or Options(reassociate)
    options = replace(options, formats=(*options.formats, *_formats(text, formats)))
    if text.form == "ptx":
        return text_of_ptx(text, level, target, generic)
    facts = facts_of(text, None)
    known = check_sizes(facts, sizes or {})
    if level == "graph" and options.formats:
        raise fail(
            "`formats` change nothing at the level graph, which is the program as it is written",
            expected='level="graph-opt", or one after it',
        )
    return level_text(text, facts, level, known, function, options, generic, between_passes, target)


def parse(path_or_source: ProgramLike) -> ModuleOp:
    """The verified module of a program of the language or of graph or tile IR.

    Raises `HectoriteError` with every fault found.
    """
    return read_program(path_or_source).module


def bind(program: Program | ProgramLike, /, **sets: Any) -> Binding:
    """Bind the sets of a program to data, as `Program.bind` does."""
    if isinstance(program, Program):
        return program.bind(**sets)
    return Binding(facts_of(read_program(program), None).schema, sets)


def verify(
    path_or_source: ProgramLike,
    data: str | None = None,
    function: str | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
    target: str | None = None,
    formats: Mapping[str, str] | None = None,
) -> Verification:
    """Run a program at every level and compare with the reference.

    `data` names a file or `ast:PACKAGE` as on the command line; without it, sets of several shapes
    are generated. `target` names the GPU of the level ptx, `sm_80` by default; `formats` are those
    of `compile`. The result is true
    if every level agrees; its `rows` give error and bound.
    """
    from hectorite.frontend.compiled.gpu_targets import executed
    from hectorite.frontend.levels.verify import verify_program

    if not isinstance(data, str | None):
        expected = 'a path, or "ast:PACKAGE"'
        raise fail(f"`data` is a {type(data).__name__}", expected=expected)
    if not isinstance(seed, int):
        raise fail(f"`seed` is a {type(seed).__name__}", expected="an integer")
    text = read_program(path_or_source, sizes)
    return verify_program(
        text,
        data,
        function,
        dict(sizes or {}),
        seed,
        gpu=executed(target),
        formats=_formats(text, formats),
    )


def grad(*_arguments: Any, **_options: Any) -> Any:
    """The derivative of a function; not there yet, and says so."""
    raise fail(
        "derivatives are not there yet",
        expected="one of compile, emit, parse, bind, verify",
        hint="write the backward program as a function of its own",
    )


def _formats(text: ProgramText, formats: Mapping[str, str] | None) -> tuple[str, ...]:
    """Storage formats as `Options` takes them, checked against the sets of the program."""
    if not formats:
        return ()
    if not isinstance(formats, Mapping):
        expected = 'a mapping from sets to formats, {"nz": "csr(row)"}'
        raise fail(f"`formats` is {formats!r}", expected=expected)
    if text.form not in ("source", "graph"):
        raise fail(f"{text.name} is of the level {text.form}, past the choice of formats")
    from hectorite.lowering.formats.apply_formats import chosen_formats

    given = tuple(f"{name}={format}" for name, format in formats.items())
    chosen_formats(text.module, given)
    return given
