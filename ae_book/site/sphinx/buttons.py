"""Buttons in a page's header: the repository, and of a chapter the notebook in Google Colab."""

from pathlib import Path

from ae_book.making import chapters, runs
from ae_book.site import colab


def add_buttons(app, pagename, templatename, context, doctree):
    repository = colab.repository(chapters.root())
    if not repository:
        return
    on_github = repository.startswith(colab.GITHUB)
    buttons = [
        {
            "type": "link",
            "url": repository,
            "tooltip": "Source repository",
            "icon": "fab fa-github" if on_github else "fab fa-git-alt",
            "label": "source-repository-button",
            "classes": "pst-navbar-icon",
        }
    ]
    chapter = Path(pagename).name
    if on_github and context.get("page_source_suffix") == ".ipynb" and works(chapter):
        buttons.append(
            {
                "type": "link",
                "url": colab.address(repository, chapter),
                "tooltip": "Run this chapter in Google Colab",
                "icon": "_static/images/logo_colab.png",
                "text": "Colab",
                "label": "colab-button",
                "classes": "pst-navbar-icon",
            }
        )
    context["header_buttons"][:0] = buttons


def works(chapter):
    """Whether a chapter has what it needs in a fresh checkout: analyses need an edition."""
    return not chapters.analyses(chapter) or bool(runs.editions())


def setup(app):
    app.connect("html-page-context", add_buttons, priority=502)  # the theme's come at 501
    return {"parallel_read_safe": True, "parallel_write_safe": True}
