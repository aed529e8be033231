"""Whole training steps of the CUDA phases: the small network, emulated."""

from __future__ import annotations

import numpy as np
import pytest

from ae_core import machine, phases, records
from ae_core.architecture import MINI
from ae_core.autoencoder import Autoencoder
from ae_core.devices.emulated import WARP_ORDERS, EmulatedDevice
from ae_core.devices.kernel_device import open_device
from ae_core.errors import InputError
from ae_core.measuring.verification import compare
from ae_core.phases.feed import Feed
from ae_core.training.loop import train
from tests.conftest import SMALL

CUDA = [name for name, phase in phases.PHASES.items() if phase.cuda and phase.emulated]
CAPTURABLE = [name for name in CUDA if phases.named(name).capturable]


@pytest.mark.parametrize("order", WARP_ORDERS)
@pytest.mark.parametrize("phase", CUDA)
def test_a_pass_and_some_steps_agree_with_float64_and_with_themselves(dataset, phase, order):
    device = EmulatedDevice(order=order)
    (record,) = compare([phase], dataset, images=3, steps=3, device=device)
    assert record.passed, record.differences
    assert record.architecture == MINI and record.repeatable


def test_other_bits_on_a_second_run_fail(dataset, monkeypatch):
    """A phase that is close enough, but not the same twice."""
    noise = iter(range(100))

    def restless(self, y, biases):
        y[...] += biases[:, None, None] + 1e-7 * next(noise)

    monkeypatch.setattr("ae_core.phases.cpu_parallel.CpuParallel.bias_forward", restless)
    (record,) = compare(["cpu-parallel"], dataset, images=1, steps=0, architecture=SMALL)
    assert record.repeatable is False and not record.passed


@pytest.mark.parametrize("phase", CUDA)
def test_nothing_is_allocated_or_copied_to_or_from_the_host_within_a_step(phase, monkeypatch):
    device = EmulatedDevice()
    autoencoder = Autoencoder(phases.create(phase, SMALL, 2, device))
    feed = Feed(device, np.full((4, 3, 8, 8), 0.5, np.float32))
    autoencoder.take_from(feed)
    autoencoder.warm_up()

    def forbidden(*_):
        raise AssertionError("within a step")

    for name in ("empty", "upload", "download"):
        monkeypatch.setattr(device, name, forbidden)
    autoencoder.step()
    autoencoder.step()
    device.synchronize()
    assert np.isfinite(feed.losses).all()


@pytest.mark.parametrize("on", ["emulated", *(["cuda"] if machine.gpu() else [])])
@pytest.mark.parametrize("phase", CAPTURABLE)
def test_a_graph_changes_no_bit(phase, on, random):
    """Also with a smaller batch at the end and another learning rate later."""
    results = []
    images = random.random((5, 3, 8, 8)).astype(np.float32)
    for graph in (False, True):
        device = open_device(on)
        autoencoder = Autoencoder(phases.create(phase, SMALL, 2, device), graph=graph, seed=3)
        feed = Feed(device, images)
        autoencoder.take_from(feed)
        autoencoder.warm_up()
        losses = []
        for epoch in range(2):
            feed.begin(np.arange(5)[:: 1 - 2 * epoch])
            for number, size in enumerate((2, 2, 1)):
                autoencoder.learning_rate = 0.01 if number < 2 else 0.02
                autoencoder.step(size)
            losses.append(feed.read_losses())
        tensors = [*losses, *autoencoder.parameters().values()]
        results.append(np.concatenate([tensor.ravel() for tensor in tensors]))
    np.testing.assert_array_equal(*results)


def test_a_change_of_the_learning_rate_captures_nothing_anew(monkeypatch):
    device = EmulatedDevice()
    autoencoder = Autoencoder(phases.create("gpu-v1", SMALL, 2, device), graph=True)
    autoencoder.take_from(Feed(device, np.full((4, 3, 8, 8), 0.5, np.float32)))
    autoencoder.warm_up()
    monkeypatch.setattr(device, "capture", lambda *_: pytest.fail("captured"))
    before = autoencoder.digest()
    autoencoder.step()
    assert autoencoder.digest() == before  # the rate is still 0
    autoencoder.learning_rate = 0.1
    autoencoder.step()
    assert autoencoder.digest() != before


def test_a_graph_refuses_images_that_do_not_fit():
    device = EmulatedDevice()
    autoencoder = Autoencoder(phases.create("gpu-v1", SMALL, 2, device), graph=True)
    autoencoder.take_from(Feed(device, np.zeros((4, 3, 8, 8), np.float32)))
    with pytest.raises(InputError, match="expected 1 to 2, found 3"):
        autoencoder.step(3)


@pytest.mark.parametrize("phase", ["gpu-v1", "gpu-v2"])
def test_training_at_batch_1_fits_a_small_card(dataset, phase):
    """All arrays of the book's network, and CIFAR-10's training images: at most 200 MB."""
    device = EmulatedDevice()
    autoencoder = Autoencoder(phases.create(phase, device=device))
    images = dataset.train.images[:]
    autoencoder.take_from(Feed(device, images))
    assert images.nbytes < device.memory().device < 200e6


@pytest.mark.parametrize("phase", ["cpu", "gpu-basic"])
def test_a_phase_that_cant_be_a_graph_says_so(phase):
    with pytest.raises(InputError, match="graph: expected a phase whose steps can be captured"):
        Autoencoder(phases.create(phase, SMALL, device=EmulatedDevice()), graph=True)


@pytest.mark.parametrize("phase", CUDA)
def test_training_follows_the_cpu_step_by_step(dataset, phase):
    def losses(phase):
        settings = records.TrainingSettings(
            phase=phase, architecture=SMALL, images=12, epochs=2, test_images=4
        )
        _, record = train(settings, dataset, device="emulated")
        return [*(epoch.loss for epoch in record.epochs), record.test.mse]

    np.testing.assert_allclose(losses(phase), losses("cpu"), rtol=1e-5)


def test_a_run_goes_on_with_a_graph_to_the_same_bits(dataset, tmp_path):
    settings = records.TrainingSettings(
        phase="gpu-v2", architecture=SMALL, images=5, epochs=2, test_images=0
    )
    straight = train(settings, dataset, device="emulated")[1]
    first = settings.model_copy(update={"epochs": 1})
    path = tmp_path / "w.safetensors"
    train(first, dataset, device="emulated", checkpoint=path)
    again = settings.model_copy(update={"graph": True})
    resumed = train(again, dataset, device="emulated", checkpoint=path, existing="resume")[1]
    assert resumed.parameters_digest == straight.parameters_digest
