"""The text of a storage format: words with arguments, joined by dots.

    csr(dst).by(type)                           two words
    split(row, 4).into(ell, csr(row).by(col))   the arguments of the second are formats themselves
    hyb(parts = 1, buckets = 4)                 arguments by name

Enters: text. Leaves: its words, or a `FormatFault`, which says what is wrong and at which of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Argument:
    """One argument as written, perhaps by name: a single word without arguments is its name, and
    what is more than that its words."""

    value: str | int | float | tuple[Word, ...]
    name: str | None = None

    @staticmethod
    def of(words: Sequence[Word], name: str | None = None) -> Argument:
        """The argument that is these words."""
        single = len(words) == 1 and not words[0].arguments
        return Argument(words[0].name if single else tuple(words), name)

    @property
    def words(self) -> tuple[Word, ...] | None:
        """The words, None for a number."""
        if isinstance(self.value, str):
            return (Word(self.value),)
        return self.value if isinstance(self.value, tuple) else None

    def __str__(self) -> str:
        words = self.words
        text = str(self.value) if words is None else ".".join(map(str, words))
        return f"{self.name}={text}" if self.name else text


@dataclass(frozen=True)
class Word:
    """`name(arguments)`; a format is several, joined by dots."""

    name: str
    arguments: tuple[Argument, ...] = ()

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        return f"{self.name}({', '.join(map(str, self.arguments))})"


class FormatFault(Exception):
    """What is wrong with a format: `word` and `argument` are where (argument None: the word)."""

    def __init__(
        self,
        message: str,
        expected: str | None = None,
        hint: str | None = None,
        word: int = 0,
        argument: int | None = None,
    ):
        super().__init__(message)
        self.message, self.expected, self.hint = message, expected, hint
        self.word, self.argument = word, argument


_TOKEN = re.compile(r"\s*(\w+|[().,=])\s*")


def parse_words(text: str) -> tuple[Word, ...]:
    """The words of a format's text. Raises `FormatFault`."""
    tokens = _TOKEN.findall(text)
    reader = _Reader(tokens)
    complete = _TOKEN.sub("", text) == ""
    words = reader.words() if complete else None
    if not words or reader.tokens:
        raise FormatFault(f"`{text}` is not a format", "a format such as csr(dst).by(type)")
    return tuple(words)


class _Reader:
    """Reads words off a list of tokens; None where there is none."""

    def __init__(self, tokens: list[str]):
        self.tokens = tokens

    def take(self, token: str) -> bool:
        if self.tokens[:1] == [token]:
            self.tokens.pop(0)
            return True
        return False

    def words(self) -> list[Word] | None:
        found: list[Word] = []
        while True:
            word = self.word()
            if word is None:
                return None
            found.append(word)
            if not self.take("."):
                return found

    def word(self) -> Word | None:
        if not self.tokens or not self.tokens[0].isidentifier():
            return None
        name, arguments = self.tokens.pop(0), list[Argument]()
        if not self.take("("):
            return Word(name)
        while not self.take(")"):
            argument = self.argument()
            if argument is None or not (self.take(",") or self.tokens[:1] == [")"]):
                return None
            arguments.append(argument)
        return Word(name, tuple(arguments))

    def argument(self) -> Argument | None:
        name = self.tokens.pop(0) if self.tokens[1:2] == ["="] else None
        if name is not None:
            self.take("=")
        if self.tokens and self.tokens[0].isdecimal():
            return Argument(int(self.tokens.pop(0)), name)
        words = self.words()
        return None if words is None else Argument.of(words, name)
