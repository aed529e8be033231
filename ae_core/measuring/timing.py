"""How long things take: whole training steps, as a distribution over many."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol, TypedDict, cast

import numpy as np
import numpy.typing as npt

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder, default_architecture
from ae_core.data.cifar10 import Dataset, sized
from ae_core.devices.device import Mark
from ae_core.devices.kernel_device import KernelDevice
from ae_core.errors import InputError
from ae_core.phases.feed import Feed
from ae_core.records import IMAGES_PER_EPOCH, StepTime

LEARNING_RATE = 1e-6
"""Small, so that timing many steps on a few images stays in the range of real training."""
LEAST_STEPS = 30
"""A median and deciles of fewer would be anecdotes."""
LEAST_IMAGES = 10
"""What a training run gets, however slow the phase is."""


class Clock(Protocol):
    """What times queued work: a device, or another library's events."""

    def synchronize(self) -> None:
        """Return when all queued work is done."""

    def mark(self) -> Mark:
        """This point in the queue."""

    def elapsed(self, start: Mark, end: Mark) -> float:
        """Seconds between two marks."""


class Distribution(TypedDict):
    """Measured seconds, under the names that records use."""

    low: float
    median: float
    high: float


def time_steps(
    phase: str,
    images: npt.NDArray[Any],
    *,
    steps: int | None = None,
    budget: float = 30.0,
    warmup: int = 3,
    device: str | KernelDevice = "auto",
    graph: bool = False,
    architecture: Architecture | None = None,
    batch_size: int = 1,
    seed: int = 0,
) -> StepTime:
    """Time training steps of a phase, after `warmup` that don't count (compiling, caches).

    Args:
        phase: the phase.
        images: `(N, C, H, W)`, uint8 or float32 in [0, 1]; full batches of them are used in turn.
        steps: how many to time; by default as many as `budget` allows, at most those of an epoch
            of 50,000 images, and at least 30 in any case.
        budget: seconds.
        warmup: how many to do before.
        device: what runs the kernels of a CUDA phase.
        graph: queue a step as one CUDA graph.
        architecture: the network; the book's by default.
        batch_size: images per step, at most N.
        seed: of the parameters.

    Raises:
        InputError: no steps to time, or fewer images than a batch.
    """
    if steps is not None and steps < 1:
        raise InputError(f"steps: expected a whole number from 1, found {steps}")
    plan = phases.create(phase, architecture, batch_size, device)
    autoencoder = Autoencoder(plan, seed=seed, graph=graph)
    step = stepper(autoencoder, images)
    if steps is None:
        steps = affordable(step, autoencoder.device, budget, batch_size)
    return StepTime(
        name=phase,
        precision=plan.precision,
        graph=graph,
        device=plan.device.name,
        device_kind=plan.device.kind,
        gpus=int(plan.device.kind == "gpu"),
        threads=plan.threads,
        threading_layer=phases.threading_layer(plan),
        batch_size=batch_size,
        n=steps,
        **distribution(seconds := measure(step, steps, warmup, autoencoder.device)),
        total=sum(seconds),
    )


def measure(step: Callable[[], object], steps: int, warmup: int, clock: Clock) -> list[float]:
    """Seconds of each of `steps` calls, queued one after another, as a training run does."""
    for _ in range(warmup):
        step()
    clock.synchronize()
    marks = [clock.mark()]
    for _ in range(steps):
        step()
        marks.append(clock.mark())
    clock.synchronize()
    return [clock.elapsed(*pair) for pair in pairwise(marks)]


def affordable(step: Callable[[], object], clock: Clock, budget: float, batch_size: int) -> int:
    """How many steps to time within `budget` seconds: at most an epoch's, and at least 30."""
    median = distribution(measure(step, 3, 2, clock))["median"]
    return max(LEAST_STEPS, min(int(budget / median), -(-IMAGES_PER_EPOCH // batch_size)))


def affordable_images(
    phase: str,
    dataset: Dataset,
    seconds: float,
    *,
    epochs: int = 1,
    device: str | KernelDevice = "auto",
) -> int:
    """How many images a phase can train on, one a step, for `epochs` in `seconds`: at least 10.

    A few steps are timed to tell; the network is the book's, or `MINI` on the emulator.

    Args:
        phase: the phase.
        dataset: where the timed images come from.
        seconds: that the training may take, about.
        epochs: how often it passes each image.
        device: what runs the kernels of a CUDA phase.
    """
    opened = phases.opened(phase, device)
    architecture = default_architecture(opened)
    step = time_steps(
        phase,
        sized(dataset.train.images[:16], architecture.height),
        steps=5,
        device=cast(KernelDevice, opened),
        architecture=architecture,
    )
    return max(int(seconds / (step.median * epochs)), LEAST_IMAGES)


def distribution(seconds: list[float]) -> Distribution:
    """First decile, median and ninth decile."""
    low, median, high = np.quantile(seconds, (0.1, 0.5, 0.9))
    return {"low": float(low), "median": float(median), "high": float(high)}


def stepper(autoencoder: Autoencoder, images: npt.NDArray[Any]) -> Callable[[], None]:
    """A function that does the next training step, on full batches of images in turn.

    Args:
        autoencoder: whose steps.
        images: `(N, C, H, W)`: uint8, or float32 in [0, 1]; they lie on the device.

    Raises:
        InputError: fewer images than a batch.
    """
    size = autoencoder.batch_size
    if len(images) < size:
        raise InputError(f"images: expected at least one batch of {size}, found {len(images)}")
    autoencoder.take_from(Feed(autoencoder.device, images[: len(images) // size * size]))
    autoencoder.learning_rate = LEARNING_RATE
    return autoencoder.step
