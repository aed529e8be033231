"""What every phase must compute, checked against SciPy and NumPy in float64.

Shapes and seeds come from outside: hypothesis draws them, sanitizer runs list them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import convolve, correlate

from ae_core.phases.feed import Feed
from ae_core.phases.operations import Operations


@dataclass(frozen=True)
class Subject:
    """A phase's operations under test, with the dtype they compute in."""

    operations: Operations
    dtype: type = np.float64

    @property
    def close(self) -> float:
        """Per term and element: some roundings of float32, or float64's."""
        return 2e-6 if self.dtype == np.float32 else 1e-13

    def put(self, array: np.ndarray) -> Any:
        on_device = self.operations.device.empty(array.shape, self.dtype)
        self.operations.device.upload(array.astype(self.dtype), on_device)
        return on_device

    def out(self, *shape: int) -> Any:
        """An output that shows if an element of it is never written."""
        return self.put(np.full(shape, np.nan))

    def get(self, array: Any) -> np.ndarray:
        return self.operations.device.download(array)

    def random(self, generator: np.random.Generator, *shape: int) -> np.ndarray:
        """Values that are exact in the subject's dtype."""
        return generator.standard_normal(shape).astype(self.dtype).astype(np.float64)

    def assert_close(self, found: Any, expected: np.ndarray, terms: int = 1) -> None:
        """`expected` are sums of so many terms of size 1, which round even where they cancel."""
        found = self.get(found).astype(np.float64)
        assert np.isfinite(found).all(), f"{(~np.isfinite(found)).sum()} elements are not finite"
        error = np.linalg.norm(found - expected)
        assert error <= self.close * np.sqrt(terms * expected.size), error


def convolutions(subject: Subject, n: int, c: int, k: int, h: int, w: int, seed: int) -> None:
    """All three, and one number three ways: <conv(x, w), dy> = <x, dx> = <w, dw>."""
    generator, operations = np.random.default_rng(seed), subject.operations
    x, dy = subject.random(generator, n, c, h, w), subject.random(generator, n, k, h, w)
    weights = subject.random(generator, k, c, 3, 3)
    expected_y, expected_dx, expected_dw = np.zeros_like(dy), np.zeros_like(x), 0 * weights
    for i, o, p in np.ndindex(n, k, c):
        expected_y[i, o] += correlate(x[i, p], weights[o, p], mode="constant")
        expected_dx[i, p] += convolve(dy[i, o], weights[o, p], mode="constant")
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x[i, p], 1), (h, w))
        expected_dw[o, p] += np.tensordot(windows, dy[i, o])

    on_x, on_dy, on_weights = subject.put(x), subject.put(dy), subject.put(weights)
    y, dx, dw = subject.out(n, k, h, w), subject.out(n, c, h, w), subject.out(k, c, 3, 3)
    operations.conv2d_forward(on_x, on_weights, y)
    operations.conv2d_input_gradient(on_dy, on_weights, dx)
    operations.conv2d_weight_gradient(on_x, on_dy, dw)
    subject.assert_close(y, expected_y, terms=9 * c)
    subject.assert_close(dx, expected_dx, terms=9 * k)
    subject.assert_close(dw, expected_dw, terms=n * h * w)
    if subject.dtype == np.float64:
        products = (y * dy).sum(), (x * dx).sum(), (weights * dw).sum()
        np.testing.assert_allclose(products, products[0], rtol=0, atol=1e-11 * np.abs(y).sum())


def bias(subject: Subject, n: int, c: int, h: int, w: int, seed: int) -> None:
    """Added in place; the gradient is the sum over images and pixels."""
    generator = np.random.default_rng(seed)
    y, b = subject.random(generator, n, c, h, w), subject.random(generator, c)
    on_y, db = subject.put(y), subject.out(c)
    subject.operations.bias_gradient(on_y, db)
    subject.assert_close(db, y.sum((0, 2, 3)), terms=n * h * w)
    subject.operations.bias_forward(on_y, subject.put(b))
    subject.assert_close(on_y, y + b[:, None, None], terms=2)


def relu(subject: Subject) -> None:
    """Also at zeros, NaN and infinity."""
    x = np.array([-2.0, -0.0, 0.0, 3.0, np.nan, np.inf]).reshape(1, 1, 2, 3)
    on_x, y, dx = subject.put(x), subject.out(1, 1, 2, 3), subject.out(1, 1, 2, 3)
    subject.operations.relu_forward(on_x, y)
    np.testing.assert_array_equal(subject.get(y).ravel(), [0, 0, 0, 3, np.nan, np.inf])
    subject.operations.relu_backward(on_x, subject.put(np.full_like(x, 5.0)), dx)
    np.testing.assert_array_equal(subject.get(dx).ravel(), [0, 0, 0, 5, 0, 5])


def pooling(subject: Subject, n: int, c: int, h: int, w: int, seed: int) -> None:
    """Maxima of windows, and the gradient to each first maximum; many ties, odd sides."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 3, (n, c, h, w)).astype(float)
    dy = subject.random(generator, n, c, h // 2, w // 2)
    expected_y, expected_dx = np.zeros_like(dy), np.zeros_like(x)
    for i, p, r, s in np.ndindex(dy.shape):
        window = x[i, p, 2 * r : 2 * r + 2, 2 * s : 2 * s + 2]
        expected_y[i, p, r, s] = window.max()
        u, v = divmod(int(window.argmax()), 2)
        expected_dx[i, p, 2 * r + u, 2 * s + v] = dy[i, p, r, s]
    on_x, y, dx = subject.put(x), subject.out(*dy.shape), subject.out(*x.shape)
    subject.operations.maxpool_forward(on_x, y)
    subject.operations.maxpool_backward(on_x, subject.put(dy), dx)
    np.testing.assert_array_equal(subject.get(y), expected_y)
    np.testing.assert_array_equal(subject.get(dx), expected_dx)


def pooling_lets_nan_through(subject: Subject) -> None:
    """So that it is seen in the loss."""
    x = np.array([[1.0, np.nan, 1, 2], [3, 4, 3, 4]]).reshape(1, 1, 2, 4)
    y = subject.out(1, 1, 1, 2)
    subject.operations.maxpool_forward(subject.put(x), y)
    np.testing.assert_array_equal(subject.get(y).ravel(), [np.nan, 4])


def upsampling(subject: Subject, n: int, c: int, h: int, w: int, seed: int) -> None:
    """Blocks of two by two, and their sums."""
    generator = np.random.default_rng(seed)
    x = subject.random(generator, n, c, h, w)
    dy = subject.random(generator, n, c, 2 * h, 2 * w)
    y, dx = subject.out(*dy.shape), subject.out(*x.shape)
    subject.operations.upsample_forward(subject.put(x), y)
    subject.operations.upsample_backward(subject.put(dy), dx)
    np.testing.assert_array_equal(subject.get(y), x.repeat(2, 2).repeat(2, 3))
    subject.assert_close(dx, dy.reshape(n, c, h, 2, w, 2).sum((3, 5)), terms=4)


def mse(subject: Subject, n: int, c: int, h: int, w: int, seed: int) -> None:
    """Each image's error, and the gradient of the batch's mean."""
    generator = np.random.default_rng(seed)
    y, target = subject.random(generator, 2, n, c, h, w)
    dy, loss = subject.out(*y.shape), subject.out(n)
    subject.operations.mse(subject.put(y), subject.put(target), dy, loss)
    subject.assert_close(loss, np.square(y - target).mean((1, 2, 3)), terms=c * h * w + 15)
    subject.assert_close(dy, 2 * (y - target) / y.size)


def sgd(subject: Subject, size: int, seed: int) -> None:
    """In place."""
    generator = np.random.default_rng(seed)
    parameters, gradients = subject.random(generator, 2, size)
    on_parameters = subject.put(parameters)
    rate = subject.put(np.array([0.25]))
    subject.operations.sgd(on_parameters, subject.put(gradients), rate)
    subject.assert_close(on_parameters, parameters - 0.25 * gradients, terms=2)


def feeding(subject: Subject, n: int, c: int, h: int, w: int, seed: int) -> None:
    """Images come in the order, to the bit as NumPy makes them; losses go where they belong."""
    generator, operations = np.random.default_rng(seed), subject.operations
    counts = generator.integers(0, 256, (n + 2, c, h, w), np.uint8)
    order = generator.permutation(n + 2)
    for pixels in (counts, counts.astype(np.float32) / np.float32(255)):
        feed = Feed(operations.device, pixels, dtype=subject.dtype)
        feed.begin(order)
        images = subject.out(n, c, h, w)
        loss = subject.put(np.arange(1.0, n + 1))
        last = subject.put(np.full(2, 9.0))
        operations.gather(feed.pixels, feed.order, feed.position, images)
        operations.advance(loss, feed.losses, feed.position)
        expected = counts[order[:n]].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(subject.get(images), expected)
        rest = subject.out(2, c, h, w)
        operations.gather(feed.pixels, feed.order, feed.position, rest)
        expected = counts[order[n:]].astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(subject.get(rest), expected)
        assert subject.get(feed.position) == n
        operations.advance(last, feed.losses, feed.position)
        np.testing.assert_array_equal(feed.read_losses(), [*range(1, n + 1), 9, 9])
        assert subject.get(feed.position) == 0


SHAPES = [
    (1, 1, 1, 1, 1),
    (3, 1, 2, 5, 7),
    (2, 3, 2, 19, 18),
    (1, 18, 2, 8, 8),
    (1, 2, 17, 8, 8),
    (1, 2, 3, 33, 9),
]
"""Images, channels, filters, height, width: one of each, narrow, and more than a tile."""


def everything(subject: Subject) -> None:
    """All contracts on a few awkward shapes: what sanitizers and compute-sanitizer are run over."""
    for n, c, k, h, w in SHAPES:
        convolutions(subject, n, c, k, h, w, seed=1)
        bias(subject, n, k, h, w, seed=2)
        pooling(subject, n, c, h, w, seed=3)
        upsampling(subject, n, c, h, w, seed=4)
        mse(subject, n, c, h, w, seed=5)
        feeding(subject, n, c, h, w, seed=7)
    relu(subject)
    pooling_lets_nan_through(subject)
    sgd(subject, 1001, seed=6)
