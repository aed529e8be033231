from __future__ import annotations

import zipfile

import pytest

from ae_book.making import chapters
from ae_book.making.chapters import BookError
from ae_book.site import printing


@pytest.fixture
def html(tmp_path):
    folder = tmp_path / "html"
    (folder / "book").mkdir(parents=True)
    (folder / "index.html").write_text("<p>entry</p>")
    (folder / "book" / "a.html").write_text("<p>ä</p>", "utf8")
    return folder


def test_the_archive_has_one_folder_that_opens_at_its_index(html, tmp_path):
    path = printing.zipped(html, tmp_path / "made" / "the-book.zip")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["the-book/book/a.html", "the-book/index.html"]
        assert archive.read("the-book/book/a.html") == "<p>ä</p>".encode()
        assert {entry.date_time for entry in archive.infolist()} == {printing.EPOCH}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o644}


def test_the_same_pages_give_the_same_archive(html, tmp_path):
    first = printing.zipped(html, tmp_path / "book.zip").read_bytes()
    (html / "index.html").touch()
    (html / "index.html").chmod(0o600)
    assert printing.zipped(html, tmp_path / "book.zip").read_bytes() == first
    (html / "index.html").write_text("<p>another</p>")
    assert printing.zipped(html, tmp_path / "book.zip").read_bytes() != first


def test_it_is_named_after_the_book():
    assert printing.target(".pdf") == chapters.root() / "_build" / "one-autoencoder-six-ways.pdf"


def test_without_a_built_book_it_says_how_to_build_it(tmp_path, html):
    with printing.built(html) as folder:
        assert folder == html
    told = r"found no index\.html; run: make book"
    with pytest.raises(BookError, match=told), printing.built(tmp_path):
        pass


def test_built_html_may_lie_below_ones_home(html, monkeypatch):
    monkeypatch.setenv("HOME", str(html.parent))
    with printing.built(f"~/{html.name}") as folder:
        assert folder == html.resolve()


def test_a_page_that_was_not_built_is_named(html):
    with pytest.raises(BookError, match=r"book/index\.html: missing, though _toc\.yml names it"):
        printing.render(None, html)
