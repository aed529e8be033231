"""The book as PDF: a small one made by hand, read back."""

from __future__ import annotations

import io

import pytest
from pypdf import PdfReader

from ae_book.making import chapters
from ae_book.site import printing

PAGE = "<!doctype html><html lang='en'><head><link rel='stylesheet' href='../_static/p.css'></head><body><nav>menu</nav><article>{}</article></body></html>"
INDEX = "<nav class='runs'><a>Here</a><a aria-current='page'>There <small>a card</small></a></nav><section id='top'><h1>The title</h1><p>See <a href='b.html#part'>a part</a>.</p></section>"
A = (
    "<section id='a'><h1>1. First</h1>"
    "<section id='part'><h2>1.1. Long</h2><p style='height:1500px'>tall</p></section>"
    "<section id='next'><h2>1.2. Next</h2><p id='fig'>seen</p></section></section>"
)
B = (
    "<section id='b'><h1>2. Second</h1><p><a href='a.html#fig'>there</a> <a href='c.html'>file</a> <a href='https://example.org/'>web</a></p>"
    "<details class='hide'><summary>Show code</summary>folded code</details>"
    "<details class='provenance'><summary>Origin</summary>the machine</details>"
    "<section id='part'><h2>2.1. Part</h2><p>end</p></section></section>"
)
TOC = """
root: book/index
parts:
  - caption: Both
    chapters: [{file: book/a}, {file: book/b}]
"""


@pytest.fixture(scope="module")
def document(tmp_path_factory, chromium):
    root = tmp_path_factory.mktemp("printed")
    css = (chapters.root() / "book" / "_static" / "print.css").read_text("utf8")
    (root / "_toc.yml").write_text(TOC)
    for folder in ("html/book", "html/_static"):
        (root / folder).mkdir(parents=True)
    for name, body in {"index": INDEX, "a": A, "b": B}.items():
        (root / "html" / "book" / f"{name}.html").write_text(PAGE.format(body))
    (root / "html" / "_static" / "p.css").write_text(css)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapters, "root", lambda: root)
        return PdfReader(io.BytesIO(printing.render(chromium, root / "html")))


@pytest.fixture(scope="module")
def texts(document):
    return [" ".join(page.extract_text().split()) for page in document.pages]


def page_of(texts, words):
    """The page, counted from 1, on which these words stand behind the contents."""
    (page,) = (number for number, text in enumerate(texts, 1) if words in text and number > 2)
    return page


def test_the_title_comes_first_then_the_contents_then_the_chapters(document, texts):
    assert document.metadata.title == "The title"
    assert texts[0] == "The title There a card See a part."
    assert "Contents" in texts[1]
    assert page_of(texts, "1.1. Long") == 3
    assert page_of(texts, "1.2. Next") > 3
    assert page_of(texts, "2.1. Part") == page_of(texts, "1.2. Next") + 1


def test_the_contents_tell_the_pages(texts):
    for title in ("1.1. Long", "1.2. Next", "2.1. Part"):
        assert f"{title} {page_of(texts, title)}" in texts[1]
    assert "Both 1. First 3" in texts[1]


def test_pages_have_a_number_and_their_chapter_s_name(texts):
    later = page_of(texts, "1.2. Next")
    assert "1. First" in texts[later - 1]
    assert "2. Second" not in texts[later - 1]
    assert all(str(number) in text for number, text in enumerate(texts[1:], 2))


def test_what_needs_a_click_is_left_out_and_what_tells_the_origin_is_open(texts):
    everything = " ".join(texts)
    for gone in ("menu", "Show code", "folded code", "Here"):
        assert gone not in everything
    assert "the machine" in everything


def test_links_lead_within_the_document_or_to_the_web(document):
    links = [link.get_object() for page in document.pages for link in page.get("/Annots", [])]
    addresses = [link["/A"]["/URI"] for link in links if "/URI" in link.get("/A", {})]
    within = {str(link["/Dest"]).removeprefix("/") for link in links if "/Dest" in link}
    assert addresses == ["https://example.org/"]
    assert {"book/b--part", "book/a--fig"} <= within
    assert within <= {name.removeprefix("/") for name in document.named_destinations}


def test_it_has_an_outline(document):
    assert "2.1. Part" in str(document.outline)
