"""Facts of the machine: its processor and its card."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ae_core.errors import InputError

LONGEST = 300
"""Seconds to wait for a command."""
DeviceKind = Literal["cpu", "gpu", "emulator"]
"""What computes."""


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA card, as its driver names it."""

    model: str
    driver: str
    memory_bytes: int
    compute_capability: str


@dataclass(frozen=True)
class Memory:
    """Bytes held; None where a device has no memory of its own."""

    host: int
    """The process's peak."""
    device: int | None
    """The device's peak."""
    device_in_use: int | None = None
    """On the device, at the end."""


def cpu_model() -> str:
    """The processor's name, as well as the system knows it."""
    if sys.platform == "darwin":
        return output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def gpu() -> Gpu | None:
    """The first card that the driver lists; None without one."""
    fields = "name,driver_version,memory.total,compute_cap"
    answer = output("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits")
    try:
        model, driver, mebibytes, capability = (answer or "").splitlines()[0].split(", ")
        return Gpu(
            model=model,
            driver=driver,
            memory_bytes=int(mebibytes) * 2**20 if mebibytes.isdigit() else 0,
            compute_capability=capability,
        )
    except (IndexError, ValueError):
        return None


def lacking_for_rapids() -> str:
    """What this machine lacks for RAPIDS, and what to do; empty if nothing."""
    if not gpu():
        return "an NVIDIA GPU, found none; use scikit-learn"
    if not all(find_spec(name) for name in ("cuml", "cudf")):
        return "cuML and cuDF: pip install 'ae-core[rapids]'"
    return ""


def output(*command: str) -> str | None:
    """What a command prints; None if it is not there, or fails.

    Raises:
        InputError: it has not answered in minutes.
    """
    program = shutil.which(command[0])
    if not program:
        return None
    try:
        done = subprocess.run(
            (program, *command[1:]), capture_output=True, text=True, errors="replace",
            check=False, timeout=LONGEST,
        )  # fmt: skip
    except subprocess.TimeoutExpired:  # a driver that hangs: no machine is that slow
        raise InputError(
            f"{program}: expected an answer, found none in {LONGEST // 60} minutes: mend the "
            f"driver, or take it off the PATH to work without"
        ) from None
    except OSError as error:
        raise InputError(f"{program}: can't be run: {error.strerror}") from None
    return done.stdout.strip() if done.returncode == 0 else None
