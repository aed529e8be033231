"""One Chromium for all tests here, and the folder of HTML that they look over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ae_book.site import browser
from ae_core.errors import InputError
from tests.browser.inspection import Inspected

HTML = Path(os.environ["AE_HTML"]).resolve()
if not (HTML / "index.html").exists():
    raise pytest.UsageError(f"AE_HTML: {HTML}: expected the built book; run: make book")


@pytest.fixture(scope="session")
def chromium():
    try:
        with browser.launched() as started:
            yield started
    except InputError as error:
        pytest.exit(str(error), returncode=1)  # none of the tests here can say anything else


@pytest.fixture(scope="session")
def html() -> Path:
    """The built HTML that `make browse` names."""
    return HTML


@pytest.fixture
def look(chromium, tmp_path):
    """Opens a small page made by hand; files beside it by name."""
    opened = []

    def open_page(head: str = "", body: str = "", **files: str) -> Inspected:
        for name, text in files.items():
            (tmp_path / name.replace("_", ".")).write_text(text)
        (tmp_path / "page.html").write_text(
            f"<!doctype html><html lang='en'><head><title>A page</title>{head}</head>"
            f"<body><main><h1>A page</h1><article>{body}</article></main></body></html>"
        )
        opened.append(Inspected(chromium, tmp_path, tmp_path / "page.html"))
        return opened[-1]

    yield open_page
    for page in opened:
        page.close()
