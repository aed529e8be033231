"""What a phase asks of a device that runs kernels; `open_device` finds one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ae_core import machine
from ae_core.devices.device import Array, Device
from ae_core.devices.kernels import DeviceError, KernelSource
from ae_core.parameters import DeviceChoice

Kernel = Any
Stream = Any
Event = Any
"""A point in a stream's work that the host or another stream can wait for."""
Dimensions = tuple[int, int, int]
Argument = Any
"""An array or an address; an integer; a `float`; or a struct: `bytes`, or what has its bytes.

The kernel's declaration says which, and an array's dtype; both devices refuse what does not fit.
"""


class KernelDevice(Device, Protocol):
    """A device that runs kernels: the same host code launches on a GPU and on the emulator.

    Work is queued on a main stream, in order. Side streams run beside it: between `fork` and
    `join`, or as far as events allow. Where a method takes a stream, None is the main one.

    `empty` takes the dtypes of `ae_core.devices.signature.ELEMENTS`; parts of an array, by slicing
    and `reshape`, are arguments as long as they are C-ordered.
    """

    def load(self, source: KernelSource) -> Mapping[str, Kernel]:
        """Compile a file, or find it compiled; its kernels by instantiation.

        Raises:
            DeviceError: it does not compile; with file, line and message.
        """

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

        Args:
            kernel: of those that `load` gave.
            grid: blocks.
            block: threads of each.
            args: as the kernel declares them.
            stream: where to queue it.
            shared_bytes: dynamic shared memory of a block.

        Raises:
            DeviceError: arguments that don't fit the kernel's parameters: names the first; or more
                shared memory than a block can have.
        """

    def address(self, array: Array) -> int:
        """Where the array's first element is; sums with byte offsets are valid arguments."""

    def pinned(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        """An uninitialised host array that copies to the device can read while the host goes on."""

    def upload_async(
        self, array: npt.NDArray[Any], to: Array, stream: Stream | None = None
    ) -> None:
        """Queue a copy of a `pinned` array, or of a C-ordered part of one, into a device array.

        The copy reads `array` when it runs: change it only after an event behind the copy is done.

        Raises:
            DeviceError: the arrays differ in size or dtype.
        """

    def record(self, stream: Stream | None = None) -> Event:
        """An event that is done when the work that the stream holds so far is."""

    def wait(self, event: Event) -> None:
        """Return when an event is done, and what it depends on; other work may still be queued."""

    def follow(self, event: Event, stream: Stream | None = None) -> None:
        """What is queued on the stream from now on runs after an event."""

    def side_streams(self, count: int) -> list[Stream]:
        """New streams beside the main one."""

    def fork(self, streams: Sequence[Stream]) -> None:
        """Side streams go on only after the work that the main stream holds so far."""

    def join(self, streams: Sequence[Stream]) -> None:
        """The main stream goes on only after the work that side streams hold so far."""

    def prepare(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` launches on the main stream, as a function that launches it all again.

        Arguments are checked and laid out once, so that a launch costs the host no more than the
        driver's call. `work` must do nothing but launch, with the same arguments whenever it is
        called: a GPU calls it now and never again, the emulator each time instead. What it launches
        on has to outlive the function: an array that is replaced later is still the one written to.

        Raises:
            DeviceError: it does something else that can't be kept.
        """

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues, as a graph: a function that queues it all again, in one launch.

        `work` itself is not executed, and must neither allocate nor wait.
        """

    def hold(self, seconds: float) -> None:
        """Keep the main stream busy, so that what is queued next does not wait for its launch."""


def open_device(choice: str = "auto", kernels: Path | None = None) -> KernelDevice:
    """The device to run kernels on.

    Args:
        choice: `cuda` for the first GPU, `cuda:1` for the second and so on, `emulated` for the CPU,
            `auto` for a GPU if there is one.
        kernels: the folder of their sources, if not this package's.

    Raises:
        DeviceError: it is not there, or can't be used; says what to do.
    """
    card = re.fullmatch(r"cuda(?::(\d+))?", choice)
    if not card and choice not in get_args(DeviceChoice):
        raise DeviceError(
            f"device: expected one of {', '.join(get_args(DeviceChoice))}, or cuda:1 for the "
            f"second GPU, found {choice!r}"
        )
    if card or (choice == "auto" and machine.gpu()):
        from ae_core.devices.cuda import CudaDevice  # noqa: PLC0415

        return CudaDevice(kernels, int(card[1] or 0) if card else 0)
    from ae_core.devices.emulated import EmulatedDevice  # noqa: PLC0415

    return EmulatedDevice(kernels)


def check_copy(source: Array, to: Array) -> None:
    """Refuse to copy bytes from an array into one of another size or dtype, or in another order.

    Raises:
        DeviceError: says what differs.
    """
    if (source.size, source.dtype) != (to.size, to.dtype):
        raise DeviceError(
            f"copy: expected {to.size} elements of {to.dtype}, "
            f"found {source.size} of {source.dtype}"
        )
    for array in (source, to):
        if not array.flags.c_contiguous:
            raise DeviceError(f"copy: expected C-ordered arrays, found strides {array.strides}")
