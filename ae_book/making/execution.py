"""Chapters through papermill, one after the other."""

from __future__ import annotations

import os
import shlex
import shutil
import site
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ae_book.making import chapters, freshness, inside
from ae_book.making.chapters import BookError
from ae_book.making.runs import RECORDS, Execution, Run
from ae_core import checkout, files, machine
from ae_core.data import locate
from ae_core.data.cifar10 import Dataset
from ae_core.errors import InputError
from ae_core.records import provenance

if TYPE_CHECKING:
    from ae_book.making.jupyter_kernel import Kernel

INJECTED = ["injected-parameters"]
"""Papermill's tag for the cell that it adds with the given parameters."""
STRICT_VARIABLE = "CI"
"""Where this is set, what a library warns of fails a chapter as well."""
USERS = ("PYTHONSTARTUP", "MATPLOTLIBRC", "MPLBACKEND")
"""Environment variables with which a user's own settings would change what a chapter shows."""
IMPORTED = (
    "[m.__file__ for n, m in [*__import__('sys').modules.items()] "
    "if n.split('.')[0] in ('ae_book', 'ae_core') and getattr(m, '__file__', None)]"
)
"""Of a kernel: the files of the package that it has imported."""
FIRST = ("matplotlib.font_manager", "ae_book", "ae_core")
BEFORE = f"([*map(__import__, {FIRST})], {IMPORTED})[-1]"
"""Before the first cell: Matplotlib may have to look through the machine's fonts, and says so."""
INSIDE = "__import__('ae_book.making.inside').making.inside"


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
        BusyError: another process executes this run.
    """
    parameters = chapters.read_preset(run.preset)
    unknown = set(only) - set(chapters.names())
    if unknown:
        there = ", ".join(chapters.names())
        raise BookError(f"unknown chapter {', '.join(sorted(unknown))}: there are {there}")
    dataset = locate.find()
    print(f"data: {dataset.identity.label} ({dataset.directory})", flush=True)
    revision = checkout.revision(checkout.root())
    if not revision.commit:
        print(f"code: no commit to record: {revision.missing}", flush=True)
    failures = []
    with files.claimed(run.folder), files.scratch() as spare:
        for chapter in only or chapters.names():
            try:
                _bring_up_to_date(run, chapter, parameters.get(chapter, {}), dataset, spare, force)
            except InputError as error:
                print(f"{chapter}: FAILED", flush=True)
                failures.append(str(error))
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"{chapter} was being executed; finished chapters are kept; to go on, run: "
                    f"{run.again}"
                ) from None
    if failures:
        raise BookError("\n\n".join(failures))


def _bring_up_to_date(
    run: Run, chapter: str, given: dict[str, Any], dataset: Dataset, spare: Path, force: bool
) -> None:
    inputs = run.inputs(chapter, given, dataset.identity.digest)
    if not force and not run.differences(chapter, inputs):
        print(f"{chapter}: up to date", flush=True)
        return
    print(f"{chapter}: executing", flush=True)
    started = time.perf_counter()
    _refuse_without_gpu(run, chapter)
    _execute_one(run, chapter, given, inputs, dataset, spare)
    print(f"{chapter}: done in {time.perf_counter() - started:.0f} s", flush=True)


def _refuse_without_gpu(run: Run, chapter: str) -> None:
    if run.published and not chapters.analyses(chapter) and not machine.gpu():
        raise BookError(
            f"{chapter}: an edition is measured on an NVIDIA GPU, found none; without one, only "
            f"chapters that measure nothing can be executed for it"
        )


def _execute_one(
    run: Run,
    chapter: str,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    dataset: Dataset,
    spare: Path,
) -> None:
    """Execute into a folder aside; copy and records take their place together at the end.

    A copy that failed is kept in a place of its own until the chapter is executed again.
    """
    failed = run.failed(chapter)
    with files.replacing(run.path(chapter)) as draft:
        # Of this process alone: a kernel that outlives a killed process writes to another.
        aside = draft.with_name(str(os.getpid()))
        try:
            _execute_aside(run, chapter, parameters, inputs, dataset, aside, spare)
        except BookError as error:
            if not (aside / f"{chapter}.ipynb").exists():
                raise
            with files.replacing(failed) as place:
                shutil.move(aside, place)
            raise BookError(f"{error}\nthe copy so far: {failed / f'{chapter}.ipynb'}") from error
        aside.rename(draft)
    shutil.rmtree(failed, ignore_errors=True)
    with suppress(OSError):  # other chapters' are there, or none
        failed.parent.rmdir()


def _execute_aside(
    run: Run,
    chapter: str,
    parameters: dict[str, Any],
    inputs: dict[str, str],
    dataset: Dataset,
    aside: Path,
    spare: Path,
) -> None:
    import nbformat  # noqa: PLC0415
    import papermill  # noqa: PLC0415
    from papermill.exceptions import PapermillExecutionError  # noqa: PLC0415

    from ae_book.making import jupyter_kernel  # noqa: PLC0415

    source = chapters.source_path(chapter)
    copy = aside / source.name
    (aside / RECORDS).mkdir(parents=True)
    given = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    command = shlex.join(["papermill", f"book/{chapter}.ipynb", "out.ipynb", *given])
    environment = {
        **_environment(spare),
        **run.environment,
        locate.DIRECTORY_VARIABLE: str(dataset.directory),
        provenance.RECORDS_VARIABLE: str(aside / RECORDS),
        provenance.COMMAND_VARIABLE: command,
        provenance.BOOK_VARIABLE: "1",
        "TQDM_DISABLE": "1",
    }
    facts, started = provenance.current(command), time.perf_counter()
    try:
        with (
            files.naming(run.path(chapter)),
            jupyter_kernel.started(environment, str(source.parent)) as kernel,
        ):
            _refuse_other_package(chapter, kernel.evaluate(BEFORE))
            if not os.environ.get(STRICT_VARIABLE):
                kernel.evaluate(f"{INSIDE}.listen()")
            papermill.execute_notebook(
                source, copy, parameters, kernel_name="python3", km=kernel.manager,
                progress_bar=False, coalesce_streams=True,
                start_timeout=jupyter_kernel.PATIENCE, iopub_timeout=jupyter_kernel.PATIENCE,
            )  # fmt: skip
            notebook = nbformat.read(copy, 4)
            _refuse_bad_cells(chapter, notebook)
            _tell(chapter, notebook, kernel)
    except PapermillExecutionError as error:
        number = _source_cell(chapter, parameters, error.cell_index)
        told = f"{error.ename}: {error.evalue}\nthe cell:\n{error.source.strip()}"
        raise BookError(f"{chapter}: cell {number} failed: {told}") from None
    except InputError:
        raise
    except Exception as error:  # the kernel died, or never came up
        raise BookError(
            f"{chapter}: {type(error).__name__}: {error}\nthe last cell begun:\n{_last_cell(copy)}"
        ) from error
    for cell in notebook.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
    notebook.metadata.pop("papermill", None)
    written = freshness.digest_of((aside / RECORDS).glob("*.json"), aside / RECORDS)
    execution = Execution(
        provenance=facts, dataset=dataset.identity, seconds=time.perf_counter() - started
    )
    notebook.metadata["ae"] = {
        "made_from": {**inputs, "records": written},
        "execution": execution.model_dump(mode="json"),
    }
    nbformat.write(notebook, copy)


def _environment(spare: Path) -> dict[str, str]:
    """A kernel's environment: this process's package first, and folders that can be written to.

    Libraries keep there what they make, fonts that they found and kernels that they compiled, from
    chapter to chapter; a user's settings of them don't change what a chapter shows.

    Args:
        spare: an empty folder, for where the user's can't be written to.
    """
    kept = locate.cache_directory() / "chapters"
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError:
        kept = spare
    kept = kept if os.access(kept, os.W_OK | os.X_OK) else spare
    found = {name: value for name, value in os.environ.items() if name not in USERS}
    found["MPLCONFIGDIR"] = str(kept / "matplotlib")
    found["CUPY_CACHE_DIR"] = str(kept / "cupy")
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and a user whom the system doesn't know
        home = Path("~")
    if not os.access(home, os.W_OK | os.X_OK):
        found |= {"HOME": str(kept / "home"), "PYTHONUSERBASE": site.getuserbase()}
        Path(found["HOME"]).mkdir(exist_ok=True)
        settings = home / ".gitconfig"  # which may call the checkout safe, if another user's
        if os.access(settings, os.R_OK):
            found.setdefault("GIT_CONFIG_GLOBAL", str(settings))
    packages = [str(inside.ROOT), os.environ.get("PYTHONPATH")]
    return found | {"PYTHONPATH": os.pathsep.join(filter(None, packages))}


def _refuse_other_package(chapter: str, imported: list[str]) -> None:
    """What is recorded of the code is of this process's package; so must be what ran."""
    for path in imported:
        if not Path(path).resolve().is_relative_to(inside.ROOT):
            raise BookError(
                f"{chapter}: expected ae_core and ae_book from {inside.ROOT}, found in its kernel: "
                f"{path}; take off its path what leads there (PYTHONPATH, sitecustomize, a .pth "
                f"file, the chapter's own code)"
            )


def _tell(chapter: str, notebook: Any, kernel: Kernel) -> None:
    """After the last cell: whose package it was, and what libraries warned of."""
    _refuse_other_package(chapter, kernel.evaluate(IMPORTED))
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    numbers = {cell.id: number for number, cell in _numbered(notebook)}
    for count, words in kernel.evaluate(f"{INSIDE}.told"):
        number = numbers.get(code[count - 1].id)
        print(f"{chapter}: cell {number}: a library warned: {words}", flush=True)


def _refuse_bad_cells(chapter: str, notebook: Any) -> None:
    """A cell that did not run has nothing to show; what a cell wrote to stderr must be mended."""
    code = [(number, cell) for number, cell in _numbered(notebook) if cell.cell_type == "code"]
    for number, cell in code:
        if cell.execution_count is None:
            raise BookError(f"{chapter}: cell {number} did not run: one before it ended the kernel")
    for number, cell in code:
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise BookError(f"{chapter}: cell {number} wrote to stderr:\n{output.text.strip()}")


def _numbered(notebook: Any) -> list[tuple[int, Any]]:
    """The cells with their numbers, from 1, in the source."""
    cells = [cell for cell in notebook.cells if cell.metadata.get("tags", []) != INJECTED]
    return [*enumerate(cells, 1)]


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
