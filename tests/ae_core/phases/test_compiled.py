"""Where compiled loops are kept, how threads wait, and Numba's variables."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba.core import caching

from ae_core.phases import compiled
from tests.conftest import ROOT


def double(x):
    return 2 * x


@pytest.fixture
def unwritable(monkeypatch):
    """A machine where only folders with `allowed` in their path can be written."""

    def only(allowed: str) -> None:
        ensure = caching._CacheLocator.ensure_cache_path

        def refusing(locator) -> None:
            if allowed not in locator.get_cache_path():
                raise PermissionError(locator.get_cache_path())
            ensure(locator)

        monkeypatch.setattr(caching._CacheLocator, "ensure_cache_path", refusing)
        monkeypatch.setattr(numba.config, "CACHE_DIR", "")

    return only


def test_loops_of_a_read_only_checkout_are_kept_in_the_packages_cache(
    unwritable, tmp_path, monkeypatch
):
    monkeypatch.setenv("AE_CACHE_DIR", str(tmp_path / "kept"))
    unwritable(str(tmp_path / "kept"))
    assert compiled.compiled(double)(4) == 8
    assert list((tmp_path / "kept").rglob("*.nbc"))


def test_where_nothing_can_be_kept_loops_are_compiled_all_the_same(unwritable):
    unwritable("nowhere at all")
    assert compiled.compiled(double)(4) == 8


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A folder for compiled loops, and a function that compiles `double` and tells of its cache."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))

    def call() -> int:
        loops = compiled.compiled(double)
        assert loops(4) == 8
        return sum(loops.stats.cache_hits.values())

    call.files = lambda: sorted((tmp_path / "kept").rglob("*.nbc"))
    return call


def test_what_was_kept_is_used(kept):
    assert (kept(), kept()) == (0, 1)
    assert len(kept.files()) == 1
    assert numba.config.CACHE_DIR  # the user's choice stays


@pytest.mark.parametrize("damage", ["empty", "cut short", "a flipped bit", "another's"])
def test_a_damaged_copy_is_compiled_anew(kept, damage):
    assert kept() == 0
    (path,) = kept.files()
    content = bytearray(path.read_bytes())
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 4
    length = {"empty": 0, "cut short": len(content) // 2}.get(damage, len(content))
    path.write_bytes(b"not a digest" * 99 if damage == "another's" else content[:length])
    assert (kept(), kept()) == (0, 1)


def test_a_change_of_what_loops_call_is_a_change_of_the_loops(kept, monkeypatch):
    assert kept() == 0
    monkeypatch.setattr(compiled, "_SOURCES", "others")
    assert kept() == 0
    assert "fixed_order.py" in {p.name for p in Path(compiled.__file__).parent.glob("*.py")}


def test_a_full_disk_keeps_nothing_and_fails_nothing(kept, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert (kept(), kept()) == (0, 0)
    assert not kept.files()


TRAINING = ["-m", "ae_core", "train", "--images", "1", "--test-images", "0", "--out"]


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("NUMBA_NUM_THREADS", "0", "NUMBA_NUM_THREADS: expected a whole number from 1 to"),
        ("NUMBA_NUM_THREADS", "many", "NUMBA_NUM_THREADS: expected a whole number from 1 to"),
        ("NUMBA_DISABLE_JIT", "1", "NUMBA_DISABLE_JIT: expected 0, found 1"),
        ("NUMBA_THREADING_LAYER", "strings", "NUMBA_THREADING_LAYER=strings: expected one of"),
        ("NUMBA_THREADING_LAYER_PRIORITY", "omp", "NUMBA_THREADING_LAYER_PRIORITY=omp: expected"),
    ],
)
def test_nonsense_in_numbas_variables_is_told_in_a_line(dataset, tmp_path, variable, value, told):
    done = subprocess.run(
        [sys.executable, *TRAINING, str(tmp_path / "r.json"), "--data", str(dataset.directory)],
        env=os.environ | {variable: value, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {told}")
    assert value in line


def test_threads_sleep_while_they_wait_and_the_environment_stays_as_it_was(monkeypatch):
    seen = {}

    def start() -> int:
        seen.update(os.environ)
        return 2

    monkeypatch.setattr(numba, "get_num_threads", start)
    for name in compiled.WAITING:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    assert compiled.start_threads() == 2
    assert compiled.WAITING.items() <= seen.items()
    assert dict(os.environ) == before
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")  # a person who chose keeps the choice
    compiled.start_threads()
    assert seen["GOMP_SPINCOUNT"] == "7"


def test_openmp_takes_the_setting():
    """What OpenMP says of itself; Numba's other layers say nothing, and have no setting."""
    program = (
        "from ae_core.phases import compiled; compiled.start_threads(); "
        "print(compiled.threading_layer())"
    )
    unset = {k: v for k, v in os.environ.items() if k not in compiled.WAITING}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=unset | {"OMP_DISPLAY_ENV": "verbose", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if done.stdout.strip() != "omp" or "GOMP" not in done.stderr:
        pytest.skip(f"Numba's threads are not GNU OpenMP's here: {done.stdout.strip()}")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
    assert "GOMP_SPINCOUNT = '1000'" in done.stderr


def test_the_package_compiles_loops_in_one_place_only():
    for path in (ROOT / "ae_core").rglob("*.py"):
        assert "njit" not in path.read_text("utf8") or path == Path(compiled.__file__), path
