"""What verifiers refuse, word for word.

The cases are in `refused.txt`: a title, a module, and the message. `python
tests/dialects/test_verifiers.py` writes what is said now into it.
"""

import sys
from pathlib import Path

import pytest
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException

from hectorite.dialects.context import make_context

CASES = Path(__file__).with_name("refused.txt")


def read_cases() -> list[tuple[str, str, str]]:
    """(title, module, message) of each."""
    cases: list[tuple[str, str, str]] = []
    for part in CASES.read_text("utf-8").split("### ")[1:]:
        title, rest = part.split("\n", 1)
        module, message = rest.split("\n---\n", 1)
        cases.append((title, module + "\n", message.rstrip("\n")))
    return cases


def message_of(module: str) -> str:
    """What parsing or verifying says about a module, without the place."""
    try:
        Parser(make_context(), module).parse_module().verify()
    except ParseError as error:
        return f"parser: {error.msg}"
    except VerifyException as error:
        lines = [line.strip(" ^\n-") for line in str(error).splitlines()]
        return next(line for line in reversed(lines) if line)
    return "accepted"


@pytest.mark.parametrize(
    ("module", "message"), [pytest.param(*case[1:], id=case[0]) for case in read_cases()]
)
def test_refused(module: str, message: str):
    assert message != "accepted"
    assert message_of(module) == message


def write_cases() -> None:
    parts = (
        f"### {title}\n{module}---\n{message_of(module)}\n" for title, module, _ in read_cases()
    )
    CASES.write_text("\n".join(parts), "utf-8")


if __name__ == "__main__":
    sys.exit(write_cases())
