"""`verify`: phases held against their reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ae_core.commands.options import DataOption, DeviceOption, PhasesOption, SeedOption, selected
from ae_core.commands.output import describe, save, writable
from ae_core.data import locate
from ae_core.parameters import CheckedImages, CheckedSteps, NewFolder
from ae_core.records import VerificationRecord
from ae_core.records.provenance import records_directory


def verify(
    phase: PhasesOption = "all",
    images: Annotated[CheckedImages, typer.Option(help="Images in the compared pass.")] = 100,
    steps: Annotated[CheckedSteps, typer.Option(help="Training steps to compare.")] = 20,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    data: DataOption = None,
    out: Annotated[
        NewFolder | None,
        typer.Option(help="Folder of the records (default: as for train)."),
    ] = None,
) -> None:
    """Hold phases against the plain CPU loops in float64, and those against difference quotients.

    Each phase runs twice and must come to the same bits. On the emulator a small network does.
    Prints the differences of every tensor; exits with 1 if one is beyond its tolerance.
    """
    from ae_core.measuring import tables, verification  # noqa: PLC0415

    names, passed = selected(phase, device), True
    folder = out or records_directory()
    targets = {name: writable(folder / f"verification_{name}.json") for name in names}
    if "cpu" in names:
        targets["gradients"] = writable(folder / "gradients_cpu.json")
    dataset = locate.find(data)
    describe(dataset)

    def tell(record: VerificationRecord, target: Path) -> bool:
        what = f"{record.phase} on {record.device}"
        print(f"{what}, {record.architecture.parameter_count:,} parameters, {record.images} images")
        print(f"against {record.reference}:")
        print(tables.differences(record.differences).to_string(index=False))
        if record.repeatable is not None:
            print(f"second run: {'the same bits' if record.repeatable else 'OTHER BITS'}")
        save(record, target)
        return record.passed

    if "cpu" in names:
        gradients = verification.verify_gradients(dataset, per_tensor=10, seed=seed)
        passed &= tell(gradients, targets["gradients"])
    for record in verification.compare(
        names, dataset, images=images, steps=steps, seed=seed, device=device
    ):
        passed &= tell(record, targets[record.phase])
    print("passed" if passed else "FAILED: see above")
    raise typer.Exit(0 if passed else 1)
