"""Show each chapter's source with the outputs of its executed copy; a stale copy is a warning."""

import json
from pathlib import Path

from sphinx.util import logging

from ae_core import chapters, runs

log = logging.getLogger(__name__)


def show_outputs(app, docname, source):
    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    try:
        notebook = runs.current().with_outputs(Path(docname).name)
    except chapters.BookError as error:
        log.warning("%s", error, location=docname, type="book", subtype="stale")
        return
    source[0] = json.dumps(notebook)


def setup(app):
    app.connect("source-read", show_outputs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
