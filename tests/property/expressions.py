"""Strategies for the right side of a statement.

Enters: the tensors that there are, and the index variables of the statement. Leaves: text of a
wanted element type, well-typed by construction. Where a variable stands, the text holds a mark
around its name, so that the statement can put a binder at one of them (`programs.py`).
"""

from dataclasses import dataclass, field

from hypothesis import strategies as st
from schemas import Dim, Schema

FLOATS = ("f32", "f32", "f32", "f64", "f16", "bf16", "tf32")
WIDE = ("i32", "i32", "i64")
NARROW = ("i16", "i8", "u8", "i5", "i4", "i2", "u4", "u3", "u1", "i1")

EXACT_FLOAT = ("{} + {}", "{} - {}", "{} * {}", "min({}, {})", "max({}, {})")
BINARY_FLOAT = (*EXACT_FLOAT, "{} * {}", "{} * {}", "{} / (abs({}) + 0.5)")
UNARY_EXACT = ("-{}", "abs({})", "relu({})", "{} * 2", "{} - 0.5", "floor({})", "ceil({})")
UNARY_FLOAT = (
    *UNARY_EXACT,
    "round({})",
    "tanh({})",
    "sigmoid({})",
    "exp(min({}, 2))",
    "log(abs({}) + 0.1)",
    "sqrt(abs({}))",
    "rsqrt(abs({}) + 0.5)",
    "sin({})",
    "cos({})",
    "gelu({})",
    "silu({})",
    "erf({})",
    "leaky_relu({}, 0.2)",
    "{} ** 2",
    "pow(abs({}) + 0.25, 1.5)",
    "1 / (1 + {} * {})",
    "{} % 3",
    "{} // 0.75",
    "act({})",
)
BINARY_WIDE = ("{} + {}", "{} - {}", "{} * {}", "{} // {}", "{} % {}", "min({}, {})", "max({}, {})")
UNARY_WIDE = ("-{}", "abs({})", "relu({})", "{} * 3 - 1", "{} // 2", "{} % 5", "{} ** 2", "7 - {}")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
PADS = {
    "i1": "1",
    "bool": "true",
    "f32": "-1.5",
    "i32": "7",
    "bf16": "2",
    "tf32": "0.3",
    "i8": "-3",
}
FUNCTIONS = "fn act(x) = x * sigmoid(x) + 0.5"


@dataclass(frozen=True)
class Tensor:
    """A tensor or, if `scalar`, a scalar. `pad` is the text of its pad constant."""

    name: str
    element: str
    dims: tuple[Dim, ...]
    pad: str | None = None
    scalar: bool = False

    @property
    def type(self) -> str:
        dims = f"[{', '.join(map(str, self.dims))}]" if self.dims else ""
        return self.element + dims + (f" pad {self.pad}" if self.pad else "")


@dataclass
class Scope:
    """What the statements of a function share. `exact` keeps to operations whose result is exact
    for small halves, so that results do not depend on an order."""

    draw: st.DrawFn
    schema: Schema
    exact: bool = False
    parameters: list[Tensor] = field(default_factory=list[Tensor])
    locals: list[Tensor] = field(default_factory=list[Tensor])
    functions: set[str] = field(default_factory=set[str])

    def pick(self, *options):
        """One of the options, earlier ones being simpler."""
        return self.draw(st.sampled_from(options))

    def chance(self, one_in: int) -> bool:
        return self.draw(st.integers(0, one_in - 1)) == one_in - 1

    def parameter(self, element: str, dims: tuple[Dim, ...], pad: str | None = None) -> Tensor:
        """A new parameter."""
        number = len(self.parameters)
        scalar = not dims
        name = f"c{number}" if scalar else f"x{number}"
        tensor = Tensor(name, element, dims, pad, scalar)
        self.parameters.append(tensor)
        return tensor

    def element(self) -> str:
        """An element type, floats mostly."""
        if self.exact:
            return self.pick("f32", "f32", "f64")
        kind = self.pick("float", "float", "float", "wide", "narrow", "bool")
        return self.pick(*{"float": FLOATS, "wide": WIDE, "narrow": NARROW}.get(kind, ("bool",)))


def mark(variable: str) -> str:
    """A place where a variable stands."""
    return f"«{variable}»"


class ExpressionWriter:
    """Writes expressions over the variables of one statement."""

    def __init__(self, scope: Scope, variables: dict[str, Dim]):
        self.scope = scope
        self.variables = variables
        self.reach: list[tuple[str, Dim]] = []
        """Index texts and what each ranges over."""
        for name, domain in variables.items():
            if isinstance(domain, str) and domain in scope.schema.fields:
                paths = scope.schema.paths(domain)
                self.reach += [(mark(name) + path, end) for path, end in paths]
            else:
                self.reach.append((mark(name), domain))

    def expression(self, element: str, depth: int) -> str:
        """An expression of exactly this element type."""
        scope = self.scope
        if depth <= 0 or scope.chance(6):
            return self.leaf(element)
        if scope.chance(7):
            condition = self.expression("bool", 1)
            yes, no = (self.expression(element, depth - 1) for _ in range(2))
            return f"where({condition}, {yes}, {no})"
        if element == "bool":
            return self._condition(depth)
        if element in NARROW:
            return self._cast(element, depth)
        if not scope.exact and scope.chance(7):
            return self._cast(element, depth)
        unary, binary = (UNARY_WIDE, BINARY_WIDE)
        if element not in WIDE:
            unary, binary = (UNARY_FLOAT, BINARY_FLOAT)
        if scope.exact:
            unary, binary = UNARY_EXACT, EXACT_FLOAT
        form = scope.pick(*binary) if scope.draw(st.booleans()) else scope.pick(*unary)
        if "act(" in form:
            scope.functions.add(FUNCTIONS)
        parts = [self.expression(element, depth - 1) for _ in range(form.count("{}"))]
        return f"({form.format(*parts)})"

    def _condition(self, depth: int) -> str:
        scope = self.scope
        form = scope.pick("compare", "and", "or", "not", "index")
        if form == "not":
            return f"(not {self.expression('bool', depth - 1)})"
        if form in ("and", "or"):
            left, right = (self.expression("bool", depth - 1) for _ in range(2))
            return f"({left} {form} {right})"
        sign = scope.pick(*COMPARISONS)
        if form == "index" and self.reach:
            return f"({self.position()} {sign} {self.position()})"
        element = scope.element()
        if element == "bool":
            element = "f32"
        return f"({self.leaf(element)} {sign} {self.leaf(element)})"

    def position(self) -> str:
        """An index variable, a path or a size as an integer."""
        scope = self.scope
        index, end = scope.pick(*self.reach)
        options = [index, index, f"({index} + 1)"]
        if scope.schema.extent(end) is None or isinstance(end, str):
            options.append(f"size({end})")
        return scope.pick(*options)

    def _cast(self, element: str, depth: int) -> str:
        scope = self.scope
        source = scope.element()
        if source == element:
            source = "i32"
        if self.reach and scope.chance(4):
            return f"{element}({self.position()})"
        return f"{element}({self.expression(source, depth - 1)})"

    def leaf(self, element: str) -> str:
        """A read of a tensor or a scalar of this type."""
        scope = self.scope
        tensors = [*scope.locals, *scope.locals, *scope.parameters]
        usable = [t for t in tensors if t.element == element and self.can_read(t)]
        if usable and not scope.chance(3):
            return self.read(scope.draw(st.sampled_from(usable)))
        if scope.chance(8) or not self.reach:
            return scope.parameter(element, ()).name
        if scope.chance(8):
            return self._window(element)
        count = scope.pick(1, 1, 2, 2, 3)
        chosen = scope.draw(st.lists(st.sampled_from(self.reach), min_size=1, max_size=count))
        if self.elements([end for _, end in chosen]) > 40_000:
            chosen = chosen[:1]
        pad = scope.pick(None, None, None, PADS.get(element, "0"))
        tensor = scope.parameter(element, tuple(end for _, end in chosen), pad)
        if pad is not None:
            return self.read(tensor)
        return f"{tensor.name}[{', '.join(index for index, _ in chosen)}]"

    def _window(self, element: str) -> str:
        """A read at a sum of variables over sizes, just within the tensor."""
        scope = self.scope
        sized = [n for n, d in self.variables.items() if scope.schema.extent(d) is not None]
        # Where 0 is all that is added, the index would be the variable itself.
        start = scope.pick(0, 0, 1, 3) if len(sized) > 1 else scope.pick(1, 2)
        index, low, high = str(start), start, start
        for name in scope.draw(st.permutations(sized))[:2]:
            factor = scope.pick(1, 1, 2, -1)
            reach = factor * ((scope.schema.extent(self.variables[name]) or 1) - 1)
            sign = "-" if factor < 0 else "+"
            index = f"{index} {sign} {'2*' if factor == 2 else ''}{mark(name)}"
            low, high = low + min(reach, 0), high + max(reach, 0)
        shift = max(-low, 0)
        dims: list[Dim] = [high + shift + 1]
        accesses = [f"{index} + {shift}" if shift else index]
        if scope.draw(st.booleans()) and dims[0] < 300:
            other, end = scope.pick(*self.reach)
            at = scope.pick(0, 1)
            dims.insert(at, end)
            accesses.insert(at, other)
        tensor = scope.parameter(element, tuple(dims))
        return f"{tensor.name}[{', '.join(accesses)}]"

    def elements(self, dims: list[Dim]) -> int:
        """About how many elements a tensor has."""
        total = 1
        for dim in dims:
            total *= self.scope.schema.extent(dim) or 12
        return total

    def can_read(self, tensor: Tensor) -> bool:
        ends = {end for _, end in self.reach}
        return all(dim in ends or tensor.pad is not None and self.reach for dim in tensor.dims)

    def read(self, tensor: Tensor) -> str:
        """A read of a tensor that `can_read` allows."""
        if not tensor.dims:
            return tensor.name
        return f"{tensor.name}[{', '.join(self.index(dim, tensor) for dim in tensor.dims)}]"

    def index(self, dim: Dim, tensor: Tensor) -> str:
        """An index expression for one dimension."""
        scope = self.scope
        fitting = [index for index, end in self.reach if end == dim]
        if tensor.pad is not None and (not fitting or scope.chance(2)):
            return self._affine(dim)
        if scope.chance(8) and (extent := scope.schema.extent(dim)):
            return scope.pick(f"({scope.pick(*fitting)} + 1) % {dim}", "0", str(extent - 1))
        return scope.pick(*fitting)

    def _affine(self, dim: Dim) -> str:
        scope = self.scope
        a, b = (scope.pick(*self.reach)[0] for _ in range(2))
        forms = [f"{a} + 1", f"{a} - 1", f"2*{a} + {b} - 1", f"{a} - {b}", f"{a} // 2"]
        forms += [f"({a} + {b}) // 2", f"3 - {a}", f"{a} % 3", f"2*({a} - 1)", f"{a} + size({dim})"]
        if isinstance(dim, int):
            forms.pop()
        return scope.pick(*forms)
