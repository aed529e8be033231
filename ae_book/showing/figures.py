"""Every plot of the book: one look, drawn as SVG that follows the page's light or dark theme."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch

from ae_core.architecture import Architecture
from ae_core.data.cifar10 import Dataset
from ae_core.errors import InputError
from ae_core.measuring.tables import named, place
from ae_core.numbers import count, with_unit
from ae_core.phases import PHASES
from ae_core.records import BenchmarkRecord, OperationTime, ProfileRecord, TrainingRecord

PALETTE = sns.color_palette("colorblind")
LIBRARIES = {"PyTorch": PALETTE.as_hex()[4]}
"""Colours of those that are measured as yardsticks; a phase's is in the table of phases."""
OTHER_LIBRARY = PALETTE.as_hex()[5]
INK = "#123457"
"""Drawn in place of the text colour; `svg` replaces it by one that follows the theme."""
MUTED = "#123458"
"""Likewise for grid lines and frames."""

_STYLE: Any = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": MUTED,
    "grid.linewidth": 0.5,
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "ae_core",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
_CSS = (
    "<style>svg{--ink:#1f2328;--muted:#c9ced6;font-family:system-ui,sans-serif}"
    "@media (prefers-color-scheme:dark){svg{--ink:#e6e8eb;--muted:#4a515b}}</style>"
)
styled = mpl.rc_context(_STYLE)
"""Decorates what draws, since matplotlib reads its style throughout."""
Pixels = npt.NDArray[Any]


@styled
def svg(figure: Figure) -> str:
    """The figure as SVG text whose ink and frames follow the reader's colour scheme."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = buffer.getvalue().replace(INK, "var(--ink)").replace(MUTED, "var(--muted)")
    return re.sub(r"(<svg[^>]*>)", r"\1" + _CSS, text, count=1)


def show(figure: Figure) -> None:
    """Display the figure as a notebook's output."""
    from IPython.display import SVG, display  # noqa: PLC0415

    display(SVG(svg(figure)))


def look(name: str, graph: bool = False, batch_size: int = 1) -> dict[str, Any]:
    """How every figure marks a phase or library: its own colour and marker, as Matplotlib has them.

    A graph's marker is hollow, and a larger batch has a larger one.
    """
    phase = PHASES.get(name)
    return {
        "color": phase.colour if phase else LIBRARIES.get(name, OTHER_LIBRARY),
        "marker": phase.marker if phase else "X",
        "fillstyle": "none" if graph else "full",
        "markersize": 6 + np.log2(batch_size) / 2,
    }


def mark(axis: Axes, height: float, marker: dict[str, Any]) -> None:
    """Put a marker, of `look`, between a horizontal bar and its label."""
    axis.tick_params(axis="y", length=0, pad=14)
    figure, edge = cast(Figure, axis.get_figure()), axis.get_yaxis_transform()
    beside = mpl.transforms.offset_copy(edge, figure, x=-8, units="points")
    axis.plot(0, height, transform=beside, clip_on=False, **marker)


@styled
def class_samples(dataset: Dataset, per_class: int = 8) -> Figure:
    """The first `per_class` training images of each class, a row a class."""
    figure, axes = subplots(len(dataset.classes), 1, (6.5, 0.62 * len(dataset.classes)))
    for label, (name, axis) in enumerate(zip(dataset.classes, axes, strict=True)):
        images = dataset.train.images[np.flatnonzero(dataset.train.labels == label)[:per_class]]
        _show_images(axis, images)
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


@styled
def network_diagram(architecture: Architecture) -> Figure:
    """The layers as boxes: height for the plane's side, width for the number of channels."""
    figure, axis = subplots(1, 1, (9, 3.2))
    colours = {"input": "#888888", "conv": PALETTE[0], "relu": PALETTE[2]}
    colours |= {"pool": PALETTE[1], "upsample": PALETTE[4]}
    left = 0.0
    for layer in architecture.layers:
        channels, height, _ = layer.output
        width, tall = 0.25 + np.log2(channels + 1) / 10, 0.5 + 2.2 * height / architecture.height
        axis.add_patch(
            FancyBboxPatch(
                (left, -tall / 2),
                width,
                tall,
                boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=(*mpl.colors.to_rgb(colours[layer.kind]), 0.75),
                edgecolor=MUTED,
            )
        )
        middle = left + width / 2
        axis.text(middle, -1.55, layer.name, rotation=40, ha="right", va="top")
        axis.text(middle, tall / 2 + 0.08, f"{channels}", ha="center", va="bottom", fontsize=8)
        if layer.name == architecture.latent.name:
            axis.annotate(
                f"latent: {count(architecture.latent_features)}",
                (middle, tall / 2 + 0.35),
                (middle, 1.75),
                ha="center",
                arrowprops={"arrowstyle": "->", "color": INK},
            )
        left += width + 0.35
    axis.set(xlim=(-0.4, left), ylim=(-2.4, 2.0))
    axis.axis("off")
    return figure


@styled
def loss_curve(record: TrainingRecord) -> Figure:
    """Training loss by epoch, and the test MSE after the last."""
    figure, axis = subplots(1, 1, (6, 3))
    numbers = [epoch.epoch for epoch in record.epochs]
    axis.plot(numbers, [epoch.loss for epoch in record.epochs], "o-", label="training loss")
    if record.test:
        axis.plot(numbers[-1], record.test.mse, "D", color=PALETTE[1], label="test MSE")
    axis.set(xlabel="epoch", ylabel="mean squared error")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    axis.legend()
    return figure


CONVOLUTIONS = {
    "conv2d_forward": "convolution, forward",
    "conv2d_input_gradient": "convolution, input gradient",
    "conv2d_weight_gradient": "convolution, weight gradient",
}
SEVERAL = "several convolutions"
"""In one entry of a step; or parts of convolutions, which no operation of the network names."""
GROUPS = dict(
    zip(
        [*CONVOLUTIONS.values(), SEVERAL, "all else", "gaps"],
        [*PALETTE[:3], PALETTE[9], PALETTE[3], MUTED],
        strict=True,
    )
)
"""What a step's time is split into, and the colour of each."""


@styled
def operation_shares(records: Sequence[ProfileRecord]) -> Figure:
    """Milliseconds per operation: a stacked bar a phase. Of an emulator's profile, its launches."""
    figure, axes = subplots(len(records), 1, (7.5, 1.2 + 1.1 * len(records)))
    emulated = any(record.device_kind == "emulator" for record in records)
    found = [grouped(record, launches=emulated) for record in records]
    for axis, record, values in zip(np.atleast_1d(axes), records, found, strict=True):
        stack(axis, 0, values)
        step, total = record.step, sum(values.values())
        words = with_unit(int(total), "launches") if emulated else with_unit(total, "ms")
        axis.set(yticks=[], title=f"{named(step)}: {words}", xlim=(0, total or 1))
        axis.grid(axis="y", visible=False)
        mark(axis, 0, look(step.name, step.graph, step.batch_size))
    axis.set_xlabel("launches per step" if emulated else "milliseconds per step")
    figure.legend(handles=group_handles(found), loc="outside lower center", ncols=2)
    return figure


def grouped(record: ProfileRecord, launches: bool = False) -> dict[str, float]:
    """Milliseconds of a step, or its launches, by those of `GROUPS` that it has."""
    values = dict.fromkeys(GROUPS, 0.0)
    for o in record.operations:
        values[_group(o)] += o.launches if launches else 1e3 * o.median
    if not launches and not record.includes_launches:
        values["gaps"] = 1e3 * record.gaps
    return {group: value for group, value in values.items() if value}


def stack(axis: Axes, height: float, values: Mapping[str, float]) -> None:
    """A horizontal bar of parts that are named in `GROUPS`."""
    left = 0.0
    for group, value in values.items():
        axis.barh(height, value, left=left, color=GROUPS[group])
        left += value


def group_handles(found: Iterable[Mapping[str, float]]) -> list[Patch]:
    """A legend's entries for all groups that are in one of the bars."""
    there = {group for values in found for group in values}
    return [Patch(fc=colour, label=group) for group, colour in GROUPS.items() if group in there]


def _group(operation: OperationTime) -> str:
    """That of `GROUPS` to which an entry of a step belongs."""
    if operation.kind != "convolution":
        return "all else"
    passes = [group for name, group in CONVOLUTIONS.items() if operation.does(name)]
    return passes[0] if len(passes) == 1 else SEVERAL


@styled
def roofline(records: Sequence[ProfileRecord]) -> Figure:
    """Convolutions of each phase under the card's ceilings: rate over arithmetic intensity."""
    figure, axis = subplots(1, 1, (7, 4))
    ceilings = records[0].ceilings
    if ceilings is None:
        raise InputError("roofline: expected profiles of a GPU, found one without ceilings")
    intensity = np.geomspace(1, 1000, 200)
    roof = np.minimum(ceilings.flops, intensity * ceilings.bandwidth) / 1e9
    axis.plot(intensity, roof, color=INK, label="ceiling, as measured")
    for record in records:
        points = [o for o in record.operations if o.kind == "convolution"]
        axis.plot(
            [o.flops / o.bytes for o in points],
            [o.flops / o.median / 1e9 for o in points],
            linestyle="",
            alpha=0.7,
            label=named(record.step) + (", launching included" * record.includes_launches),
            **look(record.step.name, record.step.graph, record.step.batch_size),
        )
    axis.set(xscale="log", yscale="log", ylabel="GFLOP/s")
    axis.set_xlabel("floating-point operations per byte of least traffic")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def step_times(record: BenchmarkRecord) -> Figure:
    """Milliseconds per image of each implementation, on a log scale, with the spread."""
    figure, axis = subplots(1, 1, (7, 0.8 + 0.5 * len(record.steps)))
    for row, step in enumerate(record.steps):
        low, median, high = (1e3 * t / step.batch_size for t in (step.low, step.median, step.high))
        marker = look(step.name, step.graph, step.batch_size)
        axis.barh(row, median, color=marker["color"])
        mark(axis, row, marker)
        axis.errorbar(median, row, xerr=[[median - low], [high - median]], color=INK, capsize=3)
        axis.text(high * 1.1, row, with_unit(median, "ms"), va="center")
    labels = [f"{named(s)} ({place(s.gpus, s.threads)})" for s in record.steps]
    axis.set(yticks=range(len(labels)), xscale="log", xlabel="milliseconds per image")
    axis.set_yticklabels(labels)
    per_image = [1e3 * t / step.batch_size for step in record.steps for t in (step.low, step.high)]
    axis.set_xlim(min(per_image) / 2, max(per_image) * 4)  # room for the numbers behind the bars
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    return figure


@styled
def reconstructions(originals: Pixels, outputs: Pixels) -> Figure:
    """Originals above, reconstructions below, each with its mean squared error.

    Args:
        originals: `(N, 3, H, W)` float in [0, 1].
        outputs: likewise, any range; shown clipped.
    """
    count = len(originals)
    figure, axes = subplots(2, count, (0.95 * count, 2.4))
    for column in range(count):
        error = float(np.square(originals[column] - outputs[column]).mean())
        for row, image in enumerate((originals[column], outputs[column])):
            axis = axes[row, column]
            axis.imshow(np.clip(image, 0, 1).transpose(1, 2, 0))
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        axes[1, column].set_xlabel(f"{error:.4f}")
    axes[0, 0].set_ylabel("original")
    axes[1, 0].set_ylabel("output")
    return figure


def _show_images(axis: Axes, images: Pixels) -> None:
    """Images in one row with a gap of a pixel or two between."""
    count, channels, height, width = images.shape
    strip = np.zeros((height, count * (width + 2), 4), np.uint8)
    for number, image in enumerate(images):
        columns = slice(number * (width + 2), number * (width + 2) + width)
        strip[:, columns, :channels] = image.transpose(1, 2, 0)
        strip[:, columns, 3] = 255
    axis.imshow(strip)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def subplots(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, Any]:
    """A figure of its own, outside pyplot, so that nothing is shown twice."""
    figure = Figure(figsize=size)
    return figure, figure.subplots(rows, columns, **options)
