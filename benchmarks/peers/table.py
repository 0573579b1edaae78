"""The table of peers: who computes which kinds, and in which process.

A peer is a function `prepare(data, case) -> call`: it gets the arrays of `benchmarks.cases` and
returns a function of no arguments that computes the result once. What `prepare` does (sorting,
adjacency, weight layout, compiling) is not timed, for anybody. It raises `Skip` where it cannot
run. Peers of one runtime share a process; heavy imports stay inside the functions.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import families
from benchmarks.cases import Case, Data

Call = Callable[[], object]
Prepare = Callable[[Data, Case], Call]

OURS = "hectorite"
GPU_ONLY = ("cuda", "triton")
"""Runtimes that race on a GPU alone."""

MODULES = (
    "ours",
    "handwritten",
    "matrix_libraries",
    "numba_loops",
    "jax_arrays",
    "torch_sparse_ops",
    "torch_layers",
    "torch_expert",
    "pyg_layers",
    "dgl_layers",
    "dense_libraries",
    "triton_launches",
)


class Skip(Exception):
    """This peer does not run this case; the message says why."""


@dataclass(frozen=True)
class Peer:
    """One row of a race. `expert` marks hand-written code that no library ships.

    `slow_start` marks a compiler that takes seconds for each case: left out by --quick.
    """

    name: str
    runtime: str
    kinds: frozenset[str]
    prepare: Prepare
    expert: bool = False
    slow_start: bool = False


PEERS: list[Peer] = []


def peer(
    name: str, runtime: str, kinds: str, *, expert: bool = False, slow_start: bool = False
) -> Callable[[Prepare], Prepare]:
    """Enters a preparing function into the table; `kinds` are separated by spaces."""

    def enter(prepare: Prepare) -> Prepare:
        PEERS.append(Peer(name, runtime, frozenset(kinds.split()), prepare, expert, slow_start))
        return prepare

    return enter


def matches(name: str, parts: str) -> bool:
    """Whether a name has one of some parts in it, which are separated by commas; none: any name."""
    return not parts or any(part.strip() in name for part in parts.split(","))


def all_peers() -> list[Peer]:
    """Every peer, ours first, in a fixed order."""
    names = [f"benchmarks.peers.{module}" for module in MODULES]
    names += [f"benchmarks.families.{module}" for module in families.MODULES]
    for name in names:  # someone may have imported one of them before
        importlib.import_module(name)
    return sorted(PEERS, key=lambda each: names.index(each.prepare.__module__))


def environment(runtime: str, threads: int) -> dict[str, str]:
    """Environment variables that give a runtime `threads` threads."""
    names = [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")]
    variables = dict.fromkeys([*names, "HECTORITE_THREADS"], str(threads))
    if runtime == "mkl":
        # The wheel puts the library beside the interpreter, where the loader does not look.
        found = sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))
        if found:
            variables |= {"MKL_RT": str(found[-1]), "LD_LIBRARY_PATH": str(found[-1].parent)}
        variables["KMP_BLOCKTIME"] = "5"  # do not spin on the cores of the next peer
    if runtime == "jax":
        flags = "--xla_cpu_multi_thread_eigen=true"
        variables["XLA_FLAGS"] = f"{flags} intra_op_parallelism_threads={threads}"
        variables["JAX_PLATFORMS"] = "cpu"
    return variables
