"""A plan made of linked layers, for phases that write their operations one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.devices.device import Array
from ae_core.phases.layers import Conv2D, Input, Layer, MaxPool2D, ReLU, UpSample2D
from ae_core.phases.operations import Operations
from ae_core.phases.plan import KINDS, BasePlan, Cost, Step


class Layered(BasePlan):
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
        super().__init__(name, operations, architecture, batch_size, dtype)
        self.operations = operations
        self.layers = self._chain(image_gradient)
        self._output_gradient = self.device.empty(self.images.shape, self.dtype)
        self._share_parameters()
        self.set_batch(batch_size)

    def set_batch(self, images: int) -> None:
        """Make the lists, and the layers' views of their buffers, those for so many images.

        Raises:
            InputError: none, or more than the buffers hold.
        """
        super().set_batch(images)
        self._cut(images)

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

    def _cut(self, images: int) -> None:
        for layer in self.layers:
            layer.set_batch(images)
        self.layers[0].output = self.images[:images]

    def lists(self, images: int) -> dict[str, list[Step]]:
        """What each pass calls."""
        self._cut(images)
        first, last = self._input, self.layers[-1]
        latent = next(a for a in self.layers if a.name == self.architecture.latent.name)
        loss, output_gradient = self.loss[:images], self._output_gradient[:images]

        def compare(operations: Operations) -> None:
            operations.mse(last.output, first.output, output_gradient, loss)

        def steps(*passes: Callable[[], object] | tuple[str, Callable[[Operations], None]]) -> Any:
            return self._calls(images, passes)

        forward, backward = last.forward, partial(last.backward, output_gradient)
        return {
            "encode": steps(latent.forward),
            "evaluate": steps(forward, ("loss", compare)),
            "differentiate": steps(forward, ("loss", compare), backward),
            "update": steps(("update", self._descend)),
        }

    def _calls(self, images: int, passes: Sequence[Any]) -> list[Step]:
        """Walk the passes; each operation that one calls is a step."""
        steps: list[Step] = []
        costs = {f"{c.layer}.{c.operation}": c for c in self.architecture.costs(images)}
        for layer in self.layers:
            layer.operations = cast(Operations, _Calls(self, layer.name, costs, steps))
        for each in passes:
            if isinstance(each, tuple):
                name, call = each
                call(cast(Operations, _Calls(self, name, costs, steps)))
            else:
                each()
        for layer in self.layers:
            layer.operations = self.operations
        return steps

    def _descend(self, operations: Operations) -> None:
        operations.sgd(self.parameters, self.gradients, self.learning_rate)

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


class _Calls:
    """Stands for a phase's operations while a pass is walked, and turns each call into a step."""

    def __init__(self, plan: Layered, layer: str, costs: dict[str, Any], steps: list[Step]) -> None:
        self._plan, self._layer = plan, layer
        self._costs, self._steps = costs, steps

    def __getattr__(self, operation: str) -> Callable[..., None]:
        name, call = f"{self._layer}.{operation}", getattr(self._plan.operations, operation)
        # The gradient with respect to images, which training does not need, is not in the list.
        of_images = operation == "conv2d_input_gradient" and name not in self._costs
        cost = self._costs[f"{self._layer}.conv2d_weight_gradient" if of_images else name]

        def add(*arguments: Any) -> None:
            kind = KINDS.get(operation.split("_", maxsplit=1)[0], "elementwise")
            run = self._plan.queued(call, *arguments)
            self._steps.append(Step(name, kind, Cost(cost.flops, cost.bytes), run, (name,)))

        return add
