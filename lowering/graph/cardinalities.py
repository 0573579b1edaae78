"""What is known about the data that a program will run on: numbers of elements, as text and back.

Enters: texts, from bound data (`backends/bound/cardinalities.py`) or the command line. Leaves:
`Extents`.

    edge=620232             elements of a set
    edge(src,type)=161922   distinct tuples of paths out of it
    edge^dst=8642           elements that the busiest image of a path has
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from hectorite.ir.diagnostics import fail
from hectorite.ir.extents import Extents
from hectorite.ir.schema import Schema
from hectorite.lowering.graph.derived_sets import Fields

_PATH = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_TEXT = re.compile(rf"([A-Za-z_]\w*)(?:\(({_PATH}(?:,{_PATH})*)\)|\^({_PATH}))?=(\d+)")


@dataclass(frozen=True)
class Cardinalities:
    """Numbers of elements, of distinct tuples, and of the elements of the busiest image."""

    sizes: dict[str, int] = field(default_factory=dict[str, int])
    counts: dict[tuple[str, frozenset[Fields]], int] = field(
        default_factory=dict[tuple[str, frozenset[Fields]], int]
    )
    degrees: dict[tuple[str, Fields], int] = field(default_factory=dict[tuple[str, Fields], int])

    def extents(self, schema: Schema) -> Extents:
        """Sizes for a cost model."""
        return Extents(schema, self.sizes, self.counts, self.degrees)

    @property
    def texts(self) -> tuple[str, ...]:
        """What `parse_cardinalities` reads, sorted."""
        found = [f"{name}={n}" for name, n in self.sizes.items()]
        for (owner, paths), n in self.counts.items():
            found.append(f"{owner}({','.join(sorted('.'.join(path) for path in paths))})={n}")
        found += [f"{owner}^{'.'.join(path)}={n}" for (owner, path), n in self.degrees.items()]
        return tuple(sorted(found))


def parse_cardinalities(texts: Iterable[str]) -> Cardinalities:
    """Texts as above; `HectoriteError` for anything else."""
    found = Cardinalities()
    for text in texts:
        matched = _TEXT.fullmatch(text.replace(" ", ""))
        if matched is None:
            expected = "SET=INTEGER, SET(PATH,PATH)=INTEGER or SET^PATH=INTEGER"
            raise fail(f"`{text}` is not a cardinality", expected=f"{expected}, as edge=1000")
        owner, paths, path, number = matched.groups()
        if paths is not None:
            key = frozenset(tuple(part.split(".")) for part in paths.split(","))
            found.counts[owner, key] = int(number)
        elif path is not None:
            found.degrees[owner, tuple(path.split("."))] = int(number)
        else:
            found.sizes[owner] = int(number)
    return found
