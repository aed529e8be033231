"""What a benchmark notices of a busy machine."""

from __future__ import annotations

from collections import namedtuple

import psutil
import pytest

from ae_book.showing import notes
from ae_core import records
from ae_core.measuring import benchmark
from ae_core.records.load import Load, Watch


def test_only_the_work_of_others_is_counted(monkeypatch):
    """Of 12 busy seconds on the clock's 10, this process and its children took 9."""
    watch = Watch()
    monkeypatch.setattr(watch, "_started", (0.0, 10.0, 1.0, 0.5))
    monkeypatch.setattr(watch, "_seconds", lambda: (10.0, 22.0, 10.0, 5.5))
    found = watch.load()
    assert (found.others, found.stolen) == (pytest.approx(0.3), pytest.approx(0.5))


def test_where_others_did_nothing_it_is_not_less_than_nothing(monkeypatch):
    """The system counts the time of processes more finely than that of cores."""
    watch = Watch()
    monkeypatch.setattr(watch, "_started", (0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(watch, "_seconds", lambda: (1.0, 0.99, 1.0, 0.0))
    assert watch.load().others == 0


def test_seconds_are_those_of_the_cores_that_may_be_used(monkeypatch):
    """A container may use some: what the others do says nothing about its times."""
    watch, times = Watch(), namedtuple("Times", "user nice system idle irq softirq steal")
    monkeypatch.setattr(watch, "_cores", [1, 2])
    cores = [
        times(100, 0, 0, 0, 0, 0, 9),
        times(1, 2, 4, 99, 8, 16, 3),
        times(32, 0, 0, 99, 0, 0, 4),
    ]
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores)
    own = namedtuple("Own", "user system children_user children_system")(1, 2, 4, 8)
    monkeypatch.setattr(watch, "_process", type("Process", (), {"cpu_times": lambda: own}))
    _, busy, spent, stolen = watch._seconds()
    assert (busy, spent, stolen) == (63, 15, 7)


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
