from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ae_core.data.locate import synthesize
from ae_core.files import BusyError, UnwritableError
from ae_core.records import TrainingSettings
from ae_core.training import checkpoint as checkpoints
from ae_core.training import loop
from ae_core.training.checkpoint import CheckpointError
from ae_core.training.loop import TrainingDivergedError, image_order, train
from tests.conftest import ROOT, SMALL

QUICK = TrainingSettings(
    architecture=SMALL, epochs=2, images=64, test_images=20, learning_rate=0.02, seed=1
)


def parameters_equal(a, b) -> bool:
    a, b = a.parameters(), b.parameters()
    return all(np.array_equal(a[name], b[name]) for name in a)


def test_the_loss_falls_and_the_record_tells_it(dataset):
    _, record = train(QUICK.model_copy(update={"epochs": 5}), dataset)
    losses = [epoch.loss for epoch in record.epochs]
    assert losses[-1] < 0.7 * losses[0]
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3, 4, 5]
    assert record.test.images == 20
    assert record.test.mse < losses[0]
    assert record.dataset.kind == "synthetic"
    assert record.memory.host > 2**20
    assert record.memory.device is None
    assert record.device == record.provenance.cpu
    assert record.seconds_per_image > 0


@pytest.mark.parametrize("images", [7, 120])
def test_a_trace_is_the_epochs_loss_in_parts(dataset, images):
    settings = QUICK.model_copy(update={"images": images, "epochs": 1})
    (epoch,) = train(settings, dataset)[1].epochs
    assert len(epoch.trace) == min(images, 50)
    parts = [len(part) for part in np.array_split(np.arange(images), len(epoch.trace))]
    assert np.average(epoch.trace, weights=parts) == pytest.approx(epoch.loss)


def test_reported_test_error_is_that_of_the_reconstructions(dataset):
    autoencoder, record = train(QUICK, dataset)
    images = loop.normalise(dataset.test.images[:20], 8)
    errors = np.square(autoencoder.reconstruct(images) - images).mean((1, 2, 3))
    assert np.isclose(record.test.mse, errors.mean(), rtol=1e-5)
    assert np.isclose(record.test.psnr, np.mean(-10 * np.log10(errors)), rtol=1e-5)


def test_both_cpu_phases_walk_the_same_path(dataset):
    plain, parallel = (
        train(QUICK.model_copy(update={"phase": phase}), dataset)
        for phase in ("cpu", "cpu-parallel")
    )
    for a, b in zip(plain[1].epochs, parallel[1].epochs, strict=True):
        assert np.isclose(a.loss, b.loss, rtol=1e-4)
    for name, tensor in plain[0].parameters().items():
        np.testing.assert_allclose(tensor, parallel[0].parameters()[name], rtol=1e-2, atol=1e-5)


def test_training_again_gives_the_same_bits(dataset):
    (first, a), (second, b) = train(QUICK, dataset), train(QUICK, dataset)
    assert parameters_equal(first, second)
    assert a.parameters_digest == b.parameters_digest


@pytest.mark.parametrize("batch_size", [1, 24])
def test_resuming_gives_the_same_bits_as_never_stopping(dataset, tmp_path, batch_size):
    """Also with a batch size that leaves a ragged last batch."""
    settings = QUICK.model_copy(update={"epochs": 4, "batch_size": batch_size})
    whole, record = train(settings, dataset)
    path = tmp_path / "weights.safetensors"
    train(settings.model_copy(update={"epochs": 2}), dataset, checkpoint=path)
    resumed, again = train(settings, dataset, checkpoint=path, existing="resume")
    assert parameters_equal(whole, resumed)
    assert record.parameters_digest == again.parameters_digest
    assert [e.loss for e in again.epochs] == [e.loss for e in record.epochs]
    assert (record.resumed_after, again.resumed_after) == (0, 2)
    own = again.epochs[2:]
    assert again.seconds_per_image == sum(e.seconds for e in own) / sum(e.images for e in own)


def test_a_run_stopped_within_an_epoch_resumes_from_the_last_whole_one(
    dataset, tmp_path, monkeypatch
):
    path, settings = tmp_path / "weights.safetensors", QUICK.model_copy(update={"epochs": 3})
    run_epoch = loop._run_epoch

    def interrupted(autoencoder, settings, feed, epoch):
        result = run_epoch(autoencoder, settings, feed, epoch)
        if epoch == 2:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_run_epoch", interrupted)
        train(settings, dataset, checkpoint=path)
    assert len(checkpoints.load(path).state.epochs) == 1
    resumed, _ = train(settings, dataset, checkpoint=path, existing="resume")
    assert parameters_equal(resumed, train(settings, dataset)[0])


TRAIN = """
import sys
from ae_core.data import cifar10; from ae_core import files; from ae_core.training import loop
from tests.ae_core.test_training import QUICK

def wait(*_):
    print("here", flush=True)
    sys.stdin.read()

when, checkpoint, data = sys.argv[1:]
if when == "while it saves":
    saved = 0
    sync = files.os.fsync
    def second(descriptor):
        global saved
        saved += 1
        wait() if saved == 2 else sync(descriptor)
    files.os.fsync = second
settings = QUICK.model_copy(update={"epochs": 3})
after = wait if when == "after an epoch" else None
loop.train(settings, cifar10.open_folder(data), checkpoint=checkpoint, on_epoch=after)
"""
"""Trains three epochs, but waits: with the second checkpoint written and not yet in its place, or
with the first in place."""


@pytest.fixture
def other(dataset):
    """Starts a training in another process; returns when it waits."""
    started = []

    def start(when, path):
        process = subprocess.Popen(
            [sys.executable, "-c", TRAIN, when, str(path), str(dataset.directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("when", ["while it saves", "after an epoch"])
def test_a_killed_run_resumes_to_the_same_bits_and_leaves_no_litter(dataset, tmp_path, other, when):
    path = tmp_path / "weights.safetensors"
    process = other(when, path)
    process.kill()
    process.wait()
    assert len(checkpoints.load(path).state.epochs) == 1
    assert len(list(tmp_path.iterdir())) == 2
    settings = QUICK.model_copy(update={"epochs": 3})
    _, resumed = train(settings, dataset, checkpoint=path, existing="resume")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert resumed.parameters_digest == train(settings, dataset)[1].parameters_digest
    assert checkpoints.load(path).state.epochs == resumed.epochs


def test_a_second_run_with_the_same_checkpoint_is_refused_before_any_work(
    dataset, tmp_path, other, monkeypatch
):
    path = tmp_path / "weights.safetensors"
    other("after an epoch", path)
    before = path.read_bytes()
    monkeypatch.setattr(loop.phases, "create", lambda *_: pytest.fail("began to work"))
    for existing in ("refuse", "resume", "replace"):
        with pytest.raises(BusyError, match=r"weights\.safetensors: another process is writing"):
            train(QUICK, dataset, checkpoint=path, existing=existing)
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_is_not_resumed_and_stays(dataset, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    train(QUICK, dataset, checkpoint=path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(loop.phases, "create", lambda *_: pytest.fail("began to work"))
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: .* damaged"):
        train(QUICK, dataset, checkpoint=path, existing="resume")
    assert path.read_bytes() == content


@pytest.mark.parametrize("existing", ["refuse", "resume", "replace"])
def test_a_folder_in_place_of_the_checkpoint_is_told_before_any_work(
    dataset, tmp_path, monkeypatch, existing
):
    monkeypatch.setattr(loop.phases, "create", lambda *_: pytest.fail("began to work"))
    with pytest.raises(UnwritableError, match=f"^{tmp_path}: expected a file's name, found a fol"):
        train(QUICK, dataset, checkpoint=tmp_path, existing=existing)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"learning_rate": 0.1}, "learning_rate was 0.02, is now 0.1"),
        ({"seed": 9}, "seed was 1, is now 9"),
        ({"images": 65}, "images was 64, is now 65"),
        ({"batch_size": 2}, "batch_size was 1, is now 2"),
        ({"phase": "cpu"}, "phase was cpu-parallel, is now cpu"),
        ({"epochs": 1}, "2 epochs are done, 1 asked for"),
    ],
)
def test_resuming_something_else_is_refused_by_name(dataset, tmp_path, change, told):
    path = tmp_path / "weights.safetensors"
    train(QUICK, dataset, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=told):
        train(QUICK.model_copy(update=change), dataset, checkpoint=path, existing="resume")
    assert path.read_bytes() == before


def test_resuming_on_other_data_is_refused(dataset, tmp_path):
    path = tmp_path / "weights.safetensors"
    train(QUICK, dataset, checkpoint=path)
    other = synthesize(tmp_path / "other", seed=5)
    with pytest.raises(CheckpointError, match="dataset was"):
        train(QUICK, other, checkpoint=path, existing="resume")


def test_an_existing_checkpoint_is_not_overwritten(dataset, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="resume it, or name another"):
        train(QUICK, dataset, checkpoint=path)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_loss_that_is_no_number_stops_with_where_and_why(dataset, batch_size):
    settings = QUICK.model_copy(update={"learning_rate": 1e6, "batch_size": batch_size})
    with pytest.raises(TrainingDivergedError) as caught:
        train(settings, dataset)
    first = int(str(caught.value).split("at image ")[1].split()[0])
    assert f"training image {image_order(1, 1, 64)[first - 1]})" in str(caught.value)
    assert "epoch 1" in str(caught.value)
    assert "learning rate 1e+06" in str(caught.value)


def test_parameters_broken_by_the_last_step_are_never_saved(dataset, tmp_path):
    settings = QUICK.model_copy(update={"images": 1, "epochs": 1, "learning_rate": 1e45})
    with pytest.raises(TrainingDivergedError, match="in the last step"), np.errstate(over="ignore"):
        train(settings, dataset, checkpoint=tmp_path / "w.safetensors")
    assert not any(tmp_path.iterdir())


def test_a_test_error_that_is_no_number_is_told(dataset):
    settings = QUICK.model_copy(update={"images": 1, "epochs": 1, "learning_rate": 1e30})
    with pytest.raises(TrainingDivergedError, match="test: the error of image 0"):
        train(settings, dataset)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": 50_001}, "images: expected at most 50,000, found 50,001"),
        ({"test_images": 10_001}, "test_images: expected at most 10,000, found 10,001"),
    ],
)
def test_more_images_than_there_are(dataset, change, told):
    with pytest.raises(ValueError, match=told):
        train(QUICK.model_copy(update=change), dataset)


def test_the_order_of_images_follows_from_seed_and_epoch():
    assert sorted(image_order(0, 1, 100)) == list(range(100))
    np.testing.assert_array_equal(image_order(0, 1, 100), image_order(0, 1, 100))
    assert not np.array_equal(image_order(0, 1, 100), image_order(0, 2, 100))
    assert not np.array_equal(image_order(0, 1, 100), image_order(1, 1, 100))
