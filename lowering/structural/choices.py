"""Choices that a user makes in the place of the search.

Enters: a graph, rules, and texts such as `zs:domain=src`. Leaves: the graph with these matches
applied, and rules that leave the statements alone which they concern.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.diagnostics import did_you_mean, fail
from hectorite.lowering.search.step import Match, Rule

STAY = "stay"
"""The choice of no rewrite at all for a statement."""


def forced(flow: Dataflow, rules: Sequence[Rule], choices: Sequence[str]) -> frozenset[str]:
    """Apply the chosen matches, `STATEMENT:DETAIL` each, the detail in full or up to a blank.
    Returns the names of statements that are to stay as they are now.

    Raises `HectoriteError` if there is no such statement or match; it lists those there are.
    """
    names = set[str]()
    for choice in choices:
        name, colon, detail = choice.partition(":")
        if not colon:
            raise fail(f"`{choice}` is no choice", expected="STATEMENT:DETAIL, as zs:domain=src")
        names.add(name.strip())
        if detail.strip() == STAY:
            _place(flow, name.strip())
            continue
        number = _place(flow, name.strip())
        found = [match for rule in rules for match in rule.matches(flow, number)]
        chosen = next((match for match in found if _is_meant(match, detail.strip())), None)
        if chosen is None:
            offered = "".join(f"`{match.detail}`, " for match in found)
            raise fail(
                f"`{name}` cannot be computed with `{detail.strip()}`",
                expected=f"one of {offered}or `{STAY}`" if found else f"`{STAY}`, the only choice",
                hint=did_you_mean(detail.strip(), [match.detail for match in found]),
            )
        made = chosen.apply(flow)
        names.update(str(flow.nodes[n].name) for n in made if n in flow.nodes)
    return frozenset(names)


def _place(flow: Dataflow, name: str) -> int:
    named = [n for n, node, _ in flow.statements() if node.name == name]
    if not named:
        known = [str(node.name) for _, node, _ in flow.statements() if node.name]
        raise fail(
            f"there is no statement `{name}`",
            expected=f"one of {', '.join(f'`{n}`' for n in known)}",
            hint=did_you_mean(name, known),
        )
    return named[-1]


def _is_meant(match: Match, detail: str) -> bool:
    return match.detail == detail or match.detail.startswith(f"{detail} ")


@dataclass(frozen=True)
class Pinned:
    """A rule that leaves some statements as they are."""

    rule: Rule
    names: frozenset[str]

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def family(self) -> str:
        return self.rule.family

    @property
    def local(self) -> bool:
        return False  # it asks for names

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """The matches that concern other statements only."""
        for match in self.rule.matches(flow, number):
            if not any(flow.nodes[n].name in self.names for n in match.nodes[:1]):
                yield match


def pinned(rules: Sequence[Rule], names: Collection[str]) -> Sequence[Rule]:
    """The rules without what they would do at the named statements."""
    return [Pinned(rule, frozenset(names)) for rule in rules] if names else rules
