"""The `sparse` dialect: storage formats as sets of positions.

    set     ::= "sparse.set" position
    permute ::= "sparse.permute" position
    position ::= @name ("{" (field ":" target)* "}")? "=" part "of" @set "as" format
                 ("gives" "{" ((set ".")? field ":" target)* "}")?

    graph.set @row
    graph.set @col
    graph.set @nz {row: row, col: col}
    sparse.set @nz_window = "window" of @nz as "sgt(row, col, 16, 8)"
    sparse.set @nz_column {window: nz_window, col: col} = "column" of @nz as "sgt(row, col, 16, 8)" gives {column: nz_column, lane: 16}
    sparse.permute @nz_rows {elem: row} = "rows" of @nz as "permute(row).by(degree)" gives {row.place: nz_rows}

A position set is one part of a set in a format: a set with maps like any other, which binding
builds from the data (`backends/formats/`). A target is a set, or a number that values stay below.
What it `gives` are maps that other sets gain, the set itself unless another is named: the position
of each element. `ir/set_format.py` lists the parts of each format and their maps. Those of a
permutation are of an operation of their own, that a format of its part `element` may follow.

    encoding ::= "#sparse.encoding" "<" "levels" "[" level* "]"
                 ("," "window" "[" rows "," columns "]")? "," "payload" payload ">"

    #sparse.encoding<levels [dense, condensed], window [16, 8], payload byte>

An encoding is how a structure lies in memory, which depends on the data; `ir/encoding.py` says what
levels and payloads store and how many bytes that is, `backends/formats/storage.py` what stored
arrays mean.
"""  # noqa: E501

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute, Data, Dialect
from xdsl.irdl import irdl_attr_definition, irdl_op_definition, prop_def
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from hectorite.dialects.graph_sets import SetDeclarationOp, schema_of
from hectorite.ir.encoding import Encoding
from hectorite.ir.format_text import FormatFault
from hectorite.ir.schema import Encoded, Schema, SetDecl
from hectorite.ir.set_format import position_sets
from hectorite.ir.space import parse_dim


@irdl_attr_definition
class EncodingAttr(Data[Encoding]):
    """How a sparse structure lies in memory."""

    name = "sparse.encoding"

    def verify(self) -> None:
        fault = self.data.fault()
        if fault is not None:
            raise VerifyException(fault)

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Encoding:
        with parser.in_angle_brackets():
            parser.parse_keyword("levels")
            square = parser.Delimiter.SQUARE
            levels = parser.parse_comma_separated_list(
                square, lambda: parser.parse_identifier("a level")
            )
            parser.parse_punctuation(",")
            window = None
            if parser.parse_optional_keyword("window") is not None:
                numbers = parser.parse_comma_separated_list(square, parser.parse_integer)
                if len(numbers) != 2:
                    parser.raise_error("a window has rows and columns")
                window = (numbers[0], numbers[1])
                parser.parse_punctuation(",")
            parser.parse_keyword("payload")
            return Encoding(tuple(levels), window, parser.parse_identifier("a payload"))

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self.data))

    def __str__(self) -> str:
        return f"#{self.name}<{self.data}>"


def _parse_maps(parser: Parser) -> dict[str, Attribute]:
    def pair() -> tuple[str, Attribute]:
        name = parser.parse_identifier("a field")
        parser.parse_punctuation(":")
        return name, StringAttr(str(parse_dim(parser)))

    pairs = parser.parse_optional_comma_separated_list(parser.Delimiter.BRACES, pair)
    return dict(pairs or ())


def _maps_text(maps: DictionaryAttr) -> str:
    pairs = (f"{name}: {cast(StringAttr, to).data}" for name, to in maps.data.items())
    return f"{{{', '.join(pairs)}}}"


class PositionSetOp(SetDeclarationOp):
    """One part of a set in a storage format: positions, with maps that binding builds."""

    fields_ = prop_def(DictionaryAttr, prop_name="fields")
    part = prop_def(StringAttr)
    of = prop_def(StringAttr)
    format = prop_def(StringAttr)
    gives = prop_def(DictionaryAttr)

    def __init__(self, decl: SetDecl):
        encoded = decl.encoded
        if encoded is None:
            raise ValueError(f"{decl.name} is no position set")
        gives = {
            field if owner == encoded.of else f"{owner}.{field}": StringAttr(target)
            for owner, field, target in encoded.gives
        }
        super().__init__(
            properties={
                "name": StringAttr(decl.name),
                "fields": DictionaryAttr({f: StringAttr(to) for f, to in decl.fields}),
                "part": StringAttr(encoded.part),
                "of": StringAttr(encoded.of),
                "format": StringAttr(encoded.format),
                "gives": DictionaryAttr(gives),
            }
        )

    @property
    def decl(self) -> SetDecl:
        over = self.of.data
        fields = tuple((f, cast(StringAttr, to).data) for f, to in self.fields_.data.items())
        gives: list[tuple[str, str, str]] = []
        for name, to in self.gives.data.items():
            owner, dot, field = name.rpartition(".")
            gives.append((owner if dot else over, field, cast(StringAttr, to).data))
        encoded = Encoded(over, self.part.data, self.format.data, tuple(gives))
        return SetDecl(self.declared.data, fields, encoded=encoded)

    def verify_(self) -> None:
        self.verify_declared_once()
        permutes = self.format.data.startswith("permute(")
        if permutes != isinstance(self, PermuteOp):
            raise VerifyException(
                f"`{self.format.data}` is declared by sparse.{'permute' if permutes else 'set'}"
            )
        module = self.parent_op()
        if module is None:
            return
        verify_position_set(self.decl, schema_of(cast(ModuleOp, module)))

    @classmethod
    def parse(cls, parser: Parser) -> PositionSetOp:
        name = parser.parse_symbol_name()
        fields = _parse_maps(parser)
        parser.parse_punctuation("=")
        part = StringAttr(parser.parse_str_literal("the name of a part"))
        parser.parse_keyword("of")
        over = parser.parse_symbol_name()
        parser.parse_keyword("as")
        format = StringAttr(parser.parse_str_literal("a format"))
        given = parser.parse_optional_keyword("gives") is not None
        properties: dict[str, Attribute] = {
            "name": StringAttr(name.data),
            "fields": DictionaryAttr(fields),
            "part": part,
            "of": StringAttr(over.data),
            "format": format,
            "gives": DictionaryAttr(_parse_maps(parser) if given else {}),
        }
        return cls.create(properties=properties)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.declared.data)
        if self.fields_.data:
            printer.print_string(f" {_maps_text(self.fields_)}")
        printer.print_string(" = ")
        printer.print_string_literal(self.part.data)
        printer.print_string(" of ")
        printer.print_symbol_name(self.of.data)
        printer.print_string(" as ")
        printer.print_string_literal(self.format.data)
        if self.gives.data:
            printer.print_string(f" gives {_maps_text(self.gives)}")


@irdl_op_definition
class SetOp(PositionSetOp):
    """A part of a set in a format."""

    name = "sparse.set"


@irdl_op_definition
class PermuteOp(PositionSetOp):
    """A set, or the rows that its elements have, in another order."""

    name = "sparse.permute"


def position_set_op(decl: SetDecl) -> PositionSetOp:
    """The operation that declares a position set."""
    permutes = decl.encoded is not None and decl.encoded.format.startswith("permute(")
    return PermuteOp(decl) if permutes else SetOp(decl)


def verify_position_set(decl: SetDecl, schema: Schema) -> None:
    """The declaration has the maps that its format gives this part, whatever their names.

    Raises `VerifyException`.
    """
    encoded = decl.encoded
    assert encoded is not None
    if encoded.of not in schema.sets:
        raise VerifyException(f"there is no set `{encoded.of}`")
    try:
        known = {
            d.encoded.part: d
            for d in position_sets(schema, encoded.of, encoded.format)
            if d.encoded is not None
        }
    except FormatFault as fault:
        raise VerifyException(f"`{encoded.of}` as `{encoded.format}`: {fault.message}") from fault
    wanted = known.get(encoded.part)
    if wanted is None or wanted.encoded is None:
        parts = ", ".join(f'"{part}"' for part in known) or "none"
        raise VerifyException(f'`{encoded.format}` has no part "{encoded.part}"; parts: {parts}')
    parts = {d.name: d.encoded.part for d in known.values() if d.encoded is not None}
    _verify_targets(
        decl.name,
        [target for _, target in decl.fields],
        [target for _, target in wanted.fields],
        parts,
        schema,
    )
    if [owner for owner, _, _ in encoded.gives] != [owner for owner, _, _ in wanted.encoded.gives]:
        listed = ", ".join(f"{owner}.{name}" for owner, name, _ in wanted.encoded.gives) or "none"
        raise VerifyException(f"`{decl.name}` gives other maps than its format; expected {listed}")
    _verify_targets(
        decl.name,
        [target for _, _, target in encoded.gives],
        [target for _, _, target in wanted.encoded.gives],
        parts,
        schema,
    )


def _verify_targets(
    name: str, given: list[str], wanted: list[str], parts: dict[str, str], schema: Schema
) -> None:
    """Targets are those of the format, where a part of it may have any name."""
    if len(given) != len(wanted):
        raise VerifyException(f"`{name}` has {len(given)} maps, its format gives {len(wanted)}")
    for target, expected in zip(given, wanted, strict=True):
        decl = schema.sets.get(target)
        part = decl.encoded.part if decl and decl.encoded else None
        if target != expected and (expected not in parts or parts[expected] != part):
            raise VerifyException(f"a map of `{name}` leads to `{target}`, expected `{expected}`")


Sparse = Dialect("sparse", [SetOp, PermuteOp], [EncodingAttr])
