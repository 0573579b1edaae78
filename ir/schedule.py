"""What a program's `schedule { ... }` pins: orders about how a tensor is computed.

    schedule { y: tile(n = 64, o = 64, i = 32) pipeline(3) work(split) }

Enters and leaves: a `Schedule`, and the attribute that carries it on the statements of the graph
dialect: `{of = "y", tile = {n = 64, o = 64, i = 32}, pipeline = 3, work = "split"}`. A compiler
that chooses something itself writes it in the same way, with `chosen`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, StringAttr, UnitAttr
from xdsl.ir import Attribute, Operation

ATTRIBUTE = "schedule"
WORK = ("row", "window", "split", "merge", "persistent")
"""How rows are shared out: a task for each; like numbers of elements; long rows among several
tasks, which add to memory; the same, and a second kernel puts the parts together in order; as many
tasks as the machine holds, each of which does many blocks or rows."""

MOST_TILE = 256
MOST_STAGES = 8


@dataclass(frozen=True)
class Schedule:
    """The orders for one tensor: `tile` gives extents of index variables, `pipeline` a number of
    stages, `work` one of `WORK`. What is `chosen` by a compiler, not by a program, has no effect
    where it cannot be followed."""

    of: str
    tile: Mapping[str, int] = field(default_factory=dict[str, int])
    pipeline: int | None = None
    work: str | None = None
    chosen: bool = False

    @property
    def attribute(self) -> DictionaryAttr:
        """The attribute of a statement."""
        data: dict[str, Attribute] = {"of": StringAttr(self.of)}
        if self.tile:
            extents = {name: IntegerAttr(extent, 64) for name, extent in self.tile.items()}
            data["tile"] = DictionaryAttr(cast(dict[str, Attribute], extents))
        if self.pipeline is not None:
            data["pipeline"] = IntegerAttr(self.pipeline, 64)
        if self.work is not None:
            data["work"] = StringAttr(self.work)
        if self.chosen:
            data["chosen"] = UnitAttr()
        return DictionaryAttr(data)

    def renamed(self, old: str, new: str) -> "Schedule":
        """The same orders, about a variable by another name."""
        tile = {new if name == old else name: extent for name, extent in self.tile.items()}
        return replace(self, tile=tile)

    @staticmethod
    def on(statement: Operation) -> "Schedule | None":
        """The schedule that a statement carries."""
        found = statement.attributes.get(ATTRIBUTE)
        if not isinstance(found, DictionaryAttr) or not isinstance(
            found.data.get("of"), StringAttr
        ):
            return None
        data = found.data
        tile = data.get("tile")
        extents = tile.data if isinstance(tile, DictionaryAttr) else dict[str, Attribute]()
        work = data.get("work")
        return Schedule(
            cast(StringAttr, data["of"]).data,
            {name: n for name, value in extents.items() if (n := _number(value)) is not None},
            _number(data.get("pipeline")),
            work.data if isinstance(work, StringAttr) and work.data in WORK else None,
            "chosen" in data,
        )


def _number(attribute: Attribute | None) -> int | None:
    return attribute.value.data if isinstance(attribute, IntegerAttr) else None
