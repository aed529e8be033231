"""An RBF classifier that is one matrix equation: no iterations, on CuPy's arrays or NumPy's.

Regularised least squares for classification with a kernel, one target a class. Rifkin, Yeo and
Poggio, "Regularized Least-Squares Classification" (2003); the same model as scikit-learn's
`KernelRidge` on targets of +1 and -1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ae_core.devices.device import Array

CHUNK = 4096
"""Rows of a kernel matrix that are computed at once."""


def array_module(array: Array) -> Any:
    """numpy, or cupy for its arrays."""
    if isinstance(array, np.ndarray):
        return np
    import cupy  # noqa: PLC0415

    return cupy.get_array_module(array)


def squared_norms(x: Array) -> Array:
    """Of each row, `(N,)`."""
    return array_module(x).einsum("ij,ij->i", x, x)


def rbf_kernel(x: Array, y: Array, gamma: float, y_norms: Array | None = None) -> Array:
    """`exp(-gamma |x_i - y_j|^2)`, shape `(len(x), len(y))`, by one matrix product.

    Args:
        x: `(N, D)` float32 or float64.
        y: `(M, D)`, likewise.
        gamma: of the kernel.
        y_norms: `squared_norms(y)`, if they are at hand.
    """
    xp = array_module(x)
    kernel = x @ y.T
    kernel *= -2
    kernel += squared_norms(x)[:, None]
    kernel += (squared_norms(y) if y_norms is None else y_norms)[None, :]
    xp.maximum(kernel, 0, out=kernel)  # rounding may leave a distance just below zero
    kernel *= -gamma
    return xp.exp(kernel, out=kernel)


class RbfLeastSquares:
    """Ridge regression on the classes' indicators in the RBF kernel's space; the largest wins.

    Args:
        gamma: of the kernel.
        alpha: added to the kernel matrix's diagonal: how much smoothness is worth.
    """

    def __init__(self, gamma: float, alpha: float = 1.0) -> None:
        self.gamma, self.alpha = gamma, alpha

    def fit(self, x: Array, y: Array) -> RbfLeastSquares:
        """Solve for all classes at once.

        Args:
            x: `(N, D)` float32 or float64 features, NumPy's or CuPy's.
            y: `(N,)` labels, on the same device.
        """
        xp = array_module(x)
        self.classes_, codes = xp.unique(y, return_inverse=True)
        targets = xp.full((len(x), len(self.classes_)), -1, x.dtype)
        targets[xp.arange(len(x)), codes] = 1
        self._x, self._norms = x, squared_norms(x)
        kernel = xp.empty((len(x), len(x)), x.dtype)
        for start in range(0, len(x), CHUNK):
            rows = slice(start, start + CHUNK)
            kernel[rows] = rbf_kernel(x[rows], x, self.gamma, self._norms)
        kernel[xp.arange(len(x)), xp.arange(len(x))] += self.alpha
        if xp is np:
            from scipy.linalg import solve  # noqa: PLC0415

            self._dual = solve(kernel, targets, assume_a="pos", overwrite_a=True)
        else:
            from cupyx.lapack import posv  # noqa: PLC0415

            self._dual = posv(kernel, targets)
        return self

    def decision_function(self, x: Array) -> Array:
        """Scores `(N, classes)`, about 1 for the class and -1 for the others."""
        parts = [
            rbf_kernel(x[start : start + CHUNK], self._x, self.gamma, self._norms) @ self._dual
            for start in range(0, len(x), CHUNK)
        ]
        return array_module(x).concatenate(parts)

    def predict(self, x: Array) -> Array:
        """Labels `(N,)`."""
        return self.classes_[self.decision_function(x).argmax(axis=1)]
