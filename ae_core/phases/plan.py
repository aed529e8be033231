"""The seam between a phase and everything else: a plan, which is lists of steps.

A phase says how it trains by a `Plan`: what is launched, in which order, and what each launch is
worth. Who trains, checks, profiles or captures it walks the lists and knows no layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.devices.device import Array, Device
from ae_core.devices.kernel_device import KernelDevice
from ae_core.errors import InputError
from ae_core.parameters import Precision, StepKind
from ae_core.phases.feed import Feed
from ae_core.phases.operations import Feeding

KINDS: dict[str, StepKind] = {"conv2d": "convolution", "mse": "loss", "sgd": "update"}
"""By the first part of an operation's name; all others are elementwise."""


@dataclass(frozen=True)
class Cost:
    """The least work of a step, which gives a floor for its time.

    The arithmetic is that of the network's operations that the step does, whatever way it does them
    in. The bytes are those that the step must read and write, in the plan's own layout.
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


class BasePlan:
    """What plans share: flat parameters and gradients, the batch, the feed, lists kept by size.

    A class that derives from it writes `lists`, `activation` and `buffers`; also `refresh`, if it
    keeps copies of the parameters.

    Args:
        name: the phase, a key of `ae_core.phases.PHASES`.
        operations: of the phase.
        architecture: the network.
        batch_size: the most images in one pass.
        dtype: float32, or float64 for checks on the CPU.
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
        operations: Feeding,
        architecture: Architecture,
        batch_size: int,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.name, self.architecture, self.batch_size = name, architecture, batch_size
        self.device, self.threads = operations.device, operations.threads
        self.capturable, self._feeding = operations.capturable, operations
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        empty, count = self.device.empty, architecture.parameter_count
        self.parameters, self.gradients = empty((count,), dtype), empty((count,), dtype)
        self.learning_rate, self.loss = empty((1,), dtype), empty((batch_size,), dtype)
        self.images = empty((batch_size, *architecture.layers[0].output), dtype)
        """Of the batch `(batch_size, C, H, W)`; a smaller one uses its first rows."""
        self.batch = batch_size
        """Images in it, as `set_batch` was told last."""
        self._feed: Feed | None = None
        self._lists: dict[int, dict[str, list[Step]]] = {}

    def lists(self, images: int) -> dict[str, list[Step]]:
        """`encode`, `evaluate`, `differentiate` and `update` for so many images.

        Asked for once for each number, and kept.
        """
        raise NotImplementedError

    def take_from(self, feed: Feed) -> None:
        """Let `fetch` and `advance` work on this feed from now on."""
        self._feed = feed
        self._lists.clear()
        self.set_batch(self.batch)

    def set_batch(self, images: int) -> None:
        """Make the lists those for so many images.

        Raises:
            InputError: none, or more than the buffers hold.
        """
        if not 1 <= images <= self.batch_size:
            raise InputError(f"images: expected 1 to {self.batch_size}, found {images}")
        self.batch = images
        if images not in self._lists:
            self._lists[images] = {**self.lists(images), **self._feed_lists(images)}
        for name, steps in self._lists[images].items():
            setattr(self, name, steps)

    def set_images(self, images: npt.NDArray[Any]) -> None:
        """Make host images `(N, C, H, W)` the batch."""
        self.device.upload(np.ascontiguousarray(images, self.dtype), self.images[: self.batch])

    def refresh(self) -> None:
        """Nothing to do where steps read the parameters themselves."""

    def step(self, does: str, call: Callable[..., None], *arguments: Array, name: str = "") -> Step:
        """A call on arrays as an entry of a training step of the batch.

        Its kind and its arithmetic are those of what it does; its bytes those of its arguments,
        each once, also where an array is both read and written.

        Args:
            does: operations as `Architecture.costs` names them, with spaces between.
            call: what launches it.
            arguments: of the call.
            name: for people; by default what it does.
        """
        done = tuple(does.split())
        flops = {f"{c.layer}.{c.operation}": c.flops for c in self.architecture.costs(self.batch)}
        cost = Cost(sum(flops[each] for each in done), sum(a.nbytes for a in arguments))
        prefixes = [each.partition(".")[2].partition("_")[0] for each in done]
        kind = next((kind for prefix, kind in KINDS.items() if prefix in prefixes), "elementwise")
        run = self.queued(call, *arguments)
        return Step(name or does, cast(StepKind, kind), cost, run, done)

    def queued(self, call: Callable[..., None], *arguments: Any) -> Callable[[], None]:
        """A call with its arguments; where a graph could hold its launches, they are prepared."""
        run = partial(call, *arguments)
        return cast(KernelDevice, self.device).prepare(run) if self.capturable else run

    def _feed_lists(self, images: int) -> dict[str, list[Step]]:
        if not (feed := self._feed):
            return {"fetch": [], "advance": []}
        batch, loss = self.images[:images], self.loss[:images]
        values = prod(batch.shape)
        read = values * np.dtype(feed.pixels.dtype).itemsize
        fetch = Step(
            name="images",
            kind="input",
            cost=Cost(flops=values, bytes=read + values * self.dtype.itemsize),
            run=self.queued(self._feeding.gather, feed.pixels, feed.order, feed.position, batch),
        )
        advance = Step(
            name="losses kept",
            kind="input",
            cost=Cost(flops=0, bytes=images * 2 * self.dtype.itemsize),
            run=self.queued(self._feeding.advance, loss, feed.losses, feed.position),
        )
        return {"fetch": [fetch], "advance": [advance]}
