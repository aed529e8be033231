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
            lines = headline.markdown(*self.paths(profile))
        except InputError as error:
            return [self.state.document.reporter.warning(str(error), line=self.lineno)]
        return self.parse_text_to_nodes(StringList(lines, source="records"))

    @staticmethod
    def paths(profile):
        """The first pair of records that the profile has; those of a GPU come first."""
        *better, last = headline.SOURCES
        for names in better:
            try:
                return [chapters.record_path(profile, name) for name in names]
            except InputError:
                continue
        return [chapters.record_path(profile, name) for name in last]


def setup(app):
    app.add_directive("phase-table", PhaseTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
