"""Random programs on random data mean the same at every level."""

import agreement
import numpy as np
from datasets import datasets
from hypothesis import given, note
from hypothesis import strategies as st
from programs import programs
from sampling import sampled

from hectorite.backends.cpu.threads import pool, set_threads
from hectorite.frontend.compiled.request import Request
from hectorite.frontend.compiled.targets import build

SMALL, LARGE = 3000, 100_000
"""Points of a program on data for the levels that are interpreted, and for machine code."""


@sampled(30)
@given(st.data())
def test_rewritten_interpreted_and_compiled_programs_agree_with_the_reference(data):
    program = data.draw(programs(most=3))
    note(program.text)
    small, large = data.draw(datasets(program, SMALL)), data.draw(datasets(program, LARGE))
    agreement.check_results(program, small, large)


@sampled(5)
@given(st.data())
def test_every_pass_and_every_text_agrees_with_the_reference(data):
    program = data.draw(programs(most=3))
    note(program.text)
    small, large = data.draw(datasets(program, SMALL)), data.draw(datasets(program, LARGE))
    agreement.check_every_level(program, small, large)


@sampled(25)
@given(st.data())
def test_infinities_and_nan_come_out_as_the_program_says(data):
    program = data.draw(programs(exact=True, most=3))
    note(program.text)
    agreement.check_exactly(program, data.draw(datasets(program, SMALL, finite=False)))


@sampled(12)
@given(programs(most=3))
def test_printing_and_parsing_is_the_identity(program):
    note(program.text)
    agreement.check_texts(program)


@sampled(6)
@given(st.data())
def test_results_do_not_depend_on_the_number_of_threads(data):
    program = data.draw(programs(most=3))
    note(program.text)
    compiled = agreement.read(program)
    bound = compiled.bind(data.draw(datasets(program, LARGE)))
    if bound is None:
        return
    request = Request(compiled.text, compiled.facts, program.function, program.sizes)
    code = build("cpu", request)
    seen, before = list[tuple[bytes, ...]](), pool().threads
    try:
        for threads in (1, 2, 3):
            set_threads(threads)
            results = code(bound.binding, bound.arguments, bound.sizes, None)
            seen.append(tuple(np.asarray(result).tobytes() for result in results))
    finally:
        set_threads(before)
    assert seen[0] == seen[1] == seen[2]
