"""A whole call as a CUDA graph: recorded once, replayed on the same memory with a single launch.

Enters: an executable, a binding and arguments on the device. Leaves: a `CudaGraph`. A call of ours
never waits for the device, as kernels find their tasks in layouts that lie there, so all of it can
be recorded. The memory of its results and temporaries belongs to the graph.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cuda.driver import check, driver, stream_handle
from hectorite.backends.cuda.memory import Span
from hectorite.backends.cuda.program import ALIGNMENT, CudaExecutable, CudaQueue, move, owner
from hectorite.backends.host.device_call import numbers
from hectorite.ir.diagnostics import fail


class CudaGraph:
    """One recorded call. `results` are its results, which every `replay` writes again."""

    def __init__(
        self,
        executable: CudaExecutable,
        binding: Binding,
        arguments: Mapping[str, Any],
        sizes: Mapping[str, int],
        stream: Any = None,
    ):
        """Run the call once, and record it. The arguments are read again by each replay: tensors
        have to be on the device, numbers stay what they are."""
        tensors = executable.tensors(arguments)
        for name, value in tensors.items():
            _check_place(name, value)
        self._device = executable.device
        queue, _ = executable.queue(arguments, stream)
        self._stream = queue.stream
        given = tensors | numbers(executable.plan, arguments)
        with self._device.active():
            call = executable.program.call_on(binding, sizes, queue)
            outputs = queue.results(call.made)
            keep, temporaries = call.workspace(queue)
            # The driver may load a kernel when it first runs, which cannot be recorded.
            call.launch_all(queue, given, outputs, temporaries)
            made = call.results(queue, given, outputs)
            recorder = _Recorder(executable, queue)
            call.launch_all(recorder.queue, given, outputs, temporaries)
            for source, copy in zip(call.returned(given, outputs), made, strict=True):
                if source is not copy:
                    move(source, copy, recorder.queue.stream)
            self._executable = recorder.finish()
        weakref.finalize(self, driver().cuGraphExecDestroy, self._executable)
        self._kept = (given, outputs, keep, binding)
        self.results: tuple[Any, ...] = tuple(map(owner, made))

    def replay(self, stream: Any = None) -> Any:
        """Run the call again on what the arguments hold now, on a stream (by default that of the
        recorded call). Returns the results: one, or a tuple of several, always the same arrays."""
        handle = self._stream if stream is None else stream_handle(stream)
        with self._device.active():
            check(driver().cuGraphLaunch(self._executable, handle), "launch a graph")
        return self.results[0] if len(self.results) == 1 else self.results


class _Recorder:
    """A stream of its own that records instead of running: the default stream cannot."""

    def __init__(self, executable: CudaExecutable, queue: CudaQueue):
        cu = driver()
        flags = cu.CUstream_flags.CU_STREAM_NON_BLOCKING
        self._stream = check(cu.cuStreamCreate(flags), "make a stream")
        mode = cu.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        check(cu.cuStreamBeginCapture(self._stream, mode), "record a call")
        self.queue = CudaQueue(executable.module, queue.allocator, int(self._stream))

    def finish(self) -> Any:
        """What was recorded, ready to run."""
        cu = driver()
        graph = check(cu.cuStreamEndCapture(self._stream), "record a call")
        made = check(cu.cuGraphInstantiate(graph, 0), "make a graph ready")
        cu.cuGraphDestroy(graph)
        cu.cuStreamDestroy(self._stream)
        return made


def _check_place(name: str, value: Any) -> None:
    if not isinstance(value, Span):
        raise fail(
            f"`{name}` is in host memory, where a graph would not see it change",
            expected="tensors on the device, such as those of torch or CuPy",
        )
    if value.address % ALIGNMENT:
        raise fail(
            f"`{name}` begins at an address that is no multiple of {ALIGNMENT} bytes",
            expected="memory of its own, which a graph can read in place",
            hint="pass a copy",
        )
