"""The superoptimiser against simpler searches: `python benchmarks/run.py superopt`.

Enters: networks (`benchmarks/networks/`), a folder of operator graphs for some of them. Leaves: a
table and, with --json, rows: for each network, device and search the predicted seconds, what the
search took and tried; for the CPU also the measured seconds of the original and of what was found,
run in turns on one copy of the data; graphs of 10,000 operations with seconds and memory; Kendall's
tau of predicted and measured gains.

Searches: `fusion` reads through views and takes products together; `greedy` is steepest descent
alone; `taso 1.0` and `taso 1.05` are `backtracking.py`; `portfolio` is the pass `superoptimise`.
The measured guard ships what was found only where it is certainly faster.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from math import exp, log
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.backtracking import backtrack
from benchmarks.networks import FROM_FILES, NETWORKS, Network
from benchmarks.prediction import kendall

QUICK = ("nas_rnn", "bert_published", "vit_published", "gcn_aggregate_first", "gat_scores")
FUSION = ("views", "flatten", "absorb")
"""Families of rules that only take statements together."""
DEVICES = ("h200", "cpu")
TASO = (("taso 1.0", Fraction(1), 100), ("taso 1.05", Fraction(105, 100), 1000))
TASO_TRIES = 20_000
"""Matches that the backtracking search may try; eight times what the portfolio has a round."""
MAX_SIZE = 10_000


@dataclass(frozen=True)
class Row:
    """One search for one network and device. `original` and `cost` are predicted seconds."""

    network: str
    nodes: int
    device: str
    search: str
    original: float
    cost: float
    seconds: float
    tried: int
    steps: int | None = None

    @property
    def gain(self) -> float:
        """How many times as fast, by the model."""
        return self.original / self.cost if self.cost else 1.0


@dataclass(frozen=True)
class Measured:
    """Seconds of the original and of what was found for the CPU, medians; `certain` is how many
    times as fast it is with a confidence of 95 %, `shipped` what the guard makes of that. `error`
    is the greatest difference of the results over their greatest value."""

    network: str
    original: float
    found: float
    certain: float
    shipped: float
    predicted: float
    error: float


@dataclass(frozen=True)
class Large:
    """A search of a large graph; `megabytes` is the most that the process held."""

    name: str
    nodes: int
    original: float
    cost: float
    seconds: float
    megabytes: float


Search = Callable[[Any, Any], tuple[Any, int, int | None]]
"""From a graph and a model to a graph, matches tried, and steps if they are counted."""


def superopt(
    data_dir: Path | None,
    quick: bool,
    only: Callable[[str], bool],
    threads: int,
    screen: Console,
    json_path: Path | None,
) -> int:
    """Search, and measure, every network whose name `only` wants; 1 if there is none."""
    from hectorite.backends.cpu.threads import set_threads

    set_threads(threads)
    rows, measured, large = list[Row](), list[Measured](), list[Large]()
    for network in networks(data_dir, quick, only):
        found: Any = None
        for name in DEVICES:
            fresh, flow = raced(network, name, 0.1 if quick else 1.0)
            rows += fresh
            found = flow if name == "cpu" else found
            show(screen, fresh)
        # One thread is timed by its own clock, so that others on the machine count less.
        clock = time.process_time if threads == 1 else time.perf_counter
        measured.append(measure(network, found, rows[-1].gain, 7 if quick else 15, clock))
        show_measured(screen, measured[-1])
    if only("large"):
        for name in LARGE:
            # In a process of its own, whose memory is that of this search.
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                size = 1_000 if quick else MAX_SIZE
                large.append(process.submit(search_large, name, size).result())
            each = large[-1]
            screen.print(
                f"{each.name}: {each.nodes} nodes, {each.original / each.cost:.2f}x by the model, "
                f"{each.seconds:.1f} s, {each.megabytes:.0f} MB",
                highlight=False,
            )
    facts = summary(rows, measured)
    screen.print(json.dumps(facts, indent=1), highlight=False)
    if json_path is not None:
        parts = {"rows": rows, "measured": measured, "large": large}
        texts = {name: [asdict(each) for each in part] for name, part in parts.items()}
        json_path.write_text(json.dumps({"summary": facts, **texts}, indent=1) + "\n")
    return 0 if rows or large else 1


def networks(data_dir: Path | None, quick: bool, only: Callable[[str], bool]) -> Iterator[Network]:
    """The networks that are wanted and can be made."""
    for name, make in NETWORKS.items():
        wanted = only(name) and (not quick or name in QUICK)
        if wanted and (name not in FROM_FILES or data_dir is not None):
            yield make(data_dir=data_dir) if name in FROM_FILES else make()


def flow_of(network: Network) -> Any:
    """The statements of a network, and the sizes of its sets."""
    from hectorite.dialects.graph import FuncOp
    from hectorite.dialects.graph_sets import schema_of
    from hectorite.ir.extents import Extents
    from hectorite.lowering.graph.lift_dataflow import lift

    func = next(op for op in network.module.ops if isinstance(op, FuncOp))
    flow = lift(func, schema_of(network.module), True, network.fixed)
    sizes, maps = dict(network.sizes), dict[tuple[str, str], Any]()
    for name, held in network.sets().items():
        if not isinstance(held, Mapping):
            sizes[name] = held
            continue
        for field, array in held.items():
            sizes[name], maps[name, field] = len(array), array
    return flow, Extents(flow.schema, sizes, maps=maps)


def searches(scale: float) -> dict[str, Search]:
    """The searches that are compared; `scale` makes what TASO's may try fewer."""
    from hectorite.lowering.graph.superoptimise import all_rules
    from hectorite.lowering.search.descent import descend
    from hectorite.lowering.search.portfolio import optimise
    from hectorite.lowering.search.replay import renumbered
    from hectorite.lowering.search.workspace import Budget, Workspace

    def descent(families: Sequence[str] | None) -> Search:
        def search(flow: Any, model: Any) -> tuple[Any, int, int | None]:
            every = all_rules(model.extents)
            chosen = [rule for rule in every if families is None or rule.family in families]
            space = Workspace(renumbered(flow)[0], chosen, model, Budget(MAX_SIZE))
            descend(space)
            return space.flow, MAX_SIZE - space.budget.left, len(space.moves)

        return search

    def taso(alpha: Fraction, pops: int) -> Search:
        tries = round(TASO_TRIES * scale)
        return lambda flow, model: (*backtrack(flow, model, alpha, pops, tries), None)

    def portfolio(flow: Any, model: Any) -> tuple[Any, int, int | None]:
        outcome = optimise(flow, all_rules(model.extents), model)
        return outcome.flow, outcome.tried, len(outcome.steps)

    found: dict[str, Search] = {"identity": lambda flow, model: (flow, 0, 0)}
    found |= {"fusion": descent(FUSION), "greedy": descent(None)}
    found |= {name: taso(alpha, pops) for name, alpha, pops in TASO}
    return found | {"portfolio": portfolio}


def raced(network: Network, device: str, scale: float) -> tuple[list[Row], Any]:
    """All searches for one network and device; also what the portfolio found."""
    from hectorite.ir.cost import CostModel
    from hectorite.ir.devices import device_named

    rows, found = list[Row](), None
    for name, search in searches(scale).items():
        flow, extents = flow_of(network)
        model = CostModel(device_named(device), extents)
        start = time.process_time()
        found, tried, steps = search(flow, model)
        taken = time.process_time() - start
        costs = model.total(flow), model.total(found)
        rows.append(Row(network.name, len(flow.nodes), device, name, *costs, taken, tried, steps))
    return rows, found


def measure(
    network: Network, found: Any, predicted: float, rounds: int, clock: Callable[[], float]
) -> Measured:
    """The original and what was found, both compiled for this CPU without further rewrites."""
    from hectorite.lowering.graph.lower_dataflow import lower
    from hectorite.lowering.search.guard import faster_with_confidence, interleaved

    changed = network.module.clone()
    lower(found, changed, network.function)
    calls = [call_of(network, module) for module in (network.module.clone(), changed)]

    def run(at: int) -> float:
        start = clock()
        calls[at]()
        return clock() - start

    times = interleaved([0, 1], run, rounds)
    certain = faster_with_confidence(*times)
    original, other = (sorted(each)[len(each) // 2] for each in times)
    shipped = original / other if certain > 1.0 else 1.0
    error = difference(*(call() for call in calls))
    return Measured(network.name, original, other, certain, shipped, predicted, error)


def difference(original: Any, found: Any) -> float:
    """The greatest difference of results over their greatest value, of those that are finite."""
    import numpy as np

    worst = 0.0
    pair = (each if isinstance(each, tuple | list) else (each,) for each in (original, found))
    for one, other in zip(*pair, strict=True):
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        finite = np.isfinite(one) & np.isfinite(other)
        if finite.any():
            scale = float(np.abs(one[finite]).max()) or 1.0
            worst = max(worst, float(np.abs(one - other)[finite].max()) / scale)
    return worst


def call_of(network: Network, module: Any) -> Callable[[], Any]:
    """A call of a network's function as it is in a module; what is fixed is computed before."""
    from hectorite.backends.bound.binding import Binding
    from hectorite.dialects.graph import FuncOp
    from hectorite.dialects.graph_sets import schema_of
    from hectorite.lowering.graph.split_fixed import fixed_name, split_fixed

    func = next(op for op in module.ops if isinstance(op, FuncOp))
    arguments: dict[str, Any] = dict(network.arguments())
    made = split_fixed(module, func, network.fixed)
    binding = Binding(schema_of(module), network.sets())
    if made:
        once = compiled(module, fixed_name(network.function), binding)
        given = {name: arguments[name] for name in once[1]}
        values = once[0](given)
        values = values if isinstance(values, tuple | list) else (values,)
        arguments |= dict(zip(made, values, strict=True))
    ready, names = compiled(module, network.function, binding)
    given = {name: arguments[name] for name in names}
    return lambda: ready(given)


def compiled(module: Any, name: str, binding: Any) -> tuple[Callable[[Any], Any], list[str]]:
    """One function of a module as machine code, and the names of its arguments."""
    from xdsl.context import Context

    from hectorite.backends.cpu.program import build
    from hectorite.dialects.graph import FuncOp
    from hectorite.frontend.compiled.request import only
    from hectorite.lowering.graph.expand_softmax import ExpandSoftmax
    from hectorite.lowering.pipelines import finish, to_tile

    alone = only(module, name)
    func = next(op for op in alone.ops if isinstance(op, FuncOp))
    names = [each.data if hasattr(each, "data") else str(each) for each in func.names]
    for each in (ExpandSoftmax(), *finish()):
        each.apply(Context(), alone)
    return build(to_tile(alone, name), None).prepare(binding, {}), names


LARGE = ("bert layers", "nas steps")


def search_large(name: str, nodes: int) -> Large:
    """Search a graph of about so many nodes: equal layers, or steps that share no weights."""
    import resource

    from benchmarks.large_graphs import repeated
    from hectorite.ir.cost import CostModel
    from hectorite.ir.devices import device_named
    from hectorite.lowering.graph.superoptimise import all_rules
    from hectorite.lowering.search.portfolio import optimise

    flow, extents = repeated(name, nodes)
    model = CostModel(device_named("h200"), extents)
    start = time.process_time()
    outcome = optimise(flow, all_rules(extents), model)
    taken = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Large(name, len(flow.nodes), outcome.before, outcome.after, taken, memory)


def summary(rows: Sequence[Row], measured: Sequence[Measured]) -> dict[str, Any]:
    """The goals in figures."""
    pairs = {(row.network, row.device) for row in rows}
    better = worse = 0
    for network, device in sorted(pairs):
        costs = {r.search: r.cost for r in rows if (r.network, r.device) == (network, device)}
        rival = min(costs[name] for name, _, _ in TASO)
        better += costs["portfolio"] < rival * 0.9999
        worse += costs["portfolio"] > rival * 1.000001
    gains = [row.gain for row in rows if row.search == "portfolio"]
    ratios = [(each.predicted, each.original / each.found) for each in measured]
    return {
        "pairs": len(pairs),
        "portfolio better than taso": better,
        "portfolio worse than taso": worse,
        "mean gain by the model": exp(sum(map(log, gains)) / len(gains)) if gains else 1.0,
        "tau of predicted and measured gains": kendall(ratios),
        "least measured gain": min((ratio for _, ratio in ratios), default=1.0),
        "least shipped gain": min((each.shipped for each in measured), default=1.0),
        "greatest difference of results": max((each.error for each in measured), default=0.0),
    }


def show(screen: Console, rows: Sequence[Row]) -> None:
    """One network on one device."""
    first = rows[0]
    table = Table(title=f"{first.network}, {first.nodes} nodes, {first.device}")
    for heading in ("search", "predicted s", "gain", "search s", "tried"):
        table.add_column(heading, justify="left" if heading == "search" else "right")
    for row in rows:
        cells = (f"{row.cost:.3e}", f"{row.gain:.3f}", f"{row.seconds:.2f}", str(row.tried))
        table.add_row(row.search, *cells)
    screen.print(table)


def show_measured(screen: Console, row: Measured) -> None:
    """One network as it ran."""
    screen.print(
        f"{row.network}: {row.original * 1e3:.3f} ms, found {row.found * 1e3:.3f} ms, "
        f"{row.original / row.found:.3f}x (certain {row.certain:.3f}x, predicted "
        f"{row.predicted:.3f}x), results differ by {row.error:.1e}",
        highlight=False,
    )
