"""Syntax trees to a checked program: what every name, index and type means.

Enters: the programs of one compilation, as parsed. Leaves: a `CheckedProgram`, or a
`HectoriteError` with every independent error. The order: declarations (`declarations.py`);
then for each function (`function.py`) its index expressions (`index.py`), what they
range over (`infer.py`), types (`values.py`, `store.py`) and the rules of each statement
(`statement.py`); last the schedules of functions (`schedule.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from hectorite.frontend.check.declarations import declare
from hectorite.frontend.check.function import check_function
from hectorite.frontend.check.schedule import check_schedules
from hectorite.frontend.check.scope import Place, Scope
from hectorite.frontend.check.typed import CheckedCall, CheckedFunction, CheckedProgram
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Report

MAX_STATEMENTS = 10_000
"""How many statements a function may have once the functions it calls are put in."""

MAX_CALL_DEPTH = 100


def check_program(
    program: syntax.Program, imports: Sequence[syntax.Program] = ()
) -> CheckedProgram:
    """Check a program together with those it imports. Raises `HectoriteError`."""
    report = Report()
    scope = declare([*imports, program], report)
    functions: dict[str, CheckedFunction] = {}
    for name, signature in scope.signatures.items():
        checked = check_function(signature, scope)
        if checked is not None:
            functions[name] = checked
    check_schedules([*imports, program], functions, report)
    _reject_recursion(scope)
    if not report.has_errors:
        _reject_explosion(functions, scope)
    report.raise_errors()
    places = {
        node.name.text: (tree.source, node.name.span)
        for tree in (*imports, program)
        for node in tree.declarations
        if isinstance(node, syntax.SetDeclaration | syntax.DimDecl)
    }
    return CheckedProgram(scope.schema, places, functions, report.sorted())


def _called(scope: Scope, name: str) -> list[str]:
    """The functions that a function calls on whole tensors."""
    calls = (
        node.value.callee.text
        for node in scope.signatures[name].declaration.body
        if isinstance(node, syntax.Assign) and isinstance(node.value, syntax.Call)
    )
    return [callee for callee in calls if callee in scope.signatures]


def _reject_recursion(scope: Scope) -> None:
    """A call is put in where it stands, so no function may reach itself."""
    for name, signature in scope.signatures.items():
        reached: set[str] = set()
        pending = _called(scope, name)
        while pending:
            callee = pending.pop()
            if callee not in reached:
                reached.add(callee)
                pending += _called(scope, callee)
        if name in reached:
            span = signature.declaration.name.span
            place = Place(signature.source, scope.report)
            place.error(f"`{name}` calls itself", span, "no recursion")


def _reject_explosion(functions: dict[str, CheckedFunction], scope: Scope) -> None:
    """Calls that double at each level would never end; nor may they nest without bound."""
    grown: dict[str, tuple[int, int]] = {}
    pending = list(functions)
    while pending:
        name = pending[-1]
        calls = [s.function for s in functions[name].statements if isinstance(s, CheckedCall)]
        missing = [callee for callee in calls if callee not in grown]
        if missing:
            pending += missing
            continue
        pending.pop()
        if name in grown:
            continue
        statements = len(functions[name].statements) + sum(grown[callee][0] for callee in calls)
        depth = 1 + max((grown[callee][1] for callee in calls), default=0)
        grown[name] = statements, depth
        if statements > MAX_STATEMENTS or depth > MAX_CALL_DEPTH:
            limit = (
                f"has more than {MAX_STATEMENTS} statements with all it calls"
                if statements > MAX_STATEMENTS
                else f"calls through more than {MAX_CALL_DEPTH} functions"
            )
            signature = scope.signatures[name]
            span = signature.declaration.name.span
            Place(signature.source, scope.report).error(f"`{name}` {limit}", span)
            return
