"""A `tile.kernel` as LLVM IR: structured, one instruction or block after the other.

Enters: a kernel, and which of its parameters overlap no other. Leaves: in an LLVM module

    void @kernel.NAME(ptr %slots, i64 %task)      what a launch calls for each task
    void @body.NAME(...)                          the kernel; its parameters as LLVM sees them best

`slots` has 8 bytes for each parameter in order, the address of a tensor or the bits of a number,
then one for each of the kernel's sizes (`kernel_sizes`), as i64. Tensors lie row major.

A scalar becomes a number, a tile of rank 1 a vector, a tile of rank 2 a list of vectors, one for
each row. Loops become blocks with phis; there is no choice to make here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from llvmlite import ir
from xdsl.dialects import scf
from xdsl.dialects.builtin import IndexType, VectorType
from xdsl.ir import Attribute, Block, Operation, SSAValue

from hectorite.backends import conversion, llvm_memory, llvm_product
from hectorite.backends.lanes import I64, constant
from hectorite.backends.llvm_control import conditional, counted_loop
from hectorite.backends.llvm_memory import POINTER, Memory, Positions, lane, numbered, splat
from hectorite.backends.llvm_reduce import reduce_lanes
from hectorite.backends.vector_math import emit
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
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp, scalar_type
from hectorite.ir.space import TensorType

Tile = ir.Value | list[ir.Value]
"""A number or vector; or the rows of a tile of rank 2."""

SLOT_BYTES = 8
LOCAL_ALIGNMENT = 64


def kernel_sizes(kernel: KernelOp) -> list[str]:
    """The sets and sizes whose extents a kernel needs, sorted by name."""
    names: set[str] = set()
    for value in (*kernel.parameters, *(r for op in kernel.walk() for r in op.results)):
        if isinstance(value.type, TensorType):
            names.update(dim for dim in value.type.dims if isinstance(dim, str) and dim != "_")
    names.update(op.of.data for op in kernel.walk() if isinstance(op, SizeOp))
    return sorted(names)


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
        *given, task = function.args
        count = len(kernel.parameters)
        self.sizes = dict(zip(sizes, given[count:], strict=True))
        self.tiles[kernel.body.block.args[0]] = task
        for parameter, value in zip(kernel.parameters, given[:count], strict=True):
            if isinstance(parameter.type, TensorType):
                self.memories[parameter] = self.memory(parameter.type, value)
            else:
                self.tiles[parameter] = value

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
        if isinstance(op, ScalarOp):
            self.scalar(op)
        elif type(op) in _EMITTERS:
            _EMITTERS[type(op)](self, op)
        else:
            raise fail(f"a kernel cannot have {op.name}", expected="scf, scalar or tile operations")

    # Tiles.

    def value(self, operand: SSAValue) -> ir.Value:
        """A number or a vector."""
        tile = self.tiles[operand]
        assert not isinstance(tile, list), "a tile of rank 2 where the verifier forbids it"
        return tile

    def flat(self, operands: Sequence[SSAValue]) -> list[ir.Value]:
        """The rows of several tiles, one after the other."""
        rows: list[ir.Value] = []
        for operand in operands:
            tile = self.tiles[operand]
            rows.extend(tile if isinstance(tile, list) else [tile])
        return rows

    def define(self, results: Sequence[SSAValue], rows: Sequence[ir.Value]) -> None:
        """The inverse of `flat`: name the tiles that these rows make up."""
        remaining = iter(rows)
        for result in results:
            shape = shape_of(result.type)
            count = shape[0] if len(shape) == 2 else 1
            taken = [next(remaining) for _ in range(count)]
            self.tiles[result] = taken if len(shape) == 2 else taken[0]

    def by_row(
        self, result: SSAValue, operands: Sequence[SSAValue], make: Callable[..., ir.Value]
    ) -> None:
        """Define `result` by `make` of the rows of the operands, row by row."""
        rows = zip(*(self.flat([operand]) for operand in operands), strict=True)
        self.define([result], [make(*row) for row in rows])

    def scalar(self, op: ScalarOp) -> None:
        element = _element(op.operands[-1])
        name = op.FUNCTION.name

        def make(*arguments: ir.Value) -> ir.Value:
            return emit(self.builder, name, arguments, element)

        self.by_row(op.result, op.operands, make)

    def constant(self, op: ConstantOp) -> None:
        shape = shape_of(op.result.type)
        value = constant(_register(op.result.type), op.number)
        self.tiles[op.result] = [value] * shape[0] if len(shape) == 2 else value

    def cast(self, op: CastOp) -> None:
        source, target = _element(op.input), _element(op.result)
        convert = conversion.cast
        self.by_row(op.result, [op.input], lambda x: convert(self.builder, x, source, target))

    def splat(self, op: SplatOp) -> None:
        *rows, lanes = shape_of(op.result.type)
        value = splat(self.builder, self.value(op.input), lanes)
        self.tiles[op.result] = [value] * rows[0] if rows else value

    def lanes(self, op: LanesOp) -> None:
        (lanes,) = shape_of(op.result.type)
        self.tiles[op.result] = numbered(I64, lanes)

    def reduce(self, op: ReduceOp) -> None:
        valid = None if op.valid is None else self.value(op.valid)
        vector, element = self.value(op.input), _element(op.input)
        self.tiles[op.result] = reduce_lanes(self.builder, op.kind.data, vector, element, valid)

    def size(self, op: SizeOp) -> None:
        self.tiles[op.result] = self.sizes[op.of.data]

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

    def positions(self, op: ElementAccess, row: int | None) -> Positions:
        """The positions of an access; of one row of a tile of rank 2."""
        indices = tuple(self.value(index) for index in op.indices)
        if row is not None:
            indices = tuple(lane(self.builder, index, row) for index in indices)
        valid = None if op.valid is None else self.value(op.valid)
        return Positions(indices, op.lane_axis, op.lane_step, op.pad_value, valid)

    def load(self, op: LoadOp) -> None:
        memory, shape = self.memories[op.tensor], shape_of(op.result.type)
        numbers = range(shape[0]) if len(shape) == 2 else (None,)
        lanes = shape[-1] if shape else None
        rows = [
            llvm_memory.load(self.builder, memory, self.positions(op, row), lanes)
            for row in numbers
        ]
        self.define([op.result], rows)

    def store(self, op: StoreOp) -> None:
        memory, shape = self.memories[op.tensor], shape_of(op.value.type)
        numbers = range(shape[0]) if len(shape) == 2 else (None,)
        for row, value in zip(numbers, self.flat([op.value]), strict=True):
            llvm_memory.store(self.builder, memory, self.positions(op, row), value)

    def prefetch(self, op: PrefetchOp) -> None:
        indices = [self.value(index) for index in op.indices]
        llvm_memory.prefetch(self.builder, self.memories[op.tensor], indices, op.count.data)

    def product(self, op: ProductOp) -> None:
        height, width = shape_of(op.result.type)
        at_a = [self.value(index) for index in op.a_indices]
        rows = [[lane(self.builder, index, m) for index in at_a] for m in range(height)]
        at_b = [[self.value(index) for index in op.b_indices]]
        a = llvm_product.Factor.at(self.builder, self.memories[op.a], rows, op.a_axis.data)
        b = llvm_product.Factor.at(self.builder, self.memories[op.b], at_b, op.b_axis.data)
        initial = None if op.init is None else self.flat([op.init])
        extent, element = self.value(op.extent), _element(op.result)
        sums = llvm_product.product(self.builder, a, b, extent, initial, element, width)
        self.define([op.result], sums)

    # Control.

    def for_(self, op: scf.ForOp) -> None:
        if not isinstance(op.lb.type, IndexType):
            raise fail(f"a loop counts in {op.lb.type}", expected="index")

        def body(counter: ir.Value, carried: list[ir.Value]) -> list[ir.Value]:
            first, *rest = op.body.block.args
            self.tiles[first] = counter
            self.define(rest, carried)
            return self.block(op.body.block)

        bounds = [self.value(bound) for bound in (op.lb, op.ub, op.step)]
        carried = self.flat(op.iter_args)
        self.define(op.results, counted_loop(self.builder, *bounds, carried, body))

    def if_(self, op: scf.IfOp) -> None:
        def arm(number: int) -> list[ir.Value]:
            blocks = op.regions[number].blocks
            return self.block(blocks[0]) if blocks else []

        arms = (lambda: arm(0), lambda: arm(1))
        self.define(op.results, conditional(self.builder, self.value(op.cond), *arms))


def _element(value: SSAValue) -> ElementType:
    return element_of(scalar_type(value.type))


def _register(type: Attribute) -> ir.Type:
    """The LLVM type of a scalar or of one row of a tile."""
    number = conversion.register_type(element_of(scalar_type(type)))
    return ir.VectorType(number, shape_of(type)[-1]) if isinstance(type, VectorType) else number


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
