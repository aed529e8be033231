"""What a phase asks of a device that runs kernels; `open_device` finds one."""

from __future__ import annotations

import struct
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
Dimensions = tuple[int, int, int]
Argument = Any
"""An array or an address, an integer (`int` or `int64` in CUDA), or a `float`."""


class KernelDevice(Device, Protocol):
    """A device that runs kernels: the same host code launches on a GPU and on the emulator.

    Work is queued on a main stream, in order. Side streams run beside it between `fork` and `join`.
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
    ) -> None:
        """Queue a kernel on a side stream, or on the main stream."""

    def address(self, array: Array) -> int:
        """Where the array's first element is; sums with byte offsets are valid arguments."""

    def side_streams(self, count: int) -> list[Stream]:
        """New streams beside the main one."""

    def fork(self, streams: Sequence[Stream]) -> None:
        """Side streams go on only after the work that the main stream holds so far."""

    def join(self, streams: Sequence[Stream]) -> None:
        """The main stream goes on only after the work that side streams hold so far."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """What `work` queues, as a graph: a function that queues it all again, in one launch.

        `work` itself is not executed, and must neither allocate nor wait.
        """

    def hold(self, seconds: float) -> None:
        """Keep the main stream busy, so that what is queued next does not wait for its launch."""


def open_device(choice: str = "auto", kernels: Path | None = None) -> KernelDevice:
    """The device to run kernels on.

    Args:
        choice: `cuda` for the GPU, `emulated` for the CPU, `auto` for a GPU if there is one.
        kernels: the folder of their sources, if not this package's.

    Raises:
        DeviceError: it is not there, or can't be used; says what to do.
    """
    if choice not in get_args(DeviceChoice):
        raise DeviceError(
            f"device: expected one of {', '.join(get_args(DeviceChoice))}, found {choice!r}"
        )
    if choice == "cuda" or (choice == "auto" and machine.gpu()):
        from ae_core.devices.cuda import CudaDevice  # noqa: PLC0415

        return CudaDevice(kernels)
    from ae_core.devices.emulated import EmulatedDevice  # noqa: PLC0415

    return EmulatedDevice(kernels)


def slot(argument: int | float) -> int:
    """The bits of an `int`, `int64` or `float` parameter, as an integer of 64."""
    if isinstance(argument, float):
        return int.from_bytes(struct.pack("<f", argument), "little")
    return int(argument) % 2**64


def refuse_other_than_float32(dtype: npt.DTypeLike) -> None:
    """The kernels read and write float32.

    Raises:
        DeviceError: another dtype.
    """
    if np.dtype(dtype) != np.float32:
        raise DeviceError(f"dtype: the CUDA phases compute in float32, found {np.dtype(dtype)}")
