"""Strategies for whole programs.

Enters: nothing. Leaves: a `Program`, source text that is well-typed by construction, and what it
takes to make data for it. Every form of statement of the language stands in `_Function`, one
method each.
"""

import re
from dataclasses import dataclass
from math import prod

from expressions import NARROW, WIDE, ExpressionWriter, Scope, Tensor, mark
from hypothesis import strategies as st
from schemas import LARGE, MIDDLE, SMALL, Dim, Schema, schemas

VARIABLES = {"kind": "tu", "node": "nm", "edge": "ef", "link": "lq", "pair": "pr", "meet": "ab"}
SIZES = "ijokhgcdwz"
MOST_POINTS = 6000
"""About how many points a statement has over one element of a set, and how many elements it has
over features."""


@dataclass(frozen=True)
class Program:
    """A program. `domains` are what the variables of each statement range over."""

    text: str
    function: str
    schema: Schema
    parameters: tuple[Tensor, ...]
    domains: tuple[tuple[Dim, ...], ...]
    exact: bool

    @property
    def sizes(self) -> dict[str, int]:
        """A value for every size that is not declared with one."""
        schema = self.schema
        used = set(re.findall(r"\w+", self.text))
        return {n: v for n, v in schema.dims.items() if n in used and n not in schema.fixed}

    def points(self, sizes: dict[str, int]) -> int:
        """Points of all statements, and elements of all parameters, given the sizes of sets."""
        known = sizes | self.schema.dims
        spaces = [*self.domains, *(tensor.dims for tensor in self.parameters)]
        return sum(prod(d if isinstance(d, int) else known[d] for d in s) for s in spaces)


@st.composite
def programs(draw: st.DrawFn, exact: bool = False, most: int = 5) -> Program:
    """Programs of up to `most` statements; see `Scope.exact`."""
    return _Function(Scope(draw, draw(schemas()), exact), most).program()


class _Function:
    """Writes one function, statement by statement."""

    def __init__(self, scope: Scope, most: int):
        self.scope = scope
        self.schema = scope.schema
        self.draw = scope.draw
        self.most = most
        self.lines: list[str] = []
        self.domains: list[tuple[Dim, ...]] = []
        self.returned: set[str] = set()

    def program(self) -> Program:
        forms = [
            self.general,
            *[self.product] * 3,
            *[self.visit] * 2,
            *[self.follow] * 3,
            self.attention,
        ]
        forms += [self.grouped, self.again, self.again, self.pieces, self.spread, self.general]
        for _ in range(self.draw(st.integers(1, self.most))):
            self.scope.pick(*forms)()
        scope = self.scope
        last = scope.locals[-1]
        others = [t for t in scope.locals[:-1] if t.name in self.returned or scope.chance(5)]
        results = list(dict.fromkeys([*others, last]))
        self._name_sizes()
        parameters = ", ".join(f"{t.name}: {t.type}" for t in scope.parameters)
        types = ", ".join(t.type for t in results)
        types = f"({types})" if len(results) > 1 else types
        names = ", ".join(t.name for t in results)
        body = "\n".join(f"  {line}" for line in [*self.lines, f"return {names}"])
        main = f"def f({parameters}) -> {types} {{\n{body}\n}}"
        text = "\n".join([self.schema.text, *sorted(scope.functions), main])
        function = "f"
        if scope.chance(6):
            text, function = f"{text}\n{self._caller(results, types)}", "g"
        return Program(
            text + "\n",
            function,
            self.schema,
            tuple(scope.parameters),
            tuple(self.domains),
            scope.exact,
        )

    def _name_sizes(self) -> None:
        """A size that no parameter has is none: give each one that is used to a parameter."""
        named = {dim for tensor in self.scope.parameters for dim in tensor.dims}
        used = set(re.findall(r"\w+", "\n".join(self.lines)))
        for size in sorted(set(self.schema.dims) - self.schema.fixed - named):
            if size in used:
                self.scope.parameter("f32", (size,))

    def _caller(self, results: list[Tensor], types: str) -> str:
        """A function that calls `f` on whole tensors."""
        parameters = self.scope.parameters
        names = [t.name for t in parameters]
        if len(names) > 1:
            names = names[:-1] + [f"{names[-1]}={names[-1]}"]
        targets = ", ".join(f"r{k}" for k in range(len(results)))
        given = ", ".join(f"{t.name}: {t.type}" for t in parameters)
        return (
            f"def g({given}) -> {types} {{\n  {targets} = f({', '.join(names)})\n"
            f"  return {targets}\n}}"
        )

    # Variables

    def variables(self, *domains: Dim) -> dict[str, Dim]:
        """A name for a variable over each domain."""
        used: dict[str, Dim] = {}
        for domain in domains:
            names = VARIABLES.get(domain, "vs") if domain in self.schema.fields else SIZES
            name = next(n for n in (*names, "x", "y") if n not in used)
            used[name] = domain
        return used

    def a_set(self) -> str:
        return self.draw(st.sampled_from(list(self.schema.fields)[::-1]))

    def a_size(self, most: int, least: int = 1) -> Dim:
        """A size of at most so much: a literal, or by name."""
        extents = [n for n in SMALL + MIDDLE + LARGE if least <= n <= most]
        named = [name for name, value in self.schema.dims.items() if least <= value <= most]
        return self.draw(st.sampled_from([*extents, *named, *named, *named]))

    def some_variables(self) -> dict[str, Dim]:
        """Variables for a statement: over sets and over sizes."""
        domains: list[Dim] = []
        for _ in range(self.scope.pick(1, 1, 1, 0, 2)):
            domains.append(self.a_set())
        left = MOST_POINTS if len(domains) < 2 else 8
        for _ in range(self.scope.pick(1, 0, 2, 3)):
            domains.append(self.a_size(min(left, 200)))
            left //= self.schema.extent(domains[-1]) or 1
        if not domains:
            domains.append(self.a_size(200))
        return self.variables(*self.draw(st.permutations(domains)))

    # Writing

    def target(self, element: str, dims: tuple[Dim, ...], pad: str | None = None) -> Tensor:
        """A new local."""
        tensor = Tensor(f"y{len(self.scope.locals)}", element, dims, pad)
        return tensor

    def write(self, target: Tensor, left: list[str], op: str, value: str, variables: dict) -> None:
        """Add a statement, with a binder for every variable."""
        accesses = f"[{', '.join(left)}]" if left else ""
        line = f"{target.name}{accesses} {op} {value}"
        for name, domain in variables.items():
            places = line.count(mark(name))
            if not places:
                continue
            place = self.draw(st.integers(0, places - 1))
            parts = line.split(mark(name))
            bound = f"{name}: {domain}"
            line = name.join(parts[: place + 1]) + bound + name.join(parts[place + 1 :])
        self.lines.append(line)
        self.domains.append(tuple(v for n, v in variables.items()))
        if target not in self.scope.locals:
            self.scope.locals.append(target)

    def covered(self, value: str, left: list[str], variables: dict[str, Dim], element: str) -> str:
        """The value, with a factor for every variable that stands nowhere yet."""
        scope = self.scope
        for name, domain in variables.items():
            if mark(name) in value or any(mark(name) in index for index in left):
                continue
            other = scope.parameter("bool", (domain,))
            read = f"{other.name}[{mark(name)}]"
            value = f"where({read}, {value}, {ExpressionWriter(scope, {}).leaf(element)})"
        return value

    def kind(self, element: str) -> str:
        if element == "bool":
            return self.scope.pick("max=", "min=")
        if self.scope.exact:
            return self.scope.pick("+=", "+=", "max=", "min=")
        return self.scope.pick("+=", "+=", "+=", "max=", "min=", "*=")

    # Statements

    def general(self) -> None:
        """Any variables, any of them reduced, paths on the left."""
        scope, variables = self.scope, self.some_variables()
        writer = ExpressionWriter(scope, variables)
        element = scope.element()
        if scope.chance(3):
            self._assign(writer, variables, element)
            return
        kept = [name for name in variables if not scope.chance(3)]
        left, dims = [], []
        for name in self.draw(st.permutations(kept)):
            index, end = scope.pick(*((i, e) for i, e in writer.reach if mark(name) in i))
            left.append(index)
            dims.append(end)
        target = self.target(element, tuple(dims))
        op = self.kind(element)
        if element not in ("bool", *WIDE, *NARROW) and scope.chance(6):
            op = "mean="
        value = writer.expression(element, scope.pick(2, 1, 3))
        self.write(target, left, op, self.covered(value, left, variables, element), variables)

    def _assign(self, writer: ExpressionWriter, variables: dict[str, Dim], element: str) -> None:
        names = list(self.draw(st.permutations(list(variables))))
        target = self.target(element, tuple(variables[name] for name in names))
        value = writer.expression(element, self.scope.pick(2, 1, 3))
        self.write(target, list(map(mark, names)), "=", value, variables)

    def again(self) -> None:
        """Onto a tensor that there is, reading it perhaps, through a path perhaps."""
        scope = self.scope
        if not scope.locals:
            return self.general()
        target = scope.pick(*scope.locals)
        reaching = []
        for dim in target.dims:
            sets = [dim]
            if dim in self.schema.fields:
                ends = self.schema.fields
                sets += [s for s in ends if any(e == dim for _, e in self.schema.paths(s, 2))]
            reaching.append(scope.pick(*sets))
        if len([d for d in reaching if d in self.schema.fields]) > 1:
            reaching = list(target.dims)
        variables = self.variables(*reaching)
        plain = tuple(reaching) == target.dims
        writer = ExpressionWriter(scope, variables)
        left = []
        for name, dim in zip(variables, target.dims, strict=True):
            options = [i for i, e in writer.reach if e == dim and mark(name) in i]
            left.append(mark(name) if plain else scope.pick(*options))
        value = writer.expression(target.element, scope.pick(1, 2))
        if scope.draw(st.booleans()) and writer.can_read(target):
            own = writer.read(target)
            value = f"where({writer.expression('bool', 1)}, {own}, {value})"
        op = "=" if plain and target.name not in self.returned and scope.chance(3) else None
        op = op or self.kind(target.element)
        if op != "=" and scope.chance(3):
            extra = self.variables(*variables.values(), self.a_size(8))
            name = list(extra)[-1]
            writer = ExpressionWriter(scope, extra)
            value = f"where({writer.expression('bool', 1)}, {value}, {writer.leaf(target.element)})"
            variables = extra if mark(name) in value else variables
        self.write(
            target, left, op, self.covered(value, left, variables, target.element), variables
        )

    def follow(self) -> None:
        """A statement that uses what the one before made: element by element, or along a map."""
        scope = self.scope
        if not scope.locals:
            return self.product()
        source = scope.locals[-1]
        reaching = list(source.dims)
        sets = [k for k, dim in enumerate(source.dims) if dim in self.schema.fields]
        if sets and scope.draw(st.booleans()):
            k = scope.pick(*sets)
            ways = [
                name
                for name in self.schema.fields
                if any(end == reaching[k] for _, end in self.schema.paths(name, 2))
            ]
            reaching[k] = scope.pick(*ways)
        if not reaching or len([d for d in reaching if d in self.schema.fields]) > 2:
            return self.general()
        variables = self.variables(*reaching)
        writer = ExpressionWriter(scope, variables)
        element = source.element
        value = writer.read(source)
        if element == "bool":
            value = f"({value} or {writer.expression(element, 1)})"
        elif element in NARROW:
            value = f"where({writer.expression('bool', 1)}, {value}, {writer.leaf(element)})"
        else:
            form = scope.pick("({} * {})", "(relu({}) + {})", "min({}, {})", "({} - {})")
            value = form.format(value, writer.expression(element, scope.pick(0, 1)))
        names = list(variables)
        if scope.draw(st.booleans()):
            target = self.target(element, tuple(variables.values()))
            self.write(target, list(map(mark, names)), "=", value, variables)
            return
        kept = [name for name in names if not scope.chance(3)]
        places = [scope.pick(*((i, e) for i, e in writer.reach if mark(n) in i)) for n in kept]
        left = [index for index, _ in places]
        target = self.target(element, tuple(end for _, end in places))
        value = self.covered(value, left, variables, element)
        self.write(target, left, self.kind(element), value, variables)

    def product(self) -> None:
        """A sum of products: dense, typed, gathered, scattered, batched, of something computed."""
        scope, schema = self.scope, self.schema
        row = self.a_set() if not scope.chance(4) else self.a_size(200)
        inner = self.a_size(260, 4)
        most = max(8, 20_000 // (schema.extent(inner) or 1))
        lanes = self.a_size(most, 65 if most > 257 and scope.chance(2) else 4)
        domains = [row, inner, lanes]
        batch, outer = scope.chance(4), scope.chance(5)
        domains += [scope.pick(2, 3)] * batch + [scope.pick(2, 3, 5)] * outer
        variables = self.variables(*domains)
        names = list(variables)
        r, i, o = names[:3]
        more = names[3:]
        element = scope.element()
        element = "f32" if element in ("bool", *NARROW) else element
        writer = ExpressionWriter(scope, {r: row})
        kept = more[:1] if batch else []
        place = scope.pick(*writer.reach) if scope.chance(3) else (mark(r), row)
        left = [place, *((mark(n), variables[n]) for n in kept)]
        left = [*left, (mark(o), lanes)]
        if scope.chance(4):
            left = list(self.draw(st.permutations(left)))
        weights = self._weights(writer, i, o, more, variables, element)
        others = [self._factor(writer, i, more, variables, element)]
        for _ in range(scope.pick(0, 0, 1, 2)):
            others.append(writer.expression(element, scope.pick(0, 0, 1)))
        parts = self.draw(st.permutations([weights, *others]))
        value = self.covered(" * ".join(parts), [x for x, _ in left], variables, element)
        target = self.target(element, tuple(end for _, end in left))
        if element in NARROW:
            value = f"{element}({value})"
        self.write(target, [index for index, _ in left], "+=", value, variables)

    def _weights(self, writer, i, o, more, variables, element) -> str:
        scope = self.scope
        # A field of the row groups its weights; the row itself makes them its own.
        typed = [(index, end) for index, end in writer.reach if "." in index]
        parts = [scope.pick(*typed)] if typed and scope.chance(2) else []
        parts += [(mark(n), variables[n]) for n in more if not scope.chance(4)]
        tail = [(mark(i), variables[i]), (mark(o), variables[o])]
        parts += tail if not scope.chance(5) else tail[::-1]
        tensor = scope.parameter(element, tuple(end for _, end in parts))
        return f"{tensor.name}[{', '.join(index for index, _ in parts)}]"

    def _factor(self, writer, i, more, variables, element) -> str:
        scope = self.scope
        inside = ExpressionWriter(scope, {k: variables[k] for k in (*writer.variables, i)})
        parts = [scope.pick(*writer.reach)]
        parts += [(mark(n), variables[n]) for n in more if not scope.chance(3)]
        parts.append((mark(i), variables[i]))
        if scope.chance(5):
            parts = parts[::-1]
        tensor = scope.parameter(element, tuple(end for _, end in parts))
        read = f"{tensor.name}[{', '.join(index for index, _ in parts)}]"
        if not scope.chance(3):
            return read
        return f"where({inside.expression('bool', 1)}, {read}, {inside.leaf(element)})"

    def visit(self) -> None:
        """Several statements over the elements of one set, each using the one before."""
        scope, schema = self.scope, self.schema
        owners = [name for name, fields in schema.fields.items() if fields]
        owner = scope.pick(*owners[::-1])
        sizes = [self.a_size(scope.pick(8, 70))] if not scope.chance(3) else []
        variables = self.variables(owner, *sizes)
        e = next(iter(variables))
        key, end = scope.pick(*schema.paths(owner, 2)[1:])
        element = scope.pick("f32", "f32", "f64") if scope.exact else scope.element()
        element = "f32" if element in ("bool", *NARROW) else element
        count = scope.pick(2, 3, 1)
        for number in range(count):
            writer = ExpressionWriter(scope, variables)
            names = [n for n in variables if n == e or not scope.chance(3)]
            last = number == count - 1
            value = writer.expression(element, 2)
            if number:
                value = f"({writer.read(scope.locals[-1])} * {value})"
            if last:
                left = [mark(e) + key, *map(mark, names[1:])]
                target = self.target(element, (end, *(variables[n] for n in names[1:])))
                op = self.kind(element)
            else:
                left = [mark(n) for n in names]
                target = self.target(element, tuple(variables[n] for n in names))
                op = "=" if len(names) == len(variables) else self.kind(element)
            value = self.covered(value, left, variables, element)
            self.write(target, left, op, value, variables)

    def attention(self) -> None:
        """Messages along the elements of a set, scored by contractions of what is at their ends."""
        scope, schema = self.scope, self.schema
        owner = scope.pick(*[name for name, fields in schema.fields.items() if fields][::-1])
        inner, lanes = self.a_size(33), self.a_size(65)
        variables = self.variables(owner, inner, lanes)
        e, i, o = variables
        ends = [(mark(e) + path, end) for path, end in schema.paths(owner, 2)[1:]]
        element = scope.pick("f32", "f32", "f64", "f16", "i32") if not scope.exact else "f32"

        def read(*dims: tuple[str, Dim]) -> str:
            dims = tuple(dim for dim in dims if dim[0] in (mark(i), mark(o)) or not scope.chance(4))
            tensor = scope.parameter(element, tuple(end for _, end in dims))
            access = ", ".join(index for index, _ in dims)
            return f"{tensor.name}[{access}]" if dims else tensor.name

        rows: list[Tensor] = []
        for _ in range(scope.pick(1, 2)):
            weights = read(scope.pick(*ends), (mark(i), inner), (mark(o), lanes))
            value = f"{read(scope.pick(*ends), (mark(i), inner))} * {weights}"
            rows.append(self.target(element, (owner, lanes)))
            self.write(rows[-1], [mark(e), mark(o)], "+=", value, variables)
        over = {e: owner, o: lanes}
        terms = []
        for row in [*rows, *rows[: scope.pick(1, 0)]]:
            terms.append(
                f"{row.name}[{mark(e)}, {mark(o)}] * {read(scope.pick(*ends), (mark(o), lanes))}"
            )
        sign = scope.pick("+", "-")
        score = self.target(element, (owner,))
        self.write(score, [mark(e)], "+=", f" {sign} ".join(terms), over)
        if element != "i32" and scope.draw(st.booleans()):
            weighed = self.target(element, (owner,))
            value = f"softmax({score.name}[{mark(e)}] by {scope.pick(*ends)[0]})"
            self.write(weighed, [mark(e)], "=", value, {e: owner})
            score = weighed
        key, end = scope.pick(*ends)
        target = self.target(element, (end, lanes))
        value = f"{score.name}[{mark(e)}] * {rows[0].name}[{mark(e)}, {mark(o)}]"
        self.write(target, [key, mark(o)], "+=", value, over)

    def grouped(self) -> None:
        """softmax or mean by keys."""
        scope, variables = self.scope, self.some_variables()
        writer = ExpressionWriter(scope, variables)
        element = scope.pick("f32", "f64", "f16", "bf16", "tf32") if not scope.exact else "f32"
        names = list(variables)
        count = self.draw(st.integers(1, len(names)))
        keys = [
            scope.pick(*[x for x, _ in writer.reach if mark(n) in x][::-1]) for n in names[:count]
        ]
        inner = writer.expression(element, 2)
        what = scope.pick("softmax", "softmax", "mean")
        value = f"{what}({inner} by {', '.join(keys)})"
        if scope.chance(4):
            value = f"{value} * {writer.leaf(element)} + 1"
        target = self.target(element, tuple(variables.values()))
        self.write(target, list(map(mark, names)), "=", value, variables)

    def pieces(self) -> None:
        """Two `=` statements that together cover a tensor."""
        scope = self.scope
        first, second = (self.draw(st.sampled_from((1, 2, 3, 5, 8, 17))) for _ in range(2))
        other = self.scope.pick(self.a_set(), self.a_size(8))
        element = scope.element()
        interleaved = scope.chance(3)
        second = first if interleaved else second
        target = self.target(element, (other, first + second))
        self.returned.add(target.name)
        forms = ("2*{}", "2*{} + 1") if interleaved else ("{}", f"{{}} + {first}")
        for form, extent in zip(forms, (first, second), strict=True):
            variables = self.variables(other, extent)
            n, i = variables
            writer = ExpressionWriter(scope, variables)
            value = writer.expression(element, 1)
            if target in scope.locals and scope.chance(2):
                value = writer.leaf(element)
            left = [mark(n), form.format(mark(i))]
            self.write(target, left, "=", value, variables)
            # Until both are written, nothing may read it.
            scope.locals.remove(target)
        scope.locals.append(target)

    def spread(self) -> None:
        """To computed places of a result; what falls outside of a padded one is dropped."""
        scope, schema = self.scope, self.schema
        domains: list[Dim] = [self.a_size(40), self.scope.pick(self.a_set(), self.a_size(9))]
        variables = self.variables(*domains)
        writer = ExpressionWriter(scope, variables)
        (i, j) = (writer.reach[0][0], mark(list(variables)[1]))
        forms = (f"2*{i} - 1", f"{i} + 1", f"{i} // 2", f"5 - {i}", f"{i} % 3", f"2*{i} + {j} - 1")
        element = scope.element()
        pad = "0" if element != "i1" else "1"
        dims: list[Dim] = [self.a_size(40)]
        left = [scope.pick(*forms)]
        extent = schema.extent(domains[0]) or 1
        if scope.chance(3):  # just enough room, so that nothing is outside
            pad, dims = None, [2 * extent + 1]
            left = [scope.pick(f"2*{i} + 1", f"{extent - 1} - {i}", f"{i} // 2", f"{i} % 2")]
        if scope.chance(2):
            left.append(j)
            dims.append(domains[1])
        target = self.target(element, tuple(dims), pad)
        self.returned.add(target.name)
        value = writer.expression(element, 1)
        value = self.covered(value, left, variables, element)
        self.write(target, left, self.kind(element), value, variables)
