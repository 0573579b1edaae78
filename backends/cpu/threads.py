"""The thread pool under every parallel kernel: machine code made once per machine.

Enters: calls from generated code. Leaves: one symbol, `hec_parallel(ptr fn, ptr args, i64 tasks)`,
which runs `fn(ptr args, i64 task)` once for each task in [0, tasks) and returns when all are done.
Every thread, the caller as well, does a share of them one by one, and then takes from those of the
others, so that uneven tasks balance.

- Workers start with the first call that needs them and stay. One that finds nothing to do spins
  for some microseconds, then sleeps in the kernel. `rouse` wakes them ahead of a call.
- A second caller at the same time, or a task that calls `hec_parallel`, runs its tasks itself.
- After a fork the child has a fresh pool. At exit the system ends the workers, wherever they are.

The number of threads is that of the CPUs this process may use, or `$HECTORITE_THREADS`, or what
`set_threads` was given. Which thread runs a task differs from call to call: results must not
depend on it.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading

from hectorite.backends.cache import cache_key, default_cache
from hectorite.backends.cpu import jit
from hectorite.backends.cpu.thread_pool_ir import FUTEX_CALL, MAX_THREADS, pool_ir
from hectorite.ir.diagnostics import fail

ENTRIES = ("hec_parallel", "hec_threads_reset", "hec_threads_want", "hec_threads_rouse")

SERIAL = """
define void @hec_parallel(ptr %fn, ptr %args, i64 %tasks) {
  %any = icmp sgt i64 %tasks, 0
  br i1 %any, label %each, label %out
each:
  %task = phi i64 [ 0, %0 ], [ %next, %each ]
  call void %fn(ptr %args, i64 %task)
  %next = add i64 %task, 1
  %further = icmp slt i64 %next, %tasks
  br i1 %further, label %each, label %out
out:
  ret void
}
define void @hec_threads_reset(i32 %workers) { ret void }
define void @hec_threads_want(i32 %workers) { ret void }
define void @hec_threads_rouse() { ret void }
"""
"""The pool of a system without POSIX threads: one thread."""


class ThreadPool:
    """A pool in machine code. `ir` is the text of its module.

    There is one in a process (`symbols` and `set_threads` are about that one), and tests make more.
    """

    def __init__(self, ir: str, threads: int):
        self._code = jit.load(_compiled(ir), ENTRIES, _thread_symbols())
        self._code.keep()
        self._want = self._code.function("hec_threads_want", None, ctypes.c_int32)
        self._reset = self._code.function("hec_threads_reset", None, ctypes.c_int32)
        self.rouse = self._code.function("hec_threads_rouse", None)
        """Wakes workers that sleep: a call that needs them comes soon."""
        self._threads = threads
        self._reset(threads - 1)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: self._reset(self._threads - 1))

    @property
    def address(self) -> int:
        """Where `hec_parallel` begins."""
        return self._code.address("hec_parallel")

    @property
    def threads(self) -> int:
        """How many threads run the tasks of a call, the caller among them."""
        return self._threads

    @threads.setter
    def threads(self, threads: int) -> None:
        if not 1 <= threads <= MAX_THREADS:
            raise fail(f"{threads} threads cannot be had", expected=f"1 to {MAX_THREADS}")
        self._threads = threads
        self._want(threads - 1)


def symbols() -> dict[str, int]:
    """What `jit.load` needs so that code can call `hec_parallel`."""
    return {"hec_parallel": pool().address}


def thread_count() -> int:
    """How many threads a parallel kernel uses."""
    return pool().threads


def set_threads(threads: int) -> None:
    """Let parallel kernels use `threads` threads from their next start; 1 means the caller alone.

    Raises `HectoriteError` if `threads` is not between 1 and 1024.
    """
    pool().threads = threads


def pool() -> ThreadPool:
    """The pool of this process; made at the first call."""
    global _pool
    with _POOL_LOCK:
        if _pool is None:
            _pool = ThreadPool(_host_ir(), default_threads())
        return _pool


def default_threads() -> int:
    """`$HECTORITE_THREADS`, or the number of CPUs this process may use."""
    chosen = os.environ.get("HECTORITE_THREADS", "").strip()
    if chosen:
        if not chosen.isascii() or not chosen.isdigit() or not 1 <= int(chosen) <= MAX_THREADS:
            raise fail(
                f"HECTORITE_THREADS is `{chosen}`", expected=f"a number from 1 to {MAX_THREADS}"
            )
        return int(chosen)
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)


_POOL_LOCK = threading.Lock()
_pool: ThreadPool | None = None


def _host_ir() -> str:
    if sys.platform == "win32" or sys.byteorder != "little" or sys.maxsize < 1 << 32:
        return SERIAL
    return pool_ir(sys.platform == "linux" and platform.machine() in FUTEX_CALL)


def _compiled(ir: str) -> bytes:
    cache, key = default_cache(), cache_key("threads", str(jit.host()), ir)
    entry = cache.lookup(key)
    if entry is not None:
        return entry.blobs["object"]
    code = jit.compile_object(ir, "threads.ll")
    cache.store(key, {"what": "thread pool"}, {"object": code})
    return code


def _thread_symbols() -> dict[str, int]:
    """Addresses of what the pool calls in the C library of this process."""
    if sys.platform == "win32":
        return {}
    process = ctypes.CDLL(None)
    names = ("create", "detach", "sigmask", "mutex_init", "mutex_lock", "mutex_unlock")
    names += ("cond_init", "cond_wait", "cond_broadcast")
    wanted = [f"pthread_{name}" for name in names] + ["syscall", "clock_gettime", "sched_yield"]
    if sys.platform == "linux":
        wanted += ["sched_getcpu", "sched_getaffinity", "sched_setaffinity"]
    return {name: jit.address_of(getattr(process, name)) for name in wanted}
