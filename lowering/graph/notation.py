"""The mathematics of a graph function, a line for each statement.

Enters: functions of the `graph` dialect. Leaves: text in the notation of the language, for people:
`y[e.dst, o] += a[e] * z[e.src_type, o]`. What the language does not spell is spelled as close as it
gets: a statement that goes on from an earlier tensor names it, `y[n] += x[n] from y0`.
"""

from collections.abc import Sequence

from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import FuncOp, IndexOp, ReadOp, SizeOp, SoftmaxOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp
from hectorite.lowering.graph.statement_body import operations_of

_ASSIGN = {"assign": "=", "add": "+=", "mul": "*=", "max": "max=", "min": "min="}

# Operators with how strongly they bind.
_OPERATORS = {
    "or": ("or", 1),
    "and": ("and", 2),
    "eq": ("==", 3),
    "ne": ("!=", 3),
    "lt": ("<", 3),
    "le": ("<=", 3),
    "gt": (">", 3),
    "ge": (">=", 3),
    "add": ("+", 4),
    "sub": ("-", 4),
    "mul": ("*", 5),
    "div": ("/", 5),
    "floordiv": ("//", 5),
    "mod": ("%", 5),
}
_ATOM = 9

Text = tuple[str, int]
"""An expression, and how strongly its outermost operator binds."""


class Notation:
    """Writes the operations of one function, with a name for each of its tensors."""

    def __init__(self, func: FuncOp):
        self.names: dict[SSAValue, str] = {}
        self.names.update(zip(func.body.block.args, func.names, strict=True))
        for op in func.body.block.ops:
            for result in op.results:
                wanted = result.name_hint or f"t{len(self.names)}"
                name, number = wanted, 2
                while name in self.names.values():
                    name, number = f"{wanted}_{number}", number + 1
                self.names[result] = name

    def line(self, op: Operation) -> str | None:
        """The line for a statement or a softmax; None for other operations."""
        if isinstance(op, SoftmaxOp):
            source = f"{self.names[op.input]}{access(op.access.data)}"
            keys = ", ".join(map(index, op.keys.data))
            left = f"{self.names[op.result]}{access(op.access.data)}"
            return f"{left} = softmax({source} by {keys})"
        if not isinstance(op, StatementOp):
            return None
        left = f"{self.names[op.result]}{access(op.access.data)}"
        start = "" if op.init is None else f" from {self.names[op.init]}"
        return f"{left} {_ASSIGN[op.kind.data]} {self.expression(op.value)}{start}"

    def expression(self, value: SSAValue) -> str:
        """The expression that a value of a body stands for."""
        texts = dict[SSAValue, Text]()
        for op in operations_of(value):
            texts[op.results[0]] = self._text(op, texts)
        return texts[value][0] if value in texts else self.names[value]

    def _text(self, op: Operation, texts: dict[SSAValue, Text]) -> Text:
        if isinstance(op, ReadOp):
            return f"{self.names[op.tensor]}{access(op.access.data)}", _ATOM
        if isinstance(op, IndexOp):
            return f"({index(op.index.data[0])})", _ATOM
        if isinstance(op, SizeOp):
            return f"size({op.of.data})", _ATOM
        if isinstance(op, ConstantOp):
            return repr(op.number), 8 if op.number < 0 else _ATOM
        arguments = [texts.get(v) or (self.names[v], _ATOM) for v in op.operands]
        if isinstance(op, CastOp):
            return f"{element_of(op.result.type).name}({arguments[0][0]})", _ATOM
        assert isinstance(op, ScalarOp)
        return _call(op.FUNCTION.name, arguments)


def function_lines(func: FuncOp) -> list[str]:
    """A line for each statement of a function."""
    notation = Notation(func)
    lines = (notation.line(op) for op in func.body.block.ops)
    return [line for line in lines if line is not None]


def access(indices: Sequence[IndexExpr]) -> str:
    """`[e.src, o]`, nothing for a scalar."""
    return f"[{', '.join(map(index, indices))}]" if indices else ""


def index(expr: IndexExpr) -> str:
    """An index expression as the language spells it."""
    return str(expr).replace("floordiv", "//").replace(" mod ", " % ").replace("@", "")


def _call(name: str, arguments: Sequence[Text]) -> Text:
    if name == "neg":
        return f"-{_inside(arguments[0], 6)}", 6
    if name == "not":
        return f"not {_inside(arguments[0], 3)}", 2
    if name == "select":
        name = "where"
    if name not in _OPERATORS:
        return f"{name}({', '.join(text for text, _ in arguments)})", _ATOM
    symbol, strength = _OPERATORS[name]
    # Operators group from the left; a comparison does not group at all.
    left = _inside(arguments[0], strength + (strength == 3))
    return f"{left} {symbol} {_inside(arguments[1], strength + 1)}", strength


def _inside(text: Text, least: int) -> str:
    return text[0] if text[1] >= least else f"({text[0]})"
