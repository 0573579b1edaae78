"""A `tile.kernel` as LLVM IR: structured, one instruction or block after the other.

Enters: a kernel, and which of its parameters overlap no other. Leaves: in an LLVM module

    void @kernel.NAME(ptr %slots, i64 %task)      what a launch calls for each task
    void @body.NAME(...)                          the kernel; its parameters as LLVM sees them best

`slots` has 8 bytes for each parameter in order, the address of a tensor or the bits of a number,
then one for each of the kernel's sizes (`kernel_sizes`), as i64. Tensors lie row major.

A scalar becomes a number, and a tile a list of vectors (`tiles.pieces`), row after row; a few short
rows are one vector. Loops become blocks with phis; there is no choice to make here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from llvmlite import ir
from xdsl.dialects import scf
from xdsl.dialects.builtin import IndexType, VectorType
from xdsl.ir import Attribute, Block, Operation, SSAValue

from hectorite.backends.cpu import conversion
from hectorite.backends.cpu import memory as llvm_memory
from hectorite.backends.cpu.control import conditional, counted_loop
from hectorite.backends.cpu.lanes import I64, constant
from hectorite.backends.cpu.memory import POINTER, Memory, Positions
from hectorite.backends.cpu.product import Factor, product
from hectorite.backends.cpu.reduce import reduce_row
from hectorite.backends.cpu.tiles import Piece, joined, numbered, parted, pick, pieces, splat
from hectorite.backends.cpu.vector_math import emit
from hectorite.dialects.tile import (
    EndOp,
    KernelOp,
    LanesOp,
    LocalOp,
    PrefetchOp,
    ProductOp,
    ReduceOp,
    SizeOp,
    SplatOp,
)
from hectorite.dialects.tile_memory import ElementAccess, LoadOp, StoreOp, shape_of
from hectorite.ir.diagnostics import fail
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.rounding import nearest
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp, scalar_type
from hectorite.ir.space import TensorType
from hectorite.lowering.kernels.kernel_sizes import kernel_sizes
from hectorite.lowering.kernels.row_runs import first_of_run

Tile = list[ir.Value]
"""A number; or the pieces of a row, or of several rows one after the other."""

LOCAL_ALIGNMENT = 64

MOST_TOGETHER = 16
"""Lanes of all rows of a tile that are one vector, where rows would leave most of a register
empty."""


def emit_kernel(module: ir.Module, kernel: KernelOp, distinct: Sequence[bool]) -> ir.Function:
    """Write a kernel into a module and return the function that a launch calls.

    `distinct` tells for each parameter whether what it points to overlaps no other parameter that
    is written, nor, if it is written itself, any other.
    """
    name = kernel.sym_name.data
    sizes = kernel_sizes(kernel)
    types = [_parameter_type(value.type) for value in kernel.parameters]
    signature = ir.FunctionType(ir.VoidType(), [*types, *(I64 for _ in sizes), I64])
    body = ir.Function(module, signature, f"body.{name}")
    body.linkage = "internal"
    for attribute in ("nounwind", "noinline"):
        body.attributes.add(attribute)
    for argument, parameter, alone in zip(body.args, kernel.parameters, distinct, strict=False):
        argument.name = parameter.name_hint or ""
        if argument.type == POINTER and alone:
            argument.add_attribute("noalias")
    for argument, size in zip(body.args[len(types) :], [*sizes, "task"], strict=True):
        argument.name = f"size.{size}" if size != "task" else size
    _Body(body, kernel, sizes).emit()
    return _entry(module, body, name)


def _parameter_type(type: Attribute) -> ir.Type:
    return POINTER if isinstance(type, TensorType) else conversion.register_type(element_of(type))


def _entry(module: ir.Module, body: ir.Function, name: str) -> ir.Function:
    """The function that takes the slots apart."""
    signature = ir.FunctionType(ir.VoidType(), [POINTER, I64])
    entry = ir.Function(module, signature, f"kernel.{name}")
    entry.attributes.add("nounwind")
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    slots, task = entry.args
    values: list[ir.Value] = []
    for number, type in enumerate(body.function_type.args[:-1]):
        place = builder.gep(slots, [ir.Constant(I64, number)], source_etype=I64, inbounds=True)
        is_bool = isinstance(type, ir.IntType) and type.width == 1
        value = builder.load(place, typ=ir.IntType(8) if is_bool else type)
        values.append(builder.trunc(value, type) if is_bool else value)
    builder.call(body, [*values, task])
    builder.ret_void()
    return entry


class _Body:
    """The state while one kernel is written: what each of its values is in LLVM."""

    def __init__(self, function: ir.Function, kernel: KernelOp, sizes: Sequence[str]):
        self.kernel = kernel
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.tiles: dict[SSAValue, Tile] = {}
        self.memories: dict[SSAValue, Memory] = {}
        self.alone: dict[tuple[SSAValue, int], ir.Value] = {}
        *given, task = function.args
        count = len(kernel.parameters)
        self.sizes = dict(zip(sizes, given[count:], strict=True))
        self.tiles[kernel.body.block.args[0]] = [task]
        for parameter, value in zip(kernel.parameters, given[:count], strict=True):
            if isinstance(parameter.type, TensorType):
                self.memories[parameter] = self.memory(parameter.type, value)
            else:
                self.tiles[parameter] = [value]

    def emit(self) -> None:
        for op in self.kernel.walk():
            if isinstance(op, LocalOp):
                self.local(op)
        self.block(self.kernel.body.block)
        self.builder.ret_void()

    def block(self, block: Block) -> list[ir.Value]:
        """Emit a block; the rows of what its terminator passes on."""
        for op in block.ops:
            if isinstance(op, scf.YieldOp):
                return self.flat(op.operands)
            if not isinstance(op, EndOp | LocalOp):
                self.operation(op)
        return []

    def operation(self, op: Operation) -> None:
        self.alone.clear()  # they are known to be computed only where this operation stands
        if isinstance(op, ScalarOp):
            self.scalar(op)
        elif type(op) in _EMITTERS:
            _EMITTERS[type(op)](self, op)
        else:
            raise fail(f"a kernel cannot have {op.name}", expected="scf, scalar or tile operations")

    # Tiles.

    def value(self, operand: SSAValue) -> ir.Value:
        """A number."""
        (number,) = self.tiles[operand]
        return number

    def flat(self, operands: Sequence[SSAValue]) -> list[ir.Value]:
        """The values of several tiles, one after the other."""
        return [value for operand in operands for value in self.tiles[operand]]

    def define(self, results: Sequence[SSAValue], values: Sequence[ir.Value]) -> None:
        """The inverse of `flat`: name the tiles that these values make up."""
        remaining = iter(values)
        for result in results:
            self.tiles[result] = [next(remaining) for _ in _types(result.type)]

    def each(
        self, result: SSAValue, operands: Sequence[SSAValue], make: Callable[..., ir.Value]
    ) -> None:
        """Define `result` by `make` of the values of the operands, one by one."""
        tiles = zip(*(self.tiles[operand] for operand in operands), strict=True)
        self.tiles[result] = [make(*values) for values in tiles]

    def scalar(self, op: ScalarOp) -> None:
        element = _element(op.operands[-1])
        name = op.FUNCTION.name

        def make(*arguments: ir.Value) -> ir.Value:
            return emit(self.builder, name, arguments, element)

        self.each(op.result, op.operands, make)

    def constant(self, op: ConstantOp) -> None:
        value = nearest(op.number, _element(op.result))
        self.tiles[op.result] = [constant(type, value) for type in _types(op.result.type)]

    def cast(self, op: CastOp) -> None:
        source, target = _element(op.input), _element(op.result)
        convert = conversion.cast
        self.each(op.result, [op.input], lambda x: convert(self.builder, x, source, target))

    def splat(self, op: SplatOp) -> None:
        value = self.value(op.input)
        self.tiles[op.result] = [
            splat(self.builder, value, type.count) for type in _types(op.result.type)
        ]

    def lanes(self, op: LanesOp) -> None:
        (lanes,) = shape_of(op.result.type)
        self.tiles[op.result] = [numbered(I64, part.lanes, part.first) for part in pieces(lanes)]

    def reduce(self, op: ReduceOp) -> None:
        valid = None if op.valid is None else self.value(op.valid)
        row, element = self.tiles[op.input], _element(op.input)
        self.tiles[op.result] = [reduce_row(self.builder, op.kind.data, row, element, valid)]

    def size(self, op: SizeOp) -> None:
        self.tiles[op.result] = [self.sizes[op.of.data]]

    # Memory.

    def memory(self, type: TensorType, base: ir.Value) -> Memory:
        """A row-major tensor at an address. Emits what its strides take."""
        element = type.element_type
        if not element.executable:
            raise fail(f"{element.name} has no CPU code yet", expected="a plain element type")
        dims = tuple(self.sizes.get(dim) if isinstance(dim, str) else dim for dim in type.dims)
        strides: list[int | ir.Value] = [1] * len(dims)
        for axis in range(len(dims) - 1, 0, -1):
            extent = dims[axis]
            assert extent is not None, "only the one dimension of a vector may be of any length"
            strides[axis - 1] = self.times(strides[axis], extent)
        return Memory(element, base, dims, tuple(strides))

    def times(self, a: int | ir.Value, b: int | ir.Value) -> int | ir.Value:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if isinstance(a, int):
            a, b = b, a
        return llvm_memory.scaled(self.builder, cast(ir.Value, a), b)

    def local(self, op: LocalOp) -> None:
        """Local memory comes from the stack, once, before any loop."""
        type = cast(TensorType, op.result.type)
        count = 1
        for dim in type.dims:
            count *= cast(int, dim)
        item = conversion.storage_type(type.element_type)
        place = self.builder.alloca(ir.ArrayType(item, count))
        place.align = LOCAL_ALIGNMENT
        place.type = POINTER
        self.memories[op.result] = self.memory(type, place)

    def positions(
        self, op: ElementAccess, value: SSAValue
    ) -> Iterator[tuple[Positions, int | None]]:
        """For each piece of the tile `value`: which elements it stands for, and its lanes."""
        *rows, lanes = shape_of(value.type) or (None,)
        for row in range(rows[0]) if rows else (None,):
            for number, part in enumerate(_parts(lanes)):
                indices = [self.index(index, row, number) for index in op.indices]
                valid = None if op.valid is None else self.value(op.valid)
                if part.first:
                    if op.lane_axis is not None:
                        ahead = part.first * op.lane_step
                        indices[op.lane_axis] = self.plus(indices[op.lane_axis], ahead)
                    valid = None if valid is None else self.plus(valid, -part.first)
                at = Positions(tuple(indices), op.lane_axis, op.lane_step, op.pad_value, valid)
                yield at, None if lanes is None else part.lanes

    def index(self, operand: SSAValue, row: int | None, piece: int) -> ir.Value:
        """An index as a piece of a row needs it: a number, or one for each lane."""
        tile = self.tiles[operand]
        if not isinstance(operand.type, VectorType):
            return tile[0]
        return tile[piece] if row is None else self.lane(operand, row)

    def lane(self, operand: SSAValue, number: int) -> ir.Value:
        """One lane of a vector of indices, computed alone if it is no load: rows that follow each
        other then have addresses that LLVM knows to be a constant apart."""
        key = operand, number
        if key not in self.alone:
            self.alone[key] = self.computed_lane(operand, number)
        return self.alone[key]

    def computed_lane(self, operand: SSAValue, number: int) -> ir.Value:
        op = operand.owner
        if isinstance(op, LanesOp):
            return ir.Constant(I64, number)
        if isinstance(op, SplatOp):
            return self.value(op.input)
        if isinstance(op, ScalarOp):
            arguments = [self.lane(value, number) for value in op.operands]
            return emit(self.builder, op.FUNCTION.name, arguments, _element(op.operands[-1]))
        if isinstance(op, ConstantOp):
            return constant(conversion.register_type(_element(op.result)), op.number)
        return pick(self.builder, self.tiles[operand], number)

    def plus(self, index: ir.Value, number: int) -> ir.Value:
        return self.builder.add(index, constant(index.type, number), flags=("nsw",))

    def run(self, op: ElementAccess) -> Positions | None:
        """Where the rows of a tile begin if they lie side by side, as one row does."""
        *indices, last = op.indices
        moving = [n for n, index in enumerate(indices) if isinstance(index.type, VectorType)]
        type = cast(TensorType, op.tensor.type)
        plain = op.valid is None and op.pad_value is None and op.lane_step == 1
        whole = plain and op.lane_axis == len(indices) and moving == [len(indices) - 1]
        zero = isinstance(last.owner, ConstantOp) and last.owner.number == 0
        first = first_of_run(indices[-1]) if whole and zero else None
        _, lanes = shape_of(_accessed(op).type)
        if first is None or type.dims[-1] != lanes:
            return None
        places = [self.value(index) for index in (*indices[:-1], first, last)]
        return Positions(tuple(places), op.lane_axis)

    def load(self, op: LoadOp) -> None:
        memory, builder = self.memories[op.tensor], self.builder
        together = _rows_together(op.result.type)
        if together and (at := self.run(op)) is not None:
            lanes = together * shape_of(op.result.type)[1]
            self.tiles[op.result] = [llvm_memory.load(builder, memory, at, lanes)]
            return
        known: dict[Positions, ir.Value] = {}
        for at, lanes in (places := list(self.positions(op, op.result))):
            if at not in known:
                known[at] = llvm_memory.load(builder, memory, at, lanes)
        self.tiles[op.result] = self.packed(op.result, [known[at] for at, _ in places])

    def packed(self, tile: SSAValue, rows: list[ir.Value]) -> list[ir.Value]:
        """The values of a tile from those of its rows."""
        return [joined(self.builder, rows)] if _rows_together(tile.type) else rows

    def unpacked(self, tile: SSAValue) -> list[ir.Value]:
        """The inverse: the pieces of the rows of a tile."""
        if count := _rows_together(tile.type):
            return parted(self.builder, self.value(tile), count)
        return self.tiles[tile]

    def store(self, op: StoreOp) -> None:
        kind = None if op.combine is None else op.combine.data
        if kind is not None and op.own is None:
            raise fail("a CPU's kernels do not combine values in memory: this one is for a GPU")
        memory, element = self.memories[op.tensor], _element(op.value)
        if kind is None and _rows_together(op.value.type) and (at := self.run(op)) is not None:
            llvm_memory.store(self.builder, memory, at, self.value(op.value))
            return
        places = self.positions(op, op.value)
        for value, (at, lanes) in zip(self.unpacked(op.value), places, strict=True):
            if kind is not None:
                before = llvm_memory.load(self.builder, memory, at, lanes)
                value = emit(self.builder, kind, [before, value], element)
            llvm_memory.store(self.builder, memory, at, value)

    def prefetch(self, op: PrefetchOp) -> None:
        indices = [self.value(index) for index in op.indices]
        llvm_memory.prefetch(self.builder, self.memories[op.tensor], indices, op.count.value.data)

    def product(self, op: ProductOp) -> None:
        height, width = shape_of(op.result.type)
        rows = [[self.index(index, m, 0) for index in op.a_indices] for m in range(height)]
        start = [self.value(index) for index in op.b_indices]
        a = Factor.at(self.builder, self.memories[op.a], rows, op.a_axis.value.data)
        b = Factor.at(self.builder, self.memories[op.b], [start], op.b_axis.value.data)
        initial = None if op.init is None else self.unpacked(op.init)
        extent, element = self.value(op.extent), _element(op.result)
        rows = product(self.builder, a, b, extent, initial, element, width)
        self.tiles[op.result] = self.packed(op.result, rows)

    # Control.

    def for_(self, op: scf.ForOp) -> None:
        if not isinstance(op.lb.type, IndexType):
            raise fail(f"a loop counts in {op.lb.type}", expected="index")

        def body(counter: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            first, *rest = op.body.block.args
            self.tiles[first] = [counter]
            self.define(rest, carried)
            return self.block(op.body.block)

        bounds = [self.value(bound) for bound in (op.lb, op.ub, op.step)]
        carried = self.flat(op.iter_args)
        # Elements of a row are few, and their number differs from row to row: a second loop for
        # what is left over costs more, as a branch that is guessed wrong, than it saves.
        of_row = not any(isinstance(bound, ir.Constant) for bound in bounds[:2])
        self.define(op.results, counted_loop(self.builder, *bounds, carried, body, of_row))

    def if_(self, op: scf.IfOp) -> None:
        def arm(number: int) -> list[ir.Value]:
            blocks = op.regions[number].blocks
            return self.block(blocks[0]) if blocks else []

        arms = (lambda: arm(0), lambda: arm(1))
        self.define(op.results, conditional(self.builder, self.value(op.cond), *arms))


def _element(value: SSAValue) -> ElementType:
    return element_of(scalar_type(value.type))


def _accessed(op: ElementAccess) -> SSAValue:
    """The tile that an access reads or writes."""
    return op.value if isinstance(op, StoreOp) else op.results[0]


def _rows_together(type: Attribute) -> int:
    """How many rows a tile of short ones has, if they are one vector; else 0."""
    shape = shape_of(type)
    if len(shape) != 2 or shape[0] == 1 or shape[0] * shape[1] > MOST_TOGETHER:
        return 0
    return shape[0] if all(extent.bit_count() == 1 for extent in shape) else 0


def _parts(lanes: int | None) -> list[Piece]:
    """The pieces of a row; a number counts as one."""
    return [Piece(0, 1)] if lanes is None else pieces(lanes)


def _types(type: Attribute) -> list[ir.Type]:
    """The LLVM types of the values that make up a scalar or a tile."""
    number = conversion.register_type(element_of(scalar_type(type)))
    if not isinstance(type, VectorType):
        return [number]
    *rows, lanes = shape_of(type)
    if together := _rows_together(type):
        return [ir.VectorType(number, together * lanes)]
    row: list[ir.Type] = [ir.VectorType(number, part.lanes) for part in pieces(lanes)]
    return row * (rows[0] if rows else 1)


_EMITTERS: dict[type[Operation], Callable[[_Body, Any], None]] = {
    ConstantOp: _Body.constant,
    CastOp: _Body.cast,
    SplatOp: _Body.splat,
    LanesOp: _Body.lanes,
    ReduceOp: _Body.reduce,
    SizeOp: _Body.size,
    LoadOp: _Body.load,
    StoreOp: _Body.store,
    PrefetchOp: _Body.prefetch,
    ProductOp: _Body.product,
    scf.ForOp: _Body.for_,
    scf.IfOp: _Body.if_,
}
"""How each operation of a kernel becomes LLVM instructions."""
