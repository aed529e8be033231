"""Parallel loops give the same bits however they were compiled, on any number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numba.core.dispatcher import Dispatcher

from ae_core.phases import cpu_parallel, fixed_order
from ae_core.phases.cpu_loops import CpuLoops
from ae_core.phases.cpu_parallel import CpuParallel
from tests.conftest import ROOT

PROGRAM = Path(__file__).with_name("digest_operations.py")


def digests(cache: Path, **variables: str) -> str:
    """Digests of all parallel operations' results, from a process of its own."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, PROGRAM],
        env=environment | variables, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def test_bits_are_the_same_cold_warm_and_for_any_number_of_threads(tmp_path):
    cold = digests(tmp_path / "cache")
    assert len(set(cold.split())) > 50
    assert list((tmp_path / "cache").rglob("*.nbc"))
    for threads in ("1", "3"):  # of what is now in the cache
        assert digests(tmp_path / "cache", NUMBA_NUM_THREADS=threads) == cold
    assert digests(tmp_path / "cache", NUMBA_THREADING_LAYER="workqueue") == cold


@pytest.mark.parametrize("phase", [CpuLoops, CpuParallel])
def test_no_loop_is_compiled_with_licence_to_reorder_sums(phase):
    """With fast-math bits depend on the compilation, which a test on one machine may not see."""
    members = [getattr(phase, name) for name in vars(phase)]
    loops = [m for m in [*members, *vars(cpu_parallel).values()] if isinstance(m, Dispatcher)]
    assert len(loops) >= 10
    assert not [loop for loop in loops if loop.targetoptions.get("fastmath")]


@njit
def nine_sums(above, level, below, g, count):
    return fixed_order.nine_sums(above, level, below, g, count)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_nine_sums_add_in_the_order_that_is_written_down(random, dtype, count):
    lanes = fixed_order.LANES
    above, level, below = random.standard_normal((3, count * lanes + 2)).astype(dtype)
    g = random.standard_normal(count * lanes).astype(dtype)
    found = nine_sums(above, level, below, g, count)
    for tap, total in enumerate(found):
        x = (above, level, below)[tap // 3][tap % 3 :]
        sums = np.zeros(lanes, dtype)
        for start in range(0, count * lanes, lanes):
            for lane in range(lanes):
                p = start + lane
                sums[lane] = fused(g[p], x[p], sums[lane])
        while len(sums) > 1:
            sums = sums[: len(sums) // 2] + sums[len(sums) // 2 :]
        assert total == sums[0]


def fused(a: np.floating, b: np.floating, c: np.floating) -> float:
    """a * b + c, rounded once: exact in fractions."""
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if type(c) is np.float64:
        return float(exact)
    near = np.float32(float(exact))  # rounded twice: mend the rare case between two floats
    around = (np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf)))
    return min(around, key=lambda value: abs(Fraction(float(value)) - exact))


def test_fma_rounds_once():
    @njit
    def multiply_add(a, b, c):
        return fixed_order.fma(a, b, c)

    a = 1 + 2.0**-30
    assert multiply_add(a, a, -(1 + 2.0**-29)) == 2.0**-60
    assert a * a - (1 + 2.0**-29) == 0
