"""`mma.sync`, `ldmatrix` and `wgmma` against NumPy, operands placed by the published layouts."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from hectorite.backends.ptx.fragments import ELEMENT_BITS
from hectorite.backends.ptx.machine import Launch, execute
from hectorite.ir.ptx.parse import parse_ptx
from tests.driver import on_device

RNG = np.random.default_rng(0)
HEAD = ".version 8.7\n.target sm_90a\n.address_size 64\n"
FLOATS = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "tf32": np.float32, "f64": np.float64,
          "e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}  # fmt: skip
RANGES = {"s8": (-128, 128), "u8": (0, 256), "s4": (-8, 8), "u4": (0, 16), "b1": (0, 2)}


def run(text, threads, arguments):
    """One block of the kernel `k`: on the device with `--target cuda`, else executed."""
    if not on_device.run(text, "k", (1,), (threads,), arguments):
        execute(Launch(parse_ptx(text), "k", (1,), (threads,), arguments))


def random_matrix(rows, columns, type):
    """Small numbers that every type holds exactly, as float64."""
    if type in RANGES:
        return RNG.integers(*RANGES[type], (rows, columns)).astype("f8")
    return RNG.integers(-8, 9, (rows, columns)) / 4.0


def word(values, type):
    """Elements, low first, as the bits of one register."""
    if type in FLOATS:
        return int.from_bytes(np.asarray(values, FLOATS[type]).tobytes(), "little")
    bits = ELEMENT_BITS[type]
    return sum((int(v) & ((1 << bits) - 1)) << bits * i for i, v in enumerate(values))


def fragment(matrix, type, is_a):
    """[lane, register] of a matrix: A with rows of M, or B transposed, with rows of N."""
    rows, columns = matrix.shape
    register = 64 if type == "f64" else 32
    each = register // ELEMENT_BITS[type]
    high = rows // 8 if is_a else 1
    count = columns // (4 * each) * high
    words = np.zeros((32, count), f"u{register // 8}")
    for lane in range(32):
        g, t = divmod(lane, 4)
        for r in range(count):
            row = g + 8 * (r % high)
            column = t * each + r // high * 4 * each
            words[lane, r] = word(matrix[row, column : column + each], type)
    return words


def run_mma(mnemonic, a, b, c, result, extra="", e=None):
    """The accumulators, [lane, value], of one instruction for registers [lane, register]."""
    kind, wide = ("b64", 8) if a.dtype == np.uint64 else ("b32", 4)
    out_kind, out_wide = {"f64": ("f64", 8)}.get(result, ("b32", 4))
    values = c.copy()
    lines = [f".reg .{kind} %a<{a.shape[1]}>, %b<{b.shape[1]}>;", ".reg .b32 %r<3>, %e;",
             f".reg .{out_kind} %c<{c.shape[1]}>;", ".reg .b64 %p<5>;",
             "mov.u32 %r1, %tid.x;"]  # fmt: skip
    for n, (name, count, size) in enumerate(
        (("a", a.shape[1], wide), ("b", b.shape[1], wide), ("c", c.shape[1], out_wide))
    ):
        lines.append(f"ld.param.u64 %p{n}, [p{n}]; mad.wide.u32 %p{n}, %r1, {count * size}, %p{n};")
        lines += [f"ld.global.b{8 * size} %{name}{r}, [%p{n}+{r * size}];" for r in range(count)]
    lines.append("ld.param.u64 %p3, [p3]; mad.wide.u32 %p3, %r1, 4, %p3; ld.global.b32 %e, [%p3];")
    if out_kind == "b32" and result in ("f32", "s32"):
        lines = [line.replace(".reg .b32 %c<", f".reg .{'f32' if result == 'f32' else 'b32'} %c<")
                 for line in lines]  # fmt: skip
    names = {n: "{" + ", ".join(f"%{n}{r}" for r in range(x.shape[1])) + "}"
             for n, x in (("a", a), ("b", b), ("c", c))}  # fmt: skip
    lines.append(f"{mnemonic} {names['c']}, {names['a']}, {names['b']}, {names['c']}{extra};")
    lines += [f"st.global.b{8 * out_wide} [%p2+{r * out_wide}], %c{r};" for r in range(c.shape[1])]
    text = (f"{HEAD}.entry k(.param .u64 p0, .param .u64 p1, .param .u64 p2, .param .u64 p3)\n{{\n"
            + "\n".join(lines) + "\nret;\n}\n")  # fmt: skip
    metadata = np.zeros(32, "u4") if e is None else e
    run(text, 32, [a, b, values, metadata])
    return values


def accumulators(matrix, type):
    """[lane, register] of C."""
    rows = matrix.shape[0]
    out = np.zeros((32, rows // 8 * 2))
    for lane in range(32):
        g, t = divmod(lane, 4)
        for r in range(out.shape[1]):
            out[lane, r] = matrix[g + 8 * (r // 2), 2 * t + r % 2]
    if type == "f16":
        return np.ascontiguousarray(out.astype("f2")).view("u4")
    return out.astype({"f32": "f4", "f64": "f8", "s32": "i4"}[type])


DENSE = [
    *[(f"m16n8k{k}", type, type, "f32") for type in ("f16", "bf16") for k in (8, 16)],
    ("m16n8k8", "f16", "f16", "f16"), ("m16n8k16", "f16", "f16", "f16"),
    ("m16n8k4", "tf32", "tf32", "f32"), ("m16n8k8", "tf32", "tf32", "f32"),
    *[(f"m16n8k{k}", a, b, "s32") for k in (16, 32) for a in ("s8", "u8") for b in ("s8", "u8")],
    *[(f"m16n8k{k}", a, b, "s32") for k in (32, 64) for a, b in (("s4", "s4"), ("u4", "s4"))],
    *[("m16n8k32", a, b, "f32") for a in ("e4m3", "e5m2") for b in ("e4m3", "e5m2")],
    ("m16n8k16", "e4m3", "e4m3", "f32"), ("m16n8k16", "e4m3", "e4m3", "f16"),
    ("m8n8k16", "s8", "s8", "s32"), ("m8n8k32", "u4", "u4", "s32"),
    ("m8n8k4", "f64", "f64", "f64"), ("m16n8k4", "f64", "f64", "f64"),
    ("m16n8k8", "f64", "f64", "f64"), ("m16n8k16", "f64", "f64", "f64"),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "a", "b", "d"), DENSE)
def test_dense_products(shape, a, b, d):
    m, n, k = (int(x) for x in shape[1:].replace("n", " ").replace("k", " ").split())
    left, right = random_matrix(m, k, a), random_matrix(k, n, b)
    start = RNG.integers(-9, 9, (m, n)).astype("f8")
    suffix = f"{d}.{a}.{b}.{d}"
    got = run_mma(f"mma.sync.aligned.{shape}.row.col.{suffix}", fragment(left, a, True),
                  fragment(right.T, b, False), accumulators(start, d), d)  # fmt: skip
    assert (got == accumulators(left @ right + start, d)).all()


@pytest.mark.parametrize(("shape", "how"), [("m16n8k256", "and"), ("m16n8k256", "xor"),
                                            ("m16n8k128", "and"), ("m8n8k128", "xor")])  # fmt: skip
def test_products_of_bits(shape, how):
    m, n, k = (int(x) for x in shape[1:].replace("n", " ").replace("k", " ").split())
    left, right = random_matrix(m, k, "b1"), random_matrix(k, n, "b1")
    start = RNG.integers(-9, 9, (m, n)).astype("f8")
    got = run_mma(f"mma.sync.aligned.{shape}.row.col.s32.b1.b1.s32.{how}.popc",
                  fragment(left, "b1", True), fragment(right.T, "b1", False),
                  accumulators(start, "s32"), "s32")  # fmt: skip
    both = left @ right
    want = both if how == "and" else left.sum(1)[:, None] + right.sum(0)[None] - 2 * both
    assert (got == accumulators(want + start, "s32")).all()


def test_saturating_products():
    left, right = np.full((16, 32), 127.0), np.full((32, 8), 127.0)
    start = np.full((16, 8), 2.0**31 - 5)
    got = run_mma("mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32",
                  fragment(left, "s8", True), fragment(right.T, "s8", False),
                  accumulators(start, "s32"), "s32")  # fmt: skip
    assert (got == 2**31 - 1).all()


SPARSE = [("m16n8k16", "f16", 0), ("m16n8k16", "bf16", 3), ("m16n8k32", "f16", 0),
          ("m16n8k32", "bf16", 1), ("m16n8k32", "s8", 1), ("m16n8k64", "s8", 0),
          ("m16n8k64", "e4m3", 0)]  # fmt: skip


@pytest.mark.parametrize(("shape", "type", "selector"), SPARSE)
def test_sparse_products(shape, type, selector):
    k = int(shape.partition("k")[2])
    full = random_matrix(16, k, type)
    full[full == 0] = 1
    kept = np.zeros((16, k), bool)
    packed = np.zeros((16, k // 2))
    nibbles = np.zeros((16, k // 4), int)
    for row in range(16):
        for chunk in range(k // 4):
            first, second = sorted(RNG.choice(4, 2, replace=False))
            kept[row, [4 * chunk + first, 4 * chunk + second]] = True
            packed[row, 2 * chunk : 2 * chunk + 2] = full[
                row, [4 * chunk + first, 4 * chunk + second]
            ]
            nibbles[row, chunk] = first | second << 2
    full[~kept] = 0
    words = k // 16
    e = np.zeros(32, "u4")
    for g in range(8):
        for w in range(words):
            halves = [
                sum(int(nibbles[row, 4 * w + i]) << 4 * i for i in range(4)) for row in (g, g + 8)
            ]
            e[4 * g + selector * words + w] = halves[0] | halves[1] << 16
    right = random_matrix(k, 8, type)
    d = "s32" if type == "s8" else "f32"
    start = np.zeros((16, 8))
    got = run_mma(f"mma.sp::ordered_metadata.sync.aligned.{shape}.row.col.{d}.{type}.{type}.{d}",
                  fragment(packed, type, True), fragment(right.T, type, False),
                  accumulators(start, d), d, extra=f", %e, {selector}", e=e)  # fmt: skip
    assert (got == accumulators(full @ right, d)).all()


@pytest.mark.parametrize("trans", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_ldmatrix_and_stmatrix(count, trans):
    suffix = ".trans" if trans else ""
    names = "{" + ", ".join(f"%d{i}" for i in range(count)) + "}"
    text = f"""{HEAD}.entry k(.param .u64 p, .param .u64 q, .param .u64 z) {{
    .reg .b32 %r<9>, %d<4>; .reg .b64 %p<4>;
        .shared .align 16 .b8 tile[1024];
    mov.u32 %r0, %tid.x; mov.u32 %r1, tile; mad.lo.u32 %r2, %r0, 16, %r1;
    ld.param.u64 %p0, [p]; mad.wide.u32 %p0, %r0, 16, %p0;
    ld.global.v4.u32 {{%r3, %r4, %r5, %r6}}, [%p0]; st.shared.v4.u32 [%r2], {{%r3, %r4, %r5, %r6}};
    bar.sync 0;
    ldmatrix.sync.aligned.m8n8.x{count}{suffix}.shared.b16 {names}, [%r2];
    ld.param.u64 %p1, [q]; mad.wide.u32 %p1, %r0, {4 * count}, %p1;
    """ + "\n".join(f"st.global.u32 [%p1+{4 * i}], %d{i};" for i in range(count)) + f"""
    stmatrix.sync.aligned.m8n8.x{count}{suffix}.shared.b16 [%r2+512], {names};
    bar.sync 0;
    ld.shared.v4.u32 {{%r3, %r4, %r5, %r6}}, [%r2+512];
    ld.param.u64 %p2, [z]; mad.wide.u32 %p2, %r0, 16, %p2;
    st.global.v4.u32 [%p2], {{%r3, %r4, %r5, %r6}}; ret; }}
    """  # fmt: skip
    tiles = RNG.integers(0, 2**16, (4, 8, 8)).astype("u2")
    out, back = np.zeros((32, count), "u4"), np.zeros((4, 8, 8), "u2")
    run(text, 32, [tiles, out, back])
    for matrix in range(count):
        tile = tiles[matrix].T if trans else tiles[matrix]
        want = np.ascontiguousarray(tile).view("u4").reshape(32)
        assert (out[:, matrix] == want).all()
    assert (back[:count] == tiles[:count]).all()


def test_movmatrix(evaluate):
    tile = RNG.integers(0, 2**16, (8, 8)).astype("u2")
    got = evaluate("movmatrix.sync.aligned.m8n8.trans.b16 %d, %a;", {"d": "b32"},
                   a=("b32", tile.view("u4").reshape(32)))["d"]  # fmt: skip
    assert (got == np.ascontiguousarray(tile.T).view("u4").reshape(32)).all()


def swizzled(data, width):
    """Shared memory with its 16-byte pieces exchanged as a swizzle of `width` bytes does."""
    out = np.zeros_like(data)
    mask = {0: 0, 32: 1, 64: 3, 128: 7}[width]
    for address in range(0, len(data), 16):
        to = address ^ ((address >> 7 & mask) << 4)
        out[to : to + 16] = data[address : address + 16]
    return out


def descriptor(start, leading, stride, width):
    kind = {0: 0, 128: 1, 64: 2, 32: 3}[width]
    return (start >> 4) | (leading >> 4) << 16 | (stride >> 4) << 32 | kind << 62


def k_major(matrix, width):
    """Bytes of a matrix [rows, k] in the layout of a swizzle, with leading and stride offsets."""
    rows = np.ascontiguousarray(matrix).view("u1").reshape(len(matrix), -1)
    if width:
        padded = np.zeros((len(rows), width), "u1")
        padded[:, : rows.shape[1]] = rows
        return swizzled(padded.ravel(), width), 16, 8 * width
    pieces = rows.reshape(len(rows) // 8, 8, rows.shape[1] // 16, 16).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(pieces).ravel(), len(rows) * 16, 128


@pytest.mark.parametrize("width", [0, 32, 64, 128])
@pytest.mark.parametrize(("type", "k", "d"), [("f16", 16, "f32"), ("bf16", 16, "f32"),
                         ("tf32", 8, "f32"), ("s8", 32, "s32"), ("e4m3", 32, "f32")])  # fmt: skip
def test_wgmma(type, k, d, width):
    n = 16
    left, right = random_matrix(64, k, type), random_matrix(k, n, type)
    dtype = FLOATS.get(type, np.int8)
    a, a_lead, a_stride = k_major(left.astype(dtype), width)
    b, b_lead, b_stride = k_major(np.ascontiguousarray(right.T).astype(dtype), width)
    size = -(-len(a) // 1024) * 1024
    data = np.zeros(size + len(b), "u1")
    data[: len(a)], data[size:] = a, b
    descriptors = [
        descriptor(0, a_lead, a_stride, width),
        descriptor(size, b_lead, b_stride, width),
    ]
    out = np.zeros((128, n // 2), "f4" if d == "f32" else "i4")
    registers = ", ".join(f"%c{i}" for i in range(n // 2))
    switches = ", 1, 1, 0, 0" if k == 16 else "" if type == "s8" else ", 1, 1"
    multiply = f"wgmma.mma_async.sync.aligned.m64n{n}k{k}.{d}.{type}.{type}"
    text = f"""{HEAD}.entry k(.param .u64 p, .param .u64 q, .param .u64 x, .param .u64 y) {{
    .reg .b32 %r<9>; .reg .{d.replace("s32", "b32")} %c<{n // 2}>; .reg .b64 %p<6>; .reg .pred %t;
    .shared .align 1024 .b8 tile[{len(data)}];
    mov.u32 %r0, %tid.x; mov.u32 %r1, tile; ld.param.u64 %p0, [p]; mov.u32 %r2, %r0;
LOOP: cvt.u64.u32 %p1, %r2; add.s64 %p1, %p0, %p1; ld.global.u8 %r3, [%p1];
    add.u32 %r4, %r1, %r2; st.shared.u8 [%r4], %r3; add.u32 %r2, %r2, 128;
    setp.lt.u32 %t, %r2, {len(data)}; @%t bra LOOP;
    bar.sync 0; ld.param.u64 %p3, [x]; ld.param.u64 %p4, [y]; setp.ne.u32 %t, 0, 0;
    wgmma.fence.sync.aligned;
    {multiply} {{{registers}}}, %p3, %p4, %t{switches};
    {multiply} {{{registers}}}, %p3, %p4, 1{switches};
    wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
    ld.param.u64 %p2, [q]; mad.wide.u32 %p2, %r0, {2 * n}, %p2;
    """
    text += "\n".join(f"st.global.b32 [%p2+{4 * i}], %c{i};" for i in range(n // 2)) + "ret; }"
    run(text, 128, [data, out, *map(np.uint64, descriptors)])
    want = 2 * (left @ right)
    for thread in range(128):
        warp, lane = divmod(thread, 32)
        for r in range(n // 2):
            row = 16 * warp + lane // 4 + 8 * (r // 2 % 2)
            assert out[thread, r] == want[row, 8 * (r // 4) + 2 * (lane % 4) + r % 2]
