"""Memory, and the buffers that it would hold."""

from __future__ import annotations

from ae_book.report.contradictions.argument import COUNTED, Argument
from ae_core.architecture import KERNEL


def _buffers(a: Argument) -> str:
    basic, v1, v2 = a.said("basic-vram", "v1-vram", "v2-vram")
    a.add("v2 saves, against v1", v1 - v2, "MiB")
    a.add("v2 saves, against basic", basic - v2, "MiB")
    layers = (layer for layer in a.network.layers if layer.kind == "conv")
    sizes = [4 * KERNEL**2 * c * h * w / 2**20 for c, h, w in (layer.input for layer in layers)]
    a.add("im2col of the largest layer, an image", max(sizes), "MiB", COUNTED)
    a.add("im2col of all layers, an image", sum(sizes), "MiB", COUNTED)
    return (
        "The text says that v2 removes im2col's buffers. Neither phase before it is described as "
        "having any, and the memory agrees with that: the largest buffer alone would be more than "
        "what v2 saves. Implicit im2col spares a buffer that was never made."
    )


ARGUMENTS = {
    "Buffers that v2 removes, and that were not there": _buffers,
}
