"""Compiled PTX against lockstep where threads meet: shuffles, votes, matrices, copies, barriers.

Every kernel here gives each thread its own input words and stores its own output words, so results
compare bit for bit (products of small whole numbers are exact in every order).
"""

import ml_dtypes
import numpy as np
import pytest

import hectorite
from hectorite import ptx

RNG = np.random.default_rng(3)

FRAME = """
.version 8.4
.target sm_90
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out, .param .u32 n)
{{
  .reg .b64 %in, %out, %wide<8>; .reg .b32 %t, %lane, %n, %r<64>, %o<64>; .reg .pred %p<16>;
  .reg .b16 %h<8>;
  .shared .align 128 .b8 held[8192];
  .shared .align 8 .b64 bar;
  ld.param.u64 %in, [in];
  ld.param.u64 %out, [out];
  ld.param.u32 %n, [n];
  mov.u32 %t, %tid.x;
  and.b32 %lane, %t, 31;
  mad.wide.u32 %in, %t, {inputs}, %in;
  mad.wide.u32 %out, %t, {outputs}, %out;
  {loads}
  {body}
  {stores}
  ret;
}}
"""


def kernel(body, inputs, outputs):
    loads = "\n  ".join(f"ld.global.b32 %r{i}, [%in+{4 * i}];" for i in range(inputs))
    stores = "\n  ".join(f"st.global.b32 [%out+{4 * i}], %o{i};" for i in range(outputs))
    return FRAME.format(
        body=body, loads=loads, stores=stores, inputs=4 * inputs, outputs=4 * outputs
    )


def results(body, given, outputs, modes=("compiled", "lockstep")):
    """What each mode stores, as words of every thread."""
    threads, inputs = given.shape
    program = ptx.load(kernel(body, inputs, outputs))
    found = []
    for mode in modes:
        out = np.zeros((threads, outputs), np.uint32)
        program["k"](1, threads, [given.copy(), out, threads], mode=mode, check=mode == "compiled")
        found.append(out)
    return found


def same(body, given, outputs):
    one, other = results(body, given, outputs)
    np.testing.assert_array_equal(one, other)
    return one


def words(threads, count):
    return RNG.integers(0, 2**32, (threads, count), dtype=np.uint32)


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("clamp", [0x1F, 0x181F, 0x0, 0x1C03])
def test_shuffles(mode, clamp):
    given = words(64, 2)
    given[:, 1] = RNG.integers(0, 32, 64)
    # Where the source is outside of the segment, a lane keeps its own value.
    body = f"""shfl.sync.{mode}.b32 %o0|%p0, %r0, %r1, {clamp}, -1;
  selp.b32 %o1, 1, 0, %p0;"""
    same(body, given, 2)


def test_votes():
    given = words(64, 1) % 5
    body = """setp.eq.u32 %p0, %r0, 1;
  vote.sync.ballot.b32 %o0, %p0, -1;
  vote.sync.any.pred %p1, %p0, -1;
  vote.sync.all.pred %p2, %p0, -1;
  vote.sync.uni.pred %p3, %p0, -1;
  selp.b32 %o1, 1, 0, %p1;
  selp.b32 %o2, 1, 0, %p2;
  selp.b32 %o3, 1, 0, %p3;
  match.any.sync.b32 %o4, %r0, -1;
  match.all.sync.b32 %o5|%p4, %r0, -1;
  selp.b32 %o6, 1, 0, %p4;
  elect.sync %o7|%p5, -1;
  selp.b32 %o8, 1, 0, %p5;"""
    same(body, given, 9)


@pytest.mark.parametrize(
    "operation", ["add.s32", "add.u32", "min.s32", "max.s32", "min.u32", "max.u32", "and.b32",
                  "or.b32", "xor.b32"]
)  # fmt: skip
def test_reductions(operation):
    same(f"redux.sync.{operation} %o0, %r0, -1;", words(64, 1), 1)


def test_half_of_a_warp():
    body = """mov.u32 %o0, 77;
  setp.lt.u32 %p0, %lane, 16;
  @!%p0 bra $over;
  redux.sync.add.u32 %o0, %r0, 0xffff;
  shfl.sync.bfly.b32 %o1, %r0, 3, 0x1f, 0xffff;
$over:
  bar.warp.sync -1;"""
    body = body.replace("$over", "OVER")
    same(body, words(64, 1), 2)


def test_barriers_with_reductions():
    body = """setp.lt.u32 %p0, %r0, 1000;
  barrier.cta.red.popc.aligned.u32 %o0, 0, %p0;
  bar.red.and.pred %p1, 1, %p0;
  bar.red.or.pred %p2, 1, !%p0;
  selp.b32 %o1, 1, 0, %p1;
  selp.b32 %o2, 1, 0, %p2;"""
    given = words(96, 1) % 2000
    out = same(body, given, 3)
    assert out[0, 0] == (given < 1000).sum()


def test_barriers_of_some_warps():
    """One warp brings, the other waits: bar.arrive and bar.sync with a count."""
    body = """setp.lt.u32 %p0, %t, 32;
  mov.u32 %r2, held;
  mad.lo.u32 %r3, %lane, 4, %r2;
  @!%p0 bra TAKE;
  st.shared.u32 [%r3], %r0;
  bar.arrive 3, 64;
  mov.u32 %o0, 1;
  bra DONE;
TAKE:
  bar.sync 3, 64;
  ld.shared.u32 %o0, [%r3];
DONE:"""
    given = words(64, 4)
    out = same(body, given, 1)
    np.testing.assert_array_equal(out[32:, 0], given[:32, 0])


MATRICES = {
    "m16n8k16.row.col.f32.f16.f16.f32": (np.float16, np.float32, 16),
    "m16n8k8.row.col.f32.f16.f16.f32": (np.float16, np.float32, 8),
    "m16n8k16.row.col.f16.f16.f16.f16": (np.float16, np.float16, 16),
    "m16n8k16.row.col.f32.bf16.bf16.f32": (ml_dtypes.bfloat16, np.float32, 16),
    "m16n8k8.row.col.f32.tf32.tf32.f32": (np.float32, np.float32, 8),
    "m16n8k4.row.col.f32.tf32.tf32.f32": (np.float32, np.float32, 4),
    "m16n8k32.row.col.s32.s8.s8.s32": (np.int8, np.int32, 32),
    "m16n8k16.row.col.s32.u8.s8.s32": (np.uint8, np.int32, 16),
    "m16n8k32.row.col.satfinite.s32.s8.s8.s32": (np.int8, np.int32, 32),
}


def fragments(a, b, c):
    """The registers of each lane, by the layouts of the PTX manual."""
    rows = []
    for lane in range(32):
        g, t = lane >> 2, lane & 3
        e = 4 // a.dtype.itemsize
        columns = [t * e + i for i in range(e)]
        depth = a.shape[1]
        parts = []
        for r in range(depth // (2 * e)):
            row = g + 8 * (r & 1)
            parts.append(a[row, [column + (r >> 1) * 4 * e for column in columns]])
        for r in range(depth // (4 * e)):
            parts.append(b[[column + r * 4 * e for column in columns], g])
        if c.dtype.itemsize == 2:
            parts += [c[g + 8 * r, [2 * t, 2 * t + 1]] for r in (0, 1)]
        else:
            parts += [c[g + 8 * (r >> 1), [2 * t + (r & 1)]] for r in range(4)]
        rows.append(np.concatenate([p.copy().view(np.uint8) for p in parts]).view(np.uint32))
    return np.array(rows)


def unfragmented(out, dtype):
    c = np.zeros((16, 8), dtype)
    for lane in range(32):
        g, t = lane >> 2, lane & 3
        values = out[lane].copy().view(dtype)
        for r, value in enumerate(values):
            c[g + 8 * (r >> 1), 2 * t + (r & 1)] = value
    return c


def mma(shape, counts):
    names = []
    start = 0
    for count in counts:
        names.append("{" + ", ".join(f"%r{start + i}" for i in range(count)) + "}")
        start += count
    results_ = "{" + ", ".join(f"%o{i}" for i in range(counts[2])) + "}"
    return f"mma.sync.aligned.{shape} {results_}, {', '.join(names)};"


@pytest.mark.parametrize("shape", MATRICES)
def test_matrix_products(shape):
    kind, sums, depth = MATRICES[shape]
    low = 0 if kind is np.uint8 else -8
    a = RNG.integers(low, 8, (16, depth)).astype(kind)
    b = RNG.integers(-8, 8, (depth, 8)).astype(np.int8 if kind is np.uint8 else kind)
    c = RNG.integers(-50, 50, (16, 8)).astype(sums)
    e = 4 // a.dtype.itemsize
    counts = (depth // (2 * e), depth // (4 * e), 2 if sums is np.float16 else 4)
    out = same(mma(shape, counts), fragments(a, b, c), counts[2])
    wanted = a.astype(np.int64) @ b.astype(np.int64) + c.astype(np.int64)
    np.testing.assert_array_equal(unfragmented(out, sums).astype(np.int64), wanted)


def test_products_of_bits():
    a, b = words(16, 8), words(8, 8)
    c = np.zeros((16, 8), np.int32)
    given = fragments(a, b.T.copy(), c)
    shape = "m16n8k256.row.col.s32.b1.b1.s32.and.popc"
    out = same(mma(shape, (4, 2, 4)), given, 4)
    wanted = np.bitwise_count(a[:, None, :] & b[None, :, :]).sum(2)
    np.testing.assert_array_equal(unfragmented(out, np.int32), wanted)


def test_chained_products():
    """The second product needs the result of the first: two suspensions."""
    shape = "m16n8k8.row.col.f32.tf32.tf32.f32"
    first = mma(shape, (4, 2, 4))
    second = first.replace("%r6, %r7, %r8, %r9", "%o0, %o1, %o2, %o3")
    a, b = (RNG.integers(-8, 8, s).astype(np.float32) for s in ((16, 8), (8, 8)))
    c = np.zeros((16, 8), np.float32)
    out = same(f"{first}\n  {second}", fragments(a, b, c), 4)
    np.testing.assert_array_equal(unfragmented(out, np.float32), 2 * (a @ b))


@pytest.mark.parametrize("form", ["x1", "x2", "x4", "x1.trans", "x4.trans"])
def test_matrices_in_shared_memory(form):
    count = int(form[1])
    names = ", ".join(f"%o{i}" for i in range(count))
    body = f"""mov.u32 %r8, held;
  mad.lo.u32 %r9, %t, 16, %r8;
  st.shared.v4.b32 [%r9], {{%r0, %r1, %r2, %r3}};
  bar.sync 0;
  xor.b32 %r10, %lane, 5;
  mad.lo.u32 %r9, %r10, 16, %r8;
  ldmatrix.sync.aligned.m8n8.{form}.shared.b16 {{{names}}}, [%r9];
  bar.sync 0;
  stmatrix.sync.aligned.m8n8.{form}.shared.b16 [%r9], {{{names}}};
  bar.sync 0;
  mad.lo.u32 %r9, %t, 16, %r8;
  ld.shared.v4.b32 {{%o4, %o5, %o6, %o7}}, [%r9];
  movmatrix.sync.aligned.m8n8.trans.b16 %o8, %r0;"""
    for i in range(count, 4):
        body = f"mov.u32 %o{i}, 0;\n  {body}"
    given = words(32, 4)
    out = same(body, given, 9)
    np.testing.assert_array_equal(out[:, 4:8], given)


def test_asynchronous_copies():
    """16 bytes, 4 bytes, and fewer than that with zeros behind."""
    body = """mov.u32 %r8, held;
  mad.lo.u32 %r9, %t, 32, %r8;
  cp.async.cg.shared.global [%r9], [%in], 16;
  cp.async.ca.shared.global [%r9+16], [%in+16], 4;
  cp.async.ca.shared.global [%r9+20], [%in+20], 4, %n;
  cp.async.cg.shared.global.L2::128B [%r9+16], [%in], 16, 8;
  cp.async.commit_group;
  cp.async.wait_group 0;
  bar.sync 0;
  xor.b32 %r10, %t, 1;
  mad.lo.u32 %r9, %r10, 32, %r8;
  ld.shared.v4.b32 {%o0, %o1, %o2, %o3}, [%r9];
  ld.shared.v2.b32 {%o4, %o5}, [%r9+16];
  ld.shared.v2.b32 {%o6, %o7}, [%r9+24];"""
    given = words(64, 8)
    out = same(body, given, 8)
    swapped = given[np.arange(64) ^ 1]
    np.testing.assert_array_equal(out[:, :4], swapped[:, :4])
    np.testing.assert_array_equal(out[:, 4:6], swapped[:, :2])
    assert not out[:, 6:].any()


def test_bulk_copies():
    """A copy that signals a barrier object, on which all threads wait."""
    body = """mov.u32 %r8, held;
  mov.u32 %r9, bar;
  setp.ne.u32 %p0, %t, 0;
  @%p0 bra WAITING;
  mbarrier.init.shared::cta.b64 [%r9], 1;
  fence.proxy.async.shared::cta;
  mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r9], 1024;
  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r8], [%in], 1024, [%r9];
WAITING:
  bar.sync 0;
AGAIN:
  mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r9], 0;
  @!%p1 bra AGAIN;
  mad.lo.u32 %r10, %t, 16, %r8;
  ld.shared.v4.b32 {%o0, %o1, %o2, %o3}, [%r10];"""
    given = words(64, 4)
    np.testing.assert_array_equal(same(body, given, 4), given)


def test_barrier_objects():
    """Half of the threads bring, the others wait for the phase; then all wait for the next."""
    body = """mov.u32 %r8, held;
  mov.u32 %r9, bar;
  setp.eq.u32 %p0, %t, 0;
  @%p0 mbarrier.init.shared::cta.b64 [%r9], 32;
  bar.sync 0;
  mad.lo.u32 %r10, %lane, 4, %r8;
  setp.lt.u32 %p1, %t, 32;
  @!%p1 bra TAKE;
  st.shared.u32 [%r10], %r0;
  mbarrier.arrive.shared::cta.b64 %wide0, [%r9];
TAKE:
  mbarrier.test_wait.parity.shared::cta.b64 %p2, [%r9], 0;
  @!%p2 bra TAKE;
  ld.shared.u32 %o0, [%r10];
  bar.sync 0;
  @%p1 bra NEXT;
  mbarrier.arrive.shared::cta.b64 %wide0, [%r9];
SECOND:
  mbarrier.try_wait.shared::cta.b64 %p2, [%r9], %wide0;
  @!%p2 bra SECOND;
NEXT:
  mov.u32 %o1, 5;"""
    given = words(64, 1)
    out = same(body, given, 2)
    np.testing.assert_array_equal(out[:, 0], np.tile(given[:32, 0], 2))


def test_a_lock():
    """Threads of a block wait for each other in a loop: nobody may run on alone."""
    body = """mov.u32 %r8, held;
  setp.eq.u32 %p0, %t, 0;
  @%p0 st.shared.u32 [%r8], 0;
  bar.sync 0;
  sub.u32 %r9, 63, %t;
AGAIN:
  ld.volatile.shared.u32 %r10, [%r8];
  setp.ne.u32 %p1, %r10, %r9;
  @%p1 bra AGAIN;
  mov.u32 %o0, %r10;
  add.u32 %r10, %r10, 1;
  st.volatile.shared.u32 [%r8], %r10;"""
    (out,) = results(body, words(64, 1), 1, ["compiled"])
    np.testing.assert_array_equal(out[:, 0], np.arange(64)[::-1])


def test_a_missing_barrier_shows():
    body = """mov.u32 %r8, held;
  mad.lo.u32 %r9, %t, 4, %r8;
  st.shared.u32 [%r9], %r0;
  BARRIER
  sub.u32 %r10, 63, %t;
  mad.lo.u32 %r9, %r10, 4, %r8;
  ld.shared.u32 %o0, [%r9];"""
    given = words(64, 1)
    (right,) = results(body.replace("BARRIER", "bar.sync 0;"), given, 1, ["compiled"])
    (wrong,) = results(body.replace("BARRIER", ""), given, 1, ["compiled"])
    np.testing.assert_array_equal(right, given[::-1])
    assert (wrong != right).any()


@pytest.mark.parametrize(
    "body, message",
    [
        ("setp.eq.u32 %p0, %t, 3;\n  @%p0 bar.sync 1;\n  @!%p0 bar.sync 2;", "wait for each other"),
        ("st.shared.u32 [8192], 1;\n  st.shared.u32 [9000], %r0;", "outside of shared memory"),
        ("st.shared.u32 [held+2], %r0;", "misaligned"),
        ("trap;", "stops itself"),
        ("AGAIN:\n  ld.volatile.shared.u32 %r1, [held];\n  bra AGAIN;", "ask again and again"),
    ],
)
def test_faults(body, message, monkeypatch):
    from hectorite.backends.ptx import jit_schedule as ptx_jit_schedule

    monkeypatch.setattr(ptx_jit_schedule, "IDLE_ROUNDS", 1 << 10)
    with pytest.raises(hectorite.HectoriteError, match=message) as caught:
        results(body, words(32, 4), 0, ["compiled"])
    assert "<ptx>:2" in str(caught.value)


def test_the_lowest_block_with_a_fault_is_told():
    program = ptx.load(
        kernel("mov.u32 %o0, %ctaid.x;\n  setp.gt.u32 %p0, %o0, 4;\n  @%p0 trap;", 1, 1)
    )
    for _ in range(20):
        with pytest.raises(hectorite.HectoriteError, match=r"of block \(5, 0, 0\)"):
            arrays = [np.zeros(32, np.uint32), np.zeros(32, np.uint32), 0]
            program["k"](64, 32, arrays, mode="compiled")
