"""What is known of a function while it is checked: its tensors, and the unknowns of inference."""

from __future__ import annotations

from dataclasses import dataclass

from hectorite.frontend.check.infer import Inference, Spaces
from hectorite.frontend.check.scope import UNKNOWN, Place, Scope, Signature
from hectorite.frontend.check.typed import Dim, TensorSpec
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Span
from hectorite.ir.element import ElementType


@dataclass(eq=False)
class Local:
    """A tensor of a function: a parameter or a local. `shape` has one unknown for each dimension;
    `element` is None until the first expression gives a type."""

    name: str
    shape: tuple[int, ...]
    element: ElementType | None = None
    declared: TensorSpec | None = None
    is_parameter: bool = False
    written: bool = False


class FunctionState:
    """Shared by the checks of one function."""

    def __init__(self, signature: Signature, scope: Scope):
        self.signature = signature
        self.scope = scope
        self.place = Place(signature.source, scope.report)
        self.spaces = Spaces(scope)
        self.inference = Inference(scope, self.spaces)
        self.tensors: dict[str, Local] = {}
        self.sizes = [*scope.schema.sets, *scope.schema.sizes, *signature.sizes]
        """Everything that has a size here: sets, declared sizes, size variables."""

    def is_tensor(self, name: str) -> bool:
        return name in self.tensors

    def is_scalar(self, name: str) -> bool:
        return name in self.tensors and not self.tensors[name].shape

    def is_size(self, name: str) -> bool:
        return name in self.sizes

    def read(self, name: str, span: Span, in_brackets: bool) -> ElementType | None:
        """The type of a tensor that an expression reads, or None after an error (told here or
        before)."""
        local = self.tensors.get(name)
        if local is None:
            return None
        if not in_brackets and local.shape:
            rank = count(len(local.shape), "dimension")
            self.place.error(
                f"`{name}` has {rank}, but stands without indices",
                span,
                f"as in `{type_text(local.declared)}`" if local.declared else "indices in brackets",
            )
            return None
        if not local.written:
            self.place.error(
                f"`{name}` is read before anything wrote it",
                span,
                "a parameter, or a tensor that an earlier statement wrote",
            )
            return None
        return local.element

    def declared_shape(self, spec: TensorSpec) -> tuple[int, ...]:
        """One unknown for each dimension, fixed to what is declared."""
        return tuple(self.spaces.fresh(None if d == UNKNOWN else d) for d in spec.dims)

    def dim(self, node: int) -> Dim:
        """What an unknown turned out to be; only after open ones have been reported."""
        known = self.spaces.known(node)
        assert known is not None, "open unknowns are reported before"
        return known

    def target_of(self, start: Dim | None, fields: tuple[str, ...]) -> Dim | None:
        """Where a chain of fields leads, None if that is not known."""
        if start is None or not fields:
            return start
        try:
            return self.scope.schema.follow(str(start), fields)
        except KeyError:
            return None

    def wrong_rank(self, tensor: syntax.Name, given: int) -> None:
        """An error for a tensor that has another number of dimensions."""
        local = self.tensors[tensor.text]
        rank = len(local.shape)
        what = f"has {count(rank, 'dimension')}" if rank else "is a scalar"
        verb = "stands" if given == 1 else "stand"
        self.place.error(
            f"`{tensor.text}` {what}, but {count(given, 'index', 'indices')} {verb} here",
            tensor.span,
            f"as in `{type_text(local.declared)}`" if local.declared and rank else None,
        )

    def reject_function_name(self, name: syntax.Name) -> None:
        """Tensors and functions share a namespace."""
        if name.text in self.scope.scalar_functions or name.text in self.scope.signatures:
            hint = "give the tensor a name of its own"
            self.place.error(f"`{name.text}` is a function", name.span, hint=hint)


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 dimension`, `2 dimensions`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def same_type(left: TensorSpec, right: TensorSpec) -> bool:
    """Whether two tensors agree in all but storage. What had an error agrees with anything."""
    if UNKNOWN in (*left.dims, *right.dims):
        return True
    return (left.element, left.dims) == (right.element, right.dims)


def type_text(spec: TensorSpec) -> str:
    """A type as a program writes it."""
    dims = f"[{', '.join(map(str, spec.dims))}]" if spec.dims else ""
    return f"{spec.element.name}{dims}"
