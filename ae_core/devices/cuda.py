"""An NVIDIA GPU, through CuPy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.devices.device import Array, DeviceKind, Host, Mark
from ae_core.devices.kernel_device import (
    Argument,
    Dimensions,
    Stream,
    refuse_other_than_float32,
    slot,
)
from ae_core.devices.kernels import (
    DeviceError,
    KernelSource,
    compiler_error,
    digest,
    kernels_directory,
)
from ae_core.machine import Memory

OLDEST = 75
"""Compute capability 7.5 (Turing, T4): the oldest that current CUDA compiles for."""
PARAMETERS = 16
HOLD = KernelSource("measure.cu", ("hold",))


class Kernel:
    """A compiled kernel and the slots that its arguments are passed in.

    cuLaunchKernel reads arguments through an array of addresses and copies them before it returns.
    Each slot has 8 bytes, which a pointer or `int64` fills and an `int` or `float` fills by half
    (both machines are little-endian), so that no signature is needed here.
    """

    def __init__(self, function: Any) -> None:
        self.function = function  # keeps the module loaded
        self.pointer = function.kernel.ptr
        self.slots = (ctypes.c_uint64 * PARAMETERS)()
        first, size = ctypes.addressof(self.slots), ctypes.sizeof(ctypes.c_uint64)
        self._addresses = (ctypes.c_void_p * PARAMETERS)(
            *range(first, first + PARAMETERS * size, size)
        )
        self.parameters = ctypes.addressof(self._addresses)


class CudaDevice:
    """The first GPU. Work goes to a stream of this device's own.

    Args:
        kernels: the folder of kernel sources; this package's by default.

    Raises:
        DeviceError: no CuPy, no driver or too old a one, no GPU, or one that is too old.
    """

    kind: DeviceKind = "gpu"
    synchronous = False

    def __init__(self, kernels: Path | None = None) -> None:
        self._cupy = cupy = _import_cupy()
        self.name = _check_card(cupy)
        self.launches = 0
        self._kernels = kernels or kernels_directory()
        self._launch = cupy.cuda.driver.launchKernel
        self._pool = cupy.cuda.MemoryPool()
        try:
            self._stream = cupy.cuda.Stream(non_blocking=True)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(
                f"{self.name}: can't be started ({error}): close other programs on this card, "
                f"or choose the device emulated"
            ) from None
        self._main: int = self._stream.ptr
        self._fork = cupy.cuda.Event(disable_timing=True)
        self._joins: dict[int, Any] = {}
        self._loaded: dict[KernelSource, Mapping[str, Kernel]] = {}

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """An uninitialised C-ordered array.

        Raises:
            DeviceError: the card has too little memory left, or the dtype is not float32.
        """
        refuse_other_than_float32(dtype)
        try:
            with self._stream, self._cupy.cuda.using_allocator(self._pool.malloc):
                return self._cupy.empty(shape, dtype)
        except self._cupy.cuda.memory.OutOfMemoryError:
            wanted = np.prod(shape, dtype=np.int64) * np.dtype(dtype).itemsize
            free, total = self._cupy.cuda.runtime.memGetInfo()
            raise DeviceError(
                f"{self.name}: expected {wanted / 2**20:,.0f} MiB of free memory, found "
                f"{free / 2**20:,.0f} of {total / 2**20:,.0f} MiB: close other programs on this "
                f"card, or take a smaller batch"
            ) from None

    def upload(self, array: npt.NDArray[Any], to: Array) -> None:
        """Copy a host array to the card, after the work queued so far; waits for it."""
        to.set(np.ascontiguousarray(array, to.dtype), stream=self._stream)
        self._stream.synchronize()

    def download(self, array: Array) -> npt.NDArray[Any]:
        """A host copy, taken when the work queued so far is done."""
        return array.get(stream=self._stream)

    def copy(self, source: Array, to: Array) -> None:
        """Queue a copy on the card.

        Raises:
            DeviceError: the arrays differ in size.
        """
        if source.nbytes != to.nbytes:
            raise DeviceError(f"copy: expected {to.nbytes} bytes, found {source.nbytes}")
        to.data.copy_from_device_async(source.data, source.nbytes, self._stream)

    def synchronize(self) -> None:
        """Return when all queued work is done."""
        self._stream.synchronize()

    def memory(self) -> Memory:
        """What this device's arrays hold now, and the most that they held."""
        return Memory(Host().memory().host, self._pool.total_bytes(), self._pool.used_bytes())

    def mark(self) -> Mark:
        """An event on the main stream."""
        event = self._cupy.cuda.Event()
        event.record(self._stream)
        return event

    def elapsed(self, start: Mark, end: Mark) -> float:
        """Seconds between two events, as the card's clock has them."""
        end.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(start, end)) / 1e3

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """An NVTX range: what is queued within has this name in Nsight."""
        self._cupy.cuda.nvtx.RangePush(name)
        try:
            yield
        finally:
            self._cupy.cuda.nvtx.RangePop()

    def load(self, source: KernelSource) -> Mapping[str, Kernel]:
        """Compile with NVRTC for this card, or take it from CuPy's cache on disk.

        CuPy's cache does not look into included files, so their digest is part of the options.
        """
        if source not in self._loaded:
            module = self._cupy.RawModule(
                code=f'#include "{source.file}"\n',
                options=(
                    "-std=c++17",
                    f"-I{self._kernels}",
                    f"-DAE_SOURCES={digest(source, self._kernels)}",
                ),
                name_expressions=source.instantiations,
            )
            try:
                functions = {name: module.get_function(name) for name in source.instantiations}
                self._loaded[source] = {name: Kernel(f) for name, f in functions.items()}
            except self._cupy.cuda.compiler.CompileException as error:
                raise DeviceError(
                    f"{source.file} does not compile: {compiler_error(str(error))}"
                ) from None
            except (RuntimeError, OSError) as error:  # no NVRTC, or no room for the module
                raise DeviceError(
                    f"{source.file}: can't be compiled or loaded ({str(error).splitlines()[0]}): "
                    f"the extra cuda13 (or cuda12) brings CUDA's compiler"
                ) from None
        return self._loaded[source]

    def launch(
        self,
        kernel: Kernel,
        grid: Dimensions,
        block: Dimensions,
        args: Sequence[Argument],
        stream: Stream | None = None,
    ) -> None:
        """Queue a kernel on a side stream, or on the main stream."""
        slots = kernel.slots
        for position, argument in enumerate(args):
            kind = type(argument)  # the hot path of every step: isinstance would take twice as long
            if kind is int:
                slots[position] = argument
            else:
                slots[position] = slot(argument) if kind is float else argument.data.ptr
        queue = self._main if stream is None else stream.ptr
        self._launch(kernel.pointer, *grid, *block, 0, queue, kernel.parameters, 0)
        self.launches += 1

    def address(self, array: Array) -> int:
        """Where the array's first element is on the card."""
        return int(array.data.ptr)

    def side_streams(self, count: int) -> list[Stream]:
        """New non-blocking streams."""
        streams = [self._cupy.cuda.Stream(non_blocking=True) for _ in range(count)]
        for stream in streams:
            self._joins[stream.ptr] = self._cupy.cuda.Event(disable_timing=True)
        return streams

    def fork(self, streams: Sequence[Stream]) -> None:
        """Side streams wait for an event on the main stream."""
        self._fork.record(self._stream)
        for stream in streams:
            stream.wait_event(self._fork)

    def join(self, streams: Sequence[Stream]) -> None:
        """The main stream waits for an event on each side stream."""
        for stream in streams:
            event = self._joins[stream.ptr]
            event.record(stream)
            self._stream.wait_event(event)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues, as a CUDA graph."""
        self._stream.begin_capture()
        try:
            work()
        finally:
            graph = self._stream.end_capture()
        graph.upload(self._stream)
        return lambda: graph.launch(self._stream)

    def hold(self, seconds: float) -> None:
        """Keep the main stream busy with one idle thread."""
        kernel = self.load(HOLD)["hold"]
        self.launch(kernel, (1, 1, 1), (1, 1, 1), (int(seconds * 1e9),))
        self.launches -= 1


def _import_cupy() -> Any:
    try:
        import cupy  # noqa: PLC0415
    except ImportError as error:
        raise DeviceError(
            f"expected CuPy for the GPU ({error}): from the checkout, "
            f".venv/bin/pip install --editable '.[cuda13]' (or [cuda12], as the driver supports); "
            f"without a GPU, choose the device emulated"
        ) from None
    return cupy


def _check_card(cupy: Any) -> str:
    """The first card's name, if it can be used."""
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
        if not count:
            raise DeviceError("expected an NVIDIA GPU, found none: choose the device emulated")
        properties = runtime.getDeviceProperties(0)
        driver, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    except runtime.CUDARuntimeError as error:
        raise DeviceError(
            f"the NVIDIA driver is missing, too old for this CuPy, or sees no GPU ({error}): "
            f"nvidia-smi should list a card; update the driver, install the extra cuda12 "
            f"for an older one, or choose the device emulated"
        ) from None
    if driver // 1000 < needed // 1000:
        raise DeviceError(
            f"expected a driver for CUDA {needed // 1000}, found one for CUDA "
            f"{driver // 1000}.{driver % 1000 // 10}: update the driver, or install the extra "
            f"cuda{driver // 1000}"
        )
    name = properties["name"].decode()
    major, minor = properties["major"], properties["minor"]
    if 10 * major + minor < OLDEST:
        raise DeviceError(
            f"{name}: expected compute capability {OLDEST / 10} or later, found {major}.{minor}: "
            f"choose the device emulated"
        )
    return name
