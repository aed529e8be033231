"""Prints a digest of each parallel operation's result, on shapes of the book and odd ones."""

from __future__ import annotations

import hashlib

import numpy as np

from ae_core.phases.cpu_parallel import CpuParallel

SHAPES = [  # images, input channels, output channels, height, width
    (1, 3, 256, 32, 32),
    (1, 256, 128, 16, 16),
    (2, 128, 128, 8, 8),
    (1, 256, 3, 32, 32),
    (3, 5, 7, 5, 9),
    (1, 1, 1, 3, 2),
]


def main() -> None:
    operations, random = CpuParallel(), np.random.default_rng(0)
    for N, C, K, H, W in SHAPES:
        x, weights = random.random((N, C, H, W), np.float32), random.random((K, C, 3, 3))
        dy, weights = random.standard_normal((N, K, H, W), np.float32), weights.astype(np.float32)
        y, biases = np.empty_like(dy), random.random(K, np.float32)
        half = np.empty((N, K, H // 2, W // 2), np.float32)
        double = np.empty((N, K, 2 * H, 2 * W), np.float32)
        loss, other = np.empty(N, np.float32), np.empty_like(dy)
        dx, dw, db = np.empty_like(x), np.empty_like(weights), np.empty_like(biases)
        for name, arguments, results in (
            ("conv2d_forward", (x, weights, y), (y,)),
            ("bias_forward", (y, biases), (y,)),
            ("conv2d_input_gradient", (dy, weights, dx), (dx,)),
            ("conv2d_weight_gradient", (x, dy, dw), (dw,)),
            ("bias_gradient", (dy, db), (db,)),
            ("mse", (y, dy, other, loss), (other, loss)),
            ("relu_forward", (dy, y), (y,)),
            ("relu_backward", (dy, y, other), (other,)),
            ("maxpool_forward", (dy, half), (half,)),
            ("maxpool_backward", (dy, half, other), (other,)),
            ("upsample_forward", (dy, double), (double,)),
            ("upsample_backward", (double, other), (other,)),
            ("sgd", (weights.ravel(), dw.ravel(), np.full(1, 0.01, np.float32)), (weights,)),
        ):
            getattr(operations, name)(*arguments)
            for result in results:
                print(name, hashlib.sha256(result.tobytes()).hexdigest()[:16])


if __name__ == "__main__":
    main()
