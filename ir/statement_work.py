"""What one statement does: operations by unit, bytes by way of access, kernels.

Enters: a form, what its operands are, which of them are at hand in the same kernel, and sizes.
Leaves: `Work`, numbers that `ir/roofline.py` turns into seconds.

    y[e.dst, o] += a[e] * z[e.src, o]    2 * |edge| * 64 operations in vectors
                                         |edge| gathered rows of 256 bytes out of z
                                         |edge| steps of a visit of |node| rows
                                         a and y streamed

Operations count once for each value of the variables that they depend on. Equal parts of a body
count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, prod

from hectorite.ir.element import ELEMENTS
from hectorite.ir.extents import Extents
from hectorite.ir.formula import Access, Apply, Read, factors, variables, walk
from hectorite.ir.index import Path
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.ir.spread import Block, Spread
from hectorite.ir.statement_form import Form, Shape

LANES = 8.0
"""Innermost extents of fewer elements than this leave most of a vector empty."""

STRIP = 64
"""Columns that a CPU does together."""

REMAINDER = 0.2
"""Steps of a visit that a vector beyond the first ones takes."""

TARGET_BYTES = 1 << 19
"""Bytes of the rows that one task of a CPU adds products to."""

COMPUTED, FED = 1.0, 4.0
"""Rows of a visit more that it takes to compute the left operand of a row that is added elsewhere
at once, or to sum that of a row whose weights a map selects: few rows are alike at a time."""

NARROW = 2.0
"""Rows of a visit that one takes whose elements lie in lanes, which are added up in the end."""

LOOKED_UP = 0.5
"""Rows of a visit that it takes to look an element up and to find it or not."""

LINE = 64.0
"""Bytes of a cache line."""

RAGGED, PACKED_ROWS = 4, 32
"""A CPU packs weights with more columns than this, if they are no power of two, for products of at
least so many rows."""

PICKED = 4.0
"""Operations outside of vectors for each element that a sum reads at a quotient or a remainder of
the variable in lanes, from which no vector can be loaded."""

TRANSCENDENTAL: Mapping[str, float] = {
    "exp": 1.0,
    "log": 1.3,
    "sin": 1.6,
    "cos": 1.6,
    "tanh": 1.5,
    "sigmoid": 1.3,
    "silu": 1.3,
    "erf": 1.6,
    "gelu": 1.8,
    "pow": 3.0,
}
"""Functions that are polynomials, in exponentials."""

SLOW: Mapping[str, float] = {"div": 4.0, "sqrt": 6.0, "rsqrt": 8.0, "floordiv": 12.0, "mod": 12.0}
"""Functions that cost as much as several additions."""


@dataclass(frozen=True)
class Gather:
    """Rows of `row` bytes, `count` of them, from places that lie in no order in `table` bytes.
    `readers` statements of one kernel gather the same rows, each once."""

    count: float
    row: float
    table: float
    readers: int = 1


@dataclass(frozen=True)
class Product:
    """A product of `rows` by `terms` by `columns`, `times` times. Blocks of rows are full to the
    share `fill`; `unit` is what computes it."""

    rows: float
    columns: float
    terms: float
    times: float
    fill: float
    unit: str
    weight_bytes: float


@dataclass
class Work:
    """What a statement does. Operations and bytes are numbers of them."""

    operations: dict[str, float] = field(default_factory=dict[str, float])
    """By unit: fma_f32 and the like in vectors, transcendental, scalar."""
    product: Product | None = None
    streamed: float = 0.0
    """Bytes read in order, each once."""
    written: float = 0.0
    gathers: tuple[Gather, ...] = ()
    elements: float = 0.0
    """Steps of visits."""
    steps: float = 0.0
    """Steps of sums inside of visits, each of which adds some vectors to memory."""
    rows: float = 0.0
    """Rows of visits."""
    atomics: float = 0.0
    launches: float = 0.0
    tasks: float = 1.0
    """Parts that could be done at the same time."""
    kernel: str = ""
    """What does it, if that is more than a visit or a product."""

    @property
    def flops(self) -> float:
        """Operations of all units."""
        own = 0.0
        if self.product is not None:
            p = self.product
            own = 2.0 * p.rows * p.columns * p.terms * p.times
        return own + sum(self.operations.values())

    @property
    def bytes(self) -> float:
        """All bytes that are read, written and gathered."""
        return self.streamed + self.written + sum(g.count * g.row for g in self.gathers)


@dataclass(frozen=True)
class Surroundings:
    """What a statement finds: shapes of its operands, whether each is at hand in its own kernel
    (`near`), whether its result leaves the kernel, and whether it starts a kernel. `key` is the
    path by which the elements of a set are visited, if others decide that; `readers` how many
    statements gather the same rows of each operand; `strips` into how many the lanes are cut, where
    two steps over one set are done together; `fed` tells that its kernel sums an operand."""

    shapes: tuple[Shape, ...]
    near: tuple[bool, ...]
    stored: bool
    starts: bool
    key: tuple[str, ...] | None = None
    readers: tuple[int, ...] = ()
    strips: int = 1
    fed: bool = False


def work_of(
    form: Form, how: Spread, around: Surroundings, schema: Schema, extents: Extents, gpu: bool
) -> Work:
    """The work of a statement spread in this way."""
    counting = _Counting(form, how, around, schema, extents, gpu)
    work = Work(launches=float(around.starts))
    if around.stored:
        work.written = counting.bytes(form.shape)
    if form.kind == "concat":
        for shape, near in zip(around.shapes, around.near, strict=True):
            work.streamed += 0.0 if near else counting.bytes(shape)
        work.operations["fma_f32"] = counting.elements(form.shape)
        return work
    counting.add_operations(work)
    counting.add_reads(work)
    counting.add_visit(work)
    if around.strips > 1:
        counting.cut_into_strips(work)
    return work


@dataclass(frozen=True)
class _Counting:
    form: Form
    how: Spread
    around: Surroundings
    schema: Schema
    extents: Extents
    gpu: bool

    def points(self, names: Sequence[str]) -> float:
        """Values of some index variables together."""
        over = self.form.extents
        return prod(self.extents.of(over[name]) for name in dict.fromkeys(names))

    def elements(self, shape: Shape) -> float:
        return prod(map(self.extents.of, shape.dims))

    def bytes(self, shape: Shape) -> float:
        return self.elements(shape) * _width(shape.element)

    def add_operations(self, work: Work) -> None:
        """Operations of the body and of the reduction."""
        block = self.how.block
        if self.how.scattered:
            self._add_scattered(work, block)
            return
        if self.how.outer is not None:
            work.product, work.kernel = self._outer(*self.how.outer), "outer products"
            return
        if block is not None:
            work.product = self._product(block)
            if self._is_summed_first(block):
                work.rows = FED * work.product.rows
        if self.form.kind == "softmax":
            points = self.points([name for name, _ in self.form.dims])
            self._count(work, "transcendental", points, TRANSCENDENTAL["exp"])
            self._count(work, self._unit(self.form.shape.element), points, 4.0 + SLOW["div"])
            # Maximum, sum and quotient each pass over the elements again.
            work.streamed += 3.0 * points * _width(self.form.shape.element)
            return
        every = [name for name, _ in self.form.dims]
        inner = set[str]() if block is None else {block.lanes}
        steps = self._inner_steps()
        for part in dict.fromkeys(walk(self.form.body)) if self.form.body is not None else ():
            if isinstance(part, Apply):
                names = variables(part)
                if inner and inner <= set(names):
                    # The product itself; further factors are multiplied in as rows are read.
                    rest = [name for name in names if name not in inner]
                    more = max(0, len(part.arguments) - 2)
                    if part.function == "mul" and more:
                        self._count(work, "scalar", self.points(rest), float(more))
                    continue
                if steps and len(set(names)) == len(every):
                    continue  # in the steps
                self._apply(work, part, names)
        picked = self._picked() if block is None and not self.gpu else 0
        if picked:
            self._count(work, "scalar", self.points(every), PICKED * picked)
        if self.form.kind != "assign" and block is None and not steps:
            self._count(work, self._unit(self.form.shape.element, every), self.points(every), 1.0)

    def _picked(self) -> int:
        """Reads of a sum whose elements for neighbouring lanes lie apart."""
        lanes = self.form.left[-1].variable if self.form.left else None
        if self.form.kind == "assign" or lanes is None:
            return 0
        return sum(
            any(i.division is not None and lanes in i.variables for i in read.access or ())
            for read in self.form.reads
        )

    def _apply(self, work: Work, part: Apply, names: Sequence[str]) -> None:
        points = self.points(names)
        heavy = TRANSCENDENTAL.get(part.function)
        if heavy is not None:
            self._count(work, "transcendental", points, heavy * self._emptiness(names))
            return
        each = SLOW.get(part.function, 1.0)
        amount = max(1, len(part.arguments) - 1) * each
        self._count(work, self._unit(self.form.shape.element, names), points, amount)

    def _count(self, work: Work, unit: str, points: float, each: float) -> None:
        work.operations[unit] = work.operations.get(unit, 0.0) + points * each

    def _unit(self, element: str, names: Sequence[str] = ()) -> str:
        """Where elements are computed: in vectors if some variable makes some."""
        wide = not names or any(self._is_wide(name) for name in names)
        if not wide and not self.gpu:
            return "scalar"
        if not ELEMENTS[element].is_float:
            return "int"
        return "fma_f64" if element == "f64" else "fma_f32"

    def _emptiness(self, names: Sequence[str]) -> float:
        """How many times more lanes a CPU computes than there are values."""
        if self.gpu or not names or any(self._is_wide(name) for name in names):
            return 1.0
        sizes = [self.form.extents[name] for name in names]
        fixed = [self.extents.of(dim) for dim in sizes if dim not in self.schema.sets]
        return 2.0 * LANES / max(1.0, fixed[-1] if fixed else 1.0)

    def _is_wide(self, name: str) -> bool:
        """Whether a variable may lie in lanes: one of fixed extent, or one that is the only one."""
        dim = self.form.extents[name]
        alone = len(self.form.dims) == 1
        return (dim not in self.schema.sets or alone) and self.extents.of(dim) >= LANES

    def _product(self, block: Block) -> Product:
        over = self.form.extents
        rows, times = self.extents.of(over[block.row]), self.points(block.loops)
        terms = self.points((block.inner, *block.outer))
        columns = self.extents.of(over[block.lanes])
        height, fill, groups = 6.0, 1.0, 1.0
        if not self.gpu and not block.groups:
            fill = _panel_fill(rows, columns)
        if block.groups:
            groups = min(rows, self.extents.distinct(str(over[block.row]), block.groups))
            each = rows / groups
            fill = each / (height * (each // height + 1.0)) if each % height else 1.0
        element = self.around.shapes[block.weights.slot].element
        unit = {"f16": "tensor_f16", "bf16": "tensor_f16", "tf32": "tensor_tf32"}.get(element)
        bytes = groups * times * columns * terms * _width(element)
        if unit is None or not self.gpu:
            unit = self._unit(self.form.shape.element)
        return Product(rows, columns, terms, times, fill, unit, bytes)

    def _is_summed_first(self, block: Block) -> bool:
        """Whether the rows of a product are sums within small groups, of which a derived set has
        many."""
        decl = self.schema.sets.get(str(self.form.extents[block.row]))
        few = decl is not None and decl.derivation is not None
        return few and bool(block.groups) and self.around.fed and not self.gpu

    def _add_scattered(self, work: Work, block: Block | None) -> None:
        """A product that is added to other rows: each task sweeps the weights for a block of them,
        and further factors make the left operand a tensor of a few rows."""
        assert block is not None and self.how.visit is not None
        whole = self._product(block)
        groups = self.extents.distinct(self.how.visit[0], block.groups) if block.groups else 1.0
        runs = min(whole.rows, groups * self._tasks)
        weights = whole.weight_bytes / max(1.0, min(whole.rows, groups)) * runs
        work.product = replace(
            whole, rows=whole.rows / runs, times=whole.times * runs, fill=1.0, weight_bytes=weights
        )
        work.rows, work.kernel = runs, "added where it leads"
        more = len(list(factors(self.form.body))) - 2 if self.form.body is not None else 0
        made = whole.rows * whole.times
        if more > 0:
            self._count(work, self._unit(self.form.shape.element), made * whole.terms, float(more))
            work.rows += COMPUTED * made
        elif self.around.fed:
            work.rows += FED * made

    @property
    def _tasks(self) -> int:
        """Blocks of the rows that products are added to."""
        return ceil(self.bytes(self.form.shape) / TARGET_BYTES)

    def _outer(self, row: str, column: str) -> Product:
        """Outer products, added up over the elements of each segment."""
        assert self.how.visit is not None
        over, visit = self.form.extents, self.how.visit
        segments = self.extents.distinct(visit[0], [visit[1]])
        elements = self.extents.of(visit[0])
        others = [n for n, _ in self.form.dims if n not in (row, column, self.how.element)]
        rows, columns = self.extents.of(over[row]), self.extents.of(over[column])
        times, unit = segments * self.points(others), self._unit(self.form.shape.element)
        return Product(rows, columns, elements / segments, times, 1.0, unit, 0.0)

    def add_reads(self, work: Work) -> None:
        """Bytes of operands that are not at hand."""
        gathers = list[Gather]()
        done = set[tuple[int, Access]]()
        for read in self.form.reads:
            if read.access is None or self.around.near[read.slot]:
                continue
            if (read.slot, read.access) in done:
                continue
            done.add((read.slot, read.access))
            self._read(work, gathers, read, read.access)
        if self.form.init and not self.around.near[-1]:
            work.streamed += self.bytes(self.around.shapes[-1])
        product = work.product
        if product is not None and (self.how.scattered or self._in_groups):
            # Read and written, or written in the order of the groups.
            row = product.columns * _width(self.form.shape.element)
            count, table = product.rows * product.times, self.bytes(self.form.shape)
            if self.how.scattered:
                # What is gathered takes its share of the cache, and so do the weights.
                near = sum(gather.table for gather in gathers) + work.streamed / self._tasks
                table = min(table, TARGET_BYTES) + near
                gathers.append(Gather(count, 2.0 * row, table))
            elif self.around.stored:
                gathers.append(Gather(count, row, table))
        work.gathers = tuple(gathers)

    @property
    def _in_groups(self) -> bool:
        """Whether rows of a CPU's product are done in another order than they have."""
        block = self.how.block
        if block is None or self.gpu or not block.groups:
            return False
        owner = str(self.form.extents[block.row])
        return not self.extents.in_order(owner, block.groups[0])

    def _read(self, work: Work, gathers: list[Gather], read: Read, access: Access) -> None:
        shape = self.around.shapes[read.slot]
        if self.how.block is not None and read == self.how.block.weights and work.product:
            work.streamed += work.product.weight_bytes
            return
        last = max((at for at, index in enumerate(access) if self._jumps(index.paths)), default=-1)
        names = [name for index in access for name in index.variables]
        used = min(self.bytes(shape), self.points(names) * _width(shape.element))
        if last < 0:
            work.streamed += used
            return
        leading = [name for index in access[: last + 1] for name in index.variables]
        rest = [name for index in access[last + 1 :] for name in index.variables]
        row = self.points([n for n in rest if n not in leading]) * _width(shape.element)
        images = self._images(access[: last + 1], shape.dims)
        readers = self.around.readers[read.slot] if self.around.readers else 1
        table = min(self.bytes(shape), images * row)
        gathers.append(Gather(self.points(leading), row, table, readers))

    def _jumps(self, paths: Sequence[Path]) -> bool:
        """Whether an index leads to places that are in no order as the statement goes on."""
        return any(self._path_jumps(path) for path in paths)

    def _path_jumps(self, path: Path) -> bool:
        element, visit = self.how.element, self.how.visit
        if self.how.scattered:
            return bool(path.fields) or path.variable == element
        key = self.around.key or self.how.gathered
        if key is not None and self.how.over_elements:
            element, visit = self.how.row_variables[0], (str(self.how.rows[0]), key)
        if visit is None or path.variable != element:
            return bool(path.fields)
        if not path.fields:
            return not self.extents.in_order(*visit)
        return path.fields != visit[1]

    def _images(self, access: Access, dims: Sequence[Dim]) -> float:
        """Places that the leading indices of an access reach."""
        total = 1.0
        for index, dim in zip(access, dims, strict=False):
            extent = self.extents.of(dim)
            path = index.path
            if path is not None and path.fields:
                owner = str(self.form.extents[path.variable])
                extent = min(extent, self.extents.distinct(owner, [path.fields]))
            total *= extent
        return total

    def add_visit(self, work: Work) -> None:
        """Steps of the loops over elements; tasks."""
        visit = self.how.visit
        work.tasks = prod(map(self.extents.of, self.how.rows))
        if self.how.gathered is not None and self.around.key is None:
            visit = str(self.how.rows[0]), self.how.gathered
            work.tasks = self.extents.distinct(visit[0], [visit[1]])
        if visit is None or self.how.scattered:
            # A row that is gathered is a step, wherever that is.
            steps = max((gather.count for gather in work.gathers), default=0.0)
            if self.around.key is None and not self.how.scattered:
                work.elements = steps
            return
        elements = self.extents.of(visit[0])
        work.elements = elements * (1.0 + REMAINDER * self._remainders())
        alone = self.how.visit is not None and len(self.form.left) == 1
        work.rows = work.tasks * (NARROW if alone and not self.gpu else 1.0)
        work.steps = self._inner_steps()
        if not self.gpu and self._walks(visit[0]):
            pairs, looks_up = self.extents.visited(visit[0])
            work.elements, work.kernel = pairs, "walk through a join"
            # Whether an element is found is a branch that nobody foresees.
            work.rows = min(work.tasks, pairs) + LOOKED_UP * pairs * looks_up
        if self.gpu:
            # A row that has much more than its share is split, and its parts are added together.
            share = work.elements / 1024.0
            busiest = self.extents.degree(*visit)
            work.atomics = busiest if busiest > share else 0.0

    def _walks(self, join: str) -> bool:
        """Whether a CPU walks through the sets of a join, which need not be built then."""
        decl = self.schema.sets[join]
        if decl.derivation is None or len(decl.derivation.binders) < 2:
            return False
        pairs = zip(decl.fields, decl.derivation.keys, strict=True)
        plain = {name: key.path.variable for (name, _), key in pairs if key.path is not None}
        read = [index for each in self.form.reads for index in each.access or ()]
        paths = [path for index in (*self.form.left, *read) for path in index.paths]
        used = {path.fields[:1] for path in paths if path.variable == self.how.element}
        binders = {name for name, _ in decl.derivation.binders}
        return used <= {(name,) for name in plain} and binders <= set(plain.values())

    def cut_into_strips(self, work: Work) -> None:
        """Two steps over one set: each strip is a visit of all elements, and what the first step
        makes is added to rows in no order by the second."""
        strips = self.around.strips
        work.kernel = f"there and back, {strips} strips"
        work.elements *= strips
        work.rows *= strips
        gathers = [
            replace(gather, count=gather.count * strips, row=gather.row / strips)
            if gather.row > LINE
            else replace(gather, count=gather.count * strips)
            for gather in work.gathers
        ]
        if any(self.around.near):
            table = self.bytes(self.form.shape)
            row = table / prod(map(self.extents.of, self.how.rows)) / strips
            gathers.append(Gather(work.elements, 2.0 * row, table / strips))
        work.gathers = tuple(gathers)

    def _inner_steps(self) -> float:
        """Steps of sums over variables that are not on the left, for each element of the visit and
        each strip of its row."""
        on_left = {name for index in self.form.left for name in index.variables}
        summed = [name for name, _ in self.form.dims if name not in on_left]
        lanes = self.form.left[-1].variable if self.form.left else None
        if self.how.visit is None or not summed or lanes is None or self.how.outer:
            return 0.0
        strips = max(1.0, self.extents.of(self.form.extents[lanes]) / STRIP)
        outer = [name for name, _ in self.form.dims if name != lanes]
        return self.points(outer) * strips

    def _remainders(self) -> float:
        """How many more vectors a row takes than its length calls for: lengths that are no powers
        of two are done piece by piece."""
        index = self.form.left[-1] if self.form.left else None
        name = None if index is None else index.variable
        if self.gpu or name is None or self.form.extents[name] in self.schema.sets:
            return 0.0
        length = int(self.extents.of(self.form.extents[name]))
        return max(0.0, float((length % STRIP).bit_count() - (length < STRIP)))


def _panel_fill(rows: float, columns: float) -> float:
    """The share of the columns in packed panels that are no padding."""
    width = int(columns)
    if rows < PACKED_ROWS or width <= RAGGED or width.bit_count() == 1:
        return 1.0
    lanes = min(STRIP, 1 << width.bit_length())
    return width / (lanes * -(-width // lanes))


def _width(element: str) -> float:
    return float(ELEMENTS[element].storage.itemsize)
