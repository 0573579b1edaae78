"""The shape of the code: imports go one way, files stay short, the packages are the folders."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("ir", "dialects", "lowering", "backends", "frontend")
FILES = sorted(file for layer in LAYERS for file in (ROOT / layer).rglob("*.py"))
ALL_FILES = [
    *FILES,
    *sorted(file for folder in ("tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")),
]

MOST_LINES = 600
COMPILER_LINES = 120

BOTH_WAYS = {
    ("graph", "structural"): "the passes that search offer these rewrites, made of its parts",
    ("graph", "match"): "`scatter-products` asks whether a product has a kernel that scatters",
    ("graph", "kernels"): "what is counted depends on the joins that kernels walk through",
    ("graph", "pipelines"): "`optimise-graph` is the pipeline of the graph level as one pass",
    ("match", "formats"): "products with what is kept of a tensor are found in what `nm` writes",
    ("match", "kernels"): "kernels of known shapes are found in plans, and are plans",
    ("match", "gpu"): "a schedule's orders decide about two reductions in one kernel",
    ("kernels", "gpu"): "a schedule's orders decide how rows are shared out",
    ("kernels", "emit"): "`graph_to_tile` plans kernels, then has them written",
    ("gpu", "emit"): "`choose-work` asks which sums can be merged",
    ("gpu", "ptx"): "places of elements are computed as PTX values",
    ("search", "rules"): "pairs of siblings are for rules that are laws",
}
"""Imports between packages of `lowering` against the order of the others, each with its reason."""


def imported(file: Path) -> list[str]:
    """Every module that a file imports, at its top or inside."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}:{node.lineno}: a relative import"
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    return modules


def imported_at_once(file: Path) -> Iterator[str]:
    """Every module that importing a file imports: neither what functions do when they are called,
    nor what only type checkers see."""
    waiting: list[ast.stmt] = list(ast.parse(file.read_text("utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) != "TYPE_CHECKING":
            waiting += (*node.body, *node.orelse)
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            waiting += node.body


def packages_of(layer: str) -> dict[str, set[str]]:
    """For each package of a layer, and each file beside them, those that it imports."""
    found: dict[str, set[str]] = {}
    for file in (ROOT / layer).rglob("*.py"):
        own = file.relative_to(ROOT / layer).with_suffix("").parts[0]
        names = (module.split(".") for module in imported_at_once(file))
        others = {name[2] for name in names if name[:2] == ["hectorite", layer] and len(name) > 2}
        found.setdefault(own, set()).update(others - {own})
    return found


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_go_one_way(file):
    rank = LAYERS.index(file.relative_to(ROOT).parts[0])
    for module in imported(file):
        first, _, rest = module.partition(".")
        assert first not in LAYERS, f"{module} is imported as a bare folder"
        if first == "hectorite" and rest:
            layer = rest.split(".")[0]
            assert layer in LAYERS, f"{module} is no layer"
            assert LAYERS.index(layer) <= rank, f"{name_of(file)} imports {module}, a later layer"


@pytest.mark.parametrize("layer", LAYERS)
def test_packages_of_a_layer_import_one_way(layer):
    found = packages_of(layer)
    excepted = BOTH_WAYS if layer == "lowering" else {}
    for package, other in excepted:
        assert other in found[package], f"{package} no longer imports {other}: no exception"
        found[package].discard(other)
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        pytest.fail(f"packages of {layer} import each other: {' <- '.join(error.args[1])}")


def test_every_file_says_what_it_is_for():
    texts = {name_of(file): file.read_text("utf-8") for file in FILES}
    assert not [name for name, text in texts.items() if not text.startswith('"""')]


def test_files_are_short():
    documents = sorted((ROOT / "docs").glob("*.md"))
    lines = {
        name_of(file): len(file.read_text("utf-8").splitlines())
        for file in (*ALL_FILES, *documents, ROOT / "README.md")
    }
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


def test_the_compiler_fits_on_a_page():
    text = (ROOT / "lowering" / "pipelines.py").read_text("utf-8")
    assert len(text.splitlines()) <= COMPILER_LINES
    assert "lowering/pipelines.py" in (ROOT / "README.md").read_text("utf-8")


def test_no_file_hides_a_standard_module():
    hidden = [file for file in FILES if file.stem in sys.stdlib_module_names]
    assert not hidden


def test_the_packages_are_the_folders():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    folders = sorted({file.parent.relative_to(ROOT) for file in FILES})
    assert sorted(listed) == ["hectorite", *(".".join(("hectorite", *f.parts)) for f in folders)]
    described = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for folder in folders:
        assert (ROOT / folder / "__init__.py").exists()
        assert f"| [{folder.as_posix()}/](../{folder.as_posix()}) |" in described
    for layer in LAYERS:
        assert (ROOT / layer / "py.typed").exists()


def test_every_pass_is_registered():
    from hectorite.frontend.registry import PASSES, UNIVERSE

    defined = {
        (".".join(("hectorite", *file.relative_to(ROOT).with_suffix("").parts)), node.name)
        for file in FILES
        if file.relative_to(ROOT).parts[0] == "lowering"
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and "ModulePass" in map(ast.unparse, node.bases)
    }
    assert defined == set(PASSES.values())
    for name, make in UNIVERSE.all_passes.items():
        assert make().name == name
    for name, make in UNIVERSE.all_dialects.items():
        assert make().name == name
