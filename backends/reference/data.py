"""Sets, maps and grids of index variables for the reference.

Enters: the sets a module declares, their sizes and maps. Leaves: the value of any index expression
at every point of a grid, as an integer array that broadcasts over the grid's axes. Derived sets
that the data leaves out are built by enumerating all assignments of their binders, position sets as
binding builds them.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np

from hectorite.backends.formats import Part, build_parts
from hectorite.ir.diagnostics import fail
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.scalar import Array
from hectorite.ir.schema import Derivation, Encoded, Schema, SetDecl
from hectorite.ir.space import Dim

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

POINTS = 1 << 22
"""Points that are evaluated at a time."""


class Data:
    """Sizes and maps by name. Derived sets are built unless they are among the sizes."""

    def __init__(
        self,
        schema: Schema,
        sizes: Mapping[str, int],
        maps: Mapping[tuple[str, str], Array],
    ):
        self.schema = schema
        fixed = {name: value for name, value in schema.sizes.items() if value is not None}
        self.sizes = {**fixed, **sizes}
        self.maps = dict(maps)
        self._parts = dict[tuple[str, str], dict[str, Part]]()
        for decl in schema.sets.values():
            if decl.derivation is not None and decl.name not in self.sizes:
                self._build(decl, decl.derivation)
            elif decl.encoded is not None and decl.name not in self.sizes:
                self._encode(decl, decl.encoded)

    def size(self, name: Dim) -> int:
        """An extent; `HectoriteError` if its name has no value."""
        if isinstance(name, str) and name not in self.sizes:
            raise fail(f"the size of `{name}` is not given")
        return name if isinstance(name, int) else self.sizes[name]

    def follow(self, start: Dim, fields: Sequence[str], here: Array) -> Array:
        """Where a path leads from the elements `here` of a set."""
        for name in fields:
            if not isinstance(start, str) or (start, name) not in self.maps:
                raise fail(f"the map `{name}` of `{start}` is not given")
            here = np.asarray(self.maps[start, name])[here].astype(np.int64)
            start = self.schema.fields_of(start)[name]
        return here

    def map(self, name: str, field: str) -> Array:
        """int[|name|]: where a field leads."""
        return np.asarray(self.maps[name, field])

    def _encode(self, decl: SetDecl, encoded: Encoded) -> None:
        """One part of a set in its format."""
        key = (encoded.of, encoded.format)
        if key not in self._parts:
            self._parts[key] = build_parts(self, *key)
        part = self._parts[key][encoded.part]
        self.sizes[decl.name] = part.size
        for (name, _), values in zip(decl.fields, part.fields, strict=True):
            self.maps[decl.name, name] = values
        for (owner, name, _), values in zip(encoded.gives, part.gives, strict=True):
            self.maps[owner, name] = values

    def _build(self, decl: SetDecl, derivation: Derivation) -> None:
        """One element for each distinct tuple of keys, in lexicographic order."""
        count, columns = self._assignments(derivation)
        grid = Grid.of(self, derivation.binders, (count,), columns)
        targets = tuple(self.size(target) for _, target in decl.fields)
        flat, inside = grid.flat(derivation.keys, targets)
        if not np.all(inside):
            raise fail(f"a key of the derived set `{decl.name}` is out of range")
        codes, position = np.unique(np.broadcast_to(flat, grid.shape), return_inverse=True)
        self.sizes[decl.name] = len(codes)
        for (name, _), values in zip(decl.fields, np.unravel_index(codes, targets), strict=True):
            self.maps[decl.name, name] = values
        if derivation.position is not None:
            self.maps[derivation.binders[0][1], derivation.position] = position.ravel()

    def _assignments(self, derivation: Derivation) -> tuple[int, dict[str, Array]]:
        """All assignments of the binders that the conditions allow: how many, and an array for each
        binder. Binders are added one after the other to the assignments so far."""
        count, columns, waiting = 1, dict[str, Array](), list(derivation.conditions)
        for name, set_name in derivation.binders:
            new = self.size(set_name)
            ready = [c for c in waiting if c.variables <= {*columns, name}]
            waiting = [c for c in waiting if c not in ready]
            olds, news = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
            step = max(1, POINTS // max(1, new))
            for start in range(0, count, step):
                part = {old: values[start : start + step, None] for old, values in columns.items()}
                part[name] = np.arange(new, dtype=np.int64)[None, :]
                shape = min(step, count - start), new
                grid = Grid.of(self, derivation.binders, shape, part)
                keep = np.ones(shape, np.bool_)
                for c in ready:
                    keep &= _COMPARE[c.operator](grid.index(c.left), grid.index(c.right))
                old, added = np.nonzero(keep)
                olds.append(old + start)
                news.append(added)
            kept = np.concatenate(olds)
            columns = {old: values[kept] for old, values in columns.items()}
            columns[name] = np.concatenate(news)
            count = len(kept)
        return count, columns


class Grid:
    """A box of assignments of index variables: variable i is axis i."""

    def __init__(self, data: Data, variables: Sequence[tuple[str, Dim]], box: Sequence[slice]):
        self.data = data
        self.over = dict(variables)
        self.shape = tuple(part.stop - part.start for part in box)
        self.values = dict[str, Array]()
        for axis, ((name, _), part) in enumerate(zip(variables, box, strict=True)):
            values = np.arange(part.start, part.stop, dtype=np.int64)
            self.values[name] = values.reshape([-1 if a == axis else 1 for a in range(len(box))])

    @staticmethod
    def of(
        data: Data,
        variables: Sequence[tuple[str, Dim]],
        shape: tuple[int, ...],
        values: Mapping[str, Array],
    ) -> "Grid":
        """Points at which index variables have given values, arrays that broadcast to the shape."""
        grid = Grid(data, variables, (slice(0, 0),) * len(variables))
        grid.shape, grid.values = shape, dict(values)
        return grid

    def index(self, expr: IndexExpr) -> Array:
        """The value of an index expression, with an axis for each variable."""

        def follow(path: Path) -> Any:
            here = self.values[path.variable]
            return self.data.follow(self.over.get(path.variable, 0), path.fields, here)

        value = np.asarray(expr.evaluate(follow, self.data.size), np.int64)
        return value if value.ndim else value.reshape((1,) * len(self.shape))

    def picking(self, name: str, values: Array) -> "Grid":
        """The same grid, on which `name` stands for values that broadcast over it."""
        more = copy(self)
        shape = (1,) * (len(self.shape) - values.ndim) + values.shape
        more.values = {**self.values, name: values.reshape(shape)}
        return more

    def flat(self, access: Sequence[IndexExpr], shape: Sequence[int]) -> tuple[Array, Array]:
        """Row-major positions in a tensor of this shape, and whether they lie inside it."""
        flat = np.zeros((1,) * len(self.shape), np.int64)
        inside = np.ones((1,) * len(self.shape), np.bool_)
        for expr, extent in zip(access, shape, strict=True):
            values = self.index(expr)
            inside = inside & (values >= 0) & (values < extent)
            flat = flat * extent + values
        return flat, np.broadcast_to(inside, flat.shape)

    def take(
        self, lanes: Sequence[Array], access: Sequence[IndexExpr], shape: Sequence[int]
    ) -> tuple[Array, ...] | None:
        """The elements at the access, on axes that broadcast over the grid's; None if any lies
        outside. What a plain variable runs over from end to end is taken as a whole."""
        axes = {name: axis for axis, name in enumerate(self.over)}
        whole = dict[int, int]()
        for dim, expr in enumerate(access):
            alone = sum(expr.variable in other.variables for other in access) == 1
            if expr.variable in axes and alone:
                axis = axes[str(expr.variable)]
                if self.shape[axis] == shape[dim]:
                    whole[dim] = axis
        rest = [dim for dim in range(len(access)) if dim not in whole]
        indices = [self.index(access[dim]) for dim in rest]
        for values, dim in zip(indices, rest, strict=True):
            if np.any((values < 0) | (values >= shape[dim])):
                return None
        # Axes of the grid that the indices vary along come first, then the whole dimensions.
        places = tuple(whole.values())
        read = list[Array]()
        for lane in lanes:
            table = lane.transpose([*rest, *whole])[tuple(indices)]
            if not rest:
                table = table[(None,) * len(self.shape)]
            kept = np.squeeze(table, axis=places)
            ahead = len(self.shape) - len(places)
            read.append(np.moveaxis(kept, range(ahead, kept.ndim), places))
        return tuple(read)

    def group(self, keys: Sequence[IndexExpr]) -> Array:
        """A number for each tuple of keys, the same where all keys are equal."""
        number = np.zeros((1,) * len(self.shape), np.int64)
        if not math.prod(self.shape):
            return number
        for expr in keys:
            values = self.index(expr)
            number = number * (values.max() - values.min() + 1) + values - values.min()
        return number
