"""Storage formats of sets as a program spells them, and the position sets that each one makes.

Enters: the text after `as`, and the fields of the set. Leaves: a `SetFormat` in canonical form, and
the declarations of its position sets: sets with maps that binding builds from the data.

    set nz { row: row, col: col } as sgt(16, 8)      sgt(row, col, 16, 8)      nz_window, nz_column

| format                 | position sets and their maps (`...` are the maps of the set itself)   |
|------------------------|-----------------------------------------------------------------------|
| coo                    | none: elements as given                                               |
| csr(f).by(g), csc(g)   | element {..., elem}: sorted; the set gains `place`                    |
| jagged(f)              | element {..., elem}: as given, which has to be sorted; `place`        |
| ell(f, s)              | slot {..., elem, full}: as many for each f as the fullest has, or the |
|                        | fullest of each s of them, if s is not 0; `place`                     |
| hyb(f, g, c, k)        | slot_p_w {..., elem, full}: part p of the columns, rows of width w    |
| sgt(f, g, h, w)        | window, column {window, g}; the set gains `column` and `lane`         |
| bsr(f, g, h, w)        | band, strip, block {band, strip}; `block`, `down` and `across`        |
| dedup(f)               | unique, element {unique, ..., elem}; the target of f gains `unique`   |
| segmented(k, t)        | slot {..., elem, full}: sorted by k, runs rounded up to t; `place`    |
| bitmask(i, o, k, t, s) | slot {..., elem, full}: t rows with like offsets at a time, s groups; |
|                        | `place`                                                               |
| coded_csr(i, o, k)     | slot {..., elem}: by k; read and write {i or o, slot}; `place`        |
| split(f, n)            | few and many {..., elem}: elements of rows with at most n, and others |
| permute(f).by(order)   | rows {elem}: the target of f, which gains `place`, in another order;  |
|                        | element {..., elem}: by the place of their row; `place`               |

`elem` leads back to the set. `full` is 1 where a position holds an element and 0 where it is
padding, whose other maps repeat an element. Fields of a declaration are found by their order, so
names are free; here they avoid those of the set.

The orders of `permute` are `degree` (rows with the most elements first), `similar` (rows with the
same frequent columns together), and a map of the rows into themselves that says where each goes. A
format may follow, `permute(row).by(similar).sgt(16, 8)`: it is that of the part `element`. Parts of
a split have a format each, `split(row, 4).into(ell, csr(row).by(col))`, which may be a permutation
or a split again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hectorite.ir.diagnostics import did_you_mean
from hectorite.ir.format_text import Argument, FormatFault, Word, parse_words
from hectorite.ir.schema import Encoded, Schema, SetDecl

MOST_IDS = 256
"""Places in a block that a byte can tell apart."""


@dataclass(frozen=True)
class Number:
    """A number that a format takes: its name, what it is without being given, and its range. One
    that is `silent` is not printed where it is that."""

    name: str
    default: int
    least: int
    most: int
    silent: bool = False


@dataclass(frozen=True)
class Kind:
    """A family of formats: which fields it takes by what role, and which numbers.

    `first` is the field that a single role is without being named.
    """

    roles: tuple[str, ...]
    numbers: tuple[Number, ...] = ()
    example: str = ""
    first: int = 0


KINDS: dict[str, Kind] = {
    "coo": Kind((), (), "coo"),
    "csr": Kind(("row",), (), "csr(dst) or csr(dst).by(type)"),
    "csc": Kind(("col",), (), "csc(src) or csc(src).by(dst)", first=1),
    "jagged": Kind(("row",), (), "jagged(row)"),
    "ell": Kind(
        ("row",),
        (Number("slice", 0, 0, 1 << 20, silent=True),),
        "ell(row) or ell(row, 8): rows that have as many slots as the fullest of them",
    ),
    "hyb": Kind(
        ("row", "col"),
        (Number("parts", 1, 1, 64), Number("buckets", 4, 0, 12)),
        "hyb(1, 4) or hyb(row, col, 1, 4): parts of the columns, widths up to 2 ** 4",
    ),
    "sgt": Kind(
        ("row", "col"),
        (Number("window", 16, 1, MOST_IDS), Number("width", 8, 1, MOST_IDS)),
        "sgt(16, 8) or sgt(row, col, 16, 8): rows of a window, columns of a block",
    ),
    "bsr": Kind(
        ("row", "col"),
        (Number("rows", 16, 1, 1024), Number("columns", 16, 1, 1024)),
        "bsr(16, 16) or bsr(row, col, 16, 16): rows and columns of a block",
    ),
    "dedup": Kind(("row",), (), "dedup(row)"),
    "segmented": Kind(
        ("offset",), (Number("tile", 128, 1, 4096),), "segmented(k, 128): pairs of a tile", first=2
    ),
    "bitmask": Kind(
        ("in", "out", "offset"),
        (Number("tile", 128, 1, 4096), Number("groups", 1, 1, 8)),
        "bitmask(128, 3) or bitmask(in, out, k, 128, 3): rows of a tile, groups of offsets",
    ),
    "coded_csr": Kind(("in", "out", "offset"), (), "coded_csr(in, out, k)"),
    "permute": Kind(
        ("row",), (), "permute(row).by(degree), or .by(similar), or .by(a map of rows)"
    ),
    "split": Kind(
        ("row",),
        (Number("most", 4, 0, 1 << 30),),
        "split(row, 4).into(ell, csr): rows of at most 4 elements, and the others",
    ),
}
"""Every format of sets, by its name."""


@dataclass(frozen=True)
class SetFormat:
    """A format in canonical form: every field by role and every number is there.

    `by` is the field of `.by(...)`, by which elements of one row are sorted, or the order of a
    permutation. `then` is the format that follows that, or those of the parts of a split.
    """

    kind: str
    fields: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    by: str | None = None
    then: tuple[SetFormat, ...] = ()

    @property
    def alone(self) -> SetFormat:
        """The format that position sets name: a permutation is the same whatever follows it."""
        return replace(self, then=()) if self.kind == "permute" else self

    def __str__(self) -> str:
        known = zip(KINDS[self.kind].numbers, self.numbers, strict=True)
        numbers = [n for number, n in known if not (number.silent and n == number.default)]
        arguments = ", ".join(map(str, (*self.fields, *numbers)))
        head = f"{self.kind}({arguments})" if arguments else self.kind
        head = head if self.by is None else f"{head}.by({self.by})"
        if self.kind == "split":
            return f"{head}.into({', '.join(map(str, self.then))})"
        return ".".join([head, *map(str, self.then)])


Orders = Mapping[str, tuple[str, ...]]
"""For each field of a set, the maps of its target into itself, which `permute` takes as orders."""


def resolve(
    fields: Sequence[str], format: str | Sequence[Word], orders: Orders | None = None
) -> SetFormat:
    """The canonical form of a format for a set with these fields, in order of declaration.

    Raises `FormatFault` for an unknown format, field or argument, a number out of range, where
    it does not follow which field is the row, and for an order that `orders`, if given, lacks.
    """
    words = parse_words(format) if isinstance(format, str) else tuple(format)
    head = words[0]
    kind = KINDS.get(head.name)
    if head.name == "auto":
        message = "`auto` stands alone: it chooses the format of a whole set"
        raise FormatFault(message, f"one of {', '.join(KINDS)}")
    if kind is None:
        raise FormatFault(
            f"`{head.name}` is not a format of sets",
            f"one of auto, {', '.join(KINDS)}",
            did_you_mean(head.name, [*KINDS, "auto"]),
        )
    if kind.roles and not fields:
        raise FormatFault(f"`{head.name}` is for sets with maps, and this set has none")
    given = list(_assigned(head, kind, fields))
    numbers = _numbers(head, kind, [(at, a) for at, a in given if not isinstance(a.value, str)])
    roles = _roles(head, kind, fields, [(at, a) for at, a in given if isinstance(a.value, str)])
    by, then = None, tuple[SetFormat, ...]()
    if head.name == "permute":
        by, then = _permuted(fields, words, roles[0], orders)
    elif head.name == "split":
        then = _into(fields, words, orders)
    else:
        by = _by_field(fields, words)
    if by in roles and head.name != "permute":
        raise FormatFault(f"elements are sorted by `{by}` already", word=1, argument=0)
    if head.name == "sgt" and numbers[0] * numbers[1] > MOST_IDS:
        raise FormatFault(
            f"a block of {numbers[0]} by {numbers[1]} has more places than a byte can number",
            f"at most {MOST_IDS} places, such as sgt(16, 16)",
        )
    return SetFormat(head.name, roles, numbers, by, then)


def _permuted(
    fields: Sequence[str], words: Sequence[Word], row: str, orders: Orders | None
) -> tuple[str, tuple[SetFormat, ...]]:
    """The order of a permutation, and the format that follows it."""
    by, own = "degree", 1
    if len(words) > 1 and words[1].name == "by":
        own = 2
        if len(words[1].arguments) != 1 or not isinstance(words[1].arguments[0].value, str):
            raise FormatFault("`by` takes one order", KINDS["permute"].example, word=1)
        by = words[1].arguments[0].value
    if orders is not None:
        known = ("degree", "similar", *orders.get(row, ()))
        if by not in known:
            raise FormatFault(
                f"there is no order `{by}` of `{row}`",
                f"one of {', '.join(known)}",
                did_you_mean(by, known),
                1,
                0,
            )
        orders = {**orders, row: ()}  # what follows has other rows, which have no maps
    if len(words) == own:
        return by, ()
    try:
        return by, (resolve(fields, words[own:], orders),)
    except FormatFault as fault:
        fault.word += own
        raise


def _into(
    fields: Sequence[str], words: Sequence[Word], orders: Orders | None
) -> tuple[SetFormat, ...]:
    """The formats of the parts of a split."""
    given = words[1].arguments if len(words) > 1 and words[1].name == "into" else ()
    if len(words) != 2 or len(given) != 2:
        message = "`split` needs the formats of its two parts"
        raise FormatFault(message, KINDS["split"].example, word=min(1, len(words) - 1))
    found: list[SetFormat] = []
    for at, argument in enumerate(given):
        if argument.words is None or argument.name is not None:
            raise FormatFault("this is no format", KINDS["split"].example, word=1, argument=at)
        try:
            found.append(resolve(fields, argument.words, orders))
        except FormatFault as fault:
            raise FormatFault(fault.message, fault.expected, fault.hint, 1, at) from fault
    return tuple(found)


def _by_field(fields: Sequence[str], words: Sequence[Word]) -> str | None:
    if len(words) == 1:
        return None
    second = words[1]
    if second.name != "by" or words[0].name not in ("csr", "csc") or len(words) > 2:
        at = 1 if len(words) == 2 or second.name != "by" else 2
        raise FormatFault(
            f"`.{words[at].name}` cannot follow here",
            ".by(field) once, after csr or csc",
            word=at,
        )
    if len(second.arguments) != 1:
        raise FormatFault("`by` takes one field", "csr(dst).by(type)", word=1)
    _check_field(fields, second.arguments[0].value, 1, 0)
    return str(second.arguments[0].value)


def _check_field(fields: Sequence[str], name: object, word: int, argument: int) -> None:
    if name not in fields:
        raise FormatFault(
            f"the set has no field `{name}`",
            "a field of the set",
            did_you_mean(str(name), fields) or f"fields: {', '.join(fields) or 'none'}",
            word,
            argument,
        )


def _assigned(head: Word, kind: Kind, fields: Sequence[str]) -> Iterator[tuple[int, Argument]]:
    """The arguments with their places, each a field of the set or a whole number."""
    names = [*kind.roles, *(number.name for number in kind.numbers)]
    seen: set[str] = set()
    for at, argument in enumerate(head.arguments):
        if argument.name is not None and (argument.name not in names or argument.name in seen):
            raise FormatFault(
                f"`{head.name}` has no argument `{argument.name}`"
                if argument.name not in names
                else f"`{argument.name}` is given twice",
                kind.example,
                did_you_mean(argument.name, names),
                argument=at,
            )
        seen |= {argument.name} if argument.name else set()
        if isinstance(argument.value, str):
            _check_field(fields, argument.value, 0, at)
        elif argument.words is not None:
            message = f"`{argument}` is neither a field nor a number"
            raise FormatFault(message, kind.example, argument=at)
        elif not isinstance(argument.value, int):
            raise FormatFault(f"{argument.value} is not a whole number", argument=at)
        yield at, argument


def _numbers(head: Word, kind: Kind, given: Sequence[tuple[int, Argument]]) -> tuple[int, ...]:
    free = [number.name for number in kind.numbers]
    free = [name for name in free if name not in {a.name for _, a in given}]
    chosen: dict[str, int] = {}
    for at, argument in given:
        assert isinstance(argument.value, int)
        if argument.name is None and not free:
            raise FormatFault(
                f"`{head.name}` takes {_count(len(kind.numbers), 'number')}",
                kind.example,
                argument=at,
            )
        name = argument.name or free.pop(0)
        number = next((n for n in kind.numbers if n.name == name), None)
        if number is None:
            message = f"`{name}` is a field, not a number"
            raise FormatFault(message, kind.example, argument=at)
        if not number.least <= argument.value <= number.most:
            raise FormatFault(
                f"`{name}` is {argument.value}",
                f"an integer from {number.least} to {number.most}: {kind.example}",
                argument=at,
            )
        chosen[name] = argument.value
    if 0 < len(chosen) < len(kind.numbers) and all(a.name is None for _, a in given):
        missing = kind.numbers[len(chosen)].name
        raise FormatFault(f"`{head.name}` lacks its `{missing}`", kind.example)
    return tuple(chosen.get(number.name, number.default) for number in kind.numbers)


def _roles(
    head: Word, kind: Kind, fields: Sequence[str], given: Sequence[tuple[int, Argument]]
) -> tuple[str, ...]:
    if not given:
        return _usual_roles(head, kind, fields)
    free = [role for role in kind.roles if role not in {a.name for _, a in given}]
    chosen: dict[str, str] = {}
    for at, argument in given:
        name = str(argument.value)
        if (argument.name or not free) and argument.name not in kind.roles:
            raise FormatFault(
                f"`{head.name}` takes {_count(len(kind.roles), 'field')}",
                kind.example,
                argument=at,
            )
        if name in chosen.values():
            raise FormatFault(f"`{name}` is given twice", kind.example, argument=at)
        chosen[argument.name or free.pop(0)] = name
    if len(chosen) < len(kind.roles):
        missing = next(role for role in kind.roles if role not in chosen)
        raise FormatFault(f"`{head.name}` lacks its `{missing}` field", kind.example)
    return tuple(chosen[role] for role in kind.roles)


def _usual_roles(head: Word, kind: Kind, fields: Sequence[str]) -> tuple[str, ...]:
    """The fields where none is named: in order of declaration, if that leaves no doubt."""
    if len(kind.roles) == 1 and len(fields) > kind.first:
        return (fields[kind.first],)
    if len(kind.roles) == len(fields) or not kind.roles:
        return tuple(fields[: len(kind.roles)])
    example = ", ".join(fields[: len(kind.roles)])
    numbers = "".join(f", {number.default}" for number in kind.numbers)
    raise FormatFault(
        f"`{head.name}` needs {_count(len(kind.roles), 'field')} "
        f"({', '.join(kind.roles)}), and the set has {len(fields)}",
        kind.example,
        f"name them: {head.name}({example}{numbers})" if len(fields) > len(kind.roles) else None,
    )


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def canonical(schema: Schema, over: str, text: str) -> SetFormat:
    """The format `text` of the set `over`. Raises `FormatFault`."""
    return resolve([name for name, _ in schema.sets[over].fields], text, orders_of(schema, over))


def orders_of(schema: Schema, over: str) -> Orders:
    """What `permute` can sort the targets of a set by, for each of its fields."""
    found: dict[str, tuple[str, ...]] = {}
    for field, target in schema.sets[over].fields:
        maps = schema.fields_of(target) if target in schema.sets else {}
        found[field] = tuple(name for name, to in maps.items() if to == target)
    return found


def position_sets(
    schema: Schema, over: str, text: str, taken: Collection[str] = ()
) -> tuple[SetDecl, ...]:
    """The position sets of the set `over` in the format `text`, each after those it names, without
    those of formats that its parts have.

    Names avoid those of the schema and `taken`. Raises `FormatFault`.
    """
    format = canonical(schema, over, text).alone
    return tuple(_Declarer(schema, over, format, {*schema.sets, *schema.sizes, *taken}).parts())


Targets = dict[str, str]


class _Declarer:
    """Declares the parts of one format of one set."""

    def __init__(self, schema: Schema, over: str, format: SetFormat, taken: set[str]):
        self.schema, self.over, self.format, self.taken = schema, over, format, taken
        self.fields: Targets = dict(schema.sets[over].fields)

    def parts(self) -> Iterator[SetDecl]:
        kind, over = self.format.kind, self.over
        if kind in ("csr", "csc", "jagged"):
            yield self.copy("element", {"elem": over}, True)
        elif kind in ("ell", "segmented", "bitmask"):
            yield self.copy("slot", {"elem": over, "full": "2"}, True)
        elif kind == "hyb":
            parts, buckets = self.format.numbers
            for part in range(parts):
                for bucket in range(buckets + 1):
                    name = f"slot_{part}_{1 << bucket}"
                    yield self.copy(name, {"elem": over, "full": "2"}, False)
        elif kind == "sgt":
            yield from self.windows()
        elif kind == "bsr":
            yield from self.blocks()
        elif kind == "dedup":
            yield from self.deduplicated()
        elif kind == "coded_csr":
            yield from self.coded()
        elif kind == "permute":
            yield from self.permuted()
        elif kind == "split":
            yield self.copy("few", {"elem": over}, False)
            yield self.copy("many", {"elem": over}, False)

    def declare(
        self, part: str, fields: Targets, gives: Sequence[tuple[str, str, str | int]] = ()
    ) -> SetDecl:
        """One part. `gives` has (owner, field, target), an empty target being the part itself."""
        name = fresh(f"{self.over}_{part}", self.taken)
        self.taken.add(name)
        given = tuple(
            (owner, fresh(field, self.schema.fields_of(owner)), str(target or name))
            for owner, field, target in gives
        )
        encoded = Encoded(self.over, part, str(self.format), given)
        return SetDecl(name, tuple(fields.items()), None, None, encoded)

    def copy(self, part: str, more: Mapping[str, str], placed: bool) -> SetDecl:
        """A part whose positions stand for elements."""
        gives = [(self.over, "place", "")] if placed else []
        return self.declare(part, self.fields | self.unused(more), gives)

    def unused(self, more: Mapping[str, str]) -> Targets:
        return {fresh(name, self.fields): target for name, target in more.items()}

    def windows(self) -> Iterator[SetDecl]:
        _, col = self.format.fields
        window = self.declare("window", {})
        yield window
        fields = {"window": window.name} | {fresh(col, {"window"}): self.fields[col]}
        gives = [(self.over, "column", ""), (self.over, "lane", self.format.numbers[0])]
        yield self.declare("column", fields, gives)

    def blocks(self) -> Iterator[SetDecl]:
        height, width = self.format.numbers
        band, strip = self.declare("band", {}), self.declare("strip", {})
        yield band
        yield strip
        gives = [
            (self.over, "block", ""),
            (self.over, "down", height),
            (self.over, "across", width),
        ]
        yield self.declare("block", {"band": band.name, "strip": strip.name}, gives)

    def deduplicated(self) -> Iterator[SetDecl]:
        (row,) = self.format.fields
        unique = self.declare("unique", {}, [(self.fields[row], "unique", "")])
        yield unique
        rest = {name: target for name, target in self.fields.items() if name != row}
        first = {fresh("unique", rest): unique.name}
        yield self.declare("element", first | rest | self.unused({"elem": self.over}))

    def coded(self) -> Iterator[SetDecl]:
        source, out, _ = self.format.fields
        slot = self.copy("slot", {"elem": self.over}, True)
        yield slot
        for part, field in (("read", source), ("write", out)):
            fields = {field: self.fields[field]}
            yield self.declare(part, fields | {fresh("slot", fields): slot.name})

    def permuted(self) -> Iterator[SetDecl]:
        (row,) = self.format.fields
        target = self.fields[row]
        rows = self.declare("rows", {"elem": target}, [(target, "place", "")])
        yield rows
        fields = {name: rows.name if name == row else to for name, to in self.fields.items()}
        elem = self.unused({"elem": self.over})
        yield self.declare("element", fields | elem, [(self.over, "place", "")])


def fresh(name: str, taken: Collection[str]) -> str:
    """`name`, with a number behind it if it is taken."""
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
