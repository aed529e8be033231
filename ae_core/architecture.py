"""The network as data: its shapes, its parameters in one buffer, and what each operation costs.

Nothing here computes a pixel. Layers, kernels, tables and drawings all read the same description,
so that a figure in the book and an allocation on a GPU cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ae_core.errors import InputError

KERNEL_SIZE = 3
"""Side of every convolution kernel; with one pixel of padding the planes keep their size."""

LayerKind = Literal["input", "conv", "relu", "pool", "upsample"]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class LayerSpec:
    """One layer: its name, kind, and the shapes `(C, H, W)` that it maps between."""

    name: str
    kind: LayerKind
    input: Shape
    output: Shape

    @property
    def parameter_count(self) -> int:
        """Weights and biases; zero for all but convolutions."""
        return self.output[0] * (self.input[0] * KERNEL_SIZE**2 + 1) if self.kind == "conv" else 0


@dataclass(frozen=True)
class ParameterSpec:
    """Where a tensor lives in the parameter buffer (and its gradient in the gradient buffer)."""

    name: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def elements(self) -> slice:
        """The tensor's elements in the flat buffer."""
        return slice(self.offset, self.offset + self.size)


@dataclass(frozen=True)
class OperationCost:
    """Arithmetic and the least memory traffic of one operation in one training step.

    `operation` is the method of `ae_core.phases.Operations`. `flops` counts a multiply-add as two
    and, like cuDNN's convention, counts the products with padding. `bytes` reads every input
    once and writes every output once, in float32: a floor, not what a kernel does.
    """

    layer: str
    operation: str
    flops: int
    bytes: int


@dataclass(frozen=True)
class Architecture:
    """A convolutional autoencoder of this book's form: two stages down, two up, one out.

    The defaults are the book's network for CIFAR-10. Fewer filters and smaller images give the
    same network in small, for tests and demonstrations.

    Raises:
        InputError: a size that the two pooling stages cannot halve, or a count below one.
    """

    channels: int = 3
    height: int = 32
    width: int = 32
    filters: tuple[int, int, int, int] = (256, 128, 128, 256)

    def __post_init__(self) -> None:
        if len(self.filters) != 4:
            raise InputError(
                f"filters: expected four counts, one for each of conv1 to conv4, "
                f"found {len(self.filters)}: {self.filters}"
            )
        for name, value in (("height", self.height), ("width", self.width)):
            if value < 4 or value % 4:
                raise InputError(
                    f"{name}: expected a positive multiple of 4, since two pooling layers "
                    f"halve the image twice, found {value}"
                )
        for name, smallest in (("channels", self.channels), ("filters", min(self.filters))):
            if smallest < 1:
                raise InputError(f"{name}: expected counts of at least 1, found {smallest}")

    @cached_property
    def layers(self) -> tuple[LayerSpec, ...]:
        """All layers in forward order, the input first."""
        image = (self.channels, self.height, self.width)
        chain = [LayerSpec("input", "input", image, image)]

        def add(name: str, kind: LayerKind, output: Shape) -> None:
            chain.append(LayerSpec(name, kind, chain[-1].output, output))

        for stage, filters in enumerate((*self.filters, self.channels), start=1):
            _, height, width = chain[-1].output
            add(f"conv{stage}", "conv", (filters, height, width))
            if stage == 5:
                break
            add(f"relu{stage}", "relu", (filters, height, width))
            if stage <= 2:
                add(f"pool{stage}", "pool", (filters, height // 2, width // 2))
            else:
                add(f"upsample{stage}", "upsample", (filters, height * 2, width * 2))
        return tuple(chain)

    @property
    def latent(self) -> LayerSpec:
        """The encoder's last layer; its output is the latent."""
        return next(layer for layer in self.layers if layer.name == "pool2")

    @property
    def latent_features(self) -> int:
        """Features per image: 8,192 in the book's network."""
        return prod(self.latent.output)

    @cached_property
    def parameters(self) -> tuple[ParameterSpec, ...]:
        """Every parameter tensor, in the order of the buffer."""
        specs: list[ParameterSpec] = []
        offset = 0
        for layer in self.layers:
            if layer.kind != "conv":
                continue
            weights = (layer.output[0], layer.input[0], KERNEL_SIZE, KERNEL_SIZE)
            for suffix, shape in (("weights", weights), ("biases", weights[:1])):
                specs.append(ParameterSpec(f"{layer.name}.{suffix}", shape, offset))
                offset += prod(shape)
        return tuple(specs)

    @property
    def parameter_count(self) -> int:
        """Elements of the parameter buffer: 751,875 in the book's network."""
        return self.parameters[-1].offset + self.parameters[-1].size

    def views(self, buffer: Any) -> dict[str, Any]:
        """Every parameter tensor by name, as a view of a flat buffer `(parameter_count,)`."""
        return {spec.name: buffer[spec.elements].reshape(spec.shape) for spec in self.parameters}

    def initial_parameters(self, seed: int, scale: float = 1.0) -> npt.NDArray[np.float32]:
        """The flat float32 buffer that every phase starts from.

        Weights follow He et al. (2015): normal with variance 2 / fan-in, which keeps the signal's
        size through ReLU layers. Biases are zero.

        Args:
            seed: of the normal deviates.
            scale: times these weights. Below 1, what training adds outweighs sooner what was drawn.
        """
        random = np.random.default_rng(seed)
        buffer = np.zeros(self.parameter_count, np.float32)
        for spec in self.parameters:
            if spec.name.endswith("weights"):
                deviation = scale * np.sqrt(2 / prod(spec.shape[1:]))
                buffer[spec.elements] = deviation * random.standard_normal(spec.size)
        return buffer

    def costs(self, batch: int = 1) -> list[OperationCost]:
        """Every operation of one training step over `batch` images, in the order it runs.

        The gradient with respect to the image is not in the list: training does not need it.
        """
        forward = [cost for layer in self.layers for cost in _forward_costs(layer, batch)]
        image = 4 * batch * prod(self.layers[0].output)
        loss = OperationCost("loss", "mse", 3 * image // 4, 3 * image)
        backward = [
            cost for layer in reversed(self.layers) for cost in _backward_costs(layer, batch)
        ]
        update = OperationCost("update", "sgd", 2 * self.parameter_count, 12 * self.parameter_count)
        return [*forward, loss, *backward, update]


MINI = Architecture(height=16, width=16, filters=(12, 8, 8, 12))
"""The book's network in small, for slow devices: images averaged to 16 x 16, few filters."""


def _forward_costs(layer: LayerSpec, batch: int) -> list[OperationCost]:
    x, y = batch * prod(layer.input), batch * prod(layer.output)
    biases = layer.output[0]
    weights = layer.parameter_count - biases
    match layer.kind:
        case "conv":
            flops = 2 * y * layer.input[0] * KERNEL_SIZE**2
            return [
                OperationCost(layer.name, "conv2d_forward", flops, 4 * (x + weights + y)),
                OperationCost(layer.name, "bias_forward", y, 4 * (2 * y + biases)),
            ]
        case "relu":
            return [OperationCost(layer.name, "relu_forward", y, 4 * (x + y))]
        case "pool":
            return [OperationCost(layer.name, "maxpool_forward", 3 * y, 4 * (x + y))]
        case "upsample":
            return [OperationCost(layer.name, "upsample_forward", 0, 4 * (x + y))]
        case _:
            return []


def _backward_costs(layer: LayerSpec, batch: int) -> list[OperationCost]:
    x, y = batch * prod(layer.input), batch * prod(layer.output)
    biases = layer.output[0]
    weights = layer.parameter_count - biases
    match layer.kind:
        case "conv":
            flops, traffic = 2 * y * layer.input[0] * KERNEL_SIZE**2, 4 * (x + weights + y)
            costs = [
                OperationCost(layer.name, "conv2d_weight_gradient", flops, traffic),
                OperationCost(layer.name, "bias_gradient", y, 4 * (y + biases)),
            ]
            if layer.name != "conv1":
                costs.append(OperationCost(layer.name, "conv2d_input_gradient", flops, traffic))
            return costs
        case "relu":
            return [OperationCost(layer.name, "relu_backward", y, 4 * (x + y + x))]
        case "pool":
            return [OperationCost(layer.name, "maxpool_backward", 3 * y, 4 * (x + y + x))]
        case "upsample":
            return [OperationCost(layer.name, "upsample_backward", 3 * x, 4 * (y + x))]
        case _:
            return []
