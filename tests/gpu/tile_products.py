"""Kernels with products, and data for them, for the tests of what a GPU makes of them.

A kernel multiplies blocks of M rows by N columns: task (i, j) does rows from 16 i and columns from
8 j, with rows taken in order, gathered, from a transposed tensor, or of the weights of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.ptx.machine import Launch, Report, execute
from hectorite.backends.ptx.print import module_to_text
from hectorite.backends.ptx.watch import Checks
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import schema_of
from hectorite.dialects.tile import KernelOp
from hectorite.ir.diagnostics import Source
from hectorite.ir.element import ELEMENTS
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.ir.target import target as target_named
from hectorite.lowering.gpu.assign_layouts import AssignLayouts
from hectorite.lowering.gpu.insert_barriers import InsertBarriers
from hectorite.lowering.gpu.pipeline_copies import PipelineCopies
from hectorite.lowering.gpu.stage_products import StageProducts
from hectorite.lowering.kernels.kernel_sizes import kernel_sizes
from hectorite.lowering.ptx.tile_to_ptx import LaunchShape, tile_to_ptx
from tests.driver import on_device

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A product of `m` x `k` by `k` x `n` in blocks of `rows` x `columns`."""

    m: int
    n: int
    k: int
    rows: int = 16
    columns: int = 8
    a: str = "f32"
    b: str = "f32"
    c: str = "f32"
    kind: str = "rows"
    """rows, gathered, transposed (k before the rows of x), flipped (n before k) or grouped"""
    threads: int = 32
    attributes: str = ""
    fixed: bool = False
    """Whether all extents are numbers in the kernel; the columns then fill their blocks."""

    def text(self) -> str:
        """The module."""
        a, b, c = (ELEMENTS[name].xdsl for name in (self.a, self.b, self.c))
        m, n, k = ("M", "N", "K") if not self.fixed else (self.m, self.n, self.k)
        shape = f"{k}, {m}" if self.kind == "transposed" else f"{m}, {k}"
        x = f"!hec.tensor<{a}[{shape}]>"
        second = f"{n}, {k}" if self.kind == "flipped" else f"{k}, {n}"
        w = f"!hec.tensor<{b}[{'G, ' if self.kind == 'grouped' else ''}{second}]>"
        y, picks = f"!hec.tensor<{c}[{m}, {n}]>", f"!hec.tensor<i32[{m}]>"
        group = "%group, " if self.kind == "grouped" else ""
        zero = "%zero"
        at = f"[{zero}, %rows] k 0" if self.kind == "transposed" else f"[%rows, {zero}] k 1"
        if self.kind in ("gathered", "grouped"):
            at = "[%picked, %zero] k 1"
        weights = f"[{group}%zero, %left] k {1 if group else 0}"
        if self.kind == "flipped":
            weights = "[%left, %zero] k 1 n 0"
        tile = f"vector<{self.rows}x{self.columns}x{c}>"
        lanes = f"vector<{self.rows}xindex>"
        threads = "" if self.threads == 32 else f"threads {self.threads} "
        attributes = f" {{{self.attributes}}}" if self.attributes else ""
        extents = [
            f"scalar.constant {number} : index" if self.fixed else f'tile.size "{size}"'
            for size, number in (("M", self.m), ("N", self.n), ("K", self.k))
        ]
        columns = "" if self.fixed else " columns %right"
        valid = "" if self.fixed else " valid %right"
        return f"""
tile.program @p(%x: {x}, %w: {w}, %picks: {picks}) -> {y} {{
  %y = tile.allocate : {y}
  %m = {extents[0]}
  %n = {extents[1]}
  %rows = scalar.constant {self.rows} : index
  %more_rows = scalar.constant {self.rows - 1} : index
  %columns = scalar.constant {self.columns} : index
  %more_columns = scalar.constant {self.columns - 1} : index
  %0 = scalar.add %m, %more_rows : index
  %1 = scalar.floordiv %0, %rows : index
  %2 = scalar.add %n, %more_columns : index
  %3 = scalar.floordiv %2, %columns : index
  %tasks = scalar.mul %1, %3 : index
  tile.launch @k(%x, %w, %picks, %y) tasks %tasks : ({x}, {w}, {picks}, {y})
  tile.return %y : {y}
}}
tile.kernel @k(%task: index, %x: {x}, %w: {w}, %picks: {picks}, %y: {y}) {threads}{{
  %zero = scalar.constant 0 : index
  %two = scalar.constant 2 : index
  %height = scalar.constant {self.rows} : index
  %width = scalar.constant {self.columns} : index
  %more = scalar.constant {self.columns - 1} : index
  %m = {extents[0]}
  %n = {extents[1]}
  %k = {extents[2]}
  %0 = scalar.add %n, %more : index
  %strips = scalar.floordiv %0, %width : index
  %i = scalar.floordiv %task, %strips : index
  %j = scalar.mod %task, %strips : index
  %group = scalar.mod %i, %two : index
  %first = scalar.mul %i, %height : index
  %left = scalar.mul %j, %width : index
  %next = scalar.add %first, %height : index
  %end = scalar.min %next, %m : index
  %rest = scalar.sub %end, %first : index
  %below = scalar.min %rest, %height : index
  %right = scalar.sub %n, %left : index
  %lanes = tile.lanes : {lanes}
  %starts = tile.splat %first : index to {lanes}
  %all = scalar.add %starts, %lanes : {lanes}
  %counts = tile.splat %below : index to {lanes}
  %inside = scalar.lt %lanes, %counts : {lanes}
  %rows = scalar.select %inside, %all, %starts : {lanes}
  %some = tile.load %picks[%rows] : {picks} -> vector<{self.rows}xi32>
  %picked = scalar.cast %some : vector<{self.rows}xi32> to {lanes}
  %p = tile.product %x{at}, %w{weights} to %k{columns} : \
{x}, {w} -> {tile}{attributes}
  tile.store %p, %y[%rows, %left] axis 1{valid} : {y}, {tile}
  tile.end
}}
"""

    def module(self) -> ModuleOp:
        module = Parser(make_context(), self.text()).parse_module()
        module.verify()
        return module

    def sizes(self) -> dict[str, int]:
        return {"M": self.m, "N": self.n, "K": self.k, "G": 2}

    def arguments(self, seed: int = 0) -> dict[str, Array]:
        """Small integers, so that every type multiplies and adds them exactly."""
        draw = np.random.default_rng(seed)

        def numbers(name: str, *shape: int) -> Array:
            element = ELEMENTS[name]
            low = 0 if element.kind in ("uint", "bool") else -3
            return draw.integers(low, 4, shape).astype(element.storage)

        x = (self.k, self.m) if self.kind == "transposed" else (self.m, self.k)
        w = (self.n, self.k) if self.kind == "flipped" else (self.k, self.n)
        if self.kind == "grouped":
            w = 2, *w
        picks = draw.integers(0, max(self.m, 1), self.m).astype(np.int32)
        return {"x": numbers(self.a, *x), "w": numbers(self.b, *w), "picks": picks}

    def expected(self, arguments: dict[str, Array]) -> Array:
        x, w = (arguments[name].astype(np.float64) for name in ("x", "w"))
        if self.kind == "transposed":
            x = x.T
        if self.kind == "flipped":
            w = w.T
        if self.kind in ("gathered", "grouped"):
            x = x[arguments["picks"]]
        if self.kind == "grouped":
            blocks = np.arange(self.m) // self.rows % 2
            product = np.einsum("mk,mkn->mn", x, w[blocks])
        else:
            product = x @ w
        return product.astype(ELEMENTS[self.c].storage)

    def interpret(self, module: ModuleOp, arguments: dict[str, Array]) -> Array:
        binding = Binding(schema_of(module), {})
        (result,) = run_tile(module, binding, arguments, self.sizes())
        return result


@dataclass(frozen=True)
class Compiled:
    """PTX of a case's kernel and how it is launched."""

    case: Case
    text: str
    shape: LaunchShape
    sizes: tuple[str, ...]

    def run(
        self, arguments: dict[str, Array], schedule: str = "lockstep", checks: Checks | None = None
    ) -> tuple[Array, Report]:
        """What the executor gives, and what its checks saw; with `--target cuda` what the device
        gives."""
        case = self.case
        y = np.zeros((case.m, case.n), ELEMENTS[case.c].storage)
        tasks = -(-case.m // case.rows) * -(-case.n // case.columns)
        given = case.sizes()
        numbers = [np.int32(given[size]) for size in self.sizes]
        values = [arguments["x"], arguments["w"], arguments["picks"], y, *numbers, np.int32(tasks)]
        grid = (-(-tasks // self.shape.per_block),)
        launch = Launch(
            parse_ptx(self.text), "k", grid, (self.shape.block,), values, self.shape.shared,
            Source("k.ptx", self.text),
        )  # fmt: skip
        report = execute(launch, schedule, checks or Checks(), unwritten=(y,))
        if report.is_clean:
            on_device.run(self.text, "k", grid, (self.shape.block,), values, self.shape.shared)
        return y, report


def compiled(case: Case, target: str = "sm_80", stages: int = 0) -> Compiled:
    """A case as PTX, staged and pipelined."""
    module = case.module()
    StageProducts(target).apply(Context(), module)
    PipelineCopies(target, stages).apply(Context(), module)
    AssignLayouts().apply(Context(), module)
    InsertBarriers().apply(Context(), module)
    (kernel,) = [op for op in module.ops if isinstance(op, KernelOp)]
    sizes = tuple(kernel_sizes(kernel))
    lowered, shapes = tile_to_ptx(module, target_named(target))
    lowered.verify()
    return Compiled(case, module_to_text(lowered), shapes["k"], sizes)
