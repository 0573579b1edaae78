"""Programs and IR with something changed end in a diagnostic or in code, never in a traceback."""

import re

import agreement
from hypothesis import given, note
from hypothesis import strategies as st
from programs import programs
from sampling import sampled

from hectorite.backends.cpu.module import compile_tile
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.request import Request, tile_module
from hectorite.frontend.levels.text import complete_sizes
from hectorite.frontend.program_text import ProgramText, form_of, parse_ir
from hectorite.ir.diagnostics import HectoriteError

TOKEN = re.compile(r"\w+|\*\*|//|[<>=!+*]=|->|\s+|.", re.DOTALL)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """A text with a few tokens dropped, doubled, or replaced by others of it."""
    tokens = TOKEN.findall(text)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(tokens) - 1))
        other = tokens[draw(st.integers(0, len(tokens) - 1))]
        how = draw(st.sampled_from(("replace", "drop", "double", "insert", "replace")))
        if how == "replace":
            tokens[at] = other
        elif how == "drop" and len(tokens) > 1:
            del tokens[at]
        else:
            tokens.insert(at, tokens[at] if how == "double" else other)
    return "".join(tokens)


def compiled_or_refused(text: str) -> bool:
    """Take a text as far as LLVM IR. True if there is no fault in it."""
    try:
        program = ProgramText("<text>", text, form_of(text))
        facts = facts_of(program, None)
        for name, signature in facts.signatures.items():
            sizes = complete_sizes(facts, signature, dict.fromkeys(signature.sizes, 5), "tile")
            compile_tile(tile_module(Request(program, facts, name, sizes)))
    except HectoriteError as error:
        assert error.diagnostics
        return False
    return True


@sampled(30)
@given(st.data())
def test_a_changed_program(data):
    program = data.draw(programs(most=3))
    text = data.draw(mutated(program.text))
    note(text)
    compiled_or_refused(text)


@sampled(12)
@given(st.data())
def test_changed_ir(data):
    program = data.draw(programs(most=2))
    compiled = agreement.read(program)
    if data.draw(st.booleans()):
        text = str(compiled.text.module)
    else:
        request = Request(compiled.text, compiled.facts, program.function, program.sizes)
        text = str(tile_module(request))
    parse_ir(text, "<text>")
    changed = data.draw(mutated(text)) + "\n"
    note(changed)
    compiled_or_refused(changed)
