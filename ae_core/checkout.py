"""The checkout that this package runs from, and what git knows of it.

The package's own files decide, not the environment: git is asked about the folder that holds them,
whatever `GIT_DIR` says, and what it tells of a repository around that folder does not count.
Standard library only: in Colab, this is imported before the rest is installed.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

CODE = ("ae_core", "ae_book", "kernels", "book")
"""What a result depends on."""


class NotOursError(Exception):
    """Git has no answer about a folder; the message is one line that says why."""


@dataclass(frozen=True)
class Revision:
    """The commit that a checkout stands at."""

    commit: str | None
    modified: bool | None = None
    """Whether files that a result depends on differ from that commit, or are not in it."""
    missing: str = ""
    """Why there is no commit."""


def root() -> Path | None:
    """The root of the checkout that this package runs from; None for an installed wheel."""
    folder = Path(__file__).resolve().parents[1]
    return folder if (folder / "_toc.yml").exists() else None


def revision(folder: Path | None) -> Revision:
    """The commit of a checkout; none where its folder is not the root of a repository that has
    the package in it."""
    if not folder:
        return Revision(None, missing="the package is not in a checkout")
    try:
        commit, _ = git(folder, "rev-parse", "HEAD", "HEAD:ae_core").splitlines()
        new = "--untracked-files=normal"  # whatever the user's git is set to show
        return Revision(commit, bool(git(folder, "status", "--porcelain", new, "--", *CODE)))
    except NotOursError as error:
        return Revision(None, missing=str(error))


def origin(folder: Path) -> str | None:
    """The address of a checkout's remote `origin`; None if it has none."""
    try:
        return git(folder, "remote", "get-url", "origin")
    except NotOursError:
        return None


def git(folder: Path, *arguments: str) -> str:
    """What git says about the repository whose working tree has `folder` as its root.

    Raises:
        NotOursError: there is no such repository, git is not installed, or it failed.
    """
    if not (folder / ".git").exists():  # a linked worktree and a submodule have a file there
        raise NotOursError(f"{folder} is not a git repository")
    top = _run(folder, "rev-parse", "--show-toplevel")
    if Path(top).resolve() != folder.resolve():
        raise NotOursError(f"{folder} is not a git repository, but lies in one: {top}")
    return _run(folder, *arguments)


def _run(folder: Path, *arguments: str) -> str:
    kept = {k: v for k, v in os.environ.items() if k.startswith("GIT_CONFIG") or k[:4] != "GIT_"}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            env=kept | {"LC_ALL": "C"}, capture_output=True, check=False,
            encoding="utf8", errors="surrogateescape",
        )  # fmt: skip
    except OSError as error:
        raise NotOursError(f"git can't be run: {error.strerror}") from None
    if done.returncode:
        if "dubious ownership" in done.stderr:
            raise NotOursError(
                f"{folder} belongs to another user, so that git refuses it; run: "
                f"git config --global --add safe.directory {folder}"
            )
        first = next(iter(done.stderr.splitlines()), f"git {arguments[0]} failed")
        raise NotOursError(f"{folder}: {first}")
    return done.stdout.strip()
