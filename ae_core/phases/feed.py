"""Images on a device, in the order in which training steps take them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core.devices.device import Array, Device
from ae_core.devices.kernel_device import Event, KernelDevice
from ae_core.errors import InputError

RESIDENT = 0.5
"""Of the device's free memory, the part that images may take before they are streamed."""
PART = 8192
"""Images, or some more, that go to the device at once where they are streamed: 25 MB as uint8."""


class Feed:
    """Images of an epoch, and where in their order the next batch begins.

    A plan's `fetch` gathers `pixels[order[position + n]]`; its `advance` writes `losses` and moves
    `position`, which goes back to 0 behind the last image. All of it happens on the device, so that
    the host sends nothing between steps.

    Args:
        device: the plan's.
        images: `(N, C, H, W)`: uint8, or float32 in [0, 1]; they must stay as they are.
        length: images of an epoch; all of them by default.
        dtype: the plan's.

    Raises:
        InputError: another dtype of images, or no images.
    """

    pixels: Array
    """What `order` counts, `(rows, C, H, W)`."""
    order: Array
    """int32 `(length,)`."""
    position: Array
    """int64 `(1,)`."""
    losses: Array
    """`(length,)`: of each image of the epoch, before the update that it caused."""

    def __init__(
        self,
        device: Device,
        images: npt.NDArray[Any],
        length: int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if images.dtype not in (np.uint8, np.float32):
            raise InputError(f"images: expected uint8 or float32, found {images.dtype}")
        if not len(images):
            raise InputError("images: expected at least one, found none")
        self.device = device
        self._count = len(images)
        self.length = self._count if length is None else length
        self.order = device.empty((self.length,), np.int32)
        self.position = device.empty((1,), np.int64)
        self.losses = device.empty((self.length,), dtype)
        self._place(np.ascontiguousarray(images))
        self.begin(np.arange(self.length) % len(images))

    def begin(self, order: npt.NDArray[np.integer]) -> None:
        """Start an epoch with the images in this order, `(length,)`.

        Raises:
            InputError: the order has another length, or an image that is not there.
        """
        self._refuse_wrong(order)
        self.device.upload(order.astype(np.int32), self.order)
        self.rewind()

    def rewind(self) -> None:
        """Go back to the epoch's first image."""
        self.device.upload(np.zeros(1, np.int64), self.position)
        self._next = 0

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

    def read_losses(self) -> npt.NDArray[Any]:
        """The losses `(length,)`, when the steps queued so far are done."""
        return self.device.download(self.losses)

    def _refuse_wrong(self, order: npt.NDArray[np.integer]) -> None:
        if order.shape != (self.length,):
            raise InputError(f"order: expected {self.length} images, found shape {order.shape}")
        first, last = order.min(), order.max()
        if first < 0 or last >= self._count:  # a kernel would read beyond the images
            raise InputError(f"order: expected 0 to {self._count - 1}, found {first} to {last}")

    def _place(self, images: npt.NDArray[Any]) -> None:
        """Put all images on the device; a CPU reads them where they are."""
        if self.device.kind == "cpu":
            self.pixels = images
        else:
            self.pixels = self.device.empty(images.shape, images.dtype)
            self.device.upload(images, self.pixels)


class StreamedFeed(Feed):
    """A feed whose images do not fit on the device: they come in parts, while it computes.

    The device holds two parts, one that steps read and the next. The host picks a part's images out
    of the data set into pinned memory, from where they are copied on a stream of their own.

    Args:
        device: the plan's.
        images: as for `Feed`.
        batch_size: images of every step but an epoch's last; a part is a multiple of it.
        part: images of a part, rounded up to such a multiple.
    """

    def __init__(
        self, device: KernelDevice, images: npt.NDArray[Any], batch_size: int, part: int = PART
    ) -> None:
        self._part = -(-part // batch_size) * batch_size
        super().__init__(device, images)

    def begin(self, order: npt.NDArray[np.integer]) -> None:
        """Start an epoch with the images in this order, `(length,)`.

        Raises:
            InputError: the order has another length, or an image that is not there.
        """
        self._refuse_wrong(order)
        self._picked = order
        super().begin(np.arange(len(order)) % (2 * self._part))  # where they will lie

    def rewind(self) -> None:
        """Go back to the epoch's first image: send its first two parts again."""
        super().rewind()  # waits until no step reads what is overwritten now
        for number in (0, 1):
            self._send(number)

    def prepare(self, images: int) -> None:
        """See to it that the next so many images are there when the device comes to them.

        Raises:
            InputError: the epoch has fewer left; or they lie in two parts.
        """
        first = self._next
        number, within = divmod(first, self._part)
        if within + images > self._part:
            raise InputError(f"feed: expected steps of one size, found {images} at image {first}")
        if first == 0 and self._held[0] != 0:  # an epoch is over, and the same order begins again
            self.rewind()
        super().prepare(images)
        if within == 0:
            self._streams.follow(self._sent[number % 2])
            if number:  # the part before has been read when the work queued so far is done
                self._streams.follow(self._streams.record(), self._copies)
                self._send(number + 1)

    def _place(self, images: npt.NDArray[Any]) -> None:
        self._streams = cast(KernelDevice, self.device)
        self._images = images
        shape = (2, self._part, *images.shape[1:])
        self._pinned = self._streams.pinned(shape, images.dtype)
        self.pixels = self.device.empty((2 * self._part, *images.shape[1:]), images.dtype)
        (self._copies,) = self._streams.side_streams(1)
        self._sent: list[Event] = [self._streams.record(self._copies)] * 2
        self._held = [0, 1]

    def _send(self, number: int) -> None:
        """Queue the copy of a part of the epoch, once its half of the pinned memory is free."""
        rows = self._picked[number * self._part : (number + 1) * self._part]
        half, first = number % 2, number % 2 * self._part
        if not len(rows):
            return
        self._streams.wait(self._sent[half])
        pinned = self._pinned[half, : len(rows)]
        np.take(self._images, rows, axis=0, out=pinned, mode="clip")  # else it makes a copy first
        self._streams.upload_async(pinned, self.pixels[first : first + len(rows)], self._copies)
        self._sent[half], self._held[half] = self._streams.record(self._copies), number


def open_feed(device: Device, images: npt.NDArray[Any], batch_size: int) -> Feed:
    """A feed of all these images: on the device, or streamed where they would fill it.

    Args:
        device: the plan's.
        images: `(N, C, H, W)`: uint8, or float32 in [0, 1]; they must stay as they are.
        batch_size: of the steps that will take them.
    """
    if device.kind == "cpu" or images.nbytes <= RESIDENT * device.free_bytes():
        return Feed(device, images)
    return StreamedFeed(cast(KernelDevice, device), images, batch_size)
