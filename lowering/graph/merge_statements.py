"""`merge-statements`: compute once what two statements compute alike.

Enters: the `graph` dialect. Leaves: the same without statements, and without operations inside
their bodies, that repeat an earlier one. Two statements are alike if they differ only in the names
of index variables, in the order of the operands of commutative functions, and in the order of
independent operations.

    a[n] += x[n, i] * w[i]
    b[m] += w[j] * x[m, j]
    c[n] = a[n] - b[n]

becomes

    a[n] += x[n, i] * w[i]
    c[n] = a[n] - a[n]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.traits import Commutative
from xdsl.transforms.common_subexpression_elimination import CSEDriver
from xdsl.transforms.dead_code_elimination import is_trivially_dead

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.ir.schedule import ATTRIBUTE
from hectorite.ir.space import AccessAttr
from hectorite.lowering.graph.statement_body import inner_op, operations_of, statements


@dataclass(frozen=True)
class MergeStatements(ModulePass):
    """Compute once what two statements compute alike."""

    name = "merge-statements"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        merged = True
        while merged:
            # Merged statements leave equal reads behind, which may make more statements alike.
            _Bodies().simplify(op)
            found = [_merge(func) for func in op.ops if isinstance(func, FuncOp)]
            merged = any(found)


class _Bodies(CSEDriver):
    """Equal operations, those inside of statements among them, but not statements: xDSL would
    compare each with all others of its type, while `_merge` knows them by their spelling."""

    def _simplify_operation(self, op: Operation) -> None:
        if isinstance(op, StatementOp) and not is_trivially_dead(op):
            return
        super()._simplify_operation(op)


def _merge(func: FuncOp) -> bool:
    """Whether any statement was like another."""
    known = dict[str, StatementOp]()
    numbers = dict[SSAValue, int]()
    merged = False
    for op in statements(func):
        text = spelling(op, numbers)
        earlier = known.setdefault(text, op)
        if earlier is not op:
            op.result.replace_all_uses_with(earlier.result)
            op.detach()
            op.erase()
            merged = True
    return merged


def spelling(op: StatementOp, numbers: dict[SSAValue, int]) -> str:
    """A text that is equal for statements that are alike. `numbers` names the values from outside
    of statements, and grows."""
    left = [str(index.variable) for index in op.access.data if index.variable is not None]
    order = list(dict.fromkeys([*left, *(name for name, _ in op.variables.data)]))
    names = {name: f"v{position}" for position, name in enumerate(order)}
    over = dict(op.variables.data)
    extents = [over[name] for name in order]
    init = "" if op.init is None else value_spelling(op.init, names, numbers)
    schedule = op.attributes.get(ATTRIBUTE, "")
    head = f"{op.kind.data} {init} {_attributes(op, names)} {extents} {op.type} {schedule}"
    return f"{head} {value_spelling(op.value, names, numbers)}"


def value_spelling(value: SSAValue, names: Mapping[str, str], numbers: dict[SSAValue, int]) -> str:
    """A text that is equal for values that are computed alike, with index variables renamed."""
    texts = dict[SSAValue, str]()

    def text_of(value: SSAValue) -> str:
        if inner_op(value) is None:
            return f"%{numbers.setdefault(value, len(numbers))}"
        return texts[value]

    for op in operations_of(value):
        operands = [text_of(operand) for operand in op.operands]
        if op.has_trait(Commutative):
            operands.sort()
        line = f"{op.name} {operands} {_attributes(op, names)} {op.results[0].type}"
        # A digest keeps the text short where a value is used many times.
        texts[op.results[0]] = blake2b(line.encode(), digest_size=16).hexdigest()
    return text_of(value)


def _attributes(op: Operation, names: Mapping[str, str]) -> str:
    found = list[str]()
    for name, attribute in sorted(op.properties.items()):
        if isinstance(attribute, AccessAttr):
            found.append(f"{name}=[{', '.join(str(i.rename(names)) for i in attribute.data)}]")
        elif name not in ("variables", "kind"):
            found.append(f"{name}={attribute}")
    return ";".join(found)
