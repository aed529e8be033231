"""How much can be measured or trained in a given time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ae_core.architecture import MINI, Architecture
from ae_core.measuring import timing


@pytest.mark.parametrize(
    ("seconds", "epochs", "images"),
    [(10.0, 1, 1000), (10.0, 4, 250), (0.001, 1, timing.LEAST_IMAGES)],
)
def test_affordable_images_follow_from_the_median_step(
    dataset, monkeypatch, seconds, epochs, images
):
    """A step takes a hundredth of a second."""
    monkeypatch.setattr(timing, "time_steps", lambda *_, **__: SimpleNamespace(median=0.01))
    found = timing.affordable_images("cpu", dataset, seconds, epochs=epochs)
    assert found == images


@pytest.mark.parametrize(("phase", "network"), [("cpu-parallel", Architecture()), ("gpu-v2", MINI)])
def test_the_steps_that_tell_are_of_the_network_that_will_be_trained(
    dataset, monkeypatch, phase, network
):
    calls = []

    def timed(name, images, **options):
        calls.append((name, images.shape[1:], options["architecture"]))
        return timing_of(name, images, **options)

    timing_of = timing.time_steps
    monkeypatch.setattr(timing, "time_steps", timed)
    found = timing.affordable_images(phase, dataset, 0.0, device="emulated")
    assert found == timing.LEAST_IMAGES
    assert calls == [(phase, (3, network.height, network.width), network)]
