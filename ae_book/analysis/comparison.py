"""Which run's measurements an analysis compares: its own run's, or those of an edition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ae_book.analysis import side_by_side
from ae_book.analysis.side_by_side import Records, Rows
from ae_book.making import runs
from ae_book.making.chapters import BookError
from ae_book.making.parameters import Performance
from ae_book.making.runs import Run
from ae_core import files
from ae_core.parameters import validated


@dataclass(frozen=True)
class Comparison:
    """A run, and the editions whose measurements may stand in for those that it lacks."""

    here: Run
    editions: Sequence[Run]
    """None beside an edition: its pages tell of itself alone, whatever is published later."""

    @cached_property
    def own(self) -> Records:
        """What the run at hand measured."""
        return self.here.records()

    @cached_property
    def published(self) -> dict[str, Records]:
        """What the editions measured, by title."""
        return {edition.title: edition.records() for edition in self.editions}

    @property
    def rows(self) -> Rows:
        """Every phase, as `side_by_side.phases` has them.

        Raises:
            BookError: no phase was measured, here or in an edition.
        """
        if not self._rows:
            raise BookError(
                f"{self.here.folder}: expected records of a phase, found none: execute chapter 2 "
                f"first"
            )
        return self._rows

    @cached_property
    def told(self) -> Rows:
        """Those of the machine that has most phases: sentences compare them."""
        return side_by_side.one_machine(self.rows)

    @property
    def spoken(self) -> Run:
        """The run that they are of; the one at hand if nothing was measured at all."""
        origins = {row.origin for row in side_by_side.one_machine(self._rows)}
        return next((e for e in self.editions if e.title in origins), self.here)

    @cached_property
    def _rows(self) -> Rows:
        return side_by_side.phases(self.own, self.published)


def read(executed: str = "", edition: str = "") -> Comparison:
    """The comparison that a chapter tells.

    Args:
        executed: folder of executed chapters; by default that of the run being made.
        edition: the only one that may fill in; all by default.

    Raises:
        ParameterError: no such folder, or no such edition.
    """
    validated(Performance, executed=executed, edition=edition)
    here = Run(files.expanded(executed).resolve()) if executed else runs.current()
    others = [] if here.published else runs.editions()
    return Comparison(here, [other for other in others if edition in ("", other.name)])
