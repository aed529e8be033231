"""`profile` and `bench`: where the time of a step goes, and how much it is."""

from __future__ import annotations

from typing import Annotated

import typer

from ae_core.commands.options import (
    CAPTURABLE,
    DataOption,
    DeviceOption,
    OutOption,
    PhaseOption,
    PhasesOption,
)
from ae_core.commands.output import save, writable
from ae_core.data import locate
from ae_core.parameters import BatchSize, Budget, Peer, Steps
from ae_core.phases import PHASES
from ae_core.records.provenance import records_directory

BatchOption = Annotated[
    BatchSize | None,
    typer.Option(help="Images per step (default: what the phase is made for)."),
]


def profile(
    phase: PhaseOption = "gpu-v2",
    steps: Annotated[Steps, typer.Option(help="Steps to time each operation in.")] = 100,
    batch_size: BatchOption = None,
    device: DeviceOption = "auto",
    data: DataOption = None,
    out: OutOption = None,
) -> None:
    """Time each operation of a training step; under Nsight the ranges have the same names.

    On the emulator a small network is profiled, and only the counts mean something.
    """
    from ae_core.measuring import profiling, tables  # noqa: PLC0415

    target = writable(out or records_directory() / f"profile_{phase}.json")
    record = profiling.profile_operations(
        phase,
        locate.find(data),
        steps=steps,
        device=device,
        batch_size=batch_size,
    )
    print(tables.profile(record).to_string(index=False))
    save(record, target)


def bench(
    phase: PhasesOption = "all",
    steps: Annotated[
        Steps | None, typer.Option(help="Timed steps of each (default: what --budget allows).")
    ] = None,
    budget: Annotated[Budget, typer.Option(help="Seconds for each; at least 30 steps.")] = 30,
    batch_size: BatchOption = None,
    peer: Annotated[
        Peer | None, typer.Option(help="Also time this library: torch (the extra peer).")
    ] = None,
    device: DeviceOption = "auto",
    graph: Annotated[
        bool, typer.Option("--graph", help=f"Also time steps as CUDA graphs ({CAPTURABLE}).")
    ] = False,
    data: DataOption = None,
    out: OutOption = None,
) -> None:
    """Time training steps: median, spread and n, with PyTorch's beside them if asked.

    `cpu` selects both CPU phases; `all` selects CUDA phases only where there is a GPU.
    """
    from ae_core.measuring import benchmark, tables  # noqa: PLC0415

    names = ["cpu", "cpu-parallel"] if phase == "cpu" else [phase]
    if phase == "all":
        names = benchmark.timeable()
        left_out = ", ".join(name for name in PHASES if name not in names)
        if left_out:
            print(f"no GPU for {left_out}: not timed (an emulator's time says nothing)")
    target = writable(out or records_directory() / f"benchmark_{phase}.json")
    record = benchmark.benchmark(
        names,
        locate.find(data),
        batch_size=batch_size,
        steps=steps,
        budget=budget,
        device=device,
        graph=graph,
        with_torch=bool(peer),
    )
    print(tables.benchmark(record).to_string(index=False))
    if record.load and record.load.busy:
        print(record.load)
    save(record, target)
