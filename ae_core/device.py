"""Where arrays live. A phase names its device; everything above asks the device for memory."""

from __future__ import annotations

import resource
import sys
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = Any
"""A device's own array: `numpy.ndarray` on the host, `cupy.ndarray` on a GPU."""


class Device(Protocol):
    """Memory of one kind, and the order of work on it."""

    name: str
    """As a person names it: the processor's or the card's model."""

    synchronous: bool
    """Whether results stand when a call returns, so that reading one costs nothing."""

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Array:
        """An uninitialised C-ordered array."""

    def upload(self, array: npt.NDArray[Any], to: Array) -> None:
        """Copy a host array into a device array of the same shape and dtype."""

    def download(self, array: Array) -> npt.NDArray[Any]:
        """A host copy, taken when the work queued so far is done."""

    def synchronize(self) -> None:
        """Return when all queued work is done."""

    def peak_bytes(self) -> int | None:
        """The most device memory this process held at once; None where that is host memory."""


class Host:
    """The CPU's memory, through NumPy."""

    synchronous = True

    def __init__(self) -> None:
        self.name = "CPU"

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

    def peak_bytes(self) -> int | None:
        """None: see `peak_host_bytes`."""
        return None


def peak_host_bytes() -> int:
    """The largest resident set of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
