"""Chapter 9 tells of each mistake which test guards against it: those tests are there."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
CHAPTER = TESTS.parent / "book" / "09_lessons.ipynb"
GUARD = re.compile(r"`(\S+\.py)::(\w+)`")
MISTAKES, GUARDED = 19, 15
"""That were told when this was written: none may be lost."""


def prose() -> str:
    cells = json.loads(CHAPTER.read_text("utf8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_every_guard_is_a_test_that_is_there():
    guards = GUARD.findall(prose())
    assert len(set(guards)) >= GUARDED
    for file, name in guards:
        tree = ast.parse((TESTS / file).read_text("utf8"))
        assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, file


def test_every_mistake_is_told_with_what_found_it():
    told = [text for text in prose().split("\n\n") if re.match(r"\*\*[^*]+\.\*\* ", text)]
    assert len(told) >= MISTAKES
    assert [text for text in told if "Found by" not in text.replace("\n", " ")] == []
