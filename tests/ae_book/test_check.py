from __future__ import annotations

import pytest

from ae_book.site import check

PAGE = "<html><body id='top'>{}</body></html>"


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<a href='b.html#x'>fine</a><a href='#top'>fine</a><img src='data:image/png;,'>", None),
        ("<a href='https://example.org'>fine</a><a href='mailto:a@b.c'>fine</a>", None),
        ("<a href='c.html'>x</a>", "a.html: broken link c.html"),
        ("<a href='b.html#y'>x</a>", "a.html: broken anchor b.html#y"),
        ("<a href='#nowhere'>x</a>", "a.html: broken anchor #nowhere"),
        ("<img src='gone.svg'>", "a.html: broken link gone.svg"),
        ("<script src='https://cdn.example/x.js'></script>", "from the network"),
        ("<link rel='stylesheet' href='//cdn.example/x.css'>", "from the network"),
    ],
)
def test_the_html_is_checked(tmp_path, body, fault):
    (tmp_path / "a.html").write_text(PAGE.format(body))
    (tmp_path / "b.html").write_text(PAGE.format("<h1 id='x'>x</h1>"))
    faults = list(check.faults(tmp_path, ["a", "b"]))
    assert bool(faults) == bool(fault)
    assert all(fault in found for found in faults)


def test_a_missing_page_is_a_fault(tmp_path):
    assert list(check.faults(tmp_path, ["a"])) == ["a.html: missing"]
