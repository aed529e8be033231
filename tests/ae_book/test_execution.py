"""Executing chapters where the surroundings are bad: another package on the path, a home that can't
be written to, warnings of libraries, two at once, interruption, death. Processes are real ones."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import numpy as np
import papermill
import psutil
import pytest
from papermill.clientwrap import PapermillNotebookClient

from ae_book.making import execution, inside, jupyter_kernel, runs
from ae_book.making.chapters import BookError
from ae_book.site import html
from ae_core.files import BusyError
from tests.ae_book.small_book import DECLARATION, PARAMETERS, quick, write_chapter
from tests.ae_core.test_files import HOLD
from tests.conftest import ROOT

NEW = shutil.ignore_patterns("__pycache__")


def shown(chapter: str) -> str:
    cells = nbformat.read(quick().executed(chapter), 4).cells
    return "".join(o.text for c in cells if c.cell_type == "code" for o in c.outputs)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- which package -------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path) -> Path:
    """Another clone of the package, older than this one."""
    folder = tmp_path / "clone"
    (folder / "ae_core").mkdir(parents=True)
    (folder / "ae_core" / "__init__.py").write_text("older = True\n")
    return folder


def test_the_kernel_imports_the_package_of_the_book_whatever_else_is_on_the_path(
    small_book, clone, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(clone))
    write_chapter(small_book, "a", PARAMETERS, "import ae_core; print(ae_core.__file__)")
    execution.execute(quick(), ["a"])
    assert shown("a") == f"{ROOT / 'ae_core' / '__init__.py'}\n"


def test_another_package_in_the_kernel_is_found_before_the_first_cell(
    small_book, clone, tmp_path, monkeypatch
):
    lines = f"import sys; sys.path.insert(0, {str(clone)!r}); import ae_core\n"
    (tmp_path / "sitecustomize.py").write_text(lines)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    write_chapter(small_book, "a", PARAMETERS, "open('began', 'w').close()")
    with pytest.raises(BookError) as caught:
        execution.execute(quick(), ["a"])
    assert (
        f"a: expected ae_core and ae_book from {inside.ROOT}, found in its kernel: {clone}/ae_core"
        in str(caught.value)
    )
    assert not (small_book / "book" / "began").exists()
    assert not quick().path("a").exists()


def test_another_package_that_a_cell_imports_is_found_after_the_last(small_book, clone):
    lines = (
        f"import sys; sys.path.insert(0, {str(clone)!r})\n"
        "for name in [n for n in sys.modules if n.startswith('ae_')]: del sys.modules[name]\n"
        "import ae_core; print(ae_core.older)"
    )
    write_chapter(small_book, "a", PARAMETERS, lines)
    with pytest.raises(BookError, match=rf"{inside.ROOT}, found in its kernel: {clone}"):
        execution.execute(quick(), ["a"])
    assert not quick().path("a").exists()


# --- surroundings --------------------------------------------------------------------------------

SURROUNDINGS = """
import os, pathlib, IPython.paths, matplotlib
import matplotlib.pyplot as plt
plt.plot([1, 2])
plt.close()
for folder in (pathlib.Path.home(), matplotlib.get_configdir(), IPython.paths.get_ipython_dir()):
    (pathlib.Path(folder) / "written").touch()
print(matplotlib.rcParams["lines.linewidth"], "users" in globals())
"""


def test_a_home_that_cannot_be_written_to_does_not_matter(small_book, monkeypatch):
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setenv("AE_CACHE_DIR", "/proc/none/cache")
    monkeypatch.setenv("CI", "1")
    write_chapter(small_book, "a", PARAMETERS, SURROUNDINGS)
    execution.execute(quick(), ["a"])


@pytest.mark.parametrize("given", ["", "/mine"])
def test_git_has_the_users_settings_where_the_home_is_another(tmp_path, monkeypatch, given):
    home, access = tmp_path / "home", os.access
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(os, "access", lambda path, how: path != home and access(path, how))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    assert "GIT_CONFIG_GLOBAL" not in execution._environment(tmp_path)
    (home / ".gitconfig").touch()
    if given:
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", given)
    found = execution._environment(tmp_path)
    assert found["HOME"] != str(home)
    assert found["GIT_CONFIG_GLOBAL"] == (given or str(home / ".gitconfig"))


def test_papermill_waits_as_long_as_a_busy_machine_may_take(small_book, monkeypatch):
    execute, seen = PapermillNotebookClient.execute, []

    def looked_at(client, **options):
        seen.append((client.startup_timeout, client.iopub_timeout, client.raise_on_iopub_timeout))
        return execute(client, **options)

    monkeypatch.setattr(PapermillNotebookClient, "execute", looked_at)
    execution.execute(quick(), ["a"])
    assert seen == [(jupyter_kernel.PATIENCE, jupyter_kernel.PATIENCE, True)]


def test_a_users_settings_do_not_change_what_a_chapter_shows(small_book, tmp_path, monkeypatch):
    startup = tmp_path / "home" / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "1.py").write_text("users = 1\n")
    (tmp_path / "start.py").write_text("users = 1\n")
    for folder in (tmp_path / "home" / ".config" / "matplotlib", tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "matplotlibrc").write_text("lines.linewidth: 77\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path / "matplotlibrc"))
    write_chapter(small_book, "a", PARAMETERS, SURROUNDINGS)
    execution.execute(quick(), ["a"])
    assert shown("a") == "1.5 False\n"


def test_a_temporary_folder_far_down_is_not_too_long_for_sockets(small_book, tmp_path, monkeypatch):
    far = tmp_path / ("x" * 120)
    far.mkdir()
    monkeypatch.setenv("TMPDIR", str(far))
    monkeypatch.setattr(tempfile, "tempdir", None)
    execution.execute(quick(), ["a"])
    assert shown("a") == "xxx\n"
    monkeypatch.setattr(tempfile, "tempdir", None)  # for the tests that follow


# --- what is written to stderr -------------------------------------------------------------------

WARN = f"""
import logging, warnings
warnings.warn_explicit("careful\\nwith this", UserWarning, {np.__file__!r}, 7)
"""
LOG = f"""
import logging
line = {{"name": "lib", "pathname": {np.__file__!r}, "levelno": 30}}
line |= {{"msg": "no %s", "args": ("font",)}}
logging.getLogger("lib").handle(logging.makeLogRecord(line))
"""


@pytest.mark.parametrize(
    ("cell", "told"),
    [(WARN, f"{np.__file__}: UserWarning: careful\nwith this"), (LOG, "lib: no font")],
)
def test_what_a_library_warns_of_is_told_and_not_published(
    small_book, monkeypatch, capsys, cell, told
):
    monkeypatch.delenv("CI", raising=False)
    write_chapter(small_book, "a", PARAMETERS, "print('first')", cell + "print('shown')")
    execution.execute(quick(), ["a"])
    assert f"a: cell 4: a library warned: {told}\n" in capsys.readouterr().out
    assert shown("a") == "first\nshown\n"
    monkeypatch.setenv("CI", "true")
    with pytest.raises(BookError, match="a: cell 4 wrote to stderr"):
        execution.execute(quick(), ["a"], force=True)


@pytest.mark.parametrize(
    "cell",
    [
        "import warnings; warnings.warn('careful')",
        "import logging; logging.warning('careful')",
        "import logging; logging.getLogger('mine').warning('careful')",
        f"import warnings; warnings.warn_explicit('careful', UserWarning, {inside.__file__!r}, 7)",
        "import sys; print('careful', file=sys.stderr)",
    ],
)
def test_what_is_ours_fails_the_chapter(small_book, monkeypatch, cell):
    monkeypatch.delenv("CI", raising=False)
    write_chapter(small_book, "a", PARAMETERS, cell)
    with pytest.raises(BookError, match=r"(?s)a: cell 3 wrote to stderr:\n.*careful"):
        execution.execute(quick(), ["a"])


# --- what failed, what others see ----------------------------------------------------------------


def test_a_copy_that_failed_can_be_looked_at_until_the_chapter_is_executed_again(small_book):
    execution.execute(quick(), ["a"])
    for number in (1, 2):
        write_chapter(small_book, "a", PARAMETERS, f"print('begun {number}')", "1 / 0")
        with pytest.raises(BookError, match="the copy so far: ") as caught:
            execution.execute(quick(), ["a"])
        copy = Path(str(caught.value).rpartition("the copy so far: ")[2])
        assert f"begun {number}" in copy.read_text()
        assert names(small_book / "runs") == ["quick", "quick.failed"]
    assert shown("a") == "xxx\n"
    write_chapter(small_book, "a", PARAMETERS, "print('mended')")
    execution.execute(quick(), ["a"])
    assert names(small_book / "runs") == ["quick"]
    assert names(small_book / "runs" / "quick") == ["a"]


def test_a_full_disk_is_told_in_a_line(small_book, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(papermill, "execute_notebook", full)
    with pytest.raises(BookError) as caught:
        execution.execute(quick(), ["a"])
    assert str(caught.value) == (
        f"{quick().path('a')}: can't be written: No space left on device: make room there, or name "
        f"another place"
    )
    assert names(quick().folder) == []


def test_drafts_of_an_edition_are_no_edition(small_book):
    (small_book / "editions" / ".card.ae-draft").mkdir(parents=True)
    assert runs.editions() == []


def test_html_that_has_faults_leaves_the_old_in_place(small_book, monkeypatch):
    execution.execute(quick(), [])
    old = small_book / "_build" / "html" / "index.html"
    old.parent.mkdir(parents=True)
    old.write_text("old")

    def build(runs, html):
        html.mkdir()
        raise BookError("it has faults")

    monkeypatch.setattr(html, "_build_all", build)
    with pytest.raises(BookError, match="it has faults"):
        html.build([quick()])
    assert old.read_text() == "old"
    assert names(old.parent.parent) == ["html"]


def test_html_is_built_by_one_process_at_a_time(small_book):
    execution.execute(quick(), [])
    target = small_book / "_build" / "html"
    command = [sys.executable, "-c", HOLD, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"claimed\n"
        with pytest.raises(BusyError, match=f"{target}: another process is writing it"):
            html.build([quick()])
        other.communicate(b"")


# --- two at once, interruption, death ------------------------------------------------------------

WAITING = """
import os, pathlib, time
pathlib.Path("began").write_text(str(os.getpid()))
while not pathlib.Path("go").exists():
    time.sleep(0.1)
print("gone on")
"""


class Checkout:
    """The small book with a copy of the package, for processes that run in it."""

    def __init__(self, root: Path, temporary: Path) -> None:
        for package in ("ae_core", "ae_book"):
            shutil.copytree(ROOT / package, root / package, dirs_exist_ok=True, ignore=NEW)
        with (root / "ae_book" / "making" / "parameters.py").open("a") as declarations:
            declarations.write(DECLARATION)
        self.root, self.temporary = root, temporary

    def start(self) -> subprocess.Popen[str]:
        """`ae_book execute`. A shell's background processes ignore SIGINT; this one does not."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        process = subprocess.Popen(
            [sys.executable, "-m", "ae_book", "execute"],
            cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(self.root), "TMPDIR": str(self.temporary)},
        )  # fmt: skip
        signal.signal(signal.SIGINT, before)
        return process

    def kernel(self, process: subprocess.Popen[str]) -> int:
        """The process of the chapter that waits, as soon as it does."""
        path = self.root / "book" / "began"
        while process.poll() is None and not (path.exists() and path.read_text()):
            time.sleep(0.1)
        assert process.poll() is None, process.communicate()
        return int(path.read_text())

    def left(self) -> list[str]:
        """All that is in the run, beside it and in the folder for temporary files."""
        folders = (self.root / "runs", self.root / "runs" / "quick", self.temporary)
        return [name for folder in folders for name in names(folder)]


@pytest.fixture
def checkout(small_book):
    """In it, the second chapter waits for a file."""
    write_chapter(small_book, "b", "x: int = 1  # number", WAITING)
    with tempfile.TemporaryDirectory(dir="/tmp") as temporary:
        yield Checkout(small_book, Path(temporary))


def alive(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_second_execution_of_a_run_is_refused_and_the_first_goes_on(checkout):
    first = checkout.start()
    checkout.kernel(first)
    second = checkout.start()
    _, told = second.communicate()
    assert second.returncode == 1
    assert f"error: {checkout.root}/runs/quick: another process is writing it: wait" in told
    (checkout.root / "book" / "go").touch()
    printed, told = first.communicate()
    assert (first.returncode, told) == (0, "")
    assert "b: done" in printed and shown("b") == "gone on\n"
    assert checkout.left() == ["quick", "a", "b"]


def test_ctrl_c_says_in_a_line_what_is_kept_and_ends_the_kernel(checkout):
    process = checkout.start()
    kernel = checkout.kernel(process)
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate()
    assert process.returncode == 130
    assert told == (
        "interrupted: b was being executed; finished chapters are kept; to go on, run: "
        "make book PRESET=quick\n"
    )
    assert "a: done" in printed and shown("a") == "xxx\n"
    assert not alive(kernel)
    assert checkout.left() == ["quick", "a"]


def test_after_a_kill_the_next_execution_removes_what_was_left(checkout):
    process = checkout.start()
    kernel = checkout.kernel(process)
    process.kill()
    process.communicate()
    assert ".quick.ae-draft" in checkout.left()
    while alive(kernel):  # it sees that its parent is gone
        time.sleep(0.1)
    (checkout.root / "book" / "go").touch()
    process = checkout.start()
    printed, told = process.communicate()
    assert (process.returncode, told) == (0, "")
    assert "a: up to date" in printed and "b: done" in printed
    assert checkout.left() == ["quick", "a", "b"]
