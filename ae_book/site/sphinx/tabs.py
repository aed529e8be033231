"""On every page, tabs to the same page of the book's other runs: this machine's, the editions'."""

import html
import json
import os

from ae_book.making import runs
from ae_book.site.html import TABS_VARIABLE


def add_tabs(app, pagename, templatename, context, doctree):
    tabs = json.loads(os.environ.get(TABS_VARIABLE, "[]"))
    if len(tabs) < 2 or "body" not in context:
        return
    here = runs.current()
    place = next(tab["place"] for tab in tabs if tab["label"] == here.title)
    to_root = "../" * (place.count("/") + pagename.count("/"))
    links = []
    for tab in tabs:
        current = " aria-current='page'" if tab["place"] == place else ""
        links.append(
            f"<a href='{to_root}{tab['place']}{pagename}.html'{current}>"
            f"{html.escape(tab['label'])} <small>{html.escape(tab['detail'])}</small></a>"
        )
    context["body"] = (
        f"<nav class='runs' aria-label='Where these numbers were measured'>{''.join(links)}</nav>"
        + context["body"]
    )


def setup(app):
    app.connect("html-page-context", add_tabs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
