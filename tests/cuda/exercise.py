"""Run every operation of CUDA phases on the emulator, for a process that a sanitizer watches.

python -m tests.cuda.exercise SANITIZER KERNELS ORDER PHASE...

The sanitizer's library must be preloaded, so this can't be done within pytest's own process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ae_core import phases
from ae_core.cuda.emulated import EmulatedDevice
from tests.phases import contracts


def main(sanitizer: str, kernels: str, order: str, *names: str) -> None:
    """All contracts, with all names in one process."""
    for name in names:
        device = EmulatedDevice(Path(kernels), order, "" if sanitizer == "none" else sanitizer)
        contracts.everything(contracts.Subject(phases.create(name, device), np.float32))
    print("all contracts kept")


if __name__ == "__main__":
    main(*sys.argv[1:])
