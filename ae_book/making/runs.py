"""Executed chapters and what they measured: on this machine, or published as an edition.

`runs/PRESET/` holds what this machine executed under a preset, `editions/NAME/` what was
published; in either a folder a chapter, with the executed copy and the records that it wrote. What
failed last lies in `runs/PRESET.failed/`, or `runs/NAME.failed/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ae_book.making import chapters, freshness
from ae_book.making.chapters import BookError, Notebook
from ae_core import records
from ae_core.data.cifar10 import Identity
from ae_core.records import Record, Seconds
from ae_core.records.base import Model
from ae_core.records.provenance import Provenance

RUN_VARIABLE = "AE_RUN"
"""The run's folder, while it is executed or built."""
RECORDS = "records"
LOCAL, PUBLISHED = "runs", "editions"
PUBLISHED_PRESET = "full"


class Execution(Model):
    """How a chapter's copy came about."""

    provenance: Provenance
    dataset: Identity
    seconds: Seconds


@dataclass(frozen=True)
class Run:
    """A folder of executed chapters."""

    folder: Path

    @property
    def name(self) -> str:
        """The preset's, or the edition's."""
        return self.folder.name

    @property
    def published(self) -> bool:
        """Whether this is an edition: measured elsewhere or earlier, and kept in the repository."""
        return self.folder.parent.name == PUBLISHED

    @property
    def preset(self) -> str:
        """Where the chapters' parameters come from."""
        return PUBLISHED_PRESET if self.published else self.name

    @property
    def again(self) -> str:
        """The command that executes it."""
        variable = f"edition NAME={self.name}" if self.published else f"book PRESET={self.name}"
        return f"make {variable}"

    @property
    def title(self) -> str:
        """As a tab calls it."""
        return f"{self.name} edition" if self.published else "This machine"

    @property
    def detail(self) -> str:
        """What it ran on, and when: of its latest chapter that measured something."""
        found = (self.execution(c) for c in chapters.names() if not chapters.analyses(c))
        latest = max((e for e in found if e), key=lambda e: e.provenance.created, default=None)
        if not latest:
            return "not executed"
        facts = latest.provenance
        return (
            f"{facts.gpu.model if facts.gpu else f'{facts.cpu}, no GPU'}, {facts.created:%Y-%m-%d}"
        )

    @property
    def environment(self) -> dict[str, str]:
        """How processes are told which run they work for."""
        return {RUN_VARIABLE: str(self.folder)}

    def path(self, chapter: str) -> Path:
        """The folder of a chapter's executed copy and of the records that it wrote."""
        return self.folder / chapter

    def failed(self, chapter: str) -> Path:
        """Where the copy of a chapter that failed is kept to look at: no part of the run."""
        return chapters.root() / LOCAL / f"{self.name}.failed" / chapter

    def executed(self, chapter: str) -> Path:
        """The executed copy of a chapter."""
        return self.path(chapter) / f"{chapter}.ipynb"

    def records(self) -> dict[str, Record]:
        """Every record that the chapters wrote, by file name without `.json`.

        Of two with one name the later chapter's counts.
        """
        return dict(self._stored())

    def every_record(self) -> list[Record]:
        """Likewise, with all of those that have one name."""
        return [record for _, record in self._stored()]

    def _stored(self) -> Iterator[tuple[str, Record]]:
        found = (p for c in chapters.names() for p in sorted(self.record_files(c)))
        return ((path.stem, records.load(path)) for path in found)

    def record_path(self, name: str) -> Path:
        """The record that some chapter wrote under this file name.

        Raises:
            BookError: no executed chapter wrote it.
        """
        for chapter in chapters.names():
            path = self.path(chapter) / RECORDS / name
            if path.exists():
                return path
        raise BookError(f"no chapter wrote {name}; run: {self.again}")

    def inputs(self, chapter: str, parameters: dict[str, Any], data: str) -> dict[str, str]:
        """Digests of all that an execution depends on, by name, so that a change can be named."""
        runs = [self] if self.published else [self, *editions()]
        measured = [name for name in chapters.names() if not chapters.analyses(name)]
        records = (path for run in runs for name in measured for path in run.record_files(name))
        return freshness.inputs(chapter, parameters, data, records)

    def differences(self, chapter: str, inputs: dict[str, str]) -> list[str]:
        """What of a chapter's inputs, or of the records it wrote, is not as it was when it ran."""
        if not self.executed(chapter).exists():
            return ["everything"]
        then = self.metadata(chapter).get("made_from", {})
        written = freshness.digest_of(self.record_files(chapter), self.path(chapter) / RECORDS)
        now = {**inputs, "records": written}
        return freshness.differences(then, now, published=self.published)

    def metadata(self, chapter: str) -> dict[str, Any]:
        """What an executed copy says of itself; nothing if it can't tell."""
        try:
            return dict(chapters.read(self.executed(chapter))["metadata"]["ae"])
        except (OSError, ValueError, KeyError, TypeError):  # damaged, or another program's
            return {}

    def execution(self, chapter: str) -> Execution | None:
        """How a chapter's copy came about; None if there is no copy, or it can't tell."""
        try:
            return Execution.model_validate(self.metadata(chapter).get("execution"))
        except ValidationError:
            return None

    def data_digest(self) -> str:
        """The data that all chapters must have run on: that of the first which was executed."""
        there = (c for c in chapters.names() if self.executed(c).exists())
        return next((self.metadata(c).get("made_from", {}).get("data", "") for c in there), "")

    def with_outputs(self, chapter: str) -> Notebook:
        """The chapter's source with the outputs of its executed copy.

        Raises:
            BookError: the copy is missing or stale; says why, and the command that makes it anew.
        """
        path, again = self.executed(chapter), f"run: {self.again}"
        if not path.exists():
            there = path.relative_to(chapters.root())
            raise BookError(f"{chapter}: no executed copy at {there}; {again}")
        parameters = chapters.read_preset(self.preset).get(chapter, {})
        changed = self.differences(chapter, self.inputs(chapter, parameters, self.data_digest()))
        if changed:
            raise BookError(
                f"{chapter}: stale outputs: changed since: {', '.join(changed)}; {again}"
            )
        return chapters.merged(chapters.read(chapters.source_path(chapter)), chapters.read(path))

    def record_files(self, chapter: str) -> list[Path]:
        """The records that a chapter wrote."""
        return [*(self.path(chapter) / RECORDS).glob("*.json")]


def local(preset: str) -> Run:
    """What this machine executes under a preset."""
    return Run(chapters.root() / LOCAL / preset)


def edition(name: str) -> Run:
    """What is, or will be, published under a name."""
    return Run(chapters.root() / PUBLISHED / name)


def editions() -> list[Run]:
    """All that is published, by name."""
    folder = chapters.root() / PUBLISHED
    return [Run(path) for path in sorted(folder.glob("[!.]*")) if path.is_dir()]


def current() -> Run:
    """The run that this process works for: by `AE_RUN`, else the quick preset's."""
    named = os.environ.get(RUN_VARIABLE)
    return Run(Path(named)) if named else local("quick")
