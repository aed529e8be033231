"""What the CUDA phases share: all operations but the convolutions."""

from __future__ import annotations

from math import prod

import numpy as np

from ae_core.devices.device import Array
from ae_core.devices.kernel_device import Argument, KernelDevice
from ae_core.devices.kernels import KernelSource

THREADS = 256
REDUCTION_THREADS = 1024
"""For the loss: at batch 1 one block does all of it."""
SOURCE = KernelSource(
    "elementwise.cu",
    (
        "relu_forward",
        "relu_backward",
        "bias_forward",
        f"bias_gradient<{THREADS}>",
        "maxpool_forward",
        "maxpool_backward",
        "upsample_forward",
        "upsample_backward",
        f"mse<{REDUCTION_THREADS}>",
        "sgd",
    ),
)
GATHER = {"uint8": "gather<unsigned char>", "float32": "gather<float>"}
FEED = KernelSource("feed.cu", (*GATHER.values(), "advance"))


class GpuElementwise:
    """Elementwise operations, pooling, upsampling, loss and update, by kernels."""

    sources: tuple[KernelSource, ...] = (SOURCE, FEED)
    """Every kernel that it launches."""

    threads = 1
    capturable = True

    def __init__(self, device: KernelDevice) -> None:
        self.device = device
        self._elementwise, self._feed = device.load(SOURCE), device.load(FEED)

    def bias_forward(self, y: Array, biases: Array) -> None:
        """`y[n,k] += biases[k]`, in place."""
        _, filters, height, width = y.shape
        self._by_plane("bias_forward", y.shape, height * width, y, biases, filters, height * width)

    def bias_gradient(self, dy: Array, db: Array) -> None:
        """`db[k] = sum over n,i,j of dy[n,k,i,j]`."""
        batch, filters, height, width = dy.shape
        kernel = self._elementwise[f"bias_gradient<{THREADS}>"]
        args = (dy, db, batch, filters, height * width)
        self.device.launch(kernel, (filters, 1, 1), (THREADS, 1, 1), args)

    def relu_forward(self, x: Array, y: Array) -> None:
        """`y = max(x, 0)`; NaN stays NaN."""
        self._by_element("relu_forward", x.size, x, y)

    def relu_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """`dx = dy` where `x > 0`, else 0."""
        self._by_element("relu_backward", x.size, x, dy, dx)

    def maxpool_forward(self, x: Array, y: Array) -> None:
        """The largest of each 2x2 window."""
        self._by_plane("maxpool_forward", y.shape, prod(y.shape[2:]), x, y, *x.shape[2:])

    def maxpool_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """`dy` to the first largest element of each window, zero elsewhere."""
        height, width = x.shape[2:]
        windows = (height + 1) // 2 * ((width + 1) // 2)
        self._by_plane("maxpool_backward", x.shape, windows, x, dy, dx, height, width)

    def upsample_forward(self, x: Array, y: Array) -> None:
        """Each element becomes a 2x2 block."""
        self._by_plane("upsample_forward", x.shape, prod(x.shape[2:]), x, y, *x.shape[2:])

    def upsample_backward(self, dy: Array, dx: Array) -> None:
        """The sum of each 2x2 block."""
        self._by_plane("upsample_backward", dx.shape, prod(dx.shape[2:]), dy, dx, *dx.shape[2:])

    def mse(self, y: Array, target: Array, dy: Array, loss: Array) -> None:
        """Each image's mean squared error into `loss`; the mean's gradient into `dy`."""
        images, size = len(y), prod(y.shape[1:])
        kernel = self._elementwise[f"mse<{REDUCTION_THREADS}>"]
        args = (y, target, dy, loss, size, 2 / (images * size))
        self.device.launch(kernel, (images, 1, 1), (REDUCTION_THREADS, 1, 1), args)

    def sgd(self, parameters: Array, gradients: Array, learning_rate: Array) -> None:
        """`parameters -= learning_rate * gradients`, in place."""
        self._by_element("sgd", parameters.size, parameters, gradients, learning_rate)

    def gather(self, pixels: Array, order: Array, position: Array, images: Array) -> None:
        """`images[n] = pixels[order[position[0] + n]]`; uint8 pixels are divided by 255."""
        size = prod(images.shape[1:])
        parts = blocks(size, THREADS)
        kernel = self._feed[GATHER[np.dtype(pixels.dtype).name]]
        args = (pixels, order, position, images, size, parts)
        self.device.launch(kernel, (len(images) * parts, 1, 1), (THREADS, 1, 1), args)

    def advance(self, loss: Array, losses: Array, position: Array) -> None:
        """`losses[position[0] + n] = loss[n]`; then the position moves on."""
        args = (loss, losses, position, loss.size, losses.size)
        self.device.launch(self._feed["advance"], (1, 1, 1), (THREADS, 1, 1), args)

    def _by_element(self, kernel: str, count: int, *args: Argument) -> None:
        """A thread for each of `count` elements, which the kernel is told last."""
        grid = (blocks(count, THREADS), 1, 1)
        self.device.launch(self._elementwise[kernel], grid, (THREADS, 1, 1), (*args, count))

    def _by_plane(self, kernel: str, shape: tuple[int, ...], threads: int, *args: Argument) -> None:
        """So many threads for each plane; the kernel is told last how many blocks they take."""
        if not threads:  # pooling a plane of one row or column leaves nothing
            return
        block = min(THREADS, 32 * blocks(threads, 32))
        parts = blocks(threads, block)
        grid = (shape[0] * shape[1] * parts, 1, 1)
        self.device.launch(self._elementwise[kernel], grid, (block, 1, 1), (*args, parts))


def blocks(count: int, size: int) -> int:
    """How many blocks of `size` cover `count`."""
    return -(-count // size)
