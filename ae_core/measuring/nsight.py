"""Nsight Compute's figures of a phase's main kernels, where there are a GPU and `ncu`.

`python -m ae_core.measuring.nsight PHASE BATCH_SIZE` is the program that ncu watches: a training
step to warm up, and one of which it sees the convolutions.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from shutil import which

import numpy as np

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder
from ae_core.data.cifar10 import Dataset
from ae_core.devices.kernel_device import open_device
from ae_core.devices.kernels import DeviceError
from ae_core.phases.feed import Feed
from ae_core.records import KernelFigures, KernelsRecord, provenance

DURATION = "gpu__time_duration.sum"
OCCUPANCY = "sm__warps_active.avg.pct_of_peak_sustained_active"
ARITHMETIC = "sm__throughput.avg.pct_of_peak_sustained_elapsed"
MEMORY = "gpu__compute_memory_throughput.avg.pct_of_peak_sustained_elapsed"
REGISTERS = "launch__registers_per_thread"
METRICS = (DURATION, OCCUPANCY, ARITHMETIC, MEMORY, REGISTERS)
NANOSECONDS = 1e-9
SAMPLE = 14
"""Launches to look at: all convolutions of a step of v1 or v2; some of conv1 in the basic phase."""


def available() -> bool:
    """Whether ncu is installed."""
    return which("ncu") is not None


def measure(phase: str, dataset: Dataset, batch_size: int | None = None) -> KernelsRecord:
    """Run a phase under ncu and read what it says of the convolutions of one training step.

    The batch is what the phase is made for, unless `batch_size` says another.

    Raises:
        DeviceError: no GPU, no ncu, or ncu failed: with its last words.
    """
    if not available():
        raise DeviceError("expected ncu on the PATH, found none: it comes with the CUDA toolkit")
    facts, device = provenance.current(), open_device("cuda")
    batch_size = batch_size or phases.named(phase).batch_size
    command = ["ncu", "--csv", "--clock-control", "none", "--metrics", ",".join(METRICS)]
    command += ["--profile-from-start", "off", "--launch-count", str(SAMPLE)]
    command += [sys.executable, "-m", "ae_core.measuring.nsight", phase, str(batch_size)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DeviceError(
            f"{which('ncu')}: can't be run ({error.strerror}): install it anew"
        ) from None
    try:
        rows = () if done.returncode else tuple(figures(done.stdout.splitlines()))
    except (KeyError, ValueError) as error:  # also what pydantic raises
        raise DeviceError(
            f"ncu: expected {', '.join(METRICS)} of each launch, "
            f"found another answer ({error!r:.80})"
        ) from None
    if not rows:
        words = (done.stdout + done.stderr).strip().splitlines()[-3:]
        raise DeviceError(f"ncu failed: {' / '.join(words) or 'it said nothing'}")
    return KernelsRecord(
        provenance=facts,
        dataset=dataset.identity,
        device=device.name,
        device_kind=device.kind,
        memory=device.memory(),
        phase=phase,
        batch_size=batch_size,
        architecture=Architecture(),
        kernels=rows,
    )


def figures(lines: Iterable[str]) -> Iterator[KernelFigures]:
    """What ncu's CSV says, a launch at a time; lines of other kinds are passed over."""
    launches: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(line for line in lines if line.startswith('"')):
        launch = launches.setdefault(row["ID"], {})
        launch["kernel"] = row["Kernel Name"].split("(")[0].removeprefix("void ")
        launch["grid"] = row["Grid Size"]
        launch[row["Metric Name"]] = row["Metric Value"].replace(",", "")
    for launch in launches.values():
        yield KernelFigures(
            kernel=launch["kernel"],
            grid=launch["grid"],
            seconds=float(launch[DURATION]) * NANOSECONDS,
            occupancy=float(launch[OCCUPANCY]) / 100,
            arithmetic=float(launch[ARITHMETIC]) / 100,
            memory_traffic=float(launch[MEMORY]) / 100,
            registers=int(launch[REGISTERS]),
        )


def walk(autoencoder: Autoencoder, start: Callable[[], object], stop: Callable[[], object]) -> None:
    """Run one training step; `start` is called before each of its convolutions, `stop` after it."""
    for step in autoencoder.steps(autoencoder.batch_size):
        if step.kind != "convolution":
            step.run()
            continue
        autoencoder.device.synchronize()
        start()
        step.run()
        autoencoder.device.synchronize()
        stop()


def main(phase: str, batch_size: int) -> None:
    """A step to warm up, and a step to look at."""
    import cupy  # noqa: PLC0415

    device = open_device("cuda")
    autoencoder = Autoencoder(phases.create(phase, batch_size=batch_size, device=device))
    image = autoencoder.architecture.layers[0].output
    pixels = np.random.default_rng(0).integers(0, 256, (batch_size, *image), np.uint8)
    autoencoder.take_from(Feed(device, pixels))
    autoencoder.warm_up()
    walk(autoencoder, cupy.cuda.runtime.profilerStart, cupy.cuda.runtime.profilerStop)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
