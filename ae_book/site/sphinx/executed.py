"""Show each chapter's source with the outputs of its executed copy; a stale copy is a warning."""

import json
from pathlib import Path

from sphinx.errors import ExtensionError
from sphinx.util import logging

from ae_book.making import chapters, runs
from ae_book.showing import notes

log = logging.getLogger(__name__)


def refuse_other_package(app):
    """The chapters and runs that are shown are those of the package's own checkout."""
    if Path(app.srcdir).resolve() != chapters.root():
        raise ExtensionError(f"expected ae_book from {app.srcdir}, found that of {chapters.root()}")


def show_outputs(app, docname, source):
    if Path(app.env.doc2path(docname)).suffix != ".ipynb":
        return
    run, chapter = runs.current(), Path(docname).name
    try:
        notebook = run.with_outputs(chapter)
    except chapters.BookError as error:
        log.warning("%s", error, location=docname, type="book", subtype="stale")
        return
    execution = run.execution(chapter)
    if execution and not tells_its_duration(notebook):
        text = notes.provenance_html(
            "How this page was made",
            execution.provenance,
            execution.dataset,
            {"duration": f"{execution.seconds:.0f} s"},
        )
        notebook["cells"].append({"cell_type": "markdown", "metadata": {}, "source": text})
    source[0] = json.dumps(notebook)


def tells_its_duration(notebook):
    """Chapters that train tell it with their seed; others measure nothing, or tell of others."""
    outputs = (o for cell in chapters.code_cells(notebook) for o in cell["outputs"])
    pages = ("".join(o.get("data", {}).get("text/html", "")) for o in outputs)
    return any("<th scope='row'>duration</th>" in page for page in pages)


def setup(app):
    app.connect("builder-inited", refuse_other_package)
    app.connect("source-read", show_outputs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
