"""Classes from features: scaler, classifier, and what it gets right; by an engine's own hands."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt

from ae_core import files, progress
from ae_core.classifying.engines import Engine, open_engine
from ae_core.classifying.feature_files import FeatureError, FeatureOrigin, Features, load
from ae_core.classifying.features import select, stratified
from ae_core.classifying.least_squares import CHUNK, RbfLeastSquares
from ae_core.classifying.svc import OneVsOneSVC
from ae_core.data.cifar10 import Identity
from ae_core.devices.device import Array, Host
from ae_core.errors import InputError
from ae_core.records import (
    ClassificationRecord,
    ClassificationResult,
    Classifier,
    ClassifierSettings,
    FormatTime,
    provenance,
)
from ae_core.records.provenance import Provenance

PREDICTED_AT_ONCE = 2000
"""Images between two steps of the progress bar."""
SEARCHED = 5_000
"""Training images that a search for C and gamma uses."""
SVC_CACHE = 2**30
"""Bytes of kernel rows that a library's SVC keeps."""


def classify(
    train: Features,
    test: Features,
    settings: ClassifierSettings,
    engine: Engine,
    *,
    name: str,
    classes: int = 10,
    seed: int = 0,
    scaled: bool = True,
    train_accuracy_on: int = 10_000,
) -> tuple[ClassificationResult, npt.NDArray[np.uint8]]:
    """Fit scaler and classifier on `train`, and try them on `test`.

    Args:
        train: features and labels; the scaler sees these alone.
        test: likewise, of other images.
        settings: which classifier, and how strict.
        engine: whose; the features must be its arrays.
        name: of the features, for the record.
        classes: how many labels there are.
        seed: of the encoder, for the record.
        scaled: to mean 0 and deviation 1; not what PCA left small on purpose.
        train_accuracy_on: training images, spread evenly, that the training accuracy is of.

    Returns:
        What was measured, and the predicted label of each test image.

    Raises:
        InputError: one class only, or features of another width.
        MemoryError: it would not fit; says what to lower.
    """
    from sklearn.metrics import confusion_matrix  # noqa: PLC0415

    if train.x.shape[1] != test.x.shape[1]:
        widths = f"{train.x.shape[1]} and {test.x.shape[1]}"
        raise InputError(f"features: expected as many for training and test, found {widths}")
    if len(np.unique(train.labels)) < 2:
        raise InputError("labels: expected at least two classes in the training set, found one")
    refuse_too_large(len(train.x), len(test.x), train.x.shape[1], settings, engine)
    started = time.perf_counter()
    x, test_x = train.x, test.x
    if scaled:
        scaler = engine.scaler()
        x, test_x = scaler.fit_transform(x), scaler.transform(test_x)
    model = classifier(settings, x, engine)
    model.fit(x, engine.xp.asarray(train.labels))
    engine.synchronize()
    fitted = time.perf_counter()
    predicted = predict(model, test_x, engine, name)
    done = time.perf_counter()
    some = np.linspace(0, len(x) - 1, min(train_accuracy_on, len(x))).astype(int)
    again = predict(model, x[engine.xp.asarray(some)], engine, f"{name}, training images")
    result = ClassificationResult(
        features=name,
        seed=seed,
        dimensions=train.x.shape[1],
        scaled=scaled,
        settings=settings,
        train_images=len(x),
        test_images=len(test.labels),
        fit_seconds=fitted - started,
        predict_seconds=done - fitted,
        train_accuracy=float((again == train.labels[some]).mean()),
        confusion=confusion_matrix(test.labels, predicted, labels=range(classes)).tolist(),
    )
    return result, predicted


def classify_files(
    directory: Path,
    settings: ClassifierSettings,
    engine: str = "auto",
    *,
    with_search: bool = False,
) -> ClassificationRecord:
    """Classify from the files `train` and `test` of a folder, as `features.extract` wrote them.

    Args:
        directory: with a `.parquet` or a `.csv` of each, not both.
        settings: which classifier.
        engine: whose: `auto`, `rapids` or `scikit-learn`.
        with_search: choose C and gamma first, on training images alone.

    Raises:
        FeatureError: a file is missing, there twice, or can't be used, or the two are of different
            encoders.
    """
    facts, opened = provenance.current(), open_engine(engine)
    train_path, test_path = (_only_file(directory, split) for split in ("train", "test"))
    train = load(train_path, opened)
    origin = cast(FeatureOrigin, train.origin)
    like = origin.model_copy(update={"split": "test"})
    test = load(test_path, opened, like)
    warm_up(opened)
    if with_search:
        settings, _ = search(train, settings, opened)
    result, _ = classify(train, test, settings, opened, name="encoder", classes=len(origin.classes))
    return record(facts, origin.dataset, origin.classes, opened, [result], origin.parameters_digest)


def _only_file(directory: str | Path, split: str) -> Path:
    """Of one split's features in a folder there must be one: which of two is meant is a guess."""
    names = [f"{split}.parquet", f"{split}.csv"]
    wanted = f"a folder with {' or '.join(names)}"
    folder = files.expect(directory, wanted, files.FOLDER, error=FeatureError)
    there = [folder / name for name in names if files.found_at(folder / name) != files.NOTHING]
    if len(there) != 1:
        found = " and ".join(path.name for path in there) or "neither"
        remedy = "remove the older one" if there else "write it with `python -m ae_core features`"
        raise FeatureError(f"{folder}: expected {' or '.join(names)}, found {found}: {remedy}")
    return there[0]


def warm_up(engine: Engine) -> None:
    """Use every classifier once on noise, so that no later time has loading or compiling in it."""
    random = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.uint8) % 3
    noise = Features(
        engine.xp.asarray(random.standard_normal((60, 8), np.float32)), labels, np.arange(60)
    )
    for kind in get_args(Classifier):
        settings = ClassifierSettings(classifier=kind)
        classify(noise, noise, settings, engine, name="warm-up", classes=3)


def record(
    facts: Provenance,
    dataset: Identity,
    classes: Sequence[str],
    engine: Engine,
    results: Sequence[ClassificationResult],
    parameters_digest: str | None = None,
    formats: Sequence[FormatTime] = (),
) -> ClassificationRecord:
    """Results of one run, as a record."""
    return ClassificationRecord(
        provenance=facts,
        dataset=dataset,
        device=engine.device,
        device_kind=engine.kind,
        memory=Host().memory(),
        engine=engine.name,
        classes=tuple(classes),
        parameters_digest=parameters_digest,
        results=tuple(results),
        formats=tuple(formats),
    )


def classifier(settings: ClassifierSettings, x: Array, engine: Engine) -> Any:
    """The classifier, not yet fitted, with gamma in absolute terms for the scaled features `x`.

    Gamma is worked out here, once and for all of `x`, so that every classifier and engine means
    the same by it; where all features are constant, gamma itself, as scikit-learn does.
    """
    variance = float(x.var())
    gamma = settings.gamma / (x.shape[1] * variance) if variance else settings.gamma
    if settings.classifier == "svc":
        return OneVsOneSVC(lambda: engine.binary_svc(settings.C), gamma)
    if settings.classifier == "library-svc":
        return engine.svc(settings.C, gamma)
    return RbfLeastSquares(gamma, alpha=1 / (2 * settings.C))


def predict(model: Any, x: Array, engine: Engine, name: str = "predict") -> npt.NDArray[np.uint8]:
    """Labels of scaled features, chunk by chunk, with a progress bar."""
    labels = np.empty(len(x), np.uint8)
    with progress.bar(len(x), name) as bar:
        for start in range(0, len(x), PREDICTED_AT_ONCE):
            rows = slice(start, min(start + PREDICTED_AT_ONCE, len(x)))
            labels[rows] = engine.to_host(model.predict(x[rows]))
            bar.update(rows.stop - rows.start)
    return labels


def most_confused(result: ClassificationResult, count: int = 3) -> list[tuple[int, int, int]]:
    """Pairs of classes that are taken for each other most: `(one, other, images)` both ways."""
    matrix = np.array(result.confusion)
    ones, others = np.triu_indices(len(matrix), 1)
    both = (matrix + matrix.T)[ones, others]
    order = np.argsort(-both, kind="stable")[:count]
    return [(int(ones[pair]), int(others[pair]), int(both[pair])) for pair in order]


def needed_bytes(images: int, test_images: int, dimensions: int, classifier: str) -> int:
    """About what fitting and predicting take besides the features themselves."""
    needed = 4 * (images + test_images) * dimensions  # scaled
    if classifier == "least-squares":  # the kernel matrix, its factor, and rows in the making
        return needed + 4 * (2 * images**2 + 2 * CHUNK * images)
    pair = images // 5 + 1  # of ten classes
    needed += 4 * (images + pair) * dimensions + SVC_CACHE  # support vectors, a pair's features
    return needed + 4 * (3 * pair**2 + PREDICTED_AT_ONCE * images)  # kernel matrices


def refuse_too_large(
    images: int, test_images: int, dimensions: int, settings: ClassifierSettings, engine: Engine
) -> None:
    """Find out before the work, not after minutes.

    Raises:
        MemoryError: more is needed than is free; says how many images would fit.
    """
    free = engine.free_bytes()
    needed = needed_bytes(images, test_images, dimensions, settings.classifier)
    if needed <= free:
        return
    fits = images
    while fits and needed_bytes(fits, test_images, dimensions, settings.classifier) > free:
        fits = int(fits * 0.9)
    raise MemoryError(
        f"{settings.classifier} on {images:,} images of {dimensions:,} features: expected "
        f"{needed / 2**30:.1f} GiB free on {engine.device}, found {free / 2**30:.1f}; "
        + (f"lower images to {fits:,}" if fits else "free some memory")
        + ", or use pooled features"
    )


def search(
    train: Features,
    settings: ClassifierSettings,
    engine: Engine,
    *,
    Cs: Sequence[float] = (1.0, 10.0, 100.0),
    gammas: Sequence[float] = (0.5, 1.0, 2.0),
    images: int = SEARCHED,
    seed: int = 0,
) -> tuple[ClassifierSettings, list[tuple[ClassifierSettings, float]]]:
    """Choose C and gamma on images that are neither fitted nor of the test set.

    Args:
        train: the training set; a fifth of the images used is held out, the classes in equal parts.
        settings: which classifier.
        engine: whose.
        Cs: to try.
        gammas: to try, each with each C.
        images: of the training set, to fit and to hold out, the classes in equal parts.
        seed: of the choice of images.

    Returns:
        The best settings, the first of equals, and the accuracy of all on what was held out.
    """
    from sklearn.model_selection import ParameterGrid  # noqa: PLC0415

    used = stratified(train.labels, images, seed)
    held = stratified(train.labels[used], len(used) // 5, seed + 1)
    validation, fitted = used[held], np.delete(used, held)
    fitting, holding = (select(train, rows, engine) for rows in (fitted, validation))
    tried: list[tuple[ClassifierSettings, float]] = []
    for tuned in ParameterGrid({"C": Cs, "gamma": gammas}):
        candidate = settings.model_copy(update=tuned)
        result, _ = classify(
            fitting, holding, candidate, engine, name="validation", train_accuracy_on=1
        )
        tried.append((candidate, result.test_accuracy))
    return max(tried, key=lambda entry: entry[1])[0], tried
