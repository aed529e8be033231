"""The training loop: stochastic gradient descent, one batch at a time, resumable to the bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ae_core import files, phases, progress
from ae_core.autoencoder import Autoencoder
from ae_core.data.cifar10 import Dataset, Images, normalise, sized
from ae_core.devices.kernel_device import KernelDevice
from ae_core.errors import InputError
from ae_core.phases.feed import Feed, open_feed
from ae_core.records import EpochResult, TestResult, TrainingRecord, TrainingSettings, provenance
from ae_core.training import checkpoint as checkpoints
from ae_core.training.checkpoint import Checkpoint, CheckpointError, TrainingState

Existing = Literal["refuse", "resume", "replace"]
TRACE_PARTS = 50
"""Points of a loss curve that an epoch gives."""
EVALUATED_AT_ONCE = 1000
"""Images made float32 at once: 12 MB."""


class TrainingDivergedError(ArithmeticError):
    """The loss is no longer a number."""


def train(
    settings: TrainingSettings,
    dataset: Dataset,
    *,
    device: str | KernelDevice = "auto",
    checkpoint: str | Path | None = None,
    existing: Existing = "refuse",
    on_epoch: Callable[[EpochResult], object] | None = None,
) -> tuple[Autoencoder, TrainingRecord]:
    """Train a new autoencoder, or go on with a saved one.

    Args:
        settings: what to train, and how.
        dataset: its first `settings.images` training images are used, reshuffled each epoch in an
            order that follows from seed and epoch alone.
        device: what runs the kernels of a CUDA phase: `auto`, `cuda`, `emulated`, or a device.
        checkpoint: written after each epoch; no other process may write it meanwhile.
        existing: what to do if `checkpoint` exists: refuse to start, resume from it (bitwise the
            same result as never having stopped), or replace it.
        on_epoch: called after each epoch.

    Raises:
        InputError: more images asked for than there are.
        BusyError: another training writes `checkpoint`.
        FileExistsError: `checkpoint` exists and `existing` is `refuse`.
        CheckpointError: it can't be read, or belongs to other settings or data.
        TrainingDivergedError: the loss became NaN or infinite.
    """
    with claimed(checkpoint, existing) as saved:
        path = files.expanded(checkpoint) if checkpoint else None
        return _train(settings, dataset, device, path, saved, on_epoch)


@contextmanager
def claimed(
    checkpoint: str | Path | None, existing: Existing = "refuse"
) -> Iterator[Checkpoint | None]:
    """The sole right to write a checkpoint, if one is named, and its content if it is resumed.

    `train` claims its checkpoint itself; who has work to do before claims it before that.

    Raises:
        BusyError: another training writes it.
        FileExistsError: it exists and `existing` is `refuse`.
        CheckpointError: it can't be read.
    """
    if checkpoint is None:
        yield None
        return
    path = files.for_file(checkpoint)
    with files.claimed(path):
        there = files.found_at(path) == files.FILE
        if there and existing == "refuse":
            raise FileExistsError(f"{path}: this checkpoint exists: resume it, or name another")
        yield checkpoints.load(path) if there and existing == "resume" else None


def _train(
    settings: TrainingSettings,
    dataset: Dataset,
    device: str | KernelDevice,
    path: Path | None,
    saved: Checkpoint | None,
    on_epoch: Callable[[EpochResult], object] | None,
) -> tuple[Autoencoder, TrainingRecord]:
    _check_counts(settings, dataset)
    facts = provenance.current()
    if path and saved:
        _refuse_differences(path, saved.state, settings, dataset)
    autoencoder = Autoencoder(
        phases.create(settings.phase, settings.architecture, settings.batch_size, device),
        seed=settings.seed,
        initial_scale=settings.initial_scale,
        graph=settings.graph,
    )
    epochs: list[EpochResult] = []
    if saved:
        autoencoder.load_parameters(saved.parameters)
        epochs = list(saved.state.epochs)
    resumed_after = len(epochs)
    autoencoder.learning_rate = settings.learning_rate
    images = sized(dataset.train.images[: settings.images], settings.architecture.height)
    feed = open_feed(autoencoder.device, images, settings.batch_size)
    autoencoder.take_from(feed)
    autoencoder.warm_up()
    for epoch in range(len(epochs) + 1, settings.epochs + 1):
        epochs.append(_run_epoch(autoencoder, settings, feed, epoch))
        _refuse_broken_parameters(autoencoder, settings, epoch)
        if path:
            state = TrainingState(
                settings=settings, dataset_digest=dataset.identity.digest, epochs=tuple(epochs)
            )
            checkpoints.save(path, Checkpoint(autoencoder.parameters(), state))
        if on_epoch:
            on_epoch(epochs[-1])

    test = None
    if settings.test_images:
        test = evaluate(autoencoder, dataset.test.images, settings.test_images)
    return autoencoder, TrainingRecord(
        provenance=facts,
        dataset=dataset.identity,
        memory=autoencoder.device.memory(),
        settings=settings,
        epochs=tuple(epochs),
        resumed_after=resumed_after,
        test=test,
        precision=autoencoder.plan.precision,
        device=autoencoder.device.name,
        device_kind=autoencoder.device.kind,
        gpus=int(autoencoder.device.kind == "gpu"),
        threads=autoencoder.plan.threads,
        threading_layer=phases.threading_layer(autoencoder.plan),
        parameters_digest=autoencoder.digest(),
    )


def restore(
    path: str | Path,
    *,
    phase: str | None = None,
    device: str | KernelDevice = "auto",
    batch_size: int = 1,
) -> tuple[Autoencoder, TrainingState]:
    """A saved autoencoder, over the phase that trained it or another, and how it was trained.

    Raises:
        CheckpointError: the file can't be read.
    """
    saved = checkpoints.load(path)
    settings = saved.state.settings
    autoencoder = Autoencoder(
        phases.create(phase or settings.phase, settings.architecture, batch_size, device)
    )
    autoencoder.load_parameters(saved.parameters)
    return autoencoder, saved.state


def evaluate(autoencoder: Autoencoder, images: Images, count: int) -> TestResult:
    """Reconstruction error over the first `count` images.

    Raises:
        TrainingDivergedError: an error is NaN or infinite.
    """
    side = autoencoder.architecture.height
    started = time.perf_counter()
    errors = np.empty(count, np.float64)
    with progress.bar(count, "test") as bar:
        for rows in _slices(count, EVALUATED_AT_ONCE):
            errors[rows] = autoencoder.errors(normalise(images[rows], side), bar.update)
    if not np.isfinite(errors).all():
        raise TrainingDivergedError(
            f"test: the error of image {int(np.argmin(np.isfinite(errors)))} is not finite; "
            f"training has diverged, try a lower learning rate"
        )
    return TestResult(
        images=count,
        mse=float(errors.mean()),
        psnr=float((10 * np.log10(1 / np.maximum(errors, 1e-12))).mean()),
        seconds=time.perf_counter() - started,
    )


def image_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order in which every phase sees `count` images in this epoch (1, 2, ...)."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def _run_epoch(
    autoencoder: Autoencoder, settings: TrainingSettings, feed: Feed, epoch: int
) -> EpochResult:
    device = autoencoder.device
    order = image_order(settings.seed, epoch, settings.images)
    started = time.perf_counter()
    with progress.bar(settings.images, f"epoch {epoch}/{settings.epochs}") as bar:
        feed.begin(order)
        for rows in _slices(settings.images, settings.batch_size):
            autoencoder.step(rows.stop - rows.start)
            bar.update(rows.stop - rows.start)
            if device.synchronous:
                loss = feed.losses[rows]
                bar.set_postfix(loss=f"{loss[-1]:.4f}", refresh=False)
                if not np.isfinite(loss).all():
                    break
    found = feed.read_losses()
    seconds = time.perf_counter() - started
    finite = np.isfinite(found)
    if not finite.all():
        first = int(np.argmin(finite))
        raise TrainingDivergedError(
            f"epoch {epoch}: the loss became {found[first]} at image {first + 1} of "
            f"{settings.images} (training image {order[first]}) with learning rate "
            f"{settings.learning_rate:g}; try a lower learning rate"
        )
    return EpochResult(
        epoch=epoch,
        loss=float(found.mean(dtype=np.float64)),
        seconds=seconds,
        images=settings.images,
        trace=tuple(float(p.mean()) for p in np.array_split(found, min(TRACE_PARTS, len(found)))),
    )


def _refuse_broken_parameters(
    autoencoder: Autoencoder, settings: TrainingSettings, epoch: int
) -> None:
    """The last step's loss was seen before its update, which may have been one too many."""
    for name, tensor in autoencoder.parameters().items():
        if not np.isfinite(tensor).all():
            raise TrainingDivergedError(
                f"epoch {epoch}: {name} became NaN or infinite in the last step with learning "
                f"rate {settings.learning_rate:g}; try a lower learning rate"
            )


def _slices(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _check_counts(settings: TrainingSettings, dataset: Dataset) -> None:
    for name, wanted, there in (
        ("images", settings.images, len(dataset.train.images)),
        ("test_images", settings.test_images, len(dataset.test.images)),
    ):
        if wanted > there:
            raise InputError(f"{name}: expected at most {there:,}, found {wanted:,}")


def _refuse_differences(
    path: Path, state: TrainingState, settings: TrainingSettings, dataset: Dataset
) -> None:
    """Only more epochs, other test images, and a CUDA graph leave a resumed result the same."""
    free = {"epochs", "test_images", "graph"}
    then, now = state.settings.model_dump(exclude=free), settings.model_dump(exclude=free)
    then["dataset"], now["dataset"] = state.dataset_digest[:12], dataset.identity.digest[:12]
    differences = [f"{k} was {then[k]}, is now {now[k]}" for k in then if then[k] != now[k]]
    if len(state.epochs) > settings.epochs:
        differences.append(f"{len(state.epochs)} epochs are done, {settings.epochs} asked for")
    if differences:
        raise CheckpointError(f"{path}: can't resume: {'; '.join(differences)}")
