"""Drawings of how threads map to work, one for each CUDA phase."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ae_book.showing.figures import INK, MUTED, PALETTE, styled, subplots

INPUT, WEIGHT, OUTPUT = PALETTE[0], PALETTE[1], PALETTE[2]
LIGHT = (0.55, 0.8, 0.72)


@styled
def basic() -> Figure:
    """A block's tile with its halo, and launches in their streams."""
    figure, (tile, streams) = subplots(1, 2, (9, 3.4), width_ratios=(1, 1.9))
    for row in range(6):
        for column in range(6):
            inside = 1 <= row <= 4 and 1 <= column <= 4
            _box(tile, column, -row, 1, 1, INPUT, alpha=0.6 if inside else 0.15)
    for row in range(3):
        for column in range(3):
            _box(tile, 1 + column, -2 - row, 1, 1, None, edge=WEIGHT, width=2)
    _box(tile, 2, -3, 1, 1, OUTPUT, alpha=0.9)
    _text(tile, 3, 1.6, "a block: one thread a pixel of the tile;\nthe halo is loaded with it")
    _text(tile, 3, -6.1, "a thread sums the nine taps around its pixel")
    _frame(tile, (-0.5, 6.5), (-6.8, 2.6))

    for stream in range(3):
        _text(streams, -0.2, -stream + 0.35, f"stream {stream}", align="right")
        for plane in range(4):
            _box(streams, 0.4 + 1.6 * plane, -stream, 1.5, 0.7, INPUT, alpha=0.3)
            _text(streams, 1.15 + 1.6 * plane, -stream + 0.35, f"w[{stream}, {plane}]")
    for left, name in ((0.2, "fork"), (6.9, "join")):
        streams.plot([left, left], [-2.3, 0.95], color=WEIGHT, linewidth=2)
        _text(streams, left, 1.2, name)
    _text(
        streams,
        3.5,
        -3.1,
        "a launch per pair: filter k's launches add into plane k, one after another",
    )
    _frame(streams, (-1.6, 7.6), (-3.6, 2.0))
    return figure


@styled
def batched() -> Figure:
    """The grid with filters in z, and a tree that adds up a block's products."""
    figure, (grid, tree) = subplots(1, 2, (9, 3.4), width_ratios=(1, 1.5))
    for z in reversed(range(4)):
        for row in range(2):
            for column in range(2):
                _box(grid, 0.45 * z + column, 0.45 * z - row, 1, 1, LIGHT)
    _text(grid, 1.0, -1.5, "x, y: tiles of the plane")
    _text(grid, 3.7, 0.6, "z: filters\nand images", align="left")
    _text(grid, 1.9, 3.2, "one launch; each block loops over input planes")
    _frame(grid, (-0.8, 5.4), (-2.0, 3.8))

    for level, count in enumerate((8, 4, 2, 1)):
        for k in range(count):
            _box(tree, k, -1.1 * level, 0.8, 0.55, OUTPUT, alpha=0.7 - 0.1 * level)
            if level:
                for source in (k, k + count):
                    tree.annotate(
                        "",
                        (k + 0.4, -1.1 * level + 0.57),
                        (source + 0.4, -1.1 * (level - 1) - 0.02),
                        arrowprops={"arrowstyle": "-|>", "color": MUTED},
                    )
        beside = count + 0.1 if level == 0 else count + 0.3
        _text(tree, beside, -1.1 * level + 0.25, "__syncthreads()", align="left")
    _text(tree, 4, 1.1, "one sum per thread and tap; a tree in shared memory adds them up")
    _frame(tree, (-0.3, 10.2), (-3.7, 1.6))
    return figure


@styled
def implicit_gemm() -> Figure:
    """C = A B with a B that is not there: its tile's windows lie in the input plane."""
    figure, axis = subplots(1, 1, (9, 4.2))
    _box(axis, 0, 0, 4, 2.4, WEIGHT, alpha=0.15)
    _box(axis, 5, 3, 5, 4, None, edge=INPUT, style="--")
    _box(axis, 5, 0, 5, 2.4, OUTPUT, alpha=0.15)
    _text(axis, 2, -0.4, "A: weights, filters x (channels x 9)")
    _text(axis, 7.5, 7.3, "B: windows, (channels x 9) x pixels, never written")
    _text(axis, 7.5, -0.4, "C: output, filters x pixels")
    _box(axis, 0, 1, 4, 0.7, WEIGHT, alpha=0.25)
    _box(axis, 6.4, 3, 0.9, 4, INPUT, alpha=0.12)
    _box(axis, 1.5, 1, 1, 0.7, WEIGHT, alpha=0.8)
    _box(axis, 6.4, 4.5, 0.9, 1, INPUT, alpha=0.8)
    _box(axis, 6.4, 1, 0.9, 0.7, OUTPUT, alpha=0.8)
    _text(axis, 2, 3.1, "a block walks along both,\ntile by tile")
    for row in range(5):
        for column in range(5):
            window = 1 <= row <= 3 and 1 <= column <= 3
            _box(
                axis, 11.6 + 0.7 * column, 6.2 - 0.7 * row, 0.7, 0.7, INPUT, 0.7 if window else 0.1
            )
    axis.annotate("", (7.4, 5.0), (12.2, 4.9), arrowprops={"arrowstyle": "-|>", "color": INK})
    _text(axis, 13.35, 2.7, "a thread loads the 3 x 3 window of a\npixel from the plane, or zeros")
    _frame(axis, (-0.4, 15.6), (-0.9, 7.8))
    return figure


def _box(
    axis: Axes,
    left: float,
    bottom: float,
    across: float,
    height: float,
    colour: Any,
    alpha: float = 1.0,
    edge: Any = MUTED,
    width: float = 1.0,
    style: str = "-",
) -> None:
    face = (*colour, alpha) if colour else "none"
    axis.add_patch(
        Rectangle(
            (left, bottom),
            across,
            height,
            facecolor=face,
            edgecolor=edge,
            linewidth=width,
            linestyle=style,
        )
    )


def _text(axis: Axes, x: float, y: float, text: str, align: str = "center") -> None:
    axis.text(x, y, text, ha=align, va="center", fontsize=9)


def _frame(axis: Axes, x: tuple[float, float], y: tuple[float, float]) -> None:
    axis.set(xlim=x, ylim=y)
    axis.set_aspect("equal")
    axis.axis("off")
