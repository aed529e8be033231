"""Every page of the built book, opened from disk with no network."""

from __future__ import annotations

import pytest

from tests.browser.conftest import HTML
from tests.browser.inspection import NARROW, WIDE, Inspected, Theirs

REDIRECT = 'http-equiv="Refresh"'
PAGES = [
    path
    for path in sorted(HTML.rglob("*.html"))
    if "_static" not in path.parts and REDIRECT not in path.read_text("utf8")[:300]
]
THEIRS = [
    Theirs(
        "aria-required-children",
        'role="list" class="citation-list"',
        "book/references.html",
        "docutils gives entries of a bibliography the role doc-biblioentry, as a list once held",
    ),
]


@pytest.fixture(scope="module", params=PAGES, ids=lambda path: str(path.relative_to(HTML)))
def opened(request, chromium):
    page = Inspected(chromium, HTML, request.param)
    yield page
    page.close()


def test_formulas_are_drawn(opened):
    assert opened.formulas_not_drawn() == []


def test_pictures_show(opened):
    assert opened.pictures_not_shown() == []


def test_figures_have_a_caption_and_an_alternative_text(opened):
    assert opened.figures_without_words() == []


def test_a_phone_need_not_scroll_sideways(opened):
    assert opened.sticks_out() == []


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["phone", "screen"])
def test_nothing_bars_a_reader(opened, size):
    opened.resize(size)
    assert opened.barriers(THEIRS) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out(opened, theme):
    opened.choose_theme(theme)
    assert opened.pale_text(THEIRS) == []


def test_no_request_leaves(opened):
    assert opened.requests_that_leave() == []


def test_nothing_went_wrong(opened):
    """Last: what was done to the page before must not have led to an error either."""
    assert opened.errors() == []
