"""Predicted against measured times: `python benchmarks/run.py predict`.

Enters: a folder of real graphs, or none. Leaves: a table of functions with the seconds that the
cost model predicts and those that compiled code takes, Kendall's tau over all pairs of them, the
mean error, and the worst prediction that was too long or too short: for this machine as it was
measured, and for a usual CPU with as many threads. With --only, the rows of other functions that
the file of --json has stay, so that pieces add up.

Functions are layers on graphs, each rewritten in several ways, products, chains of element-wise
statements, and sums over sparse matrices. None has the shape of a point that `hectorite calibrate`
measures. Every figure is the shortest of many calls.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cases import SUITES, Case, build, load_graph
from benchmarks.peers.ours import EXAMPLES, PROGRAMS, SIZES, sets

VARIANTS: dict[str, tuple[str, ...] | None] = {
    "as written": None,
    "factored": ("split", "aggregate-first"),
    "all": (),
}
"""Rewrites of a layer that are off; None for all of them."""


@dataclass(frozen=True)
class Problem:
    """A function: the text of its program, values of its sizes, sets, and which rewrites."""

    name: str
    source: str
    sizes: dict[str, int]
    sets: dict[str, Any]
    variant: str = "all"


@dataclass
class Row:
    """One function; seconds. `usual` is what is predicted for a usual CPU."""

    name: str
    variant: str
    predicted: float
    measured: float
    usual: float = 0.0

    @property
    def ratio(self) -> float:
        """Above 1 if the prediction is too long."""
        return self.predicted / self.measured


@dataclass
class Summary:
    """How well predictions agree with measurements. `tau` is Kendall's, tau-b, `mape` the mean of
    |predicted - measured| / measured; `over` and `under` are the worst ratios."""

    device: str
    functions: int
    tau: float
    mape: float
    over: float
    under: float
    within: float
    """Kendall's tau over pairs of variants of one function alone."""


def problems(data_dir: Path | None, quick: bool) -> Iterator[Problem]:
    """All functions."""
    yield from _dense(quick)
    yield from _chains(quick)
    yield from _examples(data_dir)
    for case in [*SUITES["rgnn"](data_dir, quick), *_sparse(data_dir, quick)]:
        data = build(case, data_dir)
        sizes = {
            size: int(data[tensor].shape[axis]) for size, (tensor, axis) in SIZES[case.kind].items()
        }
        source = PROGRAMS[case.kind].read_text()
        for variant in VARIANTS if case.kind not in ("spmm", "sddmm") else ("all",):
            yield Problem(case.name, source, sizes, sets(case.kind, data), variant)


EXAMPLE_SIZES = {
    "batch_reduce": {"N": 12, "I": 90, "K": 200, "J": 48},
    "conv2d": {"N": 2, "C": 24, "H": 30, "W": 48, "K": 40},
    "lowbit": {"M": 200, "K": 300, "N": 90},
}
EXAMPLE_GRAPHS = {
    "gcn": {"I": 100, "O": 24},
    "sage_mean": {"I": 48, "O": 96},
    "hypergraph": {"O": 96},
    "sparse_conv": {"Ci": 12, "Co": 24},
}


def _examples(data_dir: Path | None) -> Iterator[Problem]:
    """The other examples: those without sets, and those whose sets a small graph or file gives."""
    for name, sizes in EXAMPLE_SIZES.items():
        yield Problem(name, (EXAMPLES / f"{name}.hec").read_text(), sizes, {})
    for name, sizes in EXAMPLE_GRAPHS.items():
        source = (EXAMPLES / f"{name}.hec").read_text()
        for graph, bound in _small_sets(name, data_dir):
            for variant in VARIANTS:
                yield Problem(f"{name}.{graph}", source, sizes, bound, variant)


def _small_sets(name: str, data_dir: Path | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names of graphs, and the sets of an example on them."""
    rng = np.random.default_rng(11)

    def draw(high: int, count: int) -> np.ndarray:
        return np.sort(rng.integers(0, high, count)).astype(np.int32)

    if name == "hypergraph":
        pins = {"v": rng.permutation(draw(2708, 4585)), "h": draw(1072, 4585)}
        yield "4k", {"vertex": 2708, "hyperedge": 1072, "pin": pins}
        return
    if name == "sparse_conv":
        pairs = {"in": rng.permutation(draw(7000, 90_000)), "out": draw(7000, 90_000)}
        pairs["k"] = rng.integers(0, 27, 90_000).astype(np.int32)
        yield "7k", {"voxel": 7000, "offset": 27, "pair": pairs}
        return
    for graph in ("power:12000:7", *(() if data_dir is None else ("file:cora", "file:pubmed"))):
        data = load_graph(Case("predict", name, name, graph), data_dir)
        edges = {"src": data["col"], "dst": data["row"]}
        yield graph.split(":", 1)[1], {"node": data["n"], "edge": edges}


def _sparse(data_dir: Path | None, quick: bool) -> list[Case]:
    names = () if data_dir is None else ("cora", "pubmed", "ca_condmat")[: 1 if quick else 3]
    graphs = {name: f"file:{name}" for name in names}
    graphs["20k.d6"] = "power:20000:6"
    if not quick:
        graphs |= {"5k.d40": "power:5000:40", "150k.d5": "power:150000:5"}
    found = list[Case]()
    for name, graph in graphs.items():
        found += [Case("predict", f"spmm{w}.{name}", "spmm", graph, w) for w in (12, 48, 200)]
        found.append(Case("predict", f"sddmm.{name}", "sddmm", graph))
        found.append(Case("predict", f"gat.{name}", "gat", graph))
    return found


PRODUCTS = (
    (1, 700, 900), (1, 3000, 1200), (3, 500, 700), (12, 96, 96), (24, 384, 384), (48, 768, 200),
    (90, 90, 90), (100, 1000, 30), (200, 24, 24), (300, 300, 300), (700, 48, 48), (900, 600, 90),
    (1200, 90, 700), (1500, 24, 400), (3000, 12, 12), (5000, 100, 20), (6000, 48, 90),
    (2000, 700, 40), (700, 700, 700), (30000, 24, 24), (1000, 1300, 600),
)  # fmt: skip
"""Rows, terms and columns."""

PRODUCT = """
def product(A: f32[M, K], B: f32[K, N]) -> f32[M, N] {
  C[m, n] += A[m, k] * B[k, n]
  return C
}
"""

PERCEPTRON = """
def perceptron(x: f32[M, K], V: f32[K, H], b: f32[H], W: f32[H, N]) -> f32[M, N] {
  h[m, j] += x[m, k] * V[k, j]
  r[m, j]  = relu(h[m, j] + b[j])
  y[m, n] += r[m, j] * W[j, n]
  return y
}
"""

ATTENTION = """
def attention(q: f32[H, S, D], k: f32[H, S, D], v: f32[H, S, D]) -> f32[S, H, D] {
  s[h, i, j] += q[h, i, d] * k[h, j, d]
  a[h, i, j]  = softmax(s[h, i, j] / sqrt(size(D)) by h, i)
  y[i, h, d] += a[h, i, j] * v[h, j, d]
  return y
}
"""

NORM = """
def norm(x: f32[M, N], g: f32[N], b: f32[N]) -> f32[M, N] {
  s[m]    += x[m, n]
  c[m, n]  = x[m, n] - s[m] / size(N)
  v[m]    += c[m, n] * c[m, n]
  y[m, n]  = c[m, n] * rsqrt(v[m] / size(N) + 1e-5) * g[n] + b[n]
  return y
}
"""


def _chain(steps: Sequence[str]) -> str:
    lines = [f"  t{i + 1}[m, n] = {step.format(f't{i}[m, n]')}" for i, step in enumerate(steps)]
    body = "\n".join(lines)
    return (
        "def chain(x: f32[M, N], b: f32[N]) -> f32[M, N] {\n"
        f"  t0[m, n] = x[m, n] + b[n]\n{body}\n  return t{len(steps)}\n}}\n"
    )


CHAINS = {
    "add": (),
    "polynomial": ("{0} * {0} + 0.5", "relu({0})", "{0} * b[n]"),
    "activations": ("tanh({0})", "{0} * x[m, n]", "sigmoid({0})"),
    "gelu": ("gelu({0})",),
}


def _dense(quick: bool) -> Iterator[Problem]:
    for m, k, n in PRODUCTS[:6] if quick else PRODUCTS:
        yield Problem(f"product.{m}x{k}x{n}", PRODUCT, {"M": m, "K": k, "N": n}, {})
    for m, k, h, n in ((1, 300, 900, 300), (70, 200, 600, 100), (1400, 90, 90, 24)):
        sizes = {"M": m, "K": k, "H": h, "N": n}
        yield Problem(f"perceptron.{m}x{k}x{h}x{n}", PERCEPTRON, sizes, {})
    for h, s, d in ((4, 50, 48), (8, 200, 48), (2, 500, 96)):
        yield Problem(f"attention.{h}x{s}x{d}", ATTENTION, {"H": h, "S": s, "D": d}, {})


def _chains(quick: bool) -> Iterator[Problem]:
    shapes = ((300, 96), (2500, 300)) if quick else ((30, 96), (300, 96), (2500, 300), (9000, 700))
    for m, n in shapes:
        for name, steps in CHAINS.items():
            yield Problem(f"{name}.{m}x{n}", _chain(steps), {"M": m, "N": n}, {})
        yield Problem(f"norm.{m}x{n}", NORM, {"M": m, "N": n}, {})


def rewrite_as(variant: str) -> Any:
    """What rewrites a module in the way of a variant."""
    from hectorite.lowering.options import Options
    from hectorite.lowering.pipelines import rewrite

    off = VARIANTS[variant]
    options = Options(search=off is not None, forbid=off or ())
    return lambda module: rewrite(module, options, lambda name, module: None)


def predict(
    data_dir: Path | None,
    quick: bool,
    only: Callable[[str], bool],
    threads: int,
    screen: Console,
    json_path: Path | None,
) -> int:
    """Measures and predicts every function whose name `only` wants; 1 if there is none."""
    from hectorite.backends.cpu.host_device import host_device
    from hectorite.backends.cpu.threads import set_threads
    from hectorite.frontend.timing import shortest, subject
    from hectorite.ir.cost import CostModel
    from hectorite.ir.devices import CPU

    set_threads(threads)
    device, usual = host_device(), CPU.with_threads(threads)
    rows = list[Row]()
    for problem in problems(data_dir, quick):
        if only(problem.name):
            rewrite = rewrite_as(problem.variant)
            made = subject(problem.source, problem.sizes, problem.sets, rewrite)
            predicted, typical = (
                CostModel(d, made.extents).seconds(made.flow) for d in (device, usual)
            )
            (measured,) = shortest([made.call], 0.05 if quick else 0.5)
            rows.append(Row(problem.name, problem.variant, predicted, measured, typical))
    done = bool(rows)
    if json_path is not None:
        rows = [*_kept(json_path, only), *rows]
    name = f"{device.name}, {threads} threads"
    show(screen, rows, name)
    if json_path is not None and rows:
        facts = {
            "summary": asdict(summary(rows, name)),
            "usual": asdict(summary(usually(rows), "usual CPU")),
            "rows": [asdict(row) for row in rows],
        }
        json_path.write_text(json.dumps(facts, indent=1) + "\n")
    return 0 if done else 1


def _kept(json_path: Path, only: Callable[[str], bool]) -> list[Row]:
    """The rows of functions that an earlier run measured and this one leaves out."""
    if not json_path.exists():
        return []
    rows = [Row(**facts) for facts in json.loads(json_path.read_text())["rows"]]
    return [row for row in rows if not only(row.name)]


def usually(rows: Sequence[Row]) -> list[Row]:
    """The rows with what is predicted for a usual CPU."""
    return [replace(row, predicted=row.usual) for row in rows]


def summary(rows: Sequence[Row], device: str) -> Summary:
    """The figures of all rows."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    ratios = [row.ratio for row in rows]
    return Summary(
        device,
        len(rows),
        kendall([(r.predicted, r.measured) for r in rows]),
        sum(abs(ratio - 1) for ratio in ratios) / len(ratios),
        max(ratios),
        min(ratios),
        _within(groups.values()),
    )


def kendall(pairs: Sequence[tuple[float, float]]) -> float:
    """Kendall's tau-b of pairs of numbers; 1 if there are fewer than two."""
    agree = tied_left = tied_right = count = 0
    for i, (a, b) in enumerate(pairs):
        for c, d in pairs[:i]:
            count += 1
            tied_left += a == c
            tied_right += b == d
            agree += ((a > c) - (a < c)) * ((b > d) - (b < d))
    scale = ((count - tied_left) * (count - tied_right)) ** 0.5
    return agree / scale if scale else 1.0


def _within(groups: Any) -> float:
    """Agreement over pairs inside of groups that are at least 5 % apart; of those with one
    prediction, which are the same statements, none."""
    agree = count = 0
    for rows in groups:
        for i, one in enumerate(rows):
            for other in rows[:i]:
                near = abs(log(one.measured / other.measured)) < 0.05
                if near or one.predicted == other.predicted:
                    continue
                count += 1
                up = (one.predicted > other.predicted) - (one.predicted < other.predicted)
                agree += up * (1 if one.measured > other.measured else -1)
    return agree / count if count else 1.0


def show(screen: Console, rows: Sequence[Row], device: str) -> None:
    """A table of all rows and of their summary."""
    table = Table(title="predicted and measured seconds")
    for heading in ("function", "rewrites", "predicted", "measured", "ratio"):
        table.add_column(
            heading, justify="left" if heading in ("function", "rewrites") else "right"
        )
    for row in rows:
        cells = (f"{row.predicted:.2e}", f"{row.measured:.2e}", f"{row.ratio:.2f}")
        table.add_row(row.name, row.variant, *cells)
    screen.print(table)
    if not rows:
        return
    for shown, name in ((rows, device), (usually(rows), "usual CPU")):
        s = summary(shown, name)
        mean = exp(sum(abs(log(row.ratio)) for row in shown) / len(shown))
        screen.print(
            f"{s.functions} functions on {name}: tau {s.tau:.3f} (variants of one function "
            f"{s.within:.3f}), mean error {s.mape:.0%}, geometric {mean:.2f}, "
            f"worst {s.over:.2f} and {s.under:.2f}",
            highlight=False,
        )
