"""Directives made from records: `phase-table`, the headline; `run-status`, what was executed."""

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from ae_book.analysis import headline
from ae_book.making import runs
from ae_book.site import status
from ae_core.errors import InputError


class FromRecords(SphinxDirective):
    """Markdown that a function makes of the run being built and of the editions beside it."""

    def run(self):
        here = runs.current()
        others = [run for run in runs.editions() if run != here]
        try:
            lines = self.markdown(here, others)
        except InputError as error:
            return [self.state.document.reporter.warning(str(error), line=self.lineno)]
        return self.parse_text_to_nodes(StringList(lines, source="records"))


class PhaseTable(FromRecords):
    markdown = staticmethod(headline.markdown)


class RunStatus(FromRecords):
    markdown = staticmethod(status.markdown)


def setup(app):
    app.add_directive("phase-table", PhaseTable)
    app.add_directive("run-status", RunStatus)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
