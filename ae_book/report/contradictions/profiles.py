"""Profiles, and the epochs that they are of."""

from __future__ import annotations

from ae_book.report.contradictions.argument import COUNTED, MEASURED, Argument
from ae_book.report.quantities import GPU_PHASES, backward_over_forward, profile
from ae_core.phases import title

ROWS = ("forward", "backward", "pool", "upsample", "relu", "update")
"""Of the report's profiles."""


def _sums(a: Argument) -> str:
    for phase in ("basic", "v1"):
        *rows, epoch = a.said(*(f"{phase}-{row}" for row in ROWS), f"{phase}-epoch")
        together = a.add(f"{phase}, its rows together", sum(rows) / 1e3, "s")
        a.add(f"{phase}, in no row", epoch - together, "s")
        a.add(f"{phase}, in no row, of the epoch", 100 * (1 - together / epoch), "%")
        a.add(f"{phase}, convolutions of the epoch", 100 * (rows[0] + rows[1]) / 1e3 / epoch, "%")
    a.said("basic-convolution-share")
    return (
        "The shares are right as shares of the rows, and more than half of the epoch is in no row. "
        "Launches and gaps can take that long, and the report names launching as a cost; then "
        "they, not the convolutions, are what dominates, and the table can't show it."
    )


def _v2_gain(a: Argument) -> str:
    old, new, *rows = a.said("v1-epoch", "v2-epoch", *(f"v1-{row}" for row in ROWS))
    convolutions, rest = sum(rows[:2]) / 1e3, sum(rows[2:]) / 1e3
    late = sum(a.said("v2-forward", "v2-backward")) / 1e3
    gained = a.add("gained by the epoch", old - new, "s")
    saved = a.add("gained by the convolutions", convolutions - late, "s")
    a.add("the convolutions' part of the gain", 100 * saved / gained, "%")
    a.add("the epoch, if only convolutions had changed", old - saved, "s")
    missing = a.add("v1, in no row", old - convolutions - rest, "s")
    a.add("v2, in no row, if the other rows stayed", new - late - rest, "s")
    (images,) = a.said("images")
    channels = sum(layer.output[0] for layer in a.network.layers if layer.kind == "conv")
    a.add("bias launches for an image, one for a channel", channels, "", COUNTED)
    a.add("v1, in no row, for each of those", 1e9 * missing / images / channels, "ns")
    return (
        "By its own profile most of v2's gain came from what is in no row of v1's. The text names "
        "one thing that could be there: the bias, launched for each channel before v2 and once "
        "after, which has no row. But then a launch would have taken less than launches take."
    )


def _backward(a: Argument) -> str:
    a.said("backward-over-forward")
    forward, backward = a.said("basic-forward", "basic-backward")
    a.add("basic, by its table", backward / forward, "x")
    late, later = a.said("v1-forward", "v1-backward")
    a.add("v1, by its table", later / late, "x")
    a.said("v1-forward-gain", "v1-backward-gain")
    work = a.flops("backward convolutions") / a.flops("forward convolutions")
    a.add("by the arithmetic", work, "x", COUNTED)
    for phase in GPU_PHASES:
        found = profile(a.records, phase)
        if found:
            a.add(title(phase), backward_over_forward(found), "x", MEASURED)
    return (
        "Two of a layer's three convolutions are in the backward pass, so that about twice is to "
        "be expected. The table has less, the text more. V1 was written to mend the backward pass; "
        "by the tables the forward pass gained more, and the ratio rose."
    )


ARGUMENTS = {
    "A profile of an epoch that is shorter than the epoch": _sums,
    "V2: what changed does not account for what was gained": _v2_gain,
    "Backward against forward: the text, its table, and the arithmetic": _backward,
}
