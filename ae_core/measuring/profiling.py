"""Where the time of a training step goes: each of its entries, and the gaps between them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder, default_architecture
from ae_core.data.cifar10 import Dataset, sized
from ae_core.devices.device import Device, Mark
from ae_core.devices.kernel_device import KernelDevice, open_device
from ae_core.devices.kernels import KernelSource
from ae_core.measuring.timing import distribution, measure, stepper, time_steps
from ae_core.phases.plan import Step
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
    batch_size: int | None = None,
    seed: int = 0,
) -> ProfileRecord:
    """Time `steps` training steps on the first `images` images, then each entry of as many.

    On a GPU the second pass holds the queue until a step is in it, so that an entry's time is its
    kernels' and not that of launching them; what the whole step takes longer is gaps. A step that
    takes longer to queue than `LONGEST_HOLD` can't be held: its record says so. What the marks
    around an entry take themselves is subtracted.

    The other arguments are those of `time_steps`; on the emulator the network is `MINI` by default,
    and a batch is what the phase is made for.
    """
    facts = provenance.current()
    opened = phases.opened(phase, device)
    architecture = architecture or default_architecture(opened)
    batch_size = batch_size or phases.named(phase).batch_size
    pixels = sized(dataset.train.images[: max(images, batch_size)], architecture.height)
    step = time_steps(
        phase,
        pixels,
        steps=steps,
        warmup=warmup,
        device=cast(KernelDevice, opened),
        architecture=architecture,
        batch_size=batch_size,
        seed=seed,
    )
    plan = phases.create(phase, architecture, batch_size, cast(KernelDevice, opened))
    autoencoder = Autoencoder(plan, seed=seed)
    stepper(autoencoder, pixels)
    timed, held = time_entries(
        autoencoder.steps(batch_size), autoencoder.device, repeats=steps, warmup=warmup
    )
    on_gpu = opened.kind == "gpu"
    return ProfileRecord(
        provenance=facts,
        dataset=dataset.identity,
        device=opened.name,
        device_kind=opened.kind,
        memory=opened.memory(),
        phase=phase,
        architecture=architecture,
        seed=seed,
        step=step,
        operations=timed,
        ceilings=measure_ceilings(open_device("cuda")) if on_gpu else None,
        includes_launches=not held,
    )


def measure_ceilings(device: KernelDevice) -> Ceilings:
    """What a card can do at most: the best of some runs of two kernels that do nothing else."""
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


@dataclass
class _Timing:
    """One entry of the step, and the marks around each time that it ran."""

    step: Step
    marks: list[tuple[Mark, Mark]] = field(default_factory=list)
    seconds: Sequence[float] = ()
    launches: int = 0

    def run(self, device: Device) -> None:
        launches = device.launches
        with device.span(self.step.name):
            start = device.mark()
            self.step.run()
            self.marks.append((start, device.mark()))
        self.launches = device.launches - launches

    def record(self) -> OperationTime:
        return OperationTime(
            name=self.step.name,
            kind=self.step.kind,
            operations=self.step.operations,
            n=len(self.seconds),
            flops=self.step.cost.flops,
            bytes=self.step.cost.bytes,
            launches=self.launches,
            **distribution([*self.seconds]),
        )


def time_entries(
    steps: Sequence[Step], device: Device, *, repeats: int, warmup: int = 2
) -> tuple[tuple[OperationTime, ...], bool]:
    """Run some steps one after the other, again and again; the time of each.

    On a GPU the queue is held until all of them are in it; see `profile_operations`.

    Args:
        steps: of a plan, whose inputs are there.
        device: the plan's.
        repeats: how many times of each to take.
        warmup: how many to run before.

    Returns:
        The times, and whether the queue was held for as long as it took to fill.
    """
    queueing = 0.0
    timings = [_Timing(step) for step in steps]
    on_gpu = device.kind == "gpu"
    for number in range(warmup + repeats):
        if number == warmup:
            for timing in timings:
                timing.marks.clear()
        if on_gpu:
            cast(KernelDevice, device).hold(min(1.5 * queueing, LONGEST_HOLD))
        started = time.perf_counter()
        for timing in timings:
            timing.run(device)
        queueing = time.perf_counter() - started
        device.synchronize()
    nothing = _time_nothing(device)
    for timing in timings:
        timing.seconds = [max(device.elapsed(*pair) - nothing, 0.0) for pair in timing.marks]
    return tuple(t.record() for t in timings), not on_gpu or queueing <= LONGEST_HOLD


def _time_nothing(device: Device) -> float:
    """Median seconds between two marks with no work between: what the marks themselves take."""
    if device.kind == "gpu":
        cast(KernelDevice, device).hold(1e-3)
    marks = [device.mark() for _ in range(101)]
    device.synchronize()
    return distribution([device.elapsed(*pair) for pair in pairwise(marks)])["median"]
