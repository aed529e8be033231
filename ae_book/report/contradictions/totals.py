"""Epochs, and the totals that they should make."""

from __future__ import annotations

from ae_book.report.contradictions.argument import MEASURED, Argument
from ae_book.report.quantities import steps


def _final_total(a: Argument, phase: str) -> tuple[float, float]:
    """The final edition's epoch, and the total that its epochs make."""
    epoch, epochs = a.said(f"final-{phase}-epoch", "final-epochs")
    return epoch, a.add("the final edition's epoch, its epochs", epoch * epochs, "s")


def _cpu(a: Argument) -> str:
    epoch, images, all_images, epochs = a.said("cpu-epoch", "cpu-images", "images", "epochs")
    a.add("so many images, so many epochs", epoch * all_images / images * epochs, "s")
    a.said("cpu-total")
    final, _ = _final_total(a, "cpu")
    a.add("an image, by the text", 1e3 * epoch / images, "ms")
    late = a.add("an image, by the final edition", 1e3 * final / all_images, "ms")
    a.add("one over the other", late / (1e3 * epoch / images), "x")
    measured = steps(a.records, "cpu")
    if measured:
        a.add("an image, plain loops", 1e3 * measured[0].median, "ms", MEASURED)
    return (
        "Both ways lead to the total, so the total is consistent. The time of an image is not: a "
        "tenth of it in one place, with ten times the epochs. Every speed-up by the image that "
        "starts from the shorter time inherits the question which of the two was measured."
    )


def _basic(a: Argument) -> str:
    epoch, epochs = a.said("basic-epoch", "epochs")
    product = a.add("their product", epoch * epochs, "s")
    (total,) = a.said("basic-total")
    a.add("total over product", total / product, "x")
    a.add("an epoch that would make the total", total / epochs, "s")
    _final_total(a, "basic")
    cpu, basic = a.said("cpu-all-epochs", "basic-all-epochs")
    a.add("the CPU's run over basic's, by section 2.2", cpu / basic, "x")
    a.add("the CPU's run over basic's, by the table's total", cpu / total, "x")
    return (
        "No epoch that is stated, times the epochs that are stated, gives the table's total. By "
        "section 2.2 the GPU passes over all images sooner than the CPU over its few; by the total "
        "it takes longer."
    )


def _v1(a: Argument) -> str:
    epoch, epochs = a.said("v1-epoch", "epochs")
    product = a.add("their product", epoch * epochs, "s")
    first, second, third = a.said("v1-all-epochs", "v1-total-2", "v1-total")
    a.add("second total over the first", second / first, "x")
    a.add("third total over the first", third / product, "x")
    _final_total(a, "v1")
    return (
        "The first is the product. The others are other runs, or other settings, or slips; nothing "
        "tells which. The final edition's epoch makes a fourth."
    )


def _v2(a: Argument) -> str:
    epoch, total = a.said("v2-epoch", "v2-total")
    a.add("epochs that the total would hold", total / epoch, "epochs")
    (epochs,) = a.said("epochs")
    a.add("an epoch that would make the total", total / epochs, "s")
    final, final_total = _final_total(a, "v2")
    a.add("that product over the total", final_total / total, "x")
    a.add("the final edition's epoch over the text's", final / epoch, "x")
    return (
        "The total holds more epochs of this length than any place in the report names. The final "
        "edition's epoch nearly explains it: then the total is sound, and the short epoch is not."
    )


def _hours(a: Argument) -> str:
    epoch, images, all_images, total = a.said("cpu-epoch", "cpu-images", "images", "cpu-total")
    a.add("the total", total / 3600, "hours")
    a.add("one epoch of all images", epoch * all_images / images / 3600, "hours")
    (final,) = a.said("final-cpu-epoch")
    a.add("one epoch, by the final edition", final / 3600, "hours")
    return (
        "The summary says that the CPU takes several hours for the full data. The table says "
        "nearly a week; one epoch, by the shorter time, takes less than an hour. By the final "
        "edition an epoch takes several hours, and likely that was meant."
    )


ARGUMENTS = {
    "The CPU: one total, two times for an image": _cpu,
    "Basic: two totals": _basic,
    "V1: three totals": _v1,
    "V2: an epoch that does not make its total": _v2,
    "Several hours": _hours,
}
