"""A support vector classifier that computes each kernel value once.

One against one, as scikit-learn's and cuML's `SVC` do it: a binary classifier for each pair of
classes, and a vote. Their solvers find the support vectors here as well, but from a kernel matrix
that one matrix product made; and where theirs evaluate the kernel again for each of 45 pairs of
classes when predicting, here one matrix serves all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

from ae_core import progress
from ae_core.classifying.least_squares import array_module, rbf_kernel, squared_norms
from ae_core.devices.device import Array


class OneVsOneSVC:
    """An RBF SVC for two classes or more, on NumPy's arrays or CuPy's.

    Args:
        binary: makes a solver for two classes: an `SVC` with `kernel="precomputed"`.
        gamma: of the RBF kernel.
    """

    def __init__(self, binary: Callable[[], Any], gamma: float) -> None:
        self.binary, self.gamma = binary, gamma

    def fit(self, x: Array, y: Array) -> OneVsOneSVC:
        """Find the support vectors of every pair of classes.

        Args:
            x: `(N, D)` float32 or float64 features.
            y: `(N,)` labels, on the same device.
        """
        xp = array_module(x)
        self.classes_ = xp.unique(y)
        pairs = list(combinations(range(len(self.classes_)), 2))
        self.dual_coef_ = xp.zeros((len(x), len(pairs)), x.dtype)
        self.intercept_ = xp.zeros(len(pairs), x.dtype)
        with progress.bar(len(pairs), "fit", "pair") as bar:
            for column, (one, other) in enumerate(pairs):
                rows = xp.flatnonzero((y == self.classes_[one]) | (y == self.classes_[other]))
                x_pair = x[rows]
                model = self.binary()
                model.fit(
                    rbf_kernel(x_pair, x_pair, self.gamma),
                    (y[rows] == self.classes_[other]).astype("int32"),
                )
                support = rows[xp.asarray(model.support_)]
                self.dual_coef_[support, column] = xp.asarray(model.dual_coef_).ravel()
                self.intercept_[column] = float(model.intercept_[0])
                bar.update(1)
        self.support_ = xp.flatnonzero(self.dual_coef_.any(axis=1))
        self.dual_coef_ = self.dual_coef_[self.support_]
        self.support_vectors_ = x[self.support_]
        self._norms = squared_norms(self.support_vectors_)
        return self

    def decision_function(self, x: Array) -> Array:
        """Of each pair `(0, 1), (0, 2), ...`: above zero for the second class. `(N, pairs)`."""
        kernel = rbf_kernel(x, self.support_vectors_, self.gamma, self._norms)
        return kernel @ self.dual_coef_ + self.intercept_

    def predict(self, x: Array) -> Array:
        """Labels `(N,)`: the class that wins most pairs; of equals the one with larger margins."""
        xp, count = array_module(x), len(self.classes_)
        decisions = self.decision_function(x)
        votes, margins = xp.zeros((len(x), count), x.dtype), xp.zeros((len(x), count), x.dtype)
        for column, (one, other) in enumerate(combinations(range(count), 2)):
            decided = decisions[:, column]
            votes[:, other] += decided > 0
            votes[:, one] += decided <= 0
            margins[:, other] += decided
            margins[:, one] -= decided
        # Margins as less than a vote: x / (3 (|x| + 1)) stays within a third.
        return self.classes_[(votes + margins / (3 * (abs(margins) + 1))).argmax(axis=1)]
