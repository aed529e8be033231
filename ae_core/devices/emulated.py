"""A CPU that runs the same kernels: compiled as C++, each CUDA thread a fiber (`emulator/`).

Slow, and exact: it finds races within a block, divergent barriers and reads of memory that nobody
wrote. Blocks run in turn, so a race between two of them goes unseen. New memory is NaN, or a
pattern that shows. Streams are queues that run as late and in as unkind an order as events allow.
"""

from __future__ import annotations

import random
import sys
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.devices import native
from ae_core.devices.device import Array, Host, Mark, check_shape
from ae_core.devices.kernel_device import Argument, Dimensions, check_copy
from ae_core.devices.kernels import DeviceError, KernelSource, kernels_directory
from ae_core.devices.native import Kernel
from ae_core.devices.signature import checked_dtype
from ae_core.machine import DeviceKind, Memory, cpu_model

WARP_ORDERS = ("forward", "reverse", "random")
UNWRITTEN = 0xA5
"""Each byte of an integer that nobody wrote."""


@dataclass(eq=False)
class Event:
    """Whether the work before it is done."""

    done: bool = False


@dataclass(frozen=True)
class Record:
    """A task: work has come as far as the event."""

    event: Event


@dataclass(frozen=True)
class Wait:
    """A task: go on after the event."""

    event: Event


Task = Callable[[], None] | Record | Wait


@dataclass(eq=False)
class Stream:
    """Queued work, in order."""

    tasks: deque[Task] = field(default_factory=deque)


class EmulatedDevice:
    """The emulator.

    Args:
        kernels: the folder of kernel sources; this package's by default.
        order: in which order warps, lanes and blocks take turns: forward, reverse or random. So do
            streams: in forward order the last side stream is first, in reverse the main stream.
        sanitizer: `address` (with undefined behaviour) or `thread`: instrument the kernels. The
            process must have been started with the sanitizer's library preloaded.

    Raises:
        DeviceError: there is no C++ compiler.
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
        native.compiler_command()
        self.name = f"emulator on {cpu_model()}"
        self.launches = 0
        self._kernels = kernels or kernels_directory()
        self._order, self._sanitizer = order, sanitizer
        self._in_use = self._peak = 0
        self._main = Stream()
        self._sides: list[Stream] = []
        self._in_time = True
        self._random = random.Random(0)
        self._captured: deque[tuple[Stream, Task]] | None = None
        self._loaded: dict[KernelSource, Mapping[str, Kernel]] = {}

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """A C-ordered array of NaN, or of bytes 0xA5: what is read before it is written shows.

        Raises:
            DeviceError: a dtype that kernels don't know.
        """
        array = _unwritten(shape, dtype)
        self._in_use += array.nbytes
        self._peak = max(self._peak, self._in_use)
        weakref.finalize(array, self._freed, array.nbytes)
        return array

    def upload(self, array: npt.NDArray[Any], to: Array) -> None:
        """Copy `array` into `to`, after the work queued so far."""
        check_shape(array, to)
        self.synchronize()
        to[...] = array

    def download(self, array: Array) -> npt.NDArray[Any]:
        """A copy of `array`, taken when the work queued so far is done."""
        self.synchronize()
        return np.array(array)

    def copy(self, source: Array, to: Array) -> None:
        """Queue a copy.

        Raises:
            DeviceError: the arrays differ in size or dtype.
        """
        check_copy(source, to)
        self._queue(self._main, lambda: np.copyto(to, source.reshape(to.shape)))

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """An array of the host's. From now on work is queued, and runs as late as events allow."""
        self._in_time = False
        return _unwritten(shape, dtype)

    def upload_async(
        self, array: npt.NDArray[Any], to: Array, stream: Stream | None = None
    ) -> None:
        """Queue a copy; it takes what `array` holds when it runs.

        Raises:
            DeviceError: the arrays differ in size or dtype.
        """
        check_copy(array, to)
        self._queue(stream or self._main, lambda: np.copyto(to, array.reshape(to.shape)))

    def record(self, stream: Stream | None = None) -> Event:
        """An event behind what the stream holds so far."""
        event = Event()
        self._queue(stream or self._main, Record(event))
        return event

    def wait(self, event: Event) -> None:
        """Run what the event depends on, and nothing else.

        Raises:
            DeviceError: it depends on an event that nothing records.
        """
        while not event.done:
            stream, first = self._first_needed(event)
            while not first.done and _is_ready(stream):
                _do(stream.tasks.popleft())

    def follow(self, event: Event, stream: Stream | None = None) -> None:
        """Let a stream go on only after an event."""
        self._queue(stream or self._main, Wait(event))

    def synchronize(self) -> None:
        """Run all queued work: each stream as far as events allow; in random order, by tasks."""
        streams = [*reversed(self._sides), self._main]
        if self._order == "reverse":
            streams.reverse()
        while waiting := [stream for stream in streams if stream.tasks]:
            ready = [stream for stream in waiting if _is_ready(stream)]
            if not ready:
                raise DeviceError("streams wait for each other's events: nothing can run")
            if self._order == "random":
                _do(self._random.choice(ready).tasks.popleft())
                continue
            while _is_ready(ready[0]):
                _do(ready[0].tasks.popleft())

    def free_bytes(self) -> int:
        """The host's."""
        return Host().free_bytes()

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
        """Compile into the cache, or take it from there."""
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
        shared_bytes: int = 0,
    ) -> None:
        """Queue a kernel.

        Raises:
            DeviceError: arguments that don't fit the kernel's parameters; and, here or when queued
                work runs, a divergent barrier, an impossible grid or too much shared memory.
        """
        order = WARP_ORDERS.index(self._order)
        run = kernel.bind(grid, block, args, _start, order, shared_bytes)
        self._queue(stream or self._main, run)
        self.launches += 1

    def address(self, array: Array) -> int:
        """Where the array's first element is."""
        return int(array.ctypes.data)

    def side_streams(self, count: int) -> list[Stream]:
        """New queues beside the main one."""
        streams = [Stream() for _ in range(count)]
        self._sides += streams
        self._in_time = False
        return streams

    def fork(self, streams: Sequence[Stream]) -> None:
        """Side streams wait for an event on the main stream."""
        event = self.record()
        for stream in streams:
            self.follow(event, stream)

    def join(self, streams: Sequence[Stream]) -> None:
        """The main stream waits for an event on each side stream."""
        for stream in streams:
            self.follow(self.record(stream))

    def prepare(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` launches, with the arguments that it has now.

        Raises:
            DeviceError: it does something else, or launches on a side stream.
        """
        around, launched = self._captured, self.launches
        kept: deque[tuple[Stream, Task]] = deque()
        self._captured = kept
        try:
            work()
        finally:
            count, self._captured, self.launches = self.launches - launched, around, launched
        if count != len(kept) or any(stream is not self._main for stream, _ in kept):
            raise DeviceError("prepare: expected launches on the main stream alone, found others")

        def queue() -> None:
            for stream, task in kept:
                self._queue(stream, task)
            self.launches += count

        return queue

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues, as a list that can be queued again."""
        self.synchronize()
        captured = self._captured = deque()
        try:
            work()
        finally:
            self._captured = None

        def replay() -> None:
            """With events of its own: those of an earlier replay are done."""
            anew: defaultdict[Event, Event] = defaultdict(Event)
            for stream, task in captured:
                if isinstance(task, Record | Wait):
                    task = type(task)(anew[task.event])  # noqa: PLW2901
                self._queue(stream, task)

        return replay

    def hold(self, seconds: float) -> None:
        """Nothing waits for launches here."""

    def _queue(self, stream: Stream, task: Task) -> None:
        """Where nothing runs beside the main stream, order can't matter: work is done at once."""
        if self._captured is not None:
            self._captured.append((stream, task))
        elif self._in_time:
            _do(task)
        else:
            stream.tasks.append(task)

    def _first_needed(self, event: Event) -> tuple[Stream, Event]:
        """A stream that can go on, and the event in it that this one depends on."""
        seen: set[Event] = set()
        while event not in seen:
            seen.add(event)
            stream = next((s for s in (self._main, *self._sides) if Record(event) in s.tasks), None)
            if stream is None:
                raise DeviceError("an event is waited for that nothing records")
            if _is_ready(stream):
                return stream, event
            event = stream.tasks[0].event  # type: ignore[union-attr]  # it is a Wait
        raise DeviceError("streams wait for each other's events: nothing can run")

    def _freed(self, nbytes: int) -> None:
        self._in_use -= nbytes


def _unwritten(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    array = np.empty(shape, checked_dtype(dtype))
    if np.issubdtype(array.dtype, np.integer):
        array.reshape(-1).view(np.uint8)[...] = UNWRITTEN
    else:
        array[...] = np.nan
    return array


def _start(array: npt.NDArray[Any]) -> int:
    """The address of a C-ordered array."""
    if not array.flags.c_contiguous:
        raise TypeError
    return array.ctypes.data


def _is_ready(stream: Stream) -> bool:
    """Whether it has a task that waits for no event."""
    if not stream.tasks:
        return False
    first = stream.tasks[0]
    return not isinstance(first, Wait) or first.event.done


def _do(task: Task) -> None:
    if isinstance(task, Record):
        task.event.done = True
    elif callable(task):
        task()
