"""What the statements of a graph cost on a device, each by itself.

Enters: a `Dataflow`, a `Device`, `Extents`. Leaves: seconds for each node.

    model = CostModel(DEVICES["cpu"], Extents(schema, {"node": 7262, "edge": 48810}))
    model.total(flow)                   seconds of all statements
    model.explain(flow, number)         where they go

The cost of a node depends on the node, its operands and its users only, so that a search knows what
a change costs from the nodes around it (`neighbours`). Free are: what depends on nothing but fixed
inputs, since that is computed once; copies that read no more than another access of a tensor
(views), through which their readers read; and what a tensor would move that never leaves the kernel
it is made in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.device import Device
from hectorite.ir.element import ELEMENTS
from hectorite.ir.extents import Extents
from hectorite.ir.form_views import view
from hectorite.ir.formula import Formula, Read, rebuild
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.roofline import Time, time_of
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.ir.spread import Spread, shares_kernel, spread
from hectorite.ir.statement_form import Form, Shape, form
from hectorite.ir.statement_work import Surroundings, Work, work_of

LOCAL_BYTES = 1 << 16
"""A tensor with more bytes than this for each row leaves its kernel's cache."""


@dataclass(frozen=True)
class Explained:
    """A node's work and time."""

    work: Work
    time: Time


_NOTHING = Explained(Work(), Time())
_Known = tuple[Form, tuple[Shape, ...], tuple[bool, ...], bool, bool]


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
    _known: dict[_Known, Explained] = field(default_factory=dict[_Known, Explained], repr=False)

    def node(self, flow: Dataflow, number: int) -> float:
        """Seconds of a node; 0 for inputs and for what is free."""
        return self.explain(flow, number).time.total

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
        shapes = tuple(flow.nodes[operand].shape for operand in operands)
        near = self._near(flow, made, operands)
        starts = not any(near)
        stored = result or self._leaves(flow, number, made)
        key = (made, shapes, near, stored, starts)
        if key not in self._known:
            around = Surroundings(shapes, near, stored, starts)
            how = self._spread(made)
            gpu = self.device.is_gpu
            work = work_of(made, how, around, flow.schema, self.extents, gpu)
            self._known[key] = Explained(work, time_of(work, self.device))
        return self._known[key]

    def neighbours(self, flow: Dataflow, number: int) -> Iterable[int]:
        """The node and those whose cost may change if it appears, disappears or changes: its
        operands and users; views between them are passed through. In order."""
        node = flow.nodes.get(number)
        if node is None:
            return ()
        found = {number}
        found.update(_operands(flow, number))
        found.update(_users(flow, number))
        return sorted(found)

    def folded_bytes(self, flow: Dataflow) -> float:
        """Bytes of fixed tensors that statements of a call read."""
        read = dict[int, None]()
        for number, node, _ in flow.statements():
            if not node.fixed:
                read |= {o: None for o in node.operands if flow.nodes[o].fixed}
            elif number in flow.results:
                read[number] = None
        return sum(self.bytes_of(flow.nodes[number].shape) for number in read)

    def _take(self, schema: Schema) -> None:
        if self._schema is schema:
            return
        old = self._schema.sets if self._schema is not None else schema.sets
        if any(schema.sets.get(name, decl) != decl for name, decl in old.items()):
            self._spreads.clear()
            self._shared.clear()
            self._known.clear()
        self.extents.declare(schema)
        self._schema = schema

    def _spread(self, made: Form) -> Spread:
        if made not in self._spreads:
            assert self._schema is not None
            self._spreads[made] = spread(made, self._schema, self.extents.of)
        return self._spreads[made]

    def _near(self, flow: Dataflow, made: Form, operands: tuple[int, ...]) -> tuple[bool, ...]:
        """Which operands are made in the same kernel."""
        near = list[bool]()
        for slot, operand in enumerate(operands):
            source = flow.nodes[operand]
            near.append(
                source.form is not None
                and not source.fixed
                and self._shares(self._form(flow, operand), made, slot)
                and not self._comes_too_early(flow, operand, operands)
            )
        return tuple(near)

    def _comes_too_early(self, flow: Dataflow, source: int, operands: tuple[int, ...]) -> bool:
        """Whether another operand is made by a further kernel that needs the source: the kernel of
        the source is over then."""
        for other in operands:
            node = flow.nodes[other]
            if other == source or node.form is None or node.fixed or source not in node.operands:
                continue
            if not self._shares(self._form(flow, source), node.form, node.operands.index(source)):
                return True
        return False

    def _form(self, flow: Dataflow, number: int) -> Form:
        return _through_views(flow, flow.nodes[number])[0]

    def _leaves(self, flow: Dataflow, number: int, made: Form) -> bool:
        """Whether some reader finds a node's tensor in memory only."""
        if self._row_bytes(made) > LOCAL_BYTES:
            return True
        for user in _users(flow, number):
            reader = flow.nodes[user]
            if reader.form is None or reader.fixed:
                continue
            read, operands = _through_views(flow, reader)
            for slot, operand in enumerate(operands):
                if operand != number:
                    continue
                early = self._comes_too_early(flow, number, operands)
                if early or not self._shares(made, read, slot):
                    return True
        return False

    def _shares(self, made: Form, reader: Form, slot: int) -> bool:
        key = (made, reader, slot)
        if key not in self._shared:
            source, used = self._spread(made), self._spread(reader)
            together = not self.device.is_gpu or not (source.block or used.block)
            self._shared[key] = together and shares_kernel(made, source, reader, used, slot)
        return self._shared[key]

    def _row_bytes(self, made: Form) -> float:
        rows = 1.0
        for dim in self._spread(made).rows:
            rows *= self.extents.of(dim)
        return self.bytes_of(made.shape) / rows

    def bytes_of(self, shape: Shape) -> float:
        """Bytes of a tensor."""
        total = float(ELEMENTS[shape.element].storage.itemsize)
        for dim in shape.dims:
            total *= self.extents.of(dim)
        return total


def _is_view(node: Node) -> bool:
    """Whether readers read through a node."""
    return (
        node.form is not None
        and not node.fixed
        and node.shape.pad is None
        and view(node.form) is not None
    )


def _operands(flow: Dataflow, number: int) -> Iterator[int]:
    """The operands of a node and, through views, theirs."""
    waiting = list(flow.nodes[number].operands)
    while waiting:
        operand = waiting.pop()
        yield operand
        if _is_view(flow.nodes[operand]):
            waiting += flow.nodes[operand].operands


def _users(flow: Dataflow, number: int) -> Iterator[int]:
    """The users of a node and, through views, theirs."""
    waiting = list(flow.users.get(number, ()))
    while waiting:
        user = waiting.pop()
        yield user
        if _is_view(flow.nodes[user]):
            waiting += flow.users.get(user, ())


def _through_views(flow: Dataflow, node: Node) -> tuple[Form, tuple[int, ...]]:
    """The form of a node, and its operands, with its reads of views composed with what those
    read."""
    made, operands = node.form, node.operands
    assert made is not None
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
            return IndexExpr.of(index.path.variable, *index.path.fields, *path.fields)

        access = tuple(index.substitute(follow) for index in inner.access or ())
        return Read(new, access)

    try:
        body = rebuild(made.body, through)
    except ValueError:
        return None
    dims: dict[str, Dim] = dict(made.dims)
    changed, slots, _ = form(made.kind, made.left, dims, made.shape, body, note=made.note)
    return changed, slots
