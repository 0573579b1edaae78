"""What rewrites gain and whether the best are chosen: `python benchmarks/run.py rewrites`.

Enters: a folder of real graphs, or none. Leaves: rows of two kinds, as tables and with --json in a
file. Seconds are the shortest of many calls, of all variants of a case in turns.

    gain     a layer without rewrites, with those that cost chooses, and with these less one family:
             predicted and measured
    order    a layer in many orders and on many domains, found by walking over the moves: predicted
             and measured, which was chosen, and how much slower that is than the best
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.cases import RELATIONAL_FILES, Case, build
from benchmarks.peers.ours import EXAMPLES, PROGRAMS, sets

WIDTH = 64
LAYERS: dict[str, tuple[Path, dict[str, int]]] = {
    "rgat": (PROGRAMS["rgat"], {"I": WIDTH, "O": WIDTH}),
    "hgt": (PROGRAMS["hgt"], {"I": WIDTH, "K": 1, "D": WIDTH, "O": WIDTH}),
    "rgcn": (PROGRAMS["rgcn"], {"I": WIDTH, "O": WIDTH}),
    "gcn": (EXAMPLES / "gcn.hec", {"I": WIDTH, "O": WIDTH}),
    "gat": (EXAMPLES / "gat.hec", {"I": WIDTH, "K": 4, "O": WIDTH // 4}),
}
FAMILIES = ("domain", "split", "order")
BEAM = 24
"""Graphs that the walk goes on from in each step."""
STEPS = 6
MEASURED = 12
"""Orders of a layer that are measured."""
CLOSE = 4.0
"""Orders that should take longer than so many times the best are not measured."""

Rewrite = Callable[[Any], None]


@dataclass
class Row:
    """One variant of a layer on a graph; seconds. `chosen` marks what the search took."""

    kind: str
    layer: str
    graph: str
    variant: str
    predicted: float
    measured: float
    chosen: bool = False


@dataclass(frozen=True)
class Layer:
    """A layer on a graph: the text of its program, sizes, sets, and what is known of these."""

    name: str
    graph: str
    source: str
    sizes: dict[str, int]
    sets: dict[str, Any]
    known: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.name}.{self.graph}"


def race_rewrites(
    data_dir: Path | None,
    quick: bool,
    only: Callable[[str], bool],
    threads: int,
    screen: Console,
    json_path: Path | None,
) -> int:
    """Measure every layer whose name `only` wants; 1 if there is none."""
    from hectorite.backends.cpu.host_device import host_device
    from hectorite.backends.cpu.threads import set_threads

    set_threads(threads)
    device, rows, losses = host_device(), list[Row](), dict[str, float]()
    screen.print(f"costs of the device `{device.name}`")
    for layer in layers(data_dir, quick):
        if not only(layer.title):
            continue
        seconds = 2.0 if quick else 6.0
        gains = measured("gain", layer, gain_variants(layer, device), device, seconds)
        orders = measured("order", layer, order_variants(layer, device), device, seconds)
        rows += [*gains, *orders]
        losses[layer.title] = regret(orders)
        _show(screen, layer.title, [*gains, *orders], losses[layer.title])
    if not rows:
        return 1
    screen.print(f"chosen against best: median {median(losses.values()):.3f}")
    if json_path is not None:
        facts = {"rows": [asdict(row) for row in rows], "chosen over best": losses}
        json_path.write_text(json.dumps(facts, indent=1) + "\n")
    return 0


def layers(data_dir: Path | None, quick: bool) -> Iterator[Layer]:
    """Every layer on every graph."""
    from hectorite.backends.bound.binding import Binding
    from hectorite.backends.bound.cardinalities import cardinalities
    from hectorite.frontend.compiled.load_facts import facts_of
    from hectorite.frontend.program_text import read_program

    graphs = {"synthetic": "relations:7262:48810:104:7"}
    if data_dir is not None:
        graphs = {n: f"file:{n}" for n in (RELATIONAL_FILES[:1] if quick else RELATIONAL_FILES)}
    for graph, where in graphs.items():
        data = build(Case("rgnn", f"rgcn.{graph}", "rgcn", where), data_dir)
        for name, (path, sizes) in LAYERS.items():
            given = sets(name if name == "hgt" else "rgcn", data)
            if name in ("gcn", "gat"):
                edge = {field: data[field] for field in ("src", "dst")}
                given = {"edge": edge, "node": data["n"]}
            facts = facts_of(read_program(path), None)
            counted = facts.counted[list(facts.signatures)[-1]]
            known = cardinalities(Binding(facts.schema, given), counted)
            yield Layer(name, graph, path.read_text(), sizes, given, known)


def gain_variants(layer: Layer, device: Any) -> dict[str, Rewrite]:
    """The layer as it is written and as rewrites make it."""
    from hectorite.lowering.options import Options
    from hectorite.lowering.pipelines import rewrite

    def with_options(**chosen: Any) -> Rewrite:
        options = Options(cardinalities=layer.known, **chosen)
        return lambda module: rewrite(module, options, lambda name, module: None)

    searched = {f: with_options(device=device, forbid=(f,)) for f in FAMILIES}
    return {
        "as written": with_options(search=False),
        "search": with_options(device=device),
    } | {f"search without {family}": rewrite for family, rewrite in searched.items()}


def cleaned(module: Any) -> Any:
    """A module as it is written, simplified, in place; and its last function."""
    from xdsl.context import Context

    from hectorite.dialects.graph import FuncOp
    from hectorite.lowering.graph.expand_softmax import ExpandSoftmax
    from hectorite.lowering.pipelines import clean

    for each in (ExpandSoftmax(), *clean()):
        each.apply(Context(), module)
    return [op for op in module.ops if isinstance(op, FuncOp)][-1]


def order_variants(layer: Layer, device: Any) -> dict[str, Rewrite]:
    """The layer in the order that was chosen and in the best others by the cost model, among all
    that a walk over the moves comes to."""
    from hectorite.frontend.program_text import read_program
    from hectorite.ir.cost import CostModel
    from hectorite.lowering.graph.cardinalities import parse_cardinalities
    from hectorite.lowering.graph.search_rewrites import search
    from hectorite.lowering.graph.specialize_sizes import specialize

    module = read_program(layer.source).module.clone()
    specialize(module, layer.sizes)
    function, known = cleaned(module), parse_cardinalities(layer.known)
    searched = search(module.clone(), _same(module.clone(), function), known, device=device)
    extents = known.extents(searched.before.schema)
    model = CostModel(device, extents)
    chosen = _key(searched.after)
    found = {_key(searched.before): searched.before, chosen: searched.after}
    costs = {key: model.total(flow) for key, flow in found.items()}
    walk(found, costs, model, extents)
    others = sorted((key for key in found if key != chosen), key=lambda key: (costs[key], key))
    close = [key for key in others if costs[key] < CLOSE * costs[chosen]]
    # The best by the model, and some of all the others.
    step = max(1, (len(close) - MEASURED // 2) // (MEASURED // 2))
    kept = [*close[: MEASURED // 2], *close[MEASURED // 2 :: step]][: MEASURED - 1]
    flows = {"chosen": found[chosen]} | {f"order {n}": found[key] for n, key in enumerate(kept, 1)}
    return {name: _as(flow) for name, flow in flows.items()}


def walk(found: dict[str, Any], costs: dict[str, float], model: Any, extents: Any) -> None:
    """Add what the moves lead to, from the cheapest graphs of each step."""
    from hectorite.lowering.search.workspace import drop_unused
    from hectorite.lowering.structural import structural_rules

    rules = structural_rules(extents)
    front = list(found)
    for _ in range(STEPS):
        fresh = list[str]()
        for key in front:
            flow = found[key]
            for match in [m for n in flow.order() for rule in rules for m in rule.matches(flow, n)]:
                other = flow.copy()
                other.listen()
                match.apply(other)
                drop_unused(other)
                name = _key(other)
                if name not in found:
                    found[name], costs[name] = other, model.total(other)
                    fresh.append(name)
        front = sorted(fresh, key=lambda key: (costs[key], key))[:BEAM]


def _same(module: Any, function: Any) -> Any:
    from hectorite.dialects.graph import FuncOp

    name = function.sym_name.data
    return next(o for o in module.ops if isinstance(o, FuncOp) and o.sym_name.data == name)


def _key(flow: Any) -> str:
    """Equal for graphs of the same statements."""
    known = dict[int, str]()
    for number in flow.order():
        node = flow.nodes[number]
        parts = ",".join(known[operand] for operand in node.operands)
        text = node.label if node.form is None else f"{node.form.digest}({parts})"
        known[number] = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return " ".join(known[number] for number in flow.results)


def _as(flow: Any) -> Rewrite:
    """Puts a graph into a module of the same function."""

    def rewrite(module: Any) -> None:
        from hectorite.lowering.graph.lower_dataflow import lower

        lower(flow, module, cleaned(module).sym_name.data)

    return rewrite


def measured(
    kind: str, layer: Layer, variants: dict[str, Rewrite], device: Any, seconds: float
) -> list[Row]:
    """Predicted and measured seconds of every variant; equal graphs are measured once."""
    from hectorite.frontend.timing import shortest, subject
    from hectorite.ir.cost import CostModel

    subjects = {
        name: subject(layer.source, layer.sizes, layer.sets, rewrite)
        for name, rewrite in variants.items()
    }
    groups = dict[str, list[str]]()
    for name, made in subjects.items():
        groups.setdefault(_key(made.flow), []).append(name)
    times = shortest([subjects[names[0]].call for names in groups.values()], seconds)
    rows = list[Row]()
    for names, best in zip(groups.values(), times, strict=True):
        for name in names:
            made = subjects[name]
            predicted = CostModel(device, made.extents).seconds(made.flow)
            is_chosen = name in ("search", "chosen")
            rows.append(Row(kind, layer.name, layer.graph, name, predicted, best, is_chosen))
    return rows


def regret(rows: list[Row]) -> float:
    """How much slower the chosen variant is than the fastest, as a ratio of at least 1."""
    best = min(row.measured for row in rows)
    return next(row.measured for row in rows if row.chosen) / best


def _show(screen: Console, title: str, rows: list[Row], loss: float) -> None:
    table = Table(title=f"{title}: chosen over best {loss:.3f}")
    for heading in ("kind", "variant", "predicted ms", "measured ms", "gain"):
        table.add_column(heading, justify="left" if heading in ("kind", "variant") else "right")
    start = next(row.measured for row in rows if row.variant == "as written")
    for row in rows:
        figures = f"{row.predicted * 1e3:.3f}", f"{row.measured * 1e3:.3f}"
        table.add_row(row.kind, row.variant, *figures, f"{start / row.measured:.2f}")
    screen.print(table)
