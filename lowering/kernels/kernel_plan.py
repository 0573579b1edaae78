"""Plans of kernels: what `plan_kernels` decides and `graph_to_tile` writes out.

A kernel runs over the *rows* of one domain: the elements of a set, or all tuples of a few sizes.
Its phases are done row by row:

    Phase(statements)                       once for each row
    Phase(statements, visit=Visit(S, key))  once for each element of S whose path `key` is the row
    Phase([statement], product=Product(..)) for a block of rows at a time
    Phase([statement], Visit(..), Product(..)) for all rows of a task: a product over the elements
                                           of S, each added to its row (a scattered product)
    Phase([first, second], visit, strip=16) for strips of lanes: two reductions over one set
    Phase([first, second], visit, group=32) the same, for groups of elements
    Phase([statement], visit, segment=Segment(..))   a product over the elements of each row

so that softmax over the edges of a node, say, is three visits of one kernel over nodes.
"""

from dataclasses import dataclass, field

from xdsl.ir import SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.index import Path
from hectorite.ir.space import Dim
from hectorite.lowering.kernels.product_shape import BlockShape
from hectorite.lowering.kernels.segment_shape import SegmentShape
from hectorite.lowering.machine import Machine


@dataclass(frozen=True)
class Visit:
    """The elements of `set` whose path `key` is the current row, in a fixed order."""

    set: str
    key: tuple[str, ...]


@dataclass(frozen=True)
class Root:
    """How one statement is spread over rows.

    `rows` are the domains whose tuples are rows, `row_variables` the statement's variables that
    stand for them. In a visit, `element` is the variable that runs over the visited elements, and
    `row_variables` is empty.
    """

    rows: tuple[Dim, ...]
    row_variables: tuple[str, ...] = ()
    visit: Visit | None = None
    element: str | None = None

    @property
    def bound(self) -> tuple[str, ...]:
        """Variables that have one value in one phase of one row."""
        return self.row_variables if self.element is None else (self.element,)


@dataclass(frozen=True)
class Product:
    """A statement as a block product: result[row, batch, n] += a[row, batch, k] * b[batch, k, n].

    `weights` is the read of b; the other factors make up a. `lanes` is the variable n, `inner` the
    variable k, `outer` further reduced variables, and `loops` further variables of the result.
    `direct` is the read that is all of a, if rows of it can be used where they stand. `groups` are
    paths of the row that b depends on: rows are sorted by them. `packed` weights are copied into
    panels first. `lane_axis` and `inner_axis` are the dimensions of the weights that n and k move
    along. `shape` says how large its blocks are.
    """

    weights: ReadOp
    lanes: str
    inner: str
    outer: tuple[str, ...]
    loops: tuple[str, ...]
    direct: ReadOp | None
    groups: tuple[Path, ...]
    lane_axis: int
    inner_axis: int
    packed: bool
    shape: BlockShape


@dataclass(frozen=True)
class Segment:
    """A statement of a visit as a product over the elements of each row:
    result[row, batch, r, j] += x[e, c, batch, r] * y[e, c, batch, j].

    `element` is the variable e, `rows` the variable r, `lanes` j, `loops` those of the batch, and
    `inner` further reduced ones. `left` and `right` are the factors of x and y; `direct_left` and
    `direct_right` the reads that they are, if they are just that. With a `stride` h, r stands
    behind h times the row. `shape` says how large its blocks are.
    """

    element: str
    rows: str
    lanes: str
    loops: tuple[str, ...]
    inner: tuple[str, ...]
    left: tuple[SSAValue, ...]
    right: tuple[SSAValue, ...]
    direct_left: ReadOp | None
    direct_right: ReadOp | None
    stride: int | None
    shape: SegmentShape


@dataclass
class Phase:
    """Statements done together, in order."""

    statements: list[StatementOp]
    visit: Visit | None = None
    product: Product | None = None
    segment: Segment | None = None
    strip: int = 0
    """Lanes of each strip that is a task of its own, if the phase is two steps over one set."""
    group: int = 0
    """Elements that a task of such a phase hands on to at most, if groups are tasks instead."""

    @property
    def is_two_steps(self) -> bool:
        """Whether this is two reductions over one set, the second of what the first makes."""
        return bool(self.strip or self.group)

    @property
    def scatters(self) -> bool:
        """Whether this is a scattered product."""
        return self.visit is not None and self.product is not None

    @property
    def feeder(self) -> StatementOp | None:
        """The statement that sums the left operand of a scattered product row by row, if one does;
        it stands after the product's own."""
        return self.statements[1] if self.scatters and len(self.statements) > 1 else None


@dataclass
class Kernel:
    """Phases over the same rows. `roots` says how each statement is spread, `machine` what the
    kernel is for."""

    rows: tuple[Dim, ...]
    machine: Machine
    phases: list[Phase] = field(default_factory=list[Phase])
    roots: dict[StatementOp, Root] = field(default_factory=dict[StatementOp, Root])
    groups: tuple[Path, ...] = ()

    @property
    def scattered(self) -> Phase | None:
        """The phase that is a scattered product, if there is one."""
        return next((phase for phase in self.phases if phase.scatters), None)

    @property
    def statements(self) -> list[StatementOp]:
        return [statement for phase in self.phases for statement in phase.statements]

    @property
    def owner(self) -> str | None:
        """The set that rows are elements of."""
        dim = self.rows[0]
        return dim if len(self.rows) == 1 and isinstance(dim, str) else None

    def phase_of(self, statement: StatementOp) -> int:
        """Number of the phase that a statement of this kernel is in."""
        return next(i for i, p in enumerate(self.phases) if statement in p.statements)
