"""GPU basic: the first port. One launch for each pair of planes, spread over streams."""

from __future__ import annotations

from ae_core.devices.device import Array
from ae_core.devices.kernel_device import KernelDevice
from ae_core.devices.kernels import KernelSource
from ae_core.phases.gpu_elementwise import GpuElementwise, blocks

TILE = 16
FLOAT = 4
"""Bytes."""
SOURCE = KernelSource(
    "conv_basic.cu",
    (f"correlate<{TILE}, false>", f"correlate<{TILE}, true>", f"correlate_gradient<{TILE}>"),
)


class GpuBasic(GpuElementwise):
    """Convolutions plane by plane.

    Launches that add into one output plane go to one stream and so run in order; others may run at
    the same time. Each operation forks the streams from the main one by an event, and joins them.

    Args:
        device: what runs the kernels.
        planes_per_launch: the granularity: 1 is a launch for each pair of filter and channel, None
            is all input planes at once, a launch for each filter. Sums have the same order, and so
            results the same bits.
        streams: how many to spread launches over.
    """

    sources: tuple[KernelSource, ...] = (*GpuElementwise.sources, SOURCE)

    capturable = False
    """A step of this phase has a quarter of a million launches: too many for a graph."""

    def __init__(
        self,
        device: KernelDevice,
        planes_per_launch: int | None = 1,
        streams: int = 16,
    ) -> None:
        super().__init__(device)
        self._kernels = device.load(SOURCE)
        self._planes_per_launch = planes_per_launch
        self._streams = device.side_streams(streams)

    def conv2d_forward(self, x: Array, weights: Array, y: Array) -> None:
        """`y[n,k] = sum over c of x[n,c] correlated with weights[k,c]`."""
        channels = x.shape[1]
        kernel = self._kernels[f"correlate<{TILE}, false>"]
        self._correlate(kernel, x, weights, y, output_stride=9 * channels, input_stride=9)

    def conv2d_input_gradient(self, dy: Array, weights: Array, dx: Array) -> None:
        """`dx[n,c] = sum over k of dy[n,k] correlated with the mirrored weights[k,c]`."""
        channels = dx.shape[1]
        kernel = self._kernels[f"correlate<{TILE}, true>"]
        self._correlate(kernel, dy, weights, dx, output_stride=9, input_stride=9 * channels)

    def conv2d_weight_gradient(self, x: Array, dy: Array, dw: Array) -> None:
        """`dw[k,c] = sum over n of x[n,c] correlated with dy[n,k]`."""
        (batch, channels, height, width), filters = x.shape, dy.shape[1]
        kernel, launch = self._kernels[f"correlate_gradient<{TILE}>"], self.device.launch
        inputs, gradients, weights = map(self.device.address, (x, dy, dw))
        plane = FLOAT * height * width
        together = self._planes_per_launch or channels
        firsts = [(k, c) for k in range(filters) for c in range(0, channels, together)]

        self.device.fork(self._streams)
        for number, (k, c) in enumerate(firsts):
            stream = self._streams[number % len(self._streams)]
            for n in range(batch):
                source = inputs + (n * channels + c) * plane
                gradient = gradients + (n * filters + k) * plane
                target = weights + FLOAT * 9 * (k * channels + c)
                args = (source, gradient, target, height, width, int(n > 0))
                launch(kernel, (min(together, channels - c), 1, 1), (3, 3, 1), args, stream)
        self.device.join(self._streams)

    def _correlate(
        self,
        kernel: object,
        x: Array,
        weights: Array,
        y: Array,
        output_stride: int,
        input_stride: int,
    ) -> None:
        """Strides are of `weights`, in elements, from one output or input plane to the next."""
        (batch, inputs, height, width), outputs = x.shape, y.shape[1]
        launch = self.device.launch
        source, kernels, target = map(self.device.address, (x, weights, y))
        plane = FLOAT * height * width
        together = self._planes_per_launch or inputs
        grid, block = (blocks(width, TILE), blocks(height, TILE), 1), (TILE, TILE, 1)

        self.device.fork(self._streams)
        for n in range(batch):
            for o in range(outputs):
                output = n * outputs + o
                stream = self._streams[output % len(self._streams)]
                for p in range(0, inputs, together):
                    args = (
                        source + (n * inputs + p) * plane,
                        kernels + FLOAT * (o * output_stride + p * input_stride),
                        target + output * plane,
                        min(together, inputs - p),
                        input_stride,
                        height,
                        width,
                        int(p > 0),
                    )
                    launch(kernel, grid, block, args, stream)
        self.device.join(self._streams)
