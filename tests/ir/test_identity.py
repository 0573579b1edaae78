"""Results that are found again by the identity of arguments."""

from hectorite.ir import identity
from hectorite.ir.identity import by_identity


def test_called_once_for_the_same_objects():
    calls = list[tuple[list[int], list[int]]]()

    @by_identity
    def joined(left: list[int], right: list[int]) -> list[int]:
        calls.append((left, right))
        return left + right

    one, other = [1], [2]
    assert joined(one, other) is joined(one, other)
    assert joined([1], other) == [1, 2] and len(calls) == 2
    for _ in range(2 * identity.MOST):
        assert joined([1], [2]) == [1, 2]
