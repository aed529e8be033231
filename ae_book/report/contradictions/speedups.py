"""Speed-ups, and the times that they are divisions of."""

from __future__ import annotations

from ae_book.report.contradictions.argument import Argument


def _basic(a: Argument) -> str:
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


def _v1(a: Argument) -> str:
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


def _v2(a: Argument) -> str:
    a.said("v2-speedup", "v2-total-speedup", "v2-incremental")
    v1_epoch, v2_epoch, v1, other, v2 = a.said(
        "v1-epoch", "v2-epoch", "v1-total", "v1-total-2", "v2-total"
    )
    a.add("the division, by the epoch", v1_epoch / v2_epoch, "x")
    a.add("the division, by section 2.4's totals", other / v2, "x")
    a.add("the division, by section 3.1's totals", v1 / v2, "x")
    a.said("final-v2-speedup")
    return (
        "The divisions are right, the first to the digits that its epochs have. By the totals "
        "v2's side stays the same: it is v1's that changes. The final edition is nearest to the "
        "gain by the epoch."
    )


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


ARGUMENTS = {
    "CPU to basic: by the image and by the total": _basic,
    "Basic to v1: a gain, and none": _v1,
    "V1 to v2: three gains": _v2,
    "CPU to v2: a chain that does not multiply": _cumulative,
}
