"""What a benchmark notices of a busy machine."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from ae_core import benchmark, load, notes, records
from ae_core.load import Load, Watch


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_process_beside_this_one_is_noticed():
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while not (found := Watch()) or not any(_worked(other)):
            time.sleep(0.05)
        time.sleep(1)
        assert found.load().others > 0
    finally:
        other.kill()
        other.wait()


def _worked(process: subprocess.Popen[bytes]) -> list[float]:
    import psutil

    times = psutil.Process(process.pid).cpu_times()
    return [times.user] if times.user > 0.2 else []


def test_own_work_and_that_of_children_is_not_called_another_s(monkeypatch):
    watch = Watch()
    counted = watch._seconds()
    spin(0.3)
    subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    after = watch._seconds()
    assert after[2] - counted[2] >= 0.3
    monkeypatch.setattr(watch, "_started", (0.0, 10.0, 0.0, 0.0))
    monkeypatch.setattr(watch, "_seconds", lambda: (10.0, 22.0, 9.0, 5.0))
    found = watch.load()
    assert (found.others, found.stolen) == (pytest.approx(0.3), 0.5)


@pytest.mark.parametrize(
    ("others", "stolen", "busy"), [(0.0, 0.0, False), (0.3, 0.0, True), (0.0, 0.3, True)]
)
def test_it_is_told_beside_the_table_where_it_matters(capsys, others, stolen, busy):
    found = Load(cores=2, average=1.5, others=others, stolen=stolen)
    assert found.busy == busy
    assert ("other virtual machines 0.3" in str(found)) == bool(stolen)
    shown = []
    record = type("Timed", (), {"load": found})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notes, "display", shown.append)
        notes.load(record)
    assert [("0.3" in part.data) for part in shown] == [True] * busy


def test_a_benchmark_records_the_load_and_the_threading_layer(dataset, tmp_path):
    record = benchmark.benchmark(["cpu-parallel"], dataset, steps=3)
    assert record.load.cores >= 1
    (step,) = record.steps
    assert step.threading_layer in ("omp", "tbb", "workqueue") or step.threads == 1
    assert records.load(records.save(record, tmp_path / "r.json")) == record


def test_the_limit_is_below_one_busy_core():
    assert 0 < load.BUSY < 1
