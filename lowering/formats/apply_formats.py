"""`apply-formats`: compute on position sets where a set has a storage format.

Enters: the `graph` dialect without softmax. Leaves: the same and position sets of the `sparse`
dialect, which binding builds; statements over a set with a format are over its positions as far as
the format serves them (`lowering/formats/`). What they mean does not change.

    y[e.dst, o] += a[e] * x[e.src, o]

becomes, with `set edge { src: node, dst: node } as csr(dst)`,

    y[e.dst, o] += a[e.elem] * x[e.src, o]

where e: edge_element, the edges sorted by dst. A function in which a format serves no statement at
all is an error that says why; where it serves some, the others are computed without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from xdsl.context import Context
from xdsl.dialects.builtin import FileLineColLoc, ModuleOp
from xdsl.ir import Attribute
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.dialects.graph_sets import DeclarationOp, DeriveOp, SetOp, schema_of
from hectorite.dialects.sparse import PositionSetOp, position_set_op
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, Source, Span, did_you_mean, fail
from hectorite.ir.element import element_of
from hectorite.ir.format_text import FormatFault
from hectorite.ir.schema import Schema
from hectorite.ir.set_format import canonical, position_sets
from hectorite.lowering.formats.blocks import serve_blocks
from hectorite.lowering.formats.copies import serve_copies
from hectorite.lowering.formats.dedup import serve_dedup
from hectorite.lowering.formats.format_use import FormatUse, Outcome, over_set
from hectorite.lowering.formats.permuted import serve_permuted
from hectorite.lowering.graph.derived_sets import size_variables
from hectorite.lowering.graph.notation import Notation

Serve = Callable[[FuncOp, FormatUse], Outcome]

_FAMILIES: dict[str, Serve] = {
    "sgt": serve_blocks,
    "bsr": serve_blocks,
    "dedup": serve_dedup,
    "permute": serve_permuted,
    "split": serve_copies,
    **dict.fromkeys(
        ("csr", "csc", "jagged", "ell", "hyb", "segmented", "bitmask", "coded_csr"), serve_copies
    ),
}
"""What rewrites a function for a format; `coo` needs nothing."""

_REGROUPS = ("sgt", "bsr")
"""Formats that take products with zero into a sum."""


@dataclass(frozen=True)
class ApplyFormats(ModulePass):
    """Compute on position sets where a set has a storage format."""

    name = "apply-formats"

    formats: tuple[str, ...] = ()
    """Formats in the place of those that sets are declared with: `SET=FORMAT`."""
    reassociate: bool = True
    """Allow floats to be added in another order."""
    tensor_cores: bool = False
    """Whether the target multiplies short numbers in blocks."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        chosen = chosen_formats(op, self.formats)
        _check_stored(op, self.formats, chosen)
        for name, text in chosen.items():
            self._serve(op, name, text)

    def _serve(self, module: ModuleOp, over: str, text: str, whole: _Whole | None = None) -> None:
        """Rewrite for one set; a part of a format has that of the `whole` that it is in."""
        schema = schema_of(module)
        format = canonical(schema, over, text)
        serve = _FAMILIES.get(format.kind)
        if serve is None or stored_format(schema, over) is not None:
            return
        parts = position_sets(schema, over, text, set(size_variables(module)))
        declared = Schema({**schema.sets, **{decl.name: decl for decl in parts}}, schema.sizes)
        use = FormatUse(over, format, parts, declared, self.tensor_cores, self.reassociate)
        served = 0
        whole = _Whole(over, str(format), _lines(module, over)) if whole is None else whole
        for func in module.ops:
            if not isinstance(func, FuncOp):
                continue
            written = {op: Notation(func).line(op) or "" for op in _statements(func, over)}
            floats = any(element_of(op.value.type).is_float for op in written)
            if floats and format.kind in _REGROUPS and not self.reassociate:
                raise fail(
                    f"the format {whole.called(str(format))} adds products with zero to sums",
                    expected="sums that may be regrouped, or a format that keeps them",
                    hint=f"csr({format.fields[0]}) keeps every sum as it is",
                )
            outcome = serve(func, use)
            if outcome.refused and not outcome.served:
                # The reason at the largest statement tells most.
                op, reason = max(outcome.refused, key=lambda each: len(each[0].variables.data))
                raise _refused(op, reason, written[op], str(format), whole)
            served += outcome.served
        if served:
            _declare(module, over, [position_set_op(decl) for decl in parts])
            for decl, inner in zip(parts[::-1], format.then[::-1], strict=False):
                elem = next(name for name, to in decl.fields[::-1] if to == over)
                inside = replace(whole, elems=(*whole.elems, elem))
                self._serve(module, decl.name, str(inner), inside)


@dataclass(frozen=True)
class _Whole:
    """A set and its format as the program has them, to tell what is wrong inside of it: `lines` are
    statements over the set by where they stand, `elems` maps of parts that lead back to it."""

    over: str
    format: str
    lines: dict[tuple[Attribute, str], str]
    elems: tuple[str, ...] = ()

    def called(self, format: str) -> str:
        """The format of a part, or of the set itself."""
        inside = f" in `{self.format}`" if self.elems else ""
        return f"`{format}`{inside} of `{self.over}`"

    def line(self, op: StatementOp, line: str) -> str:
        """A statement as the program has it, `line` where that is not known."""
        return self.lines.get((op.location, op.kind.data), line) if self.elems else line

    def told(self, reason: str) -> str:
        """A reason, its paths out of elements as the program writes them."""
        return re.sub(rf"\.({'|'.join(self.elems)})\b", "", reason) if self.elems else reason


def _lines(module: ModuleOp, over: str) -> dict[tuple[Attribute, str], str]:
    """The text of each statement over a set whose place in the program is known."""
    found: dict[tuple[Attribute, str], str] = {}
    for func in module.ops:
        if not isinstance(func, FuncOp):
            continue
        for op in _statements(func, over):
            if isinstance(op.location, FileLineColLoc):
                line = Notation(func).line(op) or ""
                found.setdefault((op.location, op.kind.data), line)
    return found


def chosen_formats(module: ModuleOp, given: Sequence[str] = ()) -> dict[str, str]:
    """The format of each set that has one: that which is given for it as `SET=FORMAT`, else that
    which it is declared with. With `auto` it has none.

    Raises `HectoriteError` for what is no set, or no format of it.
    """
    sets = {op.declared.data: op for op in module.ops if isinstance(op, SetOp | DeriveOp)}
    schema = schema_of(module)
    chosen: dict[str, str] = {}
    declared = {name: op.format.data for name, op in sets.items() if op.format is not None}
    for name, format in declared.items():
        chosen[name] = _canonical(schema, name, format)
    for text in given:
        name, equals, format = (part.strip() for part in text.partition("="))
        if not equals or not format:
            raise fail(f"`{text}` does not say which format", expected="SET=FORMAT, as nz=csr(row)")
        if name not in sets:
            raise fail(f"there is no set `{name}`", hint=did_you_mean(name, sets))
        chosen[name] = _canonical(schema, name, format)
    return {name: format for name, format in chosen.items() if format != "auto"}


def _check_stored(module: ModuleOp, given: Sequence[str], chosen: Mapping[str, str]) -> None:
    """Raises `HectoriteError` for a format that is given for a set which has positions already."""
    schema = schema_of(module)
    for name in (text.partition("=")[0].strip() for text in given):
        stored = stored_format(schema, name)
        wanted = canonical(schema, name, chosen.get(name, "coo"))
        if stored is not None and str(wanted.alone) != stored:
            raise fail(
                f"`{name}` cannot be {wanted}: statements are over its positions as {stored}",
                hint="give the format to the program that this text was made from",
            )


def stored_format(schema: Schema, over: str) -> str | None:
    """The format that a set has positions in already, as in a program of the level `sparse`."""
    encoded = (decl.encoded for decl in schema.sets.values())
    return next((each.format for each in encoded if each and each.of == over), None)


def _canonical(schema: Schema, name: str, format: str) -> str:
    """`auto`, or a format as it is printed. Raises `HectoriteError` if it is none of the set."""
    try:
        return "auto" if format == "auto" else str(canonical(schema, name, format))
    except FormatFault as fault:
        said = f"`{name}` as `{format}`: {fault.message}"
        raise fail(said, expected=fault.expected, hint=fault.hint) from fault


def _declare(module: ModuleOp, over: str, parts: Sequence[PositionSetOp]) -> None:
    """Declare position sets behind all other sets, which they may lead into."""
    declarations = [op for op in module.ops if isinstance(op, DeclarationOp)]
    module.body.block.insert_ops_after(parts, declarations[-1])


def _statements(func: FuncOp, over: str) -> list[StatementOp]:
    return [
        op
        for op in func.body.block.ops
        if isinstance(op, StatementOp) and over_set(op, over) is not None
    ]


def _refused(
    op: StatementOp, reason: str, written: str, format: str, whole: _Whole
) -> HectoriteError:
    """A format that serves no statement, at one of them."""
    place, span, source = op.location, None, None
    if isinstance(place, FileLineColLoc):
        line, column = place.line.data, place.column.data
        span, source = Span(line, column, line, column), Source(place.filename.data, "")
    hint = f"declare `{whole.over}` without it, or with csr, which serves every statement"
    return HectoriteError(
        [
            Diagnostic(
                f"the format {whole.called(format)} cannot serve `{whole.line(op, written)}`: "
                f"{whole.told(reason)}",
                span,
                source,
                expected=_SERVED[format.partition("(")[0]],
                hint=hint,
            )
        ]
    )


_SERVED = {
    "sgt": "a sum of a[z] * B[z.col, j] by row or by column, or of P[z.row, i] * Q[z.col, i]",
    "bsr": "a sum of a[z] * B[z.col, j] by row or by column, or of P[z.row, i] * Q[z.col, i]",
    "dedup": "a sum by row of what is read through the other maps of the set",
}
"""What formats that do not serve every statement are for."""
