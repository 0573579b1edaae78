"""The thread pool: every task once, whoever calls, however many threads, in a forked child too."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from hectorite.backends.cpu import jit
from hectorite.backends.cpu import threads as cpu_threads
from hectorite.backends.cpu.thread_pool_ir import FUTEX_CALL, pool_ir
from hectorite.ir.diagnostics import HectoriteError

COUNTING = """
declare void @hec_parallel(ptr, ptr, i64)
define internal void @count(ptr %counts, i64 %task) {
  %p = getelementptr i64, ptr %counts, i64 %task
  %old = load i64, ptr %p
  %new = add i64 %old, 1
  store i64 %new, ptr %p
  ret void
}
define void @parallel(ptr %counts, i64 %tasks) {
  call void @hec_parallel(ptr @count, ptr %counts, i64 %tasks)
  ret void
}
define internal void @inner(ptr %counts, i64 %task) {
  call void @parallel(ptr %counts, i64 10)
  ret void
}
define void @nested(ptr %counts, i64 %tasks) {
  call void @hec_parallel(ptr @inner, ptr %counts, i64 %tasks)
  ret void
}
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="one thread there")
KINDS = [pytest.param(False, id="condition", marks=posix)]
if sys.platform == "linux" and os.uname().machine in FUTEX_CALL:
    KINDS.append(pytest.param(True, id="futex"))

Run = Callable[[np.ndarray, int], None]


def calls(pool: cpu_threads.ThreadPool, entry: str = "parallel") -> Run:
    code = jit.load(jit.compile_object(COUNTING), [entry], {"hec_parallel": pool.address})
    function = code.function(entry, None, ctypes.c_void_p, ctypes.c_int64)
    return lambda counts, tasks: function(counts.ctypes.data, tasks)


@pytest.fixture(params=KINDS)
def pool(request: pytest.FixtureRequest) -> cpu_threads.ThreadPool:
    return cpu_threads.ThreadPool(pool_ir(request.param), 3)


def check_every_task(run: Run, repeat: int = 20) -> None:
    for tasks in (0, 1, 2, 3, 7, 1000):
        counts = np.zeros(1000, np.int64)
        for _ in range(repeat):
            run(counts, tasks)
        assert (counts[:tasks] == repeat).all() and not counts[tasks:].any()


def test_every_task_runs_once(pool: cpu_threads.ThreadPool):
    check_every_task(calls(pool))


def test_thread_count_changes(pool: cpu_threads.ThreadPool):
    run = calls(pool)
    for threads in (1, 4, 2, 1, 3):
        pool.threads = threads
        check_every_task(run)


def test_calls_that_find_everybody_asleep(pool: cpu_threads.ThreadPool):
    run = calls(pool)
    for tasks in (2, 95, 96, 1000, 300_000):
        counts = np.zeros(tasks, np.int64)
        for _ in range(5):
            time.sleep(0.002)
            run(counts, tasks)
        assert (counts == 5).all()


def test_workers_are_roused_before_calls(pool: cpu_threads.ThreadPool):
    run, counts = calls(pool), np.zeros(40, np.int64)
    for number in range(30):
        pool.rouse()
        if number % 3 == 0:
            time.sleep(0.001)  # they are up, or asleep again
        pool.rouse()
        run(counts, 40)
    assert (counts == 30).all()


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system about threads")
def test_workers_may_run_anywhere_and_sleep(pool: cpu_threads.ThreadPool):
    before = set(os.listdir("/proc/self/task"))
    run, counts = calls(pool), np.zeros(1000, np.int64)
    for _ in range(20):  # asleep, and awake; on the processor of the caller, and elsewhere
        time.sleep(0.002)
        run(counts, 1000)
        run(counts, 1000)
    assert (counts == 40).all()
    workers = [int(task) for task in set(os.listdir("/proc/self/task")) - before]
    assert len(workers) == 2
    for worker in workers:
        assert os.sched_getaffinity(worker) == os.sched_getaffinity(0)
        while not _sleeps(worker):  # with a worker that never slept, the test would never end
            time.sleep(0.002)


def _sleeps(task: int) -> bool:
    """Whether a thread waits for something, rather than running or being about to."""
    with open(f"/proc/self/task/{task}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


def test_nested_calls_run_in_place(pool: cpu_threads.ThreadPool):
    pool.threads = 1
    counts = np.zeros(10, np.int64)
    calls(pool, "nested")(counts, 5)
    assert (counts == 5).all()


def test_nested_calls_end(pool: cpu_threads.ThreadPool):
    counts = np.zeros(10, np.int64)
    for _ in range(100):
        calls_in_tasks = calls(pool, "nested")
        calls_in_tasks(counts, 5)
    assert counts.min() > 0


def test_several_callers(pool: cpu_threads.ThreadPool):
    run = calls(pool)
    counts = [np.zeros(100, np.int64) for _ in range(4)]

    def work(own: np.ndarray) -> None:
        for _ in range(500):
            run(own, 100)

    callers = [threading.Thread(target=work, args=(own,)) for own in counts]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all((own == 500).all() for own in counts)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork(pool: cpu_threads.ThreadPool):
    run = calls(pool)
    check_every_task(run)
    gc.collect()  # address space that another test reserved may be too much to have twice
    child = os.fork()
    if child == 0:
        try:
            check_every_task(run)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    check_every_task(run)


def test_exit_does_not_hang():
    program = (
        "import numpy as np\n"
        "from hectorite.backends.cpu import threads as cpu_threads\n"
        "from tests_cpu_threads import calls\n"
        "calls(cpu_threads.pool())(np.zeros(100, np.int64), 100)\n"
        "print(cpu_threads.thread_count())\n"
    )
    load = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('tests_cpu_threads', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "sys.modules[spec.name] = module\n"
        "spec.loader.exec_module(module)\n"
    )
    environment = {**os.environ, "HECTORITE_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", load + program],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "3\n", done.stderr


def test_set_threads():
    before = cpu_threads.thread_count()
    cpu_threads.set_threads(2)
    assert cpu_threads.thread_count() == 2
    cpu_threads.set_threads(before)
    with pytest.raises(HectoriteError, match="0 threads"):
        cpu_threads.set_threads(0)


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "99999999999", "²"])
def test_bad_environment(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HECTORITE_THREADS", text)
    with pytest.raises(HectoriteError, match="HECTORITE_THREADS"):
        cpu_threads.default_threads()


def test_serial_pool():
    check_every_task(calls(cpu_threads.ThreadPool(cpu_threads.SERIAL, 1)))
