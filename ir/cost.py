"""What the statements of a graph cost on a device, each by itself.

Enters: a `Dataflow`, a `Device`, `Extents`. Leaves: seconds for each node.

    model = CostModel(DEVICES["cpu"], Extents(schema, {"node": 7262, "edge": 48810}))
    model.total(flow)                   seconds of all statements
    model.explain(flow, number)         where they go

The cost of a node depends on the node, its operands and users, and on who else gathers the same
rows, so that a search knows what a change costs from the nodes around it (`neighbours`). Free are:
what depends on nothing but fixed inputs, since that is computed once; copies that are no more than
another access of a tensor (views), through which their readers read; and what a tensor would move
that never leaves the kernel it is made in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property

from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.device import Device
from hectorite.ir.element import ELEMENTS
from hectorite.ir.extents import Extents, Fields
from hectorite.ir.form_views import view
from hectorite.ir.formula import Formula, Read, rebuild
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.roofline import Time, time_of
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.ir.spread import Spread, hands_on, shares_kernel, spread, strips_of
from hectorite.ir.statement_form import Form, Shape, form
from hectorite.ir.statement_work import Surroundings, Work, work_of

LOCAL_BYTES = 1 << 16
"""A tensor with more bytes than this for each row leaves its kernel's cache."""

WIDE_BYTES = 512
"""A product with more bytes than this in each row of its result is done strip by strip."""

NEAR_BYTES = 1 << 18
"""Weights of a product that may stay in the cache next to a core, beside those of another one,
while a few rows go through a kernel: strips of wider products need not cross memory then."""

CHAIN = 3
"""Statements over elements through which one joins a visit."""

TILE_BYTES, TILE_ROWS = 1 << 17, 24
"""These rows have at most so many bytes."""


@dataclass(frozen=True)
class Explained:
    """A node's work and time."""

    work: Work
    time: Time

    @cached_property
    def seconds(self) -> float:
        """What the node takes."""
        return self.time.total


_NOTHING = Explained(Work(), Time())
_Known = tuple[
    Form,
    tuple[Form | int, ...],
    tuple[bool, ...],
    bool,
    bool,
    tuple[str, ...] | None,
    tuple[int, ...],
    int,
    bool,
]


@dataclass
class CostModel:
    """Costs of statements on a device, for sizes that are known or estimated."""

    device: Device
    extents: Extents
    _schema: Schema | None = None
    _spreads: dict[Form, Spread] = field(default_factory=dict[Form, Spread], repr=False)
    _shared: dict[tuple[Form, Form, int], bool] = field(
        default_factory=dict[tuple[Form, Form, int], bool], repr=False
    )
    _large: dict[Form, bool] = field(default_factory=dict[Form, bool], repr=False)
    _shapes: dict[int, Shape] = field(default_factory=dict[int, Shape], repr=False)
    """Shapes of inputs by their identity, kept so that it stays theirs."""
    _known: dict[_Known, Explained] = field(default_factory=dict[_Known, Explained], repr=False)

    def node(self, flow: Dataflow, number: int) -> float:
        """Seconds of a node; 0 for inputs and for what is free."""
        return self.explain(flow, number).seconds

    def total(self, flow: Dataflow) -> float:
        """Seconds of all statements; a call takes `device.call` more."""
        return sum(self.node(flow, number) for number in flow.order())

    def seconds(self, flow: Dataflow) -> float:
        """Seconds of a call."""
        return self.device.call + self.total(flow)

    def explain(self, flow: Dataflow, number: int) -> Explained:
        """The work of a node and its time by cause."""
        node = flow.nodes[number]
        if node.form is None or node.fixed:
            return _NOTHING
        self._take(flow.schema)
        result = number in flow.results
        if not result and _is_view(node):
            return _NOTHING
        made, operands = _through_views(flow, node)
        near = self._near(flow, made, operands)
        starts = not any(near)
        crosses = self._crosses(flow, made, operands, near)
        stored = result or crosses or self._leaves(flow, number, made)
        # What a wide product makes or needs is written to memory and fetched again.
        at_hand = (False,) * len(near) if crosses else near
        how = self._spread(made)
        visit = self._visit(flow, number, made, operands, near) if how.over_elements else None
        readers = self._readers(flow, number, made, operands) if flow.schema.sets else ()
        strips = self._strips(flow, number, made, operands, near) if how.visit else 1
        given = tuple([self._identity(flow.nodes[operand]) for operand in operands])
        fed = how.block is not None and self._is_fed(flow, operands, near)
        key = (made, given, at_hand, stored, starts, visit, readers, strips, fed)
        known = self._known.get(key)
        if known is None:
            shapes = tuple(flow.nodes[operand].shape for operand in operands)
            around = Surroundings(shapes, at_hand, stored, starts, visit, readers, strips, fed)
            gpu = self.device.is_gpu
            work = work_of(made, how, around, flow.schema, self.extents, gpu)
            known = Explained(work, time_of(work, self.device))
            self._known[key] = known
        return known

    def neighbours(self, flow: Dataflow, number: int) -> Iterable[int]:
        """The node and those whose cost may change if it appears, disappears or changes: its
        operands, users, and over sets the other users of its operands; views between them are
        passed through. In order."""
        node = flow.nodes.get(number)
        if node is None:
            return ()
        found = {number}
        found.update(_users(flow, number))
        for operand in _operands(flow, number):
            found.add(operand)
            if flow.schema.sets and not flow.nodes[operand].fixed:
                found.update(_users(flow, operand))
        if flow.schema.sets:
            found.update(self._elements_before(flow, number))
        return sorted(found)

    def _elements_before(self, flow: Dataflow, number: int) -> Iterator[int]:
        """Statements made for each element of a set that a node visits or passes on."""
        last = [number]
        for _ in range(CHAIN + 1):
            last = [o for n in last for o in _operands(flow, n) if self._over_elements(flow, o)]
            yield from last

    def _over_elements(self, flow: Dataflow, number: int) -> bool:
        node = flow.nodes[number]
        if node.form is None or node.fixed:
            return False
        self._take(flow.schema)
        return self._spread(self._form(flow, node)).over_elements

    def folded_bytes(self, flow: Dataflow) -> float:
        """Bytes of fixed tensors that statements of a call read."""
        read = dict[int, None]()
        for number, node, _ in flow.statements():
            if not node.fixed:
                read |= {o: None for o in node.operands if flow.nodes[o].fixed}
            elif number in flow.results:
                read[number] = None
        return sum(self.bytes_of(flow.nodes[number].shape) for number in read)

    def _identity(self, node: Node) -> Form | int:
        """Something that is the same for nodes of one shape, quick to hash."""
        if node.form is not None:
            return node.form
        self._shapes[id(node.shape)] = node.shape
        return id(node.shape)

    def _take(self, schema: Schema) -> None:
        if self._schema is schema:
            return
        old = self._schema.sets if self._schema is not None else schema.sets
        if any(schema.sets.get(name, decl) != decl for name, decl in old.items()):
            self._spreads.clear()
            self._shared.clear()
            self._large.clear()
            self._known.clear()
        self.extents.declare(schema)
        self._schema = schema

    def _spread(self, made: Form) -> Spread:
        if made not in self._spreads:
            assert self._schema is not None
            self._spreads[made] = spread(made, self._schema, self.extents.of, self.device.is_gpu)
        return self._spreads[made]

    def _near(self, flow: Dataflow, made: Form, operands: tuple[int, ...]) -> tuple[bool, ...]:
        """Which operands are made in the same kernel."""
        near = [False] * len(operands)
        for slot, operand in enumerate(operands):
            source = flow.nodes[operand]
            if source.form is not None and not source.fixed:
                form = self._form(flow, source)
                near[slot] = self._shares(form, made, slot) and not self._comes_too_early(
                    flow, operand, form, operands
                )
                if self._hands_on(form, made, slot):
                    alone = len(_users(flow, operand)) == 1 and operand not in flow.results
                    near[slot] = near[slot] or alone
        return tuple(near)

    def _strips(
        self,
        flow: Dataflow,
        number: int,
        made: Form,
        operands: tuple[int, ...],
        near: tuple[bool, ...],
    ) -> int:
        """Strips of the lanes that two steps over one set are done in; 1 for other statements."""
        for slot, operand in enumerate(operands):
            source = flow.nodes[operand]
            if near[slot] and self._hands_on(self._form(flow, source), made, slot):
                return strips_of(made)
        users = _users(flow, number)
        if len(users) == 1 and number not in flow.results:
            reader = flow.nodes[users[0]]
            if reader.form is not None:
                read, theirs = _through_views(flow, reader)
                if number in theirs and self._hands_on(made, read, theirs.index(number)):
                    return strips_of(read)
        return 1

    def _is_fed(self, flow: Dataflow, operands: tuple[int, ...], near: tuple[bool, ...]) -> bool:
        """Whether a visit of the same kernel sums an operand."""
        return any(
            is_near and self._spread(self._form(flow, flow.nodes[operand])).visit is not None
            for operand, is_near in zip(operands, near, strict=True)
        )

    def _hands_on(self, made: Form, reader: Form, slot: int) -> bool:
        source, used = self._spread(made), self._spread(reader)
        if self.device.is_gpu or source.visit is None or used.visit is None:
            return False
        return hands_on(made, source, reader, used, slot)

    def _comes_too_early(
        self, flow: Dataflow, source: int, made: Form, operands: tuple[int, ...]
    ) -> bool:
        """Whether another operand is made by a further kernel that needs the source: the kernel of
        the source is over then."""
        if len(operands) < 2:
            return False
        for other in operands:
            node = flow.nodes[other]
            if other == source or node.form is None or node.fixed or source not in node.operands:
                continue
            if not self._shares(made, node.form, node.operands.index(source)):
                return True
        return False

    def _form(self, flow: Dataflow, node: Node) -> Form:
        return _through_views(flow, node)[0]

    def _leaves(self, flow: Dataflow, number: int, made: Form) -> bool:
        """Whether some reader finds a node's tensor in memory only."""
        if self._is_large(made):
            return True
        users = _users(flow, number)
        for user in users:
            reader = flow.nodes[user]
            if reader.form is None or (_is_view(reader) and user not in flow.results):
                continue
            read, operands = _through_views(flow, reader)
            for slot, operand in enumerate(operands):
                if operand != number or (len(users) == 1 and self._hands_on(made, read, slot)):
                    continue
                if not self._shares(made, read, slot):
                    return True
                if self._is_wide(read) or self._comes_too_early(flow, number, made, operands):
                    return True
        return False

    def _crosses(
        self, flow: Dataflow, made: Form, operands: tuple[int, ...], near: tuple[bool, ...]
    ) -> bool:
        """Whether a node is, or reads from its own kernel, a product that is done strip by strip:
        what its kernel passes on is in memory then."""
        if self._is_wide(made):
            return True
        return any(
            is_near and self._is_wide(self._form(flow, flow.nodes[operand]))
            for operand, is_near in zip(operands, near, strict=True)
        )

    def _is_wide(self, made: Form) -> bool:
        """Whether a CPU goes through all rows of a task for each strip of a product's columns, so
        that what its kernel passes on is in memory."""
        how = self._spread(made)
        block = how.block
        if block is None or how.scattered or self.device.is_gpu:
            return False
        size = ELEMENTS[made.shape.element].storage.itemsize
        row = self.extents.of(made.extents[block.lanes]) * size
        for name in (block.inner, *block.outer):
            size *= self.extents.of(made.extents[name])
        weights = self.extents.of(made.extents[block.lanes]) * size
        near = weights <= NEAR_BYTES and row * TILE_ROWS <= TILE_BYTES
        return row > WIDE_BYTES and not near

    def _shares(self, made: Form, reader: Form, slot: int) -> bool:
        key = (made, reader, slot)
        known = self._shared.get(key)
        if known is None:
            source, used = self._spread(made), self._spread(reader)
            alone = source.block or source.outer or used.block or used.outer
            together = not self.device.is_gpu or not alone
            known = together and shares_kernel(made, source, reader, used, slot)
            self._shared[key] = known
        return known

    def _visit(
        self,
        flow: Dataflow,
        number: int,
        made: Form,
        operands: tuple[int, ...],
        near: tuple[bool, ...],
    ) -> tuple[str, ...] | None:
        """The path by which a neighbour visits the elements that this node is made for: one of its
        readers, or of theirs, else one of what it reads; of several the first by name."""
        owner = self._spread(made).rows[0]
        found = self._taken_over(flow, number, made, CHAIN)
        if not found:
            for operand in (o for o, is_near in zip(operands, near, strict=True) if is_near):
                visit = self._spread(self._form(flow, flow.nodes[operand])).visit
                if visit is not None and visit[0] == owner:
                    found.append(visit[1])
        return min(found, default=None)

    def _taken_over(self, flow: Dataflow, number: int, made: Form, steps: int) -> list[Fields]:
        """The paths by which readers of a node visit its elements, some of them through others that
        are made for each element as well."""
        owner, found = self._spread(made).rows[0], list[Fields]()
        for user in _users(flow, number):
            reader = flow.nodes[user]
            if reader.form is None or reader.fixed:
                continue
            read, theirs = _through_views(flow, reader)
            how = self._spread(read)
            if number not in theirs or not self._shares(made, read, theirs.index(number)):
                continue
            if how.visit is not None and how.visit[0] == owner:
                found.append(how.visit[1])
            elif steps and how.over_elements and how.rows[0] == owner:
                found += self._taken_over(flow, user, read, steps - 1)
        return found

    def _readers(
        self, flow: Dataflow, number: int, made: Form, operands: tuple[int, ...]
    ) -> tuple[int, ...]:
        """For each operand, how many statements gather its rows as this one does."""
        counts = list[int]()
        for slot, operand in enumerate(operands):
            ways = gathered(made, slot)
            count = 1
            if ways:
                for user in _users(flow, operand):
                    reader = flow.nodes[user]
                    if user == number or reader.form is None or reader.fixed:
                        continue
                    if _is_view(reader) and user not in flow.results:
                        continue
                    read, theirs = _through_views(flow, reader)
                    same = operand in theirs and gathered(read, theirs.index(operand)) == ways
                    count += same
            counts.append(count)
        return tuple(counts)

    def _is_large(self, made: Form) -> bool:
        """Whether what each row makes is too much for the cache of a kernel."""
        if made not in self._large:
            rows = 1.0
            for dim in self._spread(made).rows:
                rows *= self.extents.of(dim)
            self._large[made] = self.bytes_of(made.shape) / rows > LOCAL_BYTES
        return self._large[made]

    def bytes_of(self, shape: Shape) -> float:
        """Bytes of a tensor."""
        total = float(ELEMENTS[shape.element].storage.itemsize)
        for dim in shape.dims:
            total *= self.extents.of(dim)
        return total


def _is_view(node: Node) -> bool:
    """Whether readers read through a node."""
    form = node.form
    if form is None or view(form) is None:
        return False
    return not node.fixed and node.shape.pad is None


def _operands(flow: Dataflow, number: int) -> Iterator[int]:
    """The operands of a node and, through views, theirs."""
    waiting = list(flow.nodes[number].operands)
    while waiting:
        operand = waiting.pop()
        yield operand
        if _is_view(flow.nodes[operand]):
            waiting += flow.nodes[operand].operands


def _users(flow: Dataflow, number: int) -> list[int]:
    """The users of a node and, through views, theirs."""
    found, at = list(flow.users.get(number, ())), 0
    while at < len(found):
        if _is_view(flow.nodes[found[at]]):
            found += flow.users.get(found[at], ())
        at += 1
    return found


def _through_views(flow: Dataflow, node: Node) -> tuple[Form, tuple[int, ...]]:
    """The form of a node, and its operands, with its reads of views composed with what those
    read."""
    made, operands = node.form, node.operands
    assert made is not None
    nodes = flow.nodes
    for operand in operands:
        if _is_view(nodes[operand]):
            break
    else:
        return made, operands
    slot = 0
    while slot < len(operands):
        source = flow.nodes[operands[slot]]
        composed = None
        if source.form is not None and _is_view(source):
            composed = _composed(made, slot, source.form, source.operands[0] in operands)
        if composed is None:
            slot += 1
            continue
        made, order = composed
        inner = (*operands, source.operands[0])
        operands = tuple(inner[at] for at in order)
        slot = 0
    return made, operands


@cache
def gathered(made: Form, slot: int) -> frozenset[tuple[str, tuple[str, ...]]]:
    """The sets and paths through which a form reads a slot."""
    over = made.extents
    return frozenset(
        (str(over[path.variable]), path.fields)
        for read in made.reads
        if read.slot == slot and read.access is not None
        for index in read.access
        for path in index.paths
        if path.fields
    )


@cache
def _composed(
    made: Form, slot: int, source: Form, known: bool
) -> tuple[Form, tuple[int, ...]] | None:
    """The form with reads of a slot taken through a view, and which of the old slots each operand
    is, the view's operand being the one after the last; None if that cannot be written."""
    inner = view(source)
    if made.body is None or made.init or made.kind == "softmax" or inner is None:
        return None
    new = made.operands

    def through(part: Formula) -> Formula | None:
        if not isinstance(part, Read) or part.slot != slot or part.access is None:
            return None
        at = {str(i.variable): index for i, index in zip(source.left, part.access, strict=True)}

        def follow(path: Path) -> IndexExpr:
            index = at[path.variable]
            if not path.fields:
                return index
            if index.path is None:
                raise ValueError("no element of a set")
            start = index.path.variable
            if not index.path.fields and made.extents[start] != source.extents[path.variable]:
                raise ValueError("a number in the place of an element")
            return IndexExpr.of(start, *index.path.fields, *path.fields)

        access = tuple(index.substitute(follow) for index in inner.access or ())
        return Read(new, access)

    try:
        body = rebuild(made.body, through)
    except ValueError:
        return None
    dims: dict[str, Dim] = dict(made.dims)
    changed, slots, _ = form(made.kind, made.left, dims, made.shape, body, note=made.note)
    return changed, slots
