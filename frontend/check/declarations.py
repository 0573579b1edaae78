"""Declarations: sets, sizes, scalar functions and the heads of functions.

Enters: the programs of one compilation, imports first. Leaves: a `Scope`. Sets and sizes share one
namespace, functions of both kinds another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, TypeVar

from hectorite.frontend.check.declared_types import check_orders, set_format, tensor_spec
from hectorite.frontend.check.function_state import count
from hectorite.frontend.check.index import IndexReader, extent_dim
from hectorite.frontend.check.intrinsics import COMPARISONS, is_builtin_call
from hectorite.frontend.check.scope import MAX_SIZE, UNKNOWN, Place, Scope, Signature
from hectorite.frontend.check.typed import TensorSpec
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Report, Source
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Condition, Derivation, SetDecl

T = TypeVar("T", bound=syntax.Node)


def declare(programs: Sequence[syntax.Program], report: Report) -> Scope:
    """Everything the programs declare; errors go to `report`."""
    scope = Scope(report)
    _reject_duplicates(programs, report)
    for source, node in _each(programs, syntax.DimDecl):
        _declare_dim(node, scope, Place(source, report))
    sets = list(_each(programs, syntax.SetDeclaration))
    for _, node in sets:  # so that sets may name each other in any order
        scope.schema.sets[node.name.text] = SetDecl(node.name.text)
    for source, node in sets:
        scope.schema.sets[node.name.text] = _declare_set(node, scope, Place(source, report))
    for source, node in sets:
        _derive_set(node, scope, Place(source, report))
    for source, node in sets:
        if node.formats:
            check_orders(node.formats[0], node.name.text, scope.schema, Place(source, report))
    _order_derivations(sets, scope)
    for source, node in _each(programs, syntax.ScalarFunction):
        scope.scalar_functions[node.name.text] = (node, source)
    for source, node in _each(programs, syntax.ScalarFunction):
        _check_scalar_function(node, scope, Place(source, report))
    for source, node in _each(programs, syntax.Function):
        scope.signatures[node.name.text] = _signature(node, scope, source)
    return scope


def _each(
    programs: Sequence[syntax.Program], kind: type[T] | UnionType
) -> Iterator[tuple[Source, Any]]:
    for program in programs:
        for node in program.declarations:
            if isinstance(node, kind):
                yield program.source, node


def _reject_duplicates(programs: Sequence[syntax.Program], report: Report) -> None:
    """Sets and sizes share a namespace, functions of both kinds another."""
    spaces = (
        syntax.DimDecl | syntax.SetDeclaration,
        syntax.ScalarFunction | syntax.Function,
    )
    for kinds in spaces:
        seen: dict[str, tuple[Source, syntax.Name]] = {}
        for source, node in _each(programs, kinds):
            name, place = node.name, Place(source, report)
            if name.text in seen:
                other, first = seen[name.text]
                where = f"{other.name}:{first.span.line}"
                place.error(f"`{name.text}` is declared already, at {where}", name.span)
            seen.setdefault(name.text, (source, name))
    for source, node in _each(programs, spaces[1]):
        if is_builtin_call(node.name.text):
            message = f"`{node.name.text}` is a function of the language"
            Place(source, report).error(message, node.name.span)


def _declare_dim(node: syntax.DimDecl, scope: Scope, place: Place) -> None:
    if node.value is not None and node.value > MAX_SIZE:
        place.error("this size is too large", node.span, f"at most {MAX_SIZE}")
    scope.schema.sizes[node.name.text] = node.value


def _declare_set(node: syntax.SetDeclaration, scope: Scope, place: Place) -> SetDecl:
    """The set without its derivation."""
    fields: dict[str, str] = {}
    for item in node.fields:
        if item.name.text in fields:
            place.error(f"field `{item.name.text}` is declared twice", item.name.span)
        if item.target.text not in scope.schema.sets:
            known = list(scope.schema.sets)
            place.unknown("set", item.target, known, "a declared set, into which the field maps")
        else:
            fields[item.name.text] = item.target.text
    for extra in node.formats[1:]:
        place.error("a set has one format", extra.span)
    format = set_format(node.formats[0], list(fields), place) if node.formats else None
    return SetDecl(node.name.text, tuple(fields.items()), None, format)


def _derive_set(node: syntax.SetDeclaration, scope: Scope, place: Place) -> None:
    for extra in node.derivations[1:]:
        place.error("a set is derived once", extra.span)
    if not node.derivations:
        return
    tree, decl = node.derivations[0], scope.schema.sets[node.name.text]
    for keyword in tree.keywords:
        place.error("`distinct` takes keys by position", keyword.span)
    sizes = [*scope.schema.sets, *scope.schema.sizes]
    reader = IndexReader(place, sizes, lambda name: False)
    binders = _binders(tree, scope, place)
    found: list[Condition] = []
    keys = [_key(key, reader, binders, found, scope, place) for key in tree.keys]
    conditions = found + list(_conditions(tree.condition, reader, place)) if tree.condition else []
    if not _bound(reader, binders, scope, place) or None in keys:
        return
    if len(keys) != len(node.fields):
        place.error(
            f"`{decl.name}` has {count(len(node.fields), 'field')}, but `distinct` has "
            f"{count(len(keys), 'key')}",
            tree.span,
            "one key for each field, in order",
        )
        return
    known = [key for key in keys if key is not None]
    for item, key, expr in zip(node.fields, known, tree.keys, strict=True):
        _check_key(item, key, expr, binders, scope, place)
    derivation = Derivation(tuple(known), tuple(binders.items()), tuple(conditions))
    scope.schema.sets[decl.name] = SetDecl(decl.name, decl.fields, derivation, decl.format)


def _key(
    expr: syntax.Expr,
    reader: IndexReader,
    binders: dict[str, str],
    found: list[Condition],
    scope: Scope,
    place: Place,
) -> IndexExpr | None:
    """A key. `c(i, j)` is the element of the set `c` whose fields are i and j: a binder of its own,
    which is added to `binders`, with equalities, which are added to `found`."""
    if not isinstance(expr, syntax.Call) or not scope.is_set(expr.callee.text):
        return reader.read(expr)
    decl = scope.schema.sets[expr.callee.text]
    for keyword in expr.keywords:
        place.error(f"fields of `{decl.name}` are given by position", keyword.span)
    if len(expr.arguments) != len(decl.fields) or not decl.fields:
        place.error(
            f"`{decl.name}` has {count(len(decl.fields), 'field')}",
            expr.span,
            "an index for each field, in order" if decl.fields else "a set with fields",
        )
        return None
    number, binder = 2, f"{decl.name}_found"
    while binder in binders:
        number, binder = number + 1, f"{decl.name}_found_{number}"
    binders[binder] = decl.name
    for (name, _), argument in zip(decl.fields, expr.arguments, strict=True):
        index = reader.read(argument)
        if index is None:
            return None
        found.append(Condition(IndexExpr.of(binder, name), "==", index))
    return IndexExpr.of(binder)


def _binders(tree: syntax.Derivation, scope: Scope, place: Place) -> dict[str, str]:
    binders: dict[str, str] = {}
    for binder in tree.binders:
        name, dim = binder.name.text, extent_dim(binder.extent)
        if name in binders:
            place.error(f"`{name}` is bound twice", binder.name.span)
        if not scope.is_set(dim):
            target = syntax.Name(binder.extent.span, str(dim))
            place.unknown("set", target, list(scope.schema.sets), "a set to go through")
        binders[name] = str(dim)
    return binders


def _bound(reader: IndexReader, binders: dict[str, str], scope: Scope, place: Place) -> bool:
    """Whether every variable is bound and every path exists."""
    good = True
    for variable in reader.variables.values():
        start = binders.get(variable.name)
        if start is None:
            name = syntax.Name(variable.span, variable.name)
            place.unknown("variable", name, list(binders), "a variable bound after `for`")
            good = False
            continue
        for chain, span in variable.paths.items():
            try:
                scope.schema.follow(start, chain)
            except KeyError:
                good = False
                if start in scope.schema.sets:
                    fields = ", ".join(scope.schema.fields_of(start))
                    expected = f"one of {fields}" if fields else "no field"
                    place.error(f"set `{start}` has no such field", span, expected)
    return good


def _conditions(expr: syntax.Expr, reader: IndexReader, place: Place) -> Iterator[Condition]:
    """The comparisons that `and` joins."""
    pending = [expr]
    while pending:
        node = pending.pop()
        if isinstance(node, syntax.Binary) and node.operator == "and":
            pending += [node.right, node.left]
        elif isinstance(node, syntax.Binary) and node.operator in COMPARISONS:
            left, right = reader.read(node.left), reader.read(node.right)
            if left is not None and right is not None:
                yield Condition(left, node.operator, right)
        else:
            place.error(
                "a set is derived where comparisons hold",
                node.span,
                "comparisons of index expressions, joined by `and`",
            )


def _check_key(
    item: syntax.FieldDecl,
    key: IndexExpr,
    expr: syntax.Expr,
    binders: dict[str, str],
    scope: Scope,
    place: Place,
) -> None:
    if key.path is None:
        return  # an affine key is checked against its set when data is bound
    found = scope.schema.follow(binders[key.path.variable], key.path.fields)
    if found != item.target.text and item.target.text in scope.schema.sets:
        place.error(
            f"field `{item.name.text}` maps into `{item.target.text}`, but `{key}` is in `{found}`",
            expr.span,
            f"a key in `{item.target.text}`",
        )


def _order_derivations(sets: Sequence[tuple[Source, syntax.SetDeclaration]], scope: Scope) -> None:
    """Put every derived set after the sets it is made from; a cycle is an error."""
    declared, ordered = scope.schema.sets, dict[str, SetDecl]()
    pending = dict(declared)
    while pending:
        ready = [name for name, decl in pending.items() if not _needs(decl) & set(pending)]
        if not ready:
            break
        for name in ready:
            ordered[name] = pending.pop(name)
    for source, node in sets:
        if node.name.text in pending:
            place = Place(source, scope.report)
            place.error(f"set `{node.name.text}` is derived from itself", node.name.span)
    declared.clear()
    declared.update(ordered | pending)


def _needs(decl: SetDecl) -> set[str]:
    return {name for _, name in decl.derivation.binders} if decl.derivation else set()


def _check_scalar_function(node: syntax.ScalarFunction, scope: Scope, place: Place) -> None:
    """Names in a `fn` are its parameters, and calls reach only other scalar functions."""
    names = [parameter.text for parameter in node.parameters]
    for position, parameter in enumerate(node.parameters):
        if parameter.text in names[:position]:
            place.error(f"parameter `{parameter.text}` stands twice", parameter.span)
    sizes = _size_arguments(node.body)
    for inner in syntax.walk(node.body):
        if isinstance(inner, syntax.NameRef) and inner not in sizes and inner.name not in names:
            name = syntax.Name(inner.span, inner.name)
            place.unknown("name", name, names, "a parameter of the `fn`")
        elif isinstance(inner, syntax.Access | syntax.Path | syntax.Binder | syntax.Grouped):
            place.error("a `fn` computes with scalars only", inner.span, "its parameters")
    if node.name.text in _reached(node, scope):
        place.error(f"`{node.name.text}` calls itself", node.name.span, "no recursion")


def _size_arguments(body: syntax.Expr) -> set[syntax.Node]:
    """What stands in `size(...)` or names a type: not values."""
    found: set[syntax.Node] = set()
    for node in syntax.walk(body):
        if isinstance(node, syntax.Call) and node.callee.text == "size":
            found.update(node.arguments)
        if isinstance(node, syntax.Call) and node.callee.text == "quantize":
            found.update(node.arguments[3:])
    return found


def _reached(node: syntax.ScalarFunction, scope: Scope) -> set[str]:
    """Names of the scalar functions that a `fn` calls, directly or not."""
    found: set[str] = set()
    pending = [node]
    while pending:
        for inner in syntax.walk(pending.pop().body):
            name = inner.callee.text if isinstance(inner, syntax.Call) else ""
            if name in scope.scalar_functions and name not in found:
                found.add(name)
                pending.append(scope.scalar_functions[name][0])
    return found


def _signature(node: syntax.Function, scope: Scope, source: Source) -> Signature:
    place = Place(source, scope.report)
    parameters: list[TensorSpec] = []
    for parameter in node.parameters:
        name = parameter.name.text
        if any(spec.name == name for spec in parameters):
            place.error(f"parameter `{name}` stands twice", parameter.name.span)
        _reject_function_name(parameter.name, scope, place)
        parameters.append(tensor_spec(name, parameter.type, scope, place))
    results = tuple(tensor_spec("", type, scope, place) for type in node.results)
    dims = [dim for spec in (*parameters, *results) for dim in spec.dims]
    known = {UNKNOWN, *scope.schema.sets, *scope.schema.sizes}
    names = (dim for dim in dims if isinstance(dim, str) and dim not in known)
    return Signature(node, source, tuple(parameters), results, tuple(dict.fromkeys(names)))


def _reject_function_name(name: syntax.Name, scope: Scope, place: Place) -> None:
    if name.text in scope.scalar_functions:
        place.error(f"`{name.text}` is a function", name.span, "a name of its own for the tensor")
