"""The storage format of a set, chosen by what it costs on the data that is bound.

Enters: a function as the rewrites leave it, bound data, a device. Leaves: for each set a list of
formats with the time that the cost model predicts for the whole function in each of them, the best
one marked, and what each is like on this data: how many positions, how much of it padding.

A set keeps no format unless another is faster by `WORTHWHILE`: building one takes time too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.backends.formats.ell import widths
from hectorite.frontend.explanation import Candidate
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schema import Schema
from hectorite.ir.set_format import canonical
from hectorite.lowering.options import Options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.frontend.compiled.program import Choose
    from hectorite.frontend.program_text import ProgramText
    from hectorite.ir.device import Device
    from hectorite.ir.statement_form import Form

WORTHWHILE = 1.1
"""How many times faster a format has to be than none."""

MOST_PADDING = 8
"""More positions than this for each element are not built to see what they would cost."""

NO_EFFECT = "no effect: no statement reduces over it"
"""What there is to say of a format in a function that makes each element by itself."""

PRICES = {
    ("sgt", "summed"): 0.9,
    ("sgt 8", "summed"): 0.8,
    ("bsr", "summed"): 1.3,
    ("bsr", "sampled"): 3.3,
}
"""What statements over blocks take on a CPU, in times of what the cost model says, which has no
products of a few rows: fitted to whole calls, at 64 columns with one thread, on four matrices of
full blocks of 8 to 32. `sgt 8` has windows of at most 8 rows. A statement is summed over blocks, or
sampled for each place of them."""

PREFIX = "as "
"""Marks a chosen format among what is known of data, which otherwise are numbers of elements."""


@dataclass(frozen=True)
class Setting:
    """A function whose formats are to be chosen: its module after all rewrites, the binding, and
    whose costs count. `sizes` are known values of its sizes."""

    module: ModuleOp
    function: str
    binding: Binding
    device: Device
    on_gpu: bool
    sizes: dict[str, int]


def auto_sets(module: ModuleOp, formats: Sequence[str]) -> tuple[str, ...]:
    """The sets whose format is left to the compiler: `as auto`, in the program or in `formats`."""
    from hectorite.dialects.graph_sets import schema_of

    found = {name: decl.format for name, decl in schema_of(module).sets.items()}
    for text in formats:
        name, _, format = text.partition("=")
        found[name.strip()] = format.strip()
    return tuple(name for name, format in found.items() if format == "auto")


def split_known(known: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is known of data: numbers of elements, and formats that were chosen."""
    formats = tuple(text.removeprefix(PREFIX) for text in known if text.startswith(PREFIX))
    return tuple(text for text in known if not text.startswith(PREFIX)), formats


def chooser(text: ProgramText, options: Options, target: str) -> Choose | None:
    """What chooses the formats of a program's sets for a target, as `PREFIX SET=FORMAT`; None if
    all are given."""
    if "auto" not in f"{text.text}{options.formats}" or text.form not in ("source", "graph"):
        return None  # and its module may stay in the cache
    sets = auto_sets(text.module, options.formats)
    if not sets:
        return None

    def choose(function: str, binding: Binding) -> tuple[str, ...]:
        from hectorite.frontend.compiled.request import device_of, only
        from hectorite.frontend.compiled.targets import gpu_of
        from hectorite.lowering.pipelines import optimise

        gpu = gpu_of(target)
        device = device_of(gpu)
        module = optimise(only(text.module, function), {}, replace(options, device=device))
        setting = Setting(module, function, binding, device, gpu is not None, {})
        chosen = [c for name in sets for c in candidates(setting, name) if c.chosen]
        return tuple(f"{PREFIX}{c.set}={c.format}" for c in chosen if c.format != "coo")

    return choose


def candidates(setting: Setting, over: str, wanted: str | None = None) -> list[Candidate]:
    """The formats that a set may have, the best one marked, or the one that is `wanted`; none if
    the function does not reduce over the set, or is over its positions already."""
    if _is_over_positions(setting, over):
        return []
    spellings = list(_spellings(setting, over))
    if not spellings:
        return []
    formats = ["coo", *spellings]
    formats += [] if wanted is None or wanted in formats else [wanted]
    found = [_priced(setting, over, format) for format in formats]
    if wanted is not None:
        return [replace(c, chosen=c.format == wanted) for c in found]
    plain = found[0].seconds
    if plain is None:  # nothing can be computed, whatever the format
        return found
    priced = [candidate for candidate in found if candidate.seconds is not None]
    best = min(priced, key=lambda candidate: candidate.seconds or 0.0)
    if best.seconds is None or plain < WORTHWHILE * best.seconds:
        best = found[0]
    return [replace(c, chosen=c is best) for c in found]


def all_candidates(setting: Setting, formats: Sequence[str]) -> Iterator[Candidate]:
    """The formats of each set that data gives with several maps, or that has a format, in order;
    `formats` are those that sets are given, in the place of those that they are declared with."""
    from hectorite.lowering.formats.apply_formats import chosen_formats

    wanted = chosen_formats(setting.module, formats)
    for name, decl in setting.binding.schema.sets.items():
        if name in wanted or (decl.given and len(decl.fields) > 1):
            found = candidates(setting, name, wanted.get(name))
            yield from found
            if not found and name in wanted and not _is_over_positions(setting, name):
                yield Candidate(name, wanted[name], None, NO_EFFECT, True)


def _is_over_positions(setting: Setting, over: str) -> bool:
    """Whether the program is one of the level `sparse`, over positions of the set."""
    from hectorite.lowering.formats.apply_formats import stored_format

    return stored_format(setting.binding.schema, over) is not None


def _spellings(setting: Setting, over: str) -> Iterator[str]:
    """Formats by the fields that statements over the set add up at, and those they gather by."""
    fields = [name for name, _ in setting.binding.schema.sets[over].fields]
    scattered, read = _used(setting, over)
    for row in [name for name in fields if name in scattered]:
        yield f"csr({row})"
        yield f"ell({row})"
        for col in [name for name in fields if name in read and name != row][:1]:
            yield f"hyb({row}, {col}, 1, 3)"
            yield f"sgt({row}, {col}, 16, 8)"
            yield f"sgt({row}, {col}, 8, 8)"
            yield f"bsr({row}, {col}, 8, 8)"
        yield f"dedup({row})"


def _used(setting: Setting, over: str) -> tuple[set[str], set[str]]:
    """The fields at which statements over a set reduce, or read for sums of each element, and the
    fields that they read through."""
    from hectorite.dialects.graph import FuncOp, StatementOp
    from hectorite.lowering.formats.format_use import over_set, place_of
    from hectorite.lowering.graph.statement_body import paths_of, statements

    scattered, read = set[str](), set[str]()
    for func in setting.module.ops:
        for op in statements(func) if isinstance(func, FuncOp) else ():
            assert isinstance(op, StatementOp)
            variable = over_set(op, over)
            if variable is None or op.kind.data == "assign":
                continue
            inside = {path.fields[0] for path in paths_of(variable, op.value) if path.fields}
            left = [p for index in op.access.data for p in index.paths if p.variable == variable]
            at = {path.fields[0] for path in left if path.fields}
            if place_of(op, variable) is not None and len(inside) > 1:
                at = {next(name for name, _ in _fields(setting, over) if name in inside)}
            scattered |= at
            read |= inside
    return scattered, read


def _fields(setting: Setting, over: str) -> tuple[tuple[str, str], ...]:
    return setting.binding.schema.sets[over].fields


def _priced(setting: Setting, over: str, format: str) -> Candidate:
    from hectorite.dialects.graph_sets import schema_of
    from hectorite.lowering.pipelines import apply_formats

    elements = setting.binding.size(over)
    known = canonical(setting.binding.schema, over, format)
    if known.kind == "ell":
        (row,), (slice,) = known.fields, known.numbers
        count = setting.binding.size(dict(_fields(setting, over))[row])
        degree = np.bincount(setting.binding.map(over, row), minlength=count)
        positions = int(widths(degree, slice).sum())
        if positions > MOST_PADDING * max(1, elements):
            return Candidate(over, format, None, f"{positions} positions for {elements} elements")
    options = Options(formats=(f"{over}={format}",))
    try:
        module = apply_formats(setting.module, options, setting.on_gpu, only_sets=True)
    except HectoriteError as error:
        message = error.diagnostics[0].message
        return Candidate(over, format, None, message.partition("`: ")[2] or message)
    schema = schema_of(module)
    made = [d for d in schema.sets.values() if d.encoded is not None and d.encoded.of == over]
    if format != "coo" and not made:
        return Candidate(over, format, None, "serves no statement")
    bound = Binding(schema, setting.binding.given)
    seconds = _seconds(setting, module, over, schema, bound)
    if format == "coo":
        return Candidate(over, format, seconds, f"{elements} elements as given")
    return Candidate(over, format, seconds, _note(over, format, schema, bound, elements))


def _seconds(
    setting: Setting, module: ModuleOp, over: str, schema: Schema, bound: Binding
) -> float:
    """What the cost model predicts for one call."""
    from hectorite.dialects.graph import FuncOp
    from hectorite.ir.cost import CostModel
    from hectorite.ir.extents import Extents
    from hectorite.lowering.graph.lift_dataflow import lift

    (func,) = (op for op in module.ops if isinstance(op, FuncOp))
    # Others that are derived may take long to make, and the function may do without them.
    sets = [decl for decl in schema.sets.values() if decl.derivation is None or decl.name == over]
    sizes = {decl.name: bound.size(decl.name) for decl in sets} | setting.sizes
    maps = {(d.name, f): bound.map(d.name, f) for d in sets for f in schema.fields_of(d.name)}
    model = CostModel(setting.device, Extents(schema, sizes, maps=maps))
    flow = lift(func, schema, True, ())
    seconds = model.seconds(flow)
    if setting.on_gpu:
        return seconds
    prices = ((number, _price(node.form, schema)) for number, node in flow.nodes.items())
    more = (model.node(flow, number) * (price - 1) for number, price in prices if price != 1)
    return seconds + sum(more)


def _price(form: Form | None, schema: Schema) -> float:
    """The price of a statement, 1 where it is over no blocks."""
    for name, dim in () if form is None else form.dims:
        encoded = schema.sets[dim].encoded if isinstance(dim, str) and dim in schema.sets else None
        if form is None or encoded is None or encoded.part not in ("column", "block"):
            continue
        own = canonical(schema, encoded.of, encoded.format)
        kind = "sgt 8" if own.kind == "sgt" and own.numbers[0] <= 8 else own.kind
        is_kept = any(index.variable == name for index in form.left)
        return PRICES.get((kind, "sampled" if is_kept else "summed"), 1.0)
    return 1.0


def _note(over: str, format: str, schema: Schema, bound: Binding, elements: int) -> str:
    """What a format is like on the data."""
    parts = [d for d in schema.sets.values() if d.encoded is not None and d.encoded.of == over]
    last = parts[-1]
    if format.startswith(("sgt", "bsr")):
        height, width = (int(n) for n in format[:-1].split(", ")[2:])
        condensed = format.startswith("sgt")
        blocks = bound.size(last.name) // (width if condensed else 1)
        share = 100 * elements / max(1, blocks * height * width)
        return f"{blocks} blocks of {height} x {width}, {share:.1f} % full"
    if format.startswith("dedup"):
        rows = bound.size(dict(schema.sets[over].fields)[format[6:-1]])
        return f"{bound.size(parts[0].name)} distinct rows of {rows}"
    if format.startswith("permute"):
        return f"{bound.size(parts[0].name)} rows in another order"
    if format.startswith("split"):
        few, many = (bound.size(part.name) for part in parts)
        return f"{few} elements in short rows, {many} in others"
    positions = sum(bound.size(d.name) for d in parts)
    padding = 100 * (1 - elements / max(1, positions))
    if format.startswith(("csr", "csc", "jagged")):
        return f"{positions} elements, sorted"
    return f"{positions} positions, {padding:.1f} % padding"
