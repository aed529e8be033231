"""The seam between a phase and everything else: a plan, which is lists of steps.

A phase says how it trains by a `Plan`: what is launched, in which order, and what each launch is
worth. Who trains, checks, profiles or captures it walks the lists and knows no layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.devices.device import Array, Device
from ae_core.parameters import Precision, StepKind
from ae_core.phases.feed import Feed


@dataclass(frozen=True)
class Cost:
    """What a step is worth: a floor for its time, not what its kernels do.

    A step with useful arithmetic of its own counts that of the network's operations that it does,
    however it does them; its bytes are those that this step must move, in the plan's own layout.
    """

    flops: int
    """Multiply-adds count as two."""
    bytes: int
    """Each input is read once and each output written once."""


@dataclass(frozen=True, eq=False)
class Step:
    """One entry of a training step, as it is launched."""

    name: str
    """For people: `conv1 + bias + ReLU + pool, forward`."""
    kind: StepKind
    cost: Cost
    run: Callable[[], None]
    """Queues it; allocates nothing and waits for nothing."""
    operations: tuple[str, ...] = ()
    """Those of the network that it does, as `Architecture.costs` names them: `conv1.bias_forward`.

    In a training step each is done by one step.
    """


class Plan(Protocol):
    """How a phase computes the network of `architecture` on its device.

    Lists of steps are for the number of images that `set_batch` was told last. Activations,
    gradients and layouts in between are the plan's own business.
    """

    name: str
    """The phase, a key of `ae_core.phases.PHASES`."""
    architecture: Architecture
    device: Device
    batch_size: int
    """The most images in one pass; memory grows with it."""
    precision: Precision
    """Of the products of convolutions."""
    threads: int
    """CPU threads that the arithmetic uses; 1 where a GPU does it."""
    capturable: bool
    """Whether a training step may become a CUDA graph."""
    dtype: np.dtype[Any]
    """Of parameters, gradients and losses: float32, or float64 where a plan is checked in it."""

    parameters: Array
    """`(parameter_count,)` in the order of `Architecture.parameters`: the truth, whatever copies
    in other precisions or layouts there are."""
    gradients: Array
    """Likewise, of the batch's mean loss, as `differentiate` left them."""
    loss: Array
    """Each image's mean squared error `(batch_size,)`, as `evaluate` or `differentiate` left it."""
    learning_rate: Array
    """`(1,)`; `update` reads it when it runs, so that a graph holds for every rate."""

    fetch: Sequence[Step]
    """The feed's next images become the batch."""
    encode: Sequence[Step]
    """From the batch to the latent."""
    evaluate: Sequence[Step]
    """From the batch to its reconstruction, and the loss of each image."""
    differentiate: Sequence[Step]
    """From the batch to the loss of each image and all gradients."""
    update: Sequence[Step]
    """Gradients change the parameters, and what copies of them there are."""
    advance: Sequence[Step]
    """The batch's losses go to the feed, which goes on to its next images."""

    not_materialised: frozenset[str]
    """Layers whose output is never written in whole: `activation` refuses them."""

    def take_from(self, feed: Feed) -> None:
        """Let `fetch` and `advance` work on this feed from now on."""

    def set_batch(self, images: int) -> None:
        """Make the lists those for so many images, from 1 to `batch_size`."""

    def set_images(self, images: npt.NDArray[Any]) -> None:
        """Make host images `(N, C, H, W)` the batch, N as `set_batch` was told last.

        Ordered after the work queued so far, which may still read the batch before.
        """

    def refresh(self) -> None:
        """Bring copies of the parameters up to date: somebody wrote to `parameters`."""

    def activation(self, layer: str) -> npt.NDArray[Any]:
        """A layer's output `(N, C, H, W)` as a host array; N as `set_batch` was told last.

        Of float32 where training is, of `dtype` where a plan is checked in another.

        Raises:
            KeyError: there is no such layer, or it is not materialised.
        """

    def buffers(self) -> Iterable[Array]:
        """Every array that steps write, but for the parameters: to poison before a check."""
