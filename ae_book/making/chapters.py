"""A chapter's source and its parameters.

`book/NAME.ipynb` is the source: clean, reviewed, what readers open. What was executed lies in runs
(`ae_book.making.runs`).
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from ae_book.making import parameters
from ae_core import checkout
from ae_core.errors import InputError
from ae_core.parameters import ParameterError, shown

Notebook = dict[str, Any]


class BookError(InputError):
    """The book can't be made: says which chapter, what is wrong, and what to do."""


def root() -> Path:
    """The checkout, which holds the chapters.

    Raises:
        BookError: the package runs from an installed wheel.
    """
    found = checkout.root()
    if not found:
        raise BookError("the chapters live in the repository: run this from a checkout of it")
    return found


def names() -> list[str]:
    """Names of the notebooks in the table of contents, in order: `01_problem`, ..."""
    toc = yaml.safe_load((root() / "_toc.yml").read_text("utf8"))
    files = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    return [Path(f).name for f in files if (root() / f"{f}.ipynb").exists()]


def source_path(chapter: str) -> Path:
    """The chapter's source."""
    return root() / "book" / f"{chapter}.ipynb"


def read_preset(preset: str) -> dict[str, dict[str, Any]]:
    """The parameters of each chapter under a preset, checked against the chapters' own.

    Raises:
        BookError: no such preset, chapter or parameter, or a value that the chapter can't use.
    """
    path = root() / "book" / "presets" / f"{preset}.yml"
    if preset not in presets():
        raise BookError(f"preset: expected one of {', '.join(presets())}, found {shown(preset)}")
    try:
        found = yaml.safe_load(path.read_text("utf8")) or {}
    except yaml.YAMLError as error:
        raise BookError(f"{path}: expected YAML: {error}") from None
    if not isinstance(found, dict) or {*map(type, found.values())} - {dict, NoneType}:
        raise BookError(f"{path}: expected chapters, each with parameters and their values")
    found = {chapter: values or {} for chapter, values in found.items()}
    for chapter, values in found.items():
        if chapter not in names():
            raise BookError(f"{path}: {chapter}: no such chapter in _toc.yml")
        if "data" in values:
            raise BookError(f"{path}: {chapter}: set AE_CIFAR10_DIR instead, for all chapters")
        try:
            parameters.refuse(chapter, defaults(chapter) | values)
        except ParameterError as error:
            lines = str(error).splitlines()
            raise BookError("\n".join(f"{path}: {chapter}: {line}" for line in lines)) from None
    return found


def presets() -> list[str]:
    """Names of the presets in the book."""
    return sorted(path.stem for path in (root() / "book" / "presets").glob("*.yml"))


def defaults(chapter: str) -> dict[str, Any]:
    """The parameters in a chapter's own cell; none without one."""
    return {
        statement.target.id: ast.literal_eval(statement.value)
        for cell in code_cells(read(source_path(chapter)))
        if "parameters" in cell["metadata"].get("tags", [])
        for statement in ast.parse(cell["source"]).body
        if isinstance(statement, ast.AnnAssign)
        and isinstance(statement.target, ast.Name)
        and statement.value
    }


def analyses(chapter: str) -> bool:
    """Whether a chapter measures nothing, and reads what the others did."""
    return bool(read(source_path(chapter))["metadata"].get("ae", {}).get("analyses"))


def merged(source: Notebook, executed: Notebook) -> Notebook:
    """A chapter's source with the outputs, and the given parameters, of a copy of the same code."""
    outputs = iter(code_cells(executed))
    cells = []
    for cell in source["cells"]:
        if cell["cell_type"] == "code":
            done = next(outputs)
            if "injected-parameters" in done["metadata"].get("tags", []):
                cells.append(done)
                done = next(outputs)
            cell |= {k: done[k] for k in ("outputs", "execution_count")}
        cells.append(cell)
    language = executed["metadata"].get("language_info", {})
    return {**source, "cells": cells, "metadata": {**source["metadata"], "language_info": language}}


def code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    """The notebook's code cells, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def read(path: Path) -> Notebook:
    """A notebook as JSON, its sources joined to strings."""
    notebook: Notebook = json.loads(path.read_text("utf8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook
