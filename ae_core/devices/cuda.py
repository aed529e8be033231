"""An NVIDIA GPU, through CuPy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.devices.device import Array, Host, Mark
from ae_core.devices.kernel_device import Argument, Dimensions, Event, Stream, check_copy
from ae_core.devices.kernels import (
    DeviceError,
    KernelSource,
    compiler_error,
    digest,
    kernels_directory,
    runs_on,
)
from ae_core.devices.nvrtc import options, unit
from ae_core.devices.signature import SIZES, Signature, checked_dtype, read, sized, structs
from ae_core.machine import DeviceKind, Memory

OLDEST = 75
"""Compute capability 7.5 (Turing, T4): the oldest that current CUDA compiles for."""
HOLD = KernelSource("measure.cu", ("hold",))


class Kernel:
    """A compiled kernel and the slots that its arguments are passed in.

    cuLaunchKernel reads arguments through an array of addresses and copies them before it returns,
    so that all launches of a kernel share its slots.
    """

    def __init__(self, function: Any, signature: Signature) -> None:
        self.function = function  # keeps the module loaded
        self.signature = signature
        self.pointer = function.kernel.ptr
        self.slots = signature.slots()
        self.parameters = ctypes.addressof(self.slots.addresses)
        self.shared_bytes = 0
        """Dynamic shared memory that a launch may ask for so far."""


class CudaDevice:
    """A GPU. Work goes to streams of this device's own.

    Args:
        kernels: the folder of kernel sources; this package's by default.
        index: which GPU, as CUDA counts those that are visible.

    Raises:
        DeviceError: no CuPy, no driver or too old a one, no GPU of this index, or too old a one.
    """

    kind: DeviceKind = "gpu"
    synchronous = False

    def __init__(self, kernels: Path | None = None, index: int = 0) -> None:
        self._cupy = cupy = _import_cupy()
        properties = _check_card(cupy, index)
        self.name: str = properties["name"].decode()
        self.launches = 0
        self._capability = f"{properties['major']}{properties['minor']}"
        self._most_shared: int = properties["sharedMemPerBlockOptin"]
        self._kernels = kernels or kernels_directory()
        self._card = cupy.cuda.Device(index)
        self._launch = cupy.cuda.driver.launchKernel
        if cupy.cuda.runtime.getDeviceCount() > 1:
            self._launch = self._on_card(self._launch)
        self._pool = cupy.cuda.MemoryPool()
        try:
            with self._card:
                self._stream = cupy.cuda.Stream(non_blocking=True)
                self._fork = cupy.cuda.Event(disable_timing=True)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(
                f"{self.name}: can't be started ({error}): close other programs on this card, "
                f"or choose the device emulated"
            ) from None
        self._main: int = self._stream.ptr
        self._joins: dict[int, Any] = {}
        self._prepared: list[tuple[tuple[int, ...], Any]] | None = None
        self._loaded: dict[KernelSource, Mapping[str, Kernel]] = {}

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """An uninitialised C-ordered array.

        Raises:
            DeviceError: the card has too little memory left; or kernels don't know the dtype.
        """
        dtype = checked_dtype(dtype)
        allocator = self._cupy.cuda.using_allocator(self._pool.malloc)
        try:
            with self._card, self._stream, allocator:
                return self._cupy.empty(shape, dtype)
        except self._cupy.cuda.memory.OutOfMemoryError:
            wanted = np.prod(shape, dtype=np.int64) * dtype.itemsize
            with self._card:
                free, total = self._cupy.cuda.runtime.memGetInfo()
            raise DeviceError(
                f"{self.name}: expected {wanted / 2**20:,.0f} MiB of free memory, found "
                f"{free / 2**20:,.0f} of {total / 2**20:,.0f} MiB: close other programs on this "
                f"card, or take a smaller batch"
            ) from None

    def upload(self, array: npt.NDArray[Any], to: Array) -> None:
        """Copy a host array to the card, after the work queued so far; waits for it."""
        self._refuse_in_prepare(True, "a copy")
        with self._card:
            to.set(np.ascontiguousarray(array, to.dtype), stream=self._stream)
            self._stream.synchronize()

    def download(self, array: Array) -> npt.NDArray[Any]:
        """A host copy, taken when the work queued so far is done."""
        with self._card:
            return array.get(stream=self._stream)

    def copy(self, source: Array, to: Array) -> None:
        """Queue a copy on the card.

        Raises:
            DeviceError: the arrays differ in size or dtype.
        """
        self._refuse_in_prepare(True, "a copy")
        check_copy(source, to)
        to.data.copy_from_device_async(source.data, source.nbytes, self._stream)

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """An uninitialised host array in page-locked memory.

        Raises:
            DeviceError: kernels don't know the dtype.
        """
        dtype = checked_dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        with self._card:
            return np.ndarray(shape, dtype, self._cupy.cuda.alloc_pinned_memory(size))

    def upload_async(
        self, array: npt.NDArray[Any], to: Array, stream: Stream | None = None
    ) -> None:
        """Queue a copy to the card, which reads `array` when it runs.

        Raises:
            DeviceError: the arrays differ in size or dtype.
        """
        self._refuse_in_prepare(True, "a copy")
        check_copy(array, to)
        runtime, queue = self._cupy.cuda.runtime, stream or self._stream
        runtime.memcpyAsync(
            to.data.ptr, array.ctypes.data, array.nbytes, runtime.memcpyHostToDevice, queue.ptr
        )

    def record(self, stream: Stream | None = None) -> Event:
        """An event on a stream."""
        self._refuse_in_prepare(True, "an event")
        with self._card:
            event = self._cupy.cuda.Event(disable_timing=True)
        event.record(stream or self._stream)
        return event

    def wait(self, event: Event) -> None:
        """Return when an event is done."""
        event.synchronize()

    def follow(self, event: Event, stream: Stream | None = None) -> None:
        """Let a stream wait for an event."""
        (stream or self._stream).wait_event(event)

    def synchronize(self) -> None:
        """Return when all queued work is done."""
        self._stream.synchronize()

    def free_bytes(self) -> int:
        """The card's free memory, with what this device's pool holds and does not use."""
        with self._card:
            free, _ = self._cupy.cuda.runtime.memGetInfo()
        return int(free) + int(self._pool.free_bytes())

    def memory(self) -> Memory:
        """What this device's arrays hold now, and the most that they held."""
        with self._card:
            most, used = self._pool.total_bytes(), self._pool.used_bytes()
        return Memory(Host().memory().host, most, used)

    def mark(self) -> Mark:
        """An event on the main stream."""
        with self._card:
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
            with self._card:
                self._loaded[source] = self._compiled(source)
        return self._loaded[source]

    def _compiled(self, source: KernelSource) -> Mapping[str, Kernel]:
        if not runs_on(source.architecture, self._capability):
            raise DeviceError(
                f"{source.file}: expected a card for sm_{source.architecture}, found {self.name} "
                f"(sm_{self._capability}): choose another phase, or the device emulated"
            )
        declared = read(source, self._kernels)
        # CuPy adds the card's own architecture; of the two, NVRTC takes the more specific one.
        architecture = (f"-arch=sm_{source.architecture}",) if source.architecture else ()
        module = self._cupy.RawModule(
            code=unit(source, declared),
            options=(
                *options(self._kernels),
                *architecture,
                f"-DAE_SOURCES={digest(source, self._kernels)}",
            ),
            name_expressions=source.instantiations,
        )
        try:
            functions = {name: module.get_function(name) for name in source.instantiations}
            signatures = sized(declared, self._struct_sizes(module, len(structs(declared))))
            return {name: Kernel(functions[name], signatures[name]) for name in functions}
        except self._cupy.cuda.compiler.CompileException as error:
            raise DeviceError(
                f"{source.file} does not compile: {compiler_error(str(error))}"
            ) from None
        except (RuntimeError, OSError) as error:  # no NVRTC, or no room for the module
            raise DeviceError(
                f"{source.file}: can't be compiled or loaded ({str(error).splitlines()[0]}): "
                f"the extra cuda13 (or cuda12) brings CUDA's compiler"
            ) from None

    def _struct_sizes(self, module: Any, count: int) -> Sequence[int]:
        """As the compiler laid them out."""
        if not count:
            return ()
        return self._cupy.ndarray(count, np.uint32, memptr=module.get_global(SIZES)).get()

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
            DeviceError: arguments that don't fit the kernel's parameters; or more shared memory
                than the card has for a block.
        """
        if shared_bytes > kernel.shared_bytes:
            self._allow(kernel, shared_bytes)
        if self._prepared is not None:
            self._refuse_in_prepare(stream is not None, "a launch on a side stream")
            slots = kernel.signature.slots()
            kernel.signature.write(slots, args, _start)
            shape = (kernel.pointer, *grid, *block, shared_bytes, self._main)
            self._prepared.append(((*shape, ctypes.addressof(slots.addresses), 0), slots))
            return
        kernel.signature.write(kernel.slots, args, _start)
        queue = self._main if stream is None else stream.ptr
        self._launch(kernel.pointer, *grid, *block, shared_bytes, queue, kernel.parameters, 0)
        self.launches += 1

    def prepare(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` launches, with its arguments in memory of their own.

        Raises:
            DeviceError: it copies, or uses side streams.
        """
        prepared: list[tuple[tuple[int, ...], Any]] = []
        self._prepared = prepared
        try:
            work()
        finally:
            self._prepared = None
        calls, launch = [call for call, _ in prepared], self._launch

        def queue(_alive: Any = (work, prepared)) -> None:
            for call in calls:
                launch(*call)
            self.launches += len(calls)

        return queue

    def _refuse_in_prepare(self, found: bool, what: str) -> None:
        if found and self._prepared is not None:
            raise DeviceError(f"prepare: expected launches on the main stream alone, found {what}")

    def _allow(self, kernel: Kernel, shared_bytes: int) -> None:
        """Let a kernel have so much dynamic shared memory: above 48 KB, CUDA asks for it."""
        with self._card:
            most = self._most_shared - kernel.function.shared_size_bytes
            if shared_bytes > most:
                raise DeviceError(
                    f"{kernel.signature.kernel}: expected at most {most:,} bytes of dynamic shared "
                    f"memory on {self.name}, found {shared_bytes:,}"
                )
            kernel.function.max_dynamic_shared_size_bytes = shared_bytes
        kernel.shared_bytes = shared_bytes

    def _on_card(self, launch: Callable[..., None]) -> Callable[..., None]:
        """A launch for machines with several cards, of which another may be the current one."""

        def launch_there(*arguments: Any) -> None:
            with self._card:
                launch(*arguments)

        return launch_there

    def address(self, array: Array) -> int:
        """Where the array's first element is on the card."""
        return int(array.data.ptr)

    def side_streams(self, count: int) -> list[Stream]:
        """New non-blocking streams."""
        with self._card:
            streams = [self._cupy.cuda.Stream(non_blocking=True) for _ in range(count)]
            for stream in streams:
                self._joins[stream.ptr] = self._cupy.cuda.Event(disable_timing=True)
        return streams

    def fork(self, streams: Sequence[Stream]) -> None:
        """Side streams wait for an event on the main stream."""
        self._refuse_in_prepare(True, "side streams")
        self._fork.record(self._stream)
        for stream in streams:
            stream.wait_event(self._fork)

    def join(self, streams: Sequence[Stream]) -> None:
        """The main stream waits for an event on each side stream."""
        self._refuse_in_prepare(True, "side streams")
        for stream in streams:
            event = self._joins[stream.ptr]
            event.record(stream)
            self._stream.wait_event(event)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues, as a CUDA graph."""
        with self._card:
            self._stream.begin_capture()
            try:
                work()
            finally:
                graph = self._stream.end_capture()
            graph.upload(self._stream)

        def replay() -> None:
            with self._card:
                graph.launch(self._stream)

        return replay

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


def _start(array: Array) -> int:
    """The address of a C-ordered array."""
    if not array._c_contiguous:  # `flags` would cost more than all other checks of a launch
        raise TypeError
    return array.data.ptr


def _check_card(cupy: Any, index: int) -> Mapping[str, Any]:
    """A card's properties, if it can be used."""
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
        if not count:
            raise DeviceError("expected an NVIDIA GPU, found none: choose the device emulated")
        if index >= count:
            last = f" to cuda:{count - 1}" if count > 1 else ""
            raise DeviceError(f"device: expected cuda:0{last}, found cuda:{index}")
        properties = runtime.getDeviceProperties(index)
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
    major, minor = properties["major"], properties["minor"]
    if 10 * major + minor < OLDEST:
        raise DeviceError(
            f"{properties['name'].decode()}: expected compute capability {OLDEST / 10} or later, "
            f"found {major}.{minor}: choose the device emulated"
        )
    return properties
