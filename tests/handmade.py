"""Records whose numbers a person chose, so that what is made of them can be checked by hand."""

from __future__ import annotations

from datetime import UTC, datetime

from ae_core.architecture import Architecture
from ae_core.data.cifar10 import Identity
from ae_core.machine import Gpu, Memory
from ae_core.records import (
    BenchmarkRecord,
    Ceilings,
    EpochResult,
    OperationTime,
    ProfileRecord,
    StepTime,
    TrainingRecord,
    TrainingSettings,
)
from ae_core.records.provenance import Provenance

CPU, CARD, EMULATOR = "Some CPU", "Some GPU", "emulator on Some CPU"
KINDS = {CARD: "gpu", EMULATOR: "emulator"}
"""Of devices; all others are processors."""


def provenance(gpu: str | None = CARD, cpu: str = CPU, cores: int = 4) -> Provenance:
    return Provenance(
        created=datetime(2026, 1, 1, tzinfo=UTC),
        command="make book",
        commit=None,
        modified=None,
        system="Linux",
        python="3.12",
        cpu=cpu,
        cores=cores,
        memory_bytes=2**34,
        gpu=Gpu(gpu, "580", 2**36, "9.0") if gpu else None,
        versions={},
    )


def common(device: str, facts: Provenance | None) -> dict:
    facts = facts or provenance()
    memory = Memory(300 * 2**20, 20 * 2**20 if device == CARD else None)
    data = Identity("synthetic", "drawn shapes", "0")
    kind = KINDS.get(device, "cpu")
    return {
        "provenance": facts,
        "dataset": data,
        "device": device,
        "device_kind": kind,
        "memory": memory,
    }


def step(name: str, seconds: float, device: str = CARD, threads: int = 1, n: int = 100, **changes):
    """`n` steps of which the median is `seconds` and the mean a quarter more."""
    return StepTime(
        name=name,
        device=device,
        device_kind=KINDS.get(device, "cpu"),
        gpus=int(device == CARD),
        threads=threads,
        batch_size=1,
        n=n,
        median=seconds,
        low=0.9 * seconds,
        high=1.5 * seconds,
        total=1.25 * seconds * n,
    ).model_copy(update=changes)


def benchmark(*steps: StepTime, facts: Provenance | None = None) -> BenchmarkRecord:
    return BenchmarkRecord(
        **common(steps[-1].device, facts), architecture=Architecture(), seed=0, steps=steps
    )


def threads_of(phase: str) -> int:
    """Of the CPU."""
    return 4 if phase == "cpu-parallel" else 1


def training(
    phase: str,
    images: int,
    seconds: tuple[float, ...],
    device: str = CARD,
    facts: Provenance | None = None,
    **settings,
) -> TrainingRecord:
    """An epoch for each of `seconds`; the loss of epoch n is 1 / n, of its halves 1.5 and 0.5."""
    epochs = [
        EpochResult(epoch=n, loss=1 / n, seconds=s, images=images, trace=(1.5 / n, 0.5 / n))
        for n, s in enumerate(seconds, start=1)
    ]
    return TrainingRecord(
        **common(device, facts),
        settings=TrainingSettings(phase=phase, images=images, epochs=len(seconds), **settings),
        epochs=tuple(epochs),
        test=None,
        gpus=int(device == CARD),
        threads=threads_of(phase),
        parameters_digest="0",
    )


def profile(
    phase: str, seconds: float, device: str = CARD, facts: Provenance | None = None, **changes
) -> ProfileRecord:
    """Two convolutions and a ReLU, a quarter of the step each: the last quarter is gaps.

    Under the ceilings of 1 TFLOP/s and 1 TB/s one convolution is bound by arithmetic, to 1 ms, the
    other by memory, to 3 ms. `changes` are of the step's fields.
    """
    entries = [
        ("conv1.conv2d_forward", "convolution", 10**9, 10**6),
        ("conv1.conv2d_weight_gradient", "convolution", 10**9, 3 * 10**9),
        ("relu1.relu_forward", "elementwise", 10**6, 10**6),
    ]
    operations = [
        OperationTime(
            name=name,
            kind=kind,
            operations=(name,),
            n=5,
            median=seconds / 4,
            low=seconds / 4,
            high=seconds / 4,
            flops=flops,
            bytes=count,
            launches=2,
        )
        for name, kind, flops, count in entries
    ]
    return ProfileRecord(
        **common(device, facts),
        phase=phase,
        architecture=Architecture(),
        seed=0,
        step=step(phase, seconds, device, threads_of(phase), n=5, **changes),
        operations=tuple(operations),
        ceilings=Ceilings(flops=1e12, bandwidth=1e12) if device == CARD else None,
    )


def gpu_run() -> dict:
    """A machine with a GPU: every phase timed, some trained, some profiled."""
    steps = [
        step("cpu", 0.8, CPU),
        step("cpu-parallel", 0.1, CPU, 4),
        step("gpu-basic", 1.6, n=30),
        step("gpu-basic-filter", 0.2),
        step("gpu-v1", 0.02),
        step("gpu-v1", 0.016, graph=True),
        step("gpu-v2", 0.01),
        step("gpu-v2", 0.004, n=50_000, graph=True),
        step("PyTorch", 0.05, CPU, 4, peer=True),
        step("PyTorch", 0.04, peer=True),
        step("PyTorch", 0.008, graph=True, peer=True),
    ]
    return {
        "cpu_benchmark": benchmark(step("cpu", 9.0, CPU), step("cpu-parallel", 9.0, CPU, 4)),
        "gpu_benchmark": benchmark(*steps),
        "cpu_training": training("cpu-parallel", 1000, (100.0, 110.0), CPU),
        "training_gpu-v2": training("gpu-v2", 50_000, (600.0, 620.0)),
        "profile_gpu-basic": profile("gpu-basic", 1.6),
        "profile_gpu-v2": profile("gpu-v2", 0.016),
        "profile_cpu": profile("cpu", 0.8, CPU),
    }


def laptop_run() -> dict:
    """A machine without: CPU phases, and kernels on the emulator."""
    here = provenance(gpu=None, cpu="Other CPU", cores=2)
    steps = [step("cpu", 1.0, "Other CPU"), step("cpu-parallel", 0.25, "Other CPU", 2)]
    return {
        "cpu_benchmark": benchmark(*steps, facts=here),
        "training_gpu-v1": training("gpu-v1", 10, (50.0, 50.0), EMULATOR, here),
        "profile_gpu-v1": profile("gpu-v1", 7.0, EMULATOR, here),
    }
