"""Where arrays live. A phase names its device; everything above asks the device for memory."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import psutil

from ae_core.errors import InputError
from ae_core.machine import DeviceKind, Memory, cpu_model

Array = Any
"""A device's own array: `numpy.ndarray` on the host, `cupy.ndarray` on a GPU."""
Mark = Any
"""A point in a device's queue of work."""


class Device(Protocol):
    """Memory of one kind, and the order of work on it."""

    name: str
    """As a person names it: the processor's or the card's model."""

    kind: DeviceKind

    launches: int
    """Kernels launched so far; none on the host."""

    synchronous: bool
    """Whether results stand when a call returns, so that reading one costs nothing."""

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """An uninitialised C-ordered array."""

    def upload(self, array: npt.NDArray[Any], to: Array) -> None:
        """Copy a host array into a device array of the same shape and dtype.

        Ordered after the work queued so far, which may still read `to`.
        """

    def download(self, array: Array) -> npt.NDArray[Any]:
        """A host copy, taken when the work queued so far is done."""

    def copy(self, source: Array, to: Array) -> None:
        """Copy within the device, in order with other work."""

    def synchronize(self) -> None:
        """Return when all queued work is done."""

    def memory(self) -> Memory:
        """What this process holds, and the most that it held at once, so far."""

    def free_bytes(self) -> int:
        """Memory that arrays may still take."""

    def mark(self) -> Mark:
        """This point in the queue of work, to take times between; costs next to nothing."""

    def elapsed(self, start: Mark, end: Mark) -> float:
        """Seconds between two marks, once the work before the second is done."""

    def span(self, name: str) -> AbstractContextManager[None]:
        """Give what is queued within this name in a profiler's view."""


def check_shape(array: npt.NDArray[Any], to: Array) -> None:
    """Refuse to copy a host array into one of another shape, which NumPy would fill with it.

    Raises:
        InputError: says what was expected.
    """
    if array.shape != to.shape:
        raise InputError(f"upload: expected shape {to.shape}, found {array.shape}")


class Host:
    """The CPU's memory, through NumPy."""

    kind: DeviceKind = "cpu"
    synchronous = True
    launches = 0

    def __init__(self) -> None:
        self.name = cpu_model()

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """An uninitialised C-ordered array."""
        return np.empty(shape, dtype)

    def upload(self, array: npt.NDArray[Any], to: Array) -> None:
        """Copy `array` into `to`."""
        check_shape(array, to)
        to[...] = array

    def download(self, array: Array) -> npt.NDArray[Any]:
        """A copy of `array`, so that later steps don't change what was read."""
        return np.array(array)

    def copy(self, source: Array, to: Array) -> None:
        """Copy `source` into `to`."""
        to[...] = source

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when their work is done."""

    def mark(self) -> Mark:
        """The clock."""
        return time.perf_counter()

    def elapsed(self, start: Mark, end: Mark) -> float:
        """Seconds between two clock readings."""
        return float(end - start)

    def span(self, name: str) -> AbstractContextManager[None]:
        """No profiler looks in here."""
        return nullcontext()

    def free_bytes(self) -> int:
        """What the system says is available."""
        return int(psutil.virtual_memory().available)

    def memory(self) -> Memory:
        """The process's largest resident set so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Memory(peak if sys.platform == "darwin" else peak * 1024, None)
