"""The directive `phase-table`: the headline table, from the records of the profile being built."""

import os

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from ae_core import book, headline, records


class PhaseTable(SphinxDirective):
    def run(self):
        profile = os.environ.get(book.PROFILE_VARIABLE, "quick")
        folder = book.root() / "runs" / profile / "records"
        try:
            lines = headline.markdown(folder)
        except records.RecordError as error:
            return [self.state.document.reporter.warning(str(error), line=self.lineno)]
        return self.parse_text_to_nodes(StringList(lines, source=str(folder)))


def setup(app):
    app.add_directive("phase-table", PhaseTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
