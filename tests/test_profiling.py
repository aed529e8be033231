from __future__ import annotations

import numpy as np
import pytest

from ae_core import benchmark, headline, peer, phases, profiling, records, tables
from ae_core.profiling import deciles, measure, profile_operations, time_steps
from ae_core.records import RecordError, StepTime, TrainingSettings
from ae_core.training import train
from tests.conftest import SMALL


@pytest.fixture
def images(random):
    return random.random((4, 3, 8, 8), dtype=np.float32)


@pytest.mark.parametrize("phase", list(phases.PHASES))
def test_a_profile_times_every_operation_of_a_step(dataset, phase):
    record = profile_operations(phase, dataset, images=4, steps=3, architecture=SMALL)
    expected = [(cost.layer, cost.operation) for cost in SMALL.costs()]
    assert [(o.layer, o.operation) for o in record.operations] == expected
    assert all(o.n == 3 and 0 < o.low <= o.median <= o.high for o in record.operations)
    convolutions = [o for o in record.operations if "conv2d" in o.operation]
    seconds = record.convolution_share * record.seconds
    assert np.isclose(record.convolution_rate, sum(o.flops for o in convolutions) / seconds)
    shares = tables.operations(record)["share"].str.rstrip("%").astype(float)
    assert np.isclose(shares.sum(), 100, atol=1)


def test_warm_up_steps_do_not_count(monkeypatch):
    now = iter(np.arange(100.0))
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: next(now))
    calls: list[int] = []
    seconds = measure(lambda: calls.append(1), steps=4, warmup=3, synchronize=lambda: None)
    assert seconds == [1.0] * 4
    assert len(calls) == 7


def test_a_distribution_is_median_and_deciles():
    assert deciles([float(n) for n in range(1, 12)]) == {"low": 2.0, "median": 6.0, "high": 10.0}


def test_a_batch_needs_its_images(images):
    with pytest.raises(ValueError, match="at least one batch of 8, found 4"):
        time_steps("cpu", images, steps=1, architecture=SMALL, batch_size=8)


def test_the_peer_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ImportError, match=r"\[peer\]"):
        peer.network(SMALL)


def test_only_full_batches_are_timed(images, monkeypatch):
    """A ragged batch would be less work under the same name."""
    seen = []
    monkeypatch.setattr(
        profiling.Autoencoder, "step", lambda self, batch, rate, loss: seen.append(len(batch))
    )
    time_steps("cpu", images, steps=4, architecture=SMALL, batch_size=3)
    assert set(seen) == {3}


def test_the_headline_is_made_from_records(dataset, tmp_path):
    paths = tmp_path / "b.json", tmp_path / "t.json"
    with pytest.raises(RecordError, match="found no file"):
        headline.markdown(*paths)
    record = benchmark.benchmark({"cpu": 3, "cpu-parallel": 3}, dataset)
    records.save(record, paths[0])
    settings = TrainingSettings(architecture=SMALL, images=4, test_images=4)
    records.save(train(settings, dataset)[1], paths[1])
    text = "\n".join(headline.markdown(*paths))
    plain, parallel = record.steps
    assert f"{1e3 * plain.median:.1f}" in text
    assert f"{plain.median / parallel.median:.1f}x" in text
    assert f"{50_000 * parallel.median:,.0f}" in text
    assert "synthetic stand-in" in text
    with pytest.raises(RecordError, match="found benchmark and benchmark"):
        headline.markdown(paths[0], paths[0])


def test_a_peer_is_compared_on_the_same_device_with_as_many_threads(dataset):
    record = benchmark.benchmark({"cpu": 3, "cpu-parallel": 3}, dataset)
    row = record.steps[0].model_dump() | {"name": "PyTorch", "peer": True, "median": 0.01}
    row |= {"low": 0.01, "high": 0.01}
    same, other = StepTime(**row), StepTime(**row | {"device": "another"})
    ratio = f"{record.steps[0].median / 0.01:.1f}"
    column = tables.benchmark(record.model_copy(update={"steps": (*record.steps, same)}))
    assert column["time / PyTorch's"].iloc[0] == ratio
    column = tables.benchmark(record.model_copy(update={"steps": (*record.steps, other)}))
    assert column["time / PyTorch's"].iloc[0] == ""
