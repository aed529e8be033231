"""The phases of the story: each implements the same operations, each in its own way.

To add a phase, write a module with a class that satisfies `Operations`, and name it in `PHASES`.
Everything else (layers, training, verification, profiling, the command line) then knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, cast

from ae_core.devices.device import Array, Device
from ae_core.devices.kernel_device import KernelDevice, open_device
from ae_core.errors import InputError


@dataclass(frozen=True)
class Phase:
    """A phase's entry in the table: where its operations are and how the book calls it."""

    module: str
    implementation: str
    title: str
    cuda: bool = False
    """Whether it takes a device that runs kernels."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the implementation."""


PHASES = {
    "cpu": Phase("ae_core.phases.cpu_loops", "CpuLoops", "CPU loops, one thread"),
    "cpu-parallel": Phase("ae_core.phases.cpu_parallel", "CpuParallel", "CPU loops, all cores"),
    "gpu-basic": Phase(
        "ae_core.phases.gpu_basic", "GpuBasic", "GPU basic, a launch per pair", cuda=True
    ),
    "gpu-basic-filter": Phase(
        "ae_core.phases.gpu_basic",
        "GpuBasic",
        "GPU basic, a launch per filter",
        cuda=True,
        options={"planes_per_launch": None},
    ),
    "gpu-v1": Phase("ae_core.phases.gpu_v1_batched", "GpuBatched", "GPU v1, batched", cuda=True),
    "gpu-v2": Phase(
        "ae_core.phases.gpu_v2_implicit_gemm", "GpuImplicitGemm", "GPU v2, implicit GEMM", cuda=True
    ),
}


def named(name: str) -> Phase:
    """The table's entry for `name`.

    Raises:
        InputError: no phase has this name.
    """
    if name not in PHASES:
        raise InputError(f"phase: expected one of {', '.join(PHASES)}, found {name!r}")
    return PHASES[name]


def title(name: str) -> str:
    """How the book calls a phase or a variant of it (`gpu-v2, graph`), or a library beside them."""
    base, comma, variant = name.partition(", ")
    return f"{PHASES[base].title}{comma}{variant}" if base in PHASES else name


def implementation(name: str) -> Any:
    """The class of a phase's operations; its module is imported only now."""
    phase = named(name)
    return getattr(import_module(phase.module), phase.implementation)


def create(name: str, device: str | KernelDevice = "auto") -> Operations:
    """The operations of the phase called `name`.

    Args:
        name: a key of `PHASES`.
        device: for CUDA phases, what runs the kernels: `auto`, `cuda`, `emulated`, or a device.

    Raises:
        InputError: no phase has this name.
        DeviceError: the device can't be used.
    """
    phase = named(name)
    if not phase.cuda:
        return cast(Operations, implementation(name)())
    opened = open_device(device) if isinstance(device, str) else device
    return cast(Operations, implementation(name)(opened, **phase.options))


def threading_layer(operations: Operations) -> str | None:
    """What runs a phase's threads (`omp`, `tbb`, `workqueue`); None where there is only one."""
    if operations.threads == 1:
        return None
    from ae_core.phases.compiled import threading_layer as of_numba  # noqa: PLC0415

    return of_numba()
