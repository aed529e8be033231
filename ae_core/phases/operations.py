"""What a phase implements for the linked layers: fifteen calls on arrays, none of them fused."""

from __future__ import annotations

from typing import Protocol

from ae_core.devices.device import Array, Device


class Feeding(Protocol):
    """What every plan asks of a phase: where it computes, and how images come and losses go."""

    @property
    def device(self) -> Device:
        """Where it computes."""

    threads: int
    """CPU threads that the arithmetic uses; 1 where a GPU does it."""
    capturable: bool
    """Whether a training step may become a CUDA graph."""

    def gather(self, pixels: Array, order: Array, position: Array, images: Array) -> None:
        """`images[n] = pixels[order[position[0] + n]]`; uint8 pixels are divided by 255."""

    def advance(self, loss: Array, losses: Array, position: Array) -> None:
        """`losses[position[0] + n] = loss[n]`; then `position[0]` moves on by the length of `loss`.

        At the end of `losses` it goes back to 0.
        """


class Operations(Feeding, Protocol):
    """What a layer may ask of a phase.

    Activations are `(N, C, H, W)`, weights `(K, C, 3, 3)`, biases `(K,)`, all C-ordered and of one
    floating dtype (float32 in training). Convolutions keep the plane's size: stride 1, one pixel
    of zero padding. Outputs are preallocated and wholly overwritten, never accumulated into.
    Once a phase has seen its shapes, no operation allocates.
    """

    def conv2d_forward(self, x: Array, weights: Array, y: Array) -> None:
        """`y[n,k] = sum over c of x[n,c] correlated with weights[k,c]`."""

    def conv2d_input_gradient(self, dy: Array, weights: Array, dx: Array) -> None:
        """`dx[n,c] = sum over k of dy[n,k] convolved with weights[k,c]` (the flipped kernel)."""

    def conv2d_weight_gradient(self, x: Array, dy: Array, dw: Array) -> None:
        """`dw[k,c,u,v] = sum over n,i,j of dy[n,k,i,j] * x[n,c,i+u-1,j+v-1]`."""

    def bias_forward(self, y: Array, biases: Array) -> None:
        """`y[n,k] += biases[k]`, in place."""

    def bias_gradient(self, dy: Array, db: Array) -> None:
        """`db[k] = sum over n,i,j of dy[n,k,i,j]`."""

    def relu_forward(self, x: Array, y: Array) -> None:
        """`y = max(x, 0)`; NaN stays NaN."""

    def relu_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """`dx = dy` where `x > 0`, else 0."""

    def maxpool_forward(self, x: Array, y: Array) -> None:
        """The largest of each 2x2 window, stride 2; an odd last row or column is dropped."""

    def maxpool_backward(self, x: Array, dy: Array, dx: Array) -> None:
        """`dy` to the first largest element (row by row) of each window, zero elsewhere."""

    def upsample_forward(self, x: Array, y: Array) -> None:
        """Nearest neighbour: each element becomes a 2x2 block."""

    def upsample_backward(self, dy: Array, dx: Array) -> None:
        """The sum of each 2x2 block."""

    def mse(self, y: Array, target: Array, dy: Array, loss: Array) -> None:
        """Each image's mean squared error into `loss` `(N,)`; the mean's gradient into `dy`."""

    def sgd(self, parameters: Array, gradients: Array, learning_rate: Array) -> None:
        """`parameters -= learning_rate * gradients`, in place; the rate is an array `(1,)`."""
