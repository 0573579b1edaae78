"""A checked function to a `graph.func`.

Calls are put in where they stand, with the sizes of the callee replaced by the caller's. `softmax`
becomes `graph.softmax` of its argument, which a statement of its own computes; `mean` and `mean=`
become a sum and a count:

    m[n] = mean(x[i] by n)      s[n] += x[i];  c[n] += 1;  m[n] = s[n] / c[n]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import FileLineColLoc, IntAttr, StringAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from hectorite.dialects.graph import FuncOp, ReturnOp, SoftmaxOp, StatementOp, YieldOp
from hectorite.frontend.check.typed import (
    Apply,
    Cast,
    CheckedCall,
    CheckedFunction,
    CheckedStatement,
    Constant,
    Dim,
    Grouped,
    Read,
    Scalar,
    TensorSpec,
)
from hectorite.frontend.check.typing_rules import mean_type
from hectorite.frontend.check.weak import BOOL, I32
from hectorite.frontend.to_graph.body import Argument, BodyBuilder, Environment
from hectorite.ir.diagnostics import Source, Span
from hectorite.ir.index import IndexExpr
from hectorite.ir.schedule import ATTRIBUTE, Schedule
from hectorite.ir.space import TensorType

KINDS = {"=": "assign", "+=": "add", "*=": "mul", "max=": "max", "min=": "min"}

Variables = Sequence[tuple[str, Dim]]
Access = tuple[IndexExpr, ...]


def location(source: Source, span: Span) -> FileLineColLoc:
    """Where an operation comes from."""
    return FileLineColLoc(StringAttr(source.name), IntAttr(span.line), IntAttr(span.column))


def tensor_type(spec: TensorSpec, environment: Environment) -> TensorType:
    """The type of a tensor, its sizes those of the outermost caller."""
    dims = [environment.dim(dim) for dim in spec.dims]
    return TensorType.of(spec.element, dims, spec.pad, spec.format)


def build_function(function: CheckedFunction, functions: Mapping[str, CheckedFunction]) -> FuncOp:
    """The function as an operation; `functions` holds those it may call."""
    environment = Environment()
    inputs = [_parameter_type(spec, environment) for spec in function.parameters]
    outputs = [tensor_type(spec, environment) for spec in function.results]
    block = Block(arg_types=inputs)
    names = [spec.name for spec in function.parameters]
    for name, argument in zip(names, block.args, strict=True):
        argument.name_hint = name
        environment.values[name] = argument
    builder = FunctionBuilder(block, functions)
    builder.body(function, environment)
    builder.source, builder.span = function.source, function.returned_at
    results = [
        builder.conform(environment, name, type)
        for name, type in zip(function.returned, outputs, strict=True)
    ]
    builder.add(ReturnOp(*results))
    op = FuncOp(function.name, names, inputs, outputs, Region(block))
    op.location = location(function.source, function.span)
    return op


def _parameter_type(spec: TensorSpec, environment: Environment) -> Attribute:
    """Scalars are passed by value."""
    return tensor_type(spec, environment) if spec.dims else spec.element.xdsl


class FunctionBuilder:
    """Appends statements to the block of one function."""

    def __init__(self, block: Block, functions: Mapping[str, CheckedFunction]):
        self.block = block
        self.functions = functions
        self.source = Source("", "")
        self.span = Span(1, 1, 1, 1)
        self.schedule: Schedule | None = None
        self._temporaries = 0

    def body(self, function: CheckedFunction, environment: Environment) -> None:
        """The statements of a function, its own or one that is called."""
        for item in function.statements:
            self.source, self.span = function.source, item.span
            self.schedule = None
            if isinstance(item, CheckedCall):
                self._call(item, function, environment)
            else:
                self.schedule = function.schedules.get(item.tensor)
                self._statement(item, function.tensors[item.tensor], environment)
        self.schedule = None

    def add(self, op: Operation) -> None:
        """Append an operation; it and all inside come from the statement at hand."""
        place = location(self.source, self.span)
        for inner in op.walk():
            inner.location = place
        self.block.add_op(op)

    def conform(self, environment: Environment, name: str, type: TensorType) -> SSAValue:
        """A tensor or scalar as a value of the given type, copied if its own differs in what is
        only storage."""
        value = environment.values[name]
        if isinstance(value, SSAValue) and value.type == type:
            return value
        variables = [(f"i{k}", dim) for k, dim in enumerate(type.dims)]
        access = tuple(IndexExpr.of(variable) for variable, _ in variables)
        read = Read(type.element_type, name, access)
        return self._emit("assign", access, variables, type, read, environment, name)

    def _emit(
        self,
        kind: str,
        access: Access,
        variables: Variables,
        type: TensorType,
        value: Scalar,
        environment: Environment,
        name: str,
        init: SSAValue | None = None,
    ) -> SSAValue:
        """One `graph.statement`; `variables` and `type` have the sizes of the outermost caller."""
        block = Block()
        result = BodyBuilder(block).value(value, environment)
        block.add_op(YieldOp(result))
        op = StatementOp(kind, environment.access(access), variables, type, block, init)
        op.result.name_hint = name
        if self.schedule is not None:
            op.attributes[ATTRIBUTE] = self.schedule.attribute
        self.add(op)
        return op.result

    def _statement(
        self, item: CheckedStatement, spec: TensorSpec, environment: Environment
    ) -> None:
        variables = [(name, environment.dim(dim)) for name, dim in item.variables]
        self._replace_grouped(item.value, variables, environment)
        type = tensor_type(spec, environment)
        if item.operator == "mean=":
            self._mean_statement(item, type, variables, environment)
            return
        group = environment.grouped.get(item.value) if isinstance(item.value, Grouped) else None
        if item.operator == "=" and not item.continues and group is not None:
            whole = self._plain_read(group, item.access, type, environment)
            if whole is not None:  # the statement says no more than the softmax does
                whole.name_hint = item.tensor
                environment.values[item.tensor] = whole
                return
        init = self.conform(environment, item.tensor, type) if item.continues else None
        environment.values[item.tensor] = self._emit(
            KINDS[item.operator],
            item.access,
            variables,
            type,
            item.value,
            environment,
            item.tensor,
            init,
        )

    # softmax and mean

    def _replace_grouped(
        self, value: Scalar, variables: Variables, environment: Environment
    ) -> None:
        """Compute every softmax and mean in an expression, innermost first."""
        for grouped in _grouped_in(value):
            if grouped in environment.grouped:
                continue
            if grouped.kind == "softmax":
                replacement = self._softmax(grouped, variables, environment)
            else:
                dims = [environment.dim(dim) for dim in grouped.key_dims]
                replacement = self._mean(
                    grouped.argument, grouped.keys, dims, None, variables, environment
                )
            environment.grouped[grouped] = replacement

    def _softmax(self, grouped: Grouped, variables: Variables, environment: Environment) -> Scalar:
        """The argument at all points, its softmax, and the read that stands for it."""
        element = grouped.argument.type
        type = TensorType.of(element, [dim for _, dim in variables])
        access = tuple(IndexExpr.of(name) for name, _ in variables)
        argument = self._plain_read(grouped.argument, access, type, environment)
        if argument is None:
            argument = self._emit(
                "assign", access, variables, type, grouped.argument, environment, "argument"
            )
        keys = environment.access(grouped.keys)
        op = SoftmaxOp(argument, access, keys, variables, type)
        op.result.name_hint = "softmax"
        self.add(op)
        return Read(element, self._temporary(environment, op.result), access)

    @staticmethod
    def _plain_read(
        argument: Scalar, access: Access, type: TensorType, environment: Environment
    ) -> SSAValue | None:
        """The tensor, if the argument is nothing but its element at each point."""
        if not isinstance(argument, Read) or argument.access != access:
            return None
        value = environment.values[argument.tensor]
        return value if isinstance(value, SSAValue) and value.type == type else None

    def _mean(
        self,
        value: Scalar,
        access: Access,
        dims: Sequence[Dim],
        pad: float | int | None,
        variables: Variables,
        environment: Environment,
        empty: float | None = None,
    ) -> Scalar:
        """Sum and count over the points that share an access; the quotient that reads them.

        A dimension that a variable has to itself does not change the count, so the count goes
        without it. `empty` is the quotient where nothing was counted.
        """
        element = value.type
        sum_type = TensorType.of(element, dims, pad)
        total = self._emit("add", access, variables, sum_type, value, environment, "sum")
        alone = _standing_alone(access)
        kept = [k for k, index in enumerate(access) if index.variable not in alone]
        count_access = tuple(access[k] for k in kept)
        counted = self._emit(
            "add",
            count_access,
            [(name, dim) for name, dim in variables if name not in alone],
            TensorType.of(I32, [dims[k] for k in kept], pad),
            Constant(I32, 1),
            environment,
            "count",
        )
        if empty is not None:
            access = tuple(IndexExpr.of(f"i{k}") for k in range(len(access)))
            count_access = tuple(access[k] for k in kept)
        quotient = mean_type(element).compute
        top = Read(element, self._temporary(environment, total), access)
        bottom = Read(I32, self._temporary(environment, counted), count_access)
        parts = [part if part.type == quotient else Cast(quotient, part) for part in (top, bottom)]
        divided = Apply(quotient, "div", tuple(parts))
        if empty is None:
            return divided
        none = Apply(BOOL, "eq", (bottom, Constant(I32, 0)))
        return Apply(quotient, "select", (none, Constant(quotient, empty), divided))

    def _mean_statement(
        self,
        item: CheckedStatement,
        type: TensorType,
        variables: Variables,
        environment: Environment,
    ) -> None:
        value = self._mean(
            item.value, item.access, type.dims, type.pad_value, variables, environment, 0.0
        )
        points = [(f"i{k}", dim) for k, dim in enumerate(type.dims)]
        access = tuple(IndexExpr.of(name) for name, _ in points)
        environment.values[item.tensor] = self._emit(
            "assign", access, points, type, value, environment, item.tensor
        )

    def _temporary(self, environment: Environment, value: SSAValue) -> str:
        """A name for a tensor that the program does not name; no program can spell it."""
        self._temporaries += 1
        name = f"{self._temporaries}."
        environment.values[name] = value
        return name

    # Calls

    def _call(self, call: CheckedCall, caller: CheckedFunction, environment: Environment) -> None:
        callee = self.functions[call.function]
        sizes = {name: environment.dim(dim) for name, dim in call.sizes.items()}
        inner = Environment(sizes=sizes)
        for spec, argument in zip(callee.parameters, call.arguments, strict=True):
            if isinstance(argument, Scalar):
                inner.values[spec.name] = Argument(argument, environment)
            elif spec.dims:
                type = tensor_type(spec, inner)
                inner.values[spec.name] = self.conform(environment, argument, type)
            else:
                inner.values[spec.name] = environment.values[argument]
        self.body(callee, inner)
        self.source, self.span = caller.source, call.span
        results = [
            self.conform(inner, name, tensor_type(caller.tensors[target], environment))
            for target, name in zip(call.targets, callee.returned, strict=True)
        ]
        for target, result in zip(call.targets, results, strict=True):
            result.name_hint = target
            environment.values[target] = result


def _grouped_in(value: Scalar) -> list[Grouped]:
    """Every softmax and mean in an expression, those inside others first."""
    found: dict[Grouped, None] = {}
    seen: set[Scalar] = set()
    pending: list[tuple[Scalar, bool]] = [(value, False)]
    while pending:
        scalar, below_done = pending.pop()
        if below_done and isinstance(scalar, Grouped):
            found[scalar] = None
        if below_done or scalar in seen:
            continue
        seen.add(scalar)
        pending.append((scalar, True))
        if isinstance(scalar, Apply):
            pending += [(part, False) for part in reversed(scalar.arguments)]
        elif isinstance(scalar, Cast | Grouped):
            pending.append((scalar.argument, False))
    return list(found)


def _standing_alone(access: Access) -> set[str]:
    """Variables that are a dimension of their own and stand nowhere else."""
    occurrences = [name for index in access for name in index.variables]
    plain = (index.variable for index in access)
    return {name for name in plain if name is not None and occurrences.count(name) == 1}
