"""`hectorite rules`: the rewrite rules, their check, their PDL text, and finding new ones."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from hectorite.frontend.rules.check import check_rule
from hectorite.frontend.rules.mutants import mutants
from hectorite.frontend.rules.scalar_check import scalar_mutants
from hectorite.lowering.rules.catalogue import law_of, rules
from hectorite.lowering.rules.pdl import pdl_of
from hectorite.lowering.rules.scalar import ScalarLaw
from hectorite.lowering.rules.term import TAGS, Law


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked for; 1 if a rule fails its check."""
    match arguments.task:
        case "list":
            _list(arguments.json)
        case "show":
            _show(law_of(arguments.rule))
        case "pdl":
            print(pdl_of(law_of(arguments.rule)), end="")
        case "synth":
            return _synthesise(arguments)
        case _:
            return _check(arguments)
    return 0


def _list(as_json: bool) -> None:
    laws = [rule.law for rule in rules()]
    if as_json:
        print(json.dumps([_row(law) for law in laws], indent=2))
        return
    wide = max(len(law.name) for law in laws)
    family = max(len(law.family) for law in laws)
    for law in laws:
        print(f"{law.name:{wide}}  {law.family:{family}}  {law.doc}")


def _row(law: Law | ScalarLaw) -> dict[str, object]:
    return {
        "name": law.name,
        "family": law.family,
        "law": str(law),
        "algebra": sorted(law.algebra),
        "doc": law.doc,
    }


def _show(law: Law | ScalarLaw) -> None:
    print(f"{law.name}, of the family {law.family}")
    print(f"  {law.doc}")
    if isinstance(law, ScalarLaw):
        print(f"  law    {law.text}")
        print(f"  where  {' and '.join(sorted(law.fixed))} fixed")
    else:
        print(f"  from   {law.source}")
        print(f"  to     {law.target}")
        for condition in law.where:
            print(f"  where  {condition}")
    for tag in sorted(law.algebra):
        print(f"  needs  {tag}: {TAGS[tag]}")
    if isinstance(law, ScalarLaw):
        for _, fault in scalar_mutants(law):
            print(f"  mutant {fault}")
        return
    for mutant in mutants(law):
        print(f"  mutant {mutant.law.target}   {mutant.fault}")


def _check(arguments: argparse.Namespace) -> int:
    laws = [law_of(arguments.rule)] if arguments.rule else [rule.law for rule in rules()]
    reports = [check_rule(law) for law in laws]
    if arguments.json:
        print(json.dumps([asdict(report) for report in reports], indent=2))
    for report in [] if arguments.json else reports:
        told = (
            f"{report.instances} instances, found on {report.matched}, "
            f"{len(report.rejected)} mutants rejected, {len(report.equal)} equal to the rule"
        )
        print(f"{report.rule}: {f'FAILS, {report.fault}' if report.fault else told}")
    return 0 if all(report.ok for report in reports) else 1


def _synthesise(arguments: argparse.Namespace) -> int:
    from hectorite.frontend.rules.synthesis import synthesise

    found = synthesise(arguments.ops.split(","), arguments.max_ops)
    if arguments.json:
        rows = [{"law": str(c.law), "code": c.code, "check": c.report.fault} for c in found.laws]
        print(json.dumps({"terms": found.terms, "pairs": found.pairs, "laws": rows}, indent=2))
        return 0
    print(f"# {found.terms} terms, {found.pairs} equal pairs, {len(found.laws)} laws admitted")
    for candidate in found.laws:
        print(f"\n# {candidate.law.source}  ->  {candidate.law.target}")
        print(candidate.code)
    return 0
