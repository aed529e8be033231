"""`kernel`: one operation of a phase by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from ae_core import phases
from ae_core.architecture import MINI, Architecture
from ae_core.commands.options import DeviceOption, PhaseOption
from ae_core.devices.kernel_device import KernelDevice
from ae_core.errors import InputError
from ae_core.numbers import between, count, digits, percent
from ae_core.parameters import (
    BatchSize,
    CudaArchitecture,
    LayerName,
    Network,
    Operation,
    Steps,
    WarpOrder,
)

if TYPE_CHECKING:
    from ae_core.measuring.alone import Alone

NETWORKS = {"book": Architecture(), "mini": MINI}


def kernel(
    operation: Annotated[
        Operation, typer.Argument(help="Such as conv2d_forward, bias_gradient, mse, sgd.")
    ] = "conv2d_forward",
    phase: PhaseOption = "gpu-v2",
    layer: Annotated[
        LayerName | None, typer.Option(help="Such as conv4 (default: the first that has it).")
    ] = None,
    batch_size: Annotated[
        BatchSize | None, typer.Option(help="Images (default: what the phase is made for).")
    ] = None,
    network: Annotated[
        Network | None,
        typer.Option(help="Whose shapes (default: book; on the emulator mini, the same in small)."),
    ] = None,
    repeats: Annotated[Steps, typer.Option(help="Times to take.")] = 100,
    device: DeviceOption = "auto",
    order: Annotated[
        WarpOrder | None, typer.Option(help="Of warps, on the emulator (default: forward).")
    ] = None,
    compile_only: Annotated[
        bool,
        typer.Option("--compile-only", help="Tell what each kernel of the phase's uses; no GPU."),
    ] = False,
    architecture: Annotated[
        CudaArchitecture | None,
        typer.Option(help="To compile for, with --compile-only (default: the phase's, or sm_90)."),
    ] = None,
) -> None:
    """Check one operation of a phase against CPU loops in float64, and time it.

    It runs at the shape of one layer, on random numbers. A phase that fuses operations runs in
    whole; then the step that does this one, maybe with others, is timed, and what the phase keeps
    of it is compared. On a GPU its median time is told with spread and n, its rate and its share of
    the roofline; on the emulator there are no times. Exits with 1 if a result is beyond its
    tolerance.
    """
    from ae_core.devices.emulated import EmulatedDevice  # noqa: PLC0415
    from ae_core.measuring import alone, tables  # noqa: PLC0415

    if compile_only:
        target = architecture or phases.named(phase).requires or "sm_90"
        usage = tables.usage(alone.compiled(phase, target))
        print(f"all kernels of {phase}, compiled for {target}:")
        print(usage.to_string(index=False))
        return
    if architecture:
        raise InputError(f"--architecture: expected --compile-only with it, found {architecture}")
    opened = phases.opened(phase, device)
    if order:
        if opened.kind != "emulator":
            raise InputError(
                f"--order: expected the emulator, whose warps have one, found {opened.name}: "
                f"choose a CUDA phase and --device emulated"
            )
        opened = EmulatedDevice(order=order)
    found = alone.measure_alone(
        phase,
        operation,
        layer,
        batch_size=batch_size,
        architecture=NETWORKS[network] if network else None,
        device=cast(KernelDevice, opened),
        repeats=repeats,
    )
    images = f"{found.batch_size} image{'s' * (found.batch_size > 1)}"
    parameters = f"a network of {count(found.architecture.parameter_count)} parameters"
    print(f"{found.step.name} of {parameters}, {images}")
    print(f"by {phases.title(phase)}, on {found.device.name}")
    if found.step.operations != (found.step.name,):
        print(f"one step of {phase}, which does {', '.join(found.step.operations)}")
    print(f"against {found.reference}:")
    print(tables.differences(found.differences).to_string(index=False))
    print(timed(found))
    print("passed" if found.passed else "FAILED: see above")
    raise typer.Exit(0 if found.passed else 1)


def timed(found: Alone) -> str:
    """A line: how long it took, what rate that is, and how much of what the card can do."""
    time = found.time
    if not time:
        return "no times: an emulator's say nothing about a GPU"
    spread = between(1e6 * time.low, 1e6 * time.high)
    parts = [f"{digits(1e6 * time.median)} us in the median (10-90 %: {spread}, n = {time.n})"]
    if time.launches:
        parts.append(f"{count(time.launches)} launch{'es' * (time.launches > 1)}")
    if time.flops:
        parts.append(f"{digits(time.flops / time.median / 1e12)} TFLOP/s")
    if found.ceilings and found.roofline_share is not None:
        flops, bandwidth = found.ceilings.flops / 1e12, found.ceilings.bandwidth / 1e12
        parts.append(
            f"{percent(found.roofline_share)} of the roofline ({digits(flops)} TFLOP/s and "
            f"{digits(bandwidth)} TB/s, as measured)"
        )
    if found.includes_launches:
        parts.append("launching included, since it has too many to queue ahead")
    return ", ".join(parts)
