from __future__ import annotations

import numpy as np
import pytest

from ae_core import phases, verification
from ae_core.architecture import Architecture
from ae_core.phases.cpu_parallel import CpuParallel
from ae_core.verification import check_gradients, compare, difference
from tests.conftest import SMALL


@pytest.mark.parametrize("phase", ["cpu", "cpu-parallel"])
def test_every_gradient_of_a_small_network_agrees_with_difference_quotients(phase):
    small = Architecture(channels=2, height=8, width=12, filters=(3, 4, 2, 3))
    checks = check_gradients(small, phase=phase)
    assert [c.quantity for c in checks] == [*(p.name for p in small.parameters), "image"]
    for check in checks:
        assert check.relative < 1e-5, check


def test_gradients_of_the_full_size_network_agree_with_difference_quotients():
    for check in check_gradients(Architecture(), phase="cpu-parallel", per_tensor=4, seed=1):
        assert check.relative < 1e-5, check


def test_the_parallel_loops_agree_with_the_plain_ones_at_full_size(random):
    images = random.random((2, 3, 32, 32), dtype=np.float32)
    record = compare("cpu-parallel", images, steps=1)
    assert record.passed, record.differences
    assert len(record.differences) == 3 + 10 + 1 + 10


class FlippedTap(CpuParallel):
    """A planted fault: the input gradient forgets to flip its kernels."""

    def conv2d_input_gradient(self, dy, weights, dx):
        super().conv2d_input_gradient(dy, weights[:, :, ::-1, ::-1], dx)


class UnwrittenBias(CpuParallel):
    """A planted fault: an output that is never written."""

    def bias_gradient(self, dy, db):
        db[:] = np.nan


@pytest.mark.parametrize("fault", [FlippedTap, UnwrittenBias])
def test_a_planted_fault_is_found(monkeypatch, random, fault):
    entry = phases.Phase(__name__, fault.__name__, "faulty")
    monkeypatch.setitem(phases.PHASES, "faulty", entry)
    images = random.random((2, 3, 8, 8), dtype=np.float32)
    record = compare("faulty", images, architecture=SMALL, steps=0)
    assert not record.passed
    failed = {d.quantity for d in record.differences if not d.passed}
    assert failed
    assert "reconstruction" not in failed


def test_differences_are_what_they_say():
    found = difference("x", [1.0, 2.0, 5.0], [1.0, 2.0, 4.0], 0.1)
    assert found.max_absolute == 1
    assert np.isclose(found.mean_absolute, 1 / 3)
    assert np.isclose(found.relative, 1 / np.sqrt(21))
    assert not found.passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_never_passes(bad):
    assert not difference("x", [1.0, bad], [1.0, 2.0], verification.STEPS_TOLERANCE).passed
    assert not difference("x", [1.0, bad], [1.0, bad], verification.STEPS_TOLERANCE).passed


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"expected shape \(2,\), found \(3,\)"):
        difference("x", np.zeros(3), np.zeros(2), 1)
