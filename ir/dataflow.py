"""A function as a graph of statements that passes may change and take back.

Each node is a `Form` (ir/statement_form.py) applied to other nodes, or an input. Equal statements
on equal operands are one node, so common subexpressions cannot be told apart. Nodes without users
that are no results are gone.

    def f(x, W, b):  z[n, o] += x[n, i] * W[i, o]      0: x   1: W   2: b
                     y[n, o]  = relu(z[n, o] + b[o])   3: Form(add ...) of 0, 1
                     return y                          4: Form(assign ...) of 3, 2     results: 4

A change is local: `replace` costs the number of users, not the size of the graph. `mark` and
`take_back` undo changes exactly, so a search can try a step and measure it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from typing import Any

from hectorite.ir.formula import with_slots
from hectorite.ir.schema import Schema, SetDecl
from hectorite.ir.statement_form import Form, Shape, form

_GONE = object()


@dataclass(frozen=True)
class Edit:
    """A call that changed a graph: the name of the method, its arguments and what it gave."""

    method: str
    arguments: tuple[Any, ...]
    result: int | None = None


@dataclass(frozen=True)
class Node:
    """A statement applied to other nodes; an input has no form. `name`, and `hints` for those of
    the index variables, are for people, except that an input is told from others by its name.
    `label` is an identity that is the same in every process."""

    form: Form | None
    operands: tuple[int, ...]
    shape: Shape
    name: str | None
    label: str
    fixed: bool
    """Whether it depends on inputs alone that are the same in every call."""
    hints: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.label)


@dataclass
class Dataflow:
    """The statements of one function. Read the fields; change them by the methods only."""

    schema: Schema = field(default_factory=Schema)
    reassociate: bool = True
    """Whether floats may be added and multiplied in another order."""
    nodes: dict[int, Node] = field(default_factory=dict[int, Node])
    users: dict[int, dict[int, None]] = field(default_factory=dict[int, dict[int, None]])
    """The nodes that have it as an operand. Sort them: their order is that of past changes."""
    results: list[int] = field(default_factory=list[int])
    inputs: dict[str, int] = field(default_factory=dict[str, int])
    edits: list[Edit] = field(default_factory=list[Edit])
    """Calls of `add`, `replace` and `declare`, and"""
    touched: dict[int, None] = field(default_factory=dict[int, None])
    """nodes made, changed, gone, or with other users, and"""
    became: dict[int, int] = field(default_factory=dict[int, int])
    """replaced nodes with what stands for them; all since `listen`."""
    _equal: dict[tuple[Form, tuple[int, ...]], int] = field(
        default_factory=dict[tuple[Form, tuple[int, ...]], int]
    )
    _next: int = 0
    _journal: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    _marks: int = 0

    # building

    def input(self, name: str, shape: Shape, fixed: bool = False) -> int:
        """A tensor or scalar that the caller gives."""
        number = self._fresh(Node(None, (), shape, name, name, fixed))
        self.inputs[name] = number
        return number

    def add(
        self,
        form: Form,
        operands: Sequence[int],
        name: str | None = None,
        hints: tuple[str, ...] = (),
    ) -> int:
        """The node of a form on operands, which may have been there already."""
        number = self._add(form, tuple(operands), name, hints)
        self.edits.append(Edit("add", (form, tuple(operands), name, hints), number))
        return number

    def _add(
        self, form: Form, operands: tuple[int, ...], name: str | None, hints: tuple[str, ...]
    ) -> int:
        form, chosen = _distinct(form, operands)
        if (form, chosen) in self._equal:
            return self._equal[form, chosen]
        labels = ",".join(self.nodes[o].label for o in chosen)
        label = hashlib.blake2b(f"{form.digest}({labels})".encode(), digest_size=8).hexdigest()
        fixed = bool(chosen) and all(self.nodes[o].fixed for o in chosen)
        number = self._fresh(Node(form, chosen, form.shape, name, label, fixed, hints))
        self._put(self._equal, (form, chosen), number)
        for operand in chosen:
            self._use(operand, number)
        return number

    def give(self, results: Iterable[int]) -> None:
        """Set the results of the function and drop what they do not need."""
        self.results[:] = results
        for number in list(self.nodes):
            self.drop(number)
        self.listen()

    # changing

    def replace(self, old: int, new: int) -> None:
        """Let everything that uses `old` use `new` instead. `new` must not depend on `old`."""
        self.edits.append(Edit("replace", (old, new)))
        waiting = [(old, new)]
        while waiting:
            old, new = waiting.pop()
            if old == new or old not in self.nodes:
                continue
            for user in sorted(self.users[old]):
                equal = self._change_operand(user, old, new)
                if equal is not None:
                    waiting.append((user, equal))
            for position, result in enumerate(self.results):
                if result == old:
                    self._put_result(position, new)
            self.became[old] = new
            self.drop(old)

    def declare(self, decl: SetDecl) -> None:
        """Add a set that steps compute on."""
        self.edits.append(Edit("declare", (decl,)))
        old = self.schema
        if self._marks:
            self._journal.append(lambda: setattr(self, "schema", old))
        self.schema = Schema({**old.sets, decl.name: decl}, old.sizes)

    def drop(self, number: int) -> None:
        """Remove a node that nothing uses, and its operands if nothing else uses them."""
        waiting = [number]
        while waiting:
            number = waiting.pop()
            node = self.nodes.get(number)
            if node is None or node.form is None or self.users[number] or number in self.results:
                continue
            self._remove(self._equal, (node.form, node.operands))
            self._remove(self.nodes, number)
            self._remove(self.users, number)
            self.touched[number] = None
            for operand in dict.fromkeys(node.operands):
                self.touched[operand] = None
                self._remove(self.users[operand], number)
                waiting.append(operand)

    def _change_operand(self, user: int, old: int, new: int) -> int | None:
        """Put `new` in the place of an operand; gives the node that is equal then, if there is."""
        node = self.nodes[user]
        assert node.form is not None
        operands = tuple(new if o == old else o for o in node.operands)
        changed, operands = _distinct(node.form, operands)
        if (changed, operands) in self._equal:
            return self._equal[changed, operands]
        fixed = all(self.nodes[o].fixed for o in operands)
        self._remove(self._equal, (node.form, node.operands))
        self._put(self._equal, (changed, operands), user)
        self._put(self.nodes, user, replace(node, form=changed, operands=operands, fixed=fixed))
        self.touched[user] = None
        for operand in dict.fromkeys(node.operands):
            if operand not in operands:
                self.touched[operand] = None
                self._remove(self.users[operand], user)
        for operand in operands:
            self._use(operand, user)
        return None

    # asking

    def order(self) -> list[int]:
        """All nodes, operands first and otherwise in order of creation."""
        waiting = {number: len(set(node.operands)) for number, node in self.nodes.items()}
        ready = [number for number, left in waiting.items() if not left]
        heapify(ready)
        found = list[int]()
        while ready:
            number = heappop(ready)
            found.append(number)
            for user in self.users[number]:
                waiting[user] -= 1
                if not waiting[user]:
                    heappush(ready, user)
        return found

    def statements(self) -> Iterator[tuple[int, Node, Form]]:
        """The nodes that are no inputs, operands first."""
        for number in self.order():
            node = self.nodes[number]
            if node.form is not None:
                yield number, node, node.form

    def needs(self, number: int, other: int) -> bool:
        """Whether a node depends on another (or is it)."""
        seen, waiting = {number}, [number]
        while waiting:
            here = waiting.pop()
            if here == other:
                return True
            fresh = [o for o in self.nodes[here].operands if o not in seen]
            seen.update(fresh)
            waiting += fresh
        return False

    def copy(self) -> Dataflow:
        """A graph of its own with the same node numbers."""
        return Dataflow(
            self.schema,
            self.reassociate,
            dict(self.nodes),
            {number: dict(users) for number, users in self.users.items()},
            list(self.results),
            dict(self.inputs),
            _equal=dict(self._equal),
            _next=self._next,
        )

    # taking back

    def listen(self) -> None:
        """Start new records of `edits`, `touched` and `became`."""
        self.edits, self.touched, self.became = [], {}, {}

    def mark(self) -> int:
        """A point to return to; end it by `take_back` or `keep`, the innermost first."""
        self._marks += 1
        return len(self._journal)

    def take_back(self, mark: int) -> None:
        """Undo everything since the mark."""
        while len(self._journal) > mark:
            self._journal.pop()()
        self._marks -= 1

    def keep(self, mark: int) -> None:
        """Keep everything since the mark."""
        self._marks -= 1
        if not self._marks:
            self._journal.clear()

    def _fresh(self, node: Node) -> int:
        number = self._next
        if self._marks:
            self._journal.append(lambda: setattr(self, "_next", number))
        self._next += 1
        self.touched[number] = None
        self._put(self.nodes, number, node)
        self._put(self.users, number, dict[int, None]())
        return number

    def _use(self, operand: int, user: int) -> None:
        if user not in self.users[operand]:
            self.touched[operand] = None
            self._put(self.users[operand], user, None)

    def _put(self, table: dict[Any, Any], key: object, value: object) -> None:
        if self._marks:
            old = table.get(key, _GONE)
            self._journal.append(lambda: _restore(table, key, old))
        table[key] = value

    def _remove(self, table: dict[Any, Any], key: object) -> None:
        if self._marks:
            old = table[key]
            self._journal.append(lambda: _restore(table, key, old))
        del table[key]

    def _put_result(self, position: int, number: int) -> None:
        old = self.results[position]
        self.touched[old] = self.touched[number] = None
        if self._marks:
            self._journal.append(lambda: self.results.__setitem__(position, old))
        self.results[position] = number


def _restore(table: dict[Any, Any], key: object, old: object) -> None:
    if old is _GONE:
        del table[key]
    else:
        table[key] = old


def _distinct(made: Form, operands: tuple[int, ...]) -> tuple[Form, tuple[int, ...]]:
    """The form in which each operand has one slot."""
    count = len(operands) - made.init
    if made.body is None or len(set(operands[:count])) == count:
        return made, operands
    first = {operand: slot for slot, operand in reversed(list(enumerate(operands[:count])))}
    body = with_slots(made.body, {s: first[o] for s, o in enumerate(operands[:count])})
    changed, slots, _ = form(
        made.kind, made.left, dict(made.dims), made.shape, body, made.init, made.note
    )
    return changed, (*(operands[slot] for slot in slots), *operands[count:])
