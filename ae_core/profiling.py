"""Where the time goes: whole training steps, and each operation within them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from itertools import cycle
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from ae_core import phases, provenance
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder
from ae_core.cifar10 import Dataset, normalise
from ae_core.device import Device
from ae_core.errors import InputError
from ae_core.records import OperationTime, ProfileRecord, StepTime

LEARNING_RATE = 1e-6
"""Small, so that timing many steps on a few images stays in the range of real training."""


class Deciles(TypedDict):
    """The distribution of measured seconds."""

    low: float
    median: float
    high: float


def time_steps(
    phase: str,
    images: npt.NDArray[np.float32],
    *,
    steps: int,
    warmup: int = 3,
    architecture: Architecture | None = None,
    batch_size: int = 1,
    seed: int = 0,
) -> StepTime:
    """Time `steps` training steps of a phase, after `warmup` that don't count (compiling, caches).

    Args:
        phase: the phase.
        images: `(N, C, H, W)` float32; full batches of them are used in turn.
        steps: how many to time.
        warmup: how many to do before.
        architecture: the network; the book's by default.
        batch_size: images per step, at most N.
        seed: of the parameters.
    """
    autoencoder = Autoencoder(phases.create(phase), architecture, batch_size=batch_size, seed=seed)
    return _time(phase, autoencoder, images, steps, warmup)


def profile_operations(
    phase: str,
    dataset: Dataset,
    *,
    images: int = 16,
    steps: int,
    warmup: int = 2,
    architecture: Architecture | None = None,
    batch_size: int = 1,
    seed: int = 0,
) -> ProfileRecord:
    """Time every operation of `steps` training steps on the first `images` images.

    The other arguments are those of `time_steps`.
    """
    facts = provenance.current()
    architecture = architecture or Architecture()
    operations = phases.create(phase)
    autoencoder = Autoencoder(operations, architecture, batch_size=batch_size, seed=seed)
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for layer in autoencoder.layers:
        layer.operations = _Timed(operations, layer.name, times)
    autoencoder.operations = _Timed(operations, "", times)
    pixels = normalise(dataset.train.images[:images], architecture.height)
    step = _time(phase, autoencoder, pixels, steps, warmup)
    return ProfileRecord(
        provenance=facts,
        dataset=dataset.identity,
        device=operations.device.name,
        memory=operations.device.memory(),
        phase=phase,
        architecture=architecture,
        seed=seed,
        step=step,
        operations=tuple(
            OperationTime(
                layer=cost.layer,
                operation=cost.operation,
                n=steps,
                flops=cost.flops,
                bytes=cost.bytes,
                **deciles(times[_timed_layer(cost.layer), cost.operation][warmup:]),
            )
            for cost in architecture.costs(batch_size)
        ),
    )


def _time(
    phase: str,
    autoencoder: Autoencoder,
    images: npt.NDArray[np.float32],
    steps: int,
    warmup: int,
) -> StepTime:
    step = _stepper(autoencoder, images)
    seconds = measure(step, steps, warmup, autoencoder.device.synchronize)
    return StepTime(
        name=phase,
        device=autoencoder.device.name,
        threads=autoencoder.operations.threads,
        batch_size=autoencoder.batch_size,
        n=steps,
        **deciles(seconds),
    )


def measure(
    step: Callable[[], object], steps: int, warmup: int, synchronize: Callable[[], object]
) -> list[float]:
    """Seconds of each of `steps` calls, with the device idle before and after each."""
    for _ in range(warmup):
        step()
    seconds = []
    for _ in range(steps):
        synchronize()
        started = time.perf_counter()
        step()
        synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds


def deciles(seconds: list[float]) -> Deciles:
    """First decile, median and ninth decile, under the names that records use."""
    low, median, high = np.quantile(seconds, (0.1, 0.5, 0.9))
    return {"low": float(low), "median": float(median), "high": float(high)}


def _stepper(autoencoder: Autoencoder, images: npt.NDArray[np.float32]) -> Callable[[], None]:
    """A function that does the next training step, on batches that are already on the device."""
    size, device = autoencoder.batch_size, autoencoder.device
    if len(images) < size:
        raise InputError(f"images: expected at least one batch of {size}, found {len(images)}")
    staged = device.empty(images.shape)
    device.upload(images, staged)
    loss = device.empty((size,))
    batches = cycle([staged[i : i + size] for i in range(0, len(images) - size + 1, size)])
    return lambda: autoencoder.step(next(batches), LEARNING_RATE, loss)


def _timed_layer(layer: str) -> str:
    """Loss and update belong to the autoencoder, not to a layer."""
    return "" if layer in ("loss", "update") else layer


class _Timed:
    """A phase's operations, each timed under its layer's name."""

    def __init__(
        self,
        operations: phases.Operations,
        layer: str,
        times: dict[tuple[str, str], list[float]],
    ) -> None:
        self._operations, self._layer, self._times = operations, layer, times
        self.device: Device = operations.device
        self.threads = operations.threads

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._operations, name)

        def timed(*arguments: Any) -> None:
            self.device.synchronize()
            started = time.perf_counter()
            operation(*arguments)
            self.device.synchronize()
            self._times[self._layer, name].append(time.perf_counter() - started)

        return timed
