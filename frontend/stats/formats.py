"""Statistics of storage formats on bound data.

Enters: a function, the binding of its sets, its arguments, and formats that some sets have in the
place of their own. Leaves: a list of facts, an object for each set with maps and each tensor that
has a format.
`docs/formats.md` says what each fact is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.backends.bound.cardinalities import cardinalities
from hectorite.backends.formats import bound_format
from hectorite.backends.formats.conflicts import conflict_degree
from hectorite.backends.formats.facts import COLUMNS, instructions, statistics
from hectorite.backends.formats.nm import encode, unpack
from hectorite.backends.formats.operands import bind_operands, is_stored, stored_as
from hectorite.frontend.compiled.facts import Facts
from hectorite.frontend.compiled.format_choice import chooser, split_known
from hectorite.frontend.compiled.request import Request, tile_module
from hectorite.frontend.compiled.signature import Parameter
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.diagnostics import HectoriteError, did_you_mean, fail
from hectorite.ir.encoding import INDEX
from hectorite.ir.schema import Schema
from hectorite.ir.set_format import SetFormat, position_sets
from hectorite.ir.tensor_format import Nm
from hectorite.lowering.options import Options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.backends.host.plan_values import PlanValues

Array = np.ndarray[Any, Any]
Fact = dict[str, Any]

AS_GIVEN = "coo"
USUAL_GPU = "sm_90"
"""The GPU whose tasks are counted."""


@dataclass(frozen=True)
class Subject:
    """What statistics are about: a function on data. `formats` are `SET=FORMAT`."""

    text: ProgramText
    facts: Facts
    function: str
    binding: Binding
    sizes: Mapping[str, int]
    arguments: Mapping[str, Any]
    formats: Sequence[str] = ()


def stats(subject: Subject) -> list[Fact]:
    """Facts of every set with maps and every tensor parameter with a format, as declared.

    Raises `HectoriteError` for data that breaks its format, and for `SET=FORMAT` that names no set
    or no format of it.
    """
    subject = _with_choices(subject)
    found: list[Fact] = [
        {"name": name, "kind": "set", "format": format, **facts}
        for name, format, facts in _sets(subject)
    ]
    signature = subject.facts.signatures[subject.function]
    for parameter in signature.parameters:
        facts = _of_tensor(parameter, subject.arguments.get(parameter.name))
        if facts is not None:
            head = {"name": parameter.name, "kind": "tensor", "format": str(parameter.format)}
            found.append(head | facts)
    between = temporaries(subject) if found else None
    added = atomics(subject) if found else {}
    for facts in found:
        if between is not None:
            facts["temporaries"] = between
        if "atomics" in facts:
            facts["atomics"] += added.get(facts["name"], 0)
    return found


def _with_choices(subject: Subject) -> Subject:
    """The formats of sets that are `auto` chosen, as calls on a CPU have them chosen."""
    choose = chooser(subject.text, Options(formats=tuple(subject.formats)), "cpu")
    if choose is None:
        return subject
    _, made = split_known(choose(subject.function, subject.binding))
    return replace(subject, formats=(*subject.formats, *made))


def chosen(schema: Schema, given: Sequence[str]) -> dict[str, str]:
    """The format of each set with maps: the last given as `SET=FORMAT`, else its own, else that its
    elements are as they are given."""
    formats = {name: decl.format or AS_GIVEN for name, decl in schema.sets.items() if decl.fields}
    for text in given:
        name, equals, format = (part.strip() for part in text.partition("="))
        if not equals or not format:
            raise fail(f"`{text}` does not say which format", expected="SET=FORMAT, as nz=csr(row)")
        if name not in schema.sets:
            sets = list(schema.sets)
            raise fail(f"there is no set `{name}`", hint=did_you_mean(name, sets))
        formats[name] = format
    return {name: AS_GIVEN if f == "auto" else f for name, f in formats.items()}


def _sets(subject: Subject) -> Iterator[tuple[str, str, Fact]]:
    binding = subject.binding
    formats = chosen(binding.schema, subject.formats)
    for name in binding.schema.sets:
        if name in formats:
            bound = bound_format(binding, name, formats[name])
            yield name, str(bound.format), _of_set(binding, name, bound.format)


def _of_set(binding: Binding, name: str, format: SetFormat) -> Fact:
    """Facts of a set; where its parts have formats, of these and of what it takes to find them."""
    own = str(format.alone)
    if not format.then:
        return statistics(bound_format(binding, name, own), binding.parts(name, own))
    inside = Binding(binding.schema, binding.given)
    parts = position_sets(inside.schema, name, own)
    inside.extend(Schema({decl.name: decl for decl in parts}))
    followed = parts[-len(format.then) :]
    found: list[Fact] = [
        {"name": decl.name, "format": str(then), **_of_set(inside, decl.name, then)}
        for decl, then in zip(followed, format.then, strict=True)
    ]
    if format.kind == "permute":
        facts: Fact = {k: v for k, v in found[0].items() if k not in ("name", "format")}
        return facts | {"bytes": facts["bytes"] + INDEX * inside.size(parts[0].name)}
    return _together(found, [inside.size(decl.name) for decl in parts])


def _together(found: Sequence[Fact], sizes: Sequence[int]) -> Fact:
    """Facts of several parts, each of so many elements: counts are added up, and places too."""
    places = [
        size / (1 - each["padding"]) if size else 0.0
        for each, size in zip(found, sizes, strict=True)
    ]
    whole: Fact = {"padding": 1 - sum(sizes) / sum(places) if sum(places) else 0.0}
    for key in ("bytes", "slots", "blocks", "blocks_before", "mma", "mma_swapped", "atomics"):
        counts = [each[key] for each in found if key in each]
        if counts:
            whole[key] = sum(counts)
    return whole | {"parts": list(found)}


def temporaries(subject: Subject) -> int | None:
    """Bytes of the tensors that a call makes and does not return, counted as if none shared memory
    with another; None where the function cannot be computed on these formats."""
    try:
        _, values = _planned(subject, None)
    except HectoriteError:
        return None
    return sum(each.nbytes for each in values.temporaries if each.is_used)


def atomics(subject: Subject) -> dict[str, int]:
    """For each set, the rows that tasks of a GPU add to memory because they share them; none where
    the function cannot be computed there."""
    from hectorite.frontend.stats.atomics import added_rows
    from hectorite.ir.target import target
    from hectorite.lowering.machine import Machine

    try:
        module, values = _planned(subject, USUAL_GPU)
    except HectoriteError:
        return {}
    return added_rows(module, values, Machine.gpu(target(USUAL_GPU)))


def _planned(subject: Subject, gpu: str | None) -> tuple[ModuleOp, PlanValues]:
    """The tile level of the function, for a CPU if no GPU is named, and its values on the data."""
    from hectorite.backends.host.plan import plan_of
    from hectorite.backends.host.plan_values import PlanValues

    counted = subject.facts.counted.get(subject.function, ())
    known = cardinalities(subject.binding, counted)
    options = Options(True, known, formats=tuple(subject.formats))
    names = subject.facts.signatures[subject.function].sizes
    sizes = {name: subject.sizes[name] for name in names}
    request = Request(subject.text, subject.facts, subject.function, sizes, options, gpu=gpu)
    module = tile_module(request)
    plan = plan_of(module)
    bound = Binding(subject.facts.schema, subject.binding.given)
    bound = bind_operands(bound, _operands(subject), subject.function)
    bound.extend(plan.schema)
    return module, PlanValues(plan, bound, sizes)


def _operands(subject: Subject) -> dict[str, Any]:
    """Arguments in storage formats, converted."""
    stored = [
        p for p in subject.facts.signatures[subject.function].parameters if is_stored(p.format)
    ]
    return {
        p.name: stored_as(
            subject.arguments[p.name], p.format, p.element, [(str(d), None) for d in p.dims], p.name
        )
        for p in stored
    }


def _of_tensor(parameter: Parameter, values: Any) -> Fact | None:
    if parameter.format is None or values is None:
        return None
    array = np.asarray(values)
    format = Nm.of(parameter.format)
    if format is not None:
        return _of_nm(format, array, parameter)
    if parameter.format.startswith("bsr("):
        height, width = (int(n) for n in parameter.format[4:-1].split(","))
        return _of_blocks(array, height, width)
    return {"bytes": array.nbytes}


def _of_nm(format: Nm, array: Array, parameter: Parameter) -> Fact:
    operand = encode(array, format, parameter.name)
    kept = operand.values.size
    rows, groups = array.size // max(1, array.shape[-1]), format.groups(array.shape[-1])
    codes = unpack(operand.codes, format.bits, groups * format.keep)
    facts: Fact = {
        "bytes": operand.nbytes,
        "padding": 1 - np.count_nonzero(operand.values) / kept if kept else 0.0,
        "atomics": 0,
        "conflict_degree": conflict_degree(codes.reshape(rows, groups * format.keep)),
    }
    if (format.keep, format.group) == (2, 4):
        depth = 512 // max(8, min(32, parameter.element.bits))
        steps = -(-array.shape[-1] // depth)
        facts["mma"] = -(-rows // 16) * steps * -(-COLUMNS // 8)
    return facts


def _of_blocks(array: Array, height: int, width: int) -> Fact:
    """Blocks of the last two axes that are not zero, with their values."""
    *outer, rows, columns = array.shape
    bands, strips = -(-rows // height), -(-columns // width)
    whole = np.zeros((*outer, bands * height, strips * width), np.bool_)
    whole[..., :rows, :columns] = array != 0
    full = whole.reshape(*outer, bands, height, strips, width).any(axis=(-3, -1))
    blocks = int(np.count_nonzero(full))
    places = blocks * height * width
    begins = full.size // max(1, strips) + 1
    return {
        "bytes": INDEX * (begins + blocks) + places * array.dtype.itemsize,
        "blocks": blocks,
        "padding": 1 - int(np.count_nonzero(array)) / places if places else 0.0,
        "atomics": 0,
        "mma": instructions(height, width, blocks),
    }
