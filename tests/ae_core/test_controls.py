"""The features that nobody trained are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest

from ae_core import phases
from ae_core.architecture import MINI
from ae_core.autoencoder import Autoencoder
from ae_core.classifying.classification import classify
from ae_core.classifying.controls import (
    latent,
    pooled,
    principal_components,
    raw_pixels,
    without_training,
)
from ae_core.classifying.engines import ScikitLearn
from ae_core.classifying.feature_files import Features
from ae_core.classifying.features import stratified
from ae_core.data.cifar10 import normalise
from ae_core.records import ClassifierSettings
from tests.conftest import SMALL

ENGINE = ScikitLearn()
ROWS = {"train": np.array([49_999, 3, 17, 500, 4]), "test": np.array([9, 2, 9_999])}
LATENT = SMALL.latent_features


def features(x):
    return Features(x, np.arange(len(x), dtype=np.uint8) % 10, np.arange(len(x)))


def test_raw_pixels_are_the_images_numbers(dataset):
    pair = raw_pixels(dataset, ROWS, ENGINE)
    for split, found in zip(("train", "test"), pair, strict=True):
        images = getattr(dataset, split)
        wanted = images.images[ROWS[split]].reshape(-1, 3 * 32 * 32) / np.float32(255)
        np.testing.assert_array_equal(found.x, wanted)
        np.testing.assert_array_equal(found.labels, images.labels[ROWS[split]])
        np.testing.assert_array_equal(found.rows, ROWS[split])
        assert found.x.dtype == np.float32
        assert 0 <= found.x.min() < found.x.max() <= 1


def test_smaller_pixels_are_what_the_encoder_sees(dataset):
    train, _ = raw_pixels(dataset, ROWS, ENGINE, side=8)
    wanted = normalise(dataset.train.images[ROWS["train"]], 8)
    np.testing.assert_array_equal(train.x, wanted.reshape(5, 3 * 8 * 8))


def test_principal_components_are_the_training_images_singular_vectors(random):
    """And the test images' projections on those, around the training images' mean."""
    directions = np.linspace(1, 5, 12)  # no two alike
    train, test = (
        features((shift + random.standard_normal((n, 12)) * directions).astype(np.float32))
        for n, shift in ((200, 3), (50, -40))
    )
    mean = train.x.mean(axis=0)
    _, _, vectors = np.linalg.svd(train.x - mean, full_matrices=False)
    found = principal_components((train, test), 4, ENGINE)
    signs = None
    for projected, given in zip(found, (train, test), strict=True):
        wanted = (given.x - mean) @ vectors[:4].T
        signs = np.sign((projected.x * wanted).sum(axis=0)) if signs is None else signs
        np.testing.assert_allclose(signs * projected.x, wanted, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(projected.labels, given.labels)
        np.testing.assert_array_equal(projected.rows, given.rows)
        assert projected.x.dtype == np.float32


@pytest.mark.parametrize(("images", "dimensions", "found"), [(6, 20, 6), (50, 8, 8), (50, 20, 9)])
def test_there_are_no_more_components_than_images_or_dimensions(random, images, dimensions, found):
    pair = [features(random.standard_normal((n, dimensions))) for n in (images, 3)]
    projected = principal_components(tuple(pair), 9, ENGINE)
    assert [f.x.shape for f in projected] == [(images, found), (3, found)]


def test_pooled_features_are_means_over_two_by_two():
    """By hand: the small latent has 4 planes of 2 x 2."""
    assert SMALL.latent.output == (4, 2, 2)
    x = np.array([[0, 1, 2, 3, 10, 10, 10, 10, 0, 0, 0, 4, -1, 1, -1, 1]], np.float32)
    train, test = pooled((features(x), features(2 * x)), SMALL, ENGINE)
    np.testing.assert_array_equal(train.x, [[1.5, 10, 1, 0]])
    np.testing.assert_array_equal(test.x, [[3, 20, 2, 0]])
    assert train.x.dtype == np.float32


def test_pooling_keeps_neighbours_together(random):
    channels, height, width = MINI.latent.output
    planes = random.standard_normal((5, channels, height, width)).astype(np.float32)
    given = features(planes.reshape(5, -1))
    train, _ = pooled((given, given), MINI, ENGINE)
    wanted = np.array(
        [
            [
                plane[row : row + 2, column : column + 2].mean()
                for plane in image
                for row in range(0, height, 2)
                for column in range(0, width, 2)
            ]
            for image in planes
        ]
    )
    assert wanted.shape[1] == MINI.latent_features // 4
    np.testing.assert_allclose(train.x, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(train.labels, given.labels)


def test_controls_come_in_order_and_are_what_their_names_say(dataset):
    rows = {
        "train": stratified(dataset.train.labels, 60),
        "test": stratified(dataset.test.labels, 30),
    }
    encoders = [Autoencoder(phases.create("cpu", SMALL, 20), seed=s) for s in (0, 1)]
    settings = ClassifierSettings(C=3)
    found = list(without_training(dataset, rows, ENGINE, settings, iter(encoders)))
    assert [(r.features, r.seed, r.dimensions, r.scaled) for r in found] == [
        ("raw pixels", 0, 3 * 8 * 8, True),
        ("PCA of pixels", 0, LATENT // 4, False),
        ("untrained encoder", 0, LATENT, True),
        ("untrained encoder, pooled", 0, LATENT // 4, True),
        ("untrained encoder", 1, LATENT, True),
        ("untrained encoder, pooled", 1, LATENT // 4, True),
    ]
    assert {(r.train_images, r.test_images, r.settings) for r in found} == {(60, 30, settings)}
    pixels, second = (
        raw_pixels(dataset, rows, ENGINE, 8),
        latent(encoders[1], dataset, rows, ENGINE),
    )
    for number, pair in ((0, pixels), (4, second), (5, pooled(second, SMALL, ENGINE))):
        again, _ = classify(*pair, settings, ENGINE, name="again")
        assert found[number].confusion == again.confusion
    assert found[2].confusion != found[4].confusion
