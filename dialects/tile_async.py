"""The part of the `tile` dialect that brings blocks of tensors close: memory shared by the threads of
one task, and copies into it that go on while the task computes.

    shared ::= "tile.shared" ":" tensor                            fixed extents, unspecified
    copy   ::= "tile.copy" ("async" "bulk"?)? %t "[" %i* "]" ("rows" n)? "axis" n
               "spread"? "padded"? ("valid" %m "," %n)? "to" %s "[" %j* "]" ("tells" %b "[" %i "]")?
               "shape" "[" m "," n "]" ":" tensor "," tensor
    commit ::= "tile.commit"                                       ends a group of copies
    wait   ::= "tile.wait" n                                       all but the last n groups are done
    finish ::= "tile.finish" %v ":" type                           the tile, its products done

    tile.kernel @sum(%task: index, %x: !hec.tensor<f32[64, 8]>, %y: !hec.tensor<f32[8]>) {
      %zero = scalar.constant 0 : index
      %n = scalar.constant 5 : index
      %s = tile.shared : !hec.tensor<f32[4, 8]>
      tile.copy async %x[%task, %zero] rows 0 axis 1 valid %n, %n to %s[%zero, %zero] shape [4, 8] : !hec.tensor<f32[64, 8]>, !hec.tensor<f32[4, 8]>
      tile.commit
      tile.wait 0
      tile.barrier
      %v = tile.load %s[%n, %zero] axis 1 : !hec.tensor<f32[4, 8]> -> vector<8xf32>
      tile.store %v, %y[%zero] axis 0 : !hec.tensor<f32[8]>, vector<8xf32>
      tile.end
    }

What a thread puts into shared memory, the others see after the next `tile.barrier`; an asynchronous
copy must be waited for before that barrier. What others may still read must not be overwritten
before a barrier. The interpreter reports all three.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

from xdsl.dialects.builtin import (
    DenseArrayBase,
    IndexType,
    IntegerAttr,
    IntegerType,
    UnitAttr,
    VectorType,
    i64,
)
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    BaseAttr,
    IRDLOperation,
    VarConstraint,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect
from xdsl.utils.exceptions import VerifyException

from hectorite.dialects.tile_bulk import BarrierObjects, parse_object, print_object
from hectorite.dialects.tile_memory import index, parse_indices, print_indices, shape_of
from hectorite.ir.scalar import scalar_type
from hectorite.ir.space import TensorType, parse_defined

BULK_UNIT = 16
"""Bulk copies are of a multiple of so many bytes, from and to addresses that are too."""

SPREAD_BYTES, SPREAD_ROWS = 128, 8
"""Rows that are spread are so long, and alike after so many."""


@irdl_op_definition
class SharedOp(IRDLOperation):
    """Memory of fixed extents that the threads of a task share; its contents start unspecified."""

    name = "tile.shared"

    result = result_def(TensorType)
    traits = traits_def(MemoryWriteEffect())
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, type: TensorType):
        super().__init__(result_types=[type])

    def verify_(self) -> None:
        dims = self.result.type.dims
        if not dims or not all(isinstance(dim, int) for dim in dims):
            raise VerifyException("expected fixed extents for shared memory")


@irdl_op_definition
class CopyOp(IRDLOperation):
    """Copy a block of rows of a tensor into the last two dimensions of shared memory.

    Element (r, c) comes from `indices`, with c added along `axis` and r along `rows`; instead of
    `rows`, indices may be vectors of one lane for each row, and row r uses lane r. It goes to
    `places`, with r and c added to the last two. With `valid %m, %n`, only rows below m and columns
    below n are read, and the others become zero.

    An asynchronous copy belongs to the group that the next `tile.commit` ends. A bulk copy instead
    tells a barrier object of its bytes (`tile_bulk.py`); its rows are multiples of 16 bytes that
    lie side by side, and all valid.

    Of a `padded` copy, rows whose index is negative become zero as well.

    With `spread`, rows of the source are 128 bytes long and lie as memory for descriptors has them:
    16 bytes that belong at place c of row r of the block are at place c xor r % 8.
    """

    name = "tile.copy"

    source = operand_def(TensorType)
    indices = var_operand_def()
    valid = var_operand_def(IndexType)
    target = operand_def(TensorType)
    places = var_operand_def(IndexType)
    told = var_operand_def()
    shape = prop_def(DenseArrayBase)
    row_axis = opt_prop_def(IntegerAttr)
    axis = prop_def(IntegerAttr)
    is_async = opt_prop_def(UnitAttr)
    spread = opt_prop_def(UnitAttr)
    padded = opt_prop_def(UnitAttr)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())

    def __init__(
        self,
        source: SSAValue,
        indices: Sequence[SSAValue],
        axis: int,
        target: SSAValue,
        places: Sequence[SSAValue],
        shape: tuple[int, int],
        *,
        row_axis: int | None = None,
        valid: tuple[SSAValue, SSAValue] | None = None,
        is_async: bool = False,
        tells: tuple[SSAValue, SSAValue] | None = None,
        spread: bool = False,
        padded: bool = False,
    ):
        super().__init__(
            operands=[source, indices, valid or (), target, places, tells or ()],
            properties={
                "shape": DenseArrayBase.from_list(i64, shape),
                "row_axis": None if row_axis is None else IntegerAttr(row_axis, 64),
                "axis": IntegerAttr(axis, 64),
                "is_async": UnitAttr() if is_async or tells else None,
                "spread": UnitAttr() if spread else None,
                "padded": UnitAttr() if padded else None,
            },
        )

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = cast(DenseArrayBase[IntegerType], self.shape).get_values()
        return rows, columns

    @property
    def column_axis(self) -> int:
        return self.axis.value.data

    @property
    def is_bulk(self) -> bool:
        return bool(self.told)

    @property
    def is_spread(self) -> bool:
        return self.spread is not None

    @property
    def is_padded(self) -> bool:
        return self.padded is not None

    @property
    def byte_count(self) -> int:
        """Bytes of the block."""
        rows, columns = self.block
        return rows * columns * cast(TensorType, self.target.type).element_type.storage.itemsize

    @property
    def rows_along(self) -> int | None:
        return None if self.row_axis is None else self.row_axis.value.data

    def verify_(self) -> None:
        source, target = (cast(TensorType, t.type) for t in (self.source, self.target))
        if not isinstance(self.target.owner, SharedOp):
            raise VerifyException("expected the target of a copy to be a tile.shared")
        if source.element != target.element:
            raise VerifyException(f"expected elements of {target.element}, got {source.element}")
        for what, type, indices in (
            ("the source", source, self.indices),
            ("the target", target, self.places),
        ):
            if len(indices) != len(type.dims):
                raise VerifyException(
                    f"expected {len(type.dims)} indices of {what}, got {len(indices)}"
                )
        self._verify_block(len(source.dims), cast(tuple[int, ...], target.dims))
        if self.is_bulk:
            self._verify_bulk()
        if self.is_spread and (self.valid or self.byte_count != self.block[0] * SPREAD_BYTES):
            raise VerifyException(f"expected rows of {SPREAD_BYTES} bytes, all valid")
        if self.is_padded and (self.is_bulk or self.is_spread or self.rows_along is not None):
            raise VerifyException("expected rows at indices of their own for a padded copy")

    def _verify_bulk(self) -> None:
        objects, number = self.told if len(self.told) == 2 else (None, None)
        if objects is None or not isinstance(objects.type, BarrierObjects):
            raise VerifyException("expected a bulk copy to tell a barrier object")
        if number is None or number.type != index:
            raise VerifyException("expected the number of a barrier object")
        if self.is_async is None or self.valid:
            raise VerifyException("expected a bulk copy to be asynchronous, and all of it valid")
        if self.column_axis != len(self.indices) - 1:
            raise VerifyException("expected rows of a bulk copy along the last dimension")
        if (row := self.byte_count // self.block[0]) % BULK_UNIT:
            raise VerifyException(f"expected rows of a multiple of {BULK_UNIT} bytes, got {row}")

    def _verify_block(self, rank: int, extents: tuple[int, ...]) -> None:
        rows, columns = self.block
        if len(extents) < 2 or rows > extents[-2] or columns > extents[-1]:
            raise VerifyException(f"a block of {rows} x {columns} does not fit in {extents}")
        for axis in (self.column_axis, self.rows_along):
            if axis is not None and not 0 <= axis < rank:
                raise VerifyException(f"axis {axis} is not a dimension of the source")
        vectors = [i for i in self.indices if shape_of(i.type)]
        if bool(vectors) == (self.rows_along is not None):
            raise VerifyException("expected either vectors of indices or an axis for the rows")
        for operand in self.indices:
            if scalar_type(operand.type) != index or shape_of(operand.type) not in ((), (rows,)):
                raise VerifyException(f"expected an index or {rows} of them, got {operand.type}")
        if len(self.valid) not in (0, 2):
            raise VerifyException("expected counts of valid rows and columns")

    @classmethod
    def parse(cls, parser: Parser) -> CopyOp:
        is_async = parser.parse_optional_keyword("async") is not None
        is_bulk = is_async and parser.parse_optional_keyword("bulk") is not None
        source, indices = parse_indices(parser)
        along = parser.parse_integer() if parser.parse_optional_keyword("rows") else None
        parser.parse_keyword("axis")
        axis = parser.parse_integer()
        spread = parser.parse_optional_keyword("spread") is not None
        padded = parser.parse_optional_keyword("padded") is not None
        valid = None
        if parser.parse_optional_keyword("valid") is not None:
            first = parse_defined(parser, "a number of rows")
            parser.parse_punctuation(",")
            valid = first, parse_defined(parser, "a number of columns")
        parser.parse_keyword("to")
        target, places = parse_indices(parser)
        tells = None
        if is_bulk:
            parser.parse_keyword("tells")
            tells = parse_object(parser)
        parser.parse_keyword("shape")
        start = parser.pos
        shape = parser.parse_comma_separated_list(parser.Delimiter.SQUARE, parser.parse_integer)
        if len(shape) != 2:
            parser.raise_error("expected numbers of rows and columns", start, parser.pos)
        parser.parse_punctuation(":")
        parser.parse_type()
        parser.parse_punctuation(",")
        parser.parse_type()
        return cls(source, indices, axis, target, places, (shape[0], shape[1]), row_axis=along,
                   valid=valid, is_async=is_async, tells=tells, spread=spread,
                   padded=padded)  # fmt: skip

    def print(self, printer: Printer) -> None:
        printer.print_string(" async" if self.is_async is not None else "")
        printer.print_string(" bulk " if self.is_bulk else " ")
        print_indices(printer, self.source, self.indices)
        if self.rows_along is not None:
            printer.print_string(f" rows {self.rows_along}")
        printer.print_string(f" axis {self.column_axis}")
        printer.print_string(" spread" if self.is_spread else "")
        printer.print_string(" padded" if self.is_padded else "")
        if self.valid:
            printer.print_string(" valid ")
            printer.print_list(self.valid, printer.print_ssa_value)
        printer.print_string(" to ")
        print_indices(printer, self.target, self.places)
        if self.is_bulk:
            printer.print_string(" tells ")
            print_object(printer, *self.told)
        rows, columns = self.block
        printer.print_string(f" shape [{rows}, {columns}] : ")
        printer.print_list((self.source.type, self.target.type), printer.print_attribute)


@irdl_op_definition
class CommitOp(IRDLOperation):
    """Ends a group: the asynchronous copies since the last commit, perhaps none."""

    name = "tile.commit"

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = "attr-dict"

    def __init__(self):
        super().__init__()


@irdl_op_definition
class WaitOp(IRDLOperation):
    """Wait until all groups of copies are done but the last `pending`."""

    name = "tile.wait"

    pending = prop_def(IntegerAttr.constr(i64))
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())

    def __init__(self, pending: int):
        super().__init__(properties={"pending": IntegerAttr(pending, 64)})

    @property
    def count(self) -> int:
        return self.pending.value.data

    def verify_(self) -> None:
        if self.count < 0:
            raise VerifyException("expected a number of groups")

    @classmethod
    def parse(cls, parser: Parser) -> WaitOp:
        return cls(parser.parse_integer())

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.count}")


@irdl_op_definition
class FinishOp(IRDLOperation):
    """A sum of products with the attribute `in_flight`, once the last of them is done. Such a
    product may still be under way when the next operation begins; until this one, or the next but
    one of them, it reads shared memory, and nothing but further products may use its result."""

    name = "tile.finish"

    TILE: ClassVar = VarConstraint("TILE", BaseAttr(VectorType))

    input = operand_def(TILE)
    result = result_def(TILE)
    traits = traits_def(MemoryReadEffect())
    assembly_format = "$input attr-dict `:` type($result)"

    def __init__(self, value: SSAValue):
        super().__init__(operands=[value], result_types=[value.type])


ASYNC_OPERATIONS: tuple[type[Operation], ...] = (SharedOp, CopyOp, CommitOp, WaitOp, FinishOp)
