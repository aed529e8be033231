"""`data`: find, fetch or synthesise CIFAR-10."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ae_core import sources
from ae_core.commands.options import DataOption
from ae_core.commands.output import describe

app = typer.Typer(no_args_is_help=True, help="Find, fetch or synthesise CIFAR-10.")


@app.command()
def fetch() -> None:
    """Download the official binary archive (162 MiB) into the cache, and check it."""
    describe(sources.fetch())


@app.command()
def info(data: DataOption = None) -> None:
    """Say which data is here, and what it really is. Downloads and writes nothing."""
    dataset = sources.locate(data)
    if dataset:
        describe(dataset)
    else:
        print("data: none here; a run would download it, or use the synthetic stand-in")


@app.command()
def synthesize(
    directory: Annotated[Path, typer.Argument(help="A new or empty folder (184 MB).")],
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other images.")] = 0,
) -> None:
    """Write the synthetic stand-in in CIFAR-10's binary layout."""
    describe(sources.synthesize(directory, seed))
