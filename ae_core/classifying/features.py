"""The encoder's features: which images, and where to: a file, or straight to a classifier."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ae_core import files, progress
from ae_core.autoencoder import Autoencoder
from ae_core.classifying import feature_files
from ae_core.classifying.engines import Engine
from ae_core.classifying.feature_files import FeatureOrigin, Features, SplitName, load, writing
from ae_core.data.cifar10 import Dataset, normalise
from ae_core.errors import InputError
from ae_core.records import FormatTime

__all__ = ["encoded", "extract", "load", "select", "stratified", "subset", "time_formats"]


def stratified(labels: npt.NDArray[np.uint8], count: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Indices, ascending, of `count` random images with each class's share as in `labels`.

    Shares are kept to the image: of CIFAR-10, whose classes are alike, classes differ by one at
    most. All indices where there are no more than `count`.

    Raises:
        InputError: `count` is negative.
    """
    from sklearn.utils import resample  # noqa: PLC0415

    if count < 0:
        raise InputError(f"images: expected a whole number from 0, found {count}")
    everything = np.arange(len(labels))
    if count in (0, len(labels)) or count > len(labels):
        return everything[:count]
    chosen = resample(
        everything, replace=False, n_samples=count, stratify=labels, random_state=seed
    )
    return np.sort(chosen)


def extract(
    autoencoder: Autoencoder,
    dataset: Dataset,
    split: SplitName,
    path: str | Path,
    rows: npt.NDArray[np.integer] | None = None,
) -> FeatureOrigin:
    """Encode a split's images into a file that is whole or absent.

    Args:
        autoencoder: any phase's; a large `batch_size` encodes faster on a GPU.
        dataset: where the images come from.
        split: `train` or `test`.
        path: ends in `.parquet`, or in `.csv`, which is several times slower and larger.
        rows: which images, all by default.

    Raises:
        BusyError: another process is writing the file; found out before any image is encoded.
        UnwritableError: it can't be written.
    """
    images = getattr(dataset, split)
    rows = np.arange(len(images.labels)) if rows is None else rows
    origin = _origin(autoencoder, dataset, split, len(rows))
    with writing(path, origin) as write:
        for here, block in _encoding(autoencoder, dataset, split, rows):
            write(rows[here], images.labels[rows[here]], block)
    return origin


def encoded(
    autoencoder: Autoencoder,
    dataset: Dataset,
    split: SplitName,
    engine: Engine,
    rows: npt.NDArray[np.integer] | None = None,
) -> Features:
    """A split's features without a file, straight to where `engine` computes."""
    labels = getattr(dataset, split).labels
    rows = np.arange(len(labels)) if rows is None else rows
    x = engine.xp.empty((len(rows), autoencoder.architecture.latent_features), np.float32)
    for here, block in _encoding(autoencoder, dataset, split, rows):
        x[here] = engine.xp.asarray(block)
    return Features(x, labels[rows], rows)


def time_formats(
    autoencoder: Autoencoder,
    dataset: Dataset,
    rows: npt.NDArray[np.integer],
    engine: Engine,
) -> list[FormatTime]:
    """Write some test images' features as Parquet and as CSV, and read them back; timed."""
    blocks, labels = [*_encoding(autoencoder, dataset, "test", rows)], dataset.test.labels[rows]
    origin = _origin(autoencoder, dataset, "test", len(rows))
    times = []
    with files.scratch() as folder:
        for suffix in (".parquet", ".csv"):
            path = folder / f"some{suffix}"
            started = time.perf_counter()
            with writing(path, origin) as write:
                for here, block in blocks:
                    write(rows[here], labels[here], block)
            written = time.perf_counter()
            load(path, engine, origin)
            engine.synchronize()
            times.append(
                FormatTime(
                    suffix=suffix,
                    images=len(rows),
                    features=origin.features,
                    bytes=path.stat().st_size,
                    write_seconds=written - started,
                    read_seconds=time.perf_counter() - written,
                )
            )
    return times


def subset(features: Features, images: int, engine: Engine, seed: int = 0) -> Features:
    """So many of the images, the classes in equal parts."""
    return select(features, stratified(features.labels, images, seed), engine)


def select(features: Features, rows: npt.NDArray[np.integer], engine: Engine) -> Features:
    """Some rows, in this order."""
    x = features.x[engine.xp.asarray(rows)]
    return Features(x, features.labels[rows], features.rows[rows])


def _origin(
    autoencoder: Autoencoder, dataset: Dataset, split: SplitName, images: int
) -> FeatureOrigin:
    return FeatureOrigin(
        split=split,
        images=images,
        features=autoencoder.architecture.latent_features,
        dataset=dataset.identity,
        classes=dataset.classes,
        parameters_digest=autoencoder.digest(),
    )


def _encoding(
    autoencoder: Autoencoder, dataset: Dataset, split: SplitName, rows: npt.NDArray[np.integer]
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    images, side = getattr(dataset, split).images, autoencoder.architecture.height
    with progress.bar(len(rows), f"{split} features") as bar:
        for start in range(0, len(rows), feature_files.BLOCK):
            here = slice(start, min(start + feature_files.BLOCK, len(rows)))
            yield here, autoencoder.encode(normalise(images[rows[here]], side))
            bar.update(here.stop - here.start)
