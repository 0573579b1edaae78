"""The CUDA backend: real cuda-python on a stand-in for the driver, in processes of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hectorite.backends.cuda.driver import stream_handle
from hectorite.ir.diagnostics import HectoriteError
from tests.driver import stand_in

ROOT = Path(__file__).parents[2]

pytest.importorskip("cuda.bindings.driver")
NEEDS_COMPILER = pytest.mark.skipif(stand_in.COMPILER is None, reason="no C compiler")
NEEDS_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is for Linux")

PREPARE = """
import json, sys
import numpy as np
import hectorite
from hectorite.backends.cuda.driver import check, device, driver
from hectorite.backends.cuda.memory import download, pool, synchronise, upload
from tests.driver.stand_in import calls

PROGRAM = '''
set node
set edge { src: node, dst: node }

def spread(w: f32[edge], x: f32[node, F], scale: f32) -> f32[node, F] {
  y[e.dst, f] += scale * w[e] * x[e.src, f]
  return y
}

def both(x: f32[node, F]) -> (f32[node, F], f32[node, F], f32[node]) {
  y[v, f] = 2.0 * x[v, f]
  z[v] += y[v, f] * y[v, f]
  return y, x, z
}
'''
rng = np.random.default_rng(0)
src, dst = rng.integers(0, 40, (2, 300)).astype("i4")
w, x = rng.standard_normal(300).astype("f4"), rng.standard_normal((40, 17)).astype("f4")
want = np.zeros((40, 17))
np.add.at(want, dst, 0.5 * w[:, None].astype(float) * x[src])
facts = {}


def compiled():
    program = hectorite.compile(PROGRAM, target="cuda", sizes={"F": 17})
    return program, program.bind(node=40, edge={"src": src, "dst": dst})


def put(array):
    span = pool(0).empty(array.shape, array.dtype, 0)
    with device().active():
        upload(array, span, 0)
    return span


def get(span):
    array = np.empty(span.shape, span.dtype)
    with device().active():
        download(span, array, 0)
        synchronise(0)
    return array


def error(array, factor=1.0):
    return float(abs(array - factor * want).max())
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stand_in.build(tmp_path_factory.mktemp("driver"))


def facts_of(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run(library: Path, code: str, **environment: str) -> dict:
    return facts_of(
        stand_in.run(library, f"{PREPARE}\n{code}\nprint(json.dumps(facts))", **environment)
    )


@NEEDS_COMPILER
@NEEDS_LINUX
def test_a_program_from_text_to_results(library: Path, tmp_path: Path):
    code = """
program, graph = compiled()
y = program.spread(graph, w=w, x=x, scale=0.5)
facts["type"], facts["error"] = type(y).__name__, error(y)
out = np.zeros((40, 17), "f4")
assert program.spread(graph, w=w, x=x, scale=0.5, out=out) is out
facts["out"] = error(out)
doubled, same, norms = program.both(graph, x=x)
facts["passed"] = bool((same == x).all()) and same is not x
facts["norms"] = float(abs(norms - (4 * x.astype(float) ** 2).sum(1)).max())
empty = program.bind(node=40, edge={"src": src[:0], "dst": dst[:0]})
facts["empty"] = float(abs(program.spread(empty, w=w[:0], x=x, scale=0.5)).max())
none = program.bind(node=0, edge={"src": src[:0], "dst": dst[:0]})
facts["none"] = program.spread(none, w=w[:0], x=x[:0], scale=0.5).shape
facts["calls"] = calls()
facts["target"] = device().target.name
module = program.spread.executable({"F": 17}).code.module
facts["resources"] = module.resources(next(iter(module.kernels)))
"""
    environment = {"HECTORITE_CACHE": str(tmp_path), "STAND_IN_TARGET": "90"}
    first = run(library, code, **environment)
    assert first["type"] == "ndarray"
    assert first["error"] < 1e-4
    assert first["out"] < 1e-4
    assert first["passed"]
    assert first["norms"] < 1e-3
    assert first["empty"] == 0
    assert first["none"] == [0, 17]
    assert first["target"] == "sm_90a"
    assert first["resources"]["registers"] == 32
    assert first["calls"]["compiled"] == first["calls"]["loaded"] == 2
    again = run(library, code, **environment)
    assert again["calls"] == first["calls"] | {"compiled": 0}, "cubins are kept"
    without = run(library, code, STAND_IN_NO_POOLS="1", **environment)
    assert without["error"] < 1e-4


@NEEDS_COMPILER
@NEEDS_LINUX
def test_arrays_on_the_device_streams_graphs_and_events(library: Path):
    code = """
program, graph = compiled()
given = {"w": put(w), "x": put(x), "scale": 0.5}
y = program.spread(graph, **given)
facts["stays"] = not isinstance(y, np.ndarray) and error(get(y)) < 1e-4
out = put(np.zeros((40, 17), "f4"))
program.spread(graph, out=out, **given)
facts["out"] = error(get(out))
try:
    program.both(graph, x=given["x"], out=(out, given["x"], put(x[:, 0].copy())))
except hectorite.HectoriteError as fault:
    facts["overlap"] = str(fault)

with device().active():
    stream = check(driver().cuStreamCreate(1), "")
class Stream:
    def __cuda_stream__(self):
        return 0, int(stream)
facts["stream"] = error(get(program.spread(graph, stream=Stream(), **given)))

recorded = program.spread.graph(graph, **given)
with device().active():
    upload(3 * x, given["x"], 0)
z = recorded.replay()
facts["same memory"] = z is recorded.results[0]
facts["replayed"] = error(get(z), 3.0)
several = program.both.graph(graph, x=given["x"], stream=stream)
with device().active():
    upload(x, given["x"], 0)
doubled, passed, norms = several.replay(stream)
facts["passed"] = float(abs(get(passed) - x).max())
facts["doubled"] = float(abs(get(doubled) - 2 * x).max())
try:
    program.spread.graph(graph, w=w, x=given["x"], scale=0.5)
except hectorite.HectoriteError as fault:
    facts["host"] = str(fault)
times = program.spread.seconds(graph, rounds=3, **given)
facts["times"] = len(times) == 3 and all(0 < t < 60 for t in times)
facts["calls"] = calls()
facts["contexts"] = int(check(driver().cuCtxGetCurrent(), ""))
pool(0).trim()
"""
    facts = run(library, code)
    assert facts["stays"]
    assert facts["out"] < 1e-4
    assert "`out` overlaps the argument `x`" in facts["overlap"]
    assert facts["stream"] < 1e-4
    assert facts["same memory"]
    assert facts["replayed"] < 1e-4
    assert facts["passed"] == facts["doubled"] == 0
    assert "`w` is in host memory, where a graph would not see it change" in facts["host"]
    assert facts["times"]
    assert facts["calls"]["replayed"] == 2
    assert facts["contexts"] == 0, "the context of the caller is current again"


@NEEDS_COMPILER
@NEEDS_LINUX
def test_arrays_of_other_libraries(library: Path):
    code = """
import ctypes

class Interface:
    "An array by the CUDA array interface."
    def __init__(self, array, **facts):
        self.span = put(np.ascontiguousarray(array))
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "version": 3,
            "data": (self.span.address, False), "strides": None, **facts}

class Struct(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("type", ctypes.c_int32), ("id", ctypes.c_int32),
                ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("offset", ctypes.c_uint64)]

class Exported:
    "An array by DLPack."
    def __init__(self, array, strides=None, device=2):
        self.span, self.device = put(np.ascontiguousarray(array)), device
        n = array.ndim
        self.shape = (ctypes.c_int64 * n)(*array.shape)
        self.strides = (ctypes.c_int64 * n)(*strides) if strides else None
        self.struct = Struct(self.span.address - 64, 2, 0, n, 2, 8 * array.itemsize, 1,
                             self.shape, self.strides, 64)
    def __dlpack_device__(self):
        return self.device, 0
    def __dlpack__(self, stream=None):
        make = ctypes.pythonapi.PyCapsule_New
        make.restype = ctypes.py_object
        make.argtypes = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p
        return make(ctypes.addressof(self.struct), b"dltensor", None)

def refused(**given):
    try:
        program.spread(graph, **({"w": w, "x": x, "scale": 0.5} | given))
    except hectorite.HectoriteError as fault:
        return str(fault)

program, graph = compiled()
y = program.spread(graph, w=Interface(w), x=Exported(x), scale=0.5)
facts["taken"] = error(get(y))
facts["interface"] = y.__cuda_array_interface__["typestr"]
y = program.spread(graph, w=Exported(w), x=Exported(x, (17, 1)), scale=0.5)
facts["strided alike"] = error(get(y))
padded = np.zeros(301, "f4")
padded[1:] = w
held = Interface(padded)
held.__cuda_array_interface__ |= {"data": (held.span.address + 4, False), "shape": (300,)}
facts["unaligned"] = error(get(program.spread(graph, w=held, x=x, scale=0.5)))
facts["type"] = refused(w=Interface(w.astype("f8")))
facts["shape"] = refused(w=Interface(w[:-1]))
facts["strides"] = refused(x=Exported(x, (1, 40)))
"""
    facts = run(library, code)
    assert facts["taken"] < 1e-4
    assert facts["interface"] == "<f4"
    assert facts["strided alike"] < 1e-4
    assert facts["unaligned"] < 1e-4
    assert "`w` is an array of float64 on a device" in facts["type"]
    assert "`w` has 299 in dimension 0 (edge), which is 300" in facts["shape"]
    assert "`x` is not contiguous" in facts["strides"]


TORCH = """
import contextlib, sys, types

class Tensor:
    made = []
    def __init__(self, span, ordinal=0):
        self.span, self.shape = span, span.shape
        self.dtype = "torch." + span.dtype.name
        self.device = types.SimpleNamespace(type="cuda", index=ordinal)
    def data_ptr(self):
        return self.span.address
    def detach(self):
        return self
    contiguous = detach

def empty(shape, dtype, device):
    tensor = Tensor(pool(0).empty(tuple(shape), np.dtype(dtype), torch.current))
    tensor.on = torch.current
    Tensor.made.append(tensor)
    return tensor

@contextlib.contextmanager
def on(stream):
    outer, torch.current = torch.current, stream
    yield
    torch.current = outer

Tensor.__module__ = "torch"
torch = types.ModuleType("torch")
torch.Tensor, torch.empty, torch.current = Tensor, empty, 0
torch.device = lambda kind, ordinal: ordinal
for name in ("float32", "uint8", "int32"):
    setattr(torch, name, name)
torch.cuda = types.SimpleNamespace(
    current_stream=lambda device: types.SimpleNamespace(cuda_stream=torch.current),
    ExternalStream=lambda handle, device: handle, stream=on)
"""


@NEEDS_COMPILER
@NEEDS_LINUX
def test_memory_and_streams_are_those_of_torch_where_tensors_are(library: Path):
    code = (
        TORCH
        + """
program, graph = compiled()
sys.modules["torch"] = torch
with device().active():
    stream, other = (int(check(driver().cuStreamCreate(1), "")) for _ in range(2))
torch.current = stream
given = {"w": Tensor(put(w)), "x": Tensor(put(x)), "scale": 0.5}
y = program.spread(graph, **given)
facts["tensor"] = isinstance(y, Tensor) and error(get(y.span)) < 1e-4
facts["current"] = all(made.on == stream for made in Tensor.made)
Tensor.made.clear()
y = program.spread(graph, stream=other, **given)
facts["other"] = isinstance(y, Tensor) and {made.on for made in Tensor.made} == {other}
mixed = program.spread(graph, **(given | {"w": w}))
facts["mixed"] = isinstance(mixed, Tensor) and error(get(mixed.span)) < 1e-4
z = program.spread.graph(graph, **given).replay()
facts["graph"] = isinstance(z, Tensor)
out = Tensor(put(np.zeros((40, 17), "f4")))
facts["out"] = program.spread(graph, out=out, **given) is out and error(get(out.span)) < 1e-4
try:
    program.spread(graph, **(given | {"w": Tensor(put(w), 1)}))
except hectorite.HectoriteError as fault:
    facts["elsewhere"] = str(fault)
"""
    )
    facts = run(library, code)
    elsewhere = facts.pop("elsewhere")
    assert facts == dict.fromkeys(("tensor", "current", "other", "mixed", "graph", "out"), True)
    assert "`w` is on device cuda:1" in elsewhere


@NEEDS_COMPILER
@NEEDS_LINUX
def test_faults(library: Path):
    code = """
text = hectorite.emit(PROGRAM, "ptx", {"F": 17}, "spread", target="sm_80")
def told(text):
    try:
        program = hectorite.compile(text, target="cuda", cache=False)
        graph = program.bind(node=40, edge={"src": src, "dst": dst})
        return error(program.spread(graph, w=w, x=x, scale=0.5))
    except hectorite.HectoriteError as fault:
        return str(fault)
facts["right"] = told(text)
facts["wrong"] = told(text.replace("mov.u32", "mov.u32 %nothing,", 1))
facts["late"] = told(text.replace(".version", ".version 99.0 //", 1))
import re
store = re.search(r"st\\.global\\S* \\[(%rd\\d+)", text)
at = store.start()
far = f"add.s64 {store[1]}, {store[1]}, 1099511627776;\\n  "
facts["outside"] = told(text[:at] + far + text[at:])
for target in ("cuda:1", "cuda:x"):
    try:
        hectorite.compile(PROGRAM, target=target)
    except hectorite.HectoriteError as fault:
        facts[target] = str(fault)
try:
    pool(0).empty((1 << 40,), np.dtype("u1"), 0)
except hectorite.HectoriteError as fault:
    facts["memory"] = str(fault)
"""
    facts = run(library, code)
    assert facts["right"] < 1e-4
    assert "the assembler says" in facts["wrong"]
    assert "mov.u32 %nothing" in facts["wrong"], "the line is shown"
    assert re.search("99.0|UNSUPPORTED_PTX_VERSION", str(facts["late"]))
    assert "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access" in facts["outside"]
    assert "target `ptx`, which tells the instruction" in facts["outside"]
    assert "there is no device cuda:1" in facts["cuda:1"]
    assert "there is no device `cuda:x`" in facts["cuda:x"]
    assert "allocate 1099511627776 bytes (CUDA_ERROR_OUT_OF_MEMORY" in facts["memory"]


@NEEDS_COMPILER
@NEEDS_LINUX
def test_the_command_line_runs_on_a_gpu(library: Path, tmp_path: Path):
    program = ROOT / "examples" / "gat.hec"
    out = tmp_path / "y.npz"
    code = f"""
from hectorite.frontend.cli import main
assert main(["run", {str(program)!r}, "--data", "ast:json.decoder", "--target", "cuda",
             "--no-cache", "--out", {str(out)!r}]) == 0
"""
    done = stand_in.run(library, code)
    assert done.returncode == 0, done.stderr
    here = tmp_path / "here.npz"
    from hectorite.frontend.cli import main

    command = ["run", str(program), "--data", "ast:json.decoder", "--out", str(here)]
    assert main(command) == 0
    with np.load(out) as one, np.load(here) as other:
        for name in other.files:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-3, atol=1e-5)


def no_gpu(**environment: str) -> list[str]:
    """What compiling for a GPU says where there is none."""
    arguments = ["run", "examples/gat.hec", "--target", "cuda"]
    command = [sys.executable, "-m", "hectorite.frontend.cli", *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, cwd=ROOT, check=False
    )
    return done.stderr.splitlines()


def test_without_a_driver_one_line_says_what_to_use(library: Path, tmp_path: Path):
    if stand_in.COMPILER is not None and sys.platform == "linux":
        lines = no_gpu(LD_LIBRARY_PATH=str(library), STAND_IN_EMPTY="1")
        assert len(lines) == 1
        assert lines[0].startswith("error: no GPU: the NVIDIA driver does not start")
        assert "use the target `ptx`" in lines[0]
    lines = no_gpu(CUDA_VISIBLE_DEVICES="")
    assert len(lines) == 1
    assert lines[0].startswith("error: no GPU: ")
    assert lines[0].endswith("use the target `ptx`, which executes the same kernels without a "
                             "GPU, or `cpu`")  # fmt: skip


class _WithHandle:
    cuda_stream = 7


class _WithPointer:
    ptr = 8


class _WithProtocol:
    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, 9


@pytest.mark.parametrize(
    "stream, handle",
    [(None, 0), (5, 5), (_WithHandle(), 7), (_WithPointer(), 8), (_WithProtocol(), 9)],
)
def test_streams(stream: object, handle: int):
    assert stream_handle(stream) == handle


def test_what_is_no_stream():
    with pytest.raises(HectoriteError, match="`stream` is a str"):
        stream_handle("default")
