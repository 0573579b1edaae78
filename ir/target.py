"""The GPUs that code is generated for, as data.

Enters: the name of a target as `.target` spells it (`sm_90`). Leaves: its `Target`: what one
streaming multiprocessor (SM) holds and does in a cycle, what a typical card of that target has, and
which groups of instructions it runs natively. `ir.ptx.isa` says that of single instructions.

Rates are the published ones: results per SM and cycle of NVIDIA's arithmetic throughput table, and
dense tensor rates of the architecture papers. A card's own figures are measured by the benchmarks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from hectorite.ir.diagnostics import did_you_mean, fail

KIB, MIB = 1 << 10, 1 << 20

AMPERE = frozenset(
    {"cp_async", "ldmatrix", "mbarrier", "redux", "sparse_mma"}
    | {"tf32_mma", "f16_mma", "bf16_mma", "s8_mma"}
)
HOPPER = frozenset({"stmatrix", "bulk_copy", "cluster", "elect", "vector_reduction", "cvt_rn_tf32"})
FEATURES = AMPERE | HOPPER | {"s4_mma", "b1_and_mma", "b1_xor_mma", "fp8_mma", "wgmma", "f32x2"}
"""Everything that `Target.has` may be asked.

`X_mma`: mma.sync of that element type is one tensor instruction; `sparse_mma`: so is the 2:4 form;
`f32x2`: two f32 operations in one instruction; `vector_reduction`: red.global.add.v4.f32.
"""


@dataclass(frozen=True)
class Target:
    """One target. Sizes are bytes, `registers` are of 32 bits, rates are per SM and cycle.

    `lanes`: results per cycle of a class of scalar instructions (LANES_OF names the classes).
    `tensor`: flops per cycle of mma by element type (two for each multiply-add);
    `wgmma`: the same through wgmma, empty where there is none.
    """

    name: str
    capability: tuple[int, int]
    shared_per_sm: int
    shared_per_block: int
    warps_per_sm: int
    blocks_per_sm: int
    card: str
    sms: int
    clock: float
    """Cycles per second at which the published rates of the card hold."""
    l2: int
    bandwidth: float
    """Bytes per second of the card's memory."""
    lanes: Mapping[str, int]
    tensor: Mapping[str, int]
    wgmma: Mapping[str, int]
    features: frozenset[str]
    registers_per_sm: int = 65536
    registers_per_thread: int = 255
    register_unit: int = 256
    """Registers are handed to a warp in multiples of this."""
    shared_reserved: int = KIB
    """Shared memory that the system takes of every block."""
    threads_per_warp: int = 32
    threads_per_block: int = 1024

    def has(self, feature: str) -> bool:
        """Does it run `feature` (one of FEATURES) natively? `KeyError` if there is none such."""
        if feature not in FEATURES:
            raise KeyError(feature)
        return feature in self.features

    def runs(self, minimum: str) -> bool:
        """Does this target accept instructions that need `minimum` (`sm_80`, `sm_90a`)?

        A name with a letter is one architecture alone; one without is also every later one.
        """
        if minimum[-1].isalpha():
            return self.name == minimum
        major, minor = divmod(int(minimum.removeprefix("sm_")), 10)
        return self.capability >= (major, minor)

    def peak(self, kind: str) -> float:
        """Flops per second of the card: `kind` is an element type of `tensor`, or "fma.f32"."""
        if kind.startswith("fma."):
            rate = 2 * self.lanes[kind.removeprefix("fma.")]
        else:
            rate = self.wgmma.get(kind) or self.tensor[kind]
        return rate * self.sms * self.clock

    def blocks_resident(self, threads: int, registers: int, shared: int) -> int:
        """How many blocks one SM holds at once; 0 if a single one does not fit.

        `registers` per thread, `shared` bytes per block.
        """
        if (
            shared > self.shared_per_block
            or registers > self.registers_per_thread
            or threads > self.threads_per_block
        ):
            return 0
        warps = -(-threads // self.threads_per_warp)
        unit = self.register_unit
        per_warp = -(-max(registers, 1) * self.threads_per_warp // unit) * unit
        return min(
            self.blocks_per_sm,
            self.warps_per_sm // warps,
            self.registers_per_sm // per_warp // warps,
            self.shared_per_sm // (shared + self.shared_reserved),
        )


LANES_OF = ("f32", "f64", "f16x2", "bf16x2", "int", "shift", "mul", "mufu", "cvt", "shuffle")
"""Classes of scalar instructions; `mufu` holds also popc and the other 16-lane ones, `int` also
moves, comparisons and predicates. Memory instructions run 32 lanes on every target."""


def _lanes(*rates: int) -> Mapping[str, int]:
    return MappingProxyType(dict(zip(LANES_OF, rates, strict=True)))


def _tensor(f16: int, **others: int) -> Mapping[str, int]:
    """Tensor rates: bf16 is as f16, tf32 half, s8 double, unless `others` says more."""
    return MappingProxyType({"f16": f16, "bf16": f16, "tf32": f16 // 2, "s8": 2 * f16, **others})


_NONE: Mapping[str, int] = MappingProxyType({})
_LOW_BIT = frozenset({"s4_mma", "b1_and_mma", "b1_xor_mma"})

_SM_80 = Target(
    "sm_80",
    (8, 0),
    164 * KIB,
    163 * KIB,
    64,
    32,
    card="A100 SXM 40 GB",
    sms=108,
    clock=1.41e9,
    l2=40 * MIB,
    bandwidth=1.555e12,
    lanes=_lanes(64, 32, 128, 64, 64, 64, 64, 16, 16, 32),
    tensor=_tensor(2048, f64=128, s4=8192, b1=32768),
    wgmma=_NONE,
    features=AMPERE | _LOW_BIT,
)
_SM_86 = Target(
    "sm_86",
    (8, 6),
    100 * KIB,
    99 * KIB,
    48,
    16,
    card="RTX A6000",
    sms=84,
    clock=1.80e9,
    l2=6 * MIB,
    bandwidth=0.768e12,
    lanes=_lanes(128, 2, 64, 64, 64, 64, 64, 16, 16, 32),
    tensor=_tensor(1024, f64=4, s4=4096, b1=16384),
    wgmma=_NONE,
    features=AMPERE | _LOW_BIT,
)
_SM_89 = Target(
    "sm_89",
    (8, 9),
    100 * KIB,
    99 * KIB,
    48,
    24,
    card="L40S",
    sms=142,
    clock=2.52e9,
    l2=96 * MIB,
    bandwidth=0.864e12,
    lanes=_lanes(128, 2, 64, 64, 64, 64, 64, 16, 16, 32),
    tensor=_tensor(1024, f64=4, s4=4096, b1=16384, fp8=2048),
    wgmma=_NONE,
    features=AMPERE | _LOW_BIT | {"fp8_mma"},
)
_SM_90 = Target(
    "sm_90",
    (9, 0),
    228 * KIB,
    227 * KIB,
    64,
    32,
    card="H200 SXM",
    sms=132,
    clock=1.83e9,
    l2=50 * MIB,
    bandwidth=4.8e12,
    lanes=_lanes(128, 64, 128, 128, 64, 64, 64, 16, 16, 32),
    # mma.sync reaches about five eighths of what the SM does through wgmma.
    tensor=_tensor(2560, f64=256, b1=32768),
    wgmma=_NONE,
    features=AMPERE | HOPPER | {"b1_and_mma"},
)
_SM_90A = replace(
    _SM_90,
    name="sm_90a",
    wgmma=_tensor(4096, fp8=8192, b1=65536),
    features=_SM_90.features | {"wgmma"},
)
_SM_100 = Target(
    "sm_100",
    (10, 0),
    228 * KIB,
    227 * KIB,
    64,
    32,
    card="B200",
    sms=148,
    clock=1.85e9,
    l2=126 * MIB,
    bandwidth=8.0e12,
    lanes=_lanes(128, 64, 128, 128, 64, 64, 64, 16, 16, 32),
    tensor=_tensor(2048, f64=128),
    wgmma=_NONE,
    features=AMPERE | HOPPER | {"f32x2"},
)
_SM_120 = Target(
    "sm_120",
    (12, 0),
    100 * KIB,
    99 * KIB,
    48,
    24,
    card="RTX 5090",
    sms=170,
    clock=2.41e9,
    l2=96 * MIB,
    bandwidth=1.792e12,
    lanes=_lanes(128, 2, 64, 64, 128, 64, 64, 16, 16, 32),
    tensor=_tensor(512, f64=4, fp8=1024),
    wgmma=_NONE,
    features=AMPERE | HOPPER | {"fp8_mma"},
)

TARGETS: Mapping[str, Target] = MappingProxyType(
    {t.name: t for t in (_SM_80, _SM_86, _SM_89, _SM_90, _SM_90A, _SM_100, _SM_120)}
)
"""Every target by name, oldest first."""

DEFAULT_TARGET = "sm_90"
"""What is meant where nothing names a target."""


def target(name: str) -> Target:
    """The target called `name`. Raises `HectoriteError` if there is none."""
    found = TARGETS.get(name)
    if found is None:
        raise fail(
            f"there is no target `{name}`",
            expected=f"one of {', '.join(TARGETS)}",
            hint=did_you_mean(name, TARGETS),
        )
    return found


def target_for(capability: tuple[int, int]) -> Target:
    """The best target that a device of a compute capability runs, e.g. sm_90a for (9, 0), sm_86
    for (8, 7). Raises `HectoriteError` if the device is older than every target."""
    exact = [t for t in TARGETS.values() if t.capability == capability]
    older = [t for t in TARGETS.values() if t.capability <= capability and not t.name[-1].isalpha()]
    if not older:
        raise fail(
            f"a device of compute capability {capability[0]}.{capability[1]} runs none of the "
            f"targets {', '.join(TARGETS)}",
            expected="8.0 or later",
        )
    return (exact or older)[-1]
