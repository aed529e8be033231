"""Faults planted into copies of a kernel, and which orders of warps show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ae_core import files
from ae_core.devices.emulated import WARP_ORDERS, EmulatedDevice
from ae_core.devices.kernels import altered
from ae_core.phases.gpu_v1_batched import GpuBatched


def weight_gradient_with(faults: Mapping[str, tuple[str, str]]) -> list[dict[str, str]]:
    """v1's weight gradient with faults planted into copies of its kernel, on the emulator.

    Args:
        faults: by name, text of `conv_batched.cu` and what to put in its place.

    Returns:
        A row a fault: the distance from the right gradient, over its norm, in each order of warps.
    """
    plane = np.random.default_rng(0).standard_normal((1, 2, 16, 16), np.float32)

    def gradient(kernels: Path | None = None, order: str = "forward") -> npt.NDArray[np.float32]:
        device = EmulatedDevice(kernels, order)
        x, dw = device.empty(plane.shape), device.empty((2, 2, 3, 3))
        device.upload(plane, x)
        GpuBatched(device).conv2d_weight_gradient(x, x, dw)
        return device.download(dw)

    right, rows = gradient(), []
    with files.scratch() as folder:
        for name, (text, wrong) in faults.items():
            kernels, row = altered("conv_batched.cu", text, wrong, folder / name), {}
            for order in WARP_ORDERS:
                off = np.linalg.norm(gradient(kernels, order) - right) / np.linalg.norm(right)
                row[f"{order} order"] = f"{off:.2g}"
            rows.append({"planted fault": name, **row})
    return rows
