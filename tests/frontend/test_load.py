"""Reading programs: paths, texts and imports."""

from pathlib import Path

import pytest

from hectorite.dialects.graph import FuncOp
from hectorite.frontend.to_graph.program import load_source
from hectorite.ir.diagnostics import HectoriteError


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.hec").write_text(text)
    return folder / f"{next(reversed(texts))}.hec"


def functions(path: Path) -> list[str]:
    return [op.sym_name.data for op in load_source(path).ops if isinstance(op, FuncOp)]


DOUBLE = (
    "fn twice(x) = 2 * x\ndef double(x: f32[N]) -> f32[N] {\n  y[i] = twice(x[i])\n  return y\n}\n"
)
USE = "def use(x: f32[N]) -> f32[N] {\n  y = double(x)\n  z[i] = twice(y[i])\n  return z\n}\n"


def test_import_shares_declarations(tmp_path: Path):
    path = write(tmp_path, double=DOUBLE, use='import "double.hec"\n' + USE)
    assert functions(path) == ["double", "use"]


def test_each_file_once_even_in_a_circle(tmp_path: Path):
    both = 'import "double.hec"\nimport "./double.hec"\nimport "use.hec"\n'
    path = write(tmp_path, double='import "use.hec"\n' + DOUBLE, use=both + USE)
    assert functions(path) == ["double", "use"]


def test_paths_are_relative_to_the_importing_file(tmp_path: Path):
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib", sets="set node\n", double='import "sets.hec"\n' + DOUBLE)
    path = write(tmp_path, use='import "lib/double.hec"\n' + USE)
    assert functions(path) == ["double", "use"]


def test_errors_name_the_file_they_are_in(tmp_path: Path):
    path = write(tmp_path, double="set 3\nset a b\n", use='import "double.hec"\n' + USE)
    with pytest.raises(HectoriteError) as caught:
        load_source(path)
    names = [Path(d.source.name).name for d in caught.value.diagnostics if d.source]
    assert names == ["double.hec", "double.hec"]


def test_missing_import_suggests_a_file(tmp_path: Path):
    path = write(tmp_path, double=DOUBLE, use='import "duoble.hec"\n' + USE)
    with pytest.raises(HectoriteError, match="did you mean `double.hec`"):
        load_source(path)


@pytest.mark.parametrize("name", ["nowhere.hec", "", "a\0b"])
def test_missing_file(name: str, tmp_path: Path):
    with pytest.raises(HectoriteError, match="cannot read"):
        load_source(str(tmp_path / "x" / name) if name == "nowhere.hec" else name)


def test_file_that_is_no_text(tmp_path: Path):
    path = tmp_path / "x.hec"
    path.write_bytes(b"set \xff\xfe\n")
    with pytest.raises(HectoriteError, match="byte 4 is not UTF-8"):
        load_source(path)
