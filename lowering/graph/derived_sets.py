"""Sets of distinct tuples that passes compute on, and what is known about paths through them.

Enters: a schema, a set and paths out of it, `(e.src, e.type)`. Leaves: the derived set whose
elements are the distinct tuples, new or found if it already was there, with the map into it;
`derive` declares it in a module, others in the schema that they search with.

    graph.derive @edge_src_type {src: node, type: etype} = distinct [e.src, e.type]
                                for (e: edge) as src_type
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import DeclarationOp, DeriveOp, schema_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Derivation, Schema, SetDecl
from hectorite.ir.space import TensorType

Fields = tuple[str, ...]
"""A path without its variable: the maps it follows."""


@dataclass(frozen=True)
class Factor:
    """A map along which to compute: `position` leads from a set to `set_name`, and from there each
    of the old paths goes on as `rest[path]`."""

    set_name: str
    position: Fields
    rest: dict[Fields, Fields]


def position_maps(schema: Schema, set_name: str) -> dict[str, list[Fields]]:
    """The derived sets that every element of a set has a place in: position field -> the paths
    that are its keys, in order. Keys that are not paths are left out, with their set."""
    found = dict[str, list[Fields]]()
    for decl in schema.sets.values():
        derivation = decl.derivation
        if derivation is None or derivation.position is None:
            continue
        keys = [key.path for key in derivation.keys]
        if derivation.binders[0][1] == set_name and None not in keys:
            found[derivation.position] = [key.fields for key in keys if key is not None]
    return found


def independent(schema: Schema, set_name: str, paths: Sequence[Fields]) -> list[Fields]:
    """Those of the paths that determine all others: without those that another path passes
    through on its way, or that are determined by a position map which is a path itself."""
    positions = position_maps(schema, set_name)

    def determines(one: Fields, other: Fields) -> bool:
        if other[: len(one)] == one:
            return True
        keys = positions.get(one[0], []) if len(one) == 1 else []
        return any(other[: len(key)] == key for key in keys)

    unique = list(dict.fromkeys(paths))
    return [
        path
        for i, path in enumerate(unique)
        if not any(
            determines(other, path) and (not determines(path, other) or j < i)
            for j, other in enumerate(unique)
            if j != i
        )
    ]


def single_map(schema: Schema, set_name: str, paths: Sequence[Fields]) -> Factor | None:
    """The one map through which all paths go, if there is one."""
    core = independent(schema, set_name, paths)
    common = core[0]
    for path in core[1:]:
        shared = 0
        while shared < min(len(common), len(path)) and common[shared] == path[shared]:
            shared += 1
        common = common[:shared]
    if not common:
        return None
    target = schema.follow(set_name, common)
    keys = position_maps(schema, set_name).get(common[0], []) if len(common) == 1 else []
    fields = [name for name, _ in schema.sets[target].fields]
    rest = dict[Fields, Fields]()
    for path in paths:
        if path[: len(common)] == common:
            rest[path] = path[len(common) :]
            continue
        key = next(key for key in keys if path[: len(key)] == key)
        rest[path] = (fields[keys.index(key)], *path[len(key) :])
    return Factor(target, common, rest)


def derive(module: ModuleOp, set_name: str, paths: Sequence[Fields]) -> Factor:
    """The map into the set of distinct tuples of the paths, declared if it is not yet."""
    decl, factor = distinct(schema_of(module), set_name, paths, set(size_variables(module)))
    derivation = None if decl is None else decl.derivation
    if decl is not None and derivation is not None:
        op = DeriveOp(
            decl.name,
            dict(decl.fields),
            derivation.keys,
            derivation.binders,
            position=derivation.position,
        )
        block = module.body.block
        declarations = [op for op in block.ops if isinstance(op, DeclarationOp)]
        block.insert_op_after(op, declarations[-1])
    return factor


def distinct(
    schema: Schema, set_name: str, paths: Sequence[Fields], taken: Collection[str] = ()
) -> tuple[SetDecl | None, Factor]:
    """The set of distinct tuples of the paths, None if the schema has it, and the map into it.
    `taken` are names besides those of the schema that a new set must not have."""
    core = independent(schema, set_name, paths)
    decl = None
    position = _existing(schema, set_name, core)
    if position is None:
        decl = _declaration(schema, set_name, core, taken)
        assert decl.derivation is not None
        position = str(decl.derivation.position)
        schema = Schema({**schema.sets, decl.name: decl}, schema.sizes)
    factor = single_map(schema, set_name, [(position,), *paths])
    assert factor is not None
    return decl, factor


def derived_name(set_name: str, paths: Sequence[Fields]) -> str:
    """What the set of distinct tuples of some paths is called: `edge_src_type`."""
    return "_".join((set_name, *("_".join(path) for path in paths)))


def _existing(schema: Schema, set_name: str, core: Sequence[Fields]) -> str | None:
    for position, keys in position_maps(schema, set_name).items():
        if set(keys) == set(core):
            return position
    return None


def _declaration(
    schema: Schema, set_name: str, core: Sequence[Fields], taken: Collection[str]
) -> SetDecl:
    name = _unused(derived_name(set_name, core), {*schema.sets, *schema.sizes, *taken})
    position = _unused(derived_name("", core).strip("_"), set(schema.fields_of(set_name)))
    fields = dict[str, str]()
    for path in core:
        fields[_unused("_".join(path), set(fields))] = schema.follow(set_name, path)
    keys = tuple(IndexExpr.of("e", *path) for path in core)
    derivation = Derivation(keys, (("e", set_name),), position=position)
    return SetDecl(name, tuple(fields.items()), derivation)


def size_variables(module: ModuleOp) -> Iterator[str]:
    """Names in the shapes of functions, which a new set must not capture."""
    for func in module.ops:
        if isinstance(func, FuncOp):
            for type in (*func.inputs, *func.outputs):
                if isinstance(type, TensorType):
                    yield from (dim for dim in type.dims if isinstance(dim, str))


def _unused(name: str, taken: set[str]) -> str:
    number, wanted = 2, name
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


def resolve(schema: Schema, over: str, path: Path) -> IndexExpr:
    """A path without detours: a field of a derived set, reached through the position map into it,
    is the key it was made from (`e.src_type.src` is `e.src`)."""
    here = over
    for i, name in enumerate(path.fields[:-1]):
        keys = _keys_reached(schema, here, name)
        following = path.fields[i + 1]
        target = schema.fields_of(here)[name]
        declared = [field for field, _ in schema.sets[target].fields]
        if keys is not None and following in declared:
            key = keys.keys[declared.index(following)]
            prefix, rest = path.fields[:i], path.fields[i + 2 :]
            if key.path is not None:
                fields = (*prefix, *key.path.fields, *rest)
                return resolve(schema, over, Path(path.variable, fields))
            if not rest:
                return key.substitute(
                    lambda p, prefix=prefix: IndexExpr.of(path.variable, *prefix, *p.fields)
                )
        here = target
    return IndexExpr.of(path.variable, *path.fields)


def _keys_reached(schema: Schema, set_name: str, name: str) -> Derivation | None:
    """The derivation whose position map is the field `name` of a set."""
    for decl in schema.sets.values():
        derivation = decl.derivation
        if derivation is None or derivation.position != name:
            continue
        if derivation.binders[0][1] == set_name:
            return derivation
    return None
