"""`data`: find, fetch or synthesise CIFAR-10."""

from __future__ import annotations

from typing import Annotated

import typer

from ae_core.commands.options import DataOption, declared
from ae_core.commands.output import describe
from ae_core.data import locate
from ae_core.parameters import NewFolder, Seed

app = typer.Typer(no_args_is_help=True, help="Find, fetch or synthesise CIFAR-10.")


@app.command()
def fetch() -> None:
    """Download the official binary archive (162 MiB) into the cache, and check it."""
    describe(locate.fetch())


@app.command()
@declared
def info(data: DataOption = None) -> None:
    """Say which data is here, and what it really is. Downloads and writes nothing."""
    dataset = locate.locate(data)
    if dataset:
        describe(dataset)
    else:
        print("data: none here; a run would download it, or use the synthetic stand-in")


@app.command()
@declared
def synthesize(
    directory: Annotated[NewFolder, typer.Argument(help="A new or empty folder (184 MB).")],
    seed: Annotated[Seed, typer.Option(help="Other seeds, other images.")] = 0,
) -> None:
    """Write the synthetic stand-in in CIFAR-10's binary layout."""
    describe(locate.synthesize(directory, seed))
