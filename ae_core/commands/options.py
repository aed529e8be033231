"""Options that several commands have, and their checks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from ae_core.errors import InputError
from ae_core.model import Model
from ae_core.phases import PHASES, named

Settings = TypeVar("Settings", bound=Model)

DataOption = Annotated[
    Path | None,
    typer.Option(help="Folder with data_batch_1.bin and so on. [default: $AE_CIFAR10_DIR, cache]"),
]
PhaseOption = Annotated[str, typer.Option(help=f"One of: {', '.join(PHASES)}.")]
PhasesOption = Annotated[str, typer.Option(help=f"One of: {', '.join(PHASES)}; or all.")]
OutOption = Annotated[
    Path | None,
    typer.Option(help="The record's file. [default: in $AE_RECORDS_DIR, else in runs/own]"),
]
DeviceOption = Annotated[
    str, typer.Option(help="What runs the kernels of CUDA phases: auto, cuda or emulated.")
]
SeedOption = Annotated[int, typer.Option(min=0, help="Of initial parameters and image order.")]


def checked(kind: type[Settings], **values: Any) -> Settings:
    """Settings made from options; an error names the first that can't be."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]}: {first['msg']}, found {first['input']}") from None


def selected(phase: str) -> list[str]:
    """A phase, or all of them."""
    if phase == "all":
        return list(PHASES)
    named(phase)
    return [phase]
