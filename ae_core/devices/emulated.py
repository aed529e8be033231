"""A CPU that runs the same kernels: compiled by g++, each CUDA thread a fiber (`emulator/`).

Slow, and exact: it finds races within a block, divergent barriers and reads of memory that nobody
wrote. Blocks run in turn, so a race between two of them goes unseen. New memory is NaN. Streams are
queues that run as late and in as unkind an order as events allow.
"""

from __future__ import annotations

import shutil
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.devices import native
from ae_core.devices.device import Array, DeviceKind, Host, Mark
from ae_core.devices.kernel_device import Argument, Dimensions, refuse_other_than_float32
from ae_core.devices.kernels import DeviceError, KernelSource, kernels_directory
from ae_core.devices.native import Kernel
from ae_core.machine import Memory, cpu_model

WARP_ORDERS = ("forward", "reverse", "random")


@dataclass
class Event:
    """Whether the work before it is done."""

    done: bool = False

    def record(self) -> None:
        """Work has come this far."""
        self.done = True


Task = Callable[[], None] | Event


@dataclass(eq=False)
class Stream:
    """Queued work; an event in the queue is waited for."""

    tasks: deque[Task] = field(default_factory=deque)


class EmulatedDevice:
    """The emulator.

    Args:
        kernels: the folder of kernel sources; this package's by default.
        order: in which order warps, lanes and blocks take turns: forward, reverse or random.
        sanitizer: `address` (with undefined behaviour) or `thread`: instrument the kernels. The
            process must have been started with the sanitizer's library preloaded.

    Raises:
        DeviceError: there is no g++.
    """

    kind: DeviceKind = "emulator"
    synchronous = False

    def __init__(
        self, kernels: Path | None = None, order: str = "forward", sanitizer: str = ""
    ) -> None:
        if sys.platform != "linux":
            raise DeviceError(
                f"the emulator runs on Linux (also in WSL or a container), found {sys.platform}"
            )
        if order not in WARP_ORDERS:
            raise DeviceError(f"order: expected one of {', '.join(WARP_ORDERS)}, found {order!r}")
        if not shutil.which("g++"):
            raise DeviceError(
                "the emulator compiles kernels with g++, found none: install it "
                "(Debian: apt install g++), or use an NVIDIA GPU"
            )
        self.name = f"emulator on {cpu_model()}"
        self.launches = 0
        self._kernels = kernels or kernels_directory()
        self._order, self._sanitizer = WARP_ORDERS.index(order), sanitizer
        self._in_use = self._peak = 0
        self._main = Stream()
        self._sides: list[Stream] = []
        self._captured: deque[tuple[Stream, Task]] | None = None
        self._loaded: dict[KernelSource, Mapping[str, Kernel]] = {}

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """A C-ordered array of NaN: what is read before it is written shows."""
        refuse_other_than_float32(dtype)
        array = np.full(shape, np.nan, dtype)
        self._in_use += array.nbytes
        self._peak = max(self._peak, self._in_use)
        weakref.finalize(array, self._freed, array.nbytes)
        return array

    def upload(self, array: npt.NDArray[Any], to: Array) -> None:
        """Copy `array` into `to`, after the work queued so far."""
        self.synchronize()
        to[...] = array

    def download(self, array: Array) -> npt.NDArray[Any]:
        """A copy of `array`, taken when the work queued so far is done."""
        self.synchronize()
        return np.array(array)

    def copy(self, source: Array, to: Array) -> None:
        """Queue a copy."""
        self._queue(self._main, lambda: np.copyto(to, source))

    def synchronize(self) -> None:
        """Run all queued work: side streams first, the last first, as far as events allow."""
        streams = [*reversed(self._sides), self._main]
        while any(stream.tasks for stream in streams):
            advanced = [_advance(stream) for stream in streams]
            if not any(advanced):
                raise DeviceError("streams wait for each other's events: nothing can run")

    def memory(self) -> Memory:
        """What arrays hold now, and the most that they held: on a GPU it would be the same."""
        return Memory(Host().memory().host, self._peak, self._in_use)

    def mark(self) -> Mark:
        """The CPU's clock, when the work queued so far is done."""
        self.synchronize()
        return time.perf_counter()

    def elapsed(self, start: Mark, end: Mark) -> float:
        """Seconds of the emulator's: they say nothing about a GPU."""
        return float(end - start)

    def span(self, name: str) -> AbstractContextManager[None]:
        """No profiler looks in here."""
        return nullcontext()

    def load(self, source: KernelSource) -> Mapping[str, Kernel]:
        """Compile with g++ into the cache, or take it from there."""
        if source not in self._loaded:
            self._loaded[source] = native.load(source, self._kernels, self._sanitizer)
        return self._loaded[source]

    def launch(
        self,
        kernel: Kernel,
        grid: Dimensions,
        block: Dimensions,
        args: Sequence[Argument],
        stream: Stream | None = None,
    ) -> None:
        """Queue a kernel on a side stream, or on the main stream.

        Raises:
            DeviceError: arguments that don't fit the kernel's parameters; and, here or when
                queued work runs, a divergent barrier or an impossible grid.
        """
        self.launches += 1
        self._queue(stream or self._main, kernel.bind(grid, block, args, self._order))

    def address(self, array: Array) -> int:
        """Where the array's first element is."""
        return int(array.ctypes.data)

    def side_streams(self, count: int) -> list[Stream]:
        """New queues beside the main one."""
        streams = [Stream() for _ in range(count)]
        self._sides += streams
        return streams

    def fork(self, streams: Sequence[Stream]) -> None:
        """Side streams wait for an event on the main stream."""
        event = Event()
        self._queue(self._main, event.record)
        for stream in streams:
            self._queue(stream, event)

    def join(self, streams: Sequence[Stream]) -> None:
        """The main stream waits for an event on each side stream."""
        for stream in streams:
            event = Event()
            self._queue(stream, event.record)
            self._queue(self._main, event)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues, as a list that can be queued again."""
        self.synchronize()
        captured = self._captured = deque()
        try:
            work()
        finally:
            self._captured = None

        def replay() -> None:
            for stream, task in captured:
                self._queue(stream, task)

        return replay

    def hold(self, seconds: float) -> None:
        """Nothing waits for launches here."""

    def _queue(self, stream: Stream, task: Task) -> None:
        """Where there are no side streams, order can't matter, and work is done at once."""
        if self._captured is not None:
            self._captured.append((stream, task))
        elif self._sides:
            stream.tasks.append(task)
        elif callable(task):
            task()

    def _freed(self, nbytes: int) -> None:
        self._in_use -= nbytes


def _advance(stream: Stream) -> bool:
    """Run a stream's tasks up to an event that is not done; whether any ran."""
    advanced = False
    while stream.tasks:
        task = stream.tasks[0]
        if isinstance(task, Event):
            if not task.done:
                return advanced
        else:
            task()
        stream.tasks.popleft()
        advanced = True
    return advanced
