"""Builds a side of a rule for a binding: the same code makes targets of matches and both sides of
the tests of a rule.

Enters: a graph, a rule, a term of it and a binding. Leaves: new nodes with the value of the term.
`Unfit` means that the term makes no sense there; nothing refers then to what was added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.formula import Access, Apply, Constant, Formula, Index, Read, nary, rebuild
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.index import Term as IndexTerm
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Shape
from hectorite.lowering.rules.binding import Binding, Value, WindowOf
from hectorite.lowering.rules.smart import composed, cut, join, length_of, pick, put, stepping
from hectorite.lowering.rules.term import (
    REST,
    Concat,
    Law,
    Order,
    Part,
    Pick,
    Stack,
    Statement,
    Tensor,
    Term,
    Total,
    View,
    Widen,
    Window,
    is_many,
    walk,
)

Values = tuple[Value, ...]


class Unfit(Exception):
    """A term cannot be built: its shapes do not fit."""


def build(flow: Dataflow, law: Law, term: Term, binding: Binding) -> list[int]:
    """The nodes of a side of a rule: one for each sibling, or one."""
    builder = _Builder(flow, law, binding)
    if not is_many(term):
        return [builder.root(term, None)]
    return [builder.root(term, number) for number in range(len(binding.siblings))]


def variables_of(access: Access | None) -> set[str]:
    """The index variables of an access."""
    return {name for index in access or () for name in index.variables}


class _Builder:
    def __init__(self, flow: Dataflow, law: Law, binding: Binding):
        self.flow, self.law, self.binding = flow, law, binding
        self._wholes = dict[tuple[int, bool, frozenset[str]], Value]()
        statements = [part for part in walk(law.source) if isinstance(part, Statement)]
        self.left = statements[0].left if statements else ()
        self.stacked = {part.letter for part in walk(law.target) if isinstance(part, Stack)}
        for letter in self.stacked:
            binding.letters.setdefault(f"{letter}0", letter)
            binding.dims.setdefault(f"{letter}0", len(binding.siblings))

    def root(self, term: Term, sibling: int | None) -> int:
        return self._one(self.value(term, sibling, set(), True)).node

    def value(self, term: Term, j: int | None, needed: set[str], root: bool = False) -> Values:
        """What a term stands for; `needed` are the variables that others use."""
        match term:
            case Tensor():
                return self._tensor(term, j)
            case View():
                through = self.binding.views.get(term.term.name)
                return self._tensor(term.term, j) if through is None else (through,)
            case Statement():
                return (self._statement(term, j, needed, root),)
            case Window():
                return (self._window(term, j),)
            case Widen():
                return (self._widen(term, j),)
            case Concat():
                return self._concat(term, needed, root)
            case Stack():
                return self._stack(term, needed, root)
            case Total():
                return (self._total(term, needed, root),)
            case Part():
                return (self._part(term, self._number(j), needed, root),)
            case Pick():
                return (self._pick(term, self._number(j), needed, root),)

    def _whole(self, term: Term, needed: set[str], root: bool) -> Value:
        """What a term stands for of which each sibling takes its share; built once for all."""
        key = id(term), root, frozenset(needed)
        if key not in self._wholes:
            self._wholes[key] = self._one(self.value(term, None, needed, root))
        return self._wholes[key]

    def _one(self, values: Values) -> Value:
        if len(values) != 1:
            raise Unfit
        return values[0]

    def _number(self, j: int | None) -> int:
        if j is None:
            raise Unfit
        return j

    def _tensor(self, term: Tensor, j: int | None) -> Values:
        if term.many:
            found = self.binding.siblings[self._number(j)].tensors.get(term.name)
        else:
            found = self.binding.tensors.get(term.name)
        if found is None:
            raise Unfit
        declared = self.law.tensors[term.name].letters
        if declared != term.letters or any(":" in token for token in term.letters):
            return tuple(self._read_at(value, declared, term.letters, j) for value in found)
        return tuple(map(_turned, found)) if term.turned else found

    def _read_at(self, value: Value, old: tuple[str, ...], new: tuple[str, ...], j: int | None):
        """A value read at other letters than those at which the source reads it."""
        if value.access is None or len(old) != len(new):
            raise Unfit
        names, divisors = dict[str, str](), dict[str, int]()
        for before, after in zip(old, new, strict=True):
            letter, colon, group = after.partition(":")
            here, there = (self.binding.group(b.partition(":")[0]) for b in (before, letter))
            if len(here) != len(there):
                raise Unfit
            names.update(zip(here, there, strict=True))
            if colon:
                size, parts = self.binding.dim(there[0], j), self.binding.sizes.get(group, 0)
                if not isinstance(size, int) or not parts or size % parts or not size:
                    raise Unfit
                divisors[there[0]] = size // parts
        access = list[IndexExpr]()
        for index in (index.rename(names) for index in value.access):
            if index.division is not None and set(index.variables) & set(divisors):
                index = replace(index, division=("floordiv", divisors[index.variables[0]]))
            access.append(index)
        return Value(value.node, tuple(access))

    def _window(self, term: Window, j: int | None) -> Value:
        window = self.binding.window
        if window is None:
            raise Unfit
        return Value(self._one(self._tensor(term.term, j)).node, window.access)

    def _widen(self, term: Widen, j: int | None) -> Value:
        """The weights times one where the window's variables stand at the place, else zero."""
        window, value = self.binding.window, self._one(self._tensor(term.term, j))
        shape = self.flow.nodes[value.node].shape
        if window is None or value.access is None or shape.pad is not None:
            raise Unfit
        extra = [name for name, _ in window.places]
        names = [f"a{number}" for number in range(len(shape.dims))]
        kept = [axis for axis in range(len(names)) if not self._is_unit(value.access[axis], window)]
        access = tuple(IndexExpr.of(n) if a in kept else IndexExpr() for a, n in enumerate(names))
        over = {names[axis]: shape.dims[axis] for axis in kept}
        over |= {name: self.binding.dims[name] for name in extra}
        body: Formula = Read(0, access)
        for number, (name, place) in enumerate(window.places):
            here = Constant(place + (term.shift if number == 0 else 0), "i32")
            hit = Apply("eq", (Index(IndexExpr.of(name), "i32"), here))
            body = Apply("select", (hit, body, Constant(0, shape.element)))
        left = tuple(map(IndexExpr.of, over))
        into = Shape(tuple(over.values()), shape.element)
        made = put(self.flow, "assign", left, over, into, body, [value.node])
        at = (*(value.access[axis] for axis in kept), *map(IndexExpr.of, extra))
        return Value(made, at)

    def _is_unit(self, index: IndexExpr, window: WindowOf) -> bool:
        """Whether an index is the variable of a window of one, which the wide one replaces."""
        name, root = index.variable, self.binding.root
        if name is None or root is None or self.binding.dims.get(name) != 1:
            return False
        return name not in variables_of(window.access) | variables_of(root.left)

    def _used(self, term: Term, j: int | None) -> dict[str, None]:
        """The variables of all tensors inside a term, as they appear."""
        found = dict[str, None]()
        for part in walk(term):
            if isinstance(part, Tensor):
                inner = j if j is not None or not part.many else 0
                for value in self._tensor(part, inner):
                    found |= dict.fromkeys(n for i in value.access or () for n in i.variables)
            elif isinstance(part, Window | Widen) and self.binding.window is not None:
                found |= {name: None for name, _ in self.binding.window.places}
            elif isinstance(part, Stack):
                found[f"{part.letter}0"] = None
        return found

    def _statement(self, term: Statement, j: int | None, needed: set[str], root: bool) -> Value:
        outside = self._kept(term, j, needed, root)
        values = list[Value]()
        for number, argument in enumerate(term.arguments):
            others = [a for n, a in enumerate(term.arguments) if n != number]
            rest = {name for other in others for name in self._used(other, j)}
            values += self.value(argument, j, rest | set(outside))
        used = dict.fromkeys(n for v in values for i in v.access or () for n in i.variables)
        left, shape = self._left(term, outside, values, j, root)
        over = dict.fromkeys([n for index in left for n in index.variables]) | used
        dims: dict[str, Dim] = {name: self.binding.dim(name, j) for name in over}
        kind, body = self._body(term, values, left, dims, root)
        name = self.binding.root.name if root and self.binding.root else None
        nodes = [value.node for value in values]
        made = put(self.flow, kind, left, dims, shape, body, nodes, name)
        return Value(made, left)

    def _kept(self, term: Statement, j: int | None, needed: set[str], root: bool) -> list[str]:
        """Variables that the result of a statement still has."""
        if root and self.binding.root is not None:
            stacked = [f"{letter}0" for letter in term.left if letter in self.stacked]
            return [*stacked, *sorted(variables_of(self.binding.root.left))]
        used, kept = self._used(term, j), list[str]()
        for letter in term.left:
            group = set(self.binding.group(letter))
            kept += [n for n in used if n in group and (letter != REST or n in needed)]
        return kept

    def _left(
        self,
        term: Statement,
        outside: list[str],
        values: Sequence[Value],
        j: int | None,
        root: bool,
    ) -> tuple[Access, Shape]:
        origin = self.binding.root
        element = self.flow.nodes[values[0].node].shape.element if values else "f32"
        if not root or origin is None:
            dims = tuple(self.binding.dim(name, j) for name in outside)
            return tuple(map(IndexExpr.of, outside)), Shape(dims, element)
        plain = tuple(letter for letter in term.left if letter not in self.stacked)
        stacked = tuple(letter for letter in term.left if letter in self.stacked)
        if set(plain) != set(self.left):
            raise Unfit
        left = list(origin.left)
        dims = list(origin.shape.dims)
        for axis, index in enumerate(left):
            name = index.variable
            if name is not None and self.binding.letters.get(name) in self.law.singles:
                dims[axis] = self.binding.dim(name, j)
        if plain != self.left:
            order = [
                axis
                for letter in plain
                for axis, index in enumerate(left)
                if self.binding.letters.get(index.variable or "") == letter
            ]
            if sorted(order) != list(range(len(left))):
                raise Unfit
            left, dims = [left[a] for a in order], [dims[a] for a in order]
        extra = [f"{letter}0" for letter in stacked]
        left = [*map(IndexExpr.of, extra), *left]
        dims = [*(self.binding.dims[name] for name in extra), *dims]
        return tuple(left), replace(origin.shape, dims=tuple(dims))

    def _body(
        self,
        term: Statement,
        values: Sequence[Value],
        left: Access,
        dims: dict[str, Dim],
        root: bool,
    ) -> tuple[str, Formula]:
        reads = [Read(number, value.access) for number, value in enumerate(values)]
        function = term.function.lstrip("-~")
        alone = {index.variable for index in left}
        kind = "assign" if alone == set(dims) and len(alone) == len(left) else "add"
        if function == "mul":
            constants = self.binding.constants if root else ()
            body: Formula = nary("mul", (*reads, *constants))
        elif function.startswith("?"):
            captured = self.binding.functions[function]
            if captured.kind == "assign" and kind != "assign":
                raise Unfit
            kind, body = captured.kind, _filled(captured.body, reads)
        else:
            if kind != "assign":
                raise Unfit
            body = Apply(function, tuple(reads))
        return kind, _changed(term.function[0], body)

    def _each(self, term: Term, needed: set[str], root: bool) -> list[Values]:
        count = len(self.binding.siblings)
        each = [self.value(term, number, needed, root) for number in range(count)]
        if len({len(values) for values in each}) != 1:
            raise Unfit
        return each

    def _axis(self, value: Value, letter: str) -> int:
        """Where a value is read at the only variable of a letter."""
        names = self.binding.group(letter)
        found = [
            axis
            for axis, index in enumerate(value.access or ())
            if set(index.variables) & set(names)
        ]
        if len(names) != 1 or len(found) != 1 or value.access is None:
            raise Unfit
        if value.access[found[0]].variable != names[0]:
            raise Unfit
        return found[0]

    def _component(self, values: Sequence[Value]) -> list[int]:
        """Nodes that are read alike and never beside their ends."""
        shapes = [self.flow.nodes[value.node].shape for value in values]
        alike = all(value.access == values[0].access for value in values)
        if not alike or any(s.pad is not None or s.format is not None for s in shapes):
            raise Unfit
        return [value.node for value in values]

    def _concat(self, term: Concat, needed: set[str], root: bool) -> Values:
        each = self._each(term.term, needed, root)
        joined = list[Value]()
        for values in zip(*each, strict=True):
            axis = self._axis(values[0], term.letter)
            nodes = self._component(values)
            name = self.binding.group(term.letter)[0]
            dims = [self.flow.nodes[node].shape.dims for node in nodes]
            for number, node_dims in enumerate(dims):
                other = (*node_dims[:axis], *node_dims[axis + 1 :])
                first = (*dims[0][:axis], *dims[0][axis + 1 :])
                size = self.binding.dim(name, number)
                if other != first or node_dims[axis] != size or not isinstance(size, int):
                    raise Unfit
            joined.append(
                Value(join(self.flow, _ordered(nodes, term.order), axis), values[0].access)
            )
        return tuple(joined)

    def _stack(self, term: Stack, needed: set[str], root: bool) -> Values:
        each = self._each(term.term, needed, root)
        return tuple(self._stacked(values, term.letter) for values in zip(*each, strict=True))

    def _stacked(self, values: Sequence[Value], letter: str) -> Value:
        nodes, access = self._component(values), values[0].access or ()
        stepped = stepping(self.flow, nodes, f"{letter}0")
        if stepped is not None:
            try:
                over = self.binding.dims
                through = composed(self.flow, nodes[0], access, stepped.access, over)
                return Value(stepped.node, through)
            except ValueError as error:
                raise Unfit from error
        dims = self.flow.nodes[nodes[0]].shape.dims
        plain = [a for a, i in enumerate(access) if i.variable and isinstance(dims[a], int)]
        if not plain or any(self.flow.nodes[node].shape.dims != dims for node in nodes):
            raise Unfit
        axis, name = plain[0], f"{letter}0"
        length = length_of(self.flow, nodes[0], axis)
        whole = join(self.flow, nodes, axis)
        if all(self.flow.nodes[node].fixed for node in nodes):
            return Value(
                self._unfolded(whole, axis, length, len(nodes)), (IndexExpr.of(name), *access)
            )
        step = IndexTerm(length, Path(name))
        index = IndexExpr.make((step, *access[axis].terms), access[axis].constant)
        return Value(whole, (*access[:axis], index, *access[axis + 1 :]))

    def _unfolded(self, node: int, axis: int, length: int, count: int) -> int:
        """A tensor whose axis is cut into `count` pieces, numbered by a new first axis."""
        shape = self.flow.nodes[node].shape
        dims = (count, *shape.dims[:axis], length, *shape.dims[axis + 1 :])
        names = [f"a{number}" for number in range(len(dims))]
        left = tuple(map(IndexExpr.of, names))
        step = IndexExpr.make((IndexTerm(length, Path("a0")), IndexTerm(1, Path(names[axis + 1]))))
        access = (*left[1 : axis + 1], step, *left[axis + 2 :])
        over = dict(zip(names, dims, strict=True))
        made = Shape(dims, shape.element)
        return put(self.flow, "assign", left, over, made, Read(0, access), [node])

    def _total(self, term: Total, needed: set[str], root: bool) -> Value:
        values = [self._one(each) for each in self._each(term.term, needed, root)]
        nodes = self._component(values)
        shape = self.flow.nodes[nodes[0]].shape
        if any(self.flow.nodes[node].shape != shape for node in nodes):
            raise Unfit
        names = [f"a{number}" for number in range(len(shape.dims))]
        left = tuple(map(IndexExpr.of, names))
        body = nary("add", [Read(number, left) for number in range(len(nodes))])
        over = dict(zip(names, shape.dims, strict=True))
        made = put(self.flow, "assign", left, over, shape, body, nodes)
        return Value(made, values[0].access)

    def _part(self, term: Part, j: int, needed: set[str], root: bool) -> Value:
        value = self._whole(term.term, needed, root)
        axis, name = self._axis(value, term.letter), self.binding.group(term.letter)[0]
        self._component([value])
        if not isinstance(self.flow.nodes[value.node].shape.dims[axis], int):
            raise Unfit
        sizes = [self.binding.dim(name, number) for number in range(len(self.binding.siblings))]
        numbers = [size for size in sizes if isinstance(size, int)]
        start, whole = sum(numbers[:j]) + term.shift, length_of(self.flow, value.node, axis)
        if len(numbers) != len(sizes) or start < 0 or start + numbers[j] > whole:
            raise Unfit
        return Value(cut(self.flow, value.node, axis, start, numbers[j]), value.access)

    def _pick(self, term: Pick, j: int, needed: set[str], root: bool) -> Value:
        value = self._whole(term.term, needed, root)
        if value.access is None or value.access[0].variable != f"{term.letter}0":
            raise Unfit
        number = (j + term.shift) % len(self.binding.siblings)
        return Value(pick(self.flow, value.node, number), value.access[1:])


def _filled(body: Formula, reads: Sequence[Read]) -> Formula:
    """A captured body with reads in its holes."""
    holes = 0

    def change(part: Formula) -> Formula | None:
        nonlocal holes
        if not isinstance(part, Read):
            return None
        holes = max(holes, part.slot + 1)
        if part.slot >= len(reads):
            raise Unfit
        return reads[part.slot]

    filled = rebuild(body, change)
    if holes != len(reads):
        raise Unfit
    return filled


def _changed(sign: str, body: Formula) -> Formula:
    match sign:
        case "-":
            return Apply("neg", (body,))
        case "~":
            return nary("add", (body, body))
        case _:
            return body


def _ordered(nodes: list[int], order: Order) -> list[int]:
    match order:
        case "reversed":
            return nodes[::-1]
        case "rotated":
            return [*nodes[1:], nodes[0]]
        case "repeated":
            return [nodes[0], *nodes[:-1]]
        case _:
            return nodes


def _turned(value: Value) -> Value:
    if value.access is None or len(value.access) < 2:
        raise Unfit
    return Value(value.node, (*value.access[1:], value.access[0]))
