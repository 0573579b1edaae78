"""The text of every level is the same in every process."""

import json
import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from programs import programs
from sampling import sampled

EMIT = """
import hashlib, json, sys
import hectorite

for text, function, sizes in json.load(sys.stdin):
    for level in ("graph", "graph-opt", "tile", "llvm"):
        emitted = hectorite.emit(text, level, sizes, function)
        print(level, hashlib.sha256(emitted.encode()).hexdigest())
"""


def emitted_with(seed: str, jobs: list) -> str:
    """What a process with this seed for hashing emits."""
    environment = os.environ | {"PYTHONHASHSEED": seed}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EMIT],
        input=json.dumps(jobs),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@sampled(1)
@given(st.lists(programs(most=3), min_size=5, max_size=5))
def test_texts_do_not_depend_on_the_order_of_hashes(made):
    jobs = [(program.text, program.function, program.sizes) for program in made]
    assert emitted_with("1", jobs) == emitted_with("2", jobs)
