"""Calls on whole tensors: `a, b = f(x, y=z)`.

Enters: an assignment whose value calls a `def`. Leaves: a `CheckedCall`. The size variables of the
callee are unknowns of the caller, joined with the shapes of the arguments and of the targets; one
that only a result names and nothing settles becomes a size of the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hectorite.frontend.check.function_state import FunctionState, count, type_text
from hectorite.frontend.check.infer import describe, near_declared, one_name
from hectorite.frontend.check.scope import UNKNOWN, Signature
from hectorite.frontend.check.typed import CheckedCall, Dim, Scalar, TensorSpec
from hectorite.frontend.check.values import Indices, ValueChecker
from hectorite.frontend.check.weak import Weak
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Span, did_you_mean
from hectorite.ir.element import ElementType


@dataclass(eq=False)
class Call:
    """A call while its function is checked. `sizes` has an unknown for each size variable of the
    callee, `matched` the parameters with their arguments."""

    node: syntax.Assign
    signature: Signature
    sizes: dict[str, int]
    matched: list[tuple[TensorSpec, syntax.Expr]] = field(
        default_factory=list[tuple[TensorSpec, syntax.Expr]]
    )


class CallChecker:
    """Checks the calls of one function."""

    def __init__(self, state: FunctionState):
        self.state = state
        self.place = state.place

    def signature_of(self, node: syntax.Assign) -> Signature | None:
        """The function that an assignment calls on whole tensors, if it does."""
        value = node.value
        if isinstance(value, syntax.Call) and value.inner is None:
            return self.state.scope.signatures.get(value.callee.text)
        return None

    def open(self, node: syntax.Assign, signature: Signature) -> Call | None:
        """Match arguments and targets with what the callee declares."""
        if not self._check_targets(node, signature):
            return None
        sizes = {name: self.state.spaces.fresh() for name in signature.sizes}
        call = Call(node, signature, sizes)
        return call if self._match(call) else None

    def _check_targets(self, node: syntax.Assign, signature: Signature) -> bool:
        before = len(self.place.report.diagnostics)
        name = signature.name
        if node.operator != "=":
            self.place.error(
                f"the call of `{name}` is assigned with `=`", node.operator_span, "`=`"
            )
        for target in node.targets:
            if target.indices is not None:
                hint = f"write {target.tensor.text} = {name}(...)"
                message = f"`{name}` gives whole tensors"
                self.place.error(message, target.span, "a name without brackets", hint)
            if self.state.tensors[target.tensor.text].is_parameter:
                message = f"`{target.tensor.text}` is a parameter, which cannot be written"
                self.place.error(message, target.span, "a local", "write to a new name")
        gives, takes = len(signature.results), len(node.targets)
        if gives != takes:
            message = f"`{name}` gives {count(gives, 'tensor')}, not {takes}"
            self.place.error(message, node.targets[0].span, count(gives, "name"))
        return len(self.place.report.diagnostics) == before

    def _match(self, call: Call) -> bool:
        value = call.node.value
        assert isinstance(value, syntax.Call)
        parameters = {spec.name: spec for spec in call.signature.parameters}
        given: dict[str, syntax.Expr] = dict(zip(parameters, value.arguments, strict=False))
        good = True
        for extra in value.arguments[len(parameters) :]:
            takes = count(len(parameters), "argument")
            self.place.error(f"`{call.signature.name}` takes {takes}", extra.span)
            good = False
        for keyword in value.keywords:
            name = keyword.name.text
            if name not in parameters:
                hint = did_you_mean(name, parameters)
                message = f"`{call.signature.name}` has no parameter `{name}`"
                expected = f"one of {', '.join(parameters) or 'none'}"
                self.place.error(message, keyword.name.span, expected, hint)
                good = False
            elif name in given:
                self.place.error(f"`{name}` is given twice", keyword.span)
                good = False
            given[name] = keyword.value
        missing = [name for name in parameters if name not in given]
        if missing:
            names = ", ".join(f"`{name}`" for name in missing)
            message = f"`{call.signature.name}` also needs {names}"
            self.place.error(message, value.callee.span, "an argument for each parameter")
        call.matched = [(spec, given[name]) for name, spec in parameters.items() if name in given]
        return good and not missing

    def join(self, call: Call) -> None:
        """Join the shapes of arguments and targets with those that the callee declares."""
        for spec, expr in call.matched:
            if isinstance(expr, syntax.NameRef) and self.state.is_tensor(expr.name):
                what = f"`{spec.name}` of `{call.signature.name}`"
                self._join_shape(call, expr.name, spec, expr.span, what)
            elif spec.dims:
                expected = f"the name of a tensor, as `{spec.name}` is `{type_text(spec)}`"
                self.place.error("an argument is a whole tensor", expr.span, expected)
        for spec, target in zip(call.signature.results, call.node.targets, strict=True):
            what = f"the result of `{call.signature.name}`"
            self._join_shape(call, target.tensor.text, spec, target.span, what)

    def _join_shape(self, call: Call, tensor: str, spec: TensorSpec, span: Span, what: str) -> None:
        local = self.state.tensors[tensor]
        if len(local.shape) != len(spec.dims):
            rank = count(len(local.shape), "dimension")
            message = f"`{tensor}` has {rank}, but {what} is `{type_text(spec)}`"
            self.place.error(message, span, count(len(spec.dims), "dimension"))
            return
        for k, (node, dim) in enumerate(zip(local.shape, spec.dims, strict=True)):
            if dim == UNKNOWN:
                continue
            unknown = call.sizes.get(str(dim))
            joined = (
                self.state.spaces.join(unknown, node)
                if unknown is not None
                else self.state.spaces.fix(node, dim)
            )
            if not joined:
                want = dim if unknown is None else self.state.spaces.known(unknown)
                self._wrong_size(f"dimension {k + 1} of `{tensor}`", node, want, span, what)

    def _wrong_size(
        self, dimension: str, node: int, want: Dim | None, span: Span, what: str
    ) -> None:
        scope, have = self.state.scope, self.state.spaces.known(node)
        if have is None or want is None:
            return
        hint = near_declared(scope, have) or near_declared(scope, want)
        self.place.error(
            f"{dimension} is {describe(scope, have)}, but {what} has {describe(scope, want)} there",
            span,
            describe(scope, want),
            hint or one_name(scope, have, want),
        )

    def settle_sizes(self, calls: list[Call]) -> None:
        """A size that only a result names is a size of the caller, under the same name."""
        for call in calls:
            for name, unknown in call.sizes.items():
                if self.state.spaces.known(unknown) is None:
                    self.state.spaces.fix(unknown, name)
                    if not self.state.is_size(name):
                        self.state.sizes.append(name)

    def close(self, call: Call) -> CheckedCall | None:
        """Check the types of the arguments; the targets take those of the results."""
        arguments = [self._argument(spec, expr) for spec, expr in call.matched]
        for spec, target in zip(call.signature.results, call.node.targets, strict=True):
            local = self.state.tensors[target.tensor.text]
            if local.element is None:
                local.element = spec.element
            if local.element != spec.element:
                self.place.error(
                    f"`{local.name}` is {local.element.name}, but the result of "
                    f"`{call.signature.name}` is {spec.element.name}",
                    target.span,
                    local.element.name,
                    "assign it to a name of its own, and cast that",
                )
            local.written = True
        known = tuple(argument for argument in arguments if argument is not None)
        sizes = {name: self.state.spaces.known(node) for name, node in call.sizes.items()}
        if len(known) < len(arguments) or None in sizes.values():
            return None
        return CheckedCall(
            call.node.span,
            tuple(target.tensor.text for target in call.node.targets),
            call.signature.name,
            known,
            {name: dim for name, dim in sizes.items() if dim is not None},
        )

    def _argument(self, spec: TensorSpec, expr: syntax.Expr) -> str | Scalar | None:
        if isinstance(expr, syntax.NameRef) and self.state.is_tensor(expr.name):
            element = self.state.read(expr.name, expr.span, in_brackets=True)
            if element is None:
                return None
            if element != spec.element:
                self._wrong_element(expr.name, element, spec.element, expr.span)
                return None
            return expr.name
        return None if spec.dims else self._scalar(spec, expr)

    def _wrong_element(self, name: str, have: ElementType, want: ElementType, span: Span) -> None:
        self.place.error(
            f"`{name}` is {have.name}, but {want.name} is needed here",
            span,
            want.name,
            f"cast it in a statement of its own, with `{want.name}({name}[...])`",
        )

    def _scalar(self, spec: TensorSpec, expr: syntax.Expr) -> Scalar | None:
        """An expression for a scalar parameter; no index variable may stand in it."""
        indexed = (syntax.Access, syntax.Path, syntax.Binder, syntax.Grouped)
        for node in syntax.walk(expr):
            if isinstance(node, indexed):
                expected = "a whole tensor, or an expression of scalars"
                self.place.error("an argument has no index variables", node.span, expected)
                return None
        checker = ValueChecker(self.state, Indices({}, {}, {}), grouped_allowed=False)
        value = checker.value(expr)
        if value is None:
            return None
        fits = spec.element.is_float or (isinstance(value, Weak) and value.kind == "int")
        if isinstance(value, Weak) and fits and spec.element.kind != "bool":
            return value.make(spec.element.compute)
        typed = value.default if isinstance(value, Weak) else value
        if typed.type == spec.element:
            return typed.expr
        text = self.place.quote(expr.span)
        self.place.error(
            f"`{spec.name}` is {spec.element.name}, but this is {typed.type.name}",
            expr.span,
            spec.element.name,
            f"write {spec.element.name}({text})",
        )
        return None
