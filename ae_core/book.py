"""The book's machinery: chapters through papermill, executed copies kept apart, then HTML.

`book/NAME.ipynb` is the source: clean, reviewed, what readers open. `runs/PROFILE/book/NAME.ipynb`
is the copy that was executed; it knows what it was made from, and is used only while that holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from ae_core import pages, provenance, sources
from ae_core.cuda import kernels_directory

PROFILE_VARIABLE = "AE_PROFILE"
VERSIONED = ("numpy", "numba", "matplotlib", "pandas", "papermill", "ipykernel")
MACHINERY = ("book.py", "__main__.py")
"""Modules that no chapter imports: a change there leaves outputs as they are."""
Notebook = dict[str, Any]


class BookError(RuntimeError):
    """The book can't be made: says which chapter, what is wrong, and what to do."""


def root() -> Path:
    """The checkout, which holds the chapters.

    Raises:
        BookError: the package runs from an installed wheel.
    """
    found = provenance.checkout()
    if not found:
        raise BookError("the chapters live in the repository: run this from a checkout of it")
    return found


def chapters() -> list[str]:
    """Names of the notebooks in the table of contents, in order: `01_problem`, ..."""
    toc = yaml.safe_load((root() / "_toc.yml").read_text("utf8"))
    files = [c["file"] for part in toc["parts"] for c in part["chapters"]]
    return [Path(f).name for f in files if (root() / f"{f}.ipynb").exists()]


def executed_path(profile: str, chapter: str) -> Path:
    """Where the executed copy of a chapter is kept."""
    return root() / "runs" / profile / "book" / f"{chapter}.ipynb"


def execute(profile: str, only: list[str], *, force: bool = False) -> None:
    """Execute the chapters whose copies are missing or out of date, one after the other.

    One at a time, because chapters that time things must not run beside others.

    Args:
        profile: a file of `book/profiles`, without `.yml`.
        only: chapter names; all if empty.
        force: also execute what is up to date.

    Raises:
        BookError: an unknown chapter or parameter; or chapters failed (the others are kept).
    """
    parameters = read_profile(profile)
    unknown = set(only) - set(chapters())
    if unknown:
        raise BookError(f"unknown chapter {', '.join(sorted(unknown))}: {', '.join(chapters())}")
    dataset = sources.find()
    print(f"data: {dataset.identity.label} ({dataset.directory})", flush=True)
    failures = []
    for chapter in only or chapters():
        inputs = chapter_inputs(chapter, parameters.get(chapter, {}), dataset.identity.digest)
        path = executed_path(profile, chapter)
        if not force and path.exists() and _made_from(path) == inputs:
            print(f"{chapter}: up to date", flush=True)
            continue
        print(f"{chapter}: executing", flush=True)
        started = time.perf_counter()
        try:
            _execute_one(profile, chapter, parameters.get(chapter, {}), inputs, dataset.directory)
            print(f"{chapter}: done in {time.perf_counter() - started:.0f} s", flush=True)
        except BookError as error:
            print(f"{chapter}: FAILED", flush=True)
            failures.append(str(error))
    if failures:
        raise BookError("\n\n".join(failures))


def read_profile(profile: str) -> dict[str, dict[str, Any]]:
    """The parameters of each chapter under a profile, checked against the chapters' own.

    Raises:
        BookError: no such profile, chapter or parameter, or a value of another type.
    """
    import papermill  # noqa: PLC0415

    path = root() / "book" / "profiles" / f"{profile}.yml"
    if not path.exists():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.yml")))
        raise BookError(f"profile {profile!r}: expected one of {there}")
    found = yaml.safe_load(path.read_text("utf8")) or {}
    for chapter, values in found.items():
        if chapter not in chapters():
            raise BookError(f"{path}: {chapter}: no such chapter in _toc.yml")
        known = papermill.inspect_notebook(str(root() / "book" / f"{chapter}.ipynb"))
        for name, value in values.items():
            if name not in known:
                raise BookError(
                    f"{path}: {chapter}: no parameter {name!r}; it has {', '.join(known)}"
                )
            expected, given = known[name]["inferred_type_name"], type(value).__name__
            if given != expected and (expected, given) != ("float", "int"):
                raise BookError(f"{path}: {chapter}: {name}: expected {expected}, found {value!r}")
    return found


def chapter_inputs(chapter: str, parameters: dict[str, Any], data: str) -> dict[str, str]:
    """Digests of all that an execution depends on, by name, so that a difference can be named."""
    source = _read(root() / "book" / f"{chapter}.ipynb")
    code = [(cell["source"], cell["metadata"].get("tags", [])) for cell in _code_cells(source)]
    package = sorted(p for p in (root() / "ae_core").rglob("*.py") if p.name not in MACHINERY)
    kernels = sorted(p for p in kernels_directory().rglob("*") if p.suffix in (".cu", ".cuh", ".h"))
    return {
        "code": _digest(json.dumps(code)),
        "parameters": _digest(json.dumps(parameters, sort_keys=True)),
        "package": _digest(*(p.read_text("utf8") for p in package)),
        "kernels": _digest(*(p.read_text("utf8") for p in kernels)),
        "versions": _digest(sys.version, *(f"{name} {version(name)}" for name in VERSIONED)),
        "data": data,
    }


def with_outputs(source: Notebook, chapter: str, profile: str) -> Notebook:
    """The chapter's source with the outputs of its executed copy.

    Raises:
        BookError: the copy is missing or stale; says why, and the command that makes it anew.
    """
    path = executed_path(profile, chapter)
    again = f"run: make book PROFILE={profile}"
    if not path.exists():
        raise BookError(f"{chapter}: no executed copy at {path.relative_to(root())}; {again}")
    made_from = _made_from(path)
    parameters = read_profile(profile).get(chapter, {})
    now = chapter_inputs(chapter, parameters, made_from.get("data", ""))
    changed = [name for name in now if made_from.get(name) != now[name]]
    if changed:
        raise BookError(f"{chapter}: stale outputs: changed since: {', '.join(changed)}; {again}")
    executed = _read(path)
    outputs = iter(_code_cells(executed))
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


def build_html(profile: str) -> Path:
    """Build the HTML with warnings as errors, and check it.

    Raises:
        BookError: a chapter is missing or stale, the build warned, or a link leads nowhere.
    """
    stale = []
    for chapter in chapters():
        try:
            with_outputs(_read(root() / "book" / f"{chapter}.ipynb"), chapter, profile)
        except BookError as error:
            stale.append(str(error))
    if stale:
        raise BookError("\n".join(stale))
    command = [
        str(Path(sys.executable).with_name("jupyter-book")), "build", str(root()), "--all", "-W",
    ]  # fmt: skip
    environment = os.environ | {PROFILE_VARIABLE: profile}
    done = subprocess.run(
        [*command, "--keep-going"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = done.stdout.splitlines()
        told = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-20:]
        raise BookError("building the HTML failed:\n" + "\n".join(told))
    html = root() / "_build" / "html"
    problems = list(pages.faults(html, [f"book/{chapter}" for chapter in ("index", *chapters())]))
    if problems:
        raise BookError("the HTML has faults:\n" + "\n".join(problems))
    return html / "index.html"


def _execute_one(
    profile: str,
    chapter: str,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    data: Path,
) -> None:
    import nbformat  # noqa: PLC0415
    import papermill  # noqa: PLC0415
    from papermill.exceptions import PapermillExecutionError  # noqa: PLC0415
    from traitlets.config import Config  # noqa: PLC0415

    source, path = root() / "book" / f"{chapter}.ipynb", executed_path(profile, chapter)
    aside = path.with_suffix(".partial.ipynb")
    path.parent.mkdir(parents=True, exist_ok=True)
    given = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    os.environ |= {
        sources.DIRECTORY_VARIABLE: str(data),
        provenance.RUNS_VARIABLE: str(root() / "runs" / profile),
        provenance.COMMAND_VARIABLE: shlex.join(
            ["papermill", f"book/{chapter}.ipynb", "out.ipynb", *given]
        ),
        "TQDM_DISABLE": "1",
    }
    sockets = Path(tempfile.mkdtemp(prefix="ae-"))
    transport = {"KernelManager": {"transport": "ipc", "ip": str(sockets / "kernel")}}
    try:
        papermill.execute_notebook(
            source, aside, parameters, kernel_name="python3", cwd=source.parent,
            progress_bar=False, coalesce_streams=True,
            config=Config(transport), extra_arguments=["--log-level=CRITICAL"],
        )  # fmt: skip
    except PapermillExecutionError as error:
        raise BookError(
            f"{chapter}: cell {error.cell_index + 1} failed: {error.ename}: {error.evalue}\n"
            f"the cell:\n{error.source.strip()}\nthe copy so far: {aside}"
        ) from None
    finally:
        shutil.rmtree(sockets, ignore_errors=True)
    notebook = nbformat.read(aside, 4)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    notebook.metadata.pop("papermill", None)
    notebook.metadata["ae"] = {"made_from": inputs}
    nbformat.write(notebook, aside)
    aside.rename(path)


def _made_from(path: Path) -> dict[str, str]:
    return dict(_read(path)["metadata"].get("ae", {}).get("made_from", {}))


def _code_cells(notebook: Notebook) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def _read(path: Path) -> Notebook:
    """A notebook as JSON, its sources joined to strings."""
    notebook: Notebook = json.loads(path.read_text("utf8"))
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
