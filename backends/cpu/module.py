"""A module of the `tile` dialect as one LLVM module, and as text that can be fed back and run.

Enters: a module with one `tile.program` and the kernels it launches. Leaves: the program's plan,
and LLVM IR with a function for each kernel and

    void @hectorite.run(ptr %frame)

which makes the launches of the program one after the other. `frame` has for each launch the number
of tasks, then the slots of the kernel (`kernel.py`), 8 bytes each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llvmlite import ir
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from hectorite.backends.cpu import jit
from hectorite.backends.cpu.kernel import emit_kernel
from hectorite.backends.cpu.lanes import I64
from hectorite.backends.cpu.memory import POINTER
from hectorite.backends.host.plan import Plan, comment, plan_of, program_of
from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_memory import StoreOp
from hectorite.dialects.tile_program import LaunchOp, ProgramOp

ENTRY = "hectorite.run"


def compile_tile(module: ModuleOp) -> tuple[Plan, str]:
    """The plan of a module's program, and its kernels as LLVM IR text.

    Raises `HectoriteError` for what this backend has no code for.
    """
    plan = plan_of(module)
    program = program_of(module)
    target = ir.Module(plan.name)
    kernels = {op.sym_name.data: op for op in module.ops if isinstance(op, KernelOp)}
    entries: dict[str, ir.Function] = {}
    for step in _launches(plan):
        name = step["kernel"]
        if name not in entries:
            kernel = kernels[name]
            entries[name] = emit_kernel(target, kernel, distinct_parameters(program, kernel))
    _emit_run(target, plan, entries)
    text = str(target)
    # LLVM IR without these lines is for the host, whichever that is.
    dropped = ("target triple", "target datalayout", "; ModuleID")
    lines = (line for line in text.splitlines() if not line.startswith(dropped))
    return plan, "\n".join(lines).strip() + "\n"


def to_llvm_text(module: ModuleOp) -> str:
    """LLVM IR of a module, its plan ahead as comments."""
    plan, text = compile_tile(module)
    return f"{comment(plan, 'llvm')}\n{text}"


def to_asm_text(module: ModuleOp) -> str:
    """Assembly of a module for this computer, its plan ahead as comments."""
    plan, text = compile_tile(module)
    return f"{comment(plan, 'asm')}\n{jit.compile_assembly(text)}"


def frame_size(step: Mapping[str, Any]) -> int:
    """How many places of the frame a launch has: its tasks, arguments and sizes."""
    return 1 + len(step["arguments"]) + len(step["sizes"])


def distinct_parameters(program: ProgramOp, kernel: KernelOp) -> list[bool]:
    """For each parameter of a kernel, whether in every launch of the program it shares memory with
    no other one, or only with such as no task writes.

    What callers pass may be one array under several names; allocations and layouts are distinct.
    """
    written = {op.tensor for op in kernel.walk() if isinstance(op, StoreOp)}
    writes = [value in written for value in kernel.parameters]
    inputs = set(program.body.block.args)

    def overlap(a: SSAValue, b: SSAValue) -> bool:
        return a is b or (a in inputs and b in inputs)

    distinct = [True] * len(writes)
    for op in program.body.block.ops:
        if not isinstance(op, LaunchOp) or op.kernel.root_reference != kernel.sym_name:
            continue
        for i, a in enumerate(op.arguments):
            for j, b in enumerate(op.arguments):
                if i != j and overlap(a, b) and (writes[i] or writes[j]):
                    distinct[i] = False
    return distinct


def _launches(plan: Plan) -> Iterator[Mapping[str, Any]]:
    return (step for step in plan.steps if step["do"] == "launch")


def _emit_run(module: ir.Module, plan: Plan, entries: Mapping[str, ir.Function]) -> None:
    """The function that makes the launches."""
    nothing = ir.VoidType()
    parallel = ir.Function(
        module, ir.FunctionType(nothing, [POINTER, POINTER, I64]), "hec_parallel"
    )
    function = ir.Function(module, ir.FunctionType(nothing, [POINTER]), ENTRY)
    (frame,) = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    place = 0
    for step in _launches(plan):
        at = [
            builder.gep(frame, [ir.Constant(I64, place + offset)], source_etype=I64, inbounds=True)
            for offset in (0, 1)
        ]
        tasks = builder.load(at[0], typ=I64)
        builder.call(parallel, [entries[step["kernel"]], at[1], tasks])
        place += frame_size(step)
    builder.ret_void()
