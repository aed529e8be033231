"""When, on what and from which code something was measured."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt

PACKAGES = ("ae-core", "numpy", "numba", "cupy-cuda12x", "cupy-cuda13x", "torch", "cuml-cu13")
RUNS_VARIABLE = "AE_RUNS_DIR"
COMMAND_VARIABLE = "AE_COMMAND"


class Model(BaseModel):
    """Immutable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)


class Gpu(Model):
    """An NVIDIA card, as its driver names it."""

    model: str
    driver: str
    memory_bytes: PositiveInt
    compute_capability: str


class Provenance(Model):
    """When, on what and from which code a record was made."""

    created: datetime
    command: str
    """What a person types to make it again."""
    commit: str | None
    """Git commit of the package; None outside a checkout."""
    modified: bool | None
    """Whether tracked files differed from that commit."""
    system: str
    python: str
    cpu: str
    cores: PositiveInt
    memory_bytes: PositiveInt
    gpu: Gpu | None
    versions: dict[str, str]


def runs_directory() -> Path:
    """Where this run's records go: `AE_RUNS_DIR`, else `runs/own` in the checkout or here."""
    named = os.environ.get(RUNS_VARIABLE)
    root = checkout() or Path.cwd()
    return Path(named) if named else root / "runs" / "own"


def checkout() -> Path | None:
    """The root of the checkout that this package runs from; None for an installed wheel."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "_toc.yml").exists() else None


def current(command: str | None = None) -> Provenance:
    """The facts of this machine, this code and this moment."""
    root = checkout()
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD") if root else None
    changes = (
        _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
        if commit
        else None
    )
    return Provenance(
        created=datetime.now(UTC).replace(microsecond=0),
        command=command or os.environ.get(COMMAND_VARIABLE) or _command_line(),
        commit=commit or None,
        modified=None if changes is None else bool(changes),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpu=_gpu(),
        versions=_versions(),
    )


def _command_line() -> str:
    program, *arguments = sys.argv
    if Path(program).name == "__main__.py":
        return shlex.join(["python", "-m", "ae_core", *arguments])
    return shlex.join([Path(program).name, *arguments])


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu() -> Gpu | None:
    """The first card that the driver lists."""
    fields = "name,driver_version,memory.total,compute_cap"
    answer = _output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    try:
        model, driver, mebibytes, capability = (answer or "").splitlines()[0].split(", ")
        return Gpu(
            model=model,
            driver=driver,
            memory_bytes=int(mebibytes) * 2**20,
            compute_capability=capability,
        )
    except (IndexError, ValueError):
        return None


def _output(*command: str) -> str | None:
    """What a command prints; None if it is not there or fails."""
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else None
