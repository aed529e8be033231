from __future__ import annotations

import html
import re
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from ae_book.analysis import figures as analysis_figures
from ae_book.analysis import side_by_side
from ae_book.showing import classes, diagrams, figures, notes, tables
from ae_core import numbers, progress
from ae_core.architecture import Architecture
from ae_core.data.cifar10 import CLASSES, Identity
from ae_core.measuring import benchmark
from ae_core.measuring.profiling import profile_operations
from ae_core.records import (
    Ceilings,
    ClassificationResult,
    ClassifierSettings,
    TrainingSettings,
    provenance,
)
from ae_core.terminal import watched
from ae_core.training.loop import train
from tests import handmade
from tests.conftest import SMALL


def classified(features, seed):
    """A result of ten classes; the first has no test images."""
    confusion = np.random.default_rng(seed).integers(0, 9, (10, 10)) + 99 * np.eye(10, dtype=int)
    confusion[0] = 0
    return ClassificationResult(
        features=features,
        seed=seed,
        dimensions=9,
        scaled=True,
        settings=ClassifierSettings(),
        train_images=20,
        test_images=confusion.sum(),
        fit_seconds=1.0,
        predict_seconds=0.5,
        train_accuracy=1.0,
        confusion=confusion.tolist(),
    )


@pytest.fixture(scope="module")
def drawn(dataset):
    """Every figure of the book, as SVG text by name."""
    settings = TrainingSettings(architecture=SMALL, epochs=2, images=4, test_images=4)
    random = np.random.default_rng(0)
    images = random.random((3, 3, 8, 8), dtype=np.float32)
    results = [classified("trained", 0), classified("trained", 1), classified("pixels", 2)]
    units = random.standard_normal((20, 9))
    bench = benchmark.benchmark(["cpu", "cpu-parallel"], dataset, steps=3)
    peer = bench.steps[0].model_copy(update={"name": "PyTorch", "peer": True})
    bench = bench.model_copy(update={"steps": (*bench.steps, peer)})
    profile = profile_operations("cpu", dataset, images=2, steps=2, architecture=SMALL)
    ceilings = Ceilings(flops=5e13, bandwidth=4e12)
    rows = side_by_side.phases(handmade.laptop_run(), {"h100 edition": handmade.gpu_run()})
    return {
        "class samples": figures.class_samples(dataset, 2),
        "network": figures.network_diagram(Architecture()),
        "loss": figures.loss_curve(train(settings, dataset)[1]),
        "shares": figures.operation_shares([profile, profile]),
        "times": figures.step_times(bench),
        "reconstructions": figures.reconstructions(images, images * 2),
        "roofline": figures.roofline([profile.model_copy(update={"ceilings": ceilings})]),
        "basic": diagrams.basic(),
        "batched": diagrams.batched(),
        "implicit GEMM": diagrams.implicit_gemm(),
        "confusion matrix": classes.confusion_matrix(results[0], CLASSES),
        "recalls": classes.recalls(results, CLASSES),
        "accuracies": classes.accuracies(results),
        "unit activity": classes.unit_activity(units, np.abs(units)),
        "embedding": classes.embedding(units[:, :2], np.arange(20) % 10, CLASSES),
        "confused": classes.confused([("cat", "dog", images, images[::-1])] * 2),
        "pipeline": classes.pipeline(8192, 50_000, 10_000),
        "epoch times": analysis_figures.epoch_times(rows),
        "gains": analysis_figures.step_gains(rows),
        "time shares": analysis_figures.time_shares(rows),
        "loss over time": analysis_figures.loss_over_time(rows),
        "memory": analysis_figures.memory(rows),
    }


def test_figures_are_svg_that_follows_the_readers_theme(drawn):
    for name, figure in drawn.items():
        text = figures.svg(figure)
        ElementTree.fromstring(text)
        assert "var(--ink)" in text, name
        assert "prefers-color-scheme:dark" in text, name
        assert figures.INK not in text and figures.MUTED not in text, name


def test_all_text_is_drawn_in_the_themes_ink(drawn):
    """Matplotlib leaves the fill out where it is black, so each text must have one."""
    for name, figure in drawn.items():
        texts = re.findall(r"<text [^>]*>", figures.svg(figure))
        assert texts, name
        for text in texts:
            assert "fill: var(--ink)" in text, f"{name}: {text}"


def test_no_ground_is_painted(drawn):
    for name, figure in drawn.items():
        assert "fill: #ffffff" not in figures.svg(figure), name


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
    notes.table(pd.DataFrame({"name": ["a<b"], "ms": ["1.5"], "share": ["12 %"], "empty": [""]}))
    text = shown[0].data
    assert "<td class='text'>a&lt;b</td>" in text
    assert "<td class='number'>1.5</td><td class='number'>12 %</td>" in text
    assert "class='table measured'" in text
    notes.table(pd.DataFrame({"name": ["a"]}), wide=True)
    assert "class='table measured wide'" in shown[1].data


def test_provenance_is_told_in_full(monkeypatch):
    shown = []
    monkeypatch.setattr(notes, "display", shown.append)
    facts = provenance.current("papermill a.ipynb <out>")
    notes.provenance(facts, Identity("other", "label", "0123" * 16), 7)
    text = shown[0].data
    numpy = f"numpy {facts.versions['numpy']}"
    for part in (facts.cpu, facts.python, numpy, "&lt;out&gt;", "label, SHA-256 0123", ">7<"):
        assert part in text
    assert re.search(r">\d+ s for the chapter", text)
    notes.provenance(facts, Identity("other", "label", "0123" * 16))
    assert not re.search(r"for the chapter|>seed<", shown[1].data)


@pytest.mark.parametrize(
    ("kind", "words"), [("synthetic", "not CIFAR-10's"), ("other", "ran on some label")]
)
def test_chapters_say_which_data_they_used(monkeypatch, kind, words):
    shown = []
    monkeypatch.setattr(notes, "display", shown.append)
    notes.data(SimpleNamespace(identity=Identity(kind, "some label", "0")))
    text = html.unescape(shown[0].data)
    assert words in text
    assert ("warning" in text) == (kind == "synthetic")


def test_measured_numbers_are_printed_where_no_book_shows_them(capsys, monkeypatch):
    notes.numbers(speed=np.float32(12.5))
    assert "speed = 12.5" in capsys.readouterr().out
    monkeypatch.setenv("AE_BOOK", "1")
    notes.numbers(speed=12.5)
    assert "speed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("terminal", "kernel", "quiet", "shown"),
    [
        (False, False, False, False),
        (True, False, False, True),
        (False, True, False, True),
        (False, True, True, False),
    ],
)
def test_progress_shows_only_where_someone_watches(monkeypatch, terminal, kernel, quiet, shown):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    monkeypatch.setitem(sys.modules, "ipykernel", sys) if kernel else monkeypatch.delitem(
        sys.modules, "ipykernel", raising=False
    )
    monkeypatch.setenv("TQDM_DISABLE", "1") if quiet else monkeypatch.delenv(
        "TQDM_DISABLE", raising=False
    )
    options = {}
    monkeypatch.setattr(progress, "tqdm", lambda **given: options.update(given))
    progress.bar(10, "x")
    assert options["disable"] != shown


def test_nobody_watches_a_stderr_that_is_closed(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert not watched()
    with progress.bar(2, "x") as bar:
        bar.update(2)


@pytest.mark.parametrize("times", [(0.4, 0.4), (1e-6, 1e3), (0.41, 0.42)])
def test_step_times_fit_their_figure_whether_alike_or_far_apart(dataset, times):
    """Matplotlib warns, and so fails the test, where the numbers leave no room for the axes."""
    record = benchmark.benchmark(["cpu", "cpu-parallel"], dataset, steps=3)
    step = record.steps[0]
    steps = [step.model_copy(update=dict.fromkeys(("low", "median", "high"), t)) for t in times]
    text = figures.svg(figures.step_times(record.model_copy(update={"steps": tuple(steps)})))
    for time in times:
        assert f"{numbers.digits(1e3 * time)} ms" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.2679, "0.268"), (13.44, "13.4"), (59602.3, "59,602"), (1e-5, "0.0000100")],
)
def test_numbers_keep_three_digits(value, text):
    assert numbers.digits(value) == text


def test_a_roofline_needs_ceilings(dataset):
    profile = profile_operations("cpu", dataset, images=2, steps=2, architecture=SMALL)
    with pytest.raises(ValueError, match="without ceilings"):
        figures.roofline([profile])
