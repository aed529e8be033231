"""Both CPU phases, operation by operation, against SciPy and NumPy in float64."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d, correlate2d

from ae_core import phases

sizes = st.integers(1, 5)
sides = st.integers(1, 9)
each_phase = pytest.mark.parametrize("phase", list(phases.PHASES))
drawn = settings(max_examples=25, deadline=None)


def poison(*shape: int, dtype: type = np.float64) -> np.ndarray:
    """An output that shows if an element of it is never written."""
    return np.full(shape, np.nan, dtype)


def correlation(x, w):
    y = np.zeros((len(x), len(w), *x.shape[2:]))
    for n, k, c in np.ndindex(len(x), *w.shape[:2]):
        y[n, k] += correlate2d(x[n, c], w[k, c], mode="same")
    return y


@each_phase
@drawn
@given(n=sizes, c=sizes, k=sizes, h=sides, w=sides, seed=st.integers(0, 2**31))
def test_convolutions_agree_with_scipy_and_are_adjoint(phase, n, c, k, h, w, seed):
    """Also the same number in three ways: <conv(x, w), dy> = <x, dx> = <w, dw>."""
    random, operations = np.random.default_rng(seed), phases.create(phase)
    x, dy = random.standard_normal((n, c, h, w)), random.standard_normal((n, k, h, w))
    weights = random.standard_normal((k, c, 3, 3))
    y, dx, dw = poison(n, k, h, w), poison(n, c, h, w), poison(k, c, 3, 3)
    operations.conv2d_forward(x, weights, y)
    operations.conv2d_input_gradient(dy, weights, dx)
    operations.conv2d_weight_gradient(x, dy, dw)

    expected_dx, expected_dw = np.zeros_like(x), np.zeros_like(weights)
    for i, j, p in np.ndindex(n, k, c):
        expected_dx[i, p] += convolve2d(dy[i, j], weights[j, p], mode="same")
        expected_dw[j, p] += correlate2d(np.pad(x[i, p], 1), dy[i, j], mode="valid")
    np.testing.assert_allclose(y, correlation(x, weights), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, expected_dx, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dw, expected_dw, rtol=0, atol=1e-11)

    scale = np.abs(y).sum() + 1
    assert abs((y * dy).sum() - (x * dx).sum()) < 1e-11 * scale
    assert abs((y * dy).sum() - (weights * dw).sum()) < 1e-11 * scale


@each_phase
def test_convolutions_in_float32_are_as_exact_as_float32(phase, random):
    operations = phases.create(phase)
    x = random.standard_normal((2, 64, 16, 16)).astype(np.float32)
    weights = random.standard_normal((8, 64, 3, 3)).astype(np.float32)
    y = poison(2, 8, 16, 16, dtype=np.float32)
    operations.conv2d_forward(x, weights, y)
    expected = correlation(x.astype(np.float64), weights.astype(np.float64))
    error = np.linalg.norm(y - expected) / np.linalg.norm(expected)
    assert error < 2e-6  # sums of 576 products, each rounded at 6e-8


@each_phase
@drawn
@given(n=sizes, c=sizes, h=sides, w=sides, seed=st.integers(0, 2**31))
def test_bias(phase, n, c, h, w, seed):
    random, operations = np.random.default_rng(seed), phases.create(phase)
    y, b = random.standard_normal((n, c, h, w)), random.standard_normal(c)
    expected, db = y + b[:, None, None], poison(c)
    operations.bias_forward(y, b)
    np.testing.assert_array_equal(y, expected)
    operations.bias_gradient(y, db)
    np.testing.assert_allclose(db, y.sum((0, 2, 3)), rtol=1e-12, atol=1e-12)


@each_phase
def test_relu(phase):
    operations = phases.create(phase)
    x = np.array([-2.0, -0.0, 0.0, 3.0, np.nan, np.inf]).reshape(1, 1, 2, 3)
    y, dx = poison(1, 1, 2, 3), poison(1, 1, 2, 3)
    operations.relu_forward(x, y)
    np.testing.assert_array_equal(y.ravel(), [0, 0, 0, 3, np.nan, np.inf])
    operations.relu_backward(x, np.full_like(x, 5.0), dx)
    np.testing.assert_array_equal(dx.ravel(), [0, 0, 0, 5, 0, 5])


@each_phase
@drawn
@given(n=sizes, c=sizes, h=st.integers(2, 9), w=st.integers(2, 9), seed=st.integers(0, 2**31))
def test_pooling(phase, n, c, h, w, seed):
    """Maxima of windows; the gradient to each first maximum; and the adjoint identity."""
    random, operations = np.random.default_rng(seed), phases.create(phase)
    x = random.integers(0, 3, (n, c, h, w)).astype(float)  # many ties
    dy = random.standard_normal((n, c, h // 2, w // 2))
    y, dx = poison(*dy.shape), poison(*x.shape)
    operations.maxpool_forward(x, y)
    operations.maxpool_backward(x, dy, dx)
    expected_dx = np.zeros_like(x)
    for i, p, r, s in np.ndindex(dy.shape):
        window = x[i, p, 2 * r : 2 * r + 2, 2 * s : 2 * s + 2]
        assert y[i, p, r, s] == window.max()
        u, v = divmod(int(window.argmax()), 2)
        expected_dx[i, p, 2 * r + u, 2 * s + v] = dy[i, p, r, s]
    np.testing.assert_array_equal(dx, expected_dx)
    np.testing.assert_allclose((x * dx).sum(), (y * dy).sum(), atol=1e-9)


@each_phase
def test_pooling_lets_nan_through(phase):
    operations = phases.create(phase)
    y = poison(1, 1, 1, 2)
    x = np.array([[1.0, np.nan, 1, 2], [3, 4, 3, 4]]).reshape(1, 1, 2, 4)
    operations.maxpool_forward(x, y)
    np.testing.assert_array_equal(y.ravel(), [np.nan, 4])


@each_phase
@drawn
@given(n=sizes, c=sizes, h=sides, w=sides, seed=st.integers(0, 2**31))
def test_upsampling(phase, n, c, h, w, seed):
    """Blocks of two by two; their sums; and the adjoint identity."""
    random, operations = np.random.default_rng(seed), phases.create(phase)
    x, dy = random.standard_normal((n, c, h, w)), random.standard_normal((n, c, 2 * h, 2 * w))
    y, dx = poison(*dy.shape), poison(*x.shape)
    operations.upsample_forward(x, y)
    operations.upsample_backward(dy, dx)
    np.testing.assert_array_equal(y, x.repeat(2, 2).repeat(2, 3))
    np.testing.assert_allclose(dx, dy.reshape(n, c, h, 2, w, 2).sum((3, 5)), atol=1e-14)
    np.testing.assert_allclose((x * dx).sum(), (y * dy).sum(), atol=1e-11)


@each_phase
def test_mse_gives_each_images_error_and_the_batch_means_gradient(phase, random):
    operations = phases.create(phase)
    y, target = random.random((2, 3, 3, 5, 4))
    dy, loss = poison(*y.shape), poison(3)
    operations.mse(y, target, dy, loss)
    np.testing.assert_allclose(loss, np.square(y - target).mean((1, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(dy, 2 * (y - target) / y.size, rtol=1e-14)


@each_phase
def test_sgd(phase, random):
    operations = phases.create(phase)
    parameters, gradients = random.standard_normal((2, 1001))
    expected = parameters - 0.25 * gradients
    operations.sgd(parameters, gradients, 0.25)
    np.testing.assert_allclose(parameters, expected, rtol=1e-15)


def test_results_do_not_depend_on_the_number_of_threads(random):
    x = random.standard_normal((1, 32, 16, 16)).astype(np.float32)
    weights = random.standard_normal((64, 32, 3, 3)).astype(np.float32)
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        y, dw = poison(1, 64, 16, 16, dtype=np.float32), poison(64, 32, 3, 3, dtype=np.float32)
        operations = phases.create("cpu-parallel")
        operations.conv2d_forward(x, weights, y)
        operations.conv2d_weight_gradient(x, y, dw)
        results.append(np.concatenate([y.ravel(), dw.ravel()]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[1], results[2])


def test_an_unknown_phase_is_refused_by_name():
    with pytest.raises(ValueError, match=r"expected one of cpu, cpu-parallel.*found 'gpu-9'"):
        phases.create("gpu-9")
