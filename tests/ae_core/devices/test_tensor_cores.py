"""Wrapped instructions (bf16, mma, mbarriers, tensor maps, wgmma), emulated; and their faults."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ae_core import machine
from ae_core.devices.cuda import CudaDevice
from ae_core.devices.emulated import WARP_ORDERS, EmulatedDevice
from ae_core.devices.kernels import DeviceError, KernelSource, kernels_directory
from ae_core.devices.tensor_map import tensor_map

KERNELS = Path(__file__).parent / "kernels"
BF16 = np.dtype(ml_dtypes.bfloat16)
STAGES, DEPTH = 3, 64
PLACES = [*WARP_ORDERS, *(["cuda"] if machine.gpu() else [])]
"""The emulator in its orders, and a Hopper card where there is one."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The kernels' headers with the tests' own kernels."""
    folder = tmp_path_factory.mktemp("sources") / "kernels"
    shutil.copytree(kernels_directory(), folder)
    shutil.copytree(KERNELS, folder, dirs_exist_ok=True)
    return folder


class Card(CudaDevice):
    """A GPU that takes host arrays as well: what it computes is in them when it is done."""

    def __init__(self, folder):
        super().__init__(folder)
        self.copies = {}

    def address(self, array):
        if isinstance(array, np.ndarray):
            if id(array) not in self.copies:
                self.copies[id(array)] = (array, self.empty(array.shape, array.dtype))
                self.upload(*self.copies[id(array)])
            _, array = self.copies[id(array)]
        return super().address(array)

    def synchronize(self):
        super().synchronize()
        for host, copy in self.copies.values():
            host[...] = self.download(copy)


def at(place, folder):
    return Card(folder) if place == "cuda" else EmulatedDevice(folder, place)


def launch(device, file, kernel, grid, block, args, shared_bytes=0):
    """Arrays are passed by address: they may be bf16."""
    architecture = "90a" if file.startswith("hopper") else None
    loaded = device.load(KernelSource(file, (kernel,), architecture))[kernel]
    passed = [device.address(a) if isinstance(a, np.ndarray) else a for a in args]
    device.launch(
        loaded, (*grid, *(1,) * (3 - len(grid))), (block, 1, 1), passed, None, shared_bytes
    )
    device.synchronize()


def aligned(shape, dtype=np.float32, fill=np.nan):
    """An array at a multiple of 128 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + 128, np.uint8)
    start = -memory.ctypes.data % 128
    array = memory[start : start + size].view(dtype).reshape(shape)
    array[...] = fill
    return array


def placed(values, dtype=np.float32):
    array = aligned(np.shape(values), dtype)
    array[...] = values
    return array


# bf16


def round_on(device, kernel, values, dtype, count):
    y = aligned(len(values), dtype, 0)
    launch(device, "numbers.cu", kernel, (-(-count // 256),), 256, (placed(values), y, count))
    return y


@pytest.mark.parametrize("place", PLACES[::3])
def test_every_bf16_widens_and_rounds_to_itself(place, folder):
    every = np.arange(65536, dtype=np.uint16).view(BF16)
    device = at(place, folder)
    wide = aligned(65536)
    launch(device, "numbers.cu", "widen", (256,), 256, (every, wide, 65536))
    np.testing.assert_array_equal(wide, every.astype(np.float32))
    again = round_on(device, "round_to_bf16", wide, BF16, 65536)
    np.testing.assert_array_equal(again.astype(np.float32), every.astype(np.float32))
    nan = np.isnan(wide)
    np.testing.assert_array_equal(again.view(np.uint16)[~nan], np.arange(65536)[~nan])
    assert (again.view(np.uint16)[nan] == 0x7FFF).all() and nan.sum() == 254


@pytest.mark.parametrize("place", PLACES[::3])
@pytest.mark.parametrize("kernel", ["round_to_bf16", "round_pairs"])
def test_floats_round_to_the_nearest_bf16_and_ties_to_even(place, folder, random, kernel):
    bits = random.integers(0, 2**32, 1 << 16, dtype=np.uint32)
    bits[: 1 << 14] = bits[: 1 << 14] & 0xFFFF0000 | 0x8000  # ties
    bits[1 << 14 : 1 << 15] |= 0x7FFF  # just below or above
    bits[:8] = [0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0x7F800001, 0xFFFFFFFF, 0, 0x80000000, 1]
    values = bits.view(np.float32)
    count = len(values) // (2 if kernel == "round_pairs" else 1)
    rounded = round_on(at(place, folder), kernel, values, BF16, count).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = values.astype(BF16).astype(np.float32)
    np.testing.assert_array_equal(rounded, expected)


# Dynamic shared memory


def reversed_blocks(device, blocks=3, threads=64, shared_bytes=256):
    x = placed(np.arange(blocks * threads))
    y = aligned((blocks, threads))
    launch(device, "numbers.cu", "reverse", (blocks,), threads, (x, y), shared_bytes)
    return y, x.reshape(blocks, threads)[:, ::-1]


@pytest.mark.parametrize("place", PLACES)
def test_dynamic_shared_memory_is_the_blocks_own(folder, place):
    np.testing.assert_array_equal(*reversed_blocks(at(place, folder)))


def test_more_dynamic_shared_memory_than_a_block_can_have_is_refused(folder):
    device = EmulatedDevice(folder)
    reversed_blocks(device, shared_bytes=227 * 1024)
    with pytest.raises(DeviceError, match="reverse: expected at most 227 KiB of dynamic"):
        reversed_blocks(device, shared_bytes=227 * 1024 + 1)


# What a kernel computes in each order, right or with a fault planted


def bf16_operands(random, m, n, depth):
    a, b = random.standard_normal((m, depth)), random.standard_normal((depth, n))
    return placed(a, BF16), placed(b, BF16)


def exact(a, b):
    return a.astype(np.float64) @ b.astype(np.float64)


def rounded(device, random):
    x, y = placed(np.float32([1 + 2**-8, 1 + 3 * 2**-8, 1.01])), aligned(3, BF16)
    launch(device, "numbers.cu", "round_to_bf16", (1,), 32, (x, y, 3))
    return y.astype(np.float32), x.astype(BF16).astype(np.float32), 0


def dynamic(device, random):
    return *reversed_blocks(device), 0


def few_bytes(device, random):
    return *reversed_blocks(device, shared_bytes=252), 0


def ampere_bf16(device, random):
    a, b = bf16_operands(random, 64, 32, 80)
    c = aligned((64, 32))
    launch(device, "ampere_product.cu", "product_bf16", (2, 2), 128, (a, b, c, 32, 80))
    return c, exact(a, b), 1e-4


def ampere_tf32(device, random):
    a, b = placed(random.standard_normal((32, 24))), placed(random.standard_normal((24, 32)))
    c = aligned((32, 32))
    launch(device, "ampere_product.cu", "product_tf32", (2, 1), 128, (a, b, c, 32, 24))

    def tf32(x):
        return ((x.view(np.uint32) + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32)

    return c, exact(tf32(a), tf32(b)), 1e-4


def hopper(device, random, n=64, transposed_a=False, transposed_b=False, swizzle=128):
    m, depth = 128, 5 * DEPTH  # more steps than stages
    a, b = bf16_operands(random, m, n, depth)
    stored_a = placed(a.T, BF16) if transposed_a else a
    stored_b = b if transposed_b else placed(b.T, BF16)
    c = aligned((m, n))
    maps = (
        tensor_map(device, stored_a, (DEPTH, DEPTH), swizzle),
        tensor_map(device, stored_b, (DEPTH if transposed_b else n, DEPTH), swizzle),
    )
    name = f"product<{n}, {str(transposed_a).lower()}, {str(transposed_b).lower()}>"
    shared = STAGES * (64 + n) * DEPTH * 2
    launch(device, "hopper_product.cu", name, (m // 64,), 256, (*maps, c, depth), shared)
    return c, exact(a, b), 1e-3


def hopper_transposed(device, random):
    return hopper(device, random, 128, True, True)


def hopper_unswizzled(device, random):
    """The kernel's descriptors say otherwise."""
    return hopper(device, random, swizzle=0)


def small(device, random, swizzle=0):
    a, b = bf16_operands(random, 64, 8, 16)
    c = aligned((64, 8))
    args = (a, placed(b.T, BF16), c)
    launch(device, "hopper_pieces.cu", f"small_product<{swizzle}>", (1,), 128, args, 16384)
    return c, exact(a, b), 1e-4


def small_swizzled(device, random):
    return small(device, random, 64)


def tiles(device, random):
    x, y = placed(random.standard_normal((36, 32))), aligned((36, 32))
    maps = (tensor_map(device, array, (8, 32), 0) for array in (x, y))
    launch(device, "hopper_pieces.cu", "double_by_tiles", (1,), 64, (*maps, 5), 1024)
    return y, 2 * x, 0


def box(device, random):
    x, y = placed(random.standard_normal((16, 32))), aligned((8, 32))
    args = (tensor_map(device, x, (8, 32), 0), y, 1024, 0, 8, 0, 0)
    launch(device, "hopper_pieces.cu", "load_box<2>", (1,), 32, args, 1024)
    return y, x[8:], 0


def hand_over(device, random):
    x, y = placed(random.standard_normal(160)), aligned(160)
    launch(device, "hopper_pieces.cu", "hand_over", (1,), 64, (x, y, 5))
    return y, x + np.float32(1), 0


def elections(device, random):
    y = aligned(3)
    launch(device, "hopper_pieces.cu", "elections", (1,), 96, (y,))
    return y, np.ones(3), 0


RIGHT = [
    *(ampere_bf16, ampere_tf32, hopper, hopper_transposed, small, small_swizzled),
    *(tiles, hand_over, elections),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("compute", RIGHT)
def test_it_is_right_in_every_order_and_on_a_card(compute, place, folder, random):
    found, expected, tolerance = compute(at(place, folder), random)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("n", "transposed_a", "transposed_b"),
    [(8, False, False), (256, False, False), (256, False, True), (64, True, False)],
)
@pytest.mark.parametrize("place", PLACES[::3])
def test_wgmma_has_many_shapes(place, n, transposed_a, transposed_b, folder, random):
    found, expected, tolerance = hopper(at(place, folder), random, n, transposed_a, transposed_b)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("place", PLACES[::3])
@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
def test_operands_lie_in_shared_memory_as_every_swizzle_has_them(swizzle, place, folder, random):
    found, expected, tolerance = small(at(place, folder), random, swizzle)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def outcome(compute, device, random) -> str:
    """right, wrong, NaN, or the error in a line."""
    try:
        found, expected, tolerance = compute(device, random)
    except DeviceError as error:
        assert "\n" not in str(error)
        return str(error)
    if np.isnan(found).any():
        return "NaN"
    return "right" if np.allclose(found, expected, rtol=0, atol=tolerance) else "wrong"


@dataclass(frozen=True)
class Fault:
    """A change to a copy of a kernel, and what tells of it in at least one order."""

    name: str
    compute: Callable
    file: str
    right: str
    wrong: str
    evidence: str


NUMBERS, AMPERE, HOPPER = "numbers.cu", "ampere_product.cu", "hopper_product.cu"
PIECES = "hopper_pieces.cu"
FULL_WAIT = "mbarrier_wait(&full[stage], round & 1);"
DONE, WRITE = (
    "    wgmma_wait<0>();  // all products are done\n",
    "    write_rows<N>(sums, c + int64(row0) * N);\n",
)
ARRIVED, READ_BOX = "    mbarrier_wait(&arrived, 0);\n", "    copy_box(memory, y, bytes);\n"
FAULTS = [
    Fault("dynamic: no barrier", dynamic, NUMBERS, "__syncthreads();", "", "NaN"),
    Fault("dynamic: too few bytes", few_bytes, NUMBERS, "", "", "wrote behind the end of dynamic"),
    Fault(
        *("dynamic: read behind the end", dynamic, NUMBERS),
        *("blockDim.x - 1 - threadIdx", "blockDim.x - threadIdx", "NaN"),
    ),
    Fault(
        *("dynamic: what the block before left", dynamic, NUMBERS),
        *("    values[threadIdx.x] = x", "    if (blockIdx.x == 0) values[threadIdx.x] = x", "NaN"),
    ),
    Fault("bf16: cut off", rounded, "portable.cuh", "+ 0x7fff + (all >> 16 & 1)", "", "wrong"),
    Fault(
        "bf16: ties upwards", rounded, "portable.cuh", "0x7fff + (all >> 16 & 1)", "0x8000", "wrong"
    ),
    Fault("cp.async: no wait", ampere_bf16, AMPERE, "copy_async_wait<1>();", "", "NaN"),
    Fault("cp.async: a wait too short", ampere_bf16, AMPERE, "wait<1>", "wait<2>", "NaN"),
    Fault(
        *("cp.async: no barrier after the wait", ampere_bf16, AMPERE),
        *("__syncthreads();  // all have copied", "", "NaN"),
    ),
    Fault(
        *("cp.async: no barrier before the next copy", ampere_bf16, AMPERE),
        *("__syncthreads();  // all have read", "", "wrong"),
    ),
    Fault("ldmatrix: not transposed", ampere_bf16, AMPERE, "<true>", "<false>", "wrong"),
    Fault("mma: rows exchanged", ampere_bf16, AMPERE, "i / 2 * 8", "(1 - i / 2) * 8", "wrong"),
    Fault(
        *("mma: a lane that is not there", ampere_bf16, AMPERE, "unsigned a_part[4], b_both[4];"),
        "unsigned a_part[4], b_both[4];\n        if (lane == 5) return;",
        "ldmatrix: expected all 32 lanes of a warp, found fewer",
    ),
    Fault(
        "tf32: a fragment's rows", ampere_tf32, AMPERE, "t + k / 2 * 4", "t * 2 + k / 2", "wrong"
    ),
    Fault("mbarrier: tiles not waited for", hopper, HOPPER, FULL_WAIT, "", "deadlock"),
    Fault(
        "mbarrier: read before the load arrived",
        box,
        PIECES,
        ARRIVED + READ_BOX,
        READ_BOX + ARRIVED,
        "NaN",
    ),
    Fault(
        *("mbarrier: the other parity", hopper, HOPPER),
        *(FULL_WAIT, FULL_WAIT.replace("round & 1", "(round & 1) ^ 1"), "NaN|deadlock"),
    ),
    Fault(
        *("mbarrier: the producer's parity", hopper, HOPPER, "(round & 1) ^ 1", "round & 1"),
        r"deadlock: thread \d+ waits for phase 0 of the mbarrier in static",
    ),
    Fault(
        *("mbarrier: tiles overwritten without a wait", hopper, HOPPER),
        *("mbarrier_wait(&empty[stage], (round & 1) ^ 1);", "", "more arrivals in a phase than"),
    ),
    Fault(
        *("mbarrier: more bytes expected than come", hopper, HOPPER),
        *("A_BYTES + B_BYTES);", "A_BYTES + B_BYTES + 16);"),
        "deadlock: .*thread 128 waits for phase 0 of .* lacks 0 arrivals and 16 bytes",
    ),
    Fault(
        *("mbarrier: fewer bytes expected than come", hopper, HOPPER),
        *("A_BYTES + B_BYTES);", "A_BYTES);", "a tensor load was under way"),
    ),
    Fault(
        *("mbarrier: used before it exists", hopper, HOPPER),
        *("__syncthreads();  // barriers exist", "", "used before it was initialised"),
    ),
    Fault(
        *("mbarrier: initialisation without a fence", hopper, HOPPER),
        *("mbarrier_fence_init();", "", "expected a fence after its initialisation"),
    ),
    Fault(
        *("mbarrier: too few arrivals expected", hopper, HOPPER),
        *("&empty[stage], GROUP", "&empty[stage], GROUP / 2", "more arrivals|deadlock|wrong"),
    ),
    Fault(
        *("mbarrier: too many arrivals expected", hopper, HOPPER),
        *("&empty[stage], GROUP", "&empty[stage], GROUP + 1", "deadlock: .* lacks 1 arrivals"),
    ),
    Fault(
        *("wgmma: the tile is free before the product is done", hopper, HOPPER),
        *("wgmma_wait<1>();", "", "wrong"),
    ),
    Fault("wgmma: no wait", hopper, HOPPER, "wgmma_wait<0>();", "", "product was under way"),
    Fault("wgmma: sums read before the wait", hopper, HOPPER, DONE + WRITE, WRITE + DONE, "NaN"),
    Fault("wgmma: no commit", hopper, HOPPER, "wgmma_commit();", "", "product was under way"),
    Fault("wgmma: no fence", hopper, HOPPER, "wgmma_fence();", "", r"expected wgmma_fence\(\)"),
    Fault(
        *("wgmma: one warp leaves it out", hopper, HOPPER),
        *("wgmma<N, TRANSPOSED_A", "if (thread / 32 != 5) wgmma<N, TRANSPOSED_A"),
        "different numbers of wgmma products",
    ),
    Fault(
        *(
            "descriptor: another stride",
            hopper,
            HOPPER,
            "0, PATTERN);",
            "0, PATTERN / 2);",
            "wrong",
        ),
    ),
    Fault("descriptor: another swizzle", hopper, HOPPER, "matrix<128>(a", "matrix<64>(a", "wrong"),
    Fault("descriptor: another step", hopper, HOPPER, ": 32)", ": 16)", "wrong"),
    Fault(
        *("descriptor: another leading distance", hopper_transposed, HOPPER),
        *("? 8 * PATTERN : 0", "? 4 * PATTERN : 0", "wrong"),
    ),
    Fault(
        *("descriptor: beyond shared memory", hopper, HOPPER),
        *("0, PATTERN);", "0, 128 * PATTERN);", "a matrix descriptor leads to byte"),
    ),
    Fault(
        *("descriptor: leading and stride exchanged", small, PIECES, "LEADING, STRIDE)"),
        *("STRIDE, LEADING)", "wrong|NaN"),
    ),
    Fault("tensor map: another swizzle", hopper_unswizzled, HOPPER, "", "", "wrong"),
    Fault(
        *("tensor store: no wait", tiles, PIECES, "tensor_store_wait<0>();", "", "wrong|under way"),
    ),
    Fault(
        *("tensor store: no barrier", tiles, PIECES, "__syncthreads();  // the tile is complete"),
        *("", "wrong|deadlock"),
    ),
    Fault(
        *("named barrier: no wait before the read", hand_over, PIECES),
        *("named_barrier_wait(1, 64);", "named_barrier_arrive(1, 64);", "NaN|deadlock"),
    ),
    Fault(
        *("named barrier: no wait before the write", hand_over, PIECES),
        *("if (round) named_barrier_wait(2, 64);", "if (round) named_barrier_arrive(2, 64);"),
        "deadlock: .* named barrier 1|wrong",
    ),
    Fault(
        *("named barrier: one arrival is missing", hand_over, PIECES),
        *("if (round + 1 < rounds) named", "if (round + 2 < rounds) named"),
        r"deadlock: thread \d+ waits for named barrier 2, where 32 of 64 threads arrived",
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault, folder, tmp_path):
    altered = Path(shutil.copytree(folder, tmp_path / "kernels"))
    text = (altered / fault.file).read_text()
    assert fault.right in text
    if fault.right:
        (altered / fault.file).write_text(text.replace(fault.right, fault.wrong))
    outcomes = [
        outcome(fault.compute, EmulatedDevice(altered, order), np.random.default_rng(7))
        for order in WARP_ORDERS
    ]
    assert any(re.search(fault.evidence, found) for found in outcomes), outcomes


# Tensor maps


@pytest.mark.parametrize("place", PLACES[::3])
@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
def test_a_box_lies_as_its_swizzle_says_with_zeros_outside(swizzle, place, folder, random):
    x = placed(random.standard_normal((20, 40)))
    columns = (swizzle or 64) // 4
    box = aligned((16, columns))
    args = (
        tensor_map(device := at(place, folder), x, (16, columns), swizzle),
        box,
        box.nbytes,
    )
    launch(device, "hopper_pieces.cu", "load_box<2>", (1,), 32, (*args, -4, 8, 0, 0), box.nbytes)
    expected = np.zeros_like(box)
    expected[:12, 4:] = x[8:20, : columns - 4]
    chunks = expected.reshape(-1, 4)  # of 16 bytes
    moved = np.empty_like(chunks)
    for k, chunk in enumerate(chunks):
        row = k // 8  # of 128 bytes
        moved[k ^ (row % (swizzle // 16) if swizzle else 0)] = chunk
    np.testing.assert_array_equal(box, moved.reshape(box.shape))


def test_a_box_may_have_four_axes_and_its_array_strides(folder, random):
    x = placed(random.standard_normal((3, 6, 7, 16)))[:, ::2]
    box = aligned((2, 3, 4, 8))
    device = EmulatedDevice(folder)
    args = (tensor_map(device, x, box.shape, 0), box, box.nbytes)
    launch(device, "hopper_pieces.cu", "load_box<4>", (1,), 32, (*args, 8, -1, 1, 2), box.nbytes)
    expected = np.zeros_like(box)
    expected[0, :2, 1:] = x[2, 1:3, :3, 8:16]
    np.testing.assert_array_equal(box, expected)


def test_a_box_that_a_card_refuses_is_told(folder):
    device = EmulatedDevice(folder)
    x, y = placed(np.ones((4, 4))), aligned(16)
    args = (tensor_map(device, x, (4, 4), 0), y, 64, 0, 0, 0, 0)
    with pytest.raises(DeviceError, match="expected 2 coordinates for the tensor map, found 1"):
        launch(device, "hopper_pieces.cu", "load_box<1>", (1,), 32, args, 1024)
    args = (bytes(128), y, 64, 0, 0, 0, 0)
    with pytest.raises(DeviceError, match="expected a tensor map, found other bytes"):
        launch(device, "hopper_pieces.cu", "load_box<1>", (1,), 32, args, 1024)
    args = (tensor_map(device, x, (4, 4), 0), y, 64, -3, 0, 0, 0)
    with pytest.raises(DeviceError, match="first coordinate at a multiple of 16 bytes, found -3"):
        launch(device, "hopper_pieces.cu", "load_box<2>", (1,), 32, args, 1024)
    args = (tensor_map(device, x, (4, 4), 0), y, 64, 0, 0, 0, 0)
    with pytest.raises(DeviceError, match="64 bytes at byte 0 passes the end of 32 bytes"):
        launch(device, "hopper_pieces.cu", "load_box<2>", (1,), 32, args, 32)


@pytest.mark.parametrize(
    ("array", "box", "swizzle", "told"),
    [
        (np.ones((4, 4), np.float64), (4, 4), 0, "one of bfloat16, .*, found float64"),
        (np.ones((4,) * 6, np.float32), (4,) * 6, 0, "1 to 5 axes, found 6"),
        (np.ones((4, 4), np.float32), (4,), 0, "a box of 2 numbers"),
        (np.ones((4, 4), np.float32), (4, 4), 96, "swizzle 0, 32, 64 or 128, found 96"),
        (np.ones((4, 6), np.float32), (4, 4), 0, "strides that are multiples of 16"),
        (np.ones((4, 8), np.float32)[:, ::2], (4, 4), 0, "a dense last axis"),
        (np.ones((4, 8), np.float32), (4, 6), 0, "whole 16 bytes, found 24 bytes"),
        (np.ones((4, 64), np.float32), (4, 64), 128, "at most 128 bytes, .*, found 256 bytes"),
        (np.ones((512, 4), np.float32), (512, 4), 0, "1 to 256 elements along each axis"),
    ],
)
def test_what_no_map_can_describe_is_refused(array, box, swizzle, told):
    at_16 = np.lib.stride_tricks.as_strided(
        aligned(array.size * 2, array.dtype), array.shape, array.strides
    )
    with pytest.raises(DeviceError, match=f"tensor map: expected .*{told}"):
        tensor_map(EmulatedDevice(), at_16, box, swizzle)
