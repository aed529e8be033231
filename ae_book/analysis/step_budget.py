"""Where a training step's time is left, and what taking a part of it away could bring at most.

The arithmetic of the last chapter: Amdahl's law on measured parts, no forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from ae_book.analysis.side_by_side import Rows, Variant
from ae_book.showing.figures import MUTED, PALETTE, look, mark, styled, subplots
from ae_core.architecture import Architecture
from ae_core.numbers import times, with_unit
from ae_core.parameters import Precision
from ae_core.phases import PHASES, title
from ae_core.records import ProfileRecord, StepTime, TrainingRecord

UPSAMPLED_TAPS = 4 / 9
"""Of a 3 x 3 convolution behind a nearest upsampling by 2: each output sees 2 x 2 different inputs,
so that four products with summed weights do the work of nine."""


@dataclass(frozen=True)
class Budget:
    """Seconds of a training step for each of its images, by what it would take to be rid of them.

    They add up to its median.
    """

    variant: Variant
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


def budget(profile: ProfileRecord, step: StepTime | None = None) -> Budget | None:
    """A phase's step, split; None without ceilings, or where kernels could not be timed alone.

    Args:
        profile: of its kernels.
        step: if another than the profile's: as a graph. Where it takes less than its kernels one by
            one, it has no gaps, and what kernels take beyond their floor is scaled to what is left.
    """
    step = step or profile.step
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
    left = max(step.median - convolutions_floor - rest_floor, 0.0)
    scale = min(left / beyond, 1.0) if beyond else 1.0
    images = step.batch_size
    return Budget(
        variant=Variant.of(step),
        gaps=max(left - beyond, 0.0) / images,
        rest=rest * scale / images,
        convolutions=convolutions * scale / images,
        rest_floor=rest_floor / images,
        convolutions_floor=convolutions_floor / images,
    )


def budgets(rows: Rows) -> list[Budget]:
    """Of the phases that can be a graph, and of those as one, as far as they were profiled.

    The phases before would dwarf them: their steps are launches for the most part.
    """
    found = []
    for row in rows:
        if row.peer or not PHASES[row.name].capturable:
            continue
        if row.profile:
            found.append(budget(row.profile))
        elif row.graph and row.step:
            plain = rows.find(row.name, batch_size=row.batch_size, precision=row.precision)
            if plain and plain.profile:
                found.append(budget(plain.profile, row.step))
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


def ideas(now: Budget, rows: Rows, batched: TrainingRecord | None = None) -> pd.DataFrame:
    """One row an idea: what it takes away, and how many times as fast a step would be with that.

    Args:
        now: the step to be made faster.
        rows: of one machine; PyTorch's tell what tensor cores gave another program.
        batched: a training with several images a step, if there is one. It is held against one of
            the same phase with one image, as a graph if it was one.
    """
    perfect = [
        ("fuse what is not convolution", "its kernels", now.without("rest", "rest_floor")),
        ("convolutions at their floor", "waiting within", now.without("convolutions")),
        ("all kernels at their floor", "waiting", now.without("gaps", "rest", "convolutions")),
    ]
    if now.gaps:
        perfect.insert(0, ("launch nothing from the host", "the gaps", now.without("gaps")))
    table = [(*row, "if it worked perfectly") for row in perfect]
    for precision in get_args(Precision)[1:]:
        exact, other = (
            rows.find("PyTorch", graph=True, batch_size=now.variant.batch_size, precision=each)
            for each in ("float32", precision)
        )
        if exact and exact.per_image and other and other.per_image:
            gain = exact.per_image / other.per_image
            table.append((f"tensor cores, {precision}", "arithmetic", gain, "PyTorch, measured"))
    if batched:
        of = batched.settings
        single = rows.find(of.phase, graph=of.graph)
        if single and single.training:
            gain = single.training.seconds_per_image / batched.seconds_per_image
            source = f"{title(of.phase, graph=of.graph)}, measured"
            table.append((f"{of.batch_size} images a step", "waiting for work", gain, source))
    return pd.DataFrame(
        [(*row[:2], times(row[2]), row[3]) for row in table],
        columns=["idea", "takes away", "times as fast", ""],
    )


@styled
def figure(found: Sequence[Budget]) -> Figure:
    """Where each step's time is, per image: a stacked bar a phase, on one scale."""
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
        of = each.variant
        mark(axis, place, look(of.name, of.graph, of.batch_size))
    axis.set_yticks(range(len(found)), [each.variant.title for each in found])
    axis.set(ylim=(len(found) - 0.4, -0.6), xlabel="milliseconds of a training step, per image")
    axis.set_xlim(0, 1e3 * max(each.step for each in found) * 1.15)
    axis.grid(axis="y", visible=False)
    names = ("floor", "convolutions beyond it", "other kernels beyond it", "gaps")
    handles = [
        mpl.patches.Patch(fc=colour, label=name)
        for colour, name in zip(kinds.values(), names, strict=True)
    ]
    plot.legend(handles=handles, loc="outside lower center", ncols=4)
    return plot
