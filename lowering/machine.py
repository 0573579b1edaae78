"""What the tile level is scheduled for: one object with every choice that depends on the machine.

Enters: nothing, or the `Target` of a GPU. Leaves: a `Machine`, which `to_tile` takes. It says how
long vectors are, how large the blocks of a product, how rows are shared out among tasks, and which
of the tricks of a CPU (asking for memory ahead, packed weights) are played at all.

    Machine.cpu()                  a task is many rows, done by one thread with vector registers
    Machine.gpu(target("sm_90"))   a task is one row or block, done by a warp or several
"""

from dataclasses import dataclass

from hectorite.ir.target import Target


@dataclass(frozen=True)
class Machine:
    """The choices of the tile level. Bytes are bytes, everything else is a count."""

    name: str
    """`cpu`, or the name of a GPU target."""
    is_gpu: bool
    """Whether a task is one row or block of its own, done by several threads together."""

    # Vectors
    vector_bytes: int
    """Bytes of one vector of lanes. CPU: four of the widest registers, so that chains of dependent
    operations overlap. GPU: sixteen bytes for each thread of a warp."""
    few_lanes: int
    """Vectors of fewer lanes leave most of a register (of a warp) empty."""
    unroll: int = 8
    """Loops of at most this many steps are written out."""
    most_copies: int = 64
    """The most copies of a statement that written-out loops make together."""
    unrolled_strips: int = 2
    """So are at most this many strips of lanes."""
    local_bytes: int = 1 << 16
    """The most memory that one tensor may take inside a task."""

    tile_bytes: int = 1 << 17
    """CPU: bytes of the values of rows that go from pass to pass together, a part of the cache next
    to a core."""
    near_bytes: int = 1 << 19
    """CPU: bytes of weights that stay in that cache beside them."""

    # Tasks
    visit_tasks: int = 128
    """Tasks of a kernel with visits, if those are parts with like numbers of elements."""
    group_rows: int = 192
    """CPU: the most rows of one task of a kernel whose rows are grouped."""
    task_points: int = 1 << 18
    """CPU: points of the statements' iteration spaces that a task of other kernels should have."""
    chunk_rows: tuple[int, int] = (96, 1024)
    """CPU: the least and the most rows of such a task."""
    parts: int = 0
    """GPU: parts of a sum over everything, each of which is a task."""
    split_elements: int = 256
    """GPU: elements of a visit that one task does where long rows are split."""
    group_elements: int = 0
    """GPU: elements that a task of two steps over one set hands on to at most."""
    resident_tasks: int = 0
    """GPU: tasks that run at the same time, for kernels whose tasks do many shares each."""
    enough_rows: int = 256
    """Rows that keep every core busy; more loops are made rows until there are as many."""
    visit_lanes: int = 8
    """Elements of a visit that are done together where none makes vectors of its own: a gather of
    more costs most rows, which have few elements, more than long ones gain by it."""
    row_lanes: int = 1
    """GPU: rows that are done together where none makes vectors of its own."""

    most_strip: int = 1024
    """GPU: the longest last dimension that one task goes along, where there are few rows."""

    # Products
    accumulators: int = 24
    """CPU: vector registers for the accumulators of a block; the others hold a row of weights."""
    register_bytes: int = 64
    """CPU: bytes of one of them."""
    most_rows: int = 8
    """The most rows of a block."""
    most_block_lanes: int = 64
    """The most lanes of a block, for elements of four bytes."""
    enough_blocks: int = 0
    """GPU: blocks of a product that keep every SM busy; blocks shrink until there are as many."""

    # Memory
    prefetch_bytes: int = 8192
    """Bytes of rows that are asked for ahead of the element that reads them; 0 for not at all."""
    packs: bool = True
    """Whether weights may be copied into panels first, strip by strip."""

    @staticmethod
    def cpu() -> "Machine":
        """A CPU with vector registers of 64 bytes, or several that stand for one."""
        return _CPU

    @staticmethod
    def gpu(target: Target) -> "Machine":
        """A GPU: a warp does a row, 128 threads or more do a block of a product."""
        return Machine(
            name=target.name,
            is_gpu=True,
            vector_bytes=16 * target.threads_per_warp,
            few_lanes=target.threads_per_warp // 2,
            unrolled_strips=8,
            most_copies=16,
            local_bytes=32 << 10,
            visit_tasks=16 * target.sms,
            parts=8 * target.threads_per_warp * 4,
            group_elements=target.threads_per_warp,
            resident_tasks=8 * target.sms,
            enough_rows=1 << 16,
            visit_lanes=target.threads_per_warp,
            row_lanes=4 * target.threads_per_warp,
            most_rows=128,
            most_block_lanes=128,
            enough_blocks=target.sms,
            prefetch_bytes=0,
            packs=False,
        )


_CPU = Machine("cpu", is_gpu=False, vector_bytes=256, few_lanes=8)
