"""The kernels under sanitizers, and each rung of the ladder against faults planted for it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ae_core import phases
from ae_core.devices.emulated import EmulatedDevice
from ae_core.devices.kernels import DeviceError, altered, kernels_directory
from ae_core.phases.gpu_basic import GpuBasic
from ae_core.phases.gpu_v1_batched import GpuBatched
from ae_core.phases.gpu_v2_implicit_gemm import GpuImplicitGemm
from tests.ae_core.devices import exercise
from tests.ae_core.phases import contracts
from tests.conftest import ROOT

CUDA = [name for name, phase in phases.PHASES.items() if phase.cuda and phase.emulated]
LIBRARIES = {"address": "libasan.so", "thread": "libtsan.so"}
pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="sanitized on x86-64 only")


def sanitized(
    sanitizer: str, names: list[str], kernels: Path | None = None, order: str = "forward"
) -> subprocess.CompletedProcess[str]:
    find = ["g++", f"-print-file-name={LIBRARIES[sanitizer]}"]
    library = subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip()
    environment = os.environ | {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "TSAN_OPTIONS": "halt_on_error=1",
    }
    folder = str(kernels or kernels_directory())
    command = [
        sys.executable,
        "-m",
        "tests.ae_core.devices.exercise",
        sanitizer,
        folder,
        order,
        *names,
    ]
    if sanitizer == "thread":  # its shadow memory wants the usual address layout
        command = ["setarch", "-R", *command]
    return subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("sanitizer", list(LIBRARIES))
def test_every_kernel_is_clean(sanitizer):
    done = sanitized(sanitizer, CUDA)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all contracts kept" in done.stdout


@dataclass(frozen=True)
class Fault:
    """A change to a copy of a kernel, and what must tell: a sanitizer, or `none` and an order.

    The evidence is what is said, and without a sanitizer the kind of error as well.
    """

    name: str
    phase: str
    file: str
    right: str
    wrong: str
    rung: str
    evidence: str
    order: str = "forward"


TREE_BARRIER = "        __syncthreads();  // the tree adds"
LAST_BARRIER = "        __syncthreads();  // the next plane's tile may overwrite"
FAULTS = [
    Fault(
        "a barrier removed: the next tile overwrites this one",
        *("gpu-v1", "conv_batched.cu", LAST_BARRIER, "//", "none", "AssertionError"),
    ),
    Fault(
        "the same, as a race",
        *("gpu-v1", "conv_batched.cu", LAST_BARRIER, "//", "thread", "data race"),
    ),
    Fault(
        "the textbook's missing barrier between products and tree: its sum is right in one order",
        *("gpu-v1", "conv_batched.cu", TREE_BARRIER, "//", "none", "AssertionError"),
    ),
    Fault(
        "the same, as a race, in any order",
        *("gpu-v1", "conv_batched.cu", TREE_BARRIER, "//", "thread", "data race", "reverse"),
    ),
    Fault(
        "the textbook's grid where block is meant",
        *("gpu-v1", "conv_batched.cu", "int stride = THREADS / 2", "int stride = gridDim.x / 2"),
        *("none", "AssertionError"),
    ),
    Fault(
        "a tile that is not zero-filled outside the plane",
        *("gpu-basic", "conv_basic.cu", "tile[u][v] = inside ? plane[i * width + j] : 0;"),
        *("if (inside) tile[u][v] = plane[i * width + j];", "none", "are not finite"),
    ),
    Fault(
        "an index off by one, beyond the last plane",
        *("gpu-basic", "conv_basic.cu", "i < height && 0 <= j", "i <= height && 0 <= j"),
        *("address", "heap-buffer-overflow"),
    ),
    Fault(
        "an array in shared memory that is one too small",
        *("gpu-v2", "bias_batched.cu", "__shared__ float partial[32];"),
        *("__shared__ float partial[THREADS / 32 - 1];", "address", "out of bounds"),
    ),
    Fault(
        "an offset that overflows",
        *("gpu-v2", "elementwise.cu", "const int64 i = int64(blockIdx.x) * blockDim.x"),
        *("const int64 i = int(blockIdx.x) * int(blockDim.x) * 10000000",),
        *("address", "signed integer overflow"),
    ),
    Fault(
        "a thread that returns before a barrier",
        *("gpu-v2", "bias_batched.cu", "    if (lane == 0) partial[warp] = sum;"),
        *("    if (warp > 4) return;\n    if (lane == 0) partial[warp] = sum;",),
        *("none", "divergent __syncthreads()"),
    ),
    Fault(
        "no barrier between a warp's sums and the sum of warps",
        *(
            "gpu-v2",
            "bias_batched.cu",
            "    __syncthreads();\n    if (warp > 0)",
            "    if (warp > 0)",
        ),
        *("thread", "data race"),
    ),
    Fault(
        "tiles overwritten while others still multiply",
        *("gpu-v2", "conv_implicit_gemm.cu"),
        "        __syncthreads();  // store() may overwrite",
        *("//", "thread", "data race"),
    ),
    Fault(
        "a window that wraps around the plane's side",
        *("gpu-v2", "conv_implicit_gemm.cu", "0 <= j + v && j + v < width;", "true;"),
        *("none", "AssertionError"),
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_fault_is_found(fault, tmp_path):
    kernels = altered(fault.file, fault.right, fault.wrong, tmp_path / "kernels")
    if fault.rung == "none":
        with pytest.raises((AssertionError, DeviceError)) as caught:
            exercise.main(fault.rung, str(kernels), fault.order, fault.phase)
        assert fault.evidence in f"{caught.type.__name__}: {caught.value}"
        return
    done = sanitized(fault.rung, [fault.phase], kernels, fault.order)
    assert done.returncode != 0, "the fault was not found"
    assert fault.evidence in done.stderr, done.stderr[-3000:]


class NoJoin(EmulatedDevice):
    """The main stream goes on while side streams still work."""

    def join(self, streams):
        pass


class NoFork(EmulatedDevice):
    """Side streams start before the main stream's work is done."""

    def fork(self, streams):
        pass


@pytest.mark.parametrize("device", [NoJoin, NoFork])
def test_streams_without_their_events_compute_something_else(device):
    def chain(device):
        subject = contracts.Subject(phases.operations("gpu-basic", device), "float32")
        generator = np.random.default_rng(0)
        x, weights, b = (
            subject.put(subject.random(generator, *shape))
            for shape in ((1, 3, 5, 5), (3, 3, 3, 3), (3,))
        )
        y, z = subject.out(1, 3, 5, 5), subject.out(1, 3, 5, 5)
        subject.operations.bias_forward(x, b)
        subject.operations.conv2d_forward(x, weights, y)
        subject.operations.relu_forward(y, z)
        return subject.get(z)

    right, wrong = chain(EmulatedDevice()), chain(device())
    assert np.isfinite(right).all()
    assert not np.array_equal(right, wrong)


@pytest.mark.parametrize("operations", [GpuBasic, GpuBatched, GpuImplicitGemm])
def test_arguments_that_a_gpu_would_take_for_others_are_refused(operations):
    subject = contracts.Subject(operations(EmulatedDevice()), "float32")
    x = subject.out(1, 1, 2, 2)
    with pytest.raises(
        ValueError, match=r"relu_forward: argument 2 \(count\): expected an int64, found 1\.5"
    ):
        subject.operations._by_element("relu_forward", 1.5, x, x)
