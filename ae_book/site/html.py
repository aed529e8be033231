"""The HTML: a site for each run of the book, joined page by page through tabs, and checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ae_book.making import chapters
from ae_book.making.chapters import BookError
from ae_book.making.runs import Run
from ae_book.site import check, colab
from ae_core import checkout, files

TABS_VARIABLE = "AE_TABS"
"""The sites of a build for its pages to link, as JSON: a list of `label`, `detail`, `place`."""


def build(runs: Sequence[Run]) -> Path:
    """Build a site for each run with warnings as errors, and check them.

    The first run's site is the root; the others lie below it, in `editions/NAME`. Every page links
    to the same page of the other sites.

    Returns:
        The first page.

    Raises:
        BookError: a chapter is missing or stale, the build warned, or a link leads nowhere.
        BusyError: another process is building.
    """
    _refuse_stale(runs)
    target = chapters.root() / "_build" / "html"
    with files.replacing(target, wait=False) as html:
        _build_all(runs, html)
    return target / "index.html"


def _build_all(runs: Sequence[Run], html: Path) -> None:
    places = {run: f"editions/{run.name}/" if number else "" for number, run in enumerate(runs)}
    tabs = [{"label": r.title, "detail": r.detail, "place": place} for r, place in places.items()]
    for run, place in places.items():
        _build_one(run, html, place, tabs)
    _write_for_colab(html / colab.FOLDER)
    names = [f"book/{chapter}" for chapter in ("index", *chapters.names())]
    expected = [f"{place}{name}" for place in places.values() for name in names]
    problems = list(check.faults(html, expected))
    if problems:
        raise BookError("the HTML has faults:\n" + "\n".join(problems))


def _refuse_stale(runs: Sequence[Run]) -> None:
    stale = []
    for run in runs:
        for chapter in chapters.names():
            try:
                run.with_outputs(chapter)
            except BookError as error:
                stale.append(str(error))
    if stale:
        raise BookError("\n".join(stale))


def _build_one(run: Run, html: Path, place: str, tabs: Sequence[dict[str, str]]) -> None:
    root = chapters.root()
    aside = html.with_name("sites") / run.name
    program = Path(sys.executable).with_name("jupyter-book")
    if not program.exists():
        raise BookError(
            f"expected {program}, found none: run {sys.executable} -m pip install -e '.[book]'"
        )
    packages = filter(None, [str(root), os.environ.get("PYTHONPATH")])
    own = {"PYTHONPATH": os.pathsep.join(packages), TABS_VARIABLE: json.dumps(tabs)}
    command = [str(program), "build", str(root), "--path-output", str(aside)]
    command += ["--all", "-W", "--keep-going"]
    done = subprocess.run(
        command,
        env=os.environ | run.environment | own,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stdout.splitlines()
        told = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-20:]
        raise BookError(f"building the HTML of {run.name} failed:\n" + "\n".join(told))
    (html / place).parent.mkdir(parents=True, exist_ok=True)
    (aside / "_build" / "html").rename(html / place)
    shutil.rmtree(aside)


def _write_for_colab(folder: Path) -> None:
    """A copy of each chapter's source for Colab to open, if the repository is on GitHub."""
    root = chapters.root()
    repository = colab.repository(root)
    commit = checkout.revision(root).commit
    if not commit or not repository or not repository.startswith(colab.GITHUB):
        return
    folder.mkdir()
    first: dict[str, object] = {
        "cell_type": "code", "id": "colab", "metadata": {}, "execution_count": None, "outputs": [],
        "source": colab.first_cell(repository, commit),
    }  # fmt: skip
    for chapter in chapters.names():
        notebook = chapters.read(chapters.source_path(chapter))
        notebook["cells"].insert(0, first)
        if not chapters.analyses(chapter):
            notebook["metadata"]["accelerator"] = "GPU"  # the runtime that Colab then proposes
        (folder / f"{chapter}.ipynb").write_text(json.dumps(notebook, indent=1), "utf8")
