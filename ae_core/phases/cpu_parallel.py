"""The honest CPU: the same sums on all cores, in a loop order that vectorises.

Three changes to the convolutions, none to the mathematics:

1. Every plane is copied once into a plane with a border of zeros, so that no tap needs a test.
2. A padded plane is walked as one long row. Output pixel p then needs the inputs p, p+1, p+2 of
   three rows; the two pixels per line that fall into the border are computed and thrown away.
   Runs of hundreds of elements fill vector registers where rows of 16 cannot.
3. All nine taps are summed in one pass, so that a partial sum is loaded and stored once per
   input channel, not nine times.

Each sum belongs to one thread, and its order stands in the source (`fixed_order`): results have the
same bits for any number of threads, on any processor, whether just compiled or from the cache.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import numpy as np

from ae_core.devices.device import Array, Host
from ae_core.phases import cpu_loops
from ae_core.phases.compiled import compiled_parallel, prange, start_threads
from ae_core.phases.fixed_order import LANES, fma, nine_sums


@compiled_parallel
def pad(x: Array, padded: Array) -> None:
    """Copy planes `(N, C, H, W)` into the middle of `(N, C, (H+2)*(W+2)+2)`; the border is zero."""
    N, C, H, W = x.shape
    S = W + 2
    for plane in prange(N * C):
        n, c = plane // C, plane % C
        padded[n, c] = 0
        for i in range(H):
            padded[n, c, (i + 1) * S + 1 : (i + 1) * S + 1 + W] = x[n, c, i]


@compiled_parallel
def correlate(padded: Array, weights: Array, rows: Array, y: Array) -> None:
    """y[n,k] = sum over c of plane c correlated with weights[k,c]; `rows` holds W+2 wide sums.

    The three slices start where the window's three rows start. Indexing slices with the loop's
    own p, from zero, also spares Numba's test for negative indices, which would stop the
    vectoriser.
    """
    N, K, H, W = y.shape
    C, S, M = padded.shape[1], W + 2, H * (W + 2)
    for plane in prange(N * K):
        n, k = plane // K, plane % K
        out = rows[n, k]
        out[:] = 0
        for c in range(C):
            above = padded[n, c, : M + 2]
            level = padded[n, c, S : S + M + 2]
            below = padded[n, c, 2 * S : 2 * S + M + 2]
            w = weights[k, c]
            w00, w01, w02 = w[0, 0], w[0, 1], w[0, 2]
            w10, w11, w12 = w[1, 0], w[1, 1], w[1, 2]
            w20, w21, w22 = w[2, 0], w[2, 1], w[2, 2]
            for p in range(M):
                top = fma(w02, above[p + 2], fma(w01, above[p + 1], w00 * above[p]))
                middle = fma(w12, level[p + 2], fma(w11, level[p + 1], w10 * level[p]))
                bottom = fma(w22, below[p + 2], fma(w21, below[p + 1], w20 * below[p]))
                out[p] += top + middle + bottom
        for i in range(H):
            y[n, k, i] = out[i * S : i * S + W]


@compiled_parallel
def correlate_pairs(padded_x: Array, padded_dy: Array, dw: Array, W: int) -> None:
    """dw[k,c] = the nine sums of dy[k] times a shifted x[c]; dy's border cancels the margins."""
    N, C, _ = padded_x.shape
    K = padded_dy.shape[1]
    S = W + 2
    M = padded_x.shape[2] - 2 * S - 2
    for k in prange(K):
        for c in range(C):
            s00 = s01 = s02 = s10 = s11 = s12 = s20 = s21 = s22 = dw.dtype.type(0)
            for n in range(N):
                above = padded_x[n, c, : M + 2]
                level = padded_x[n, c, S : S + M + 2]
                below = padded_x[n, c, 2 * S : 2 * S + M + 2]
                gradient = padded_dy[n, k, S + 1 : S + 1 + M]
                whole = M // LANES
                t = nine_sums(above, level, below, gradient, whole)
                s00, s01, s02 = s00 + t[0], s01 + t[1], s02 + t[2]
                s10, s11, s12 = s10 + t[3], s11 + t[4], s12 + t[5]
                s20, s21, s22 = s20 + t[6], s21 + t[7], s22 + t[8]
                for p in range(whole * LANES, M):
                    g = gradient[p]
                    s00 += g * above[p]
                    s01 += g * above[p + 1]
                    s02 += g * above[p + 2]
                    s10 += g * level[p]
                    s11 += g * level[p + 1]
                    s12 += g * level[p + 2]
                    s20 += g * below[p]
                    s21 += g * below[p + 1]
                    s22 += g * below[p + 2]
            dw[k, c, 0, 0], dw[k, c, 0, 1], dw[k, c, 0, 2] = s00, s01, s02
            dw[k, c, 1, 0], dw[k, c, 1, 1], dw[k, c, 1, 2] = s10, s11, s12
            dw[k, c, 2, 0], dw[k, c, 2, 1], dw[k, c, 2, 2] = s20, s21, s22


def _on_all_cores(loops: Any) -> Any:
    """Compile one of the baseline's functions with `prange` in force.

    The copy has a name of its own because Numba's cache tells functions apart by name and not by
    how they were compiled.
    """
    name = f"{loops.__name__}_parallel"
    copy = FunctionType(loops.__code__, loops.__globals__, name)
    copy.__qualname__ = name
    return staticmethod(compiled_parallel(copy))


class CpuParallel:
    """The baseline's operations on all cores."""

    capturable = False

    def __init__(self) -> None:
        self.device = Host()
        self.threads = start_threads()
        self._workspace: dict[tuple[Any, ...], Array] = {}

    def conv2d_forward(self, x: Array, weights: Array, y: Array) -> None:
        """See `Operations`."""
        correlate(self._padded("source", x), weights, self._rows(y), y)

    def conv2d_input_gradient(self, dy: Array, weights: Array, dx: Array) -> None:
        """A correlation of the output gradient with the flipped kernels, channels swapped."""
        flipped = weights[:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
        correlate(self._padded("source", dy), flipped, self._rows(dx), dx)

    def conv2d_weight_gradient(self, x: Array, dy: Array, dw: Array) -> None:
        """See `Operations`."""
        padded_x, padded_dy = self._padded("source", x), self._padded("gradient", dy)
        correlate_pairs(padded_x, padded_dy, dw, x.shape[3])

    bias_forward = _on_all_cores(cpu_loops.bias_forward)
    bias_gradient = _on_all_cores(cpu_loops.bias_gradient)
    relu_forward = _on_all_cores(cpu_loops.relu_forward)
    relu_backward = _on_all_cores(cpu_loops.relu_backward)
    maxpool_forward = _on_all_cores(cpu_loops.maxpool_forward)
    maxpool_backward = _on_all_cores(cpu_loops.maxpool_backward)
    upsample_forward = _on_all_cores(cpu_loops.upsample_forward)
    upsample_backward = _on_all_cores(cpu_loops.upsample_backward)
    mse = _on_all_cores(cpu_loops.mse)
    sgd = _on_all_cores(cpu_loops.sgd)
    gather = _on_all_cores(cpu_loops.gather)
    advance = staticmethod(cpu_loops.CpuLoops.advance)  # a few copies

    def _padded(self, role: str, x: Array) -> Array:
        N, C, H, W = x.shape
        padded = self._scratch(role, (N, C, (H + 2) * (W + 2) + 2), x.dtype)
        pad(x, padded)
        return padded

    def _rows(self, y: Array) -> Array:
        N, K, H, W = y.shape
        return self._scratch("rows", (N, K, H * (W + 2)), y.dtype)

    def _scratch(self, role: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        key = (role, shape, dtype)
        if key not in self._workspace:
            self._workspace[key] = self.device.empty(shape, dtype)
        return self._workspace[key]
