"""Tensor maps: how a Hopper GPU's copy engine finds a box (`kernels/hopper.cuh`)."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

import numpy as np

from ae_core.devices.device import Array
from ae_core.devices.kernel_device import KernelDevice
from ae_core.devices.kernels import DeviceError

CUDA_TYPES = {"bfloat16": 9, "float16": 6, "float32": 7, "int32": 3, "uint8": 0}
"""CUtensorMapDataType by the name of NumPy's dtype."""
CUDA_SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}
"""CUtensorMapSwizzle by the bytes of a row."""
L2_PROMOTION_128_BYTES = 2
MAP_BYTES, MAP_ALIGNMENT = 128, 64
EMULATED_MAGIC = 0x54454E53
MOST_DIMENSIONS = 5


def tensor_map(device: KernelDevice, array: Array, box: Sequence[int], swizzle: int = 128) -> bytes:
    """The map of a device array for loads and stores of boxes, to be passed to a kernel by value.

    A box element outside the array is zero when loaded and left out when stored. In the kernel,
    coordinates begin with the last axis, whose own is a multiple of 16 bytes.

    Args:
        device: where the array is.
        array: 1 to 5 axes, bfloat16, float16, float32, int32 or uint8; the last axis is dense, the
            strides of others are multiples of 16 bytes. A view will do.
        box: elements along each axis of the array, 1 to 256; the last axis in whole 16 bytes, and
            at most `swizzle` bytes.
        swizzle: 32, 64 or 128 exchanges 16-byte chunks among rows of that many bytes in shared
            memory; 0 leaves them in order.

    Returns:
        128 bytes, CUDA's CUtensorMap or the emulator's own. They hold the array's address, so the
        array must outlive them.

    Raises:
        DeviceError: what no map can describe, or the driver refuses.
    """
    shape, strides = tuple(array.shape), tuple(array.strides)
    item, address = array.dtype.itemsize, device.address(array)
    _check(shape, strides, tuple(box), swizzle, array.dtype, address)
    extents, boxes, steps = shape[::-1], tuple(box)[::-1], strides[-2::-1]
    if device.kind == "emulator":
        missing = MOST_DIMENSIONS - len(shape)
        return struct.pack(
            "<5Q5I5I4I32x",
            *(address, *steps, *[0] * missing),
            *(*extents, *[1] * missing),
            *(*boxes, *[1] * missing),
            *(len(shape), item, swizzle, EMULATED_MAGIC),
        )
    rank = len(shape)
    memory = ctypes.create_string_buffer(MAP_BYTES + MAP_ALIGNMENT)
    start = -ctypes.addressof(memory) % MAP_ALIGNMENT
    numbers, large_numbers = ctypes.c_uint32 * rank, ctypes.c_uint64 * rank
    error = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled(
        ctypes.c_void_p(ctypes.addressof(memory) + start),
        CUDA_TYPES[array.dtype.name],
        rank,
        ctypes.c_void_p(address),
        large_numbers(*extents),
        large_numbers(*steps),
        numbers(*boxes),
        numbers(*[1] * rank),
        0,  # not interleaved
        CUDA_SWIZZLES[swizzle],
        L2_PROMOTION_128_BYTES,
        0,  # zeros outside
    )
    if error:
        raise DeviceError(
            f"tensor map: the driver refused shape {shape}, strides {strides}, box {tuple(box)}, "
            f"swizzle {swizzle} (cuTensorMapEncodeTiled: error {error}): expected a Hopper GPU"
            f" or later"
        )
    return memory.raw[start : start + MAP_BYTES]


def _check(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    box: tuple[int, ...],
    swizzle: int,
    dtype: np.dtype,
    address: int,
) -> None:
    """The rules of cuTensorMapEncodeTiled, which tells no reason."""

    def expect(right: bool, expected: str, found: object) -> None:
        if not right:
            raise DeviceError(f"tensor map: expected {expected}, found {found}")

    names = ", ".join(CUDA_TYPES)
    expect(dtype.name in CUDA_TYPES, f"one of {names}", dtype.name)
    expect(1 <= len(shape) <= MOST_DIMENSIONS, "1 to 5 axes", len(shape))
    expect(len(box) == len(shape), f"a box of {len(shape)} numbers", box)
    expect(swizzle in CUDA_SWIZZLES, "swizzle 0, 32, 64 or 128", swizzle)
    expect(address % 16 == 0, "an address that is a multiple of 16", address)
    expect(all(1 <= n <= 2**32 for n in shape), "axes of 1 to 2^32 elements", shape)
    expect(all(1 <= n <= 256 for n in box), "a box of 1 to 256 elements along each axis", box)
    expect(strides[-1] == dtype.itemsize, "a dense last axis", f"strides {strides}")
    outer = strides[:-1]
    expect(
        all(0 < stride < 2**40 and stride % 16 == 0 for stride in outer),
        "strides that are multiples of 16 bytes",
        f"strides {strides}",
    )
    width = box[-1] * dtype.itemsize
    expect(width % 16 == 0, "a box whose last axis has whole 16 bytes", f"{width} bytes")
    expect(
        not swizzle or width <= swizzle,
        f"a box whose last axis has at most {swizzle} bytes, as its swizzle",
        f"{width} bytes",
    )
