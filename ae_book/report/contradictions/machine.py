"""Times and launches, and what a machine can do at most."""

from __future__ import annotations

from ae_book.report.contradictions.argument import COUNTED, MEASURED, Argument
from ae_book.report.quantities import find, profile
from ae_core.architecture import Architecture
from ae_core.phases import title
from ae_core.records import ProfileRecord

BLOCK_Z, BLOCK_THREADS = 64, 1024
"""The most that a CUDA block may have, of planes in z and of threads (programming guide)."""


def _rate(a: Argument) -> str:
    work = a.flops("convolutions")
    a.add("convolutions of an epoch", work / 1e12, "TFLOP", COUNTED)
    epoch, forward, backward, final = a.said(
        "v2-epoch", "v2-forward", "v2-backward", "final-v2-epoch"
    )
    whole = a.add("rate over the epoch", work / epoch / 1e12, "TFLOP/s")
    a.add("rate of the forward pass", a.flops("forward convolutions") / forward / 1e9, "TFLOP/s")
    a.add("rate of the backward pass", a.flops("backward convolutions") / backward / 1e9, "TFLOP/s")
    rate = a.add("rate of the convolutions", work / (forward + backward) / 1e9, "TFLOP/s")
    slow = a.add("rate over the final edition's epoch", work / final / 1e12, "TFLOP/s")
    text = "In float32, one image a step; no ceiling was measured here to hold that against."
    found = profile(a.records, "gpu-v2") or profile(a.records, "gpu-v1")
    if found and found.ceilings:
        name, most = title(found.phase), found.ceilings.flops / 1e12
        a.add(f"the most in float32, {found.device}", most, "TFLOP/s", MEASURED)
        ours = a.add(f"convolutions, {name}", found.convolution_rate / 1e12, "TFLOP/s", MEASURED)
        text = (
            f"In float32, one image a step: the text's convolutions would run at "
            f"{100 * rate / most:.0f} % of what the card measured here can do at all, where those "
            f"of {name} reach {100 * ours / most:.1f} %."
        )
    return (
        f"{text} The final edition's epoch asks for {whole / slow:.0f} times less than the text's. "
        f"Unless most of it is no convolution, arithmetic does not bound it, as the text says it "
        f"does."
    )


def _launches(a: Argument) -> str:
    layers = [layer for layer in a.network.layers if layer.kind == "conv"]
    pairs = [layer.input[0] * layer.output[0] for layer in layers]
    count = a.add("launches for an image, one for a pair", 3 * sum(pairs) - pairs[0], "", COUNTED)
    (images,) = a.said("images")
    for name in ("basic-epoch", "final-basic-epoch"):
        (epoch,) = a.said(name)
        where = a.claims[name].where
        a.add(f"a launch, by {where}", 1e9 * epoch / images / count, "ns")
    found = find(a.records, "profile_gpu-basic", ProfileRecord)
    if found and found.ceilings and found.architecture == Architecture():
        launches = sum(operation.launches for operation in found.operations)
        a.add("a launch", 1e9 * found.step.median / launches, "ns", MEASURED)
    return (
        "The text launches a kernel for each pair of a filter and an input channel. Launches take "
        "microseconds, on any machine. Either they were fewer, or the epochs are of something else."
    )


def _block(a: Argument) -> str:
    claim = a.claims["v1-threads"]
    filters = max(a.network.filters)
    a.add("filters of the widest layer", filters, "", COUNTED)
    a.add("planes of a block in z, at most", BLOCK_Z, "", "CUDA")
    a.add("threads of a block, at most", BLOCK_THREADS, "", "CUDA")
    a.add("threads for each filter, at most", BLOCK_THREADS / filters, "")
    return (
        f"Section {claim.section} gives each filter a plane of threads in {claim.quote}, and its "
        f"listing reads the filter from there. A launch with so many planes is refused. The grid's "
        f"z, which chapter 4 uses, has room; likely that is what was meant and built."
    )


ARGUMENTS = {
    "The arithmetic that v2's times ask for": _rate,
    "Launches that would take no time": _launches,
    "A block with a plane of threads for each filter": _block,
}
