"""What the chapters on CUDA phases do: the same checks, training and profile for each phase.

With a GPU they run the book's network on it. Without one they run a small network on the emulator:
all of it but the times.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ae_book.showing import figures, notes, tables
from ae_core import files, numbers
from ae_core.autoencoder import Autoencoder, default_architecture
from ae_core.data.cifar10 import Dataset, normalise
from ae_core.devices.emulated import WARP_ORDERS, EmulatedDevice
from ae_core.devices.kernel_device import KernelDevice, open_device
from ae_core.devices.kernels import altered
from ae_core.measuring import nsight, profiling, timing
from ae_core.measuring.verification import compare
from ae_core.phases import title
from ae_core.phases.gpu_v1_batched import GpuBatched
from ae_core.phases.operations import Operations
from ae_core.records import (
    ProfileRecord,
    StepTime,
    TrainingRecord,
    TrainingSettings,
    VerificationRecord,
    provenance,
    records,
)
from ae_core.training.loop import train


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
            device=self._fresh_device(),
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
        step = timing.time_steps(
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
        autoencoder, record = train(settings, self.dataset, device=self._fresh_device())
        self.save(record, "training")
        notes.table(tables.epochs(record, with_seconds=self.on_gpu))
        return autoencoder, record

    def profile(self, steps: int, phase: str | None = None) -> ProfileRecord:
        """Profile this phase, or another on the same device to compare with."""
        record = profiling.profile_operations(
            phase or self.phase,
            self.dataset,
            steps=steps,
            device=self._fresh_device(),
            architecture=self.architecture,
        )
        self.save(record, "profile", phase)
        return record

    def time(self, graph: bool = False) -> StepTime:
        """Whole steps, as a training run queues them."""
        few = normalise(self.dataset.train.images[:16], self.architecture.height)
        return timing.time_steps(
            self.phase,
            few,
            budget=2,
            device=self.device,
            graph=graph,
            architecture=self.architecture,
        )

    def show_reconstructions(self, autoencoder: Autoencoder, count: int = 8) -> None:
        """The first test images, as this network sees them, and what it makes of them."""
        images = normalise(self.dataset.test.images[:count], self.architecture.height)
        figures.show(figures.reconstructions(images, autoencoder.reconstruct(images)))

    def show_profiles(self, *profiles: ProfileRecord) -> None:
        """On a GPU, each phase's operations by time; on the emulator, how often they launch."""
        if not self.on_gpu:
            notes.table(tables.launches(profiles))
            return
        for profile in profiles:
            milliseconds = numbers.digits(1e3 * profile.step.median)
            notes.say(f"**{title(profile.phase)}**, {milliseconds} ms per step:")
            notes.table(tables.operations(profile))

    def show_kernels(self, phase: str | None = None) -> None:
        """Nsight Compute's figures of the convolutions, where there are a GPU and ncu."""
        if self.on_gpu and nsight.available():
            record = nsight.measure(phase or self.phase, self.dataset)
            self.save(record, "kernels", phase)
            notes.table(tables.kernels(record))
        else:
            notes.say("*On a machine with a GPU and Nsight Compute (`ncu`) a table stands here.*")

    def try_forward(
        self, operations: Operations, layer: str = "conv2", batch: int = 1, repeats: int = 50
    ) -> dict[str, str]:
        """One layer's forward convolution by other operations: launches and, on a GPU, time."""
        spec = next(spec for spec in self.architecture.layers if spec.name == layer)
        random = np.random.default_rng(0)
        shapes = ((batch, *spec.input), (spec.output[0], spec.input[0], 3, 3))
        arrays = [self.device.empty(shape) for shape in shapes]
        for shape, array in zip(shapes, arrays, strict=True):
            self.device.upload(random.standard_normal(shape, np.float32), array)
        y = self.device.empty((batch, *spec.output))

        def work() -> None:
            operations.conv2d_forward(arrays[0], arrays[1], y)

        before = self.device.launches
        work()
        row = {"launches": f"{self.device.launches - before:,}"}
        if self.on_gpu:
            seconds = timing.measure(work, repeats, 3, self.device)
            row["ms"] = numbers.digits(1e3 * timing.distribution(seconds)["median"])
        self.device.synchronize()
        return row

    def _fresh_device(self) -> KernelDevice:
        """The same device with nothing on it yet, so that the peak of its memory is a run's own."""
        return open_device("cuda" if self.on_gpu else "emulated")

    def save(self, record: records.Record, kind: str, phase: str | None = None) -> None:
        """Write a record into the chapter's folder."""
        records.save(record, self.folder / f"{kind}_{phase or self.phase}.json")


def weight_gradient_with(faults: Mapping[str, tuple[str, str]]) -> list[dict[str, str]]:
    """v1's weight gradient with faults planted into copies of its kernel, on the emulator.

    Args:
        faults: by name, text of `conv_batched.cu` and what to put in its place.

    Returns:
        A row a fault: the distance from the right gradient, over its norm, in each order of warps.
    """
    plane = np.random.default_rng(0).standard_normal((1, 2, 16, 16), np.float32)

    def gradient(kernels: Path | None = None, order: str = "forward") -> npt.NDArray[np.float32]:
        device = EmulatedDevice(kernels, order)
        x, dw = device.empty(plane.shape), device.empty((2, 2, 3, 3))
        device.upload(plane, x)
        GpuBatched(device).conv2d_weight_gradient(x, x, dw)
        return device.download(dw)

    right, rows = gradient(), []
    with files.scratch() as folder:
        for name, (text, wrong) in faults.items():
            kernels, row = altered("conv_batched.cu", text, wrong, folder / name), {}
            for order in WARP_ORDERS:
                off = np.linalg.norm(gradient(kernels, order) - right) / np.linalg.norm(right)
                row[f"{order} order"] = f"{off:.2g}"
            rows.append({"planted fault": name, **row})
    return rows
