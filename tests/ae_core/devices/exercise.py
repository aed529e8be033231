"""Run every operation of CUDA phases, or a step that fuses, where a sanitizer watches.

On the emulator (the sanitizer's library must be preloaded, so not within pytest's own process):

    python -m tests.ae_core.devices.exercise address|thread|none KERNELS ORDER PHASE...

On a GPU, under NVIDIA's:

    compute-sanitizer --tool racecheck \\
        python -m tests.ae_core.devices.exercise cuda kernels - gpu-v1 gpu-v2
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder
from ae_core.devices.emulated import EmulatedDevice
from ae_core.devices.kernel_device import KernelDevice, open_device
from ae_core.phases.feed import Feed
from tests.ae_core.phases import contracts

SMALL = Architecture(height=8, width=8, filters=(6, 4, 4, 6))


def main(sanitizer: str, kernels: str, order: str, *names: str) -> None:
    """All contracts, with all names in one process."""
    os.environ.pop("LD_PRELOAD", None)  # the compiler needs no sanitizer
    for name in names:
        if sanitizer == "cuda":
            device = open_device("cuda", Path(kernels))
        else:
            device = EmulatedDevice(Path(kernels), order, "" if sanitizer == "none" else sanitizer)
        if phases.named(name).layered:
            contracts.everything(contracts.Subject(phases.operations(name, device), np.float32))
        else:
            train(name, device)
    print("all contracts kept")


def train(name: str, device: KernelDevice) -> None:
    """A step of a plan of its own, after one that leaves part of the batch unused."""
    autoencoder = Autoencoder(phases.create(name, SMALL, 3, device))
    autoencoder.take_from(Feed(device, np.full((5, 3, 8, 8), 0.5, np.float32)))
    autoencoder.learning_rate = 0.01
    for images in (2, 3):
        autoencoder.step(images)
    assert np.isfinite(autoencoder.reconstruct(np.full((1, 3, 8, 8), 0.5, np.float32))).all()


if __name__ == "__main__":
    main(*sys.argv[1:])
