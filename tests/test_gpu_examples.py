"""Every example becomes PTX that assembles without spills and without emulated instructions."""

from pathlib import Path

import pytest

import hectorite
from hectorite.backends.machine_code.assemble import installed
from hectorite.backends.machine_code.resources import machine_code
from hectorite.backends.machine_code.sass import find_nvdisasm
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.program_text import read_program
from hectorite.ir.ptx.limits import TARGET_VERSIONS

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.hec"))
SIZE = 64
NEWER = {"ordered_metadata": (8, 5), "red.global.add.v": (8, 1)}
"""Versions of what not every version has."""


@pytest.mark.skipif(
    not installed() or find_nvdisasm() is None, reason="no assembler, or no disassembler"
)
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_assemble(path, target):
    text = read_program(path)
    facts = facts_of(text, None)
    name, signature = list(facts.signatures.items())[-1]
    sizes = dict.fromkeys(signature.sizes, SIZE)
    ptx = hectorite.emit(path, "ptx", sizes=sizes, function=name, target=target)
    major, minor = max([TARGET_VERSIONS[target], *(v for word, v in NEWER.items() if word in ptx)])
    assert f"\n.version {major}.{minor}\n.target {target}\n" in ptx
    for kernel in machine_code(ptx, target, path.name).kernels:
        assert kernel.spill_bytes == 0, kernel.name
        assert kernel.emulated == (), kernel.name
