"""GPU v2: every convolution as a tiled matrix product with a virtual im2col matrix."""

from __future__ import annotations

from dataclasses import dataclass

from ae_core.devices.device import Array
from ae_core.devices.kernel_device import KernelDevice
from ae_core.devices.kernels import KernelSource
from ae_core.phases.gpu_elementwise import THREADS, GpuElementwise, blocks


@dataclass(frozen=True)
class Tiling:
    """How a block of 256 threads cuts its work.

    It computes `rows` of the result for `pixels` (forward, input gradient) or for `channels` of
    nine taps (weight gradient), and sums over the other of the two, tile by tile. A thread
    computes `thread_rows` x `thread_columns`.
    """

    rows: int
    pixels: int
    channels: int
    thread_rows: int
    thread_columns: int

    def blocks(self, output: tuple[int, int, int], batch: int = 1) -> int:
        """Blocks of a forward pass that writes `(batch, *output)`."""
        planes, height, width = output
        return blocks(planes, self.rows) * blocks(batch * height * width, self.pixels)

    def __str__(self) -> str:
        sizes = (self.rows, self.pixels, self.channels, self.thread_rows, self.thread_columns)
        return ", ".join(map(str, sizes))


TILINGS = {
    "FORWARD": Tiling(16, 16, 16, 4, 4),
    "INPUT_GRADIENT": Tiling(16, 16, 16, 4, 4),
    "WEIGHT_GRADIENT": Tiling(16, 64, 4, 2, 9),
}
"""Small tiles: with one image there are few, and each processor of a large GPU should get one."""
BIAS_SUM = f"bias_sum<{THREADS}>"


def gemm(direction: str, tiling: Tiling) -> str:
    """The instantiation for a pass: `FORWARD`, `INPUT_GRADIENT` or `WEIGHT_GRADIENT`."""
    return f"conv2d_gemm<{direction}, {tiling}>"


SOURCE = KernelSource("conv_implicit_gemm.cu", tuple(gemm(*item) for item in TILINGS.items()))
BIAS_SOURCE = KernelSource("bias_batched.cu", ("bias_add", BIAS_SUM))


class GpuImplicitGemm(GpuElementwise):
    """Convolutions as matrix products; biases without divisions, their gradients by shuffles."""

    sources: tuple[KernelSource, ...] = (*GpuElementwise.sources, SOURCE, BIAS_SOURCE)

    def __init__(self, device: KernelDevice, tilings: dict[str, Tiling] = TILINGS) -> None:
        super().__init__(device)
        self._tilings = tilings
        self._names = {direction: gemm(direction, tiling) for direction, tiling in tilings.items()}
        source = KernelSource(SOURCE.file, tuple(self._names.values()))
        self._kernels = {**device.load(source), **device.load(BIAS_SOURCE)}

    def conv2d_forward(self, x: Array, weights: Array, y: Array) -> None:
        """`y = weights @ windows(x)`: filters x pixels."""
        self._multiply("FORWARD", weights, x, y, x, y, len(weights))

    def conv2d_input_gradient(self, dy: Array, weights: Array, dx: Array) -> None:
        """`dx = mirrored weights @ windows(dy)`: channels x pixels."""
        self._multiply("INPUT_GRADIENT", weights, dy, dx, dx, dy, dx.shape[1])

    def conv2d_weight_gradient(self, x: Array, dy: Array, dw: Array) -> None:
        """`dw = dy @ windows(x)`: filters x (channels and taps)."""
        self._multiply("WEIGHT_GRADIENT", dy, x, dw, x, dy, len(dw))

    def bias_forward(self, y: Array, biases: Array) -> None:
        """`y[n,k] += biases[k]`, in place."""
        batch, filters, height, width = y.shape
        parts = blocks(height * width, THREADS)
        args = (y, biases, height * width, parts)
        grid = (batch * parts, filters, 1)
        self.device.launch(self._kernels["bias_add"], grid, (THREADS, 1, 1), args)

    def bias_gradient(self, dy: Array, db: Array) -> None:
        """`db[k] = sum over n,i,j of dy[n,k,i,j]`."""
        batch, filters, height, width = dy.shape
        args = (dy, db, batch, height * width)
        self.device.launch(self._kernels[BIAS_SUM], (filters, 1, 1), (THREADS, 1, 1), args)

    def _multiply(
        self, direction: str, a: Array, b: Array, c: Array, x: Array, dy: Array, rows: int
    ) -> None:
        """`c = a @ windows(b)`, in so many rows; the convolution is from `x` to `dy`."""
        tiling = self._tilings[direction]
        batch, channels, height, width = x.shape
        if direction == "WEIGHT_GRADIENT":
            across = blocks(channels, tiling.channels)
        else:
            across = blocks(batch * height * width, tiling.pixels)
        self.device.launch(
            self._kernels[self._names[direction]],
            (across, blocks(rows, tiling.rows), 1),
            (THREADS, 1, 1),
            (a, b, c, batch, channels, dy.shape[1], height, width),
        )
