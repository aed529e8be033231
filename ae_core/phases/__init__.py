"""The phases of the story: each trains the same network, in its own way.

To add a phase, write a module with a class, and an entry in `PHASES`. The class satisfies
`Operations`, and the linked layers make a plan of it; or it is a `Plan` itself. Everything else
(training, verification, profile, benchmark, command line, tables and figures) then knows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ae_core import machine
from ae_core.architecture import Architecture
from ae_core.devices.device import Device, Host
from ae_core.devices.kernel_device import KernelDevice, open_device
from ae_core.devices.kernels import DeviceError, runs_on
from ae_core.errors import InputError
from ae_core.parameters import Precision
from ae_core.phases.layered import Layered
from ae_core.phases.operations import Operations
from ae_core.phases.plan import Plan


@dataclass(frozen=True)
class Phase:
    """A phase's entry in the table: all that others need to know of it without importing it."""

    title: str
    """As the book calls it."""
    change: str
    """What it changed over the phase before, in a line."""
    module: str
    implementation: str
    """The class in the module: a phase's `Operations`, or its `Plan` if it is not `layered`."""
    colour: str
    """In every figure, as `#rrggbb`."""
    marker: str
    """Likewise, as Matplotlib names it."""
    layered: bool = True
    """Whether the linked layers make its plan."""
    cuda: bool = False
    """Whether it takes a device that runs kernels."""
    capturable: bool = False
    """Whether its training step may become a CUDA graph."""
    emulated: bool = True
    """Whether the emulator runs its kernels."""
    requires: str = ""
    """The architecture that its kernels are compiled for, as `sm_90a`; any card's if empty."""
    precision: Precision = "float32"
    """Of the products of convolutions."""
    batch_size: int = 1
    """Images per step that it is made for."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the class."""


PHASES = {
    "cpu": Phase(
        title="CPU loops, one thread",
        change="the formulas as nested loops",
        module="ae_core.phases.cpu_loops",
        implementation="CpuLoops",
        colour="#949494",
        marker="o",
    ),
    "cpu-parallel": Phase(
        title="CPU loops, all cores",
        change="vector units filled, planes over all cores",
        module="ae_core.phases.cpu_parallel",
        implementation="CpuParallel",
        colour="#de8f05",
        marker="s",
    ),
    "gpu-basic": Phase(
        title="GPU basic, a launch per pair",
        change="a thread per pixel, a launch per pair of planes",
        module="ae_core.phases.gpu_basic",
        implementation="GpuBasic",
        colour="#ece133",
        marker="v",
        cuda=True,
    ),
    "gpu-basic-filter": Phase(
        title="GPU basic, a launch per filter",
        change="the loop over input planes moves into the kernel",
        module="ae_core.phases.gpu_basic",
        implementation="GpuBasic",
        colour="#d55e00",
        marker="^",
        cuda=True,
        options={"planes_per_launch": None},
    ),
    "gpu-v1": Phase(
        title="GPU v1, batched",
        change="all filters in one launch, a tree for the weight gradient",
        module="ae_core.phases.gpu_v1_batched",
        implementation="GpuBatched",
        colour="#029e73",
        marker="D",
        cuda=True,
        capturable=True,
    ),
    "gpu-v2": Phase(
        title="GPU v2, implicit GEMM",
        change="tiles of a matrix product in shared memory and registers",
        module="ae_core.phases.gpu_v2_implicit_gemm",
        implementation="GpuImplicitGemm",
        colour="#0173b2",
        marker="P",
        cuda=True,
        capturable=True,
    ),
}
"""In the order of the story."""


def named(name: str) -> Phase:
    """The table's entry for `name`.

    Raises:
        InputError: no phase has this name.
    """
    if name not in PHASES:
        raise InputError(f"phase: expected one of {', '.join(PHASES)}, found {name!r}")
    return PHASES[name]


def title(
    name: str,
    *,
    graph: bool = False,
    precision: Precision | None = None,
    gpus: int = 1,
    batch_size: int = 1,
) -> str:
    """How the book calls a phase, or a library beside them.

    Args:
        name: a key of `PHASES`, or a library's name.
        graph: whether its step is queued as one CUDA graph.
        precision: of its products, named where it is not the phase's own.
        gpus: how many, named where there are several.
        batch_size: images per step, named likewise.
    """
    phase = PHASES.get(name)
    own = phase.precision if phase else "float32"
    parts = [phase.title if phase else name]
    parts += ["graph"] if graph else []
    parts += [precision] if precision not in (None, own) else []
    parts += [f"{gpus} GPUs"] if gpus > 1 else []
    parts += [f"batch size {batch_size:,}"] if batch_size > 1 else []
    return ", ".join(parts)


def implementation(name: str) -> Any:
    """A phase's class; its module is imported only now."""
    phase = named(name)
    return getattr(import_module(phase.module), phase.implementation)


def operations(name: str, device: str | KernelDevice = "auto") -> Operations:
    """The operations of a phase whose plan the linked layers make.

    Args:
        name: a key of `PHASES`.
        device: for CUDA phases, what runs the kernels: `auto`, `cuda`, `emulated`, or a device.

    Raises:
        InputError: no phase has this name, or it has a plan of its own.
        DeviceError: the device can't be used.
    """
    phase = named(name)
    if not phase.layered:
        raise InputError(f"{name}: expected a phase with single operations, found one that fuses")
    where = (opened(name, device),) if phase.cuda else ()
    return cast(Operations, implementation(name)(*where, **phase.options))


def opened(name: str, device: str | KernelDevice = "auto") -> Device:
    """The device that a phase computes on: the one given, one opened by its name, or the host.

    Raises:
        DeviceError: the device can't be used, or can't run this phase's kernels.
    """
    phase = named(name)
    if not phase.cuda:
        return Host()
    found = open_device(device) if isinstance(device, str) else device
    if found.kind == "emulator" and not phase.emulated:
        raise DeviceError(f"{name}: expected a GPU: the emulator can't run its kernels")
    return found


def lacking(name: str, device: str = "auto") -> str:
    """What this machine lacks for a phase, where its kernels run on `device`; empty if nothing.

    Args:
        name: a key of `PHASES`.
        device: `auto`, `cuda` or `emulated`.
    """
    phase = named(name)
    card = None if device == "emulated" else machine.gpu()
    if not phase.cuda or (not card and phase.emulated):
        return ""
    if not card:
        return "a GPU, since the emulator can't run its kernels"
    found = card.compute_capability.replace(".", "")
    if runs_on(phase.requires.removeprefix("sm_") or None, found):
        return ""
    return f"a card for {phase.requires}, found {card.model} (sm_{found})"


def create(
    name: str,
    architecture: Architecture | None = None,
    batch_size: int = 1,
    device: str | KernelDevice = "auto",
    *,
    dtype: npt.DTypeLike = np.float32,
    image_gradient: bool = False,
) -> Plan:
    """The plan by which a phase trains.

    Args:
        name: a key of `PHASES`.
        architecture: the network; the book's by default.
        batch_size: the most images in one pass; memory grows with it.
        device: for CUDA phases, what runs the kernels: `auto`, `cuda`, `emulated`, or a device.
        dtype: float64 for checks of the CPU's phases.
        image_gradient: also compute the gradient with respect to the images, for the same checks.

    Raises:
        InputError: no phase has this name, or it can't do what is asked.
        DeviceError: the device can't be used.
    """
    phase, architecture = named(name), architecture or Architecture()
    if batch_size < 1:
        raise InputError(f"batch_size: expected a whole number from 1, found {batch_size}")
    if phase.layered:
        return Layered(
            name,
            operations(name, device),
            architecture,
            batch_size,
            dtype=dtype,
            image_gradient=image_gradient,
        )
    if image_gradient or np.dtype(dtype) != np.float32:
        raise InputError(f"{name}: expected float32 and no gradient of images: it is fused")
    return cast(
        Plan,
        implementation(name)(name, architecture, batch_size, opened(name, device), **phase.options),
    )


def threading_layer(plan: Plan) -> str | None:
    """What runs a plan's threads (`omp`, `tbb`, `workqueue`); None where there is only one."""
    if plan.threads == 1:
        return None
    from ae_core.phases.compiled import threading_layer as of_numba  # noqa: PLC0415

    return of_numba()
