from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ae_core import phases
from ae_core.architecture import Architecture
from ae_core.measuring import verification
from ae_core.measuring.verification import (
    TOLERANCES,
    DisagreementError,
    check_gradients,
    compare,
    difference,
    verify,
)
from ae_core.phases.cpu_parallel import CpuParallel
from tests.conftest import SMALL


@pytest.mark.parametrize("phase", ["cpu", "cpu-parallel"])
def test_every_gradient_of_a_small_network_agrees_with_difference_quotients(phase):
    small = Architecture(channels=2, height=8, width=12, filters=(3, 4, 2, 3))
    checks = check_gradients(small, phase=phase)
    assert [c.quantity for c in checks] == [*(p.name for p in small.parameters), "image"]
    for check in checks:
        assert check.relative < 1e-5, check


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_kink_near_an_element_is_no_fault(seed):
    """Seed 5 has one: a step of 1e-5 there mixes two slopes."""
    small = Architecture(channels=2, height=8, width=12, filters=(5, 4, 3, 6))
    for check in check_gradients(small, phase="cpu-parallel", per_tensor=60, seed=seed):
        assert check.passed, check


def faulty(fault):
    """An entry of the table for the CPU's operations with a fault planted."""
    return replace(phases.named("cpu-parallel"), module=__name__, implementation=fault.__name__)


def test_a_wrong_gradient_is_not_rescued_by_another_step(monkeypatch):
    monkeypatch.setitem(phases.PHASES, "faulty", faulty(FlippedTap))
    checks = check_gradients(SMALL, phase="faulty", per_tensor=20)
    assert not all(check.passed for check in checks)


def test_gradients_of_the_full_size_network_agree_with_difference_quotients():
    for check in check_gradients(Architecture(), phase="cpu-parallel", per_tensor=4, seed=1):
        assert check.relative < 1e-5, check


@pytest.mark.parametrize("phase", ["cpu", "cpu-parallel"])
def test_phases_agree_with_float64_at_full_size(dataset, phase):
    (record,) = compare([phase], dataset, images=2, steps=1)
    assert record.passed, record.differences
    assert len(record.differences) == 3 + 10 + 1 + 10
    assert record.dataset == dataset.identity


class FlippedTap(CpuParallel):
    """A planted fault: the input gradient forgets to flip its kernels."""

    def conv2d_input_gradient(self, dy, weights, dx):
        super().conv2d_input_gradient(dy, weights[:, :, ::-1, ::-1], dx)


class UnwrittenBias(CpuParallel):
    """A planted fault: an output is never written, and memory happens to hold zeros."""

    def bias_gradient(self, dy, db):
        pass


class Accumulating(CpuParallel):
    """A planted fault: adds to what is there, which is right only in fresh memory."""

    def upsample_backward(self, dy, dx):
        before = dx.copy()
        super().upsample_backward(dy, dx)
        dx += before


@pytest.mark.parametrize("fault", [FlippedTap, UnwrittenBias, Accumulating])
def test_a_planted_fault_is_found(monkeypatch, dataset, fault):
    monkeypatch.setitem(phases.PHASES, "faulty", faulty(fault))
    (record,) = compare(["faulty"], dataset, images=2, architecture=SMALL, steps=0)
    failed = {d.quantity for d in record.differences if not d.passed}
    assert failed
    assert "reconstruction" not in failed


def test_a_phase_that_must_pass_and_does_gives_its_record(dataset):
    record = verify("gpu-v2", dataset, images=2, steps=1, device="emulated")
    assert record.passed and (record.images, record.steps) == (2, 1)


def test_a_phase_that_must_pass_and_does_not_names_what_is_off(monkeypatch, dataset):
    monkeypatch.setitem(phases.PHASES, "faulty", faulty(FlippedTap))
    with pytest.raises(
        DisagreementError, match=r"^faulty: expected gradient of conv1\.\S+ within "
    ) as told:
        verify("faulty", dataset, images=1, steps=0)
    assert "gradient of conv4.weights" in str(told.value)
    assert "gradient of conv5.weights" not in str(told.value)


def test_other_bits_from_a_second_run_are_told(monkeypatch, dataset):
    (record,) = compare(["cpu-parallel"], dataset, images=1, architecture=SMALL, steps=0)
    other = record.model_copy(update={"repeatable": False})
    monkeypatch.setattr(verification, "compare", lambda *_, **__: iter([other]))
    with pytest.raises(DisagreementError, match="expected the same bits from a second run"):
        verify("cpu-parallel", dataset)


def test_differences_are_what_they_say():
    found = difference("x", [1.0, 2.0, 5.0], [1.0, 2.0, 4.0], 0.1)
    assert found.max_absolute == 1
    assert np.isclose(found.mean_absolute, 1 / 3)
    assert np.isclose(found.relative, 1 / np.sqrt(21))
    assert not found.passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_never_passes(bad):
    assert not difference("x", [1.0, bad], [1.0, 2.0], 1.0).passed
    assert not difference("x", [1.0, bad], [1.0, bad], 1.0).passed


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"expected shape \(2,\), found \(3,\)"):
        difference("x", np.zeros(3), np.zeros(2), 1)


def test_a_small_fault_in_one_element_is_beyond_tolerance(random):
    """Tolerances are for rounding: one forgotten product in a gradient does not pass."""
    reference = random.standard_normal((128, 256, 3, 3))
    found = reference.copy()
    found[5, 7, 1, 1] += 1
    assert not difference("gradient of x", found, reference, TOLERANCES["float32"].gradient).passed
