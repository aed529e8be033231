"""Every phase, operation by operation: CPU loops in float64, kernels emulated and on any GPU."""

from __future__ import annotations

from functools import cache

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_core import machine, phases
from ae_core.devices.emulated import WARP_ORDERS, EmulatedDevice
from ae_core.devices.kernel_device import open_device
from ae_core.phases.gpu_basic import GpuBasic
from tests.ae_core.phases import contracts
from tests.ae_core.phases.contracts import Subject

LAYERED = [name for name, phase in phases.PHASES.items() if phase.layered]
CUDA = [name for name in LAYERED if phases.named(name).cuda]
CPU = [name for name in LAYERED if name not in CUDA]
GPU = ["gpu"] if machine.gpu() else []
SUBJECTS = [*CPU, *(f"{name} {on}" for name in CUDA for on in (*WARP_ORDERS, *GPU))]

sizes = st.integers(1, 5)
sides = st.integers(1, 19)
seeds = st.integers(0, 2**31)
each = pytest.mark.parametrize("name", SUBJECTS)
drawn = settings(max_examples=20, deadline=None)


@cache
def subject(name: str) -> Subject:
    """`cpu`, or a CUDA phase and what it runs on: `gpu-v1 reverse` is in that order of warps."""
    phase, _, on = name.partition(" ")
    if not on:
        return Subject(phases.operations(phase))
    device = open_device("cuda") if on == "gpu" else EmulatedDevice(order=on)
    return Subject(phases.operations(phase, device), np.float32)


@each
@drawn
@given(n=st.integers(1, 3), c=sizes, k=sizes, h=sides, w=sides, seed=seeds)
def test_convolutions_agree_with_scipy(name, n, c, k, h, w, seed):
    contracts.convolutions(subject(name), n, c, k, h, w, seed)


@each
def test_more_planes_than_a_tile_holds(name):
    contracts.convolutions(subject(name), n=1, c=35, k=19, h=8, w=8, seed=3)
    contracts.convolutions(subject(name), n=1, c=3, k=2, h=40, w=33, seed=4)


@each
@drawn
@given(n=sizes, c=sizes, h=sides, w=sides, seed=seeds)
def test_bias(name, n, c, h, w, seed):
    contracts.bias(subject(name), n, c, h, w, seed)


@each
def test_relu(name):
    contracts.relu(subject(name))


@each
@drawn
@given(n=sizes, c=sizes, h=st.integers(2, 19), w=st.integers(2, 19), seed=seeds)
def test_pooling(name, n, c, h, w, seed):
    contracts.pooling(subject(name), n, c, h, w, seed)


@each
def test_pooling_lets_nan_through(name):
    contracts.pooling_lets_nan_through(subject(name))


@each
@drawn
@given(n=sizes, c=sizes, h=sides, w=sides, seed=seeds)
def test_upsampling(name, n, c, h, w, seed):
    contracts.upsampling(subject(name), n, c, h, w, seed)


@each
@drawn
@given(n=sizes, c=sizes, h=sides, w=sides, seed=seeds)
def test_mse(name, n, c, h, w, seed):
    contracts.mse(subject(name), n, c, h, w, seed)


@each
@drawn
@given(n=sizes, c=sizes, h=sides, w=sides, seed=seeds)
def test_feeding(name, n, c, h, w, seed):
    contracts.feeding(subject(name), n, c, h, w, seed)


@each
def test_sgd(name):
    contracts.sgd(subject(name), 1001, seed=1)


@pytest.mark.parametrize("phase", CPU)
def test_long_sums_in_float32_are_as_exact_as_float32(phase):
    """Of 576 products, each rounded at 6e-8."""
    contracts.convolutions(
        Subject(phases.operations(phase), np.float32), n=2, c=64, k=8, h=16, w=16, seed=0
    )


def test_results_do_not_depend_on_the_number_of_threads(random):
    x = random.standard_normal((1, 32, 16, 16)).astype(np.float32)
    weights = random.standard_normal((64, 32, 3, 3)).astype(np.float32)
    results = []
    for threads in (1, numba.config.NUMBA_NUM_THREADS, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(threads)
        y, dw = np.empty((1, 64, 16, 16), np.float32), np.empty((64, 32, 3, 3), np.float32)
        operations = phases.operations("cpu-parallel")
        operations.conv2d_forward(x, weights, y)
        operations.conv2d_weight_gradient(x, y, dw)
        results.append(np.concatenate([y.ravel(), dw.ravel()]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[1], results[2])


def test_a_launch_takes_as_many_planes_as_its_granularity_and_gives_the_same_bits():
    outputs, launches = [], []
    for planes_per_launch in (1, 4, None):
        device = EmulatedDevice()
        on = Subject(GpuBasic(device, planes_per_launch), np.float32)
        generator = np.random.default_rng(0)
        x, weights = (
            on.put(on.random(generator, *shape)) for shape in ((1, 6, 9, 9), (4, 6, 3, 3))
        )
        y, dw = on.out(1, 4, 9, 9), on.out(4, 6, 3, 3)
        on.operations.conv2d_forward(x, weights, y)
        launches.append(device.launches)
        on.operations.conv2d_weight_gradient(x, y, dw)
        outputs.append(np.concatenate([on.get(y).ravel(), on.get(dw).ravel()]))
    assert launches == [4 * 6, 4 * 2, 4]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


def test_more_images_than_a_grid_is_deep_take_several_launches(monkeypatch):
    monkeypatch.setattr("ae_core.phases.gpu_v1_batched.MAX_GRID_Z", 7)
    contracts.convolutions(subject("gpu-v1 forward"), n=5, c=2, k=3, h=4, w=4, seed=0)


def test_an_unknown_phase_is_refused_by_name():
    with pytest.raises(ValueError, match=r"expected one of cpu, cpu-parallel.*found 'gpu-9'"):
        phases.create("gpu-9")
