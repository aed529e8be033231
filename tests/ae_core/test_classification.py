"""From features to classes: nothing is learnt from the test set, and the counts are right."""

from __future__ import annotations

import math
import re
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ae_book.showing import tables
from ae_core import phases
from ae_core.autoencoder import Autoencoder
from ae_core.classifying import classification
from ae_core.classifying.classification import (
    classifier,
    classify,
    classify_files,
    most_confused,
    needed_bytes,
    predict,
    record,
    search,
)
from ae_core.classifying.engines import ScikitLearn
from ae_core.classifying.feature_files import FeatureError, Features
from ae_core.classifying.features import encoded, extract, select, stratified
from ae_core.data.cifar10 import Identity
from ae_core.errors import InputError
from ae_core.records import (
    ClassificationRecord,
    ClassificationResult,
    ClassifierSettings,
    provenance,
    records,
)
from tests.conftest import SMALL

ENGINE = ScikitLearn()
SVC_SETTINGS = ClassifierSettings()
each_classifier = pytest.mark.parametrize("name", ["svc", "library-svc", "least-squares"])


def features(x, labels):
    return Features(np.asarray(x, np.float32), np.asarray(labels, np.uint8), np.arange(len(x)))


def clusters(seed=0, count=60, classes=3, spread=1.0, dimension=5):
    """Images around centres that are 8 apart; the labels take turns."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = 8 / math.sqrt(2) * np.eye(classes, dimension)
    return features(centres[labels] + spread * random.standard_normal((count, dimension)), labels)


def result(matrix, **changes):
    facts = {
        "features": "some", "seed": 0, "dimensions": 5, "scaled": True, "settings": SVC_SETTINGS,
        "train_images": 9, "test_images": int(np.sum(matrix)), "fit_seconds": 1.0,
        "predict_seconds": 2.0, "train_accuracy": 1.0, "confusion": matrix,
    }  # fmt: skip
    return ClassificationResult(**facts | changes)


def test_accuracy_and_recalls_come_from_the_counts():
    found = result([[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]])
    assert found.test_accuracy == 4 / 6
    assert found.recalls[:3] == (0.5, 1, 2 / 3)
    assert math.isnan(found.recalls[3])


def test_most_confused_classes_are_those_taken_for_each_other_either_way():
    found = result([[5, 2, 1], [3, 5, 0], [1, 4, 6]])
    assert most_confused(found, 2) == [(0, 1, 5), (1, 2, 4)]
    assert most_confused(found, 9) == [(0, 1, 5), (1, 2, 4), (0, 2, 2)]


def test_no_class_is_confused_with_itself():
    assert most_confused(result([[5, 0, 0], [0, 5, 0], [0, 0, 5]]), 1) == [(0, 1, 0)]


@each_classifier
def test_a_known_answer_is_found(name):
    """Of class 1, two of ten test images stand where class 2 is."""
    train, test = clusters(0, 60), clusters(1, 30)
    test.x[[1, 4]] = train.x[[2, 5]]
    settings = ClassifierSettings(classifier=name)
    found, predicted = classify(train, test, settings, ENGINE, name="clusters", classes=4, seed=7)
    wanted = test.labels.copy()
    wanted[[1, 4]] = 2
    np.testing.assert_array_equal(predicted, wanted)
    assert predicted.dtype == np.uint8
    assert found.confusion == ((10, 0, 0, 0), (0, 8, 2, 0), (0, 0, 10, 0), (0, 0, 0, 0))
    assert (found.test_accuracy, found.train_accuracy) == (28 / 30, 1)
    assert found.recalls[:3] == (1, 0.8, 1)
    assert (found.features, found.seed, found.dimensions, found.scaled) == ("clusters", 7, 5, True)
    assert (found.train_images, found.test_images, found.settings) == (60, 30, settings)


def test_features_that_were_given_stay_as_they_were():
    train, test = clusters(0), clusters(1)
    copies = train.x.copy(), test.x.copy()
    classify(train, test, SVC_SETTINGS, ENGINE, name="clusters")
    np.testing.assert_array_equal(train.x, copies[0])
    np.testing.assert_array_equal(test.x, copies[1])


@each_classifier
def test_scaling_makes_a_loud_feature_as_quiet_as_the_others(name, random):
    train, test = clusters(0), clusters(1)
    for split in (train, test):
        split.x[:, 4] = 1e6 * random.standard_normal(len(split.x))
    settings = ClassifierSettings(classifier=name)
    accuracies = [
        classify(train, test, settings, ENGINE, name="loud", scaled=scaled)[0].test_accuracy
        for scaled in (True, False)
    ]
    assert accuracies[0] > 0.95
    assert accuracies[1] < 0.6


@each_classifier
def test_what_a_test_image_is_taken_for_does_not_depend_on_the_others(name):
    """As it would if the scaler had seen them."""
    train, test = clusters(0, spread=2.5), clusters(1, spread=2.5)
    outliers = features(1e4 + test.x, test.labels)
    both = features(np.concatenate([test.x, outliers.x]), np.concatenate([test.labels] * 2))
    settings = ClassifierSettings(classifier=name)
    alone, predicted = classify(train, test, settings, ENGINE, name="alone")
    among, found = classify(train, both, settings, ENGINE, name="among outliers")
    assert 0.6 < alone.test_accuracy < 1
    np.testing.assert_array_equal(found[: len(predicted)], predicted)
    assert among.train_accuracy == alone.train_accuracy


def test_it_is_scikit_learns_pipeline_with_gamma_scale():
    train, test = clusters(0, 300, spread=4), clusters(1, 300, spread=4)
    train.x[:, 1] *= 30
    test.x[:, 1] *= 30
    peer = make_pipeline(StandardScaler(), SVC(C=10, gamma="scale")).fit(train.x, train.labels)
    wanted = peer.predict(test.x)
    for name, least in (("library-svc", 1), ("svc", 0.98)):  # which breaks ties otherwise
        _, found = classify(train, test, ClassifierSettings(classifier=name), ENGINE, name="x")
        assert (found == wanted).mean() >= least
    other = ClassifierSettings(classifier="library-svc", gamma=0.2)
    assert (classify(train, test, other, ENGINE, name="x")[1] != wanted).any()


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_one_gamma_is_meant_by_every_classifier(random, gamma):
    x = random.standard_normal((40, 7)).astype(np.float32) * 3
    wanted = gamma / (7 * x.var())
    for name in ("svc", "library-svc", "least-squares"):
        model = classifier(ClassifierSettings(classifier=name, C=4, gamma=gamma), x, ENGINE)
        assert model.gamma == pytest.approx(wanted, rel=1e-6)
    assert model.alpha == 1 / 8


def test_c_is_what_a_misclassified_image_costs():
    x = np.zeros((2, 2), np.float32)
    x[0] = 1
    for name in ("svc", "library-svc"):
        model = classifier(ClassifierSettings(classifier=name, C=4), x, ENGINE)
        assert (model.binary() if name == "svc" else model).C == 4


@each_classifier
def test_features_that_never_change_leave_a_guess(name):
    """As of an encoder whose units are all dead."""
    train = features(np.zeros((30, 4)), [0] * 15 + [1] * 10 + [2] * 5)
    settings = ClassifierSettings(classifier=name)
    assert classifier(settings, train.x, ENGINE).gamma == SVC().fit(train.x, train.labels)._gamma
    found, predicted = classify(train, train, settings, ENGINE, name="dead")
    assert set(predicted) == {0}
    assert found.test_accuracy == 0.5


class AlwaysZero:
    def fit(self, x, y):
        pass

    def predict(self, x):
        return np.zeros(len(x), np.int64)


def test_training_accuracy_is_of_images_spread_over_the_training_set(monkeypatch):
    monkeypatch.setattr(classification, "classifier", lambda *_: AlwaysZero())
    train = features(np.ones((100, 2)), [0] * 50 + [1] * 50)
    for number, wanted in ((10, 0.5), (2, 0.5), (10**9, 0.5), (1, 1)):
        found, _ = classify(
            train, train, SVC_SETTINGS, ENGINE, name="x", scaled=False, train_accuracy_on=number
        )
        assert found.train_accuracy == wanted


def test_predicting_in_chunks_changes_nothing(monkeypatch):
    train, test = clusters(0), clusters(1, spread=3)
    model = SVC().fit(train.x, train.labels)
    whole, sizes = predict(model, test.x, ENGINE), []

    def counted(x, predict=model.predict):
        sizes.append(len(x))
        return predict(x)

    monkeypatch.setattr(classification, "PREDICTED_AT_ONCE", 25)
    model.predict = counted
    np.testing.assert_array_equal(predict(model, test.x, ENGINE), whole)
    assert sizes == [25, 25, 10]


def test_one_class_only_is_refused():
    train = features(np.ones((9, 3)), [4] * 9)
    with pytest.raises(InputError, match="at least two classes in the training set, found one"):
        classify(train, train, SVC_SETTINGS, ENGINE, name="x")


def test_features_of_different_widths_are_refused():
    with pytest.raises(InputError, match="as many for training and test, found 5 and 4"):
        classify(clusters(), clusters(dimension=4), SVC_SETTINGS, ENGINE, name="x")


class Short(ScikitLearn):
    """Of memory; and never asked to compute."""

    def __init__(self, free):
        super().__init__()
        self.free_bytes = lambda: free
        self.scaler = self.svc = self.binary_svc = pytest.fail


@pytest.mark.parametrize(
    ("name", "free"), [("svc", 1.3 * 2**30), ("library-svc", 1.3 * 2**30), ("least-squares", 2**30)]
)
def test_what_does_not_fit_is_refused_before_any_work(name, free):
    train = features(np.ones((30_000, 3)), np.arange(30_000) % 10)
    settings = ClassifierSettings(classifier=name)
    told = rf"^{name} on 30,000 images of 3 features: expected (\S+) GiB free on .*, found (\S+); "
    told += r"lower images to ([\d,]+), or use pooled features$"
    with pytest.raises(MemoryError, match=told) as caught:
        classify(train, train, settings, Short(free), name="x")
    expected, found, fits = re.match(told, str(caught.value)).groups()
    assert float(expected) > float(found) == pytest.approx(free / 2**30, abs=0.05)
    fits = int(fits.replace(",", ""))
    assert (
        needed_bytes(fits, 30_000, 3, name) <= free < needed_bytes(int(1.2 * fits), 30_000, 3, name)
    )


def test_where_no_image_fits_none_are_offered():
    with pytest.raises(MemoryError, match=r"; free some memory, or use pooled features$"):
        classify(clusters(), clusters(), SVC_SETTINGS, Short(1000), name="x")


def test_more_images_and_features_need_more_memory():
    for name in ("svc", "library-svc", "least-squares"):
        least = needed_bytes(1000, 500, 64, name)
        for more in ((2000, 500, 64), (1000, 1500, 64), (1000, 500, 128)):
            assert needed_bytes(*more, name) > least


@pytest.fixture
def tried(monkeypatch):
    """What a search has classified, by a stand-in that finds (0.5, 0.7, 0.7, 0.6)[...] right."""
    calls = []

    def stand_in(train, test, settings, engine, **options):
        accuracy = (0.5, 0.7, 0.7, 0.6)[len(calls) % 4]
        calls.append((train, test, settings))
        return SimpleNamespace(test_accuracy=accuracy), None

    monkeypatch.setattr(classification, "classify", stand_in)
    return calls


def test_the_first_of_the_best_settings_is_chosen(tried):
    start = ClassifierSettings(classifier="least-squares")
    chosen, all_tried = search(clusters(), start, ENGINE, Cs=(1, 2), gammas=(3, 4))
    wanted = [
        ClassifierSettings(classifier="least-squares", C=C, gamma=gamma)
        for C, gamma in product((1, 2), (3, 4))
    ]
    assert all_tried == list(zip(wanted, (0.5, 0.7, 0.7, 0.6), strict=True))
    assert [settings for *_, settings in tried] == wanted
    assert chosen == wanted[1]


def test_a_fifth_of_the_training_images_is_held_out_of_each_class(tried):
    train = clusters(count=600)
    search(train, SVC_SETTINGS, ENGINE, images=150, Cs=(1, 2), gammas=(1,))
    (fitted, held, _), (again, held_again, _) = tried
    np.testing.assert_array_equal(np.bincount(fitted.labels), [40, 40, 40])
    np.testing.assert_array_equal(np.bincount(held.labels), [10, 10, 10])
    assert not np.intersect1d(fitted.rows, held.rows).size
    for part in (fitted, held):
        np.testing.assert_array_equal(part.x, train.x[part.rows])
        np.testing.assert_array_equal(part.labels, train.labels[part.rows])
    np.testing.assert_array_equal(fitted.rows, again.rows)
    np.testing.assert_array_equal(held.rows, held_again.rows)


def test_a_search_finds_the_gamma_that_tells_rings_apart(random):
    """Where a far too narrow or wide kernel can't."""
    labels = np.arange(400) % 2
    angles = random.uniform(0, 2 * np.pi, len(labels))
    x = (1 + labels)[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
    chosen, tried = search(
        features(x, labels), SVC_SETTINGS, ENGINE, Cs=(1.0,), gammas=(1e-5, 1.0, 1e5)
    )
    assert chosen.gamma == 1
    assert {s.gamma: share for s, share in tried}[1.0] > 0.95


def new_autoencoder(seed=1):
    return Autoencoder(phases.create("cpu", SMALL, 20), seed=seed)


@pytest.fixture
def write(dataset, tmp_path):
    """Writes a split's features, 60 or 30 images, into a folder, which it returns."""

    def write(split, suffix, seed=1):
        path = tmp_path / "features" / f"{split}{suffix}"
        rows = stratified(getattr(dataset, split).labels, 60 if split == "train" else 30)
        extract(new_autoencoder(seed), dataset, split, path, rows)
        return path.parent

    return write


@pytest.mark.parametrize(
    ("train_suffix", "test_suffix"),
    [(".parquet", ".parquet"), (".csv", ".csv"), (".parquet", ".csv")],
)
def test_files_are_classified_as_their_features_are(
    write, dataset, tmp_path, train_suffix, test_suffix
):
    write("train", train_suffix)
    folder = write("test", test_suffix)
    settings = ClassifierSettings(C=3, gamma=0.5)
    found = classify_files(folder, settings, "scikit-learn")
    rows = [stratified(dataset.train.labels, 60), stratified(dataset.test.labels, 30)]
    train, test = (
        encoded(new_autoencoder(), dataset, split, ENGINE, its)
        for split, its in zip(("train", "test"), rows, strict=True)
    )
    wanted, _ = classify(train, test, settings, ENGINE, name="encoder")
    times = {"fit_seconds": 1.0, "predict_seconds": 1.0}
    (only,) = found.results
    assert only.model_copy(update=times) == wanted.model_copy(update=times)
    assert (only.train_images, only.test_images) == (60, 30)
    assert found.parameters_digest == new_autoencoder().digest()
    assert (found.dataset, found.classes) == (dataset.identity, dataset.classes)
    assert (found.engine, found.device) == ("scikit-learn", ENGINE.device)
    assert records.load(records.save(found, tmp_path / "r.json")) == found


def test_the_search_is_given_training_images_alone(write, monkeypatch):
    write("train", ".parquet")
    folder, given = write("test", ".parquet"), []

    def stand_in(train, settings, engine):
        given.append(train)
        return settings.model_copy(update={"C": 77.0}), []

    monkeypatch.setattr(classification, "search", stand_in)
    found = classify_files(folder, SVC_SETTINGS, "scikit-learn", with_search=True)
    assert [train.origin.split for train in given] == ["train"]
    assert found.results[0].settings.C == 77


def test_files_of_two_encoders_are_refused(write):
    write("train", ".parquet", seed=1)
    folder = write("test", ".parquet", seed=2)
    with pytest.raises(FeatureError, match=r"test\.parquet: expected .* parameters_digest"):
        classify_files(folder, SVC_SETTINGS, "scikit-learn")


def test_training_images_are_no_test_set(write):
    folder = write("train", ".csv")
    (folder / "test.csv").write_bytes((folder / "train.csv").read_bytes())
    with pytest.raises(FeatureError, match=r"test\.csv: expected .* split test, found train"):
        classify_files(folder, SVC_SETTINGS, "scikit-learn")


@pytest.mark.parametrize(("there", "missing"), [("train", "test"), ("test", "train")])
def test_a_missing_file_is_told(write, there, missing):
    folder = write(there, ".parquet")
    told = f"^{re.escape(str(folder))}: expected {missing}.parquet or {missing}.csv, found neither"
    with pytest.raises(FeatureError, match=told):
        classify_files(folder, SVC_SETTINGS, "scikit-learn")


def test_of_two_files_of_one_split_none_is_guessed(write):
    for split in ("train", "test"):
        write(split, ".parquet")
    folder = write("train", ".csv", seed=2)
    told = r"features: expected train.* found train\.parquet and train\.csv: remove the older one$"
    with pytest.raises(FeatureError, match=told):
        classify_files(folder, SVC_SETTINGS, "scikit-learn")


def test_something_else_in_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "a file").write_text("")
    for name, found in (("nowhere", "nothing"), ("a file", "a file"), ("x\0", "none .embedded")):
        with pytest.raises(FeatureError, match=f"{name}: expected a folder with .* found {found}"):
            classify_files(tmp_path / name, SVC_SETTINGS, "scikit-learn")


def test_a_record_holds_every_result_and_comes_back_equal(tmp_path):
    train, test = clusters(0), clusters(1)
    results = [
        classify(select(train, np.arange(n), ENGINE), test, SVC_SETTINGS, ENGINE, name="x")[0]
        for n in (30, 60)
    ]
    dataset = Identity("other", "clusters", "0" * 64)
    made = record(provenance.current("a test"), dataset, ["a", "b", "c"], ENGINE, results)
    back = records.load(records.save(made, tmp_path / "r.json"))
    assert isinstance(back, ClassificationRecord)
    assert back == made
    assert [r.train_images for r in back.results] == [30, 60]
    assert (back.parameters_digest, back.formats) == (None, ())


def test_the_table_has_a_row_a_classifier_with_the_spread_over_seeds():
    made = ClassificationRecord.model_construct(
        results=(
            result([[5, 5], [0, 10]], features="untrained", seed=0),
            result([[10, 0], [0, 10]], features="untrained", seed=1),
            result([[10, 0], [1, 9]], features="trained"),
        )
    )
    frame = tables.classification(made)
    assert list(frame["features"]) == ["untrained", "trained"]
    assert list(frame["test accuracy"]) == ["87.50 ± 17.68 % (n = 2)", "95.00 %"]
    assert set(frame["classifier"]) == {"RBF SVC"}


def test_warming_up_uses_every_classifier_once(monkeypatch):
    used = []

    def counted(train, test, settings, engine, **given):
        used.append(settings.classifier)
        return classify(train, test, settings, engine, **given)

    monkeypatch.setattr(classification, "classify", counted)
    classification.warm_up(ENGINE)
    assert used == ["svc", "library-svc", "least-squares"]


def test_the_table_of_a_search_is_ordered_by_number_not_by_text():
    tried = [
        (ClassifierSettings(C=C, gamma=gamma), C / 1000) for C in (100, 2, 10) for gamma in (10, 2)
    ]
    frame = tables.searched(tried)
    assert list(frame.columns) == ["C", "gamma = 2 of scale", "gamma = 10 of scale"]
    assert list(frame["C"]) == ["2", "10", "100"]
    assert list(frame["gamma = 10 of scale"]) == ["0.2 %", "1.0 %", "10.0 %"]
