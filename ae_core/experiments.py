"""What the chapters on CUDA phases do: the same checks, training and profile for each phase.

With a GPU they run the book's network on it. Without one they run a small network on the emulator:
all of it but the times.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ae_core import notes, profiling, provenance, records, tables
from ae_core.autoencoder import Autoencoder, default_architecture
from ae_core.cifar10 import Dataset, normalise
from ae_core.cuda.device import open_device
from ae_core.device import Array
from ae_core.records import (
    ProfileRecord,
    StepTime,
    TrainingRecord,
    TrainingSettings,
    VerificationRecord,
)
from ae_core.training import train
from ae_core.verification import compare


class Experiment:
    """One phase on one device. What it measures is saved as records of the chapter.

    Args:
        phase: a CUDA phase.
        dataset: what it is trained on.
        device: `auto`, `cuda` or `emulated`.
        seed: of parameters and image order.
    """

    def __init__(self, phase: str, dataset: Dataset, device: str = "auto", seed: int = 0) -> None:
        self.phase, self.dataset, self.seed = phase, dataset, seed
        self.device = open_device(device)
        self.on_gpu = self.device.kind == "gpu"
        self.architecture = default_architecture(self.device)
        self.folder: Path = provenance.records_directory()

    def tell_device(self) -> None:
        """Say what this chapter runs on, and what its numbers are worth."""
        if self.on_gpu:
            notes.admonition("note", "Device", f"This chapter ran on {self.device.name}.")
            return
        network = self.architecture
        notes.admonition(
            "warning",
            "No GPU",
            f"This chapter ran without a GPU, on the {self.device.name}. The kernels are the "
            f"same, thread by thread; the network is a small one ({network.parameter_count:,} "
            f"parameters, images of {network.height} x {network.width}). Results and counts are "
            f"real. Times would be the emulator's, and are left out.",
        )

    def verify(self, images: int, steps: int) -> VerificationRecord:
        """Hold the phase against the plain loops in float64, show the table, stop if it fails."""
        (record,) = compare(
            [self.phase],
            self.dataset,
            images=images,
            steps=steps,
            seed=self.seed,
            device=self.device,
        )
        self.save(record, "verification")
        notes.table(tables.differences(record.differences))
        if not record.passed:
            raise ArithmeticError(f"{self.phase} disagrees with the plain loops, or with itself")
        return record

    def train(
        self, seconds: float, images: int, epochs: int, test_images: int, learning_rate: float
    ) -> tuple[Autoencoder, TrainingRecord]:
        """Train on as many of `images` as `epochs` can pass in `seconds`; at least 10."""
        few = normalise(self.dataset.train.images[:16], self.architecture.height)
        step = profiling.time_steps(
            self.phase, few, steps=5, device=self.device, architecture=self.architecture
        )
        affordable = max(int(seconds / (step.median * epochs)), 10)
        settings = TrainingSettings(
            phase=self.phase,
            architecture=self.architecture,
            images=min(images, affordable),
            epochs=epochs,
            test_images=test_images,
            learning_rate=learning_rate,
            seed=self.seed,
        )
        fresh = open_device("cuda" if self.on_gpu else "emulated")  # so that its peak is training's
        autoencoder, record = train(settings, self.dataset, device=fresh)
        self.save(record, "training")
        notes.table(tables.epochs(record, with_seconds=self.on_gpu))
        return autoencoder, record

    def profile(self, steps: int, phase: str | None = None) -> ProfileRecord:
        """Profile this phase, or another on the same device to compare with."""
        record = profiling.profile_operations(
            phase or self.phase,
            self.dataset,
            steps=steps,
            device=self.device,
            architecture=self.architecture,
        )
        self.save(record, "profile", phase)
        return record

    def time(self, graph: bool = False) -> StepTime:
        """Whole steps, as a training run queues them."""
        few = normalise(self.dataset.train.images[:16], self.architecture.height)
        return profiling.time_steps(
            self.phase,
            few,
            budget=2,
            device=self.device,
            graph=graph,
            architecture=self.architecture,
        )

    def examples(self, count: int = 8) -> npt.NDArray[np.float32]:
        """Test images as this network sees them, `(count, 3, H, W)`."""
        return normalise(self.dataset.test.images[:count], self.architecture.height)

    def random(self, *shape: int) -> Array:
        """A device array of standard normal values, for experiments on single operations."""
        array = self.device.empty(shape)
        self.device.upload(np.random.default_rng(0).standard_normal(shape, np.float32), array)
        return array

    def milliseconds(self, work: Callable[[], object], repeats: int = 20) -> str:
        """Median time of queueing and doing `work` again and again; a dash on the emulator."""
        if not self.on_gpu:
            return "-"
        seconds = profiling.measure(work, repeats, 3, self.device)
        return f"{1e3 * profiling.distribution(seconds)['median']:.3f}"

    def launches(self, work: Callable[[], object]) -> int:
        """How many kernels `work` launches."""
        before = self.device.launches
        work()
        self.device.synchronize()
        return self.device.launches - before

    def save(self, record: records.Record, kind: str, phase: str | None = None) -> None:
        """Write a record into the chapter's folder."""
        records.save(record, self.folder / f"{kind}_{phase or self.phase}.json")
