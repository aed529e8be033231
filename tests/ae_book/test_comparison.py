"""Whose figures chapters without measurements tell."""

from __future__ import annotations

import pytest

from ae_book.analysis import comparison
from ae_book.making import chapters, runs
from ae_book.making.chapters import BookError
from ae_book.making.runs import Run
from ae_core import records
from tests import handmade


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Makes a run of one chapter with these records; editions are those that lie in `editions`."""
    monkeypatch.setattr(chapters, "names", lambda: ["a"])
    editions = tmp_path / "editions"
    monkeypatch.setattr(runs, "editions", lambda: [Run(p) for p in sorted(editions.glob("*"))])

    def make(place: str, contents: dict) -> Run:
        made = Run(tmp_path / place)
        folder = made.path("a") / runs.RECORDS
        folder.mkdir(parents=True)
        for name, record in contents.items():
            records.save(record, folder / f"{name}.json")
        return made

    return make


def test_without_a_gpu_an_edition_is_spoken_of(run):
    here, card = run("runs/quick", handmade.laptop_run()), run("editions/card", handmade.gpu_run())
    found = comparison.read(str(here.folder))
    assert (found.here, found.spoken) == (here, card)
    assert {row.origin for row in found.told} == {"card edition"}
    assert {row.origin for row in found.rows} == {"this run", "card edition"}
    assert [*found.published] == ["card edition"]


def test_a_folder_below_ones_home_is_the_one_that_was_checked(run, tmp_path, monkeypatch):
    here = run("runs/own", handmade.laptop_run())
    monkeypatch.setenv("HOME", str(tmp_path))
    found = comparison.read("~/runs/own")
    assert found.here == here
    assert found.own == here.records()


def test_a_run_with_every_phase_speaks_of_itself(run):
    here, _ = run("runs/full", handmade.gpu_run()), run("editions/card", handmade.gpu_run())
    found = comparison.read(str(here.folder))
    assert found.spoken == here
    assert {row.origin for row in found.rows} == {"this run"}


def test_an_edition_speaks_of_itself_whatever_else_is_published(run):
    part = {"cpu_benchmark": handmade.gpu_run()["cpu_benchmark"]}
    one, _ = run("editions/a", part), run("editions/b", handmade.gpu_run())
    found = comparison.read(str(one.folder))
    assert found.spoken == one and found.published == {}
    assert {row.origin for row in found.rows} == {"this run"}


def test_the_edition_that_fills_in_can_be_named(run):
    here = run("runs/quick", handmade.laptop_run())
    run("editions/a", handmade.gpu_run())
    named = run("editions/b", handmade.gpu_run())
    assert comparison.read(str(here.folder), "b").spoken == named


def test_by_default_it_is_the_run_being_made(run, monkeypatch):
    here = run("runs/full", handmade.gpu_run())
    monkeypatch.setenv(runs.RUN_VARIABLE, str(here.folder))
    assert comparison.read().here == here


def test_nothing_measured_is_told_where_phases_are_asked_for(run):
    here = run("runs/quick", {})
    found = comparison.read(str(here.folder))
    assert found.spoken == here
    for phases in ("rows", "told"):
        with pytest.raises(BookError, match="quick: expected records of a phase, found none"):
            getattr(found, phases)
