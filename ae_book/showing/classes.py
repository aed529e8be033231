"""The plots of the chapter on classes."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import seaborn as sns
from matplotlib.figure import Figure

from ae_book.showing.figures import INK, MUTED, PALETTE, Pixels, styled, subplots
from ae_core.numbers import count, percent
from ae_core.records import ClassificationResult


@styled
def confusion_matrix(result: ClassificationResult, classes: Sequence[str]) -> Figure:
    """Percent of each class's test images, a row, by predicted class, a column."""
    figure, axis = subplots(1, 1, (7, 5.6))
    counts = np.array(result.confusion)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # More or less of one colour, through which the page's ground shows: its ink is legible on both.
    colour = mpl.colors.to_rgb(PALETTE[0])
    ends = [(*colour, 0), (*colour, 0.75)]
    sns.heatmap(
        shares,
        annot=True,
        annot_kws={"color": INK},
        fmt=".0f",
        cmap=mpl.colors.LinearSegmentedColormap.from_list("shares", ends),
        vmin=0,
        vmax=100,
        linewidths=0.5,
        linecolor=MUTED,
        xticklabels=classes,
        yticklabels=classes,
        cbar_kws={"label": "percent of the class's images"},
        ax=axis,
    )
    axis.set(xlabel="predicted", ylabel="true")
    axis.grid(visible=False)
    axis.tick_params(axis="x", rotation=45)
    return figure


@styled
def recalls(results: Sequence[ClassificationResult], classes: Sequence[str]) -> Figure:
    """Percent classified right, by class, a bar for each result; the first result sorts them."""
    figure, axis = subplots(1, 1, (7.5, 3.6))
    order = np.argsort(results[0].recalls)
    width = 0.8 / len(results)
    for number, (result, colour) in enumerate(zip(results, PALETTE, strict=False)):
        places = np.arange(len(classes)) + (number - (len(results) - 1) / 2) * width
        axis.bar(
            places,
            100 * np.array(result.recalls)[order],
            width,
            color=colour,
            label=result.features,
        )
    axis.set_xticks(range(len(classes)), [classes[label] for label in order], rotation=30)
    axis.set(ylabel="test images right, %", ylim=(0, 100))
    axis.grid(axis="x", visible=False)
    figure.legend(loc="outside lower center", ncols=len(results))
    return figure


@styled
def accuracies(results: Sequence[ClassificationResult]) -> Figure:
    """Test accuracy by kind of features: a dot a seed, of one classifier."""
    names = list(dict.fromkeys(result.features for result in results))
    figure, axis = subplots(1, 1, (7, 0.8 + 0.4 * len(names)))
    for row, name in enumerate(names):
        shares = [r.test_accuracy for r in results if r.features == name]
        axis.plot([100 * s for s in shares], [row] * len(shares), "o", color=PALETTE[0], alpha=0.8)
        axis.text(100 * max(shares) + 0.4, row, percent(float(np.mean(shares)), 1), va="center")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="test accuracy, %", ylim=(len(names) - 0.5, -0.5))
    axis.margins(x=0.15)
    return figure


@styled
def unit_activity(trained: npt.NDArray[np.floating], random: npt.NDArray[np.floating]) -> Figure:
    """How many images each unit is above zero for, of a trained and an untrained encoder.

    Args:
        trained: features `(N, D)`.
        random: likewise, of the same images.
    """
    figure, axis = subplots(1, 1, (7, 3))
    edges = np.linspace(0, 100, 41)
    for features, name, colour in ((random, "untrained", MUTED), (trained, "trained", PALETTE[0])):
        shares = 100 * (features > 0).mean(axis=0)
        axis.hist(shares, edges, color=colour, alpha=0.8, label=name, histtype="stepfilled")
    axis.set(xlabel="images that a unit is active for, %", ylabel="units")
    axis.legend()
    return figure


@styled
def embedding(
    points: npt.NDArray[np.floating], labels: npt.NDArray[np.uint8], classes: Sequence[str]
) -> Figure:
    """Images as points of the plane `(N, 2)`, coloured by class."""
    figure, axis = subplots(1, 1, (7, 5))
    for label, (name, colour) in enumerate(zip(classes, PALETTE, strict=True)):
        here = points[labels == label]
        axis.scatter(here[:, 0], here[:, 1], s=12, color=colour, label=name, linewidths=0)
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    figure.legend(loc="outside right center", markerscale=2)
    return figure


@styled
def confused(
    pairs: Sequence[tuple[str, str, Pixels, Pixels]],
) -> Figure:
    """Images that were taken for another class, above their reconstructions; a block a pair.

    Args:
        pairs: true class, predicted class, images `(N, 3, H, W)` in [0, 1], reconstructions; at
            least one pair, each with at least one image.
    """
    count = max(len(images) for _, _, images, _ in pairs)
    size = (0.9 * count + 1.6, 1.95 * len(pairs))
    figure, axes = subplots(2 * len(pairs), count, size, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for block, (true, predicted, images, outputs) in enumerate(pairs):
        for column, (image, output) in enumerate(zip(images, outputs, strict=True)):
            for row, pixels in ((2 * block, image), (2 * block + 1, output)):
                axes[row, column].imshow(np.clip(pixels, 0, 1).transpose(1, 2, 0))
        axes[2 * block, 0].set_title(f"{true}, taken for {predicted}", loc="left", fontsize=10)
    return figure


@styled
def pipeline(latent: int, train: int, test: int) -> Figure:
    """From images to classes: what is fitted on what."""
    figure, axis = subplots(1, 1, (9, 2.4))
    boxes = [
        ("images", f"{count(train)} + {count(test)}\n3 x 32 x 32", "#888888"),
        ("encoder", "trained without\nlabels", PALETTE[0]),
        ("features", f"{count(latent)} an image,\non disk", PALETTE[2]),
        ("scaler", "mean 0, deviation 1\nof the training set", PALETTE[4]),
        ("RBF SVC", "fitted with the\ntraining labels", PALETTE[1]),
        ("class", "compared with the\ntest labels", "#888888"),
    ]
    for number, (name, text, colour) in enumerate(boxes):
        left = 1.75 * number
        axis.add_patch(
            mpl.patches.FancyBboxPatch(
                (left, 0),
                1.25,
                0.7,
                boxstyle="round,pad=0,rounding_size=0.08",
                facecolor=(*mpl.colors.to_rgb(colour), 0.6),
                edgecolor=MUTED,
            )
        )
        axis.text(left + 0.625, 0.35, name, ha="center", va="center", weight="bold")
        axis.text(left + 0.625, -0.15, text, ha="center", va="top", fontsize=8.5)
        if number:
            axis.annotate(
                "",
                (left - 0.04, 0.35),
                (left - 0.46, 0.35),
                arrowprops={"arrowstyle": "->", "color": INK},
            )
    axis.set(xlim=(-0.2, 10.2), ylim=(-0.8, 0.9))
    axis.axis("off")
    return figure
