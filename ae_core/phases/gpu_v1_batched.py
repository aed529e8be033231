"""GPU v1: one launch an operation, and a kernel of its own for the weight gradient."""

from __future__ import annotations

from ae_core.devices.device import Array
from ae_core.devices.kernel_device import KernelDevice
from ae_core.devices.kernels import KernelSource
from ae_core.phases.gpu_elementwise import GpuElementwise, blocks

TILES = (8, 16)
"""Sides of a block: the small one for planes that it covers, so that no threads idle."""
MAX_GRID_Z = 65535
SOURCE = KernelSource(
    "conv_batched.cu",
    tuple(
        f"{kernel}>"
        for tile in TILES
        for kernel in (
            f"correlate<{tile}, false",
            f"correlate<{tile}, true",
            f"weight_gradient<{tile}",
        )
    ),
)


class GpuBatched(GpuElementwise):
    """Convolutions in one launch each: the grid covers pixels, filters and images."""

    sources: tuple[KernelSource, ...] = (*GpuElementwise.sources, SOURCE)

    def __init__(self, device: KernelDevice) -> None:
        super().__init__(device)
        self._kernels = device.load(SOURCE)

    def conv2d_forward(self, x: Array, weights: Array, y: Array) -> None:
        """`y[n,k] = sum over c of x[n,c] correlated with weights[k,c]`."""
        self._correlate("false", x, weights, y, output_stride=9 * x.shape[1], input_stride=9)

    def conv2d_input_gradient(self, dy: Array, weights: Array, dx: Array) -> None:
        """`dx[n,c] = sum over k of dy[n,k] correlated with the mirrored weights[k,c]`."""
        self._correlate("true", dy, weights, dx, output_stride=9, input_stride=9 * dx.shape[1])

    def conv2d_weight_gradient(self, x: Array, dy: Array, dw: Array) -> None:
        """`dw[k,c,u,v] = sum over n,i,j of dy[n,k,i,j] * x[n,c,i+u-1,j+v-1]`."""
        (batch, channels, height, width), filters = x.shape, dy.shape[1]
        tile = _tile(height, width)
        self.device.launch(
            self._kernels[f"weight_gradient<{tile}>"],
            (channels, filters, 1),
            (tile, tile, 1),
            (x, dy, dw, batch, channels, filters, height, width),
        )

    def _correlate(
        self, flip: str, x: Array, weights: Array, y: Array, output_stride: int, input_stride: int
    ) -> None:
        """Strides are of `weights`, in elements, from one output or input plane to the next."""
        (batch, inputs, height, width), outputs = x.shape, y.shape[1]
        tile = _tile(height, width)
        at_once = MAX_GRID_Z // outputs
        for first in range(0, batch, at_once):
            images = min(at_once, batch - first)
            part = slice(first, first + images)
            self.device.launch(
                self._kernels[f"correlate<{tile}, {flip}>"],
                (blocks(width, tile), blocks(height, tile), images * outputs),
                (tile, tile, 1),
                (
                    *(x[part] if images < batch else x, weights, y[part] if images < batch else y),
                    *(inputs, outputs, height, width, output_stride, input_stride),
                ),
            )


def _tile(height: int, width: int) -> int:
    return TILES[0] if max(height, width) <= TILES[0] else TILES[1]
