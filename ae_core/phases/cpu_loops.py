"""The baseline: plain nested loops on one CPU thread, written as the formulas read.

Numba compiles each function as it stands, without fast-math: sums run in the order of the loops.
`prange` is `range` here; `cpu_parallel` compiles the same elementwise loops for all cores.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ae_core.devices.device import Array, Host
from ae_core.phases.compiled import compiled, prange


def conv2d_forward(x: Array, weights: Array, y: Array) -> None:
    """y[n,k,i,j] = sum of weights[k,c,u,v] * x[n,c,i+u-1,j+v-1] over c, u, v inside the plane."""
    N, C, H, W = x.shape
    K = weights.shape[0]
    for n in range(N):
        for k in range(K):
            for i in range(H):
                for j in range(W):
                    total = x.dtype.type(0)
                    for c in range(C):
                        for u in range(3):
                            for v in range(3):
                                if 0 <= i + u - 1 < H and 0 <= j + v - 1 < W:
                                    total += weights[k, c, u, v] * x[n, c, i + u - 1, j + v - 1]
                    y[n, k, i, j] = total


def conv2d_input_gradient(dy: Array, weights: Array, dx: Array) -> None:
    """dx[n,c,i,j] = sum of weights[k,c,u,v] * dy[n,k,i-u+1,j-v+1] over k, u, v."""
    N, K, H, W = dy.shape
    C = weights.shape[1]
    for n in range(N):
        for c in range(C):
            for i in range(H):
                for j in range(W):
                    total = dy.dtype.type(0)
                    for k in range(K):
                        for u in range(3):
                            for v in range(3):
                                if 0 <= i - u + 1 < H and 0 <= j - v + 1 < W:
                                    total += weights[k, c, u, v] * dy[n, k, i - u + 1, j - v + 1]
                    dx[n, c, i, j] = total


def conv2d_weight_gradient(x: Array, dy: Array, dw: Array) -> None:
    """dw[k,c,u,v] = sum of dy[n,k,i,j] * x[n,c,i+u-1,j+v-1] over n, i, j."""
    N, C, H, W = x.shape
    K = dy.shape[1]
    for k in range(K):
        for c in range(C):
            dw[k, c] = 0
            for n in range(N):
                for i in range(H):
                    for j in range(W):
                        for u in range(3):
                            for v in range(3):
                                if 0 <= i + u - 1 < H and 0 <= j + v - 1 < W:
                                    dw[k, c, u, v] += dy[n, k, i, j] * x[n, c, i + u - 1, j + v - 1]


def bias_forward(y: Array, biases: Array) -> None:
    """y[n,k] += biases[k]."""
    N, K, H, W = y.shape
    for n in range(N):
        for k in prange(K):
            for i in range(H):
                for j in range(W):
                    y[n, k, i, j] += biases[k]


def bias_gradient(dy: Array, db: Array) -> None:
    """db[k] = sum of dy[n,k,i,j] over n, i, j."""
    N, K, H, W = dy.shape
    for k in prange(K):
        total = dy.dtype.type(0)
        for n in range(N):
            for i in range(H):
                for j in range(W):
                    total += dy[n, k, i, j]
        db[k] = total


def relu_forward(x: Array, y: Array) -> None:
    """y = max(x, 0). The test is for x < 0 so that NaN passes through and is seen in the loss."""
    N, C, H, W = x.shape
    for n in range(N):
        for c in prange(C):
            for i in range(H):
                for j in range(W):
                    y[n, c, i, j] = 0 if x[n, c, i, j] < 0 else x[n, c, i, j]


def relu_backward(x: Array, dy: Array, dx: Array) -> None:
    """dx = dy where x > 0, else 0."""
    N, C, H, W = x.shape
    for n in range(N):
        for c in prange(C):
            for i in range(H):
                for j in range(W):
                    dx[n, c, i, j] = dy[n, c, i, j] if x[n, c, i, j] > 0 else 0


def maxpool_forward(x: Array, y: Array) -> None:
    """The largest of each 2x2 window; NaN counts as largest."""
    N, C, H, W = y.shape
    for n in range(N):
        for c in prange(C):
            for i in range(H):
                for j in range(W):
                    largest = x[n, c, 2 * i, 2 * j]
                    for u in range(2):
                        for v in range(2):
                            value = x[n, c, 2 * i + u, 2 * j + v]
                            if value > largest or value != value:
                                largest = value
                    y[n, c, i, j] = largest


def maxpool_backward(x: Array, dy: Array, dx: Array) -> None:
    """The output gradient goes to the first largest element of its window, row by row."""
    N, C, H, W = dy.shape
    for n in range(N):
        for c in prange(C):
            dx[n, c] = 0
            for i in range(H):
                for j in range(W):
                    first_u, first_v = 0, 0
                    for u in range(2):
                        for v in range(2):
                            largest = x[n, c, 2 * i + first_u, 2 * j + first_v]
                            if x[n, c, 2 * i + u, 2 * j + v] > largest:
                                first_u, first_v = u, v
                    dx[n, c, 2 * i + first_u, 2 * j + first_v] = dy[n, c, i, j]


def upsample_forward(x: Array, y: Array) -> None:
    """Each element becomes a 2x2 block."""
    N, C, H, W = x.shape
    for n in range(N):
        for c in prange(C):
            for i in range(H):
                for j in range(W):
                    for u in range(2):
                        for v in range(2):
                            y[n, c, 2 * i + u, 2 * j + v] = x[n, c, i, j]


def upsample_backward(dy: Array, dx: Array) -> None:
    """The sum of each 2x2 block."""
    N, C, H, W = dx.shape
    for n in range(N):
        for c in prange(C):
            for i in range(H):
                for j in range(W):
                    total = dy.dtype.type(0)
                    for u in range(2):
                        for v in range(2):
                            total += dy[n, c, 2 * i + u, 2 * j + v]
                    dx[n, c, i, j] = total


def mse(y: Array, target: Array, dy: Array, loss: Array) -> None:
    """Each image's mean squared error, and the gradient of the batch's mean."""
    N, C, H, W = y.shape
    scale = y.dtype.type(2 / (N * C * H * W))
    for n in prange(N):
        total = 0.0  # float64: 3,072 squares of float32 differences lose nothing
        for c in range(C):
            for i in range(H):
                for j in range(W):
                    difference = y[n, c, i, j] - target[n, c, i, j]
                    total += difference * difference
                    dy[n, c, i, j] = scale * difference
        loss[n] = total / (C * H * W)


def sgd(parameters: Array, gradients: Array, learning_rate: Array) -> None:
    """parameters -= learning_rate * gradients."""
    rate = learning_rate[0]
    for p in prange(parameters.size):
        parameters[p] -= rate * gradients[p]


def gather(pixels: Array, order: Array, position: Array, images: Array) -> None:
    """images[n] = pixels[order[position + n]], from 0 to 1."""
    N, C, H, W = images.shape
    scale = np.float32(255 if pixels.itemsize == 1 else 1)  # uint8, or float32 from 0 to 1
    for n in prange(N):
        row = order[position[0] + n]
        for c in range(C):
            for i in range(H):
                for j in range(W):
                    images[n, c, i, j] = np.float32(pixels[row, c, i, j]) / scale


def advance(loss: Array, losses: Array, position: Array) -> None:
    """losses[position + n] = loss[n]; position goes on, at the end back to 0."""
    first = position[0]
    for n in range(loss.size):
        losses[first + n] = loss[n]
    position[0] = 0 if first + loss.size >= losses.size else first + loss.size


def _compiled(loops: Any) -> Any:
    return staticmethod(compiled(loops))


class CpuLoops:
    """The loops above, compiled for one thread."""

    threads = 1
    capturable = False

    def __init__(self) -> None:
        self.device = Host()

    conv2d_forward = _compiled(conv2d_forward)
    conv2d_input_gradient = _compiled(conv2d_input_gradient)
    conv2d_weight_gradient = _compiled(conv2d_weight_gradient)
    bias_forward = _compiled(bias_forward)
    bias_gradient = _compiled(bias_gradient)
    relu_forward = _compiled(relu_forward)
    relu_backward = _compiled(relu_backward)
    maxpool_forward = _compiled(maxpool_forward)
    maxpool_backward = _compiled(maxpool_backward)
    upsample_forward = _compiled(upsample_forward)
    upsample_backward = _compiled(upsample_backward)
    mse = _compiled(mse)
    sgd = _compiled(sgd)
    gather = _compiled(gather)
    advance = _compiled(advance)
