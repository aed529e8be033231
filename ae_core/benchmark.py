"""Phases and PyTorch side by side: the same steps on the same images in one run."""

from __future__ import annotations

from collections.abc import Mapping

from ae_core import peer, provenance
from ae_core.architecture import Architecture
from ae_core.cifar10 import Dataset, normalise
from ae_core.device import Host
from ae_core.profiling import time_steps
from ae_core.records import BenchmarkRecord, StepTime

TIMED_IMAGES = 64


def benchmark(
    steps: Mapping[str, int],
    dataset: Dataset,
    *,
    batch_size: int = 1,
    torch_steps: int = 0,
) -> BenchmarkRecord:
    """Time training steps of each phase and, if asked, of PyTorch with as many threads.

    Args:
        steps: how many to time of each phase, by its name, in the order of the table.
        dataset: its first images are trained on, again and again.
        batch_size: images per step.
        torch_steps: steps of the same network in PyTorch to time (extra `[peer]`); 0 for none.

    Raises:
        ImportError: PyTorch was asked for and is not installed.
    """
    if torch_steps:
        peer.require()
    facts = provenance.current()
    images = normalise(dataset.train.images[: max(TIMED_IMAGES, batch_size)])
    rows: list[StepTime] = [
        time_steps(name, images, steps=count, batch_size=batch_size)
        for name, count in steps.items()
    ]
    if torch_steps:
        for threads in sorted({row.threads for row in rows}):
            rows.append(
                peer.time_cpu_steps(
                    images, threads=threads, steps=torch_steps, batch_size=batch_size
                )
            )
    return BenchmarkRecord(
        provenance=facts,
        dataset=dataset.identity,
        device=rows[0].device,
        memory=Host().memory(),
        architecture=Architecture(),
        seed=0,
        steps=tuple(rows),
    )
