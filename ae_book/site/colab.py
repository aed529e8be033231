"""A chapter in Google Colab: where it is opened, and what its first cell does there.

Colab opens notebooks that lie on GitHub. The published site lies there, on a branch of its own, and
carries a copy of each chapter with that cell in front. Standard library only: in Colab, this module
installs what the others need.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ae_core import checkout, machine
from ae_core.errors import InputError

FOLDER = "colab"
"""Where the copies are, from the root of the site."""
BRANCH = "gh-pages"
"""Where the site is published in the repository."""
GITHUB = "https://github.com/"
REMOTE = re.compile(
    r"(?:(?:https?|ssh|git)://(?:[^@/]+@)?|[^@/:]+@)"  # a user, and a token, stay out
    r"(?P<host>[\w-]+(?:\.[\w-]+)+)(?::\d+(?=/))?[:/](?P<path>[^\s:]+?)(?:\.git)?/?"
)
SHOWN_WITH = ("matplotlib", "seaborn", "pyyaml", "myst-nb")
"""What chapters import of the book's packages. Others build pages, or are Colab's own front end, of
older releases, which it runs on."""

CELL = """\
# Does something in Google Colab only: fetches the book's repository, as it was when this page was
# built, and installs what is missing.
import sys

if "google.colab" in sys.modules:
    import subprocess

    folder, repository = "/content/{name}", "{repository}"
    commit = "{commit}"
    for command in (
        ["git", "init", "--quiet", folder],
        ["git", "-C", folder, "fetch", "--quiet", "--depth=1", repository, commit],
        ["git", "-C", folder, "checkout", "--quiet", "FETCH_HEAD"],
    ):
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"expected commit {{commit}} in {{repository}}: {{done.stderr}}")
    sys.path.insert(0, folder)

    from ae_book.site import colab

    colab.prepare()"""


def repository(root: Path) -> str | None:
    """The web address of a checkout's `origin`; None if there is none, or it is a folder."""
    found = REMOTE.fullmatch(checkout.origin(root) or "")
    return f"https://{found['host']}/{found['path']}" if found else None


def address(repository: str, chapter: str) -> str:
    """Where Colab opens the copy of a chapter of a repository on GitHub."""
    place = repository.removeprefix(GITHUB)
    return (
        f"https://colab.research.google.com/github/{place}/blob/{BRANCH}/{FOLDER}/{chapter}.ipynb"
    )


def first_cell(repository: str, commit: str) -> str:
    """The code that a copy begins with; anywhere but in Colab it does nothing."""
    return CELL.format(name=Path(repository).name, repository=repository, commit=commit)


def prepare() -> None:
    """In Colab, from a checkout: install what is missing, go to `book/`, and tell the GPU.

    Raises:
        InputError: pip failed; with its last words.
    """
    root = Path(__file__).resolve().parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text("utf8"))["project"]
    _pip("--no-deps", "--editable", str(root))  # its dependencies would replace Colab's front end
    _pip(*needed(project))
    importlib.invalidate_caches()
    gpu = machine.gpu()  # through nvidia-ml-py, one of the dependencies
    cupy = _cupy(project["optional-dependencies"]) if gpu else []
    if cupy:
        _pip(*cupy)
    importlib.invalidate_caches()
    os.chdir(root / "book")
    print(
        f"The kernels run on a GPU: {gpu.model}."
        if gpu
        else "There is no GPU here: choose one under Runtime > Change runtime type, and run this "
        "cell again. Without one all chapters run as well, their kernels slowly, on the emulator."
    )


def needed(project: dict[str, Any]) -> list[str]:
    """What chapters need of a project's dependencies and of its extra `book`."""
    book = project["optional-dependencies"]["book"]
    return [*project["dependencies"], *(each for each in book if each.startswith(SHOWN_WITH))]


def _cupy(extras: dict[str, list[str]]) -> list[str]:
    """What to install for the GPU: nothing where a CuPy is there that is new enough."""
    for wanted in (extras["cuda12"], extras["cuda13"]):
        name, least = wanted[0].split("[")[0], wanted[0].split(">=")[1]
        with suppress(PackageNotFoundError):
            there = version(name).split(".")[:2]
            return [] if [*map(int, there)] >= [*map(int, least.split("."))] else wanted
    return extras["cuda13" if (machine.cuda_version() or 0) >= 13 else "cuda12"]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"pip install {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
