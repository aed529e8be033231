"""Pages that open from disk with no network: MathJax beside them, and no live-code client."""

from importlib.util import find_spec
from pathlib import Path

from sphinx.util.fileutil import copy_asset

SCRIPT = "tex-svg.js"  # whole in one file: no fonts to load


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
    app.connect("builder-inited", drop_thebe)
    app.connect("build-finished", copy_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
