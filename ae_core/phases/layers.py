"""The layers, linked to their predecessors. They own shapes and order; a phase does the work.

A forward pass is pulled: the last layer asks the one before it for its output, down to the input.
A backward pass hands the gradient the other way. Activations are `(N, C, H, W)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Shape
from ae_core.devices.device import Array
from ae_core.phases.operations import Operations


class Layer:
    """What all layers share: a predecessor, and buffers for the output and the input gradient.

    Buffers are allocated once for `batch_size` images; a smaller batch uses their first rows.
    """

    operations: Operations
    batch_size: int
    dtype: np.dtype[Any]
    output: Array
    """`(batch, *dimension)`, as the last `forward` left it."""
    input_gradient: Array | None
    """`(batch, *previous.dimension)`, as the last `backward` left it; None if nobody needs it."""

    def __init__(self, previous: Layer, name: str, dimension: Shape) -> None:
        self.previous = previous
        self.operations = previous.operations
        self.name = name
        self.dimension = dimension
        """Output shape of one image, `(C, H, W)`."""
        self.batch_size, self.dtype = previous.batch_size, previous.dtype
        self.needs_gradient = True
        self.buffers = [self._buffer(dimension)]
        if previous.needs_gradient:
            self.buffers.append(self._buffer(previous.dimension))
        self.set_batch(self.batch_size)

    def forward(self) -> Array:
        """Pull the previous layer's output and return this layer's."""
        raise NotImplementedError

    def backward(self, output_gradient: Array) -> None:
        """Compute this layer's gradients, then hand the input gradient to the previous layer."""
        raise NotImplementedError

    def set_params(self, parameters: dict[str, Array], gradients: dict[str, Array]) -> None:
        """Take this layer's views of the parameter and gradient buffers; most layers have none."""

    def set_batch(self, batch: int) -> None:
        """Use the first `batch` rows of the buffers from now on."""
        self.output, *gradient = (buffer[:batch] for buffer in self.buffers)
        self.input_gradient = gradient[0] if gradient else None

    def _buffer(self, dimension: Shape) -> Array:
        return self.operations.device.empty((self.batch_size, *dimension), self.dtype)


class Input(Layer):
    """Where a batch of images enters, and where the chain ends."""

    def __init__(
        self,
        operations: Operations,
        dimension: Shape,
        batch_size: int,
        dtype: npt.DTypeLike = np.float32,
        needs_gradient: bool = False,
    ) -> None:
        self.operations = operations
        self.name = "input"
        self.dimension = dimension
        self.batch_size = batch_size
        self.dtype = np.dtype(dtype)
        self.needs_gradient = needs_gradient
        self.buffers = []
        self.gradient: Array = None
        """Gradient of the loss with respect to the images, if asked for."""

    def set_batch(self, batch: int) -> None:
        """Nothing to do: whoever has the images sets `output`."""

    def forward(self) -> Array:
        """The images."""
        return self.output

    def backward(self, output_gradient: Array) -> None:
        """Keep the gradient; there is no one to hand it to."""
        self.gradient = output_gradient


class Conv2D(Layer):
    """A 3x3 convolution with padding 1, and a bias per filter."""

    def __init__(self, previous: Layer, name: str, filters: int) -> None:
        _, height, width = previous.dimension
        super().__init__(previous, name, (filters, height, width))

    def set_params(self, parameters: dict[str, Array], gradients: dict[str, Array]) -> None:
        """Views `(K, C, 3, 3)` and `(K,)` of the parameters, and of their gradients."""
        self.weights, self.biases = parameters["weights"], parameters["biases"]
        self.weight_gradient, self.bias_gradient = gradients["weights"], gradients["biases"]

    def forward(self) -> Array:
        """The convolution, then the bias in place."""
        x = self.previous.forward()
        self.operations.conv2d_forward(x, self.weights, self.output)
        self.operations.bias_forward(self.output, self.biases)
        return self.output

    def backward(self, output_gradient: Array) -> None:
        """Weight, bias and, if anyone needs it, input gradient."""
        x = self.previous.output
        self.operations.conv2d_weight_gradient(x, output_gradient, self.weight_gradient)
        self.operations.bias_gradient(output_gradient, self.bias_gradient)
        if self.previous.needs_gradient:
            self.operations.conv2d_input_gradient(
                output_gradient, self.weights, self.input_gradient
            )
            self.previous.backward(self.input_gradient)


class ReLU(Layer):
    """The positive part."""

    def __init__(self, previous: Layer, name: str) -> None:
        super().__init__(previous, name, previous.dimension)

    def forward(self) -> Array:
        """The positive part of the previous output."""
        self.operations.relu_forward(self.previous.forward(), self.output)
        return self.output

    def backward(self, output_gradient: Array) -> None:
        """The gradient passes where the input was positive."""
        self.operations.relu_backward(self.previous.output, output_gradient, self.input_gradient)
        self.previous.backward(self.input_gradient)


class MaxPool2D(Layer):
    """The largest of each 2x2 window."""

    def __init__(self, previous: Layer, name: str) -> None:
        channels, height, width = previous.dimension
        super().__init__(previous, name, (channels, height // 2, width // 2))

    def forward(self) -> Array:
        """The windows' maxima."""
        self.operations.maxpool_forward(self.previous.forward(), self.output)
        return self.output

    def backward(self, output_gradient: Array) -> None:
        """The gradient goes to each window's first maximum."""
        self.operations.maxpool_backward(self.previous.output, output_gradient, self.input_gradient)
        self.previous.backward(self.input_gradient)


class UpSample2D(Layer):
    """Nearest-neighbour upsampling by two."""

    def __init__(self, previous: Layer, name: str) -> None:
        channels, height, width = previous.dimension
        super().__init__(previous, name, (channels, height * 2, width * 2))

    def forward(self) -> Array:
        """Each element as a 2x2 block."""
        self.operations.upsample_forward(self.previous.forward(), self.output)
        return self.output

    def backward(self, output_gradient: Array) -> None:
        """The sum over each block."""
        self.operations.upsample_backward(output_gradient, self.input_gradient)
        self.previous.backward(self.input_gradient)
