"""`book`: execute the chapters, build the HTML, print and pack it."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from ae_core.commands.options import declared
from ae_core.parameters import Folder, NewEdition, PublishedEdition, one_of

if TYPE_CHECKING:
    from ae_core.runs import Run

app = typer.Typer(no_args_is_help=True, help="Execute the chapters and build the HTML.")

ProfileName = Annotated[str, one_of(lambda: _chapters().profiles())]
ChapterName = Annotated[str, one_of(lambda: _chapters().names())]
ProfileOption = Annotated[ProfileName, typer.Option(help="A file of book/profiles, without .yml.")]
HtmlOption = Annotated[
    Folder | None, typer.Option(help="Folder of built HTML (default: _build/html).")
]


@app.command()
@declared
def execute(
    chapters: Annotated[
        list[ChapterName] | None, typer.Argument(help="Only these (default: all).")
    ] = None,
    profile: ProfileOption = "quick",
    edition: Annotated[
        NewEdition | None, typer.Option(help="A folder of editions/, new or there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also those up to date.")] = False,
) -> None:
    """Execute the chapters that are missing or out of date, through papermill.

    With --edition they are measured to be published, under the full profile, on a GPU.
    """
    from ae_core import book  # noqa: PLC0415

    book.execute(_run(profile, edition), chapters or [], force=force)


@app.command()
@declared
def html(
    profile: ProfileOption = "quick",
    edition: Annotated[PublishedEdition | None, typer.Option(help="A folder of editions/.")] = None,
) -> None:
    """Build the HTML from executed chapters, warnings as errors, and check its links.

    A run of this machine comes first and has every edition beside it, in tabs; with --edition the
    HTML is made of what is published, and nothing needs to have been executed here.
    """
    _build(_run(profile, edition))


@app.command()
@declared
def make(profile: ProfileOption = "quick") -> None:
    """Execute what is out of date, then build the HTML."""
    from ae_core import book  # noqa: PLC0415

    run = _run(profile, None)
    book.execute(run, [])
    _build(run)


@app.command()
def readme() -> None:
    """Write the table of the edition that the README names into it, between its marks."""
    from ae_core import chapters, files, headline  # noqa: PLC0415

    path = chapters.root() / "README.md"
    with files.replacing(path) as draft:
        draft.write_text(headline.readme(path.read_text("utf8")), "utf8")
    print(f"wrote {path}")


@app.command()
@declared
def pdf(html: HtmlOption = None) -> None:
    """Print the built HTML as one PDF, through Chromium; code that pages fold is left out."""
    from ae_core import printing  # noqa: PLC0415

    with printing.built(html) as folder:
        print(f"open {printing.pdf(folder, printing.target('.pdf'))}")


@app.command("zip")
@declared
def zipped(html: HtmlOption = None) -> None:
    """Pack the built HTML into an archive that opens from disk."""
    from ae_core import printing  # noqa: PLC0415

    with printing.built(html) as folder:
        print(f"made {printing.zipped(folder, printing.target('.zip'))}")


def _run(profile: str, edition: str | None) -> Run:
    from ae_core import runs  # noqa: PLC0415

    return runs.edition(edition) if edition else runs.local(profile)


def _build(first: Run) -> None:
    from ae_core import runs, site  # noqa: PLC0415

    print(f"open {site.build([first, *(run for run in runs.editions() if run != first)])}")


def _chapters() -> ModuleType:
    from ae_core import chapters  # noqa: PLC0415

    return chapters
