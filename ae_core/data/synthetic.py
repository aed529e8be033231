"""Images that stand in for CIFAR-10 where there is no network.

Ten classes that a person tells apart by shape and texture, at random places, sizes, turns and
colours, on textured ground. Colours lean towards a class's own, so that a linear model on raw
pixels gets somewhere (about half right) but not far.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

CLASSES = (
    "disc", "ring", "square", "triangle", "cross", "star", "bars", "checks", "dots", "spiral",
)  # fmt: skip
VERSION = 2
"""Of what is written; goes up when the same seed gives other images, or other files beside them."""
SIDE = 32
Float = npt.NDArray[np.floating]


def rows(count: int, seed: int | tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """`count` rows `(count, 3073)` of CIFAR-10's binary layout, classes in equal numbers.

    The same seed gives the same bytes on one machine; another processor may round otherwise.
    """
    random = np.random.default_rng(seed)
    labels = random.permutation((np.arange(count) % len(CLASSES)).astype(np.uint8))
    written = np.empty((count, 1 + 3 * SIDE * SIDE), np.uint8)
    written[:, 0] = labels
    for label in range(len(CLASSES)):
        here = np.flatnonzero(labels == label)
        images = _images(label, len(here), random)
        written[here, 1:] = (images * 255).astype(np.uint8).reshape(len(here), -1)
    return written


def _images(label: int, count: int, random: np.random.Generator) -> Float:
    """`(count, 3, 32, 32)` in [0, 1): a textured ground with one shape of class `label` on it."""

    def uniform(low: float, high: float) -> Float:
        return random.uniform(low, high, (count, 1, 1)).astype(np.float32)

    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    y, x = axis[None, :, None] - uniform(-0.3, 0.3), axis[None, None, :] - uniform(-0.3, 0.3)
    turn, size = uniform(-0.4, 0.4), uniform(0.45, 0.8)
    u = (np.cos(turn) * x + np.sin(turn) * y) / size
    v = (np.cos(turn) * y - np.sin(turn) * x) / size
    inside = 1 / (1 + np.exp(-12 * size * _shape(label, u, v)))  # a soft edge, half a pixel wide

    brightness = random.uniform(0.35, 0.65, count)
    contrast = random.choice([-1, 1], count) * random.uniform(0.15, 0.3, count)
    ground = _colours(random.uniform(0, 1, count), brightness, random)
    figure = _colours(
        label / len(CLASSES) + random.normal(0, 0.07, count), brightness + contrast, random
    )
    light = uniform(-0.25, 0.25) * axis[None, :, None] + uniform(-0.25, 0.25) * axis
    grain = uniform(0.02, 0.08) * np.sin(
        uniform(4, 14) * x + uniform(4, 14) * y + uniform(0, 6)
    ) + 0.04 * random.standard_normal((count, SIDE, SIDE), np.float32)
    mixed = ground + (figure - ground) * inside[:, None] + (light + grain)[:, None]
    return np.clip(mixed, 0, 0.999)


def _colours(
    hue: npt.NDArray[np.float64], brightness: npt.NDArray[np.float64], random: np.random.Generator
) -> Float:
    """Colours `(count, 3, 1, 1)` of the given hues and brightnesses, with random saturation."""
    phase = 2 * np.pi * (hue[:, None] + np.array([0, 1 / 3, 2 / 3]))
    saturation = random.uniform(0.15, 0.3, (len(hue), 1))
    colours = brightness[:, None] + saturation * np.cos(phase)
    return colours.astype(np.float32)[:, :, None, None]


def _shape(label: int, u: Float, v: Float) -> Any:
    """Signed fields: positive inside the shape, falling to negative outside, at unit scale."""
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    square = 0.8 - np.maximum(abs(u), abs(v))
    match CLASSES[label]:
        case "disc":
            return 0.9 - radius
        case "ring":
            return 0.22 - abs(radius - 0.7)
        case "square":
            return square
        case "triangle":
            return np.minimum(0.6 - v, 0.5 + 0.5 * v - abs(u) * 0.9)
        case "cross":
            return np.minimum(square + 0.1, 0.25 - np.minimum(abs(u), abs(v)))
        case "star":
            return 0.6 + 0.3 * np.cos(5 * angle) - radius
        case "bars":
            return np.minimum(square + 0.1, 0.3 * np.cos(10 * v))
        case "checks":
            return np.minimum(square + 0.1, 0.4 * np.sin(6 * u) * np.sin(6 * v))
        case "dots":
            return np.minimum(square + 0.2, 0.25 * (np.cos(8 * u) + np.cos(8 * v) - 0.7))
        case _:
            return np.minimum(0.95 - radius, 0.3 * np.cos(9 * radius - angle))
