"""What the host does to run a compiled program: a recipe that JSON can hold.

Enters: a module with one `tile.program`. Leaves: a `Plan`, which with the machine code of the
kernels is all that a compiled program consists of. It is written at the head of LLVM IR and
assembly as comment lines, so that such a file alone can be bound and run:

    ; hectorite plan 1
    ; {"name": "scale",
    ;  "sets": ["graph.set @node"],
    ;  "parameters": [["x", "f32", ["node", 64]]],
    ;  "results": [1],
    ;  "steps": [
    ;   {"do": "allocate", "to": 1, "element": "f32", "dims": ["node", 64]},
    ;   {"do": "size", "to": 2, "of": "node"},
    ;   {"do": "launch", "kernel": "rows", "arguments": [0, 1], "sizes": ["node"], "tasks": 2}]}

Values are numbered: first the parameters, then what each step makes (`to`). Steps are

    allocate  element dims                  a tensor, its contents unspecified
    layout    what of keys path limit       an int32 array that depends on the bound sets alone
    length    of                            number of elements of a layout
    size      of                            number of elements of a set, or value of a size
    constant  number                        an integer
    compute   function arguments            a scalar function of integers
    launch    kernel arguments sizes tasks  run a kernel for each task; see `cpu/kernel.py`

A launch on a GPU says also how tasks are put together: `block` threads make a block, which does
`per_block` tasks with `shared` bytes of dynamic shared memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.parser import Parser
from xdsl.utils.exceptions import DiagnosticException, ParseError

from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import DeclarationOp, schema_of
from hectorite.dialects.tile import KernelOp, SizeOp
from hectorite.dialects.tile_program import (
    AllocateOp,
    LaunchOp,
    LayoutOp,
    LengthOp,
    ProgramOp,
    ReturnOp,
)
from hectorite.ir.diagnostics import Source, fail
from hectorite.ir.element import INDEX, element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp
from hectorite.ir.schema import Schema
from hectorite.ir.space import AccessAttr, Dim, TensorType, index_from_text
from hectorite.lowering.kernels.kernel_sizes import kernel_sizes

HEADER = "hectorite plan 1"
COMMENT = {"llvm": ";", "asm": "#", "ptx": "//"}
"""How a comment line begins in the text of each level."""


LayoutFacts = tuple[str, str, tuple[IndexExpr, ...], IndexExpr | None, int]
"""What, of which set, by which keys, along which path, with which limit."""


@dataclass(frozen=True)
class Parameter:
    """A tensor or, if `dims` is None, a number that the caller passes."""

    name: str
    element: str
    dims: tuple[Dim, ...] | None


@dataclass(frozen=True)
class Blocks:
    """How a GPU kernel is launched: `block` threads do `per_block` tasks, with `shared` bytes of
    dynamic shared memory."""

    block: int
    per_block: int
    shared: int = 0


@dataclass(frozen=True)
class Plan:
    """The recipe; the head of this file says what it holds."""

    name: str
    sets: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    results: tuple[int, ...]
    steps: tuple[Mapping[str, Any], ...]

    @property
    def schema(self) -> Schema:
        """The sets and sizes that the program declares."""
        text = "\n".join(("builtin.module {", *self.sets, "}"))
        return schema_of(Parser(make_context(), text).parse_module())

    @cached_property
    def layouts(self) -> Mapping[int, LayoutFacts]:
        """What each layout asks of a binding, by the number of its value."""
        return {
            step["to"]: (
                step["what"],
                step["of"],
                tuple(map(index_from_text, step.get("keys", ()))),
                index_from_text(step["path"]) if "path" in step else None,
                step.get("limit", 0),
            )
            for step in self.steps
            if step["do"] == "layout"
        }

    def with_blocks(self, blocks: Mapping[str, Blocks]) -> Plan:
        """This plan for a GPU; `blocks` tells for each kernel what its launches need to know."""
        steps = tuple(
            {**step, **asdict(blocks[step["kernel"]])} if step["do"] == "launch" else step
            for step in self.steps
        )
        return replace(self, steps=steps)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON holds it."""
        facts = asdict(self)
        facts["parameters"] = [[p.name, p.element, p.dims] for p in self.parameters]
        return facts

    @staticmethod
    def from_json(facts: Mapping[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        parameters = (
            Parameter(name, element, None if dims is None else tuple(dims))
            for name, element, dims in facts["parameters"]
        )
        return Plan(
            facts["name"],
            tuple(facts["sets"]),
            tuple(parameters),
            tuple(facts["results"]),
            tuple(facts["steps"]),
        )


def plan_of(module: ModuleOp) -> Plan:
    """The plan of the one `tile.program` of a module."""
    return _Planner(module).plan


def program_of(module: ModuleOp) -> ProgramOp:
    """The one `tile.program` of a module. Raises `HectoriteError` if there is not one."""
    programs = [op for op in module.ops if isinstance(op, ProgramOp)]
    if len(programs) != 1:
        raise fail(f"a module has {len(programs)} programs", expected="one tile.program")
    return programs[0]


class _Planner:
    """Turns the operations of a program into steps."""

    def __init__(self, module: ModuleOp):
        program = program_of(module)
        block = program.body.block
        self.kernels = {op.sym_name.data: op for op in module.ops if isinstance(op, KernelOp)}
        self.numbers: dict[SSAValue, int] = {arg: n for n, arg in enumerate(block.args)}
        self.steps: list[Mapping[str, Any]] = []
        self.results: tuple[int, ...] = ()
        for op in block.ops:
            self.step(op)
        declared = (str(op) for op in module.ops if isinstance(op, DeclarationOp))
        parameters = (
            _parameter(name, type) for name, type in zip(program.names, program.inputs, strict=True)
        )
        name = program.sym_name.data
        self.plan = Plan(name, tuple(declared), tuple(parameters), self.results, tuple(self.steps))

    def step(self, op: Operation) -> None:
        if isinstance(op, ReturnOp):
            self.results = tuple(self.numbers[value] for value in op.operands)
        elif isinstance(op, LaunchOp):
            self.launch(op)
        elif isinstance(op, CastOp):
            self.numbers[op.result] = self.numbers[op.input]
        elif isinstance(op, ScalarOp):
            arguments = [self.numbers[value] for value in op.operands]
            self.add(op, "compute", function=op.FUNCTION.name, arguments=arguments)
        elif type(op) in _STEPS:
            kind, describe = _STEPS[type(op)]
            self.add(op, kind, **describe(self, op))
        else:
            raise fail(f"a program cannot have {op.name}", expected="tile or scalar operations")

    def add(self, op: Operation, kind: str, **facts: Any) -> None:
        number = len(self.numbers)
        self.numbers[op.results[0]] = number
        self.steps.append({"do": kind, "to": number, **facts})

    def launch(self, op: LaunchOp) -> None:
        name = op.kernel.root_reference.data
        kernel = self.kernels.get(name)
        if kernel is None:
            raise fail(f"the kernel @{name} is launched but not there")
        expected = [value.type for value in kernel.parameters]
        given = [value.type for value in op.arguments]
        if expected != given:
            raise fail(
                f"@{name} is launched with ({', '.join(map(str, given))})",
                expected=f"({', '.join(map(str, expected))})",
            )
        self.steps.append(
            {
                "do": "launch",
                "kernel": name,
                "arguments": [self.numbers[value] for value in op.arguments],
                "sizes": kernel_sizes(kernel),
                "tasks": self.numbers[op.tasks],
            }
        )

    def allocate(self, op: AllocateOp) -> dict[str, Any]:
        type = op.result.type
        return {"element": type.element_type.name, "dims": list(type.dims)}

    def layout(self, op: LayoutOp) -> dict[str, Any]:
        facts: dict[str, Any] = {"what": op.what.data, "of": op.of.data}
        if op.keys.data:
            facts["keys"] = _texts(op.keys)
        if op.path is not None:
            facts["path"] = _texts(op.path)[0]
        if op.limit is not None:
            facts["limit"] = op.limit.value.data
        return facts

    def length(self, op: LengthOp) -> dict[str, Any]:
        return {"of": self.numbers[op.layout]}

    def size(self, op: SizeOp) -> dict[str, Any]:
        return {"of": op.of.data}

    def constant(self, op: ConstantOp) -> dict[str, Any]:
        if op.result.type != INDEX.xdsl:
            raise fail(f"a program computes with {op.result.type}", expected="index")
        return {"number": op.number}


_STEPS: dict[type[Operation], tuple[str, Callable[[_Planner, Any], dict[str, Any]]]] = {
    AllocateOp: ("allocate", _Planner.allocate),
    LayoutOp: ("layout", _Planner.layout),
    LengthOp: ("length", _Planner.length),
    SizeOp: ("size", _Planner.size),
    ConstantOp: ("constant", _Planner.constant),
}


def _parameter(name: str, type: Attribute) -> Parameter:
    if isinstance(type, TensorType):
        return Parameter(name, type.element_type.name, type.dims)
    return Parameter(name, element_of(type).name, None)


def _texts(access: AccessAttr) -> list[str]:
    return [str(expr) for expr in access.data]


def comment(plan: Plan, level: str) -> str:
    """The plan as comment lines at the head of a text of `level`, one of COMMENT."""
    mark = COMMENT[level]
    return "".join(f"{mark} {line}\n" for line in [HEADER, *_lines(plan)])


def plan_from_text(text: str, name: str = "<text>") -> Plan:
    """The plan at the head of LLVM IR, assembly or PTX text.

    `name` is what messages call the text. Raises `HectoriteError` if there is none.
    """
    lines = text.splitlines()
    marks = [mark for mark in COMMENT.values() if lines and lines[0] == f"{mark} {HEADER}"]
    if not marks:
        raise _no_plan(text, name)
    body: list[str] = []
    for line in lines[1:]:
        if not line.startswith(marks[0]):
            break
        body.append(line.removeprefix(marks[0]))
    try:
        plan = Plan.from_json(json.JSONDecoder().raw_decode("\n".join(body).strip())[0])
        _ = plan.schema
    except (ValueError, KeyError, TypeError, ParseError, DiagnosticException) as error:
        raise _no_plan(text, name) from error
    return plan


def _no_plan(text: str, name: str) -> Exception:
    return fail(
        "this text does not begin with the plan of a program",
        source=Source(name, text),
        expected=f"`; {HEADER}` and the plan as comment lines, as `emit` prints them",
    )


def _lines(plan: Plan) -> Sequence[str]:
    """JSON with a line for each fact, and for each step."""
    facts = plan.to_json()
    steps = [json.dumps(step) for step in facts.pop("steps")]
    lines = [f"{json.dumps(key)}: {json.dumps(value)}," for key, value in facts.items()]
    lines.append('"steps": [')
    lines += [f" {step}," for step in steps[:-1]] + [f" {step}" for step in steps[-1:]]
    lines[-1] += "]}"
    return ["{" + lines[0], *(f" {line}" for line in lines[1:])]
