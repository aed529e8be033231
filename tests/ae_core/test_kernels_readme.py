"""`kernels/README.md` names every kernel file, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.conftest import ROOT

CODE = re.findall(r"`([^`]+)`", (ROOT / "kernels" / "README.md").read_text("utf8"))
CALLED = [code.removesuffix("()") for code in CODE if re.fullmatch(r"[\w.]+\(\)", code)]
DOTTED = [code for code in CODE if re.fullmatch(r"ae_(core|book)(\.\w+)+", code)]


@pytest.mark.parametrize("name", [*CALLED, *DOTTED])
def test_what_it_names_in_the_packages_is_there(name):
    assert name.startswith("ae_"), "expected the full name"
    assert callable(resolve_name(name)) or name in DOTTED


def test_it_names_a_function():
    assert CALLED


def test_its_table_lists_every_file():
    named = {code for code in CODE if Path(code).suffix in (".cu", ".cuh")}
    there = {path.name for path in (ROOT / "kernels").iterdir() if path.suffix in (".cu", ".cuh")}
    assert named == there
