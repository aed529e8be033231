"""Images on a device, in the order in which training steps take them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.devices.device import Array, Device
from ae_core.errors import InputError


class Feed:
    """Images of an epoch, and where in their order the next batch begins.

    A plan's `fetch` gathers `pixels[order[position + n]]`; its `advance` writes `losses` and moves
    `position`, which goes back to 0 behind the last image. All of it happens on the device, so that
    the host sends nothing between steps.

    Args:
        device: the plan's.
        images: `(N, C, H, W)`: uint8, or float32 in [0, 1].
        length: images of an epoch; all of them by default.

    Raises:
        InputError: another dtype, or no images.
    """

    pixels: Array
    """What `order` counts, `(rows, C, H, W)`."""
    order: Array
    """int32 `(length,)`."""
    position: Array
    """int64 `(1,)`."""
    losses: Array
    """float32 `(length,)`: of each image of the epoch, before the update that it caused."""

    def __init__(self, device: Device, images: npt.NDArray[Any], length: int | None = None) -> None:
        if images.dtype not in (np.uint8, np.float32):
            raise InputError(f"images: expected uint8 or float32, found {images.dtype}")
        if not len(images):
            raise InputError("images: expected at least one, found none")
        self.device = device
        self.length = len(images) if length is None else length
        self.pixels = self._placed(images)
        self.order = device.empty((self.length,), np.int32)
        self.position = device.empty((1,), np.int64)
        self.losses = device.empty((self.length,))
        self.begin(np.arange(self.length) % len(images))

    def rewind(self) -> None:
        """Go back to the epoch's first image."""
        self.device.upload(np.zeros(1, np.int64), self.position)
        self._next = 0

    def begin(self, order: npt.NDArray[np.integer]) -> None:
        """Start an epoch with the images in this order, `(length,)`."""
        if order.shape != (self.length,):
            raise InputError(f"order: expected {self.length} images, found shape {order.shape}")
        self.device.upload(order.astype(np.int32), self.order)
        self.rewind()

    def prepare(self, images: int) -> None:
        """See to it that the next so many images are there when the device comes to them.

        Raises:
            InputError: the epoch has fewer left.
        """
        if self._next + images > self.length:
            raise InputError(
                f"feed: expected at most {self.length - self._next} images, which the epoch has "
                f"left, found {images}"
            )
        self._next = (self._next + images) % self.length

    def read_losses(self) -> npt.NDArray[np.float32]:
        """The losses `(length,)`, when the steps queued so far are done."""
        return self.device.download(self.losses)

    def _placed(self, images: npt.NDArray[Any]) -> Array:
        pixels = self.device.empty(images.shape, images.dtype)
        self.device.upload(images, pixels)
        return pixels
