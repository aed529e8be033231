"""Where a chapter's copy for Colab is opened, and what its first cell does there and elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import types
from importlib.metadata import PackageNotFoundError, packages_distributions
from pathlib import Path

import pytest

from ae_book.making import chapters, freshness
from ae_book.site import colab
from ae_core import machine
from ae_core.errors import InputError
from tests.ae_book.small_book import git
from tests.conftest import ROOT

PREPARE = "def prepare():\n    print('prepared', __file__)\n"


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r"),
        ("https://github.com/o/r/", "https://github.com/o/r"),
        ("https://user:secret@github.com/o/r.git", "https://github.com/o/r"),
        ("git@github.com:o/r.git", "https://github.com/o/r"),
        ("ssh://git@github.com/o/r.name", "https://github.com/o/r.name"),
        ("ssh://git@github.com:22/o/r.git", "https://github.com/o/r"),
        ("git@git.example.org:group/sub/r.git", "https://git.example.org/group/sub/r"),
        ("/srv/git.d/r.git", None),
        ("file:///srv/git.d/r.git", None),
        ("../other.d/r", None),
        (None, None),
    ],
)
def test_the_repository_is_that_of_origin_without_anyones_password(tmp_path, remote, address):
    git(tmp_path, "init")
    if remote:
        git(tmp_path, "remote", "add", "origin", remote)
    assert colab.repository(tmp_path) == address


def test_a_folder_without_git_has_no_repository(tmp_path):
    assert colab.repository(tmp_path) is None


def test_colab_opens_what_is_published():
    assert colab.address("https://github.com/o/r", "01_problem") == (
        "https://colab.research.google.com/github/o/r/blob/gh-pages/colab/01_problem.ipynb"
    )


@pytest.fixture
def origin(tmp_path) -> Path:
    """A repository of two commits; in the first, `prepare` tells that it was called."""
    root = tmp_path / "origin"
    (root / "ae_book" / "site").mkdir(parents=True)
    (root / "ae_book" / "__init__.py").touch()
    (root / "ae_book" / "site" / "__init__.py").touch()
    (root / "ae_book" / "site" / "colab.py").write_text(PREPARE)
    git(root, "init")
    git(root, "add", ".")
    git(root, "commit", "-m", "one")
    (root / "ae_book" / "site" / "colab.py").write_text("1 / 0\n")
    git(root, "commit", "-a", "-m", "two")
    return root


def run_cell(tmp_path: Path, origin: Path, commit: str, before: str) -> subprocess.CompletedProcess:
    cell = colab.first_cell(origin.as_uri(), commit).replace("/content", str(tmp_path / "content"))
    return subprocess.run(
        [sys.executable, "-c", before + cell],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip


ON_A_GPU = {"cupy", "cupyx", "cudf", "cuml", "torch", "cuda"}
"""Optional: chapters do without."""
IN_COLAB = "import sys; sys.modules['google.colab'] = sys\n"


def test_the_first_cell_fetches_the_commit_and_can_be_run_again(tmp_path, origin):
    first = git(origin, "rev-parse", "HEAD~1")
    for _ in range(2):
        done = run_cell(tmp_path, origin, first, IN_COLAB)
        expected = tmp_path / "content" / "origin" / "ae_book" / "site" / "colab.py"
        assert (done.stdout, done.stderr) == (f"prepared {expected}\n", "")


def test_a_commit_that_was_not_pushed_is_told(tmp_path, origin):
    done = run_cell(tmp_path, origin, "1" * 40, IN_COLAB)
    assert f"RuntimeError: expected commit {'1' * 40} in {origin.as_uri()}: fatal:" in done.stderr


def test_outside_colab_the_first_cell_does_nothing(tmp_path, origin):
    done = run_cell(tmp_path, origin, git(origin, "rev-parse", "HEAD"), "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "content").exists()


def test_what_the_cell_calls_needs_the_standard_library_alone():
    program = "import ae_book.site.colab"
    command = [sys.executable, "-S", "-c", program]
    subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True)


@pytest.fixture
def pip(monkeypatch) -> list[list[str]]:
    """What would have been installed."""
    asked: list[list[str]] = []

    def run(command, **_):
        assert command[1:5] == ["-m", "pip", "install", "--quiet"]
        asked.append(command[5:])
        return types.SimpleNamespace(returncode=0)

    monkeypatch.setattr(colab.subprocess, "run", run)
    monkeypatch.chdir(ROOT)
    return asked


def drivers(monkeypatch, cuda: int | None, cupy: dict[str, str]) -> None:
    gpu = machine.Gpu("Tesla T4", "550.54", 2**34, "7.5") if cuda else None
    monkeypatch.setattr(machine, "gpu", lambda: gpu)
    monkeypatch.setattr(machine, "cuda_version", lambda: cuda)

    def version(name: str) -> str:
        if name not in cupy:
            raise PackageNotFoundError
        return cupy[name]

    monkeypatch.setattr(colab, "version", version)


def test_the_driver_is_asked_when_what_asks_it_was_installed(pip, monkeypatch):
    drivers(monkeypatch, 13, cupy={})
    installed: list[list[str]] = []
    monkeypatch.setattr(machine, "gpu", lambda: installed.extend(pip))
    colab.prepare()
    assert any(d.startswith("nvidia-ml-py") for asked in installed for d in asked)


def test_without_a_gpu_it_says_how_to_get_one(pip, monkeypatch, capsys):
    drivers(monkeypatch, None, cupy={})
    colab.prepare()
    editable, dependencies = pip
    assert editable == ["--no-deps", "--editable", str(ROOT)]
    assert {"numba>=0.61", "seaborn>=0.13", "myst-nb==1.4.0"} <= set(dependencies)
    assert not [d for d in dependencies if d.startswith(("sphinx", "jupyter", "ipython", "pypdf"))]
    assert Path.cwd() == ROOT / "book"
    assert "Change runtime type" in capsys.readouterr().out


def test_what_chapters_import_is_installed_or_is_the_front_ends_own():
    """Found in the text of the chapters and of all that they reach."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[<>=]", each)[0] for each in colab.needed(project)}
    imported = {name for c in chapters.names() for name in freshness.reach(c).libraries}
    where = packages_distributions()
    found = {d.lower() for name in imported - ON_A_GPU for d in where[name]}
    found = {name.replace("_", "-") for name in found}
    assert found - {name.lower().replace("_", "-") for name in wanted} == {
        *("ipython",),  # the front end
        *("cycler", "pydantic-core"),  # come with Matplotlib and Pydantic
    }


@pytest.mark.parametrize(
    ("cuda", "cupy", "installed"),
    [
        (12, {}, "cupy-cuda12x"),
        (13, {}, "cupy-cuda13x"),
        (14, {}, "cupy-cuda13x"),
        (12, {"cupy-cuda12x": "14.2.0"}, None),
        (13, {"cupy-cuda12x": "15.0"}, None),
        (13, {"cupy-cuda12x": "13.6.0"}, "cupy-cuda12x"),
    ],
)
def test_with_a_gpu_cupy_comes_if_it_is_missing_or_old(
    pip, monkeypatch, capsys, cuda, cupy, installed
):
    drivers(monkeypatch, cuda, cupy)
    colab.prepare()
    assert [asked[0].split("[")[0] for asked in pip[2:]] == ([installed] if installed else [])
    assert "GPU: Tesla T4" in capsys.readouterr().out


def test_pips_failure_is_told(monkeypatch):
    monkeypatch.setattr(colab.sys, "executable", "false")
    with pytest.raises(InputError, match="pip install --no-deps"):
        colab.prepare()
