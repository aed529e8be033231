"""Where the report's figures do not fit each other, or the machine: the arithmetic, as data.

No figure is typed here: each comes from a claim, from the network's description, from a record, or
from those before it. Tables and tests read the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from ae_core.architecture import KERNEL, Architecture
from ae_core.claims import Claims, shown
from ae_core.phases import title
from ae_core.quantities import Records, find, profile, steps
from ae_core.records import IMAGES_PER_EPOCH, ProfileRecord

Subject = Literal["totals", "speed-ups", "profile", "machine", "memory"]
BLOCK_Z, BLOCK_THREADS = 64, 1024
"""The most that a CUDA block may have, of planes in z and of threads (programming guide)."""
PARTS = ("forward", "backward", "pool", "upsample", "relu", "update")
"""Rows of the report's profiles."""


@dataclass(frozen=True)
class Figure:
    """A step of the arithmetic."""

    what: str
    value: float
    unit: str
    where: str
    """The place in the report, or how it comes about."""
    as_printed: str = ""


@dataclass(frozen=True)
class Contradiction:
    """Figures that can't all be right."""

    subject: Subject
    title: str
    figures: tuple[Figure, ...]
    follows: str
    """What the arithmetic says, in a sentence."""

    def __getitem__(self, what: str) -> float:
        """A figure's value, by what it is."""
        return next(figure.value for figure in self.figures if figure.what == what)


class Argument:
    """Collects the figures of a contradiction while they are worked out."""

    def __init__(self, claims: Claims, records: Records) -> None:
        self.claims, self.records = claims, records
        self.network = Architecture()
        self.figures: list[Figure] = []

    def said(self, *names: str) -> list[float]:
        """Figures that the report states."""
        found = [self.claims[name] for name in names]
        self.figures += [Figure(c.says, c.number, c.unit, c.where, c.shown) for c in found]
        return [claim.number for claim in found]

    def add(self, what: str, value: float, unit: str, where: str = "follows") -> float:
        """A figure that follows, or comes from elsewhere."""
        self.figures.append(Figure(what, value, unit, where))
        return value

    def flops(self, *operations: str) -> float:
        """Floating-point operations of the network's convolutions in an epoch."""
        found = (c.flops for c in self.network.costs() if c.operation in operations)
        return float(IMAGES_PER_EPOCH * sum(found))


FORWARD = ("conv2d_forward",)
BACKWARD = ("conv2d_input_gradient", "conv2d_weight_gradient")
Conclusion = Callable[[Argument], str]
_ALL: list[tuple[Subject, str, Conclusion]] = []


def find_all(claims: Claims, records: Records) -> list[Contradiction]:
    """Every contradiction, with what a run measured where that bears on it."""
    found = []
    for subject, heading, conclude in _ALL:
        argument = Argument(claims, records)
        follows = conclude(argument)
        found.append(Contradiction(subject, heading, tuple(argument.figures), follows))
    return found


def table(contradiction: Contradiction) -> pd.DataFrame:
    """One row a figure: what it is, its value, and where it stands or how it comes about."""
    return pd.DataFrame(
        {
            "": figure.what,
            "figure": figure.as_printed or shown(figure.value, figure.unit),
            "where": figure.where,
        }
        for figure in contradiction.figures
    )


def _about(subject: Subject, heading: str) -> Callable[[Conclusion], Conclusion]:
    def register(conclude: Conclusion) -> Conclusion:
        _ALL.append((subject, heading, conclude))
        return conclude

    return register


@_about("totals", "The CPU: one total, two times for an image")
def _cpu_total(a: Argument) -> str:
    epoch, images, all_images, epochs = a.said("cpu-epoch", "cpu-images", "images", "epochs")
    a.add("so many images, so many epochs", epoch * all_images / images * epochs, "s")
    a.said("cpu-total")
    final, final_epochs = a.said("final-cpu-epoch", "final-epochs")
    a.add("the final edition's epoch, its epochs", final * final_epochs, "s")
    a.add("an image, by the text", 1e3 * epoch / images, "ms")
    late = a.add("an image, by the final edition", 1e3 * final / all_images, "ms")
    a.add("one over the other", late / (1e3 * epoch / images), "x")
    measured = steps(a.records, "cpu")
    if measured:
        a.add("an image, plain loops", 1e3 * measured[0].median, "ms", "measured here")
    return (
        "Both ways lead to the total, so the total is consistent. The time of an image is not: a "
        "tenth of it in one place, with ten times the epochs. Every speed-up by the image that "
        "starts from the shorter time inherits the question which of the two was measured."
    )


@_about("totals", "Basic: two totals")
def _basic_total(a: Argument) -> str:
    epoch, epochs = a.said("basic-epoch", "epochs")
    product = a.add("their product", epoch * epochs, "s")
    (total,) = a.said("basic-total")
    a.add("total over product", total / product, "x")
    a.add("an epoch that would make the total", total / epochs, "s")
    final, final_epochs = a.said("final-basic-epoch", "final-epochs")
    a.add("the final edition's epoch, its epochs", final * final_epochs, "s")
    cpu, basic = a.said("cpu-all-epochs", "basic-all-epochs")
    a.add("the CPU's run over basic's, by section 2.2", cpu / basic, "x")
    a.add("the CPU's run over basic's, by the table's total", cpu / total, "x")
    return (
        "No epoch that is stated, times the epochs that are stated, gives the table's total. By "
        "section 2.2 the GPU passes over all images sooner than the CPU over its few; by the total "
        "it takes longer."
    )


@_about("totals", "V1: three totals")
def _v1_total(a: Argument) -> str:
    epoch, epochs = a.said("v1-epoch", "epochs")
    product = a.add("their product", epoch * epochs, "s")
    first, second, third = a.said("v1-all-epochs", "v1-total-2", "v1-total")
    a.add("second total over the first", second / first, "x")
    a.add("third total over the first", third / product, "x")
    final, final_epochs = a.said("final-v1-epoch", "final-epochs")
    a.add("the final edition's epoch, its epochs", final * final_epochs, "s")
    return (
        "The first is the product. The others are other runs, or other settings, or slips; nothing "
        "tells which. The final edition's epoch makes a fourth."
    )


@_about("totals", "V2: an epoch that does not make its total")
def _v2_total(a: Argument) -> str:
    epoch, total = a.said("v2-epoch", "v2-total")
    a.add("epochs that the total would hold", total / epoch, "epochs")
    (epochs,) = a.said("epochs")
    a.add("an epoch that would make the total", total / epochs, "s")
    final, final_epochs = a.said("final-v2-epoch", "final-epochs")
    a.add("the final edition's epoch, its epochs", product := final * final_epochs, "s")
    a.add("that product over the total", product / total, "x")
    a.add("the final edition's epoch over the text's", final / epoch, "x")
    return (
        "The total holds more epochs of this length than any place in the report names. The final "
        "edition's epoch nearly explains it: then the total is sound, and the short epoch is not."
    )


@_about("totals", "Several hours")
def _hours(a: Argument) -> str:
    epoch, images, all_images, total = a.said("cpu-epoch", "cpu-images", "images", "cpu-total")
    a.add("the total", total / 3600, "hours")
    a.add("one epoch of all images", epoch * all_images / images / 3600, "hours")
    return (
        "The summary says that the CPU takes several hours for the full data. The table says "
        "nearly a week; one epoch, by the shorter time, takes less than an hour."
    )


@_about("speed-ups", "CPU to basic: by the image and by the total")
def _basic_speedups(a: Argument) -> str:
    by_image, by_total = a.said("basic-speedup", "basic-total-speedup")
    a.add("one over the other", by_image / by_total, "x")
    cpu, basic, cpu_total, total = a.said("cpu-image", "basic-image", "cpu-total", "basic-total")
    a.add("the division, by the image", cpu / basic, "x")
    a.add("the division, by the total", cpu_total / total, "x")
    a.said("final-basic-speedup")
    return (
        "Both divisions are right. They are of different times for the same step, and the "
        "final edition gives a third."
    )


@_about("speed-ups", "Basic to v1: a gain, and none")
def _v1_speedups(a: Argument) -> str:
    a.said("v1-speedup", "v1-forward-gain", "v1-backward-gain")
    basic, late = a.said("basic-total", "v1-total")
    a.add("the division, by the total", basic / late, "x")
    a.said("v1-incremental", "final-v1-speedup")
    return (
        "By its own section v1 is more than twice as fast; in the table of totals it gains "
        "nothing, and the summary says so in words. That table's column of incremental speed-ups "
        "repeats the one over the CPU where the division belongs. The final edition's epochs say "
        "nearly twice."
    )


@_about("speed-ups", "V1 to v2: three gains")
def _v2_speedups(a: Argument) -> str:
    a.said("v2-speedup", "v2-total-speedup", "v2-incremental")
    v1_epoch, v2_epoch, v1, other, v2 = a.said(
        "v1-epoch", "v2-epoch", "v1-total", "v1-total-2", "v2-total"
    )
    a.add("the division, by the epoch", v1_epoch / v2_epoch, "x")
    a.add("the division, by section 2.4's totals", other / v2, "x")
    a.add("the division, by section 3.1's totals", v1 / v2, "x")
    a.said("final-v2-speedup")
    return (
        "Again each division is right, and v2's side hardly changes: it is v1's total that does. "
        "The final edition is nearest to the gain by the epoch."
    )


@_about("speed-ups", "CPU to v2: a chain that does not multiply")
def _cumulative(a: Argument) -> str:
    v1, gain = a.said("v1-cumulative", "v2-speedup")
    a.add("their product", product := v1 * gain, "x")
    cpu, epoch, images = a.said("cpu-image", "v2-epoch", "images")
    a.add("the division, by the image", cpu * images / (1e3 * epoch), "x")
    stated, _ = a.said("v2-cumulative", "v2-total-cumulative")
    a.add("product over what is stated", product / stated, "x")
    cpu_total, total = a.said("cpu-total", "v2-total")
    a.add("the division, by the total", cpu_total / total, "x")
    a.said("final-v2-cumulative")
    return (
        "The first two links are by the image, the last figure by the total. The chain would give "
        "more than twice as much as is claimed, so that here the report claims too little by its "
        "own epochs."
    )


@_about("profile", "A profile of an epoch that is shorter than the epoch")
def _profile_sums(a: Argument) -> str:
    for phase in ("basic", "v1"):
        *parts, epoch = a.said(*(f"{phase}-{part}" for part in PARTS), f"{phase}-epoch")
        rows = a.add(f"{phase}, its rows together", sum(parts) / 1e3, "s")
        a.add(f"{phase}, in no row", epoch - rows, "s")
        a.add(f"{phase}, in no row, of the epoch", 100 * (1 - rows / epoch), "%")
        a.add(f"{phase}, convolutions of the epoch", 100 * (parts[0] + parts[1]) / 1e3 / epoch, "%")
    a.said("basic-convolution-share")
    return (
        "The shares are right as shares of the rows, and more than half of the epoch is in no row. "
        "Launches and gaps can take that long, and the report names launching as a cost; then "
        "they, not the convolutions, are what dominates, and the table can't show it."
    )


@_about("profile", "V2: what changed does not account for what was gained")
def _v2_gain(a: Argument) -> str:
    old, new, *rows = a.said("v1-epoch", "v2-epoch", *(f"v1-{part}" for part in PARTS))
    convolutions, rest = sum(rows[:2]) / 1e3, sum(rows[2:]) / 1e3
    late = sum(a.said("v2-forward", "v2-backward")) / 1e3
    gained = a.add("gained by the epoch", old - new, "s")
    saved = a.add("gained by the convolutions", convolutions - late, "s")
    a.add("the convolutions' part of the gain", 100 * saved / gained, "%")
    a.add("the epoch, if only convolutions had changed", old - saved, "s")
    a.add("v1, in no row", old - convolutions - rest, "s")
    a.add("v2, in no row, if the other rows stayed", new - late - rest, "s")
    return (
        "V2 changes the convolutions and the bias. By its own profile most of the gain came from "
        "elsewhere: what went is the time that is in no row of v1's profile, though the two "
        "versions launch about as often."
    )


@_about("profile", "Backward against forward: the text, its table, and the arithmetic")
def _backward(a: Argument) -> str:
    a.said("backward-over-forward")
    forward, backward = a.said("basic-forward", "basic-backward")
    a.add("basic, by its table", backward / forward, "x")
    late, later = a.said("v1-forward", "v1-backward")
    a.add("v1, by its table", later / late, "x")
    a.said("v1-forward-gain", "v1-backward-gain")
    a.add("by the arithmetic", a.flops(*BACKWARD) / a.flops(*FORWARD), "x", "counted")
    for phase in ("gpu-basic-filter", "gpu-v1", "gpu-v2"):
        found = profile(a.records, phase)
        if found:
            times = [
                sum(o.median for o in found.operations if o.operation in kind)
                for kind in (BACKWARD, FORWARD)
            ]
            a.add(title(phase), times[0] / times[1], "x", "measured here")
    return (
        "Two of a layer's three convolutions are in the backward pass, so that about twice is to "
        "be expected. The table has less, the text more. V1 was written to mend the backward pass; "
        "by the tables the forward pass gained more, and the ratio rose."
    )


@_about("machine", "The arithmetic that v2's times ask for")
def _rate(a: Argument) -> str:
    work = a.flops(*FORWARD, *BACKWARD)
    a.add("convolutions of an epoch", work / 1e12, "TFLOP", "counted")
    epoch, forward, backward, final = a.said(
        "v2-epoch", "v2-forward", "v2-backward", "final-v2-epoch"
    )
    a.add("rate over the epoch", work / epoch / 1e12, "TFLOP/s")
    a.add("rate of the forward pass", a.flops(*FORWARD) / forward / 1e9, "TFLOP/s")
    a.add("rate of the backward pass", a.flops(*BACKWARD) / backward / 1e9, "TFLOP/s")
    rate = a.add("rate of the convolutions", work / (forward + backward) / 1e9, "TFLOP/s")
    slow = a.add("rate over the final edition's epoch", work / final / 1e12, "TFLOP/s")
    text = "In float32, one image a step; no ceiling was measured here to hold that against."
    found = profile(a.records, "gpu-v2") or profile(a.records, "gpu-v1")
    if found and found.ceilings:
        here, name = "measured here", title(found.phase)
        most = found.ceilings.flops / 1e12
        a.add(f"the most in float32, {found.device}", most, "TFLOP/s", here)
        ours = a.add(f"convolutions, {name}", found.convolution_rate / 1e12, "TFLOP/s", here)
        text = (
            f"In float32, one image a step: the text's convolutions would run at "
            f"{100 * rate / most:.0f} % of what the card measured here can do at all, where those "
            f"of {name} reach {100 * ours / most:.1f} %."
        )
    return (
        f"{text} The final edition's epoch as a whole asks for {rate / slow:.0f} times less; at "
        f"that rate convolutions would hardly be bound by arithmetic, as the text says they are."
    )


@_about("machine", "Launches that would take no time")
def _launches(a: Argument) -> str:
    layers = [layer for layer in a.network.layers if layer.kind == "conv"]
    pairs = [layer.input[0] * layer.output[0] for layer in layers]
    count = a.add("launches for an image, one for a pair", 3 * sum(pairs) - pairs[0], "", "counted")
    (images,) = a.said("images")
    for name in ("basic-epoch", "final-basic-epoch"):
        (epoch,) = a.said(name)
        where = a.claims[name].where
        a.add(f"a launch, by {where}", 1e9 * epoch / images / count, "ns")
    found = find(a.records, "profile_gpu-basic", ProfileRecord)
    if found and found.ceilings and found.architecture == Architecture():
        launches = sum(operation.launches for operation in found.operations)
        a.add("a launch", 1e9 * found.step.median / launches, "ns", "measured here")
    return (
        "The text launches a kernel for each pair of a filter and an input channel. Launches take "
        "microseconds, on any machine. Either they were fewer, or the epochs are of something else."
    )


@_about("machine", "A block with a plane of threads for each filter")
def _block(a: Argument) -> str:
    claim = a.claims["v1-threads"]
    filters = max(a.network.filters)
    a.add("filters of the widest layer", filters, "", "counted")
    a.add("planes of a block in z, at most", BLOCK_Z, "", "CUDA")
    a.add("threads of a block, at most", BLOCK_THREADS, "", "CUDA")
    a.add("threads for each filter, at most", BLOCK_THREADS / filters, "")
    return (
        f"Section {claim.section} gives each filter a plane of threads in {claim.quote}, and its "
        f"listing reads the filter from there. A launch with so many planes is refused. The grid's "
        f"z, which chapter 4 uses, has room; likely that is what was meant and built."
    )


@_about("memory", "GPU memory in two places")
def _memory(a: Argument) -> str:
    megabytes, mebibytes = a.said("basic-memory", "basic-vram")
    a.add("the first, in MiB", megabytes * 1e6 / 2**20, "MiB")
    a.add("first over second", megabytes * 1e6 / 2**20 / mebibytes, "x")
    return (
        "They are near each other. What is counted (the buffers, or all that the process holds on "
        "the card) and when, is told for neither, and so neither can be compared with ours."
    )


@_about("memory", "Buffers that v2 removes, and that were not there")
def _buffers(a: Argument) -> str:
    basic, v1, v2 = a.said("basic-vram", "v1-vram", "v2-vram")
    a.add("v2 saves, against v1", v1 - v2, "MiB")
    a.add("v2 saves, against basic", basic - v2, "MiB")
    layers = (layer for layer in a.network.layers if layer.kind == "conv")
    sizes = [4 * KERNEL**2 * c * h * w / 2**20 for c, h, w in (layer.input for layer in layers)]
    a.add("im2col of the largest layer, an image", max(sizes), "MiB", "counted")
    a.add("im2col of all layers, an image", sum(sizes), "MiB", "counted")
    return (
        "The text says that v2 removes im2col's buffers. Neither phase before it is described as "
        "having any, and the memory agrees with that: the largest buffer alone would be more than "
        "what v2 saves. Implicit im2col spares a buffer that was never made."
    )
