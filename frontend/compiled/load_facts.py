"""The facts of a program: from its module, from the head of emitted code, or from the cache.

Enters: the text of a program. Leaves: `Facts`. A program that was seen before is neither parsed nor
checked again: its facts are kept as JSON (`facts_json.py`).
"""

from __future__ import annotations

from hectorite.backends.cache import Cache, cache_key
from hectorite.frontend.compiled.facts import Facts
from hectorite.frontend.compiled.facts_json import decode, encode
from hectorite.frontend.program_text import CODE, ProgramText
from hectorite.ir.diagnostics import fail


def facts_of(text: ProgramText, cache: Cache | None) -> Facts:
    """What calling the program takes, from the cache if it is there, else from its module."""
    if text.form in CODE:
        from hectorite.frontend.compiled.emitted_code import facts_of_code, has_plan

        if text.form == "ptx" and not has_plan(text):
            raise fail(
                f"{text.name} is PTX without the plan of a program, so it cannot be called as one",
                hint="`hectorite ptx run` runs a kernel of it, `hectorite emit` assembles it",
            )
        return facts_of_code(text)
    key = ""
    if cache is not None:
        key = cache_key("facts", text.name, *text.sources)
        entry = cache.lookup(key)
        if entry is not None:
            return Facts(**decode(entry.metadata))
    facts = _facts_of_module(text)
    if cache is not None:
        held = {name: encode(value) for name, value in vars(facts).items()}
        cache.store(key, held, {})
    return facts


def _facts_of_module(text: ProgramText) -> Facts:
    from hectorite.dialects.graph import FuncOp
    from hectorite.dialects.graph_sets import schema_of
    from hectorite.frontend.compiled.range_checks import find_checks
    from hectorite.frontend.compiled.signature import signatures
    from hectorite.lowering.graph.counted_paths import counted_paths

    module = text.module
    schema = schema_of(module)
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    checks = {op.sym_name.data: find_checks(op, schema) for op in functions}
    counted = {op.sym_name.data: counted_paths(op, schema) for op in functions}
    return Facts(schema, signatures(module, schema), checks, text.warnings, counted)
