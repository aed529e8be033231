from __future__ import annotations

import numpy as np

from ae_core.data.cifar10 import normalise


def test_classes_are_balanced_and_seeds_differ(dataset):
    assert set(np.bincount(dataset.test.labels)) == {1000}
    assert set(np.bincount(dataset.train.labels)) == {5000}
    first, second = dataset.train.images[:100], dataset.train.images[10_000:10_100]
    assert not np.array_equal(first, second)


def test_a_linear_model_gets_about_half_of_the_stand_in_right(dataset):
    """Ridge regression on raw pixels onto the ten classes; chance is 10 %."""
    x = normalise(dataset.train.images[:10_000]).reshape(10_000, -1)
    test = normalise(dataset.test.images[:2_000]).reshape(2_000, -1)
    mean = x.mean(0)
    x, test = x - mean, test - mean
    targets = np.eye(10, dtype=np.float32)[dataset.train.labels[:10_000]]
    weights = np.linalg.solve(x.T @ x + 300 * np.eye(x.shape[1], dtype=np.float32), x.T @ targets)
    accuracy = ((test @ weights).argmax(1) == dataset.test.labels[:2_000]).mean()
    assert 0.4 < accuracy < 0.6
