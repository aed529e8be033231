"""The phases of the story: each implements the same operations, each in its own way.

To add a phase, write a module with a class that satisfies `Operations`, and name it in `PHASES`.
Everything else (layers, training, verification, profiling, the command line) then knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, cast

from ae_core.devices.device import Array, Device
from ae_core.devices.kernel_device import KernelDevice, open_device
from ae_core.errors import InputError


class Operations(Protocol):
    """What a layer may ask of a phase.

    Activations are `(N, C, H, W)`, weights `(K, C, 3, 3)`, biases `(K,)`, all C-ordered and of one
    floating dtype (float32 in training). Convolutions keep the plane's size: stride 1, one pixel
    of zero padding. Outputs are preallocated and wholly overwritten, never accumulated into.
    Once a phase has seen its shapes, no operation allocates.
    """

    device: Device
    threads: int
    """CPU threads that the arithmetic uses; 1 where a GPU does it."""
    capturable: bool
    """Whether a training step may become a CUDA graph."""

    def conv2d_forward(self, x: Array, weights: Array, y: Array) -> None:
        """`y[n,k] = sum over c of x[n,c] correlated with weights[k,c]`."""

    def conv2d_input_gradient(self, dy: Array, weights: Array, dx: Array) -> None:
        """`dx[n,c] = sum over k of dy[n,k] convolved with weights[k,c]` (the flipped kernel)."""

    def conv2d_weight_gradient(self, x: Array, dy: Array, dw: Array) -> None:
        """`dw[k,c,u,v] = sum over n,i,j of dy[n,k,i,j] * x[n,c,i+u-1,j+v-1]`."""

    def bias_forward(self, y: Array, biases: Array) -> None:
        """`y[n,k] += biases[k]`, in place."""

    def bias_gradient(self, dy: Array, db: Array) -> None:
        """`db[k] = sum over n,i,j of dy[n,k,i,j]`."""

    def relu_forward(self, x: Array, y: Array) -> None:
        """`y = max(x, 0)`; NaN stays NaN."""

    def relu_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """`dx = dy` where `x > 0`, else 0."""

    def maxpool_forward(self, x: Array, y: Array) -> None:
        """The largest of each 2x2 window, stride 2; an odd last row or column is dropped."""

    def maxpool_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """`dy` to the first largest element (row by row) of each window, zero elsewhere."""

    def upsample_forward(self, x: Array, y: Array) -> None:
        """Nearest neighbour: each element becomes a 2x2 block."""

    def upsample_backward(self, dy: Array, dx: Array) -> None:
        """The sum of each 2x2 block."""

    def mse(self, y: Array, target: Array, dy: Array, loss: Array) -> None:
        """Each image's mean squared error into `loss` `(N,)`; the mean's gradient into `dy`."""

    def sgd(self, parameters: Array, gradients: Array, learning_rate: float) -> None:
        """`parameters -= learning_rate * gradients`, in place."""


@dataclass(frozen=True)
class Phase:
    """A phase's entry in the table: where its operations are and how the book calls it."""

    module: str
    implementation: str
    title: str
    cuda: bool = False
    """Whether it takes a device that runs kernels."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the implementation."""


PHASES = {
    "cpu": Phase("ae_core.phases.cpu_loops", "CpuLoops", "CPU loops, one thread"),
    "cpu-parallel": Phase("ae_core.phases.cpu_parallel", "CpuParallel", "CPU loops, all cores"),
    "gpu-basic": Phase(
        "ae_core.phases.gpu_basic", "GpuBasic", "GPU basic, a launch per pair", cuda=True
    ),
    "gpu-basic-filter": Phase(
        "ae_core.phases.gpu_basic",
        "GpuBasic",
        "GPU basic, a launch per filter",
        cuda=True,
        options={"planes_per_launch": None},
    ),
    "gpu-v1": Phase("ae_core.phases.gpu_v1_batched", "GpuBatched", "GPU v1, batched", cuda=True),
    "gpu-v2": Phase(
        "ae_core.phases.gpu_v2_implicit_gemm", "GpuImplicitGemm", "GPU v2, implicit GEMM", cuda=True
    ),
}


def named(name: str) -> Phase:
    """The table's entry for `name`.

    Raises:
        InputError: no phase has this name.
    """
    if name not in PHASES:
        raise InputError(f"phase: expected one of {', '.join(PHASES)}, found {name!r}")
    return PHASES[name]


def title(name: str) -> str:
    """How the book calls a phase or a variant of it (`gpu-v2, graph`), or a library beside them."""
    base, comma, variant = name.partition(", ")
    return f"{PHASES[base].title}{comma}{variant}" if base in PHASES else name


def implementation(name: str) -> Any:
    """The class of a phase's operations; its module is imported only now."""
    phase = named(name)
    return getattr(import_module(phase.module), phase.implementation)


def create(name: str, device: str | KernelDevice = "auto") -> Operations:
    """The operations of the phase called `name`.

    Args:
        name: a key of `PHASES`.
        device: for CUDA phases, what runs the kernels: `auto`, `cuda`, `emulated`, or a device.

    Raises:
        InputError: no phase has this name.
        DeviceError: the device can't be used.
    """
    phase = named(name)
    if not phase.cuda:
        return cast(Operations, implementation(name)())
    opened = open_device(device) if isinstance(device, str) else device
    return cast(Operations, implementation(name)(opened, **phase.options))


def threading_layer(operations: Operations) -> str | None:
    """What runs a phase's threads (`omp`, `tbb`, `workqueue`); None where there is only one."""
    if operations.threads == 1:
        return None
    from ae_core.phases.compiled import threading_layer as of_numba  # noqa: PLC0415

    return of_numba()
