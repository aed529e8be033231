"""The built HTML as one PDF, and as one archive to take along."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ae_book.making import chapters
from ae_book.making.chapters import BookError
from ae_book.site import browser
from ae_core import files

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest date that an archive can give a file."""
NUMBER_CONTENTS = """(numbers) => {
  for (const a of document.querySelectorAll('.printed-contents .number'))
    a.textContent = numbers[decodeURIComponent(a.hash.slice(1))] ?? '';
}"""


@contextmanager
def built(html: str | Path | None) -> Iterator[Path]:
    """A folder of built HTML; the one that `book html` builds stays as it is within the block.

    Raises:
        BookError: it holds no book.
    """
    own = chapters.root() / "_build" / "html"
    folder = files.expanded(html or own).resolve()
    if not (folder / "index.html").exists():
        raise BookError(f"{folder}: expected the built book, found no index.html; run: make book")
    with files.claimed(own, wait=True) if folder == own.resolve() else nullcontext():
        yield folder


def target(suffix: str) -> Path:
    """Where the printed book goes: `_build`, under the book's title."""
    config = yaml.safe_load((chapters.root() / "_config.yml").read_text("utf8"))
    name = re.sub(r"\W+", "-", config["title"].lower()).strip("-")
    return chapters.root() / "_build" / f"{name}{suffix}"


def zipped(html: Path, path: Path) -> Path:
    """Pack the HTML under one folder; the same HTML gives the same bytes.

    Args:
        html: the folder of built HTML.
        path: the archive; the folder in it has its name.
    """
    with (
        files.replacing(path) as draft,
        zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for file in sorted(found for found in html.rglob("*") if found.is_file()):
            name = f"{path.stem}/{file.relative_to(html).as_posix()}"
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
    return path


def pdf(html: Path, path: Path) -> Path:
    """Print the book, see `render`.

    Raises:
        InputError: Chromium is missing; a page of the table of contents is.
    """
    with files.replacing(path) as draft, browser.launched() as chromium:
        draft.write_bytes(render(chromium, html))
    return path


def render(chromium: Browser, html: Path) -> bytes:
    """The pages of the table of contents, in its order, as one PDF.

    Code that a page folds away is left out. Printed twice: the first time tells the contents on
    which page each section stands.
    """
    pages = _pages(html)
    page = chromium.new_page(offline=True, color_scheme="light")
    (_, [(first, _, _)]), *_ = pages
    browser.show(page, html / f"{first}.html")
    page.evaluate((resources.files("ae_book.site") / "printing.js").read_text("utf8"), pages)
    page.evaluate(NUMBER_CONTENTS, _page_numbers(_printed(page)))
    document = _printed(page)
    page.close()
    return document


def _pages(html: Path) -> list[tuple[str | None, list[tuple[str, str, str]]]]:
    """Parts of the table of contents: caption, and of each page the name, address and HTML."""
    toc = yaml.safe_load((chapters.root() / "_toc.yml").read_text("utf8"))
    parts: list[dict[str, Any]] = [{"chapters": [{"file": toc["root"]}]}, *toc["parts"]]
    return [
        (part.get("caption"), [_page(html, chapter["file"]) for chapter in part["chapters"]])
        for part in parts
    ]


def _page(html: Path, name: str) -> tuple[str, str, str]:
    path = html / f"{name}.html"
    if not path.exists():
        raise BookError(f"{path}: missing, though _toc.yml names it; run: make book")
    return name, path.as_uri(), path.read_text("utf8")


def _printed(page: Page) -> bytes:
    return page.pdf(prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


def _page_numbers(document: bytes) -> dict[str, int]:
    """The page of each place that a link of the document leads to."""
    from pypdf import PdfReader  # noqa: PLC0415

    reader = PdfReader(io.BytesIO(document))
    places = reader.named_destinations.items()
    return {
        name.removeprefix("/"): 1 + number
        for name, place in places
        if (number := reader.get_destination_page_number(place)) is not None
    }
