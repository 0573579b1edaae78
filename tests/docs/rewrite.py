"""Write into documents what their programs and commands give now: `python tests/docs/rewrite.py
docs/FILE.md`, so that a change is reviewed as a difference. Blocks with `...` stay.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
from conftest import (
    Block,
    Example,
    Session,
    emitted,
    is_abbreviated,
    messages_of,
    read_commands,
    read_examples,
    shown_values,
    write_files,
)


def new_text(example: Example, session: Session) -> tuple[Block, str] | None:
    """A block and its text as it is now, None for one that is written by hand."""
    block, after = example.block, example.after
    if after and (block.kind, after.kind) in (("hec", "warning"), ("hec-error", "text")):
        return after, messages_of(example.program)
    if block.kind == "values":
        given = re.sub(r"^\S+ == .*\n", "", block.text, flags=re.MULTILINE)
        lines = (
            f"{name} == {np.round(value.astype(np.float64), 4).tolist()}\n"
            if value.dtype.kind in "fV"
            else f"{name} == {value.tolist()}\n"
            for name, _, value in shown_values(example.program, block.text, "reference")
        )
        return block, given + "".join(lines)
    if block.kind == "python":
        session.python(block.text, "")
    if block.kind == "mlir" and block.option("emit") and not is_abbreviated(block.text):
        return block, emitted(example.program, block)
    if block.kind == "console":
        commands = read_commands(block.text)
        outputs = (
            shown if is_abbreviated(shown) else session.console(command)
            for command, shown in commands
        )
        return block, "".join(f"$ {c}\n{o}" for (c, _), o in zip(commands, outputs, strict=True))
    return None


def rewrite(path: Path, folder: Path) -> None:
    """Bring a document up to date."""
    write_files(path, folder)
    text, session = path.read_text("utf-8"), Session(folder)
    os.chdir(folder)
    changes = list[tuple[Block, str]]()
    for example in read_examples(path):
        try:
            change = new_text(example, session)
        except Exception as error:
            print(f"{path.name}, {example.name}: {error}", file=sys.stderr)
            continue
        if change is not None:
            changes.append(change)
    for block, new in reversed(changes):
        text = text[: block.start] + new + text[block.stop :]
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as scratch:
            rewrite(Path(name).resolve(), Path(scratch))
