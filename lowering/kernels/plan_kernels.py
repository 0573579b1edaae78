"""Group the statements of a function into kernels.

Enters: statements with their roots. Leaves: kernels in an order that respects every dependence.

    m[e.dst] max= s[e]                    Kernel(rows = node)
    p[e] = exp(s[e] - m[e.dst])             visit edges by dst: m
    d[e.dst] += p[e]                        visit edges by dst: p, d
    y[e.dst, o] += p[e] / d[e.dst] * x..    visit edges by dst: y

A statement joins the open kernel when it has the same rows and whatever it reads from that kernel
is already complete for its row: a value of the same element, or a value of the row from an earlier
phase. Statements that no open kernel can take wait for the next one.
"""

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Schema
from hectorite.lowering.emit.epilogue import follows
from hectorite.lowering.gpu.schedule_orders import is_merged, is_split, wants_parts
from hectorite.lowering.kernels.choose_roots import Roots, choose_roots
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Product, Root
from hectorite.lowering.kernels.place_tensors import element_level, is_narrow, row_position
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.scattered import feeder_of
from hectorite.lowering.match.two_step import strip_width


def plan_kernels(function: FuncOp, schema: Schema, machine: Machine) -> list[Kernel]:
    """Kernels that together do all statements of a function."""
    choice = choose_roots(function, schema, machine)
    feeders = _feeders(function, choice, machine)
    waiting = [statement for statement in choice.roots if statement not in feeders.values()]
    kernels: list[Kernel] = []
    done: set[StatementOp] = set()
    while waiting:
        kernel: Kernel | None = None
        progress = True
        while progress:
            progress = False
            for statement in list(waiting):
                inside = set(kernel.statements) if kernel else set[StatementOp]()
                feeder = feeders.get(statement)
                if not _sources(statement, feeder) <= done | inside:
                    continue
                if kernel is None:
                    kernel = Kernel(choice.roots[statement].rows, machine)
                if _join(kernel, statement, choice, feeder):
                    waiting.remove(statement)
                    progress = True
        assert kernel is not None, "statements depend on each other"
        done |= set(kernel.statements)
        kernels.append(kernel)
    return kernels


def _feeders(function: FuncOp, choice: Roots, machine: Machine) -> dict[StatementOp, StatementOp]:
    """The statements that sum the left operands of scattered products, and the first steps of
    second ones."""
    found = dict(choice.steps)
    returned = function.return_op.operands
    for statement, product in choice.products.items():
        feeder = feeder_of(statement, product, choice.roots, machine, returned)
        if feeder is not None:
            found[statement] = feeder
    return found


def _sources(statement: StatementOp, feeder: StatementOp | None = None) -> set[StatementOp]:
    values = [read.tensor for read in statement.reads]
    values += [] if statement.init is None else [statement.init]
    found = {value.owner for value in values if isinstance(value.owner, StatementOp)}
    return found if feeder is None else found - {feeder} | _sources(feeder)


def _join(
    kernel: Kernel, statement: StatementOp, choice: Roots, feeder: StatementOp | None = None
) -> bool:
    """Add a statement to a kernel, if that is possible."""
    root = choice.roots[statement]
    alone = choice.kept | choice.walks.keys()
    if kernel.phases and (statement in alone or kernel.statements[0] in alone):
        return False
    if feeder is not None and statement in choice.steps:
        return _join_two_steps(kernel, statement, choice, feeder)
    if kernel.phases and kernel.phases[0].is_two_steps:
        return False
    if statement in choice.products and root.visit is not None:
        return _join_scattered(kernel, statement, choice, feeder)
    product, segment = choice.products.get(statement), choice.segments.get(statement)
    if kernel.machine.is_gpu and kernel.phases and (product or segment or _is_block(kernel)):
        return not (product or segment) and _join_block(kernel, statement)
    alone = is_split(kernel) or is_merged(kernel) or wants_parts(statement, root, kernel.machine)
    if kernel.phases and alone:
        return False
    if root.rows != kernel.rows or (not root.rows and kernel.phases and root.visit is None):
        return False
    groups = () if product is None else _row_paths(product)
    if groups and kernel.scattered is not None:
        return False
    if groups and kernel.groups and groups != kernel.groups:
        return False
    first = _earliest(kernel, statement, root, product)
    if first is None:
        return False
    kernel.groups = kernel.groups or groups
    kernel.roots[statement] = root
    narrow = is_narrow(statement, root, kernel.machine)
    for phase in kernel.phases[first:]:
        if product or segment or phase.product or phase.segment:
            continue
        if phase.visit == root.visit:
            if kernel.machine.is_gpu and root.visit and narrow != _all_narrow(kernel, phase):
                continue
            phase.statements.append(statement)
            return True
    kernel.phases.append(Phase([statement], root.visit, product, segment))
    return True


def _join_two_steps(kernel: Kernel, second: StatementOp, choice: Roots, first: StatementOp) -> bool:
    """Two steps are a kernel of their own, since its tasks are strips, or groups of elements."""
    if kernel.phases:
        return False
    kernel.roots |= {first: choice.roots[first], second: choice.roots[second]}
    width, group = strip_width(second, kernel.machine), kernel.machine.group_elements
    kernel.phases.append(
        Phase([first, second], choice.roots[first].visit, strip=width, group=group)
    )
    return True


def _join_scattered(
    kernel: Kernel, statement: StatementOp, choice: Roots, feeder: StatementOp | None
) -> bool:
    """Add a scattered product and what sums its left operand. Its elements have an order of their
    own, so nothing of the kernel's visits can be at hand for them."""
    root, inside = choice.roots[statement], set(kernel.statements)
    if root.rows != kernel.rows or kernel.groups or kernel.scattered is not None:
        return False
    if kernel.machine.is_gpu and kernel.phases:
        return False
    if feeder is not None and _sources(feeder) & inside:
        return False
    near = _sources(statement) & inside
    if any(element_level(source, kernel.roots[source]) for source in near):
        return False
    if _earliest(kernel, statement, root, None) is None:
        return False
    kernel.roots[statement] = root
    together = [statement]
    if feeder is not None:
        kernel.roots[feeder] = choice.roots[feeder]
        together.append(feeder)
    kernel.phases.append(Phase(together, root.visit, choice.products[statement]))
    return True


def _join_block(kernel: Kernel, statement: StatementOp) -> bool:
    """Add a statement that makes elements of what the product of a GPU's kernel makes."""
    if not follows(kernel, statement):
        return False
    kernel.roots[statement] = kernel.roots[kernel.phases[0].statements[0]]
    kernel.phases.append(Phase([statement]))
    return True


def _is_block(kernel: Kernel) -> bool:
    """Whether a kernel of a GPU is one product."""
    return kernel.phases[0].product is not None or kernel.phases[0].segment is not None


def _all_narrow(kernel: Kernel, phase: Phase) -> bool:
    return all(is_narrow(s, kernel.roots[s], kernel.machine) for s in phase.statements)


def _row_paths(product: Product) -> tuple[Path, ...]:
    """Grouping paths with the name of the row's variable left out."""
    return tuple(Path("r", path.fields) for path in product.groups)


def _earliest(
    kernel: Kernel, statement: StatementOp, root: Root, product: Product | None
) -> int | None:
    """The first phase at whose place the statement finds everything it reads complete."""
    first = 0
    inside = set(kernel.statements)
    uses = [(read.tensor.owner, read.access.data) for read in statement.reads]
    if statement.init is not None:
        uses.append((statement.init.owner, statement.access.data))
    for source, access in uses:
        if not isinstance(source, StatementOp) or source not in inside:
            continue
        phase = _complete_after(kernel, source, statement, root, access)
        if phase is None:
            return None
        first = max(first, phase)
    return first


def _complete_after(
    kernel: Kernel,
    source: StatementOp,
    user: StatementOp,
    root: Root,
    access: tuple[IndexExpr, ...],
) -> int | None:
    """The first phase in which `user` may read what `source` wrote, at this access."""
    place = kernel.phase_of(source)
    written = kernel.roots[source]
    position = row_position(source, written)
    if position is None:
        return None
    if written.visit is not None and element_level(source, written):
        same = root.visit == written.visit and access[position].variable == root.element
        return place if same else None
    if not _names_row(access, source, written, root):
        return None
    # A row's value is complete once its phase is over; a phase without visit or product does its
    # statements in order.
    in_order = kernel.phases[place].visit is None and kernel.phases[place].product is None
    return place if in_order and root.visit is None else place + 1


def _names_row(
    access: tuple[IndexExpr, ...], source: StatementOp, written: Root, root: Root
) -> bool:
    """Whether an access of the user names the very row that the source writes."""
    if not written.rows:
        return False
    if written.visit is None and len(written.row_variables) > 1:
        return _same_rows(access, source, written, root)
    position = row_position(source, written)
    if position is None:
        return False
    index = access[position]
    if root.visit is not None:
        return index.path == Path(root.element or "", root.visit.key)
    return index.variable == root.row_variables[0] if root.row_variables else False


def _same_rows(
    access: tuple[IndexExpr, ...], source: StatementOp, written: Root, root: Root
) -> bool:
    if root.visit is not None or len(root.row_variables) != len(written.row_variables):
        return False
    for mine, theirs in zip(root.row_variables, written.row_variables, strict=True):
        places = [i for i, index in enumerate(source.access.data) if index.variable == theirs]
        if len(places) != 1 or access[places[0]].variable != mine:
            return False
    return True
