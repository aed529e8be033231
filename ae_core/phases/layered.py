"""A plan made of linked layers: what a phase needs who writes its operations one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import prod
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.devices.device import Array
from ae_core.devices.kernel_device import KernelDevice
from ae_core.errors import InputError
from ae_core.parameters import Precision, StepKind
from ae_core.phases.feed import Feed
from ae_core.phases.layers import Conv2D, Input, Layer, MaxPool2D, ReLU, UpSample2D
from ae_core.phases.operations import Operations
from ae_core.phases.plan import Cost, Step

KINDS: dict[str, StepKind] = {"conv2d": "convolution", "mse": "loss", "sgd": "update"}
"""By the first part of an operation's name; all others are elementwise."""


class Layered:
    """The network as linked layers over a phase's operations, unrolled into lists of steps.

    A pass through the layers is walked once for each batch size: what it calls becomes a step, with
    the arrays that it was called on.

    Args:
        name: the phase, a key of `ae_core.phases.PHASES`.
        operations: the phase's.
        architecture: the network.
        batch_size: the most images in one pass.
        dtype: float32, or float64 for checks on the CPU.
        image_gradient: also compute the gradient with respect to the images, for checks.
    """

    precision: Precision = "float32"
    fetch: Sequence[Step]
    encode: Sequence[Step]
    evaluate: Sequence[Step]
    differentiate: Sequence[Step]
    update: Sequence[Step]
    advance: Sequence[Step]
    not_materialised: frozenset[str] = frozenset()

    def __init__(
        self,
        name: str,
        operations: Operations,
        architecture: Architecture,
        batch_size: int = 1,
        *,
        dtype: npt.DTypeLike = np.float32,
        image_gradient: bool = False,
    ) -> None:
        self.name = name
        self.operations, self.architecture, self.batch_size = operations, architecture, batch_size
        self.device, self.threads = operations.device, operations.threads
        self.capturable = operations.capturable
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.layers = self._chain(image_gradient)
        empty = self.device.empty
        self.parameters = empty((architecture.parameter_count,), self.dtype)
        self.gradients = empty((architecture.parameter_count,), self.dtype)
        self.learning_rate = empty((1,), self.dtype)
        self.loss = empty((batch_size,), self.dtype)
        self._images = empty((batch_size, *self.layers[0].dimension), self.dtype)
        self._output_gradient = empty(self._images.shape, self.dtype)
        self._share_parameters()
        self._feed: Feed | None = None
        self._unrolled: dict[int, dict[str, list[Step]]] = {}
        self.set_batch(batch_size)

    def take_from(self, feed: Feed) -> None:
        """Let `fetch` and `advance` work on this feed from now on."""
        self._feed = feed
        self._unrolled.clear()
        self.set_batch(self._batch)

    def set_batch(self, images: int) -> None:
        """Make the lists those for so many images.

        Raises:
            InputError: none, or more than the buffers hold.
        """
        if not 1 <= images <= self.batch_size:
            raise InputError(f"images: expected 1 to {self.batch_size}, found {images}")
        self._batch = images
        for layer in self.layers:
            layer.set_batch(images)
        self.layers[0].output = self._images[:images]
        if images not in self._unrolled:
            self._unrolled[images] = self._unroll(images)
        lists = self._unrolled[images]
        self.fetch, self.advance = lists["fetch"], lists["advance"]
        self.encode, self.evaluate = lists["encode"], lists["evaluate"]
        self.differentiate, self.update = lists["differentiate"], lists["update"]

    def set_images(self, images: npt.NDArray[Any]) -> None:
        """Make host images `(N, C, H, W)` the batch."""
        self.device.upload(np.ascontiguousarray(images, self.dtype), self._images[: self._batch])

    def refresh(self) -> None:
        """Nothing to do: the layers read the parameters themselves."""

    def activation(self, layer: str) -> npt.NDArray[Any]:
        """A layer's output for the batch, as a host array `(N, C, H, W)`."""
        return self.device.download({each.name: each for each in self.layers}[layer].output)

    def image_gradient(self) -> npt.NDArray[Any]:
        """The gradient with respect to the images, if it was asked for."""
        return self.device.download(self._input.gradient)

    def buffers(self) -> Iterable[Array]:
        """Activations, gradients and losses."""
        return [
            self.gradients,
            self._output_gradient,
            self.loss,
            *(buffer for layer in self.layers for buffer in layer.buffers),
        ]

    @property
    def _input(self) -> Input:
        return self.layers[0]  # type: ignore[return-value]

    def _unroll(self, images: int) -> dict[str, list[Step]]:
        """What each pass calls, with the views of the buffers that `set_batch` has just made."""
        first, last = self._input, self.layers[-1]
        latent = next(a for a in self.layers if a.name == self.architecture.latent.name)
        loss, output_gradient = self.loss[:images], self._output_gradient[:images]

        def compare(operations: Operations) -> None:
            operations.mse(last.output, first.output, output_gradient, loss)

        def steps(*passes: Callable[[], object] | tuple[str, Callable[[Operations], None]]) -> Any:
            return self._calls(images, passes)

        forward, backward = last.forward, partial(last.backward, output_gradient)
        lists = {
            "encode": steps(latent.forward),
            "evaluate": steps(forward, ("loss", compare)),
            "differentiate": steps(forward, ("loss", compare), backward),
            "update": steps(("update", self._descend)),
            "fetch": [],
            "advance": [],
        }
        if self._feed:
            lists |= self._feeding(self._feed, images, loss)
        return lists

    def _calls(self, images: int, passes: Sequence[Any]) -> list[Step]:
        """Walk the passes; each operation that one calls is a step."""
        steps: list[Step] = []
        costs = {f"{c.layer}.{c.operation}": c for c in self.architecture.costs(images)}
        for layer in self.layers:
            layer.operations = cast(Operations, _Calls(self.operations, layer.name, costs, steps))
        for each in passes:
            if isinstance(each, tuple):
                name, call = each
                call(cast(Operations, _Calls(self.operations, name, costs, steps)))
            else:
                each()
        for layer in self.layers:
            layer.operations = self.operations
        return steps

    def _descend(self, operations: Operations) -> None:
        operations.sgd(self.parameters, self.gradients, self.learning_rate)

    def _feeding(self, feed: Feed, images: int, loss: Array) -> dict[str, list[Step]]:
        batch, operations = self._images[:images], self.operations
        read = prod(feed.pixels.shape[1:]) * np.dtype(feed.pixels.dtype).itemsize
        written = prod(self._images.shape[1:]) * self.dtype.itemsize
        values = images * prod(self._images.shape[1:])
        fetch = Step(
            name="images",
            kind="input",
            cost=Cost(flops=values, bytes=images * (read + written)),
            run=_queued(
                operations, operations.gather, feed.pixels, feed.order, feed.position, batch
            ),
        )
        advance = Step(
            name="losses kept",
            kind="input",
            cost=Cost(flops=0, bytes=images * 2 * self.dtype.itemsize),
            run=_queued(operations, operations.advance, loss, feed.losses, feed.position),
        )
        return {"fetch": [fetch], "advance": [advance]}

    def _chain(self, image_gradient: bool) -> list[Layer]:
        image, *specs = self.architecture.layers
        layer: Layer = Input(
            self.operations, image.output, self.batch_size, self.dtype, image_gradient
        )
        layers = [layer]
        for spec in specs:
            match spec.kind:
                case "conv":
                    layer = Conv2D(layer, spec.name, filters=spec.output[0])
                case "relu":
                    layer = ReLU(layer, spec.name)
                case "pool":
                    layer = MaxPool2D(layer, spec.name)
                case "upsample":
                    layer = UpSample2D(layer, spec.name)
            layers.append(layer)
        return layers

    def _share_parameters(self) -> None:
        parameters = self.architecture.views(self.parameters)
        gradients = self.architecture.views(self.gradients)
        for layer in self.layers:
            names = [name for name in parameters if name.startswith(f"{layer.name}.")]
            layer.set_params(
                {name.split(".")[1]: parameters[name] for name in names},
                {name.split(".")[1]: gradients[name] for name in names},
            )


def _queued(
    operations: Operations, call: Callable[..., None], *arguments: Any
) -> Callable[[], None]:
    """A call with its arguments; where a graph could hold its launches, they are prepared."""
    run = partial(call, *arguments)
    return cast(KernelDevice, operations.device).prepare(run) if operations.capturable else run


class _Calls:
    """Stands for a phase's operations while a pass is walked, and turns each call into a step."""

    def __init__(
        self, operations: Operations, layer: str, costs: dict[str, Any], steps: list[Step]
    ) -> None:
        self._operations, self._layer = operations, layer
        self._costs, self._steps = costs, steps

    def __getattr__(self, operation: str) -> Callable[..., None]:
        name, call = f"{self._layer}.{operation}", getattr(self._operations, operation)
        # Not in the list: the gradient with respect to images, which training does not need.
        cost = self._costs.get(name) or self._costs[f"{self._layer}.conv2d_weight_gradient"]

        def add(*arguments: Any) -> None:
            kind = KINDS.get(operation.split("_", maxsplit=1)[0], "elementwise")
            run = _queued(self._operations, call, *arguments)
            self._steps.append(Step(name, kind, Cost(cost.flops, cost.bytes), run, (name,)))

        return add
