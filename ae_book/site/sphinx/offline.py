"""Pages that open from disk with no network, and what the theme's scripts lack for that."""

from importlib.util import find_spec
from pathlib import Path

from sphinx.util.fileutil import copy_asset

SCRIPT = "tex-svg.js"  # whole in one file: no fonts to load

# The search fetches the pages that it found, for a line of each: forbidden to a page on disk.
QUIET_SEARCH = (
    "if (location.protocol === 'file:') DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false"
)

# The theme lets the keyboard reach what scrolls, but looks for it only at load and on a resize.
REACH_FOLDS = "addEventListener('toggle', () => dispatchEvent(new Event('resize')), true)"


def copy_script(app, exception):
    if exception is None and app.builder.format == "html":
        package = Path(find_spec("sphinx-mathjax-offline").origin).parent
        copy_asset(package / "static" / "mathjax" / SCRIPT, Path(app.outdir, "_static", "mathjax"))


def drop_thebe(app):
    """Jupyter Book always loads sphinx_thebe, whose script declares its constants twice a page
    (an error in the console) and would fetch a client from the network."""
    listeners = app.events.listeners
    for event in ("env-before-read-docs", "doctree-resolved"):
        listeners[event] = [
            listener
            for listener in listeners[event]
            if listener.handler.__module__ != "sphinx_thebe"
        ]


def setup(app):
    app.config.mathjax_path = f"mathjax/{SCRIPT}"
    app.add_js_file(None, body=QUIET_SEARCH, priority=201)  # right behind the options
    app.add_js_file(None, body=REACH_FOLDS)
    app.connect("builder-inited", drop_thebe)
    app.connect("build-finished", copy_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
