"""When, on what and from which code something was measured."""

from __future__ import annotations

import errno
import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from pydantic import PositiveInt

from ae_core import checkout, files, machine, parameters
from ae_core.records.base import Model

PACKAGES = (
    *("ae-core", "numpy", "numba", "cupy", "cupy-cuda12x", "cupy-cuda13x"),
    *("cuda-toolkit", "nvidia-cuda-nvrtc"),
    *("torch", "scikit-learn", "pyarrow", "cuml", "cuml-cu13", "cudf", "cudf-cu13"),
)
RECORDS_VARIABLE = "AE_RECORDS_DIR"
COMMAND_VARIABLE = "AE_COMMAND"
BOOK_VARIABLE = "AE_BOOK"
"""Set while the book executes its chapters."""


class Provenance(Model):
    """When, on what and from which code a record was made."""

    created: datetime
    command: str
    """What a person types to make it again."""
    commit: str | None
    """Git commit of the package; None outside a checkout."""
    modified: bool | None
    """Whether files that a result depends on differed from that commit, or were not in it."""
    system: str
    python: str
    cpu: str
    cores: PositiveInt
    memory_bytes: PositiveInt
    gpu: machine.Gpu | None
    """The machine's first card, whether or not this run used it."""
    versions: dict[str, str]


def records_directory() -> Path:
    """Where records go by default: `AE_RECORDS_DIR`, else `runs/own` in the checkout or here.

    A folder that was named is made, so that what is wrong with it is told before the work.

    Raises:
        InputError: `AE_RECORDS_DIR` names none, or one that can't be made or written.
    """
    named = os.environ.get(RECORDS_VARIABLE)
    if not named:
        return (checkout.root() or Path.cwd()) / "runs" / "own"
    folder = files.expanded(parameters.read(named, parameters.NewFolder, RECORDS_VARIABLE))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise files.UnwritableError(
            f"{RECORDS_VARIABLE}: expected a folder that can be written, found {folder}: "
            f"{error.strerror}: name another"
        ) from error
    return folder


def current(command: str | None = None) -> Provenance:
    """The facts of this machine, this code and this moment."""
    revision = checkout.revision(checkout.root())
    return Provenance(
        created=datetime.now(UTC).replace(microsecond=0),
        command=_encodable(command or os.environ.get(COMMAND_VARIABLE) or _command_line()),
        commit=revision.commit,
        modified=revision.modified,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cpu=machine.cpu_model(),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpu=machine.gpu(),
        versions=_versions(),
    )


def _command_line() -> str:
    program, *arguments = sys.argv
    if Path(program).name == "ipykernel_launcher.py":
        return "run all cells of the notebook, with its parameters as they stand"
    if Path(program).name == "__main__.py":
        return shlex.join(["python", "-m", Path(program).parent.name, *arguments])
    return shlex.join([Path(program).name, *arguments])


def _encodable(text: str) -> str:
    """A text that UTF-8 can hold: bytes of a file's name that are not UTF-8 are spelled out."""
    return text.encode("utf8", "backslashreplace").decode("utf8")


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
