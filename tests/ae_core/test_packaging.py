from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

from ae_book.__main__ import main
from ae_book.making import freshness
from ae_core.devices.kernels import kernels_directory

ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {
    "matplotlib": "matplotlib-base",
    "types-PyYAML": "types-pyyaml",
    "nvidia-cuda-nvrtc": "cuda-nvrtc",
}
USERS_PACKAGES = "jupyter jupyter-book cupy numpy matplotlib seaborn cuml cudf papermill"
OPTIONAL = {"cupy", "cupyx", "cudf", "cuml", "torch", "cuda"}
"""Imports of the extras, within functions."""
PACKAGES = ("ae_core", "ae_book")
CONDA_ONLY = {"python", "cuda-version", "gxx", "pip"}


def split(requirement: str) -> tuple[str, str]:
    """Name and version; `==`, conda's `=` and a trailing `.*` all mean the same here."""
    pattern = r"([\w-]+)(?:\[\w+\])?\s*([<>=]*)(.*)"
    name, relation, number = re.fullmatch(pattern, requirement.split(";", maxsplit=1)[0]).groups()
    return name, ("=" if relation in ("=", "==") else relation) + number.removesuffix(".*")


def test_the_conda_environment_lists_what_pyproject_lists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    own = [each for name in ("book", "dev", "nvrtc", "rapids") for each in extras[name]]
    own.remove("ae-core[book]")
    wanted = dict(map(split, [*project["dependencies"], *own]))
    wanted = {CONDA_NAMES.get(n, n).removesuffix("-cu13"): v for n, v in wanted.items()}
    wanted["cupy"] = split(extras["cuda13"][0])[1]

    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (from_pip,) = (entry["pip"] for entry in listed if isinstance(entry, dict))
    plain = [entry for entry in listed if isinstance(entry, str)]
    found = dict(map(split, [*plain, *from_pip]))
    assert {n: v for n, v in found.items() if n not in CONDA_ONLY} == wanted


def test_the_users_packages_are_all_there():
    listed = (ROOT / "environment.yml").read_text()
    for name in USERS_PACKAGES.split():
        assert re.search(rf"^  - {name}\b", listed, re.MULTILINE), name


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_the_kernels_and_nothing_else_of_the_repository(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    carried = {n.removeprefix("ae_core/") for n in names if n.startswith("ae_core/kernels/")}
    assert carried == {f"kernels/{path.name}" for path in (ROOT / "kernels").iterdir()}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {*PACKAGES}


def test_the_wheel_carries_all_of_both_packages(wheel):
    """Also what isn't Python: the emulator's sources, what prints the pages."""
    listed = subprocess.check_output(["git", "ls-files", *PACKAGES], cwd=ROOT, text=True)
    assert set(listed.splitlines()) <= set(zipfile.ZipFile(wheel).namelist())


def test_an_installed_wheel_works(wheel, tmp_path):
    """Outside the checkout, with the wheel's files alone: the package trains and finds kernels."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        "import ae_core\n"
        "from ae_core import checkout, phases; from ae_core.records import provenance\n"
        "from ae_core.devices.kernel_device import open_device\n"
        "from ae_core.devices.kernels import kernels_directory\n"
        "from ae_core.architecture import Architecture\n"
        "from ae_core.autoencoder import Autoencoder\n"
        f"assert ae_core.__file__.startswith({str(tmp_path)!r}), ae_core.__file__\n"
        "assert (kernels_directory() / 'README.md').exists()\n"
        "assert checkout.root() is None and provenance.current().commit is None\n"
        "network = Architecture(height=8, width=8, filters=(4, 3, 3, 4))\n"
        "Autoencoder(phases.create('cpu', network)).warm_up()\n"
        "Autoencoder(phases.create('gpu-v1', network, device='emulated')).warm_up()\n"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    environment["AE_CACHE_DIR"] = str(tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "ae_book", "make"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    told = "error: the chapters live in the repository: run this from a checkout of it\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", told)


@pytest.mark.parametrize("command", ["execute", "make", "html", "readme", "pdf", "zip"])
def test_without_the_books_packages_each_command_says_what_to_install(monkeypatch, capsys, command):
    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "ae_book.making.chapters", raising=False)
    monkeypatch.delattr("ae_book.making.chapters", raising=False)
    monkeypatch.setattr("warnings.formatwarning", None)  # which the command line replaces
    with pytest.raises(SystemExit) as ended:
        main([command])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line == (
        "error: expected the packages that make the book, found no yaml; run: "
        "pip install 'ae-core[book]', or in a checkout: pip install -e '.[book]'"
    )


def test_the_base_is_what_ae_core_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {split(each)[0].lower().replace("_", "-") for each in project["dependencies"]}
    texts = (path.read_text("utf8") for path in (ROOT / "ae_core").rglob("*.py"))
    imported = {name.split(".")[0] for text in texts for name in freshness.parsed(text).imports}
    imported -= {*sys.stdlib_module_names, *PACKAGES, *OPTIONAL}
    where = packages_distributions()
    found = {d.lower().replace("_", "-") for name in imported for d in where[name]}
    assert found - {"pydantic-core"} <= declared  # which comes with Pydantic


def test_the_checkout_finds_its_kernels():
    assert kernels_directory() == ROOT / "kernels"


def test_nothing_heavy_or_optional_is_imported_with_the_package():
    program = (
        "import sys, ae_core.commands.program\n"
        "import ae_core.training.loop\n"
        "from ae_core.measuring import benchmark, verification\n"
        "bad = {'cupy', 'torch', 'cuml', 'cudf', 'papermill', 'sphinx'} & set(sys.modules)\n"
        "sys.exit(', '.join(bad) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("answer", "extras"),
    [
        (None, ".[dev,nvrtc]"),
        ("| NVIDIA-SMI 580.1   Driver Version: 580.1   CUDA Version: 13.0 |", ".[dev,cuda13]"),
        ("| NVIDIA-SMI 610.2   KMD Version: 610.2   CUDA UMD Version: 13.3 |", ".[dev,cuda13]"),
        ("| NVIDIA-SMI 535.1   Driver Version: 535.1   CUDA Version: 12.2 |", ".[dev,cuda12]"),
        ("| NVIDIA-SMI 470.1   Driver Version: 470.1   CUDA Version: 11.4 |", ".[dev,nvrtc]"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the driver", ".[dev,nvrtc]"),
    ],
)
def test_make_picks_the_cuda_extra_by_the_driver(tmp_path, answer, extras):
    """What `make` would install, without installing it; an edition is measured with more."""
    assert installed(tmp_path, answer, "test") == extras
    book = extras.replace("dev", "book")
    assert installed(tmp_path, answer, "book") == installed(tmp_path, answer, "lab") == book
    more = book.replace("cuda13]", "cuda13,rapids,peer]")
    assert installed(tmp_path, answer, "edition", "NAME=x") == more


def installed(tmp_path, answer: str | None, *goal: str) -> str:
    if answer:
        (tmp_path / "nvidia-smi").write_text(f'#!/bin/sh\necho "{answer}"\n')
        (tmp_path / "nvidia-smi").chmod(0o755)
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *goal],
        cwd=ROOT, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (extras,) = re.findall(r"--editable '(.*)'", done.stdout)
    return str(extras)


def test_the_readmes_links_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#]+)\)", text)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
