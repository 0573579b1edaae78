"""What is stored in parts: a parameter, or a set.

Enters: a function, a parameter, and the types of its parts. Leaves: parameters for the parts in the
place of the one, every statement that reads it rewritten by whoever knows the format. Which modules
are over parts already, `is_stored` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from xdsl.dialects.builtin import FunctionType, ModuleOp, StringAttr
from xdsl.ir import BlockArgument, SSAValue

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.dialects.sparse import PositionSetOp
from hectorite.ir.diagnostics import fail
from hectorite.ir.space import TensorType
from hectorite.ir.tensor_format import BLOCKS, CODES, VALUES

Rewrite = Callable[[StatementOp, Sequence[SSAValue]], None]
"""Takes a statement that reads the parameter, and the parts."""


def is_stored(module: ModuleOp) -> bool:
    """Whether a module is of the level `sparse`: it has a part of a set, or of a parameter."""
    suffixes = (VALUES, CODES, BLOCKS)
    return any(
        isinstance(op, PositionSetOp)
        or (isinstance(op, FuncOp) and any(name.endswith(suffixes) for name in op.names))
        for op in module.ops
    )


def in_parts(
    function: FuncOp,
    argument: BlockArgument,
    name: str,
    types: Mapping[str, TensorType],
    rewrite: Rewrite,
    hint: str,
) -> None:
    """Put parts in the place of a parameter that is called `name`. `types` has the type of each by
    the end of its name.

    Raises `HectoriteError`, with `hint`, if the parameter is needed as a whole.
    """
    block, position = function.body.block, argument.index
    parts = [block.insert_arg(type, position + n) for n, type in enumerate(types.values(), 1)]
    for use in list(argument.uses):
        user = use.operation.parent_op() if isinstance(use.operation, ReadOp) else use.operation
        if not isinstance(user, StatementOp):
            raise fail(f"`{name}` is stored in parts and needed as a whole", hint=hint)
        if user.parent is not None:
            rewrite(user, parts)
    names = function.names
    names[position : position + 1] = [name + suffix for suffix in types]
    block.erase_arg(argument)
    function.properties["arg_names"] = StringAttr(" ".join(names))
    inputs = [arg.type for arg in block.args]
    function.properties["function_type"] = FunctionType.from_lists(inputs, function.outputs)
