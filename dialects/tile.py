"""The `tile` dialect, inside a kernel: a grid of programs over values that are static tiles.

    kernel   ::= "tile.kernel" @name "(" %task ":" index ("," %arg ":" type)* ")"
                 ("threads" n)? ("work" word)? region
    size     ::= "tile.size" string                              number of elements of a set or size
    load     ::= ...                                             see tile_memory.py
    store    ::= ...
    prefetch ::= "tile.prefetch" %t "[" %i* "]" "count" n ":" tensor
    local    ::= "tile.local" ":" tensor                         memory private to one program
    splat    ::= "tile.splat" %x ":" scalar "to" vector
    lanes    ::= "tile.lanes" ":" vector                         0, 1, 2, ...
    reduce   ::= "tile.reduce" kind %v ("valid" %n)? ":" vector "->" scalar
    product  ::= "tile.product" (%init "+")? %a "[" %i* "]" "k" n "," %b "[" %j* "]" "k" n
                 ("n" n)? "to" %extent ("columns" %n)? ":" tensor "," tensor "->" vector

    tile.kernel @scale(%task: index, %x: !hec.tensor<f32[node, 64]>) {
      %zero = scalar.constant 0 : index
      %v = tile.load %x[%task, %zero] axis 1 : !hec.tensor<f32[node, 64]> -> vector<64xf32>
      %w = scalar.add %v, %v : vector<64xf32>
      tile.store %w, %x[%task, %zero] axis 1 : !hec.tensor<f32[node, 64]>, vector<64xf32>
      tile.end
    }

A kernel runs once for each task, in any order and at the same time; tasks never depend on each
other. On a GPU the `threads` of a kernel (a warp if it says nothing) do one task
together, and `work` tells how rows are shared out among tasks, if not one to each
(`WORK` in ir/schedule.py). Loops are `scf.for`, arithmetic is the `scalar` dialect on scalars,
vectors and `index`.
The host side, which allocates and launches, is `tile_program.py`, part of this dialect.
"""

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    IndexType,
    IntegerAttr,
    StringAttr,
    VectorType,
)
from xdsl.ir import Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    HasParent,
    IsolatedFromAbove,
    IsTerminator,
    MemoryReadEffect,
    MemoryWriteEffect,
    Pure,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException

from hectorite.dialects.tile_async import ASYNC_OPERATIONS
from hectorite.dialects.tile_bulk import BULK_OPERATIONS, BarrierObjects
from hectorite.dialects.tile_layout import LAYOUT_OPERATIONS, LayoutAttr
from hectorite.dialects.tile_memory import (
    LoadOp,
    StoreOp,
    index,
    parse_indices,
    print_indices,
    shape_of,
)
from hectorite.dialects.tile_program import PROGRAM_OPERATIONS
from hectorite.ir.scalar import scalar_type
from hectorite.ir.schedule import WORK
from hectorite.ir.space import TensorType, parse_defined, parse_tensor

REDUCTIONS = ("add", "mul", "max", "min")

WARP = 32
THREADS = (WARP, 64, 128, 256)
"""Threads that may do one task together."""


@irdl_op_definition
class KernelOp(IRDLOperation):
    """A kernel. The first argument is the number of the task, the others are what the launch
    passes: tensors by reference, scalars by value."""

    name = "tile.kernel"

    sym_name = prop_def(StringAttr)
    threads = opt_prop_def(IntegerAttr)
    work = opt_prop_def(StringAttr)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())

    def __init__(self, name: str, body: Region, threads: int = WARP, work: str = "row"):
        count = None if threads == WARP else IntegerAttr(threads, 64)
        shared = None if work == "row" else StringAttr(work)
        properties = {"sym_name": StringAttr(name), "threads": count, "work": shared}
        super().__init__(properties=properties, regions=[body])

    @property
    def thread_count(self) -> int:
        """Threads that do one task together, on a GPU."""
        return WARP if self.threads is None else self.threads.value.data

    @property
    def parameters(self) -> tuple[SSAValue, ...]:
        """What a launch passes, the task apart."""
        return tuple(self.body.block.args[1:])

    def verify_(self) -> None:
        arguments = self.body.block.args
        if not arguments or arguments[0].type != index:
            raise VerifyException("expected the first argument of a kernel to be the task: index")
        if not isinstance(self.body.block.last_op, EndOp):
            raise VerifyException("expected tile.end at the end of a kernel")
        if self.thread_count not in THREADS:
            known = ", ".join(map(str, THREADS))
            raise VerifyException(f"expected one of {known} threads, got {self.thread_count}")
        if self.work is not None and self.work.data not in WORK[1:]:
            known = ", ".join(WORK[1:])
            raise VerifyException(f"expected work {known}, got {self.work.data}")

    @classmethod
    def parse(cls, parser: Parser) -> "KernelOp":
        name = parser.parse_symbol_name().data
        arguments = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_argument)
        given = parser.parse_optional_keyword("threads") is not None
        threads = parser.parse_integer() if given else WARP
        shared = parser.parse_optional_keyword("work") is not None
        work = parser.parse_identifier("how work is shared out") if shared else WORK[0]
        return cls(name, parser.parse_region(arguments), threads, work)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        with printer.in_parens():
            printer.print_list(self.body.block.args, printer.print_block_argument)
        if self.threads is not None:
            printer.print_string(f" threads {self.thread_count}")
        if self.work is not None:
            printer.print_string(f" work {self.work.data}")
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False)


@irdl_op_definition
class EndOp(IRDLOperation):
    """The end of a kernel."""

    name = "tile.end"
    traits = traits_def(IsTerminator(), HasParent(KernelOp))
    assembly_format = "attr-dict"


@irdl_op_definition
class SizeOp(IRDLOperation):
    """The number of elements of a set, or the value of a size."""

    name = "tile.size"

    of = prop_def(StringAttr)
    result = result_def(IndexType)
    traits = traits_def(Pure())
    assembly_format = "$of attr-dict"

    def __init__(self, of: str):
        super().__init__(properties={"of": StringAttr(of)}, result_types=[index])


@irdl_op_definition
class PrefetchOp(IRDLOperation):
    """Ask for `count` elements along the last dimension, which will soon be read."""

    name = "tile.prefetch"

    tensor = operand_def(TensorType)
    indices = var_operand_def(IndexType)
    count = prop_def(IntegerAttr)
    traits = traits_def(MemoryWriteEffect())

    def __init__(self, tensor: SSAValue, indices: Sequence[SSAValue], count: int):
        super().__init__(operands=[tensor, indices], properties={"count": IntegerAttr(count, 64)})

    @classmethod
    def parse(cls, parser: Parser) -> "PrefetchOp":
        tensor, indices = parse_indices(parser)
        parser.parse_keyword("count")
        count = parser.parse_integer()
        parser.parse_punctuation(":")
        parser.parse_type()
        return cls(tensor, indices, count)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        print_indices(printer, self.tensor, self.indices)
        printer.print_string(f" count {self.count.value.data} : ")
        printer.print_attribute(self.tensor.type)


@irdl_op_definition
class LocalOp(IRDLOperation):
    """Memory private to one program, of fixed extents; its contents start unspecified."""

    name = "tile.local"

    result = result_def(TensorType)
    traits = traits_def(MemoryWriteEffect())
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, type: TensorType):
        super().__init__(result_types=[type])

    def verify_(self) -> None:
        if not all(isinstance(dim, int) for dim in self.result.type.dims):
            raise VerifyException("expected fixed extents for local memory")


@irdl_op_definition
class SplatOp(IRDLOperation):
    """A tile that repeats one scalar."""

    name = "tile.splat"

    input = operand_def()
    result = result_def(VectorType)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($input) `to` type($result)"

    def __init__(self, value: SSAValue | Operation, shape: Sequence[int]):
        scalar = SSAValue.get(value)
        super().__init__(operands=[scalar], result_types=[VectorType(scalar.type, shape)])

    def verify_(self) -> None:
        if scalar_type(self.result.type) != self.input.type:
            raise VerifyException(f"expected a tile of {self.input.type}")


@irdl_op_definition
class LanesOp(IRDLOperation):
    """The number of each lane: 0, 1, 2, ..."""

    name = "tile.lanes"

    result = result_def(VectorType)
    traits = traits_def(Pure())
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, count: int):
        super().__init__(result_types=[VectorType(index, [count])])


@irdl_op_definition
class ReduceOp(IRDLOperation):
    """All lanes of a rank-1 tile combined into one scalar; with `valid`, only those below it."""

    name = "tile.reduce"

    kind = prop_def(StringAttr)
    input = operand_def(VectorType)
    valid = opt_operand_def(IndexType)
    result = result_def()
    traits = traits_def(Pure())
    assembly_format = (
        "$kind $input (`valid` $valid^)? attr-dict `:` type($input) `->` type($result)"
    )

    def __init__(self, kind: str, value: SSAValue | Operation, valid: SSAValue | None = None):
        vector = SSAValue.get(value)
        super().__init__(
            operands=[vector, valid],
            properties={"kind": StringAttr(kind)},
            result_types=[scalar_type(vector.type)],
        )

    def verify_(self) -> None:
        if self.kind.data not in REDUCTIONS:
            raise VerifyException(f"expected one of {', '.join(REDUCTIONS)}, got {self.kind.data}")
        if len(shape_of(self.input.type)) != 1:
            raise VerifyException("expected a tile of rank 1")


@irdl_op_definition
class ProductOp(IRDLOperation):
    """`result[m, n] = init[m, n] + sum over k of a[row m, k] * b[k, n]`, from memory.

    Row m of `a` uses lane m of its vector indices; k is added to the index of its dimension
    `a_axis`. In `b`, k is added along `b_axis` and n along `n_axis` (not given: the last
    dimension). k runs from 0 to `extent`. Elements are converted to the element type of the result
    before they are multiplied.
    With `columns`, only columns n below it are read, and the others of the result are unspecified.

    With `codes`, rows of `a` hold two of each four elements along k: element 2 g + s of a row is
    that of k = 4 g + c, where c is in the bits 4 g + 2 s and the next of the row of bytes that
    begins at `code_indices`; the two of a group stand in order.
    """

    name = "tile.product"

    init = opt_operand_def(VectorType)
    a = operand_def(TensorType)
    a_indices = var_operand_def()
    b = operand_def(TensorType)
    b_indices = var_operand_def(IndexType)
    extent = operand_def(IndexType)
    columns = opt_operand_def(IndexType)
    codes = opt_operand_def(TensorType)
    code_indices = var_operand_def()
    a_axis = prop_def(IntegerAttr)
    b_axis = prop_def(IntegerAttr)
    n_axis = opt_prop_def(IntegerAttr)
    result = result_def(VectorType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(MemoryReadEffect())

    def __init__(
        self,
        init: SSAValue | None,
        a: SSAValue,
        a_indices: Sequence[SSAValue],
        a_axis: int,
        b: SSAValue,
        b_indices: Sequence[SSAValue],
        b_axis: int,
        extent: SSAValue,
        type: VectorType,
        columns: SSAValue | None = None,
        n_axis: int | None = None,
        codes: SSAValue | None = None,
        code_indices: Sequence[SSAValue] = (),
    ):
        last = len(b_indices) - 1
        axes = {
            "a_axis": IntegerAttr(a_axis, 64),
            "b_axis": IntegerAttr(b_axis, 64),
            "n_axis": None if n_axis in (None, last) else IntegerAttr(n_axis, 64),
        }
        super().__init__(
            operands=[init, a, a_indices, b, b_indices, extent, columns, codes, code_indices],
            properties=axes,
            result_types=[type],
        )

    def verify_(self) -> None:
        shape = shape_of(self.result.type)
        if len(shape) != 2:
            raise VerifyException("expected a result of rank 2")
        if self.init is not None and self.init.type != self.result.type:
            raise VerifyException("expected the initial tile to have the type of the result")
        for operand in (*self.a_indices, *self.code_indices):
            if scalar_type(operand.type) != index or shape_of(operand.type) not in ((), shape[:1]):
                raise VerifyException(f"expected an index or {shape[0]} of them")
        operands = [(self.a, self.a_indices), (self.b, self.b_indices)]
        if self.codes is not None:
            operands.append((self.codes, self.code_indices))
        for tensor, indices in operands:
            rank = len(cast(TensorType, tensor.type).dims)
            if len(indices) != rank:
                raise VerifyException(f"expected {rank} indices, got {len(indices)}")
        if (
            not 0 <= self.column_axis < len(self.b_indices)
            or self.column_axis == self.b_axis.value.data
        ):
            raise VerifyException("expected two dimensions of the weights for k and n")

    @property
    def column_axis(self) -> int:
        """The dimension of `b` that columns lie along."""
        return len(self.b_indices) - 1 if self.n_axis is None else self.n_axis.value.data

    @classmethod
    def parse(cls, parser: Parser) -> "ProductOp":
        start = parser.pos
        first = parse_defined(parser, "a tensor or an initial tile")
        init = None
        if parser.parse_optional_punctuation("+") is not None:
            init, first = first, parse_tensor(parser)
        elif not isinstance(first.type, TensorType):
            parser.raise_error(f"expected a tensor, got {first.type}", start, parser.pos)
        a_indices, a_axis = _parse_product_operand(parser)
        parser.parse_punctuation(",")
        b = parse_tensor(parser)
        b_indices, b_axis = _parse_product_operand(parser)
        n_axis = None
        if parser.parse_optional_keyword("n") is not None:
            n_axis = parser.parse_integer()
        parser.parse_keyword("to")
        extent = parse_defined(parser, "an extent")
        columns = None
        if parser.parse_optional_keyword("columns") is not None:
            columns = parse_defined(parser, "a number of columns")
        codes, code_indices = None, list[SSAValue]()
        if parser.parse_optional_keyword("codes") is not None:
            codes = parse_tensor(parser)
            code_indices = parser.parse_comma_separated_list(
                parser.Delimiter.SQUARE, lambda: parse_defined(parser, "an index")
            )
        parser.parse_punctuation(":")
        parser.parse_type()
        parser.parse_punctuation(",")
        parser.parse_type()
        parser.parse_punctuation("->")
        type = cast(VectorType, parser.parse_type())
        both = (first, a_indices, a_axis, b, b_indices, b_axis)
        op = cls(init, *both, extent, type, columns, n_axis, codes, code_indices)
        op.attributes |= parser.parse_optional_attr_dict()
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        if self.init is not None:
            printer.print_ssa_value(self.init)
            printer.print_string(" + ")
        print_indices(printer, self.a, self.a_indices)
        printer.print_string(f" k {self.a_axis.value.data}, ")
        print_indices(printer, self.b, self.b_indices)
        printer.print_string(f" k {self.b_axis.value.data}")
        if self.n_axis is not None:
            printer.print_string(f" n {self.n_axis.value.data}")
        printer.print_string(" to ")
        printer.print_ssa_value(self.extent)
        if self.columns is not None:
            printer.print_string(" columns ")
            printer.print_ssa_value(self.columns)
        if self.codes is not None:
            printer.print_string(" codes ")
            print_indices(printer, self.codes, self.code_indices)
        printer.print_string(" : ")
        printer.print_list((self.a.type, self.b.type), printer.print_attribute)
        printer.print_string(" -> ")
        printer.print_attribute(self.result.type)
        printer.print_op_attributes(self.attributes)


def _parse_product_operand(parser: Parser) -> tuple[list[SSAValue], int]:
    indices = parser.parse_comma_separated_list(
        parser.Delimiter.SQUARE, lambda: parse_defined(parser, "an index")
    )
    parser.parse_keyword("k")
    return indices, parser.parse_integer()


Tile = Dialect(
    "tile",
    [
        KernelOp,
        EndOp,
        SizeOp,
        LoadOp,
        StoreOp,
        PrefetchOp,
        LocalOp,
        SplatOp,
        LanesOp,
        ReduceOp,
        ProductOp,
        *LAYOUT_OPERATIONS,
        *ASYNC_OPERATIONS,
        *BULK_OPERATIONS,
        *PROGRAM_OPERATIONS,
    ],
    [LayoutAttr, BarrierObjects],
)
