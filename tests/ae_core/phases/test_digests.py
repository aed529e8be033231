"""Every phase trains to the bits that it trained to before it was a plan.

`digests.json` was recorded with the code before the seam: digest of the parameters, loss of each
epoch, error on test images. A phase that is changed on purpose is recorded anew, and the commit
says why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ae_core import phases
from ae_core.records import TrainingSettings
from ae_core.training.loop import train
from tests.conftest import SMALL

RECORDED = json.loads(Path(__file__).with_name("digests.json").read_text("utf8"))
RUNS = {
    "one image a step": {
        "architecture": SMALL, "images": 5, "epochs": 2, "test_images": 3, "learning_rate": 0.05,
        "seed": 3,
    },
    "three, and a ragged last batch": {
        "architecture": SMALL, "images": 7, "epochs": 2, "test_images": 4, "learning_rate": 0.05,
        "seed": 3, "batch_size": 3,
    },
    "the book's network": {"images": 2, "epochs": 1, "test_images": 1, "learning_rate": 0.01},
}  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "run", "graph"),
    [
        (phase, run, graph)
        for phase, runs in RECORDED.items()
        for run in runs
        for graph in ((False, True) if phases.named(phase).capturable else (False,))
    ],
)
def test_a_phase_trains_to_the_recorded_bits(dataset, phase, run, graph):
    settings = TrainingSettings(phase=phase, graph=graph, **RUNS[run])
    _, record = train(settings, dataset, device="emulated")
    assert record.parameters_digest == RECORDED[phase][run]["parameters"]
    assert [epoch.loss for epoch in record.epochs] == RECORDED[phase][run]["losses"]
    assert record.test.mse == RECORDED[phase][run]["test"]
