"""The site as a whole: its entry, its search, and what the tests of its pages let pass."""

from __future__ import annotations

import zipfile

import pytest

from ae_book.site import printing
from tests.browser import test_every_page
from tests.browser.inspection import Inspected


@pytest.fixture
def open_page(chromium, html):
    opened = []

    def open_one(name, query=""):
        opened.append(Inspected(chromium, html, html / name, query))
        return opened[-1]

    yield open_one
    for page in opened:
        page.close()


def test_the_folder_opens_at_the_book(chromium, html):
    page = chromium.new_page(offline=True)
    page.goto((html / "index.html").as_uri())
    page.wait_for_url("**/book/index.html")
    assert page.locator("article h1").inner_text().startswith("One autoencoder, six ways")
    page.close()


def test_the_search_finds_from_disk(open_page):
    search = open_page("search.html", "?q=pooling")
    found = search.page.locator("#search-results li a").first
    found.wait_for()
    search.page.wait_for_timeout(300)
    assert "book/" in found.get_attribute("href")
    assert search.errors() == []


def test_the_archive_opens_elsewhere_on_the_disk(chromium, html, tmp_path):
    with zipfile.ZipFile(printing.zipped(html, tmp_path / "the-book.zip")) as archive:
        archive.extractall(tmp_path)
    page = Inspected(chromium, tmp_path / "the-book", tmp_path / "the-book/book/01_problem.html")
    assert page.errors() + page.requests_that_leave() == []
    assert page.formulas_not_drawn() + page.pictures_not_shown() == []
    page.close()


@pytest.mark.parametrize("finding", test_every_page.THEIRS, ids=lambda finding: finding.rule)
def test_no_finding_is_let_pass_that_is_gone(open_page, finding):
    """An entry of the list that its page does not need any more goes out."""
    page, used = open_page(finding.page), set()
    page.barriers([finding], used)
    page.pale_text([finding], used)
    assert used == {finding}
