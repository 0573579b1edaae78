"""The peers of the race on a GPU, as they are called there: torch has only the memory of the host,
but thinks it is on a device, and the driver is the stand-in.

It shows that sizes, layouts and arguments are right, and that one peer's failure is its own.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu, gpu_process
from benchmarks.cases import Case
from tests.driver import stand_in

pytest.importorskip("cuda.bindings.driver")
pytestmark = [
    pytest.mark.skipif(stand_in.COMPILER is None, reason="no C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is for Linux"),
]

RACE = """
import json, os, sys, types
from dataclasses import replace

os.environ.update(BENCHMARK_DEVICE="cuda", OMP_NUM_THREADS="1")
sys.modules.pop("torch", None)
{torch}
from benchmarks import gpu_process
from benchmarks.cases import Case, miniature
from benchmarks.peers import table

@table.peer("faulty", "cuda", "spmm")
def faulty(data, case):
    raise RuntimeError("as faulty peers do")

faulty.__module__ = "benchmarks.peers.ours"
gpu_process.COPIED, gpu_process.ORDER = {{True: 1 << 12}}, {{True: 16}}
desk = gpu_process.Desk(gpu_process.device(), gpu_process.Plan(1, "", True, None))
facts = {{"notices": []}}
with desk.card.active():
    facts["card"] = gpu_process.describe(desk, facts["notices"].append)
    for kind in {kinds!r}:
        tolerance = 5e-3 if kind == "gemm16" else 1e-4
        case = Case("test", kind, kind, tolerance=tolerance, target="cuda")
        barred = {{"Triton": "barred"}}
        raced = gpu_process.race(desk, facts["notices"].append, miniature(case), barred)
        facts[kind] = {{
            e.peer.name: [e.reason, e.error, len(e.samples), len(e.device)]
            for e in raced["entries"]
        }}
print(json.dumps(facts))
"""

TORCH = """
import torch

names = ("synchronize", "reset_peak_memory_stats", "empty_cache")
for name in names:
    setattr(torch.cuda, name, lambda: None)
for name in ("memory_allocated", "max_memory_allocated"):
    setattr(torch.cuda, name, lambda: 0)
torch.cuda.is_available = lambda: True
torch.cuda.mem_get_info = lambda: (1 << 33, 1 << 33)
torch.cuda.current_stream = lambda device=None: types.SimpleNamespace(cuda_stream=0)
from benchmarks.peers import torch_sparse_ops
torch_sparse_ops.place = lambda: "cpu"
"""

KINDS = ("rgcn", "rgat", "hgt", "spmm", "sddmm", "gat", "gemm", "gemm16")


def race(folder: Path, torch: str, kinds: tuple[str, ...]) -> dict:
    done = stand_in.run(stand_in.build(folder), RACE.format(torch=torch, kinds=kinds))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_without_torch_ours_races_alone(tmp_path: Path):
    facts = race(tmp_path, "sys.modules['torch'] = None", ("spmm", "gemm16"))
    assert set(facts["card"]["rates"]) == {"copy"}
    for name in ("hectorite", "hectorite, recorded"):
        reason, error, samples, device = facts["spmm"][name]
        assert reason == ""
        assert error < 1e-5
        assert samples
        assert device
    assert facts["spmm"]["faulty"][0].startswith("RuntimeError: as faulty peers do (")
    assert facts["spmm"]["torch CSR (cuSPARSE)"][0].startswith("not installed")
    assert facts["gemm16"]["Triton"][0] == "barred"
    assert "faulty" in facts["notices"]


@pytest.mark.parametrize("kind", KINDS)
def test_peers_compute_the_reference(kind: str, tmp_path: Path):
    pytest.importorskip("torch")
    facts = race(tmp_path, TORCH, (kind,))
    assert set(facts["card"]["rates"]) == {"copy", "float16", "bfloat16", "float32"}
    entries = facts[kind]
    assert "in host memory" in entries.pop("hectorite, recorded")[0]
    entries.pop("faulty", None)
    for name, (reason, _, samples, device) in entries.items():
        if not reason.startswith(("not installed", "barred")):
            assert reason == "", name
            assert samples, name
            assert device, name


def ends(pipe: Any, plan: gpu_process.Plan) -> None:
    """A process that ends in the hands of a peer, unless that is left out."""
    while True:
        command, *arguments = pipe.recv()
        if command == "race" and "crash" not in arguments[1]:
            pipe.send("crash")
            os._exit(3)
        pipe.send({"asked": command, "given": arguments})


def hangs(pipe: Any, plan: gpu_process.Plan) -> None:
    """A process that never answers."""
    pipe.send("hang")
    time.sleep(60)


PLAN = gpu_process.Plan(1, "", True, None)
CASE = Case("test", "a case", "spmm")


def test_a_case_is_raced_again_without_a_peer_that_ends_the_process(monkeypatch):
    monkeypatch.setattr(gpu, "serve", ends)
    with gpu.Process(PLAN) as process:
        assert process.ask("card")["asked"] == "card"
        answer = gpu.race_case(process, CASE)
    _, barred = answer["given"]
    assert list(barred) == ["crash"]
    assert barred["crash"].startswith("its process ended with status 3")


def test_a_process_that_is_silent_is_ended(monkeypatch):
    monkeypatch.setattr(gpu, "serve", hangs)
    monkeypatch.setattr(gpu, "PATIENCE", 0.1)
    with gpu.Process(PLAN) as process:
        assert "no answer" in process.ask("card")["broken"]
        assert process.is_alive
    assert not process.is_alive


def test_the_file_keeps_what_other_races_found(tmp_path):
    path, card = tmp_path / "card.json", {"device": "a card", "rates": {"copy": 1.0}}
    gpu.Record(path, card, 1).add(CASE, [{"suite": "test", "case": "a case", "who": "a"}], {})
    other = replace(CASE, name="another")
    record = gpu.Record(path, card, 2)
    record.add(other, [], {"b": "not installed"})
    record.add(CASE, [{"suite": "test", "case": "a case", "who": "c"}], {})
    facts = json.loads(path.read_text())
    assert [row["who"] for row in facts["rows"]] == ["c"]
    assert [row["case"] for row in facts["left_out"]] == ["another"]
    gpu.Record(path, card | {"device": "another card"}, 1).add(other, [], {})
    assert json.loads(path.read_text())["rows"] == []
