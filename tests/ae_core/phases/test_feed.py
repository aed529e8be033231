"""Images on the device: all of them, or in parts that come while it computes."""

from __future__ import annotations

import numpy as np
import pytest

from ae_core import machine, phases
from ae_core.autoencoder import Autoencoder
from ae_core.devices.device import Host
from ae_core.devices.emulated import EmulatedDevice
from ae_core.devices.kernel_device import open_device
from ae_core.errors import InputError
from ae_core.phases.feed import Feed, StreamedFeed, open_feed
from tests.conftest import SMALL

DEVICES = ["emulated", *(["cuda"] if machine.gpu() else [])]
PARTS = [1, 2, 4, 30]
"""Images of a part: smaller than a batch, two batches, more than there are."""


@pytest.fixture
def images(random):
    return random.random((11, 3, 8, 8), np.float32)


def trained(images, device, make, graph=False, phase="gpu-v1"):
    """Losses and parameters after two epochs in steps of 2, the last of 1."""
    autoencoder = Autoencoder(phases.create(phase, SMALL, 2, device), graph=graph)
    feed = make(device)
    autoencoder.take_from(feed)
    autoencoder.learning_rate = 0.05
    autoencoder.warm_up()
    losses = []
    for epoch in range(2):
        feed.begin(np.random.default_rng(epoch).permutation(len(images)))
        for first in range(0, len(images), 2):
            autoencoder.step(min(2, len(images) - first))
        losses.append(feed.read_losses())
    return np.concatenate(losses), autoencoder.digest()


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("on", DEVICES)
def test_streamed_images_are_the_same_images(images, on, part, graph):
    losses, digest = trained(images, open_device(on), lambda d: Feed(d, images))
    streamed = trained(
        images, open_device(on), lambda d: StreamedFeed(d, images, 2, part), graph=graph
    )
    np.testing.assert_array_equal(streamed[0], losses)
    assert streamed[1] == digest


@pytest.mark.parametrize(
    "forgotten",
    [
        "steps wait for their part",
        "a copy waits for the steps that read what it overwrites",
        "the host waits for the copy out of pinned memory",
    ],
)
def test_a_forgotten_wait_shows(images, forgotten, monkeypatch):
    """On the emulator, whose streams run as late as events allow."""
    device = EmulatedDevice()
    right = trained(images, EmulatedDevice(), lambda d: Feed(d, images))
    follow, nothing = device.follow, lambda *_: None
    if forgotten == "the host waits for the copy out of pinned memory":
        monkeypatch.setattr(device, "wait", nothing)
    elif forgotten == "steps wait for their part":
        monkeypatch.setattr(device, "follow", lambda e, s=None: s and follow(e, s))
    else:
        monkeypatch.setattr(device, "follow", lambda e, s=None: s or follow(e))
    wrong = trained(images, device, lambda d: StreamedFeed(d, images, 2, 2))
    assert not np.array_equal(wrong[0], right[0])


def test_images_are_streamed_where_they_would_fill_the_device(images, monkeypatch):
    device = EmulatedDevice()
    monkeypatch.setattr(device, "free_bytes", lambda: 3 * images.nbytes)
    assert type(open_feed(device, images, 2)) is Feed
    monkeypatch.setattr(device, "free_bytes", lambda: images.nbytes)
    feed = open_feed(device, images, 3)
    assert isinstance(feed, StreamedFeed)
    np.testing.assert_array_equal(feed.read_losses().shape, (11,))


def test_a_cpu_reads_images_where_they_are(images):
    plan = phases.create("cpu", SMALL)
    assert Feed(plan.device, images).pixels is images


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda d, i: Feed(d, i.astype(np.float64)), "expected uint8 or float32, found float64"),
        (lambda d, i: Feed(d, i[:0]), "images: expected at least one, found none"),
        (lambda d, i: Feed(d, i).begin(np.arange(3)), r"expected 11 images, found shape \(3,\)"),
        (lambda d, i: Feed(d, i).begin(np.arange(1, 12)), "expected 0 to 10, found 1 to 11"),
        (lambda d, i: StreamedFeed(d, i, 4).begin(np.arange(-1, 10)), "found -1 to 9"),
        (
            lambda d, i: Autoencoder(phases.create("cpu", SMALL)).take_from(
                Feed(Host(), i, dtype=np.float64)
            ),
            "expected losses of float32, found float64",
        ),
        (lambda d, i: StreamedFeed(d, i, 4, 4).prepare(5), "expected steps of one size, found 5"),
    ],
)
def test_mistakes_are_told(images, call, told):
    with pytest.raises(InputError, match=told):
        call(EmulatedDevice(), images)


def losses_of_an_epoch(autoencoder, feed):
    """In full steps, at a rate of 0."""
    for _ in range(feed.length // autoencoder.batch_size):
        autoencoder.step()
    return feed.read_losses()


MAKES = [Feed, lambda device, images: StreamedFeed(device, images, 2, 2)]


@pytest.mark.parametrize("make", MAKES)
def test_a_feed_without_a_new_order_goes_around(images, make):
    """As timing does: the same images again and again."""
    device = EmulatedDevice()
    autoencoder = Autoencoder(phases.create("gpu-v2", SMALL, 2, device))
    feed = make(device, images[:10])  # streamed: five parts, in two places
    autoencoder.take_from(feed)
    expected = autoencoder.errors(images[:10])
    for _ in range(3):
        np.testing.assert_allclose(losses_of_an_epoch(autoencoder, feed), expected, rtol=1e-6)


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("taken", [1, 3, 4])
def test_warming_up_begins_an_epoch_again_that_was_broken_off(images, make, taken):
    device = EmulatedDevice()
    autoencoder = Autoencoder(phases.create("gpu-v2", SMALL, 2, device))
    feed = make(device, images[:10])
    autoencoder.take_from(feed)
    expected = autoencoder.errors(images[:10])
    for _ in range(taken):
        autoencoder.step()
    autoencoder.warm_up()
    np.testing.assert_allclose(losses_of_an_epoch(autoencoder, feed), expected, rtol=1e-6)


def test_a_step_that_is_refused_takes_no_images(images):
    feed = StreamedFeed(EmulatedDevice(), images, 4, 4)
    with pytest.raises(InputError, match="expected steps of one size, found 5"):
        feed.prepare(5)
    feed.prepare(4)
    feed.prepare(4)
    feed.prepare(3)
