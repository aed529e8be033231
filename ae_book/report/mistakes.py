"""What went wrong while this book was made, as data: `book/mistakes.yml`, for chapter 9."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import TypeAdapter, ValidationError

from ae_book.making import chapters
from ae_book.making.chapters import BookError
from ae_core.records.base import Model

Area = Literal["gpu", "training", "measuring", "features", "pages"]


class Mistake(Model):
    """Something that was wrong, what found it, and what would find it today."""

    area: Area
    title: str
    told: str
    found: str
    guard: str | None = None
    """The test that watches for it, `tests/`-relative file and name; None: no test can."""


def load(path: Path | None = None) -> list[Mistake]:
    """All of them, in the order of the file.

    Raises:
        BookError: the file is missing or holds something else; says where.
    """
    path = path or chapters.root() / "book" / "mistakes.yml"
    try:
        return TypeAdapter(list[Mistake]).validate_python(yaml.safe_load(path.read_text("utf8")))
    except (OSError, yaml.YAMLError) as error:
        raise BookError(f"{path}: expected mistakes as YAML: {error}") from None
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BookError(f"{path}: {found}") from None


def markdown(area: Area) -> str:
    """The mistakes of an area, each with what found it and the test that has watched since."""
    told = []
    for mistake in load():
        if mistake.area == area:
            guard = f"; watched by `{mistake.guard}`" if mistake.guard else ""
            told.append(f"**{mistake.title}.** {mistake.told} *Found by {mistake.found}{guard}.*")
    return "\n\n".join(told)


def summary() -> str:
    """How many there are, and how many a test watches, as a sentence."""
    mistakes = load()
    watched = sum(mistake.guard is not None for mistake in mistakes)
    return (
        f"{len(mistakes)} mistakes are told here, most of them ours; {watched} have a test that "
        f"watches for them."
    )
