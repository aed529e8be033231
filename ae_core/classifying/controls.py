"""What the trained encoder must be held against: the same classifier on other features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder
from ae_core.classifying.classification import classify
from ae_core.classifying.engines import Engine
from ae_core.classifying.feature_files import Features, SplitName
from ae_core.classifying.features import encoded
from ae_core.data.cifar10 import Dataset, normalise
from ae_core.devices.device import Array
from ae_core.records import ClassificationResult, ClassifierSettings

Rows = dict[SplitName, npt.NDArray[np.integer]]
"""Which images of each split."""
Pair = tuple[Features, Features]
"""Of the training and the test images."""


def raw_pixels(dataset: Dataset, rows: Rows, engine: Engine, side: int = 32) -> Pair:
    """Pixels in [0, 1], all channels: `(N, 3 x side x side)`."""

    def pixels(split: SplitName) -> Features:
        images = getattr(dataset, split)
        flat = normalise(images.images[rows[split]], side).reshape(len(rows[split]), -1)
        return Features(engine.xp.asarray(flat), images.labels[rows[split]], rows[split])

    return pixels("train"), pixels("test")


def principal_components(pair: Pair, components: int, engine: Engine) -> Pair:
    """Projections on the training images' main directions; at most as many as there can be."""
    train, test = pair
    pca = engine.pca(min(components, *train.x.shape))
    x = pca.fit_transform(train.x)
    projected = engine.xp.asarray(pca.transform(test.x))
    return (
        Features(engine.xp.asarray(x), train.labels, train.rows),
        Features(projected, test.labels, test.rows),
    )


def latent(autoencoder: Autoencoder, dataset: Dataset, rows: Rows, engine: Engine) -> Pair:
    """An encoder's features, straight to where the engine computes."""
    train, test = (
        encoded(autoencoder, dataset, split, engine, rows[split]) for split in ("train", "test")
    )
    return train, test


def without_training(
    dataset: Dataset,
    rows: Rows,
    engine: Engine,
    settings: ClassifierSettings,
    encoders: Iterable[Autoencoder],
) -> Iterator[ClassificationResult]:
    """The controls: what the same classifier makes of features that nobody trained.

    Args:
        dataset: where the images come from.
        rows: which, of each split.
        engine: whose classifiers.
        settings: which classifier.
        encoders: untrained ones, by seed 0, 1, ...
    """

    def result(pair: Pair, name: str, seed: int = 0, scaled: bool = True) -> ClassificationResult:
        return classify(
            *pair, settings=settings, engine=engine, name=name, seed=seed, scaled=scaled
        )[0]

    pixels: Pair | None = None
    for seed, encoder in enumerate(encoders):
        architecture = encoder.architecture
        if pixels is None:
            pixels = raw_pixels(dataset, rows, engine, architecture.height)
            yield result(pixels, "raw pixels")
            components = architecture.latent_features // 4
            # Not scaled: that would make the directions of least variance as loud as the others.
            yield result(
                principal_components(pixels, components, engine), "PCA of pixels", scaled=False
            )
        pair = latent(encoder, dataset, rows, engine)
        yield result(pair, "untrained encoder", seed)
        yield result(pooled(pair, architecture, engine), "untrained encoder, pooled", seed)


def pooled(pair: Pair, architecture: Architecture, engine: Engine) -> Pair:
    """Means over 2 x 2 of each plane of the latent: a quarter of the features."""
    train, test = (Features(_halved(f.x, architecture), f.labels, f.rows, None) for f in pair)
    return train, test


def _halved(x: Array, architecture: Architecture) -> Array:
    channels, height, width = architecture.latent.output
    blocks = x.reshape(len(x), channels, height // 2, 2, width // 2, 2)
    return blocks.mean(axis=(3, 5)).reshape(len(x), -1)
