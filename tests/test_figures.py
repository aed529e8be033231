from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from ae_core import figures, notes, provenance, tables
from ae_core.architecture import Architecture
from ae_core.profiling import profile_operations, summary
from ae_core.records import BenchmarkRecord, DatasetIdentity, TrainingSettings
from ae_core.training import train
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def drawn(dataset):
    """Every figure of the book, as SVG text by name."""
    settings = TrainingSettings(architecture=SMALL, epochs=2, images=4, test_images=4)
    images = np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32)
    bench = BenchmarkRecord(
        provenance=provenance.current(),
        dataset=DatasetIdentity.model_validate(dataset.identity),
        architecture=SMALL,
        steps=(summary("cpu", 1, 1, [0.3, 0.4]), summary("PyTorch, CPU", 1, 1, [0.01, 0.02])),
    )
    profile = profile_operations("cpu", images, steps=2, architecture=SMALL)
    return {
        "class samples": figures.class_samples(dataset, 2),
        "network": figures.network_diagram(Architecture()),
        "loss": figures.loss_curve(train(settings, dataset)[1]),
        "shares": figures.operation_shares([profile, profile]),
        "times": figures.step_times(bench),
        "reconstructions": figures.reconstructions(images, images * 2),
    }


def test_figures_are_svg_that_follows_the_readers_theme(drawn):
    for name, figure in drawn.items():
        text = figures.svg(figure)
        ElementTree.fromstring(text)
        assert "var(--ink)" in text, name
        assert "prefers-color-scheme:dark" in text, name
        assert figures.INK not in text and figures.MUTED not in text, name


def test_no_text_is_black_and_no_ground_is_white(drawn):
    for name, figure in drawn.items():
        text = figures.svg(figure)
        assert "fill: #000000" not in text, name
        assert "fill: #ffffff" not in text, name


def test_figures_come_out_the_same_each_time(dataset):
    first, second = (figures.svg(figures.class_samples(dataset, 2)) for _ in range(2))
    assert first == second


def test_the_network_table_adds_up():
    frame = tables.network(Architecture())
    assert frame["parameters"].iloc[-1] == "751,875"
    assert frame["MFLOP per image"].iloc[-1] == "349.2"


def test_tables_put_numbers_to_the_right(capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(notes, "display", shown.append)
    notes.table(pd.DataFrame({"name": ["a<b"], "ms": ["1.5"], "share": ["12%"], "empty": [""]}))
    text = shown[0].data
    assert "<td class='text'>a&lt;b</td>" in text
    assert "<td class='number'>1.5</td><td class='number'>12%</td>" in text


def test_provenance_is_told_in_full(monkeypatch):
    shown = []
    monkeypatch.setattr(notes, "display", shown.append)
    facts = provenance.current("papermill a.ipynb <out>")
    notes.provenance(facts)
    text = shown[0].data
    for part in (facts.cpu, facts.python, f"numpy {facts.versions['numpy']}", "&lt;out&gt;"):
        assert part in text
