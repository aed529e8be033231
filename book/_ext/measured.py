"""The directive `phase-table`: the headline table, from the records of the profile being built."""

import os

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from ae_core import chapters, headline
from ae_core.errors import InputError


class PhaseTable(SphinxDirective):
    def run(self):
        profile = os.environ.get(chapters.PROFILE_VARIABLE, "quick")
        try:
            names = (headline.BENCHMARK, headline.TRAINING)
            lines = headline.markdown(*(chapters.record_path(profile, name) for name in names))
        except InputError as error:
            return [self.state.document.reporter.warning(str(error), line=self.lineno)]
        return self.parse_text_to_nodes(StringList(lines, source="records"))


def setup(app):
    app.add_directive("phase-table", PhaseTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
