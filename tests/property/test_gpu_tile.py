"""Random programs mean the same when their tile level is scheduled for a GPU."""

import agreement
from datasets import datasets
from hypothesis import given, note
from hypothesis import strategies as st
from programs import programs
from sampling import sampled

SMALL = 3000
"""Points of a program on data for the tile interpreter."""


@sampled(25)
@given(st.data())
def test_programs_scheduled_for_a_gpu_agree_with_the_reference(data):
    program = data.draw(programs(most=3))
    note(program.text)
    agreement.check_gpu_tile(program, data.draw(datasets(program, SMALL)))
