"""One operation by itself: what is right passes, what is wrong does not, and what can't be told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.commands.kernel import timed
from ae_core.devices.emulated import WARP_ORDERS, EmulatedDevice
from ae_core.devices.kernels import altered
from ae_core.errors import InputError
from ae_core.measuring import alone
from ae_core.measuring.alone import Alone, measure_alone
from ae_core.phases.cpu_parallel import CpuParallel
from ae_core.phases.layered import Layered
from ae_core.phases.plan import Cost, Step
from ae_core.records import Ceilings, Difference, OperationTime
from tests.ae_core.test_cli import run
from tests.conftest import SMALL

OPERATIONS = list(dict.fromkeys(cost.operation for cost in Architecture().costs()))
FUSED = ("conv1", "relu1", "pool1")


def measured(phase: str, operation: str, layer: str | None = None, **options) -> Alone:
    options = {"device": "emulated", "repeats": 3, "architecture": SMALL, **options}
    return measure_alone(phase, operation, layer, **options)


@pytest.mark.parametrize("phase", phases.PHASES)
def test_every_operation_of_every_phase_is_right(phase):
    for operation in OPERATIONS:
        found = measured(phase, operation, batch_size=3)
        assert found.passed, (operation, found.differences)
        name = f"{alone.layers_with(operation)[0]}.{operation}"
        assert name in found.step.operations
        assert len(found.step.operations) == 1 or not phases.named(phase).layered
        if phases.named(phase).cuda:
            assert found.time is None
        else:
            assert (found.time.n, found.time.flops) == (3, found.step.cost.flops)
            assert found.time.median > 0


@pytest.mark.parametrize("order", WARP_ORDERS)
def test_any_layer_and_any_order_of_warps(order):
    for layer in alone.layers_with("conv2d_weight_gradient"):
        assert measured(
            "gpu-v2", "conv2d_weight_gradient", layer, device=EmulatedDevice(order=order)
        ).passed


def test_the_first_layer_that_has_the_operation_is_the_default():
    defaults = {operation: alone.layers_with(operation)[0] for operation in OPERATIONS}
    assert defaults["conv2d_forward"] == "conv1"
    assert defaults["conv2d_input_gradient"] == "conv2"  # training needs none of the images
    assert defaults["upsample_backward"] == "upsample3"
    assert (defaults["mse"], defaults["sgd"]) == ("loss", "update")


def test_shapes_are_the_layers():
    operations = phases.operations("cpu")
    found = alone.on_random_arrays(operations, Architecture(), "conv4.conv2d_weight_gradient", 2)
    x, dy, dw = found.step.run.args
    assert (x.shape, dy.shape) == ((2, 128, 16, 16), (2, 256, 16, 16))
    assert dw.shape == (256, 128, 3, 3) and found.results == {"dw": dw}
    assert np.isnan(dw).all()
    assert found.step.cost.flops == 2 * 2 * 256 * 16 * 16 * 128 * 9
    assert found.step.kind == "convolution"


def test_windows_of_pooling_have_equal_values():
    found = alone.on_random_arrays(phases.operations("cpu"), SMALL, "pool1.maxpool_backward")
    (x, *_) = found.step.run.args
    windows = x.reshape(1, 6, 4, 2, 4, 2).max(axis=(3, 5))
    assert (windows == 0).any() and (windows > 0).any()


def test_what_is_never_written_fails(monkeypatch):
    monkeypatch.setattr(CpuParallel, "relu_forward", lambda *_: None)
    found = measured("cpu-parallel", "relu_forward")
    assert not found.passed and found.differences[0].relative > 1e50


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_a_planted_fault_fails_with_exit_code_1(order, monkeypatch, tmp_path):
    """A missing barrier shows where warps take turns in one order, and not in the other."""
    barrier = "__syncthreads();  // the tree adds"
    kernels = altered("conv_batched.cu", barrier, "//", tmp_path / "kernels")
    monkeypatch.setattr("ae_core.devices.emulated.kernels_directory", lambda: kernels)
    command = ["kernel", "conv2d_weight_gradient", "--phase", "gpu-v1", "--device", "emulated"]
    done = run(*command, "--order", order)
    assert (done.returncode, done.stderr) == (int(order == "forward"), "")
    assert ("FAILED" in done.stdout) == (order == "forward")
    assert "us in the median" not in done.stdout


def test_the_command_tells_what_it_checked():
    done = run("kernel", "bias_gradient", "--phase", "cpu", "--network", "mini", "--repeats", "3")
    assert done.returncode == 0, done.stderr
    first, second, *_ = done.stdout.splitlines()
    assert first == "conv1.bias_gradient of a network of 2,995 parameters, 1 image"
    assert second.startswith("by CPU loops, one thread, on ")
    assert "against CPU loops, all cores, in float64:" in done.stdout
    assert "n = 3" in done.stdout and done.stdout.endswith("passed\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["mse", "--layer", "conv1"], "layer: expected one with mse, loss, found conv1"),
        (["conv2d_input_gradient", "--layer", "conv1"], "layer: expected one with conv2d_input"),
        (["mse", "--phase", "cpu", "--order", "random"], "--order: expected the emulator"),
        (["mse", "--architecture", "sm_75"], "--architecture: expected --compile-only with it"),
        (["mse", "--phase", "cpu", "--compile-only"], "cpu: expected a phase with kernels"),
    ],
)
def test_options_that_do_not_go_together_are_told(arguments, line):
    done = run("kernel", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {line}") and done.stderr.count("\n") == 1


# --- what kernels use ------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="NVRTC comes for Linux")
def test_compile_only_tells_what_each_kernel_uses():
    for architecture in ("sm_75", "sm_90"):
        found = alone.compiled("gpu-v2", architecture)
        assert list(found) == list(phases.implementation("gpu-v2").sources)
        for source, kernels in found.items():
            assert kernels.keys() == set(source.instantiations)
            assert all(used.registers and not used.spilled_bytes for used in kernels.values())
    done = run("kernel", "conv2d_forward", "--compile-only", "--architecture", "sm_80")
    assert done.returncode == 0, done.stderr
    title, head, *rows = done.stdout.splitlines()
    assert title == "all kernels of gpu-v2, compiled for sm_80:"
    assert head.split() == ["kernel", "registers", "shared", "bytes", "spilled", "bytes", "file"]
    (gemm,) = [row for row in rows if "conv2d_gemm<FORWARD" in row]
    assert gemm.split()[-1] == "conv_implicit_gemm.cu"

    assert int(gemm.split()[-3].replace(",", "")) > 2 * 4 * 16 * 16 * 9  # two tiles of windows


# --- a phase that fuses ----------------------------------------------------------------------


class Fused(Layered):
    """The first stage's forward pass as one step, which writes only what pooling leaves."""

    not_materialised = frozenset(FUSED[:2])
    wrong = False

    def __init__(self, name, architecture, batch_size, device):
        super().__init__(name, CpuParallel(), architecture, batch_size)

    def lists(self, images: int) -> dict[str, list[Step]]:
        lists = super().lists(images)
        for name in ("encode", "evaluate", "differentiate"):
            steps = lists[name]
            first = [s for s in steps if s.name.startswith(FUSED) and s.name.endswith("_forward")]
            lists[name] = [self._joined(first), *steps[len(first) :]]
        return lists

    def _joined(self, steps: list[Step]) -> Step:
        runs: list[Callable[[], None]] = [
            s.run for s in steps if not (self.wrong and "relu" in s.name)
        ]

        def work() -> None:
            for each in runs:
                each()

        operations = tuple(operation for step in steps for operation in step.operations)
        cost = Cost(sum(s.cost.flops for s in steps), max(s.cost.bytes for s in steps))
        return Step("conv1 + bias + ReLU + pool, forward", "convolution", cost, work, operations)


@pytest.fixture
def fused(monkeypatch):
    entry = replace(
        phases.named("cpu"), module=__name__, implementation="Fused", layered=False, title="Fused"
    )
    monkeypatch.setitem(phases.PHASES, "fused", entry)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("conv1.conv2d_forward", "output of pool1"),
        ("relu1.relu_forward", "output of pool1"),
        ("conv3.bias_forward", "output of conv3"),
        ("relu1.relu_backward", "gradient of conv1.weights"),
        ("conv2.conv2d_input_gradient", "gradient of conv1.weights"),
        ("conv4.conv2d_weight_gradient", "gradient of conv4.weights"),
        ("conv5.bias_gradient", "gradient of conv5.biases"),
        ("loss.mse", "loss of each image"),
        ("update.sgd", "parameters"),
    ],
)
def test_a_step_of_a_plan_is_seen_in_what_the_plan_keeps(fused, name, seen):
    layer, operation = name.split(".")
    found = measured("fused", operation, layer, batch_size=2)
    assert [d.quantity for d in found.differences] == [seen]
    assert found.passed and name in found.step.operations
    assert found.time.n == 3 and found.time.name == found.step.name


def test_a_fault_in_a_fused_step_is_found_and_told(fused, monkeypatch):
    arguments = ["kernel", "maxpool_forward", "--phase", "fused", "--network", "mini"]
    done = run(*arguments, "--repeats", "3")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("conv1 + bias + ReLU + pool, forward of a network of 2,995")
    assert "does conv1.conv2d_forward, conv1.bias_forward, relu1.relu_forward" in done.stdout
    monkeypatch.setattr(Fused, "wrong", True)
    done = run(*arguments, "--repeats", "3")
    assert done.returncode == 1 and "FAILED" in done.stdout


@pytest.mark.parametrize(
    ("layer", "hidden", "seen"),
    [("conv1", FUSED, "output of conv2"), ("conv5", ("conv5",), "loss of each image")],
)
def test_what_is_not_materialised_is_seen_in_what_comes_after(
    fused, monkeypatch, layer, hidden, seen
):
    monkeypatch.setattr(Fused, "not_materialised", frozenset(hidden))
    found = measured("fused", "conv2d_forward", layer)
    assert found.passed and seen in [d.quantity for d in found.differences]


def test_an_operation_that_no_step_does_is_told(fused, monkeypatch):
    monkeypatch.setattr(Fused, "_joined", lambda self, steps: replace(steps[0], operations=()))
    with pytest.raises(InputError, match=r"a step that does conv1\.bias_forward, found none"):
        measured("fused", "bias_forward")


# --- times -----------------------------------------------------------------------------------


class Card(EmulatedDevice):
    """The emulator, as if it were a GPU."""

    kind = "gpu"


def test_on_a_gpu_there_are_times_launches_and_ceilings(monkeypatch):
    ceilings = Ceilings(flops=1e12, bandwidth=1e12)
    monkeypatch.setattr(alone, "open_device", lambda _: None)
    monkeypatch.setattr(alone, "measure_ceilings", lambda _: ceilings)
    found = measured("gpu-v2", "conv2d_forward", "conv2", device=Card())
    assert found.passed and found.ceilings == ceilings
    assert (found.time.n, found.time.launches, found.time.kind) == (3, 1, "convolution")
    assert found.time.flops == 2 * 4 * 4 * 4 * 6 * 9
    measured_share = ceilings.seconds(found.time.flops, found.time.bytes) / found.time.median
    if not found.includes_launches:  # a busy machine may take long to queue a step
        assert found.roofline_share == measured_share


def test_the_ceilings_are_those_of_float32_alone(monkeypatch):
    rounded = replace(phases.named("gpu-v2"), precision="bf16")
    monkeypatch.setitem(phases.PHASES, "rounded", rounded)
    found = measured("rounded", "conv2d_forward", device=Card())
    assert found.time and found.ceilings is None
    assert found.differences[0].tolerance == 2e-2


def by_hand(**changes) -> Alone:
    """A millisecond for 5e8 operations, under ceilings of 1 TFLOP/s and 1 TB/s."""
    time = OperationTime(
        name="conv4.conv2d_forward",
        kind="convolution",
        operations=("conv4.conv2d_forward",),
        n=100,
        low=9e-4,
        median=1e-3,
        high=2e-3,
        flops=500_000_000,
        bytes=100,
        launches=1,
    )
    off = Difference(quantity="y", max_absolute=1, mean_absolute=1, relative=1e-6, tolerance=1e-5)
    values = {
        "step": Step(time.name, "convolution", Cost(time.flops, 100), lambda: None),
        "device": EmulatedDevice(),
        "architecture": SMALL,
        "batch_size": 1,
        "reference": "",
        "differences": (off,),
        "time": time,
        "includes_launches": False,
        "ceilings": Ceilings(flops=1e12, bandwidth=1e12),
    }
    return Alone(**values | changes)


def test_rate_and_share_of_the_roofline():
    assert by_hand().roofline_share == pytest.approx(0.5)
    assert timed(by_hand()) == (
        "1,000 us in the median (10-90 %: 900 to 2,000, n = 100), 1 launch, 0.500 TFLOP/s, "
        "50.0 % of the roofline (1.00 TFLOP/s and 1.00 TB/s, as measured)"
    )


def test_a_time_of_launching_is_told_as_one_and_has_no_share():
    line = timed(by_hand(includes_launches=True))
    assert "launching included" in line and "roofline" not in line
    assert "roofline" not in timed(by_hand(ceilings=None))
    assert timed(by_hand(time=None)) == "no times: an emulator's say nothing about a GPU"
