"""Places where a rule applies, drawn for testing it.

Enters: a rule and a number. Leaves: a graph with inputs, and a binding of the rule's names to them.
The number chooses the stratum: extents of 1, 2, 3, 5 and 0, letters that stand for no, one or two
variables, sets with maps that are not injective and leave rows empty, windows with padding, scalar
operands, broadcasting, integers, bodies of one and several functions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from itertools import product

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.formula import Access, Apply, Constant, Formula, Read, nary
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.index import Term as IndexTerm
from hectorite.ir.schema import Schema, SetDecl
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Shape
from hectorite.lowering.rules.binding import Binding, Root, Sibling, Value, WindowOf
from hectorite.lowering.rules.build import Unfit, build
from hectorite.lowering.rules.matching import holds
from hectorite.lowering.rules.smart import cut, put
from hectorite.lowering.rules.split import Captured, sorted_body
from hectorite.lowering.rules.term import (
    REST,
    Law,
    Statement,
    Tensor,
    Term,
    View,
    children,
    scalable,
    walk,
)

EXTENTS = ((1, 2, 3), (2, 3, 5), (2, 2, 3), (1, 2, 2), (0, 2, 3), (3, 3, 2))
SCHEMA = Schema(
    {"node": SetDecl("node"), "edge": SetDecl("edge", (("src", "node"), ("dst", "node")))}
)


_Read = tuple[Access, tuple[Dim, ...], bool]
"""An access, the extents of the tensor, and whether it is read beside its ends."""


@dataclass(frozen=True)
class Instance:
    """A graph that holds the source of a rule and nothing else, with sizes of its sets."""

    flow: Dataflow
    binding: Binding
    source: tuple[int, ...]
    beside: tuple[int, ...]
    """Other results, which the rule looks at but leaves as they are."""
    sizes: dict[str, int]
    seed: int


def instance(law: Law, number: int) -> Instance | None:
    """The instance with this number; None if there is none that meets the rule's conditions."""
    drawing = _Drawing(law, number)
    names = sorted(law.tensors)
    drawing.plan()
    for choice in product((True, False), repeat=len(names)):
        if all(choice):
            continue
        flow = Dataflow(SCHEMA)
        binding = drawing.bind(flow, dict(zip(names, choice, strict=True)))
        if binding is not None and holds(flow, law, binding):
            try:
                source = tuple(build(flow, law, law.source, binding.copy()))
            except Unfit:
                return None
            beside = drawing.beside(flow, binding)
            flow.give((*source, *beside))
            return Instance(flow, binding, source, beside, drawing.sizes, number)
    return None


class _Drawing:
    def __init__(self, law: Law, number: int):
        self.law, self.random = law, random.Random(f"{law.name} {number}")
        self.extents = EXTENTS[number % len(EXTENTS)]
        whole = number % 5 == 4 and not law.algebra & {"field"}
        self.element = "i32" if whole else "f32"
        self.count = 2 + self.random.randrange(2)
        sizes = [self.random.choice(self.extents) for _ in range(2)]
        # Maps lead somewhere, so elements need nodes.
        self.sizes = {"node": max(1, sizes[0]) + 1, "edge": sizes[1] + number % 3}
        self.statements = [part for part in walk(law.source) if isinstance(part, Statement)]
        self.above = dict[str, list[Statement]]()
        self._place(law.source, [])

    def _place(self, term: Term, above: list[Statement]) -> None:
        """The statements around every tensor, outermost first."""
        if isinstance(term, Tensor):
            self.above[term.name] = above
        inside = [*above, term] if isinstance(term, Statement) else above
        for child in children(term):
            self._place(child, inside)

    # what there is, apart from any graph

    def plan(self) -> None:
        """Draw variables, accesses and bodies."""
        self.dims = dict[str, Dim]()
        self.letters = dict[str, str]()
        self.reduced = dict[str, Statement | None]()
        self.members = dict[str, set[str]]()
        self.lengths = dict[str, list[int]]()
        self.groups = dict[str, int]()
        self.factors = dict[str, int]()
        explicit = sorted(
            {t.partition(":")[0] for s in self.law.tensors.values() for t in s.letters} - {REST}
        )
        for letter in explicit:
            self._letter(letter)
        for number in range(self.random.randrange(1, 5)):
            self._free(f"v{number}")
        self.reads = {name: self._reads(tensor) for name, tensor in self.law.tensors.items()}
        self.functions = {s.function: self._body(s) for s in self.statements if "?" in s.function}
        self.left = self._left(self.statements[0])

    def _letter(self, letter: str) -> None:
        single = self._divided(letter) or letter in self.law.singles
        count = 1 if single else self.random.randrange(3)
        for number in range(count):
            name = f"{letter}{number}"
            self.letters[name] = letter
            self.dims[name] = self.random.choice(self.extents) * self.factors.get(letter, 1)
            users = {n for n, t in self.law.tensors.items() if letter in _letters(t)}
            self.members[name] = users
            inside = [
                s for s in self.above[sorted(users)[0]] if all(s in self.above[u] for u in users)
            ]
            without = [s for s in inside if letter not in s.left]
            self.reduced[name] = without[-1] if without else None
        if letter in self.law.singles:
            self.lengths[f"{letter}0"] = [
                self.random.choice(self.extents) * self.factors.get(letter, 1)
                for _ in range(self.count)
            ]

    def _divided(self, letter: str) -> bool:
        """Draw the size of a group for a letter that is read as `q:g`."""
        tokens = [
            t for s in self.law.tensors.values() for t in s.letters if t.startswith(f"{letter}:")
        ]
        for token in tokens:
            group = token.partition(":")[2]
            self.factors[letter] = self.groups.setdefault(group, self.random.choice((1, 2, 3)))
        return bool(tokens)

    def _free(self, name: str) -> None:
        """A variable of `...`: which tensors have it, and where it is summed."""
        may = [n for n, t in self.law.tensors.items() if REST in t.letters]
        if not may:
            return
        members = {n for n in may if self.random.random() < 0.6} or {self.random.choice(may)}
        around = [s for s in self.statements if all(s in self.above[m] for m in members)]
        sums: list[Statement | None] = [
            s for s in around if s.function == "mul" or s.function.startswith("?")
        ]
        if all(REST in s.left for m in members for s in self.above[m]):
            sums = [None, None, *sums]
        if not sums:
            return
        where = self.random.choice(sums)
        if where is not None and any(
            REST not in s.left
            for m in members
            for s in self.above[m][self.above[m].index(where) + 1 :]
        ):
            return
        self.letters[name], self.members[name], self.reduced[name] = REST, members, where
        kinds: tuple[Dim, ...] = ("edge", "node") if self.random.random() < 0.25 else self.extents
        self.dims[name] = self.random.choice(kinds)

    def _reads(self, tensor: Tensor) -> list[_Read]:
        """The reads that a tensor of the rule stands for: access, extents, whether padded."""
        viewed = any(
            isinstance(p, View) and p.term.name == tensor.name for p in walk(self.law.source)
        )
        count = self.random.choice((1, 1, 2)) if tensor.bundle else 1
        loose = tensor.bundle and not tensor.many and not viewed
        free = [n for n, m in self.members.items() if tensor.name in m and self.letters[n] == REST]
        shares = [set(free)] + [
            {n for n in free if self.random.random() < 0.5} for _ in range(count - 1)
        ]
        return [self._read(tensor, share, loose) for share in shares]

    def _read(self, tensor: Tensor, share: set[str], loose: bool) -> _Read:
        found = list[tuple[IndexExpr, Dim]]()
        for token in tensor.letters:
            letter, colon, group = token.partition(":")
            names = [
                n
                for n, of in self.letters.items()
                if of == letter and (letter != REST or n in share)
            ]
            if colon:
                size = self.dims[names[0]]
                parts = self.groups[group]
                step = size // parts if isinstance(size, int) else 1
                index = IndexExpr.make((IndexTerm(1, Path(names[0])),), 0, ("floordiv", step))
                found.append((index, parts))
            elif letter == REST and loose:
                found += self._loose(names)
            else:
                found += [(IndexExpr.of(name), self.dims[name]) for name in names]
        if REST in tensor.letters:
            self.random.shuffle(found)
        padded = any(len(index.terms) > 1 for index, _ in found)
        return tuple(i for i, _ in found), tuple(dim for _, dim in found), padded

    def _loose(self, names: list[str]) -> list[tuple[IndexExpr, Dim]]:
        """Variables read through maps and in windows."""
        found = list[tuple[IndexExpr, Dim]]()
        names = list(names)
        while names:
            name = names.pop()
            window = (
                names and isinstance(self.dims[name], int) and isinstance(self.dims[names[-1]], int)
            )
            if self.dims[name] == "edge" and self.random.random() < 0.7:
                found.append((IndexExpr.of(name, self.random.choice(("src", "dst"))), "node"))
            elif window and self.random.random() < 0.4:
                other = names.pop()
                terms = (IndexTerm(1, Path(name)), IndexTerm(1, Path(other)))
                found.append((IndexExpr.make(terms, -1), self.dims[name]))
            else:
                found.append((IndexExpr.of(name), self.dims[name]))
        return found

    def _body(self, statement: Statement) -> Captured:
        """A body over the reads of a statement, and a kind."""
        count = sum(
            len(self.reads[part.name])
            for argument in statement.arguments
            for part in walk(argument)
            if isinstance(part, Tensor)
        )
        sums = any(where is statement for where in self.reduced.values())
        kind = self.random.choice(("add", "add", "max", "add")) if sums else "assign"
        holes: list[Formula] = [Read(number, None) for number in range(count)]
        unary = ("relu", "neg") if self.element == "i32" else ("relu", "exp", "tanh", "neg")
        one = self.random.randrange(count)
        choice = self.random.randrange(4)
        if choice != 0:
            holes[one] = Apply(self.random.choice(unary), (holes[one],))
        if count > 1 and choice == 1:
            body: Formula = Apply("sub", (holes[0], nary("mul", holes[1:])))
        elif choice == 2:
            body = nary("add", [*holes, Constant(3, self.element)])
        else:
            body = nary("mul", holes)
        return Captured(kind, sorted_body(body))

    def _left(self, statement: Statement) -> list[tuple[IndexExpr, Dim]]:
        """Where the root writes, with the extents of what it writes."""
        sums = (
            statement.function == "mul" or self.functions[statement.function].kind != "assign"
            if statement.function == "mul" or "?" in statement.function
            else False
        )
        left = list[tuple[IndexExpr, Dim]]()
        for letter in statement.left:
            names = [
                n for n, of in self.letters.items() if of == letter and self.reduced[n] is None
            ]
            for name in names:
                scatter = sums and self.dims[name] == "edge" and self.random.random() < 0.6
                if scatter and letter == REST:
                    left.append((IndexExpr.of(name, "dst"), "node"))
                else:
                    left.append((IndexExpr.of(name), self.dims[name]))
        if REST in statement.left:
            self.random.shuffle(left)
        return left

    # the same in a graph

    def bind(self, flow: Dataflow, fixed: dict[str, bool]) -> Binding | None:
        """The binding, with its tensors as inputs of the graph."""
        shape = Shape(tuple(dim for _, dim in self.left), self.element)
        binding = Binding(
            dims=dict(self.dims),
            letters=dict(self.letters),
            functions=dict(self.functions),
            sizes=dict(self.groups),
            root=Root(tuple(index for index, _ in self.left), shape),
        )
        if scalable(self.law) and self.random.random() < 0.3:
            binding.constants = (Constant(3, self.element),)
        if self.law.many:
            for number in range(self.count):
                over = {name: sizes[number] for name, sizes in self.lengths.items()}
                binding.siblings.append(Sibling(dims={**over}))
        views = {p.term.name for p in walk(self.law.source) if isinstance(p, View)}
        for name, of in self.law.tensors.items():
            if not of.many:
                reads = [
                    self._input(flow, name, read, None, fixed[name]) for read in self.reads[name]
                ]
                binding.tensors[name] = tuple(reads)
            else:
                for read in self.reads[name]:
                    self._inputs(flow, name, read, binding, fixed[name])
            if name in views:
                self._view(flow, name, binding)
        for name in self.law.windows:
            self._window(flow, name, binding)
        return binding

    def _window(self, flow: Dataflow, name: str, binding: Binding) -> None:
        """Draw a window in which a tensor could be read; it needs padding then."""
        value = binding.tensors[name][0]
        access, places = list(value.access or ()), list[tuple[str, int]]()
        for axis, index in enumerate(access):
            if index.variable is None or self.random.random() < 0.4:
                continue
            extra = f"v{90 + len(places)}"
            extent = self.random.choice((1, 2, 3))
            place = self.random.randrange(extent)
            binding.letters[extra], binding.dims[extra] = REST, extent
            access[axis] = IndexExpr.make((*index.terms, IndexTerm(1, Path(extra))), -place)
            places.append((extra, place))
        node = flow.nodes[value.node]
        source = flow.input(f"{name}_padded", replace(node.shape, pad=0), node.fixed)
        binding.tensors[name] = (Value(source, value.access),)
        binding.window = WindowOf(tuple(access), tuple(places))

    def beside(self, flow: Dataflow, binding: Binding) -> tuple[int, ...]:
        """A product that reads a tensor in the window."""
        window, root = binding.window, binding.root
        if window is None or root is None:
            return ()
        value = binding.tensors[self.law.windows[0]][0]
        names = list(dict.fromkeys(n for i in window.access for n in i.variables))
        dims = tuple(binding.dims[name] for name in names)
        weights = flow.input("beside", Shape(dims, self.element), True)
        body = Apply("mul", (Read(0, window.access), Read(1, tuple(map(IndexExpr.of, names)))))
        left = {n for index in root.left for n in index.variables}
        over = {name: binding.dims[name] for name in dict.fromkeys((*sorted(left), *names))}
        operands = [value.node, weights]
        return (put(flow, "add", root.left, over, root.shape, body, operands),)

    def _inputs(
        self, flow: Dataflow, name: str, read: _Read, binding: Binding, fixed: bool
    ) -> None:
        """One more read of each sibling: of inputs, or where siblings share nothing of stretches
        of one input."""
        made = [self._input(flow, name, read, sibling, fixed) for sibling in binding.siblings]
        axis = self._cut_along(flow, made)
        if axis is not None:
            shapes = [flow.nodes[value.node].shape for value in made]
            size = sum(int(shape.dims[axis]) for shape in shapes)
            dims = (*shapes[0].dims[:axis], size, *shapes[0].dims[axis + 1 :])
            whole = flow.input(f"{name}{len(flow.inputs)}", Shape(dims, self.element), fixed)
            start = 0
            for number, (value, shape) in enumerate(zip(made, shapes, strict=True)):
                length = int(shape.dims[axis])
                made[number] = Value(cut(flow, whole, axis, start, length), value.access)
                start += length
        for sibling, value in zip(binding.siblings, made, strict=True):
            sibling.tensors[name] = (*sibling.tensors.get(name, ()), value)

    def _cut_along(self, flow: Dataflow, values: list[Value]) -> int | None:
        """The axis along which siblings that share nothing lie in one tensor."""
        if not self.law.siblings or any(not t.many for t in self.law.tensors.values()):
            return None
        dims = flow.nodes[values[0].node].shape.dims
        plain = [a for a, i in enumerate(values[0].access or ()) if isinstance(dims[a], int) and i]
        cut_here = [a for a in plain if (values[0].access or ())[a].variable in self.lengths]
        return next(iter([*cut_here, *plain]), None)

    def _input(
        self,
        flow: Dataflow,
        name: str,
        read: _Read,
        sibling: Sibling | None,
        fixed: bool,
    ) -> Value:
        access, dims, padded = read
        along = sibling.dims if sibling else {n: sum(sizes) for n, sizes in self.lengths.items()}
        dims = tuple(
            along.get(index.variable or "", dim) for index, dim in zip(access, dims, strict=True)
        )
        shape = Shape(dims, self.element, 0 if padded else None)
        return Value(flow.input(f"{name}{len(flow.inputs)}", shape, fixed), access)

    def _view(self, flow: Dataflow, name: str, binding: Binding) -> None:
        """Read an input through a view of it: its axes turned, a stretch, or a gather."""
        value = binding.tensors[name][0]
        access = value.access or ()
        names = [f"a{number}" for number in range(len(access))]
        outer = tuple(map(IndexExpr.of, names))
        inner, dims, over = list(outer), list(flow.nodes[value.node].shape.dims), list[Dim]()
        composed = list(access)
        for axis, dim in enumerate(dims):
            over.append(dim)
            gathers = dim == "edge" and access[axis].variable is not None
            if isinstance(dim, int) and self.random.random() < 0.5:
                inner[axis] = IndexExpr.make(inner[axis].terms, 1)
                composed[axis] = IndexExpr.make(access[axis].terms, 1)
                dims[axis] = dim + 1
            elif gathers:
                inner[axis] = IndexExpr.of(names[axis], "src")
                composed[axis] = IndexExpr.of(access[axis].variable or "", "src")
                dims[axis] = "node"
        turned = [*range(1, len(dims)), 0] if dims else []
        shape = Shape(tuple(dims[axis] for axis in turned), self.element)
        source = flow.input(f"{name}_whole", shape, flow.nodes[value.node].fixed)
        read = Read(0, tuple(inner[axis] for axis in turned))
        into = Shape(tuple(over), self.element)
        made = put(flow, "assign", outer, dict(zip(names, over, strict=True)), into, read, [source])
        binding.views[name] = Value(made, access)
        binding.tensors[name] = (Value(source, tuple(composed[axis] for axis in turned)),)


def _letters(tensor: Tensor) -> set[str]:
    return {token.partition(":")[0] for token in tensor.letters}
