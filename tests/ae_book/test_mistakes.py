"""Mistakes that are told have happened to a test that is there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from ae_book.making.chapters import BookError
from ae_book.report import mistakes

TESTS = Path(__file__).parents[1]


def test_every_guard_is_a_test_that_is_there():
    for mistake in mistakes.load():
        if mistake.guard:
            file, name = mistake.guard.split("::")
            tree = ast.parse((TESTS / file).read_text("utf8"))
            assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}


def test_every_area_has_mistakes_and_each_shows_under_its_own():
    for area in get_args(mistakes.Area):
        told = mistakes.markdown(area)
        for mistake in mistakes.load():
            assert (f"**{mistake.title}.**" in told) == (mistake.area == area)
        assert told


def test_the_summary_counts_them_and_their_guards():
    found = mistakes.load()
    counts = len(found), sum(m.guard is not None for m in found)
    assert mistakes.summary().startswith(f"{counts[0]} mistakes are told here")
    assert f"; {counts[1]} have a test" in mistakes.summary()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {area: gpu, title: a, told: b}", "0.found: Field required"),
        ("- {area: music, title: a, told: b, found: c}", "0.area: Input should be 'gpu'"),
        ("- {area: gpu, title: a, told: b, found: c, test: d}", "0.test: Extra inputs"),
        ("title: a", "valid list"),
        ("- [", "expected mistakes as YAML"),
    ],
)
def test_a_damaged_file_is_refused_with_the_field(tmp_path, text, message):
    path = tmp_path / "mistakes.yml"
    path.write_text(text)
    with pytest.raises(BookError, match=message):
        mistakes.load(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(BookError, match="expected mistakes as YAML"):
        mistakes.load(tmp_path / "none.yml")
