"""Which engine computes; and where RAPIDS is, that it computes what scikit-learn does."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from ae_core import machine, phases
from ae_core.autoencoder import Autoencoder
from ae_core.classifying import feature_files
from ae_core.classifying.classification import classify
from ae_core.classifying.controls import latent, pooled, raw_pixels
from ae_core.classifying.engines import Rapids, ScikitLearn, open_engine
from ae_core.classifying.feature_files import FeatureError, FeatureOrigin, Features, load
from ae_core.classifying.features import select
from ae_core.classifying.least_squares import RbfLeastSquares
from ae_core.classifying.svc import OneVsOneSVC
from ae_core.data.cifar10 import CLASSES, Identity
from ae_core.errors import InputError
from ae_core.records import ClassifierSettings
from tests.conftest import SMALL

CARD = machine.Gpu(model="some card", driver="1", memory_bytes=2**34, compute_capability="9.0")
RAPIDS = ("cuml", "cudf")


@pytest.fixture
def pretend(monkeypatch):
    """That a card is here or not, and these of RAPIDS' libraries."""

    def pretend(card, installed):
        monkeypatch.setattr(machine, "gpu", lambda: card)
        monkeypatch.setattr(machine, "find_spec", lambda name: name if name in installed else None)
        for name in ("cupy", *RAPIDS):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))

    return pretend


@pytest.mark.parametrize(
    ("choice", "card", "installed", "chosen"),
    [
        ("auto", None, (), "scikit-learn"),
        ("auto", None, RAPIDS, "scikit-learn"),
        ("auto", CARD, (), "scikit-learn"),
        ("auto", CARD, ["cuml"], "scikit-learn"),
        ("auto", CARD, ["cudf"], "scikit-learn"),
        ("auto", CARD, RAPIDS, "rapids"),
        ("rapids", CARD, RAPIDS, "rapids"),
        ("scikit-learn", None, (), "scikit-learn"),
        ("scikit-learn", CARD, RAPIDS, "scikit-learn"),
    ],
)
def test_rapids_computes_where_a_card_and_both_libraries_are(
    pretend, choice, card, installed, chosen
):
    pretend(card, installed)
    engine = open_engine(choice)
    assert engine.name == chosen
    if chosen == "rapids":
        assert (engine.device, engine.xp) == ("some card", sys.modules["cupy"])
    else:
        assert (engine.device, engine.xp) == (machine.cpu_model(), np)


@pytest.mark.parametrize(
    ("card", "installed", "told"),
    [
        (None, RAPIDS, "needs an NVIDIA GPU, found none; use scikit-learn"),
        (None, (), "needs an NVIDIA GPU, found none; use scikit-learn"),
        (CARD, (), r"needs cuML and cuDF: pip install 'ae-core\[rapids\]'"),
        (CARD, ["cuml"], r"needs cuML and cuDF: pip install 'ae-core\[rapids\]'"),
    ],
)
def test_rapids_asked_for_by_name_says_what_it_lacks(pretend, card, installed, told):
    pretend(card, installed)
    with pytest.raises(InputError, match=f"^engine: rapids {told}$"):
        open_engine("rapids")


@pytest.mark.parametrize("choice", ["torch", "", "Rapids", "cuml"])
def test_other_engines_are_refused_by_name(pretend, choice):
    pretend(CARD, RAPIDS)
    told = f"^engine: expected auto, rapids or scikit-learn, found '{choice}'$"
    with pytest.raises(InputError, match=told):
        open_engine(choice)


def test_free_memory_is_some_of_the_machines():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 2**20 < ScikitLearn().free_bytes() <= total


def test_arrays_on_the_host_go_through_unchanged(random):
    engine, x = ScikitLearn(), random.standard_normal((20, 5)).astype(np.float32)
    before = x.copy()
    assert engine.to_host(x) is x
    for made in (engine.scaler().fit_transform(x), engine.pca(3).fit_transform(x)):
        assert made.dtype == np.float32
        assert not np.shares_memory(made, x)
    np.testing.assert_array_equal(x, before)


def clusters(seed=0, count=240, dimension=8, classes=4, dtype=np.float32):
    """Points around centres that overlap a little, in no order; and others of the same kind."""
    random = np.random.default_rng(seed)
    centres = 1.5 * random.standard_normal((classes, dimension))
    y = random.permutation(np.arange(count) % classes)
    x, others = (
        (centres[y] + random.standard_normal((count, dimension))).astype(dtype) for _ in range(2)
    )
    return x, y.astype(np.uint8), others


def written(path, x, labels):
    """`x` in a file of features."""
    origin = FeatureOrigin(
        split="train",
        images=len(x),
        features=x.shape[1],
        dataset=Identity("other", "random numbers", "0" * 64),
        classes=CLASSES,
        parameters_digest="0" * 64,
    )
    with feature_files.writing(path, origin) as write:
        for start in range(0, len(x), 50):
            here = slice(start, start + 50)
            write(np.arange(len(x))[here], labels[here], x[here])
    return path


@pytest.fixture
def gpu():
    return Rapids()


@pytest.mark.skipif(
    not (machine.gpu() and all(map(find_spec, RAPIDS))),
    reason="needs an NVIDIA GPU, cuML and cuDF",
)
@pytest.mark.filterwarnings("default")  # RAPIDS' own are none of ours
class TestRapids:
    """Against scikit-learn, on the same numbers."""

    cpu = ScikitLearn()

    def on(self, gpu, *arrays):
        return [gpu.xp.asarray(array) for array in arrays]

    def test_it_is_the_choice_here(self, gpu):
        assert open_engine("auto").name == gpu.name == "rapids"
        assert gpu.device == machine.gpu().model

    def test_arrays_come_back_from_the_card_as_they_went(self, gpu):
        x, *_ = clusters()
        (there,) = self.on(gpu, x)
        assert isinstance(there, gpu.xp.ndarray)
        np.testing.assert_array_equal(gpu.to_host(there), x)
        np.testing.assert_array_equal(gpu.to_host(x), x)

    def test_free_memory_is_some_of_the_cards(self, gpu):
        _, total = gpu.xp.cuda.runtime.memGetInfo()
        taken = gpu.xp.zeros(2**20, np.uint8)
        assert 2**20 < gpu.free_bytes() <= total - taken.nbytes

    @pytest.mark.parametrize("suffix", [".parquet", ".csv"])
    def test_files_are_read_to_the_bit(self, gpu, tmp_path, random, suffix):
        """Also from a folder whose name looks like a partition's."""
        x = random.standard_normal((333, 40)) * 10.0 ** random.integers(-9, 9, (333, 40))
        x = np.where(random.random(x.shape) < 0.5, 0, x).astype(np.float32)
        labels = random.integers(0, 10, len(x)).astype(np.uint8)
        path = written(tmp_path / "seed=1" / f"train{suffix}", x, labels)
        there, here = load(path, gpu), load(path, self.cpu)
        assert isinstance(there.x, gpu.xp.ndarray)
        for loaded in (here.x, gpu.to_host(there.x)):
            assert loaded.dtype == np.float32
            np.testing.assert_array_equal(loaded.view(np.uint32), x.view(np.uint32))
        for found in (there, here):
            np.testing.assert_array_equal(found.labels, labels)
            np.testing.assert_array_equal(found.rows, np.arange(len(x)))
            assert (found.labels.dtype, found.origin) == (np.uint8, here.origin)

    @pytest.mark.parametrize("suffix", [".parquet", ".csv"])
    def test_a_file_cut_short_is_refused(self, gpu, tmp_path, suffix):
        x, labels, _ = clusters()
        path = written(tmp_path / f"train{suffix}", x, labels)
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(FeatureError, match=r"unfinished|cut short"):
            load(path, gpu)

    def test_the_scaler_is_scikit_learns(self, gpu):
        x, _, others = clusters()
        x[:, 2] = 5  # without deviation
        x[:, 3] *= 1e4
        theirs, ours = self.cpu.scaler(), gpu.scaler()
        scaled, (there, elsewhere) = theirs.fit_transform(x), self.on(gpu, x, others)
        np.testing.assert_allclose(gpu.to_host(ours.fit_transform(there)), scaled, atol=2e-5)
        np.testing.assert_allclose(
            gpu.to_host(ours.transform(elsewhere)), theirs.transform(others), rtol=1e-4, atol=2e-5
        )
        np.testing.assert_array_equal(gpu.to_host(there), x)

    def test_principal_components_are_scikit_learns_up_to_their_sign(self, gpu):
        x, _, others = clusters()
        x *= np.linspace(1, 4, x.shape[1], dtype=np.float32)  # no two directions alike
        theirs, ours, (there, elsewhere) = self.cpu.pca(3), gpu.pca(3), self.on(gpu, x, others)
        wanted, found = theirs.fit_transform(x), gpu.to_host(ours.fit_transform(there))
        signs = np.sign((wanted * found).sum(axis=0))
        np.testing.assert_allclose(signs * found, wanted, atol=1e-3)
        np.testing.assert_allclose(
            signs * gpu.to_host(ours.transform(elsewhere)), theirs.transform(others), atol=1e-3
        )

    @pytest.mark.parametrize("classes", [2, 4])
    def test_the_svc_decides_as_with_scikit_learns_solver(self, gpu, classes):
        x, y, others = clusters(classes=classes)
        there, labels, elsewhere = self.on(gpu, x, y, others)
        models = [OneVsOneSVC(lambda e=e: e.binary_svc(3.0), 0.1) for e in (self.cpu, gpu)]
        models[0].fit(x, y)
        models[1].fit(there, labels)
        wanted = models[0].decision_function(others)
        found = gpu.to_host(models[1].decision_function(elsewhere))
        assert found.dtype == np.float32
        # Either solver stops within 1e-3 of the optimum.
        np.testing.assert_allclose(found, wanted, atol=1e-2)
        clear = (abs(wanted) > 1e-2).all(axis=1)
        assert clear.mean() > 0.5
        predicted = models[1].predict(elsewhere)
        assert predicted.dtype == np.uint8
        np.testing.assert_array_equal(
            gpu.to_host(predicted)[clear], models[0].predict(others)[clear]
        )

    def test_the_librarys_svc_agrees_with_scikit_learns(self, gpu):
        x, y, others = clusters()
        there, labels, elsewhere = self.on(gpu, x, y, others)
        wanted = self.cpu.svc(3.0, 0.1).fit(x, y).predict(others)
        found = gpu.to_host(gpu.svc(3.0, 0.1).fit(there, labels).predict(elsewhere))
        # Not all: of tied classes each takes its own.
        assert (found == wanted).mean() > 0.98

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_least_squares_give_the_same_scores(self, gpu, dtype):
        x, y, others = clusters(dtype=dtype)
        there, labels, elsewhere = self.on(gpu, x, y, others)
        here, away = (RbfLeastSquares(0.1, alpha=0.5) for _ in range(2))
        wanted = here.fit(x, y).decision_function(others)
        found = gpu.to_host(away.fit(there, labels).decision_function(elsewhere))
        assert found.dtype == dtype
        np.testing.assert_allclose(found, wanted, atol=1e-3 if dtype == np.float32 else 1e-9)
        clear = np.diff(np.sort(wanted, axis=1)[:, -2:], axis=1)[:, 0] > 2e-3
        np.testing.assert_array_equal(
            gpu.to_host(away.predict(elsewhere))[clear], here.predict(others)[clear]
        )
        np.testing.assert_array_equal(gpu.to_host(there), x)

    @pytest.mark.parametrize("classifier", ["svc", "library-svc", "least-squares"])
    def test_classes_are_found_as_on_the_cpu(self, gpu, classifier):
        x, y, _ = clusters(count=400)
        settings = ClassifierSettings(classifier=classifier)
        results = []
        for engine in (self.cpu, gpu):
            there, rows = engine.xp.asarray(x), np.arange(len(x))
            whole = Features(there, y, rows)
            train, test = (select(whole, r, engine) for r in (rows[:300], rows[300:]))
            found = classify(train, test, settings, engine, name="clusters", classes=4)
            results.append(found)
        (wanted, labels), (result, predicted) = results
        assert (predicted == labels).mean() > 0.97
        assert result.train_accuracy == pytest.approx(wanted.train_accuracy, abs=0.02)
        assert result.test_accuracy == pytest.approx((predicted == y[300:]).mean())

    def test_features_and_controls_are_the_same_on_the_card(self, gpu, dataset):
        encoder = Autoencoder(phases.create("cpu", SMALL, 5))
        rows = {"train": np.arange(30), "test": np.arange(20)}
        for make in (
            lambda engine: raw_pixels(dataset, rows, engine, SMALL.height),
            lambda engine: latent(encoder, dataset, rows, engine),
            lambda engine: pooled(latent(encoder, dataset, rows, engine), SMALL, engine),
        ):
            for here, there in zip(make(self.cpu), make(gpu), strict=True):
                assert isinstance(there.x, gpu.xp.ndarray)
                np.testing.assert_allclose(gpu.to_host(there.x), here.x, rtol=1e-6, atol=1e-7)
                np.testing.assert_array_equal(there.labels, here.labels)
