"""Whether a rule is right: it is tried on drawn places, and so are rules with a fault in them.

Enters: a rule. Leaves: a report. A rule passes if on every instance both sides have the same value
in two prime fields and, in floats, within rounding; if its own matcher finds it there and what it
makes has the same value; and if at least five mutants of it exist, all of which this check rejects,
except those that many more instances cannot tell from the rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from hectorite.backends.reference.prime_field import PRIMES
from hectorite.frontend.rules.instances import Instance, instance
from hectorite.frontend.rules.mutants import mutants
from hectorite.frontend.rules.scalar_check import Sides, scalar_instance, scalar_mutants, with_side
from hectorite.frontend.rules.values import field_values, float_values, same_within_rounding
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.formula import Formula
from hectorite.ir.scalar import Array
from hectorite.lowering.rules.build import Unfit, build
from hectorite.lowering.rules.matching import LawRule
from hectorite.lowering.rules.scalar import ScalarLaw, ScalarRule
from hectorite.lowering.rules.term import Law

INSTANCES = 24
MORE = 72
MUTANTS = 5

REASSOCIATES = {"ring", "reassoc_fp"}
UNTAGGED = "its sides round differently: its algebra needs `reassoc_fp` and `ring` or `field`"


@dataclass
class RuleReport:
    """What the check of a rule found; `fault` is None for a rule that may be used."""

    rule: str
    instances: int = 0
    """Places where both sides could be built."""
    matched: int = 0
    """Those of them where the matcher finds the rule."""
    rejected: list[str] = field(default_factory=list[str])
    """Faults of the mutants that were noticed."""
    equal: list[str] = field(default_factory=list[str])
    """Faults that are none: nothing tells these mutants from the rule."""
    fault: str | None = None

    @property
    def ok(self) -> bool:
        return self.fault is None


def check_rule(
    law: Law | ScalarLaw, count: int = INSTANCES, with_mutants: bool = True
) -> RuleReport:
    """Try a rule and its mutants. Takes about a second."""
    report = RuleReport(law.name)
    if isinstance(law, ScalarLaw):
        _check_scalar(law, count, report)
        return report
    cases = [case for case in map(_case_of(law), range(count)) if case is not None]
    for case in cases:
        verdict = _compare(law, case)
        if verdict is None:
            continue
        report.instances += 1
        if not verdict:
            report.fault = _counterexample(law, case.place)
            return report
    if report.instances < count // 4:
        report.fault = f"only {report.instances} of {count} instances could be built"
        return report
    report.fault = _rounding(law, cases) or _matcher(law, cases, report)
    if report.fault is None and with_mutants:
        _try_mutants(law, cases, report)
    return report


@dataclass(frozen=True)
class _Case:
    """An instance with the values of its source, modulo each prime."""

    place: Instance
    values: tuple[tuple[Array, ...], ...]


def _case_of(law: Law):
    def case(number: int) -> _Case | None:
        place = instance(law, number)
        if place is None:
            return None
        values = tuple(field_values(place.flow, place.sizes, place.seed, p) for p in PRIMES)
        return _Case(place, values)

    return case


def _compare(law: Law, case: _Case, primes: int = len(PRIMES)) -> bool | None:
    """Whether both sides agree; None if the right one cannot be built."""
    place = case.place
    flow = place.flow.copy()
    try:
        flow.give((*build(flow, law, law.target, place.binding.copy()), *place.beside))
    except Unfit:
        return None
    for prime, expected in list(zip(PRIMES, case.values, strict=True))[:primes]:
        try:
            found = field_values(flow, place.sizes, place.seed, prime)
        except HectoriteError:
            return False
        if not _equal(expected, found):
            return False
    return True


def _counterexample(law: Law, place: Instance) -> str:
    """Where the two sides of a wrong rule differ."""
    flow = place.flow.copy()
    flow.give((*build(flow, law, law.target, place.binding.copy()), *place.beside))
    return _told(place.flow, flow, place.sizes, place.seed)


def _told(source: Dataflow, target: Dataflow, sizes: Mapping[str, int], seed: int) -> str:
    """The first element that differs, and the lengths of the inputs."""
    lengths = [
        f"{name}[{', '.join(str(sizes.get(str(d), d)) for d in source.nodes[number].shape.dims)}]"
        for name, number in source.inputs.items()
    ]
    where = f"instance {seed} has another value on the right, for {', '.join(lengths)}"
    for prime in PRIMES:
        try:
            values = [field_values(flow, sizes, seed, prime) for flow in (source, target)]
        except HectoriteError as error:
            return f"{where}: {error.diagnostics[0].message}"
        for one, other in zip(*values, strict=True):
            if one.shape != other.shape:
                return f"{where}: the shape is {other.shape}, not {one.shape}"
            if not np.array_equal(one, other):
                at = tuple(int(i) for i in np.argwhere(one != other)[0])
                return f"{where}: element {list(at)} is {other[at]}, not {one[at]}, modulo {prime}"
    return f"{where}, by more than rounding"


def _equal(one: tuple[Array, ...], other: tuple[Array, ...]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _rounding(law: Law, cases: list[_Case]) -> str | None:
    """Every third instance in floats."""
    for case in cases[::3]:
        place = case.place
        flow = place.flow.copy()
        try:
            flow.give((*build(flow, law, law.target, place.binding.copy()), *place.beside))
        except Unfit:
            continue
        expected, before = float_values(place.flow, place.sizes, place.seed)
        found, own = float_values(flow, place.sizes, place.seed)
        if not same_within_rounding(expected, found, own):
            return f"instance {place.seed} differs by more than rounding"
        if not all(map(_same_bits, before, own)) and not _algebra(law) >= REASSOCIATES:
            return UNTAGGED
    return None


def _algebra(law: Law | ScalarLaw) -> set[str]:
    """The tags of a rule; the laws of a field are those of a ring and more."""
    return {*law.algebra, *(("ring",) if "field" in law.algebra else ())}


def _same_bits(one: Array, other: Array) -> bool:
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def _matcher(law: Law, cases: list[_Case], report: RuleReport) -> str | None:
    """What the rule's own matcher finds on the source, and whether applying it keeps the value."""
    rule = LawRule(law)
    for case in cases:
        place, found = case.place, False
        for number in sorted(place.flow.nodes):
            for match in list(rule.matches(place.flow, number)):
                flow = place.flow.copy()
                found |= bool(match.apply(flow))
                if not _equal(
                    case.values[0], field_values(flow, place.sizes, place.seed, PRIMES[0])
                ):
                    return f"applied on instance {place.seed} it gives another value"
        report.matched += found
    return None if report.matched else "its matcher does not find it anywhere"


def _try_mutants(law: Law, cases: list[_Case], report: RuleReport) -> None:
    more = cache(lambda: [c for c in map(_case_of(law), range(INSTANCES, MORE)) if c])
    for mutant in mutants(law):
        verdict = _first_fault(mutant.law, cases)
        if verdict is False:
            report.rejected.append(mutant.fault)
        elif verdict:
            if _first_fault(mutant.law, more()) is False:
                report.fault = f"the check does not notice a mutant: {mutant.fault}"
                return
            report.equal.append(mutant.fault)
    if len(report.rejected) < MUTANTS:
        report.fault = f"only {len(report.rejected)} mutants could be tried"


def _first_fault(law: Law, cases: list[_Case]) -> bool | None:
    """False if any case tells the sides apart; None if none could be built."""
    built: bool | None = None
    for case in cases:
        verdict = _compare(law, case, 1)
        if verdict is False:
            return False
        built = built or verdict
    return built


# laws of scalar functions


def _check_scalar(law: ScalarLaw, count: int, report: RuleReport) -> None:
    places = [scalar_instance(law, number) for number in range(count)]
    faulty = _first_difference(law, law.target, places)
    report.instances = count
    if faulty is not None:
        place = next(place for place in places if place[1] == faulty)
        source, target = (with_side(law, side, place) for side in (law.source, law.target))
        report.fault = _told(source, target, {}, faulty)
    elif not _algebra(law) >= REASSOCIATES and not all(_rounds_alike(law, at) for at in places):
        report.fault = UNTAGGED
    for place in places if report.ok else ():
        report.matched += _applies(law, place, report)
    if report.ok and not report.matched:
        report.fault = "its matcher does not find it anywhere"
    if not report.ok:
        return
    more = [scalar_instance(law, number) for number in range(count, 3 * count)]
    for target, fault in scalar_mutants(law):
        if _first_difference(law, target, places) is not None:
            report.rejected.append(fault)
        elif _first_difference(law, target, more) is not None:
            report.fault = f"the check does not notice a mutant: {fault}"
        else:
            report.equal.append(fault)
    if report.ok and len(report.rejected) < MUTANTS:
        report.fault = f"only {len(report.rejected)} mutants could be tried"


def _rounds_alike(law: ScalarLaw, place: Sides) -> bool:
    """Whether both sides have the same bits in the types of the program."""
    flows = [with_side(law, side, place) for side in (law.source, law.target)]
    before, after = (float_values(flow, {}, place[1])[1] for flow in flows)
    return all(map(_same_bits, before, after))


def _first_difference(law: ScalarLaw, target: Formula, places: list[Sides]) -> int | None:
    """The first instance on which a right side has another value than the left one."""
    for place in places:
        source, changed = (with_side(law, side, place) for side in (law.source, target))
        for prime in PRIMES:
            values = [field_values(flow, {}, place[1], prime) for flow in (source, changed)]
            if not _equal(*values):
                return place[1]
        if target == law.target:
            expected, _ = float_values(source, {}, place[1])
            found, own = float_values(changed, {}, place[1])
            if not same_within_rounding(expected, found, own):
                return place[1]
    return None


def _applies(law: ScalarLaw, place: Sides, report: RuleReport) -> bool:
    """Whether the matcher finds the law; what it makes must have the same value."""
    flow, found = with_side(law, law.source, place), False
    before = field_values(flow, {}, place[1], PRIMES[0])
    for match in ScalarRule(law).matches(flow, flow.results[0]):
        changed = flow.copy()
        found |= bool(match.apply(changed))
        if not _equal(before, field_values(changed, {}, place[1], PRIMES[0])):
            report.fault = f"applied on instance {place[1]} it gives another value"
    return found
