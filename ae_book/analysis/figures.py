"""The plots of the chapter that compares all phases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ae_book.analysis.side_by_side import Row, machines
from ae_book.showing.figures import (
    INK,
    MUTED,
    group_handles,
    grouped,
    look,
    mark,
    stack,
    styled,
    subplots,
)
from ae_core.numbers import count, digits, times, with_unit
from ae_core.records import IMAGES_PER_EPOCH, TrainingRecord


@styled
def epoch_times(rows: Sequence[Row]) -> Figure:
    """Seconds per 50,000 images, on a log scale; what is extrapolated is hatched."""
    shown = [row for row in rows if row.per_epoch]
    figure, axis, places = _bars(shown)
    for row, place in zip(shown, places, strict=True):
        seconds, colour = row.per_epoch or 0.0, _look(row)["color"]
        axis.barh(place, seconds, **_extrapolated(colour) if row.extrapolated else {"fc": colour})
        axis.text(seconds * 1.1, place, with_unit(seconds, "s"), va="center")
    values = [row.per_epoch or 1.0 for row in shown] or [1.0]
    axis.set(xscale="log", xlabel=f"seconds per {count(IMAGES_PER_EPOCH)} images")
    axis.set_xlim(min(values) / 2, max(values) * 8)  # room for the numbers behind the bars
    kinds: dict[str, dict[str, Any]] = {"measured": {"fc": INK}, "extrapolated": _extrapolated(INK)}
    handles = [mpl.patches.Patch(**style, label=name) for name, style in kinds.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


@styled
def step_gains(rows: Sequence[Row]) -> Figure:
    """How many times as fast each phase is as the one before it, on a log scale."""
    shown = [(row, gain) for row in rows if (gain := row.gain)]
    figure, axis, places = _bars([row for row, _ in shown])
    for (row, gain), place in zip(shown, places, strict=True):
        axis.barh(place, gain - 1, left=1, color=_look(row)["color"])
        right = gain > 1
        axis.text(
            gain * (1.1 if right else 1 / 1.1),
            place,
            times(gain),
            va="center",
            ha="left" if right else "right",
        )
    values = [1.0, *(gain for _, gain in shown)]
    axis.axvline(1, color=INK, linewidth=1)
    axis.set(xscale="log", xlabel="times as fast as the phase before")
    axis.set_xlim(min(values) / 12, max(values) * 6)  # likewise
    return figure


@styled
def time_shares(rows: Sequence[Row]) -> Figure:
    """What part of a step each kind of operation takes: a stacked bar a phase."""
    shown = [row for row in rows if row.profile]
    figure, axis, places = _bars(shown)
    found = [grouped(row.profile) for row in shown if row.profile]
    for values, place in zip(found, places, strict=True):
        whole = sum(values.values())
        stack(axis, place, {group: 100 * value / whole for group, value in values.items()})
    axis.set(xlim=(0, 100), xlabel="percent of a training step")
    if shown:
        figure.legend(handles=group_handles(found), loc="outside lower center", ncols=2)
    return figure


@styled
def loss_over_time(rows: Sequence[Row]) -> Figure:
    """Training loss over the seconds spent, both on log scales: a line a phase.

    A graph's line is dashed, and one of a larger batch is thicker.
    """
    figure, axis = subplots(1, 1, (7.5, 4.6))
    shown = [row for row in rows if row.training and not row.training.resumed_after]
    for row in shown:
        assert row.training is not None
        seconds, losses = loss_trace(row.training)
        label = row.title + (f" ({row.origin})" if row.published else "")
        width, dashes = 1.5 + np.log2(row.batch_size) / 4, "--" if row.graph else "-"
        style = {"linewidth": width, "linestyle": dashes, "markevery": [-1], **_look(row)}
        axis.plot(seconds, losses, label=label, **style)
    axis.set(xscale="log", yscale="log", xlabel="seconds of training")
    axis.set_ylabel("mean squared error")
    for ticks in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
        ticks(mpl.ticker.FormatStrFormatter("%g"))
    axis.grid(which="minor", axis="y", alpha=0.5)
    if shown:
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def loss_trace(record: TrainingRecord) -> tuple[list[float], list[float]]:
    """Seconds since training began, and the mean loss of the images seen since the point before.

    An epoch's points are spread evenly over its time; one without a trace is one point, at its end.
    """
    seconds: list[float] = []
    losses: list[float] = []
    begun = 0.0
    for epoch in record.epochs:
        parts = epoch.trace or (epoch.loss,)
        seconds += [begun + epoch.seconds * (n + 1) / len(parts) for n in range(len(parts))]
        losses += parts
        begun += epoch.seconds
    return seconds, losses


@styled
def memory(rows: Sequence[Row]) -> Figure:
    """MiB of each phase's training: of the process, and on the GPU without the driver's context."""
    shown = [row for row in rows if row.training]
    sides = [("process", [row.host_memory for row in shown])]
    if any(row.device_memory for row in shown):
        sides.append(("GPU", [row.device_memory for row in shown]))
    figure, axes, places = _bars(shown, columns=len(sides))
    for axis, (name, counts) in zip(np.atleast_1d(axes), sides, strict=True):
        for row, place, held in zip(shown, places, counts, strict=True):
            if held:
                axis.barh(place, held / 2**20, color=_look(row)["color"])
                axis.text(held / 2**20, place, f" {digits(held / 2**20)}", va="center")
        most = max((held / 2**20 for held in counts if held), default=1)
        axis.set(xlabel=f"{name}, MiB", xlim=(0, 1.3 * most))
    return figure


def _bars(rows: Sequence[Row], columns: int = 1) -> tuple[Figure, Any, list[int]]:
    """A figure for horizontal bars, its axes, and the height of each row's bar.

    Where rows come from several runs or machines, each group has a heading; what is published
    stands on a band.
    """
    groups = machines(rows)
    labels: dict[int, str] = {}
    places: list[int] = []
    bands: list[tuple[float, float]] = []
    for origin, group in groups.items():
        top = len(labels)
        if len(groups) > 1 or group[0].published:
            labels[top] = origin
        headed = len(labels)
        labels |= {headed + number: _label(row) for number, row in enumerate(group)}
        places += range(headed, len(labels))
        if group[0].published:
            bands.append((top - 0.5, len(labels) - 0.5))
    figure, axes = subplots(1, columns, (7.5, 1.3 + 0.34 * len(labels)), sharey=True)
    for axis in np.atleast_1d(axes):
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
        for band in bands:
            axis.axhspan(*band, color=MUTED, alpha=0.25, zorder=0)
    first = np.atleast_1d(axes)[0]
    first.set_yticks([*labels], labels.values())
    first.set_ylim(len(labels) - 0.4, -0.6)
    for row, place in zip((row for group in groups.values() for row in group), places, strict=True):
        mark(first, place, _look(row))
    for place, text in enumerate(first.get_yticklabels()):
        if place not in places:
            text.set_fontweight("bold")
    return figure, axes, places


def _label(row: Row) -> str:
    return f"{row.title} ({row.unit})" if row.peer else row.title


def _look(row: Row) -> dict[str, Any]:
    return look(row.name, row.graph, row.batch_size)


def _extrapolated(colour: Any) -> dict[str, Any]:
    # No tint: an SVG's hatch has the face for its ground, and both would get the tint's opacity.
    return {"fc": "none", "ec": colour, "hatch": "////", "lw": 0.8}
