"""The body of a function: names, then spaces, then types, statement by statement.

Enters: the `Signature` of a function. Leaves: a `CheckedFunction`, or None after errors. A local
has the shape that inference finds over the whole function and the type of its first expression; a
returned one has what its result declares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hectorite.frontend.check.call import Call, CallChecker
from hectorite.frontend.check.collect import collect_indices
from hectorite.frontend.check.function_state import (
    FunctionState,
    Local,
    count,
    same_type,
    type_text,
)
from hectorite.frontend.check.index import IndexReader
from hectorite.frontend.check.infer import Frame, Site
from hectorite.frontend.check.scope import Scope, Signature
from hectorite.frontend.check.statement import (
    Piece,
    check_assignment,
    check_pieces,
    warn_repeated_terms,
)
from hectorite.frontend.check.store import stored_value
from hectorite.frontend.check.typed import (
    CheckedCall,
    CheckedFunction,
    CheckedStatement,
    Dim,
    TensorSpec,
)
from hectorite.frontend.check.values import Indices, ValueChecker
from hectorite.frontend.parsing import syntax
from hectorite.ir.index import IndexExpr

Keys = dict[syntax.Node, tuple[IndexExpr, ...]]


@dataclass(eq=False)
class Work:
    """One statement while the function is checked. `access` is None after an error on the left."""

    node: syntax.Assign
    frame: Frame
    access: tuple[IndexExpr, ...] | None
    indices: Indices
    keys: Keys
    broken: bool
    """Whether an index expression had an error."""

    @property
    def target(self) -> syntax.Target:
        return self.node.targets[0]


def check_function(signature: Signature, scope: Scope) -> CheckedFunction | None:
    """Check one function; errors go to the report of the scope."""
    return FunctionChecker(signature, scope).check()


class FunctionChecker:
    """Checks one function; `check` runs once."""

    def __init__(self, signature: Signature, scope: Scope):
        self.signature = signature
        self.scope = scope
        self.state = FunctionState(signature, scope)
        self.place = self.state.place
        self.calls = CallChecker(self.state)
        self.piecewise: dict[str, set[int]] = {}
        """Dimensions of tensors that `=` writes in affine pieces."""

    def check(self) -> CheckedFunction | None:
        """The checked function, or None after errors."""
        errors = self.scope.report.error_count
        statements, end = self._body()
        if any(isinstance(node, syntax.Scan) for node in self.signature.declaration.body):
            return None  # what the loop would write is not missed a second time
        returned = end.names if end else ()
        self._declare(statements, returned)
        work = [self._open(node) for node in statements]
        self._infer(work)
        checked = [self._close(item, node) for item, node in zip(work, statements, strict=True)]
        self._check_returned(returned)
        if self.scope.report.error_count == errors:
            self._check_all_pieces(work)
            self._check_shapes(work)
        if self.scope.report.error_count > errors:
            return None
        assert end is not None, "a function without `return` is an error"
        tensors = {name: self._spec(local) for name, local in self.state.tensors.items()}
        return CheckedFunction(
            self.signature.name,
            self.signature.declaration.span,
            self.place.source,
            self.signature.parameters,
            self.signature.results,
            tensors,
            tuple(item for item in checked if item is not None),
            tuple(name.text for name in returned),
            end.span,
            tuple(name for name in self.state.sizes if not self._is_global(name)),
        )

    # Names

    def _body(self) -> tuple[list[syntax.Assign], syntax.Return | None]:
        """The statements before `return`, and that."""
        statements: list[syntax.Assign] = []
        returned: syntax.Return | None = None
        for node in self.signature.declaration.body:
            if returned is not None:
                self.place.error("nothing runs after `return`", node.span)
                break
            if isinstance(node, syntax.Scan):
                self.place.error(
                    "`scan` is not implemented yet",
                    node.variable.span,
                    "statements `T[...] op expression`, calls and `return`",
                )
            elif isinstance(node, syntax.Return):
                returned = node
            else:
                statements.append(node)
        name = self.signature.declaration.name
        if returned is None:
            self.place.error(f"`{name.text}` returns nothing", name.span, "a `return` at the end")
            return statements, None
        declared, given = len(self.signature.results), len(returned.names)
        if declared != given:
            results = count(declared, "result")
            message = f"`{name.text}` declares {results}, but `return` gives {given}"
            self.place.error(message, returned.span)
        return statements, returned

    def _results(self, returned: tuple[syntax.Name, ...]) -> list[tuple[TensorSpec, syntax.Name]]:
        return list(zip(self.signature.results, returned, strict=False))

    def _declare(self, statements: list[syntax.Assign], returned: tuple[syntax.Name, ...]) -> None:
        """Make a `Local` for every tensor of the function."""
        fresh, tensors = self.state.spaces.fresh, self.state.tensors
        for parameter, spec in zip(
            self.signature.declaration.parameters, self.signature.parameters, strict=True
        ):
            self.state.reject_function_name(parameter.name)
            shape = self.state.declared_shape(spec)
            tensors[spec.name] = Local(spec.name, shape, spec.element, spec, True, True)
        for spec, name in self._results(returned):
            if name.text not in tensors:
                shape = self.state.declared_shape(spec)
                tensors[name.text] = Local(name.text, shape, spec.element, spec)
        for node in statements:
            call = self.calls.signature_of(node)
            for position, target in enumerate(node.targets):
                name = target.tensor
                self.state.reject_function_name(name)
                if name.text not in tensors:
                    rank = len(target.indices or ())
                    if call is not None and position < len(call.results):
                        rank = len(call.results[position].dims)
                    tensors[name.text] = Local(name.text, tuple(fresh() for _ in range(rank)))

    def _is_global(self, size: str) -> bool:
        return size in self.scope.schema.sets or size in self.scope.schema.sizes

    # Spaces

    def _open(self, node: syntax.Assign) -> Work | Call | None:
        """Read the index expressions of a statement."""
        signature = self.calls.signature_of(node)
        if signature is not None:
            return self.calls.open(node, signature)
        target = node.targets[0]
        if len(node.targets) > 1:
            message = "several targets need a function that returns several tensors"
            self.place.error(message, target.span, "`a, b = f(...)`")
            return None
        reader = IndexReader(self.place, self.state.sizes, self.state.is_scalar)
        access = [reader.read(expr) for expr in target.indices or ()]
        found = collect_indices(node.value, reader, self.state.is_tensor)
        for ref in found.bare:
            if ref.name in reader.variables:
                found.positions[ref] = IndexExpr.of(ref.name)
            else:
                self._unknown_name(ref)
        known = tuple(index for index in access if index is not None)
        left = known if len(known) == len(access) else None
        indices = Indices(found.accesses, found.positions, {})
        frame = Frame(self.place, reader.variables, failed=reader.failed)
        return Work(node, frame, left, indices, found.keys, reader.failed)

    def _unknown_name(self, ref: syntax.NameRef) -> None:
        if self.state.is_size(ref.name):
            hint = f"write size({ref.name})"
            self.place.error(f"`{ref.name}` is a size, not a value", ref.span, hint=hint)
            return
        name = syntax.Name(ref.span, ref.name)
        expected = "a tensor, a scalar or an index variable of the statement"
        self.place.unknown("name", name, list(self.state.tensors), expected)

    def _infer(self, work: list[Work | Call | None]) -> None:
        """Find what every variable ranges over and the shape of every local."""
        statements = [item for item in work if isinstance(item, Work)]
        calls = [item for item in work if isinstance(item, Call)]
        for item in statements:
            self.state.inference.frame(item.frame)
            if item.node.operator == "=":
                pieces = (k for k, index in enumerate(item.access or ()) if index.path is None)
                for dimension in pieces:
                    self.piecewise.setdefault(item.target.tensor.text, set()).add(dimension)
        for item in work:
            if isinstance(item, Work):
                self._add_sites(item)
            elif item is not None:
                self.calls.join(item)
        self.state.inference.solve()
        self.calls.settle_sizes(calls)
        self.state.inference.solve()
        self.state.inference.report_open()

    def _add_sites(self, work: Work) -> None:
        target = work.target
        if work.access is not None:
            pieces = self.piecewise.get(target.tensor.text, set[int]())
            skipped = pieces if work.node.operator == "=" else set[int]()
            self._positions(work, target.tensor, target.indices or (), work.access, skipped)
        for node, access in work.indices.accesses.items():
            assert isinstance(node, syntax.Access)
            if self.state.is_tensor(node.tensor.text):
                self._positions(work, node.tensor, node.indices, access, set())
            else:
                known = list(self.state.tensors)
                expected = "a parameter, or a tensor that an earlier statement wrote"
                self.place.unknown("tensor", node.tensor, known, expected)

    def _positions(
        self,
        work: Work,
        tensor: syntax.Name,
        exprs: tuple[syntax.Expr, ...],
        access: tuple[IndexExpr, ...],
        skipped: set[int],
    ) -> None:
        shape = self.state.tensors[tensor.text].shape
        if len(access) != len(shape):
            self.state.wrong_rank(tensor, len(access))
            work.frame.failed = True
            return
        for k, (index, expr) in enumerate(zip(access, exprs, strict=True)):
            if index.path is not None and k not in skipped:
                site = Site(work.frame, index.path, expr.span, tensor.text, k, shape[k])
                self.state.inference.site(site)

    # Types

    def _close(
        self, item: Work | Call | None, node: syntax.Assign
    ) -> CheckedStatement | CheckedCall | None:
        """Type a statement, in program order, so that every read knows the type it reads."""
        if isinstance(item, Call):
            return self.calls.close(item)
        if item is None:  # what it would have written is not missed a second time
            for target in node.targets:
                self.state.tensors[target.tensor.text].written = True
            return None
        local = self.state.tensors[item.target.tensor.text]
        self._find_key_dims(item)
        checker = ValueChecker(self.state, item.indices, item.node.operator == "=")
        value = checker.value(item.node.value)
        good = self._check_target(item, local)
        stored = None
        if value is not None and not local.is_parameter:
            stored = stored_value(value, item.node, local, self.place)
        continues = local.written and not (
            item.node.operator == "=" and local.name not in self.piecewise
        )
        local.written = True
        if stored is None or not good or item.access is None or item.frame.failed:
            return None
        names = list(item.frame.variables)
        if item.node.operator != "=":
            warn_repeated_terms(item.node, item.access, names, item.indices, self.place)
        return CheckedStatement(
            item.node.span,
            local.name,
            item.node.operator,
            item.access,
            tuple(self._known_dims(item.frame).items()),
            stored,
            continues,
        )

    def _find_key_dims(self, item: Work) -> None:
        """What follows `by` ranges over: the targets of its paths."""
        for node, access in item.keys.items():
            dims: list[Dim] = []
            assert isinstance(node, syntax.Grouped)
            for index, expr in zip(access, node.keys, strict=True):
                if index.path is None:
                    message = "a group is not named by a computed index"
                    expected = "index variables and paths after `by`"
                    self.place.error(message, expr.span, expected)
                    continue
                start = self.state.spaces.known(item.frame.nodes[index.path.variable])
                dim = self.state.target_of(start, index.path.fields)
                if dim is not None:
                    dims.append(dim)
            if len(dims) == len(access):
                item.indices.keys[node] = (access, tuple(dims))

    def _known_dims(self, frame: Frame) -> dict[str, Dim]:
        return {name: self.state.dim(node) for name, node in frame.nodes.items()}

    def _check_target(self, item: Work, local: Local) -> bool:
        if local.is_parameter:
            message = f"`{local.name}` is a parameter, which cannot be written"
            self.place.error(message, item.target.span, "a local", "write to a new name")
            return False
        if item.broken or item.access is None or len(item.access) != len(local.shape):
            return False
        if item.node.operator == "mean=" and local.written:
            self.place.error(
                f"`mean=` starts a tensor, but `{local.name}` is written already",
                item.node.operator_span,
                hint="write the mean to a new name",
            )
            return False
        if item.node.operator != "=":
            return True
        pieces = self.piecewise.get(local.name, set[int]())
        names = list(item.frame.variables)
        return check_assignment(item.node, item.access, names, pieces, self.place)

    # What was found

    def _check_all_pieces(self, work: list[Work | Call | None]) -> None:
        for name in self.piecewise:
            shape = [self.state.spaces.known(node) for node in self.state.tensors[name].shape]
            pieces = [
                Piece(item.node, item.access, self._known_dims(item.frame))
                for item in work
                if isinstance(item, Work) and item.access is not None
                if item.target.tensor.text == name and item.node.operator == "="
            ]
            check_pieces(name, pieces, shape, self.scope, self.place)

    def _check_shapes(self, work: list[Work | Call | None]) -> None:
        for target in (target for item in work if item for target in item.node.targets):
            local = self.state.tensors[target.tensor.text]
            for k, node in enumerate(local.shape):
                if self.state.spaces.known(node) is None:
                    self.place.error(
                        f"nothing tells the size of dimension {k + 1} of `{local.name}`",
                        target.span,
                        "a plain index variable in that position, or a declared result",
                    )

    def _check_returned(self, returned: tuple[syntax.Name, ...]) -> None:
        for spec, name in self._results(returned):
            local = self.state.tensors[name.text]
            have = local.declared
            if not local.written:
                known = [local.name for local in self.state.tensors.values() if local.written]
                self.place.unknown("tensor", name, known, "a tensor that a statement wrote")
            elif local.written and have and not same_type(have, spec):
                self.place.error(
                    f"`{name.text}` is {type_text(have)}, but the result is {type_text(spec)}",
                    name.span,
                    "a tensor of the declared type",
                )

    def _spec(self, local: Local) -> TensorSpec:
        if local.declared is not None:
            return replace(local.declared, name=local.name)
        assert local.element is not None, "a local without a type is an error"
        dims = tuple(self.state.dim(node) for node in local.shape)
        return TensorSpec(local.name, local.element, dims)
