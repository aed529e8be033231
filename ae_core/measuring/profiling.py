"""Where the time of a training step goes: each operation, and the gaps between them."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core import phases
from ae_core.architecture import Architecture, OperationCost
from ae_core.autoencoder import Autoencoder, default_architecture
from ae_core.data.cifar10 import Dataset, normalise
from ae_core.devices.device import Device, Mark
from ae_core.devices.kernel_device import KernelDevice, open_device
from ae_core.devices.kernels import KernelSource
from ae_core.measuring.timing import distribution, measure, stepper, time_steps
from ae_core.records import Ceilings, OperationTime, ProfileRecord, provenance

LONGEST_HOLD = 0.05
"""Seconds. A queue holds about a thousand launches, and then the host waits anyway."""
CEILINGS = KernelSource("measure.cu", ("multiply_add", "copy"))


def profile_operations(
    phase: str,
    dataset: Dataset,
    *,
    images: int = 16,
    steps: int,
    warmup: int = 2,
    device: str | KernelDevice = "auto",
    architecture: Architecture | None = None,
    batch_size: int = 1,
    seed: int = 0,
) -> ProfileRecord:
    """Time `steps` training steps on the first `images` images, then each operation of as many.

    On a GPU the second pass holds the queue until a step is in it, so that an operation's time is
    its kernels' and not that of launching them; what the whole step takes longer is gaps. A step
    that takes longer to queue than `LONGEST_HOLD` can't be held: its record says so. What the marks
    around an operation take themselves is subtracted.

    The other arguments are those of `time_steps`; on the emulator the network is `MINI` by default.
    """
    facts = provenance.current()
    operations = phases.create(phase, device)
    architecture = architecture or default_architecture(operations.device)
    pixels = normalise(dataset.train.images[:images], architecture.height)
    step = time_steps(
        phase,
        pixels,
        steps=steps,
        warmup=warmup,
        device=cast(KernelDevice, operations.device),
        architecture=architecture,
        batch_size=batch_size,
        seed=seed,
    )
    autoencoder = Autoencoder(operations, architecture, batch_size=batch_size, seed=seed)
    timings, held = _time_operations(autoencoder, pixels, steps, warmup)
    return ProfileRecord(
        provenance=facts,
        dataset=dataset.identity,
        device=operations.device.name,
        memory=operations.device.memory(),
        phase=phase,
        architecture=architecture,
        seed=seed,
        step=step,
        operations=tuple(timings[_key(c)].record(c) for c in architecture.costs(batch_size)),
        ceilings=_ceilings(open_device("cuda")) if _on_gpu(operations) else None,
        includes_launches=not held,
    )


class _Timing:
    """The marks around every call of one operation of one layer."""

    def __init__(self) -> None:
        self.marks: list[tuple[Mark, Mark]] = []
        self.seconds: list[float] = []
        self.launches = 0

    def record(self, cost: OperationCost) -> OperationTime:
        return OperationTime(
            layer=cost.layer,
            operation=cost.operation,
            n=len(self.seconds),
            flops=cost.flops,
            bytes=cost.bytes,
            launches=self.launches,
            **distribution(self.seconds),
        )


Timings = defaultdict[tuple[str, str], _Timing]


def _time_operations(
    autoencoder: Autoencoder, images: npt.NDArray[np.float32], steps: int, warmup: int
) -> tuple[Timings, bool]:
    """Every operation's times, and whether the queue was held for as long as a step was queued."""
    timings: Timings = defaultdict(_Timing)
    operations, device = autoencoder.operations, autoencoder.device
    for layer in autoencoder.layers:
        layer.operations = _Timed(operations, layer.name, timings)
    autoencoder.operations = _Timed(operations, "", timings)
    step, queueing = stepper(autoencoder, images), 0.0
    for number in range(warmup + steps):
        if number == warmup:
            for timing in timings.values():
                timing.marks.clear()
        if _on_gpu(operations):
            cast(KernelDevice, device).hold(min(1.5 * queueing, LONGEST_HOLD))
        started = time.perf_counter()
        step()
        queueing = time.perf_counter() - started
        device.synchronize()
    nothing = _time_nothing(device)
    for timing in timings.values():
        timing.seconds = [max(device.elapsed(*pair) - nothing, 0.0) for pair in timing.marks]
    return timings, not _on_gpu(operations) or queueing <= LONGEST_HOLD


def _time_nothing(device: Device) -> float:
    """Median seconds between two marks with no work between: what the marks themselves take."""
    if device.kind == "gpu":
        cast(KernelDevice, device).hold(1e-3)
    marks = [device.mark() for _ in range(101)]
    device.synchronize()
    return distribution([device.elapsed(*pair) for pair in pairwise(marks)])["median"]


class _Timed:
    """A phase's operations, each between two marks under its layer's name."""

    def __init__(self, operations: phases.Operations, layer: str, timings: Timings) -> None:
        self._operations, self._layer, self._timings = operations, layer, timings
        self.device = operations.device
        self.threads, self.capturable = operations.threads, operations.capturable

    def __getattr__(self, name: str) -> Any:
        operation, device = getattr(self._operations, name), self.device
        timing = self._timings[self._layer, name]

        def timed(*arguments: Any) -> None:
            launches = device.launches
            with device.span(f"{self._layer or 'step'}.{name}"):
                start = device.mark()
                operation(*arguments)
                timing.marks.append((start, device.mark()))
            timing.launches = device.launches - launches

        return timed


def _key(cost: OperationCost) -> tuple[str, str]:
    """Loss and update belong to the autoencoder, not to a layer."""
    return "" if cost.layer in ("loss", "update") else cost.layer, cost.operation


def _on_gpu(operations: phases.Operations) -> bool:
    return operations.device.kind == "gpu"


def _ceilings(device: KernelDevice) -> Ceilings:
    """Measure the best of some runs of two kernels that do nothing else."""
    kernels = device.load(CEILINGS)
    threads, grid, rounds, count = 256, 8192, 1000, 2**26
    x, y = device.empty((count,)), device.empty((count,))

    def multiply_add() -> None:
        device.launch(kernels["multiply_add"], (grid, 1, 1), (threads, 1, 1), (y, 0.999, rounds))

    def copy() -> None:
        device.launch(kernels["copy"], (count // (16 * threads), 1, 1), (threads, 1, 1), (x, y))

    return Ceilings(
        flops=2 * 64 * rounds * threads * grid / min(measure(multiply_add, 5, 2, device)),
        bandwidth=2 * 4 * count / min(measure(copy, 10, 2, device)),
    )
