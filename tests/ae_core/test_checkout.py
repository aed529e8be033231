"""Which commit is recorded: real repositories around, beside and in place of the package's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from ae_book.site import colab
from ae_core import checkout
from tests.ae_book.small_book import git
from tests.conftest import ROOT

PRINT_COMMIT = "from ae_core.records import provenance; print(provenance.current().commit)"
ADDRESS = "https://github.com/o/outer"


def unpack(folder):
    """A checkout as far as git sees it."""
    (folder / "ae_core").mkdir(parents=True)
    (folder / "ae_core" / "__init__.py").touch()
    return folder


def commit(folder) -> str:
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "--allow-empty", "-m", folder.name)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def outer(tmp_path):
    """Another project's repository, with an `origin`."""
    folder = tmp_path / "outer"
    folder.mkdir()
    commit(folder)
    git(folder, "remote", "add", "origin", ADDRESS)
    return folder


@pytest.fixture
def ours(outer):
    """A checkout that lies in another project's repository, and is one itself."""
    folder = unpack(outer / "ours")
    commit(folder)
    return folder


def test_a_repository_of_ours_tells_its_commit_and_whether_code_was_changed(ours):
    head = git(ours, "rev-parse", "HEAD")
    assert checkout.revision(ours) == checkout.Revision(head, modified=False)
    (ours / "notes.txt").write_text("no result depends on it")
    assert not checkout.revision(ours).modified
    (ours / "kernels").mkdir()
    (ours / "kernels" / "new.cu").touch()
    assert checkout.revision(ours) == checkout.Revision(head, modified=True)


def test_a_new_file_counts_also_where_git_is_set_not_to_show_it(ours):
    git(ours, "config", "status.showUntrackedFiles", "no")
    assert not checkout.revision(ours).modified
    (ours / "kernels").mkdir()
    (ours / "kernels" / "new.cu").touch()
    assert checkout.revision(ours).modified


def test_a_linked_worktree_tells_its_own_commit(ours, tmp_path):
    tree = tmp_path / "tree"
    git(ours, "worktree", "add", "-b", "other", str(tree))
    git(tree, "commit", "--allow-empty", "-m", "further")
    assert checkout.revision(tree).commit == git(tree, "rev-parse", "HEAD")
    assert checkout.revision(tree).commit != checkout.revision(ours).commit


@pytest.mark.parametrize("remains", [None, "folder", "file"])
def test_what_lies_in_anothers_repository_has_no_commit_and_no_origin(outer, remains):
    folder = unpack(outer / "unpacked")
    git(outer, "add", ".")
    git(outer, "commit", "-m", "a copy of it")
    if remains == "folder":
        (folder / ".git").mkdir()
    elif remains == "file":
        (folder / ".git").write_text("gitdir: /nowhere")
    found = checkout.revision(folder)
    assert (found.commit, found.modified) == (None, None)
    assert found.missing.startswith(str(folder))
    assert colab.repository(folder) is None
    assert colab.repository(outer) == ADDRESS


def test_a_repository_that_has_not_got_the_package_is_not_ours(outer):
    unpack(outer)
    found = checkout.revision(outer)
    assert found.commit is None and "HEAD" in found.missing


def test_without_a_repository_it_says_so(tmp_path):
    folder = unpack(tmp_path / "unpacked")
    assert checkout.revision(folder).missing == f"{folder} is not a git repository"
    assert checkout.revision(None).commit is None


@pytest.mark.parametrize("there", [True, False])
def test_the_environment_does_not_lead_git_elsewhere(outer, tmp_path, monkeypatch, there):
    folder = unpack(tmp_path / "checkout")
    expected = commit(folder) if there else None
    monkeypatch.setenv("GIT_DIR", str(outer / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(folder))
    monkeypatch.setenv("GIT_INDEX_FILE", str(outer / ".git" / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(outer / ".git" / "objects"))
    assert checkout.revision(folder).commit == expected
    assert checkout.origin(folder) is None


def test_records_carry_the_commit_of_the_package_that_runs(tmp_path, outer):
    """A second clone, run from the other project's folder, with its `GIT_DIR`."""
    clone = tmp_path / "clone"
    shutil.copytree(ROOT / "ae_core", clone / "ae_core", ignore=shutil.ignore_patterns("*.pyc"))
    (clone / "_toc.yml").touch()
    expected = commit(clone)
    done = subprocess.run(
        [sys.executable, "-c", PRINT_COMMIT], cwd=outer, check=True, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(clone), "GIT_DIR": str(outer / ".git")},
    )  # fmt: skip
    assert done.stdout == f"{expected}\n"


def test_without_git_there_is_no_commit(ours, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout.revision(ours).missing == "git can't be run: No such file or directory"
    assert checkout.origin(ours) is None


def test_a_checkout_of_another_user_is_told_with_the_remedy(ours, tmp_path, monkeypatch):
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'fatal: detected dubious ownership in' >&2; exit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    found = checkout.revision(ours)
    assert found.commit is None
    assert found.missing.endswith(f"git config --global --add safe.directory {ours}")
