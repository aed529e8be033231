"""Chapters through papermill, one after the other."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ae_core import chapters, machine, provenance, sources
from ae_core.chapters import BookError
from ae_core.cifar10 import Dataset
from ae_core.runs import RECORDS, Execution, Run

INJECTED = ["injected-parameters"]
"""Papermill's tag for the cell that it adds with the given parameters."""


def execute(run: Run, only: list[str], *, force: bool = False) -> None:
    """Execute the chapters whose copies are missing or out of date, one after the other.

    One at a time, because chapters that time things must not run beside others. What is done stays
    done: another call goes on where this one stopped.

    Args:
        run: where copies and records go.
        only: chapter names; all if empty.
        force: also execute what is up to date.

    Raises:
        BookError: an unknown chapter or parameter; an edition without a GPU; or chapters failed
            (the others are kept).
    """
    parameters = chapters.read_profile(run.profile)
    unknown = set(only) - set(chapters.names())
    if unknown:
        there = ", ".join(chapters.names())
        raise BookError(f"unknown chapter {', '.join(sorted(unknown))}: there are {there}")
    dataset = sources.find()
    print(f"data: {dataset.identity.label} ({dataset.directory})", flush=True)
    failures = []
    for chapter in only or chapters.names():
        given = parameters.get(chapter, {})
        inputs = run.inputs(chapter, given, dataset.identity.digest)
        if not force and not run.differences(chapter, inputs):
            print(f"{chapter}: up to date", flush=True)
            continue
        print(f"{chapter}: executing", flush=True)
        started = time.perf_counter()
        try:
            _refuse_without_gpu(run, chapter)
            _execute_one(run, chapter, given, inputs, dataset)
            print(f"{chapter}: done in {time.perf_counter() - started:.0f} s", flush=True)
        except BookError as error:
            print(f"{chapter}: FAILED", flush=True)
            failures.append(str(error))
    if failures:
        raise BookError("\n\n".join(failures))


def _refuse_without_gpu(run: Run, chapter: str) -> None:
    if run.published and not chapters.analyses(chapter) and not machine.gpu():
        raise BookError(
            f"{chapter}: an edition is measured on an NVIDIA GPU, found none; without one, only "
            f"chapters that measure nothing can be executed for it"
        )


def _execute_one(
    run: Run, chapter: str, parameters: dict[str, Any], inputs: dict[str, str], dataset: Dataset
) -> None:
    """Execute into a folder aside; copy and records take their place together at the end."""
    import nbformat  # noqa: PLC0415
    import papermill  # noqa: PLC0415
    from papermill.exceptions import PapermillExecutionError  # noqa: PLC0415
    from traitlets.config import Config  # noqa: PLC0415

    source, target = chapters.source_path(chapter), run.path(chapter)
    aside = target.with_name(f"{chapter}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / RECORDS).mkdir(parents=True)
    copy = aside / source.name
    given = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    command = ["papermill", f"book/{chapter}.ipynb", "out.ipynb", *given]
    environment = {
        **run.environment,
        sources.DIRECTORY_VARIABLE: str(dataset.directory),
        provenance.RECORDS_VARIABLE: str(aside / RECORDS),
        provenance.COMMAND_VARIABLE: shlex.join(command),
        provenance.BOOK_VARIABLE: "1",
        "TQDM_DISABLE": "1",
        "NUMBA_THREADING_LAYER_PRIORITY": "omp tbb workqueue",  # an old TBB makes Numba warn
    }
    with tempfile.TemporaryDirectory(prefix="ae-") as sockets, _environment(environment):
        facts, started = provenance.current(), time.perf_counter()
        transport = {"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}
        try:
            papermill.execute_notebook(
                source, copy, parameters, kernel_name="python3", cwd=source.parent,
                progress_bar=False, coalesce_streams=True,
                config=Config(transport), extra_arguments=["--log-level=CRITICAL"],
            )  # fmt: skip
        except PapermillExecutionError as error:
            number = _source_cell(chapter, parameters, error.cell_index)
            told = f"{error.ename}: {error.evalue}\nthe cell:\n{error.source.strip()}"
            raise BookError(
                f"{chapter}: cell {number} failed: {told}\nthe copy so far: {copy}"
            ) from None
        except Exception as error:  # the kernel died, or never came up
            raise BookError(
                f"{chapter}: {type(error).__name__}: {error}\nthe last cell begun:\n"
                f"{_last_cell(copy)}\nthe copy so far: {copy}"
            ) from error
    notebook = nbformat.read(copy, 4)
    _refuse_bad_cells(chapter, notebook)
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    notebook.metadata.pop("papermill", None)
    written = chapters.digest_of((aside / RECORDS).glob("*.json"), aside / RECORDS)
    execution = Execution(
        provenance=facts, dataset=dataset.identity, seconds=time.perf_counter() - started
    )
    notebook.metadata["ae"] = {
        "made_from": {**inputs, "records": written},
        "execution": execution.model_dump(mode="json"),
    }
    nbformat.write(notebook, copy)
    old = target.with_name(f"{chapter}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_bad_cells(chapter: str, notebook: Any) -> None:
    """A cell that did not run has nothing to show; what a cell wrote to stderr must be mended."""
    cells = [cell for cell in notebook.cells if cell.metadata.get("tags", []) != INJECTED]
    code = [(number, cell) for number, cell in enumerate(cells, 1) if cell.cell_type == "code"]
    for number, cell in code:
        if cell.execution_count is None:
            raise BookError(f"{chapter}: cell {number} did not run: one before it ended the kernel")
    for number, cell in code:
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise BookError(f"{chapter}: cell {number} wrote to stderr:\n{output.text.strip()}")


def _source_cell(chapter: str, parameters: dict[str, Any], index: int) -> int:
    """The number, from 1, in the source of the cell that papermill executed as `index`.

    Papermill adds a cell with the given parameters behind the one that is tagged so.
    """
    cells = chapters.read(chapters.source_path(chapter))["cells"]
    tagged = [n for n, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", [])]
    return index + 1 - bool(parameters and index > tagged[0])


def _last_cell(copy: Path) -> str:
    """The source of the cell that papermill began last."""
    cells = chapters.code_cells(chapters.read(copy)) if copy.exists() else []
    begun = [c for c in cells if c["metadata"].get("papermill", {}).get("start_time")]
    return str(begun[-1]["source"]).strip() if begun else "none"


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for a kernel to inherit, put back afterwards."""
    before = dict(os.environ)
    os.environ |= values
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
