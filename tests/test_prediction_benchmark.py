"""What the prediction benchmark computes from rows, and that its functions compile."""

import pytest

from benchmarks.prediction import Row, kendall, problems, rewrite_as, summary
from hectorite.frontend.timing import subject
from hectorite.ir.cost import CostModel
from hectorite.ir.devices import CPU


def test_kendall():
    assert kendall([(1, 10), (2, 20), (3, 30)]) == 1
    assert kendall([(1, 30), (2, 20), (3, 10)]) == -1
    assert kendall([(1, 10), (2, 30), (3, 20), (4, 40)]) == pytest.approx(4 / 6)
    assert kendall([(1, 1)]) == 1


def test_summary():
    rows = [Row("a", "all", 2.0, 1.0), Row("a", "as written", 3.0, 4.0), Row("b", "all", 1.0, 2.0)]
    found = summary(rows, "cpu")
    assert found.over == 2
    assert found.under == 0.5
    assert found.within == 1
    assert found.mape == pytest.approx((1 + 0.25 + 0.5) / 3)


def test_names_are_unique():
    found = [(problem.name, problem.variant) for problem in problems(None, True)]
    assert len(found) == len(set(found)) > 20


def test_a_function_runs_and_is_predicted():
    problem = next(p for p in problems(None, True) if p.name.startswith("polynomial.300"))
    made = subject(problem.source, problem.sizes, problem.sets, rewrite_as("as written"))
    (result,) = made.call()
    assert result.shape == (300, 96)
    assert CostModel(CPU, made.extents).seconds(made.flow) > CPU.call
