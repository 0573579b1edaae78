"""Random programs mean the same when their tile level is scheduled for a GPU."""

import re
from dataclasses import replace

import agreement
from datasets import datasets
from hypothesis import given, note
from hypothesis import strategies as st
from programs import Program, programs
from sampling import sampled

from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schedule import WORK

SMALL = 3000
"""Points of a program on data for the tile interpreter."""


@sampled(25)
@given(st.data())
def test_programs_scheduled_for_a_gpu_agree_with_the_reference(data):
    program = data.draw(programs(most=3))
    note(program.text)
    agreement.check_gpu_tile(program, data.draw(datasets(program, SMALL)))


def scheduled(program: Program, data: st.DataObject) -> Program:
    """The program with an order for each tensor that a statement makes."""
    last = program.text.rpartition("\ndef ")[2]
    tensors = dict.fromkeys(re.findall(r"^ +(\w+)\[[^=]*\] \S*= ", last, re.M))
    orders = [f"{name}: work({data.draw(st.sampled_from(WORK))})" for name in tensors]
    text = f"{program.text}\nschedule {{ {', '.join(orders)} }}\n"
    return replace(program, text=text)


@sampled(15)
@given(st.data())
def test_how_work_is_shared_out_changes_no_result(data):
    program = scheduled(data.draw(programs(most=3)), data)
    note(program.text)
    dataset = data.draw(datasets(program, SMALL))
    try:
        agreement.check_gpu_tile(program, dataset)
    except HectoriteError as error:
        assert "cannot be followed" in str(error) or "are one kernel" in str(error)
