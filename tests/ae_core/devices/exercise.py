"""Run every operation of CUDA phases in a process that a sanitizer watches.

On the emulator (the sanitizer's library must be preloaded, so not within pytest's own process):

    python -m tests.ae_core.devices.exercise address|thread|none KERNELS ORDER PHASE...

On a GPU, under NVIDIA's:

    compute-sanitizer --tool racecheck \\
        python -m tests.ae_core.devices.exercise cuda kernels - gpu-v1 gpu-v2
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ae_core import phases
from ae_core.devices.emulated import EmulatedDevice
from ae_core.devices.kernel_device import open_device
from tests.ae_core.phases import contracts


def main(sanitizer: str, kernels: str, order: str, *names: str) -> None:
    """All contracts, with all names in one process."""
    for name in names:
        if sanitizer == "cuda":
            device = open_device("cuda", Path(kernels))
        else:
            device = EmulatedDevice(Path(kernels), order, "" if sanitizer == "none" else sanitizer)
        contracts.everything(contracts.Subject(phases.operations(name, device), np.float32))
    print("all contracts kept")


if __name__ == "__main__":
    main(*sys.argv[1:])
