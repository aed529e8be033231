"""What is published in the repository: whole, current, small, and told right by the README."""

from __future__ import annotations

import pytest

from ae_book.analysis import headline
from ae_book.making import chapters, runs
from ae_book.making.chapters import BookError
from tests.conftest import ROOT

EDITIONS = [run.name for run in runs.editions()]
LARGEST = 15 * 2**20


def test_something_is_published():
    assert EDITIONS


@pytest.mark.parametrize("name", EDITIONS)
def test_an_edition_has_every_chapter_with_the_chapters_code_and_its_own_records(name):
    for chapter in chapters.names():
        runs.edition(name).with_outputs(chapter)


@pytest.mark.parametrize("name", EDITIONS)
def test_an_edition_was_measured_on_one_card_with_one_data_set(name):
    edition = runs.edition(name)
    facts = [edition.execution(c) for c in chapters.names() if not chapters.analyses(c)]
    assert len({f.provenance.gpu for f in facts}) == len({f.dataset for f in facts}) == 1
    assert all(f.provenance.gpu and f.provenance.commit for f in facts)


@pytest.mark.parametrize("name", EDITIONS)
def test_an_edition_is_notebooks_and_records_and_small(name):
    files = [path for path in runs.edition(name).folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".ipynb", ".json"}
    assert sum(path.stat().st_size for path in files) <= LARGEST


def test_the_readme_tells_its_editions_figures():
    text = (ROOT / "README.md").read_text("utf8")
    assert headline.readme(text) == text, "run: python -m ae_book readme"


def test_a_readme_without_marks_is_refused():
    with pytest.raises(BookError, match="expected text between <!-- headline of"):
        headline.readme("# Title\n")
