"""The two RBF classifiers against scikit-learn's: the same scores, the same predictions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import pairwise
from sklearn.svm import SVC

from ae_core.classifying import least_squares, svc
from ae_core.classifying.engines import ScikitLearn
from ae_core.classifying.least_squares import RbfLeastSquares, rbf_kernel, squared_norms
from ae_core.classifying.svc import OneVsOneSVC

LABELS = np.array([3, 7, 11, 200, 5], np.uint8)
"""Neither 0 to k - 1 nor in order."""
seeds = st.integers(0, 2**31)
dimensions = st.integers(1, 9)
class_counts = st.integers(2, 5)
gammas = st.floats(0.05, 2)
drawn = settings(max_examples=25, deadline=None)
each_precision = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def clusters(seed, count, dimension, classes, dtype=np.float64):
    """Points around centres that overlap, every class at least twice; and others to predict."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, dimension))
    numbers = np.arange(count) % classes
    x, others = (
        (centres[numbers] + random.standard_normal((count, dimension))).astype(dtype)
        for _ in range(2)
    )
    return x, LABELS[numbers], others


def one_vs_one(gamma, C=3.0):
    return OneVsOneSVC(lambda: ScikitLearn().binary_svc(C), gamma)


def precision(dtype):
    return {"rtol": 1e-9, "atol": 1e-9} if dtype == np.float64 else {"rtol": 1e-3, "atol": 1e-4}


@each_precision
@drawn
@given(n=st.integers(1, 12), m=st.integers(1, 12), d=dimensions, gamma=gammas, seed=seeds)
def test_the_rbf_kernel_is_scikit_learns(dtype, n, m, d, gamma, seed):
    random = np.random.default_rng(seed)
    x, y = (random.standard_normal((count, d)).astype(dtype) for count in (n, m))
    wanted = pairwise.rbf_kernel(x.astype(float), y.astype(float), gamma)
    given_norms = rbf_kernel(x, y, gamma, squared_norms(y))
    np.testing.assert_array_equal(rbf_kernel(x, y, gamma), given_norms)
    np.testing.assert_allclose(given_norms, wanted, **precision(dtype))
    assert given_norms.dtype == dtype


def test_no_kernel_value_is_above_one(random):
    """Also where rounding makes the distance of a point to itself negative."""
    x = 1000 + random.standard_normal((200, 30)).astype(np.float32)
    kernel = rbf_kernel(x, x, 1.0)
    assert kernel.max() <= 1
    assert kernel.diagonal().min() > 0


@each_precision
@drawn
@given(
    n=st.integers(5, 40),
    d=dimensions,
    classes=class_counts,
    gamma=gammas,
    alpha=st.floats(0.1, 10),
    seed=seeds,
)
def test_least_squares_is_kernel_ridge_regression(dtype, n, d, classes, gamma, alpha, seed):
    x, y, others = clusters(seed, n, d, classes, dtype)
    targets = np.where(y[:, None] == np.unique(y), 1.0, -1.0)
    peer = KernelRidge(kernel="rbf", gamma=gamma, alpha=alpha).fit(x.astype(float), targets)
    model = RbfLeastSquares(gamma, alpha).fit(x, y)
    scores = model.decision_function(others)
    np.testing.assert_allclose(scores, peer.predict(others.astype(float)), **precision(dtype))
    np.testing.assert_array_equal(model.predict(others), np.unique(y)[scores.argmax(axis=1)])
    assert (scores.dtype, model.predict(others).dtype) == (dtype, y.dtype)


@drawn
@given(n=st.integers(5, 40), chunk=st.integers(1, 41), seed=seeds)
def test_chunks_change_nothing(n, chunk, seed):
    x, y, others = clusters(seed, n, 4, 3)
    whole = RbfLeastSquares(0.3, 0.5).fit(x, y).decision_function(others)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(least_squares, "CHUNK", chunk)
        chunked = RbfLeastSquares(0.3, 0.5).fit(x, y).decision_function(others)
    np.testing.assert_allclose(chunked, whole, rtol=1e-9, atol=1e-12)


def test_chunks_are_what_is_computed_at_once(monkeypatch):
    sizes = []

    def counted(x, *args):
        sizes.append(len(x))
        return rbf_kernel(x, *args)

    monkeypatch.setattr(least_squares, "CHUNK", 16)
    monkeypatch.setattr(least_squares, "rbf_kernel", counted)
    x, y, others = clusters(0, 40, 4, 3)
    RbfLeastSquares(0.3).fit(x, y).predict(others[:20])
    assert sizes == [16, 16, 8, 16, 4]


def test_an_image_that_is_there_twice_is_no_trouble():
    x, y, others = clusters(0, 30, 4, 3)
    twice, once = (RbfLeastSquares(0.3, alpha) for alpha in (1.0, 0.5))
    twice.fit(np.concatenate([x, x]), np.concatenate([y, y]))
    once.fit(x, y)
    scores = twice.decision_function(others)
    np.testing.assert_allclose(scores, once.decision_function(others), rtol=1e-9)


@drawn
@given(n=st.integers(4, 60), d=dimensions, gamma=gammas, C=st.floats(0.1, 20), seed=seeds)
def test_two_classes_decide_as_scikit_learns_svc(n, d, gamma, C, seed):
    x, y, others = clusters(seed, n, d, 2)
    peer = SVC(C=C, gamma=gamma).fit(x, y)
    model = one_vs_one(gamma, C).fit(x, y)
    decisions = model.decision_function(others)
    # Above zero for the second class, both; within what the solvers' tolerance of 1e-3 leaves.
    np.testing.assert_allclose(decisions, peer.decision_function(others)[:, None], atol=5e-3)
    clear = abs(decisions[:, 0]) > 5e-3
    np.testing.assert_array_equal(model.predict(others)[clear], peer.predict(others)[clear])


@drawn
@given(n=st.integers(10, 60), d=dimensions, classes=st.integers(3, 5), gamma=gammas, seed=seeds)
def test_each_pair_decides_as_scikit_learns_svc(n, d, classes, gamma, seed):
    x, y, others = clusters(seed, n, d, classes)
    peer = SVC(C=3, gamma=gamma, decision_function_shape="ovo").fit(x, y)
    model = one_vs_one(gamma).fit(x, y)
    theirs = peer.decision_function(others)  # above zero for the first class, with three or more
    np.testing.assert_allclose(model.decision_function(others), -theirs, atol=5e-3)

    pairs = [(one, other) for one in range(classes) for other in range(one + 1, classes)]
    votes = np.zeros((n, classes), int)
    for column, (one, other) in enumerate(pairs):
        votes[np.arange(n), np.where(theirs[:, column] > 0, one, other)] += 1
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    clear = ~tied & (abs(theirs) > 5e-3).all(axis=1)
    assume(clear.any())
    np.testing.assert_array_equal(model.predict(others)[clear], peer.predict(others)[clear])


@pytest.mark.parametrize("classes", [3, 4, 5])
def test_of_tied_classes_the_one_with_larger_margins_wins(classes):
    """As scikit-learn does it with `break_ties`; without, it takes the first."""
    x, y, others = clusters(3, 300, 6, classes)
    y = np.random.default_rng(3).permutation(y)  # noise, where A beats B, B beats C, C beats A
    first, broken = (SVC(C=3, gamma=0.2, break_ties=ties).fit(x, y) for ties in (False, True))
    found = one_vs_one(0.2).fit(x, y).predict(others)
    assert (first.predict(others) != broken.predict(others)).any()
    np.testing.assert_array_equal(found, broken.predict(others))
    assert found.dtype == y.dtype


def test_features_in_single_precision_decide_alike():
    x, y, others = clusters(0, 200, 6, 4)
    model = one_vs_one(0.2).fit(x.astype(np.float32), y)
    decisions = model.decision_function(others.astype(np.float32))
    assert decisions.dtype == np.float32
    wanted = one_vs_one(0.2).fit(x, y).decision_function(others)
    np.testing.assert_allclose(decisions, wanted, atol=5e-3)


def test_support_vectors_are_scikit_learns():
    x, y, _ = clusters(0, 90, 6, 3)
    model, peer = one_vs_one(0.2).fit(x, y), SVC(C=3, gamma=0.2).fit(x, y)
    np.testing.assert_array_equal(model.support_, np.sort(peer.support_))
    np.testing.assert_array_equal(model.support_vectors_, x[model.support_])
    assert len(model.support_) < len(x)


def test_one_kernel_matrix_serves_all_pairs(monkeypatch):
    x, y, others = clusters(0, 60, 4, 5)
    model = one_vs_one(0.2).fit(x, y)
    shapes = []

    def counted(*args):
        kernel = rbf_kernel(*args)
        shapes.append(kernel.shape)
        return kernel

    monkeypatch.setattr(svc, "rbf_kernel", counted)
    model.predict(others)
    assert shapes == [(60, len(model.support_))]


@pytest.mark.parametrize("model", [RbfLeastSquares(0.3), one_vs_one(0.3)])
def test_inputs_stay_as_they_were(model):
    x, y, others = clusters(0, 40, 4, 3)
    copies = [array.copy() for array in (x, y, others)]
    model.fit(x, y).predict(others)
    for array, copy in zip((x, y, others), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
