"""Faults of built HTML: what a reader would stumble over."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


def faults(html: Path, pages: list[str]) -> Iterator[str]:
    """Faults of a built book: missing pages, broken internal links, loads from the network."""
    for page in pages:
        if not (html / f"{page}.html").exists():
            yield f"{page}.html: missing"
    files = (path for path in sorted(html.rglob("*.html")) if "_static" not in path.parts)
    parsed = {path.resolve(): _Page(path) for path in files}
    for path, contents in parsed.items():
        name = path.relative_to(html.resolve())
        for tag, link in contents.links:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                if tag != "a" and target.scheme != "data":
                    yield f"{name}: loads {link} from the network"
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            if not file.exists():
                yield f"{name}: broken link {link}"
            elif target.fragment and file in parsed and target.fragment not in parsed[file].ids:
                yield f"{name}: broken anchor {link}"


class _Page(HTMLParser):
    """The ids and links of an HTML file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.feed(path.read_text("utf8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what others may point to, and what this element points to."""
        found = dict(attrs)
        self.ids |= {value for key in ("id", "name") if (value := found.get(key))}
        link = found.get("href") if tag in ("a", "link") else found.get("src")
        if link and not (tag == "link" and found.get("rel") in ("canonical", "author")):
            self.links.append((tag, link))
