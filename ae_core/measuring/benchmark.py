"""Phases and PyTorch side by side: the same steps on the same images in one run."""

from __future__ import annotations

from collections.abc import Sequence

from ae_core import machine, phases
from ae_core.architecture import Architecture
from ae_core.data.cifar10 import Dataset, normalise
from ae_core.devices.device import Host
from ae_core.errors import InputError
from ae_core.measuring import pytorch
from ae_core.measuring.timing import time_steps
from ae_core.records import BenchmarkRecord, StepTime, provenance
from ae_core.records.load import Watch

TIMED_IMAGES = 64


def benchmark(
    names: Sequence[str],
    dataset: Dataset,
    *,
    batch_size: int | None = None,
    steps: int | None = None,
    budget: float = 30.0,
    device: str = "auto",
    graph: bool = False,
    with_torch: bool = False,
) -> BenchmarkRecord:
    """Time training steps of each phase and, if asked, of PyTorch on the same devices.

    Args:
        names: phases, in the order of the table.
        dataset: its first images are trained on, again and again.
        batch_size: images per step; by default what each phase is made for.
        steps: how many to time of each; by default what `budget` allows (see `time_steps`).
        budget: seconds for each.
        device: what runs the kernels of CUDA phases: `auto` or `cuda`.
        graph: time phases that can also with their step as a CUDA graph.
        with_torch: also time the same network in PyTorch (extra `[peer]`) at the same batch sizes:
            on the CPU with as many threads, on the GPU launch by launch, as a graph, and with the
            tensor cores.

    Raises:
        InputError: a CUDA phase without a GPU: an emulator's time would say nothing.
        ImportError: PyTorch was asked for and is not installed.
    """
    on_gpu = [name for name in names if phases.named(name).cuda]
    if on_gpu and (device == "emulated" or not machine.gpu()):
        found = "the emulator" if device == "emulated" else "none"
        raise InputError(
            f"bench: expected an NVIDIA GPU for {', '.join(on_gpu)}, found {found}; an emulator's "
            f"times say nothing about one"
        )
    if with_torch:
        pytorch.require()
    facts, watch = provenance.current(), Watch()
    sizes = {name: batch_size or phases.named(name).batch_size for name in names}
    images = dataset.train.images[: max([TIMED_IMAGES, *sizes.values()])]
    rows: list[StepTime] = []
    for name in names:
        variants = [False, True] if graph and phases.named(name).capturable else [False]
        rows += [
            time_steps(
                name,
                images,
                steps=steps,
                budget=budget,
                device=device,
                graph=variant,
                batch_size=sizes[name],
            )
            for variant in variants
        ]
    if with_torch:
        pixels = normalise(images)
        on_host = sorted({(r.threads, r.batch_size) for r in rows if r.device_kind == "cpu"})
        for threads, size in on_host:
            rows.append(pytorch.time_cpu_steps(pixels, threads, steps, budget, size))
        for size in sorted({sizes[name] for name in on_gpu}):
            for variant in pytorch.GPU_VARIANTS:
                rows.append(pytorch.time_gpu_steps(pixels, variant, steps, budget, size))
    main = next((row for row in rows if row.device_kind == "gpu"), rows[0])
    return BenchmarkRecord(
        provenance=facts,
        dataset=dataset.identity,
        device=main.device,
        device_kind=main.device_kind,
        memory=Host().memory(),
        architecture=Architecture(),
        seed=0,
        steps=tuple(rows),
        load=watch.load(),
    )


def timeable() -> list[str]:
    """The phases whose times mean something on this machine: without a GPU, the CPU's."""
    return [
        name
        for name, phase in phases.PHASES.items()
        if not phase.cuda or (machine.gpu() and not phases.lacking(name, "cuda"))
    ]
