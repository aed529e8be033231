"""`features` and `classify`: from images to features, from features to classes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ae_core import files
from ae_core.commands.options import DataOption, DeviceOption, OutOption, PhaseName
from ae_core.commands.output import describe, save, writable
from ae_core.data import locate
from ae_core.parameters import (
    BatchSize,
    ClassifiedImages,
    ClassifiedTestImages,
    Cost,
    EngineChoice,
    File,
    FileFormat,
    Folder,
    Gamma,
    NewFolder,
)
from ae_core.phases import PHASES
from ae_core.records import Classifier, ClassifierSettings
from ae_core.records.provenance import records_directory


def features(
    checkpoint: Annotated[File, typer.Argument(help="As `train --checkpoint` wrote it.")],
    directory: Annotated[NewFolder, typer.Argument(help="Where train and test go, a file each.")],
    phase: Annotated[
        PhaseName | None,
        typer.Option(help=f"One of: {', '.join(PHASES)} (default: the checkpoint's)."),
    ] = None,
    file_format: Annotated[
        FileFormat,
        typer.Option("--format", help="parquet, or csv: twice the room and several times slower."),
    ] = "parquet",
    images: Annotated[ClassifiedImages, typer.Option(help="For training, classes alike.")] = 50_000,
    test_images: Annotated[
        ClassifiedTestImages, typer.Option(help="For testing, likewise.")
    ] = 10_000,
    batch_size: Annotated[BatchSize, typer.Option(help="Images encoded at once.")] = 50,
    device: DeviceOption = "auto",
    data: DataOption = None,
) -> None:
    """Encode images into files of features: 8,192 numbers an image, 1.6 GB in memory for all."""
    from ae_core.classifying.feature_files import SplitName  # noqa: PLC0415
    from ae_core.classifying.features import extract, stratified  # noqa: PLC0415
    from ae_core.training import loop  # noqa: PLC0415

    splits: dict[SplitName, int] = {"train": images, "test": test_images}
    paths = {s: files.for_file(directory / f"{s}.{file_format}") for s in splits}
    dataset = locate.find(data)
    describe(dataset)
    autoencoder, _ = loop.restore(checkpoint, phase=phase, device=device, batch_size=batch_size)
    with files.claimed(paths["train"]), files.claimed(paths["test"]):
        for split, count in splits.items():
            rows = stratified(getattr(dataset, split).labels, count)
            origin = extract(autoencoder, dataset, split, paths[split], rows)
            size = paths[split].stat().st_size / 1e6
            print(f"{paths[split]}: {origin.images:,} images, {size:,.0f} MB")


def classify(
    directory: Annotated[
        Folder, typer.Argument(help="With train and test, as `features` wrote them.")
    ],
    classifier: Annotated[
        Classifier, typer.Option(help="svc, library-svc (slow: for comparison), or least-squares.")
    ] = "svc",
    cost: Annotated[Cost, typer.Option("--C", help="What a misclassified image costs.")] = 10,
    gamma: Annotated[Gamma, typer.Option(help="Of the kernel; 1 is scikit-learn's `scale`.")] = 1,
    search: Annotated[
        bool, typer.Option("--search", help="Choose C and gamma on a part of the training images.")
    ] = False,
    engine: Annotated[EngineChoice, typer.Option(help="auto, rapids or scikit-learn.")] = "auto",
    out: OutOption = None,
) -> None:
    """Classify images from their features: a scaler, an RBF classifier, and its test accuracy."""
    from ae_core.classifying import classification  # noqa: PLC0415
    from ae_core.measuring import tables  # noqa: PLC0415

    settings = ClassifierSettings(classifier=classifier, C=cost, gamma=gamma)
    target = writable(out or records_directory() / f"classification_{classifier}.json")
    record = classification.classify_files(Path(directory), settings, engine, with_search=search)
    print(tables.classification(record).to_string(index=False))
    save(record, target)
