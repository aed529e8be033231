from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ae_book.analysis import headline
from ae_book.showing import tables
from ae_core import numbers, phases, records
from ae_core.architecture import MINI
from ae_core.measuring import benchmark, pytorch
from ae_core.measuring.profiling import profile_operations
from ae_core.measuring.timing import affordable, distribution, measure, time_steps
from ae_core.phases.feed import Feed
from ae_core.records import RecordError, StepTime, TrainingSettings
from ae_core.training.loop import train
from tests import handmade
from tests.conftest import SMALL


@pytest.fixture
def images(random):
    return random.random((4, 3, 8, 8), dtype=np.float32)


CPU = [name for name, phase in phases.PHASES.items() if not phase.cuda]


@pytest.mark.parametrize("phase", CPU)
def test_a_profile_times_every_operation_of_a_step(dataset, phase):
    record = profile_operations(phase, dataset, images=4, steps=3, architecture=SMALL)
    expected = [f"{cost.layer}.{cost.operation}" for cost in SMALL.costs()]
    assert [o.name for o in record.operations] == ["images", *expected, "losses kept"]
    assert [name for o in record.operations for name in o.operations] == expected
    assert all(o.n == 3 and 0 <= o.low <= o.median <= o.high for o in record.operations)
    convolutions = [o for o in record.operations if "conv2d" in o.name]
    seconds = record.convolution_share * record.seconds
    assert np.isclose(record.convolution_rate, sum(o.flops for o in convolutions) / seconds)
    table = tables.operations(record)
    assert table["operation"].iloc[-1] == "gaps"
    assert np.isclose(table["of step"].str.rstrip("%").astype(float).sum(), 100, atol=1)


@pytest.mark.parametrize(("phase", "launches"), [("gpu-v2", 44), ("gpu-basic-filter", 156)])
def test_a_profile_counts_launches(dataset, phase, launches):
    """v2: one each. By filter: one for each plane that a convolution writes or differentiates.

    Two of them take the images and keep their losses.
    """
    record = profile_operations(phase, dataset, images=1, steps=3, device="emulated")
    assert record.architecture == MINI and record.ceilings is None
    assert sum(o.launches for o in record.operations) == launches
    assert tables.profile(record)["launches"].iloc[1] == ("1" if phase == "gpu-v2" else "12")


def test_before_and_after_are_compared_by_operation_and_by_layer(dataset):
    before = profile_operations("cpu", dataset, images=2, steps=3, architecture=SMALL)
    twice = [o.model_copy(update={"median": 2 * o.median}) for o in before.operations]
    after = before.model_copy(update={"operations": tuple(twice)})
    table = tables.compared(before, after).set_index("operation")
    assert set(table.loc[table.index != "step", "ratio"]) == {"0.500"}
    assert table.loc["step", "ratio"] == "1.00"
    layers = tables.compared(before, after, by_layer=True)["operation"]
    assert list(layers) == [
        *(f"{c.layer}.{c.operation}" for c in SMALL.costs() if "conv2d" in c.operation), "step",
    ]  # fmt: skip


class Ticks:
    """A clock that moves on by what `step` says."""

    def __init__(self, *seconds: float) -> None:
        self.now, self.steps, self.calls = 0.0, iter(seconds), 0

    def step(self):
        self.calls += 1
        self.now += next(self.steps)

    def synchronize(self):
        pass

    def mark(self):
        return self.now

    def elapsed(self, start, end):
        return end - start


def test_warm_up_steps_do_not_count():
    clock = Ticks(9, 9, 9, 1, 2, 3, 4)
    assert measure(clock.step, steps=4, warmup=3, clock=clock) == [1, 2, 3, 4]
    assert clock.calls == 7


@pytest.mark.parametrize(
    ("seconds", "batch_size", "steps"),
    [(10.0, 1, 30), (1.0, 1, 100), (1e-4, 1, 50_000), (1e-4, 64, 782), (1e-4, 4096, 30)],
)
def test_as_many_steps_as_the_budget_allows(seconds, batch_size, steps):
    clock = Ticks(*[seconds] * 5)
    assert affordable(clock.step, clock, budget=100.0, batch_size=batch_size) == steps


def test_a_distribution_is_median_and_deciles():
    expected = {"low": 2.0, "median": 6.0, "high": 10.0}
    assert distribution([float(n) for n in range(1, 12)]) == expected


def test_an_epoch_is_measured_or_extrapolated_and_says_which():
    few = handmade.step("cpu", 2.0, handmade.CPU, n=100, batch_size=10, total=300)
    assert few.extrapolated and few.seconds_per_epoch == 3 * 5000 and few.per_image == 0.2
    all_images = few.model_copy(update={"n": 5000, "total": 15000})
    assert not all_images.extrapolated and all_images.seconds_per_epoch == 15000


def test_an_emulators_time_is_not_put_beside_others(dataset, monkeypatch):
    with pytest.raises(ValueError, match="expected an NVIDIA GPU for gpu-v2"):
        benchmark.benchmark(["gpu-v2"], dataset, device="emulated")
    monkeypatch.setattr(benchmark.machine, "gpu", lambda: None)
    assert benchmark.timeable() == CPU


def test_each_phase_is_timed_at_the_batch_it_is_made_for_and_pytorch_beside_it(
    dataset, monkeypatch
):
    made_for = replace(phases.PHASES["cpu-parallel"], batch_size=2)
    monkeypatch.setitem(phases.PHASES, "cpu-pairs", made_for)
    asked = []

    def timed(pixels, threads, steps, budget, batch_size):
        asked.append((threads, batch_size))
        return handmade.step("PyTorch", 1.0, handmade.CPU, threads, batch_size=batch_size)

    monkeypatch.setattr(pytorch, "require", lambda: None)
    monkeypatch.setattr(pytorch, "time_cpu_steps", timed)
    names = ["cpu-parallel", "cpu-pairs"]
    record = benchmark.benchmark(names, dataset, steps=3, with_torch=True)
    threads = record.steps[0].threads
    assert [step.batch_size for step in record.steps] == [1, 2, 1, 2]
    assert asked == [(threads, 1), (threads, 2)]
    same = benchmark.benchmark(names, dataset, steps=3, batch_size=4)
    assert [step.batch_size for step in same.steps] == [4, 4]


def test_a_batch_needs_its_images(images):
    with pytest.raises(ValueError, match="at least one batch of 8, found 4"):
        time_steps("cpu", images, steps=1, architecture=SMALL, batch_size=8)


def test_the_peer_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match=r"\[peer\]"):
        pytorch.network(SMALL)


def test_only_full_batches_are_timed(images, monkeypatch):
    """A ragged batch would be less work under the same name."""
    seen, prepare = [], Feed.prepare

    def watched(feed, count):
        seen.append(count)
        prepare(feed, count)

    monkeypatch.setattr(Feed, "prepare", watched)
    time_steps("cpu", images, steps=4, warmup=1, architecture=SMALL, batch_size=3)
    assert seen == [3] * 5


def test_the_headline_is_made_from_records(dataset, tmp_path):
    paths = tmp_path / "b.json", tmp_path / "t.json"
    with pytest.raises(RecordError, match="found nothing"):
        headline.of_records(*paths)
    record = benchmark.benchmark(CPU, dataset, steps=3)
    records.save(record, paths[0])
    settings = TrainingSettings(architecture=SMALL, images=4, test_images=4)
    records.save(train(settings, dataset)[1], paths[1])
    text = "\n".join(headline.of_records(*paths))
    plain, parallel = record.steps
    assert numbers.digits(1e3 * plain.median) in text
    assert f"{numbers.digits(plain.median / parallel.median)}x" in text
    assert f"{numbers.digits(50_000 * parallel.total / 3)} extrapolated" in text
    assert "synthetic stand-in" in text
    with pytest.raises(RecordError, match="found benchmark and benchmark"):
        headline.of_records(paths[0], paths[0])


def test_a_peer_is_compared_on_the_same_device_with_as_many_threads_in_float32(dataset):
    record = benchmark.benchmark(CPU, dataset, steps=3)
    row = record.steps[0].model_dump() | {"name": "PyTorch", "peer": True, "median": 0.01}
    row |= {"low": 0.01, "high": 0.01}
    same, other = StepTime(**row), StepTime(**row | {"device": "another"})
    slower = StepTime(**row | {"median": 0.02})
    rounded = StepTime(**row | {"median": 0.001, "precision": "bf16"})
    exact = record.steps[0].median / 0.01
    for peers, expected in (((slower, same, rounded), exact), ((other, rounded), None)):
        joined = record.model_copy(update={"steps": (*record.steps, *peers)})
        ratio = tables.benchmark(joined)["time / PyTorch's"].iloc[0]
        assert (float(ratio) == pytest.approx(expected, rel=0.01)) if expected else ratio == ""
