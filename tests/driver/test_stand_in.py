"""`pytest --target cuda` without a GPU: a part of the suite on the stand-in, in another process.

The rest of it takes `python -m pytest --target cuda --stand-in` by hand.
"""

import re
import subprocess
import sys

import pytest

from tests.driver import stand_in

pytest.importorskip("cuda.bindings.driver")
PART = "tests/test_api.py"
TESTS = "computes_the_same and None or several or out or int64"


@pytest.mark.skipif(stand_in.COMPILER is None, reason="no C compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is for Linux")
def test_a_part_of_the_suite_runs_on_it():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["--target", "cuda", "--stand-in", PART, "-k", TESTS]
    done = subprocess.run(
        command, cwd=stand_in.ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    launched = re.search(r"(\d+) launched", done.stdout)
    assert launched
    assert int(launched[1]) > 20
