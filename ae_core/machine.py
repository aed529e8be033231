"""Facts of the machine: its processor and its card."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, Literal, TypeVar

from ae_core.errors import InputError

LONGEST = 300
"""Seconds to wait for the driver's answer."""
DeviceKind = Literal["cpu", "gpu", "emulator"]
"""What computes."""
Fact = TypeVar("Fact")


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA card, as its driver names it."""

    model: str
    driver: str
    memory_bytes: int
    """0 where the driver does not tell."""
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
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        with suppress(OSError, subprocess.CalledProcessError):
            return subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.strip()
        return platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def gpu() -> Gpu | None:
    """The first card that the driver lists; None without a card, a driver or nvidia-ml-py.

    Raises:
        InputError: the driver has not answered in minutes.
    """
    return _told_by_driver(_first_card)


def cuda_version() -> int | None:
    """The newest CUDA major version that the driver runs; None where `gpu` tells none.

    Raises:
        InputError: the driver has not answered in minutes.
    """
    return _told_by_driver(lambda nvml: int(nvml.nvmlSystemGetCudaDriverVersion()) // 1000)


def lacking_for_rapids() -> str:
    """What this machine lacks for RAPIDS, and what to do; empty if nothing."""
    if not gpu():
        return "an NVIDIA GPU, found none; use scikit-learn"
    if not all(find_spec(name) for name in ("cuml", "cudf")):
        return "cuML and cuDF: pip install 'ae-core[rapids]'"
    return ""


def _first_card(nvml: Any) -> Gpu:
    card = nvml.nvmlDeviceGetHandleByIndex(0)
    memory = 0
    with suppress(nvml.NVMLError_NotSupported):  # of a card that shares the processor's memory
        memory = int(nvml.nvmlDeviceGetMemoryInfo(card).total)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(card)
    return Gpu(
        model=nvml.nvmlDeviceGetName(card),
        driver=nvml.nvmlSystemGetDriverVersion(),
        memory_bytes=memory,
        compute_capability=f"{major}.{minor}",
    )


def _told_by_driver(question: Callable[[Any], Fact]) -> Fact | None:
    """What NVML answers; None if it is not there, or answers with an error."""
    try:
        import pynvml  # noqa: PLC0415
    except ImportError:
        return None
    answers: list[Fact] = []

    def ask() -> None:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            try:
                answers.append(question(pynvml))
            finally:
                pynvml.nvmlShutdown()

    asking = Thread(target=ask, daemon=True)  # a driver that hangs must not hang the program
    asking.start()
    asking.join(LONGEST)
    if asking.is_alive():
        raise InputError(
            f"NVIDIA driver: expected an answer, found none in {LONGEST // 60} minutes: mend the "
            f"driver, or uninstall nvidia-ml-py to work without"
        )
    return answers[0] if answers else None
