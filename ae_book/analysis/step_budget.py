"""Where a training step's time is left, and what taking a part of it away could bring at most.

The arithmetic of the last chapter: Amdahl's law on measured parts, no forecast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from ae_book.analysis.side_by_side import Row
from ae_book.showing.figures import MUTED, PALETTE, styled, subplots
from ae_core.architecture import Architecture
from ae_core.numbers import times, with_unit
from ae_core.phases import title
from ae_core.records import ProfileRecord, TrainingRecord

UPSAMPLED_TAPS = 4 / 9
"""Of a 3 x 3 convolution behind a nearest upsampling by 2: each output sees 2 x 2 different inputs,
so that four products with summed weights do the work of nine."""


@dataclass(frozen=True)
class Budget:
    """Seconds of one training step, by what it would take to be rid of them; they add up to it."""

    name: str
    gaps: float
    """No kernel ran: the GPU waited for its host."""
    rest: float
    """Kernels other than convolutions, beyond their floor."""
    convolutions: float
    """Convolutions, beyond their floor."""
    rest_floor: float
    """The least that the ceilings allow the other kernels, each at its best."""
    convolutions_floor: float
    """Likewise the convolutions."""

    @property
    def floor(self) -> float:
        """Of all kernels."""
        return self.rest_floor + self.convolutions_floor

    @property
    def step(self) -> float:
        """All of it."""
        return self.gaps + self.rest + self.convolutions + self.floor

    def without(self, *parts: str) -> float:
        """How many times as fast the step would be with nothing left of these parts."""
        return self.step / (self.step - sum(getattr(self, part) for part in parts))


def budget(name: str, profile: ProfileRecord, step: float | None = None) -> Budget | None:
    """A phase's step, split; None without ceilings, or where kernels could not be timed alone.

    Args:
        name: of the phase.
        profile: of its kernels.
        step: seconds of the median step, if another than the profile's: as a graph. Where it takes
            less than its kernels one by one, it has no gaps, and what kernels take beyond their
            floor is scaled to what is left.
    """
    if not profile.ceilings or profile.includes_launches:
        return None
    parts = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for operation in profile.operations:
        least = profile.ceilings.seconds(operation.flops, operation.bytes)
        part = parts[operation.kind == "convolution"]
        part[0] += max(operation.median - least, 0.0)
        part[1] += min(operation.median, least)
    (convolutions, convolutions_floor), (rest, rest_floor) = parts[True], parts[False]
    beyond = convolutions + rest
    left = max((step or profile.step.median) - convolutions_floor - rest_floor, 0.0)
    scale = min(left / beyond, 1.0) if beyond else 1.0
    return Budget(
        name=name,
        gaps=max(left - beyond, 0.0),
        rest=rest * scale,
        convolutions=convolutions * scale,
        rest_floor=rest_floor,
        convolutions_floor=convolutions_floor,
    )


def budgets(rows: Mapping[str, Row]) -> list[Budget]:
    """Of v1, v2, and v2 as a graph, as far as they were profiled; earlier phases dwarf them."""
    found = [
        budget(name, row.profile)
        for name, row in rows.items()
        if name in ("gpu-v1", "gpu-v2") and row.profile
    ]
    graph, plain = rows.get("gpu-v2, graph"), rows.get("gpu-v2")
    if graph and graph.step and plain and plain.profile:
        found.append(budget(graph.name, plain.profile, graph.step.median))
    return [each for each in found if each]


def folded_arithmetic(architecture: Architecture) -> float:
    """Part of the convolutions' arithmetic that is left if upsampling is folded into them."""
    layers = architecture.layers
    upsampled = {
        layer.name
        for before, layer in pairwise(layers)
        if before.kind == "upsample" and layer.kind == "conv"
    }
    costs = [c for c in architecture.costs() if c.operation.startswith("conv2d")]
    kept = sum(c.flops * (UPSAMPLED_TAPS if c.layer in upsampled else 1) for c in costs)
    return kept / sum(c.flops for c in costs)


def ideas(
    now: Budget, rows: Mapping[str, Row], batched: TrainingRecord | None = None
) -> pd.DataFrame:
    """One row an idea: what it takes away, and how many times as fast a step would be with that.

    Args:
        now: the step to be made faster.
        rows: of one machine; PyTorch's tell what tensor cores gave another program.
        batched: a training of v2 with several images a step, if there is one. It is held against
            one with one image, as a graph if it was one.
    """
    perfect = [
        ("fuse what is not convolution", "its kernels", now.without("rest", "rest_floor")),
        ("convolutions at their floor", "waiting within", now.without("convolutions")),
        ("all kernels at their floor", "waiting", now.without("gaps", "rest", "convolutions")),
    ]
    if now.gaps:
        perfect.insert(0, ("launch nothing from the host", "the gaps", now.without("gaps")))
    table = [(*row, "if it worked perfectly") for row in perfect]
    graph = rows.get("PyTorch, graph")
    for name in ("TF32", "bf16"):
        other = rows.get(f"PyTorch, graph, {name}")
        if graph and graph.step and other and other.step:
            gain = graph.step.median / other.step.median
            table.append((f"tensor cores, {name}", "arithmetic", gain, "PyTorch, measured"))
    of_graph = batched and batched.settings.graph
    single = rows.get("gpu-v2, graph" if of_graph else "gpu-v2")
    if batched and single and single.training:
        gain = single.training.seconds_per_image / batched.seconds_per_image
        images = batched.settings.batch_size
        table.append((f"{images} images a step", "waiting for work", gain, "v2, measured"))
    return pd.DataFrame(
        [(*row[:2], times(row[2]), row[3]) for row in table],
        columns=["idea", "takes away", "times as fast", ""],
    )


@styled
def figure(found: Sequence[Budget]) -> Figure:
    """Where each step's time is: a stacked bar a phase, on one scale."""
    plot, axis = subplots(1, 1, (7.5, 1.6 + 0.45 * len(found)))
    kinds: dict[str, Any] = {
        "floor": PALETTE[2],
        "convolutions": PALETTE[0],
        "rest": PALETTE[1],
        "gaps": MUTED,
    }
    for place, each in enumerate(found):
        left = 0.0
        for kind, colour in kinds.items():
            width = 1e3 * getattr(each, kind)
            axis.barh(place, width, left=left, color=colour)
            left += width
        axis.text(left, place, f" {with_unit(1e3 * each.step, 'ms')}", va="center")
    axis.set_yticks(range(len(found)), [title(each.name) for each in found])
    axis.set(ylim=(len(found) - 0.4, -0.6), xlabel="milliseconds of a training step")
    axis.set_xlim(0, 1e3 * max(each.step for each in found) * 1.15)
    axis.grid(axis="y", visible=False)
    names = ("floor", "convolutions beyond it", "other kernels beyond it", "gaps")
    handles = [
        mpl.patches.Patch(fc=colour, label=name)
        for colour, name in zip(kinds.values(), names, strict=True)
    ]
    plot.legend(handles=handles, loc="outside lower center", ncols=4)
    return plot
