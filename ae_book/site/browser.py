"""Headless Chromium with no way to the network: it prints the book and looks over its pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ae_core.errors import InputError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

VARIABLE = "AE_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_FOR_FORMULAS = "() => window.MathJax?.startup?.promise.then(() => true)"


def executable() -> str:
    """The machine's Chromium or Chrome.

    Raises:
        InputError: there is none.
    """
    given = os.environ.get(VARIABLE)
    if given and not shutil.which(given):
        raise InputError(f"{VARIABLE}={given}: expected a Chromium, found no such program")
    found = given or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise InputError(
            f"expected Chromium, found none of {', '.join(NAMES)}: "
            f"apt install chromium, or set {VARIABLE} to its path"
        )
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser with a profile of its own, closed and forgotten afterwards.

    Raises:
        InputError: Chromium or the package playwright is missing.
    """
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415
    except ImportError:
        raise InputError("expected the package playwright: pip install -e '.[dev]'") from None
    program = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def show(page: Page, path: Path, query: str = "") -> None:
    """Open a file, and wait until its formulas are drawn and its pictures decoded."""
    page.goto(path.resolve().as_uri() + query)
    page.evaluate(WAIT_FOR_FORMULAS)
    page.evaluate("() => Promise.allSettled([...document.images].map((i) => i.decode()))")
