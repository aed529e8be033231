"""A CPU that runs the same kernels: compiled by g++, each CUDA thread a fiber (`emulator/`).

Slow, and exact: it finds races within a block, divergent barriers and reads of memory that nobody
wrote. Blocks run in turn, so a race between two of them goes unseen. New memory is NaN. Streams are
queues that run as late and in as unkind an order as events allow.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import sys
import tempfile
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

from ae_core.cuda.device import Argument, Dimensions, refuse_other_than_float32, slot
from ae_core.cuda.kernels import (
    DeviceError,
    KernelSource,
    compiler_errors,
    digest,
    kernels_directory,
)
from ae_core.device import Array, DeviceKind, Host, Mark, Memory
from ae_core.machine import cpu_model
from ae_core.sources import cache_directory

RUNTIME = Path(__file__).parent / "emulator"
RUNTIME_FILES = (RUNTIME / "emulator.h", RUNTIME / "emulator.cpp")
FLAGS = ("-std=c++17", "-O2", "-g1", "-fPIC", "-fno-gnu-unique", "-Wall", "-Wno-unknown-pragmas")
SANITIZERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "": ((), ()),
    "address": (
        ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
        ("-DEMULATOR_ASAN",),
    ),
    "thread": (("-fsanitize=thread",), ("-DEMULATOR_TSAN",)),
}
"""What kernels are instrumented with, and how the runtime, which is not, is told."""
WARP_ORDERS = ("forward", "reverse", "random")
KINDS = {"p": "a float32 array", "i": "an int", "l": "an int64", "f": "a float"}
INT_RANGE = range(-(2**31), 2**31)


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel: its entry in the library, and its parameters' kinds (p, i, l, f)."""

    name: str
    entry: Any
    kinds: str


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
            library = ctypes.CDLL(str(self._build(source)))
            self._loaded[source] = {
                name: _kernel(library, number, name)
                for number, name in enumerate(source.instantiations)
            }
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
        slots = (ctypes.c_uint64 * len(args))(*_checked(kernel, args))
        first, size = ctypes.addressof(slots), ctypes.sizeof(ctypes.c_uint64)
        pointers = (ctypes.c_void_p * len(args))(*(first + k * size for k in range(len(args))))
        shape = (ctypes.c_uint * 6)(*grid, *block)

        def run(_keep_alive: Any = (slots, args)) -> None:
            error = kernel.entry(shape, pointers, self._order)
            if error:
                raise DeviceError(f"{kernel.name}: {error.decode()}")

        self.launches += 1
        self._queue(stream or self._main, run)

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

    def _build(self, source: KernelSource) -> Path:
        """The library of this source, made aside and renamed so that it is never half there."""
        entries = "".join(
            f'\nextern "C" const char* launch_{n}(const unsigned* shape, void** slots, int order) '
            f"{{ return emulator::launch(&{name}, shape, slots, order); }}"
            f'\nextern "C" const char* signature_{n}() {{ return emulator::signature(&{name}); }}'
            for n, name in enumerate(source.instantiations)
        )
        code = f'#define AE_EMULATED\n#include "{source.file}"\n{entries}\n'
        instrument, tell = SANITIZERS[self._sanitizer]
        compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)
        key = (
            code,
            digest(source, self._kernels, *RUNTIME_FILES),
            *FLAGS,
            *instrument,
            compiler.stdout,
        )
        name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:24]
        library = cache_directory() / "emulator" / f"{Path(source.file).stem}-{name}.so"
        if library.exists():
            return library
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as aside:
            folder = Path(aside)
            (folder / "entries.cpp").write_text(code, "utf8")
            includes = (f"-I{self._kernels}", f"-I{RUNTIME}")
            kernels, runtime = str(folder / "kernels.o"), str(folder / "runtime.o")
            for command in (
                (*FLAGS, *instrument, *includes, "-c", str(folder / "entries.cpp"), "-o", kernels),
                (*FLAGS, *tell, *includes, "-c", str(RUNTIME / "emulator.cpp"), "-o", runtime),
                (
                    *FLAGS,
                    *instrument,
                    "-shared",
                    kernels,
                    runtime,
                    "-o",
                    str(folder / "library.so"),
                ),
            ):
                done = subprocess.run(
                    ("g++", *command), capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise DeviceError(
                        f"{source.file} does not compile:\n{compiler_errors(done.stderr)}"
                    )
            (folder / "library.so").rename(library)
        return library


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


def _kernel(library: ctypes.CDLL, number: int, name: str) -> Kernel:
    entry, signature = library[f"launch_{number}"], library[f"signature_{number}"]
    entry.restype = signature.restype = ctypes.c_char_p
    return Kernel(name, entry, signature().decode())


def _checked(kernel: Kernel, args: Sequence[Argument]) -> list[int]:
    """The arguments' slots; a mismatch that a GPU would take for data is an error here."""
    if len(args) != len(kernel.kinds):
        raise DeviceError(
            f"{kernel.name}: expected {len(kernel.kinds)} arguments, found {len(args)}"
        )
    slots = []
    for position, (kind, argument) in enumerate(zip(kernel.kinds, args, strict=True)):
        kind_given = type(argument)
        if isinstance(argument, np.ndarray):
            fits = kind == "p" and argument.dtype == np.float32 and argument.flags.c_contiguous
            slots.append(argument.ctypes.data)
        elif kind_given is float:
            fits = kind == "f"
            slots.append(slot(argument))
        else:
            fits = kind_given is int and (kind in "pl" or (kind == "i" and argument in INT_RANGE))
            slots.append(slot(argument) if fits else 0)
        if not fits:
            raise DeviceError(
                f"{kernel.name}: argument {position}: expected {KINDS[kind]}, "
                f"found {argument!r:.80}"
            )
    return slots
