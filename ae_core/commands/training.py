"""`train`: a training run, its checkpoint and its record."""

from __future__ import annotations

from typing import Annotated

import typer

from ae_core import files
from ae_core.commands.options import (
    CAPTURABLE,
    DataOption,
    DeviceOption,
    OutOption,
    PhaseOption,
    SeedOption,
)
from ae_core.commands.output import describe, save, writable
from ae_core.data import locate
from ae_core.errors import InputError
from ae_core.parameters import (
    BatchSize,
    Epochs,
    InitialScale,
    LearningRate,
    NewFile,
    TestImages,
    TrainingImages,
    validated,
)
from ae_core.records import EpochResult, TrainingRecord, TrainingSettings
from ae_core.records.provenance import records_directory


def train(
    phase: PhaseOption = "cpu-parallel",
    epochs: Annotated[Epochs, typer.Option(help="Passes over the images.")] = 1,
    images: Annotated[TrainingImages, typer.Option(help="Training images, from the first.")] = 1000,
    test_images: Annotated[TestImages, typer.Option(help="Test images, from the first.")] = 10_000,
    learning_rate: Annotated[LearningRate, typer.Option(help="Of plain SGD.")] = 0.002,
    batch_size: Annotated[BatchSize, typer.Option(help="Images per step.")] = 1,
    initial_scale: Annotated[
        InitialScale, typer.Option(help="Of the initial weights, times He's.")
    ] = 1,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    graph: Annotated[
        bool, typer.Option("--graph", help=f"Queue each step as one CUDA graph ({CAPTURABLE}).")
    ] = False,
    data: DataOption = None,
    checkpoint: Annotated[
        NewFile | None, typer.Option(help="Save weights and state here after each epoch.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from --checkpoint if it exists.")
    ] = False,
    out: OutOption = None,
) -> None:
    """Train the autoencoder, look at test images, and write a record."""
    from ae_core.training.loop import Existing, claimed  # noqa: PLC0415
    from ae_core.training.loop import train as run  # noqa: PLC0415

    if resume and not checkpoint:
        raise InputError("--resume: expected --checkpoint with the file to go on from")
    settings = validated(
        TrainingSettings,
        phase=phase,
        epochs=epochs,
        images=images,
        test_images=test_images,
        learning_rate=learning_rate,
        batch_size=batch_size,
        initial_scale=initial_scale,
        seed=seed,
        graph=graph,
    )
    target = writable(out or records_directory() / f"training_{phase}.json")
    if checkpoint and files.expanded(checkpoint).resolve() == target.resolve():
        raise InputError(
            f"--out: expected another file than --checkpoint, found the same: {target}"
        )
    existing: Existing = "resume" if resume else "refuse"
    with claimed(checkpoint, existing):
        dataset = locate.find(data)
        describe(dataset)
        _, record = run(
            settings,
            dataset,
            device=device,
            checkpoint=checkpoint,
            existing=existing,
            on_epoch=_tell_epoch,
        )
    if record.test:
        print(f"test ({record.test.images:,} images): MSE {record.test.mse:.5f}, ", end="")
        print(f"PSNR {record.test.psnr:.2f} dB")
    print(_memory(record))
    save(record, target)


def _tell_epoch(epoch: EpochResult) -> None:
    print(f"epoch {epoch.epoch:3}: loss {epoch.loss:.5f}, {epoch.seconds:.1f} s", flush=True)


def _memory(record: TrainingRecord) -> str:
    memory = record.memory
    text = f"memory: host peak {memory.host / 2**20:,.0f} MiB"
    if memory.device is not None and memory.device_in_use is not None:
        text += f", device peak {memory.device / 2**20:,.1f} MiB"
        text += f", {memory.device_in_use / 2**20:,.1f} MiB in use at the end"
    return text
