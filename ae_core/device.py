"""Where arrays live. A phase names its device; everything above asks the device for memory."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ae_core.machine import cpu_model

Array = Any
"""A device's own array: `numpy.ndarray` on the host, `cupy.ndarray` on a GPU."""


@dataclass(frozen=True)
class Memory:
    """Peaks, in bytes; `device` is None where a device has no memory of its own."""

    host: int
    device: int | None


class Device(Protocol):
    """Memory of one kind, and the order of work on it."""

    name: str
    """As a person names it: the processor's or the card's model."""

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

    def synchronize(self) -> None:
        """Return when all queued work is done."""

    def memory(self) -> Memory:
        """The most memory that this process held at once, so far."""


class Host:
    """The CPU's memory, through NumPy."""

    synchronous = True

    def __init__(self) -> None:
        self.name = cpu_model()

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """An uninitialised C-ordered array."""
        return np.empty(shape, dtype)

    def upload(self, array: npt.NDArray[Any], to: Array) -> None:
        """Copy `array` into `to`."""
        to[...] = array

    def download(self, array: Array) -> npt.NDArray[Any]:
        """A copy of `array`, so that later steps don't change what was read."""
        return np.array(array)

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when their work is done."""

    def memory(self) -> Memory:
        """The process's largest resident set so far."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return Memory(peak if sys.platform == "darwin" else peak * 1024, None)
