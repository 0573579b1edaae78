"""wgmma in compiled mode against lockstep: types, swizzles, both storage orders, registers.

Shared memory holds small whole numbers, so that sums are exact in every order. Which numbers a
descriptor picks is compared between two implementations, not with NumPy; Triton's products, which
run in both, are the evidence that the layouts are right.
"""

import ml_dtypes
import numpy as np
import pytest

from hectorite import ptx

RNG = np.random.default_rng(4)
BYTES = 32768
TYPES = {
    "f32.f16.f16": (np.float16, 16),
    "f16.f16.f16": (np.float16, 16),
    "f32.bf16.bf16": (ml_dtypes.bfloat16, 16),
    "f32.tf32.tf32": (np.float32, 8),
    "s32.s8.s8": (np.int8, 32),
}

KERNEL = """
.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out, .param .u64 a, .param .u64 b, .param .u32 keep)
{{
  .reg .b64 %in, %out, %a, %b, %from; .reg .b32 %t, %to, %keep, %d<64>, %r<4>; .reg .pred %p;
  .reg .b32 %i;
  .reg .pred %more;
  .shared .align 1024 .b8 held[{bytes}];
  ld.param.u64 %in, [in];
  ld.param.u64 %out, [out];
  ld.param.u64 %a, [a];
  ld.param.u64 %b, [b];
  ld.param.u32 %keep, [keep];
  setp.ne.u32 %p, %keep, 0;
  mov.u32 %t, %tid.x;
  mov.u32 %i, %t;
COPY:
  mad.wide.u32 %from, %i, 16, %in;
  mov.u32 %to, held;
  mad.lo.u32 %to, %i, 16, %to;
  ld.global.v4.b32 {{%r0, %r1, %r2, %r3}}, [%from];
  st.shared.v4.b32 [%to], {{%r0, %r1, %r2, %r3}};
  add.u32 %i, %i, 128;
  setp.lt.u32 %more, %i, {pieces};
  @%more bra COPY;
  fence.proxy.async;
  bar.sync 0;
  {starts}
  wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.{shape} {{{sums}}}, {left}, %b, %p{switches};
  wgmma.commit_group.sync.aligned;
  wgmma.wait_group.sync.aligned 0;
  mad.wide.u32 %out, %t, {stride}, %out;
  {stores}
  ret;
}}
"""


def descriptor(start, leading, stride, swizzle):
    return start >> 4 | leading >> 4 << 16 | stride >> 4 << 32 | swizzle << 62


def same(types, columns, a, b, switches="", keep=1, in_registers=False):
    kind, k = TYPES[types]
    count = columns // (4 if types.startswith("f16") else 2)
    first = {"f32": "mov.b32 %d{0}, 0f40400000;", "s32": "mov.b32 %d{0}, 3;",
             "f16": "mov.b32 %d{0}, 0x42004200;"}[types[:3]]  # fmt: skip
    text = KERNEL.format(
        bytes=BYTES,
        pieces=BYTES // 16,
        starts="\n  ".join(first.format(i) for i in range(count)),
        sums=", ".join(f"%d{i}" for i in range(count)),
        left="{%r0, %r1, %r2, %r3}" if in_registers else "%a",
        shape=f"m64n{columns}k{k}.{types}",
        switches=switches,
        stride=4 * count,
        stores="\n  ".join(f"st.global.b32 [%out+{4 * i}], %d{i};" for i in range(count)),
    )
    program = ptx.load(text)
    given = RNG.integers(-4, 5, BYTES // np.dtype(kind).itemsize).astype(kind)
    found = []
    for mode in ("compiled", "lockstep"):
        out = np.zeros((128, count), np.uint32)
        arguments = [given, out, np.uint64(a), np.uint64(b), np.uint32(keep)]
        program["k"](1, 128, arguments, mode=mode, check=mode == "compiled")
        found.append(out)
    assert len(np.unique(found[0])) > 4, "the product is not trivial"
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("types", TYPES)
def test_types(types):
    switches = "" if types.startswith("s32") else ", 1, 1"
    switches += ", 0, 0" if "16" in types.split(".")[1] else ""
    same(types, 16, descriptor(0, 1024, 128, 0), descriptor(16384, 256, 128, 0), switches)


@pytest.mark.parametrize("swizzle", [0, 1, 2, 3])
@pytest.mark.parametrize("flips", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_layouts(swizzle, flips):
    a = descriptor(0, 2048, 1024, swizzle)
    b = descriptor(16384, 2048, 1024, swizzle)
    same("f32.f16.f16", 32, a, b, f", 1, 1, {flips[0]}, {flips[1]}")


def test_signs_and_a_fresh_start():
    a, b = descriptor(0, 1024, 128, 0), descriptor(16384, 1024, 128, 0)
    same("f32.f16.f16", 8, a, b, ", -1, 1, 0, 0")
    same("f32.f16.f16", 8, a, b, ", 1, -1, 0, 0", keep=0)


def test_left_side_in_registers():
    same("f32.f16.f16", 24, 0, descriptor(16384, 1024, 128, 0), ", 1, 1, 0", in_registers=True)
