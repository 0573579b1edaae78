"""Triton's kernels of the static comparison, compiled ahead of time, without a GPU.

    PYTHON benchmarks/peers/triton_kernels.py FOLDER

Enters: a folder; PYTHON is one that has Triton (no torch is needed). Leaves: a cubin for each
kernel in the folder, and on the output stream JSON: their names, targets and files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

ALIGNED = [["tt.divisibility", 16]]
"""What a caller may promise of an argument: a multiple of 16, so that copies are 16 bytes wide."""


@triton.jit
def product(
    a, b, c, m, n, k, row_a, row_b, row_c,
    tile_m: tl.constexpr, tile_n: tl.constexpr, tile_k: tl.constexpr, group: tl.constexpr,
):  # fmt: skip
    """One tile of C = A B, all of f16; tiles are numbered in groups of `group` rows of tiles."""
    tiles_n = tl.cdiv(n, tile_n)
    task = tl.program_id(0)
    band = task // (group * tiles_n)
    height = min(tl.cdiv(m, tile_m) - band * group, group)
    within = task % (group * tiles_n)
    at_m = (band * group + within % height) * tile_m
    at_n = (within // height) * tile_n
    rows = (at_m + tl.arange(0, tile_m)) % m
    columns = (at_n + tl.arange(0, tile_n)) % n
    inner = tl.arange(0, tile_k)
    from_a = a + rows[:, None] * row_a + inner[None, :]
    from_b = b + inner[:, None] * row_b + columns[None, :]
    total = tl.zeros((tile_m, tile_n), dtype=tl.float32)
    for step in range(0, tl.cdiv(k, tile_k)):
        left = tl.load(from_a, mask=inner[None, :] < k - step * tile_k, other=0.0)
        right = tl.load(from_b, mask=inner[:, None] < k - step * tile_k, other=0.0)
        total = tl.dot(left, right, total)
        from_a += tile_k
        from_b += tile_k * row_b
    out_m = at_m + tl.arange(0, tile_m)
    out_n = at_n + tl.arange(0, tile_n)
    inside = (out_m[:, None] < m) & (out_n[None, :] < n)
    tl.store(c + out_m[:, None] * row_c + out_n[None, :], total.to(tl.float16), mask=inside)


@triton.jit
def spmm(starts, columns, values, x, y, width, row_x, row_y, lanes: tl.constexpr):
    """One row of Y = A X for A in CSR, `lanes` columns of it."""
    row = tl.program_id(0)
    at = tl.program_id(1) * lanes + tl.arange(0, lanes)
    inside = at < width
    total = tl.zeros((lanes,), dtype=tl.float32)
    for i in range(tl.load(starts + row), tl.load(starts + row + 1)):
        gathered = tl.load(x + tl.load(columns + i) * row_x + at, mask=inside, other=0.0)
        total += tl.load(values + i) * gathered
    tl.store(y + row * row_y + at, total, mask=inside)


PRODUCT = {
    "a": "*fp16", "b": "*fp16", "c": "*fp16", "m": "i32", "n": "i32", "k": "i32",
    "row_a": "i32", "row_b": "i32", "row_c": "i32",
}  # fmt: skip
SPMM = {
    "starts": "*i32", "columns": "*i32", "values": "*fp32", "x": "*fp32", "y": "*fp32",
    "width": "i32", "row_x": "i32", "row_y": "i32",
}  # fmt: skip
TILES = {"tile_m": 128, "tile_n": 128, "tile_k": 32, "group": 8}


def compiled(function: Any, types: dict[str, str], fixed: dict[str, int], capability: int,
             warps: int) -> bytes:  # fmt: skip
    """The cubin of a kernel whose arguments are all aligned."""
    signature = types | dict.fromkeys(fixed, "constexpr")
    aligned = {(number,): ALIGNED for number in range(len(types))}
    source = ASTSource(fn=function, signature=signature, constexprs=fixed, attrs=aligned)
    options = {"num_warps": warps, "num_stages": 3}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return made.asm["cubin"]


def main(folder: Path) -> None:
    """Compile all and tell where they are."""
    kernels = [("product", target, product, PRODUCT, TILES, 8) for target in (80, 90)]
    kernels += [("spmm", target, spmm, SPMM, {"lanes": 128}, 1) for target in (80, 90)]
    told: list[dict[str, str]] = []
    for name, capability, function, types, fixed, warps in kernels:
        file = folder / f"{name}_{capability}.cubin"
        file.write_bytes(compiled(function, types, fixed, capability, warps))
        told.append({"name": name, "target": f"sm_{capability}", "file": str(file)})
    json.dump({"version": triton.__version__, "kernels": told}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
