"""The book's commands: execute the chapters, build the HTML, print and pack it."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from ae_book.making.parameters import NewEdition, PublishedEdition
from ae_core.commands import typed
from ae_core.commands.options import declared
from ae_core.parameters import Folder, one_of

if TYPE_CHECKING:
    from ae_book.making.runs import Run

app = typed.program("Execute the chapters and build the HTML.")

PresetName = Annotated[str, one_of(lambda: _chapters().presets())]
ChapterName = Annotated[str, one_of(lambda: _chapters().names())]
PresetOption = Annotated[PresetName, typer.Option(help="A file of book/presets, without .yml.")]
HtmlOption = Annotated[
    Folder | None, typer.Option(help="Folder of built HTML (default: _build/html).")
]


@app.callback()
def refuse_without_chapters() -> None:
    """Before any command: what all of them read is there."""
    _chapters().root()


@app.command()
@declared
def execute(
    chapters: Annotated[
        list[ChapterName] | None, typer.Argument(help="Only these (default: all).")
    ] = None,
    preset: PresetOption = "quick",
    edition: Annotated[
        NewEdition | None, typer.Option(help="A folder of editions/, new or there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also those up to date.")] = False,
) -> None:
    """Execute the chapters that are missing or out of date, through papermill.

    With --edition they are measured to be published, under the full preset, on a GPU.
    """
    from ae_book.making import execution  # noqa: PLC0415

    execution.execute(_run(preset, edition), chapters or [], force=force)


@app.command()
@declared
def html(
    preset: PresetOption = "quick",
    edition: Annotated[PublishedEdition | None, typer.Option(help="A folder of editions/.")] = None,
) -> None:
    """Build the HTML from executed chapters, warnings as errors, and check its links.

    A run of this machine comes first and has every edition beside it, in tabs; with --edition the
    HTML is made of what is published, and nothing needs to have been executed here.
    """
    _build(_run(preset, edition))


@app.command()
@declared
def make(preset: PresetOption = "quick") -> None:
    """Execute what is out of date, then build the HTML."""
    from ae_book.making import execution  # noqa: PLC0415

    run = _run(preset, None)
    execution.execute(run, [])
    _build(run)


@app.command()
def readme() -> None:
    """Write the table of the edition that the README names into it, between its marks."""
    from ae_book.analysis import headline  # noqa: PLC0415
    from ae_book.making import chapters  # noqa: PLC0415
    from ae_core import files  # noqa: PLC0415

    path = chapters.root() / "README.md"
    with files.replacing(path) as draft:
        draft.write_text(headline.readme(path.read_text("utf8")), "utf8")
    print(f"wrote {path}")


@app.command()
@declared
def pdf(html: HtmlOption = None) -> None:
    """Print the built HTML as one PDF, through Chromium; code that pages fold is left out."""
    from ae_book.site import printing  # noqa: PLC0415

    with printing.built(html) as folder:
        print(f"open {printing.pdf(folder, printing.target('.pdf'))}")


@app.command("zip")
@declared
def zipped(html: HtmlOption = None) -> None:
    """Pack the built HTML into an archive that opens from disk."""
    from ae_book.site import printing  # noqa: PLC0415

    with printing.built(html) as folder:
        print(f"made {printing.zipped(folder, printing.target('.zip'))}")


def _run(preset: str, edition: str | None) -> Run:
    from ae_book.making import runs  # noqa: PLC0415

    return runs.edition(edition) if edition else runs.local(preset)


def _build(first: Run) -> None:
    from ae_book.making import runs  # noqa: PLC0415
    from ae_book.site import html  # noqa: PLC0415

    print(f"open {html.build([first, *(run for run in runs.editions() if run != first)])}")


def _chapters() -> ModuleType:
    from ae_book.making import chapters  # noqa: PLC0415

    return chapters
