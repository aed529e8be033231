"""What this book measured, by the names under which the report's claims ask for it.

A quantity is None where a run has not measured it, or not under the claim's conditions: a small
network, an emulator's time, made-up images, a part of the training set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from ae_core.architecture import Architecture
from ae_core.classifying import classification
from ae_core.records import (
    IMAGES_PER_EPOCH,
    BenchmarkRecord,
    ClassificationRecord,
    ClassificationResult,
    ProfileRecord,
    Record,
    StepTime,
    TrainingRecord,
)

Records = Mapping[str, Record]
"""A run's, by file name without `.json`."""
Answer = float | tuple[str, ...] | None
"""A number, or words (classes); None where it was not measured."""
Kind = TypeVar("Kind", bound=Record)

BENCHMARKS = ("gpu_benchmark", "cpu_benchmark")
REPORTS_ENCODER = "trained encoder, one image a step"
"""The features that the report's recipe gives."""
TEST_IMAGES = 10_000
TRAINING_IMAGES = 10_000
"""That a training accuracy is of, out of all (`classification.classify`)."""
BOUND = 0.5
"""Part of a ceiling from which on a kernel is called bound by it."""
OPERATIONS = {
    "forward convolutions": ("conv2d_forward",),
    "backward convolutions": ("conv2d_input_gradient", "conv2d_weight_gradient"),
    "convolutions": ("conv2d_forward", "conv2d_input_gradient", "conv2d_weight_gradient"),
    "pooling": ("maxpool_forward", "maxpool_backward"),
    "upsampling": ("upsample_forward", "upsample_backward"),
    "ReLU": ("relu_forward", "relu_backward"),
    "update": ("sgd",),
}


@dataclass(frozen=True)
class Quantity:
    """Something measured: its unit, and how to find it in a run's records."""

    unit: str
    of: Callable[[Records], Answer]
    counted: int = 0
    """Of a share in percent: how many images it is a share of, so that chance can be judged."""


def find(records: Records, name: str, kind: type[Kind]) -> Kind | None:
    """The record of this name, if it is there and of this kind."""
    record = records.get(name)
    return record if isinstance(record, kind) else None


def steps(records: Records, *names: str) -> list[StepTime] | None:
    """Rows of the first benchmark that timed all of `names` in one run, one image a step."""
    for benchmark in (find(records, name, BenchmarkRecord) for name in BENCHMARKS):
        if benchmark and benchmark.architecture == Architecture():
            singly = [s for s in benchmark.steps if s.batch_size == 1 and not s.graph]
            timed = {step.name: step for step in singly}
            if all(name in timed for name in names):
                return [timed[name] for name in names]
    return None


def profile(records: Records, phase: str) -> ProfileRecord | None:
    """A phase's profile of the book's network on a GPU, of its kernels alone, one image a step."""
    record = find(records, f"profile_{phase}", ProfileRecord)
    if record is None or record.includes_launches or record.architecture != Architecture():
        return None
    return record if record.device_kind == "gpu" and record.step.batch_size == 1 else None


def training(records: Records, images: int) -> TrainingRecord | None:
    """The longest training of the book's network on the first `images` photographs, one a step."""
    trained = [
        record
        for record in records.values()
        if isinstance(record, TrainingRecord)
        and record.settings.images == images
        and record.settings.batch_size == 1
        and record.settings.architecture == Architecture()
        and record.dataset.kind != "synthetic"
        and record.epochs
    ]
    return max(trained, key=lambda record: len(record.epochs), default=None)


def svms(records: Records, features: str) -> list[ClassificationResult]:
    """The RBF SVC with the report's settings on features of all photographs, a result a seed."""
    record = find(records, "classification_controls", ClassificationRecord)
    if record is None or record.dataset.kind == "synthetic":
        return []
    return [
        result
        for result in record.results
        if result.features == features
        and (result.settings.C, result.settings.gamma) == (10.0, 1.0)
        and (result.train_images, result.test_images) == (IMAGES_PER_EPOCH, TEST_IMAGES)
    ]


def svm_accuracy(records: Records, features: str) -> float | None:
    """The mean test accuracy over their seeds, 0 to 1."""
    results = svms(records, features)
    return sum(r.test_accuracy for r in results) / len(results) if results else None


def seconds_of(record: ProfileRecord, operations: str) -> float:
    """Seconds of a step that a kind of operations takes: a key of `OPERATIONS`."""
    return sum(o.median for o in record.operations if o.label in OPERATIONS[operations])


def backward_over_forward(record: ProfileRecord) -> float:
    """The time of backward convolutions over that of forward ones."""
    return seconds_of(record, "backward convolutions") / seconds_of(record, "forward convolutions")


def speedup(records: Records, after: str, before: str) -> float | None:
    """How many times as fast a phase's step is as another's, both of one benchmark."""
    timed = steps(records, before, after)
    return timed[0].seconds_per_epoch / timed[1].seconds_per_epoch if timed else None


def _share(records: Records, phase: str, operations: str) -> Answer:
    record = profile(records, phase)
    return 100 * seconds_of(record, operations) / record.seconds if record else None


def _backward(records: Records, phase: str) -> Answer:
    record = profile(records, phase)
    return backward_over_forward(record) if record else None


def _gain(records: Records, operations: str, after: str, before: str) -> Answer:
    old, new = profile(records, before), profile(records, after)
    if old is None or new is None or old.device != new.device:
        return None
    return seconds_of(old, operations) / seconds_of(new, operations)


def _training_loss(records: Records, images: int) -> Answer:
    record = training(records, images)
    return record.epochs[-1].loss if record else None


def _test_loss(records: Records, images: int) -> Answer:
    record = training(records, images)
    return record.test.mse if record and record.test else None


def _report_svm(records: Records) -> ClassificationResult | None:
    return next(iter(svms(records, REPORTS_ENCODER)), None)


def _accuracy(records: Records, which: str) -> Answer:
    result = _report_svm(records)
    return 100 * float(getattr(result, which)) if result else None


def _classes(labels: Callable[[ClassificationResult], list[int]], records: Records) -> Answer:
    result = _report_svm(records)
    record = find(records, "classification_controls", ClassificationRecord)
    return tuple(record.classes[n] for n in labels(result)) if result and record else None


def _by_recall(result: ClassificationResult) -> list[int]:
    """Labels from the hardest class to the easiest."""
    return sorted(range(len(result.recalls)), key=lambda label: result.recalls[label])


GPU_PHASES = ("gpu-basic-filter", "gpu-v1", "gpu-v2")
"""Those whose kernels' own times can be taken: a launch per pair is too many to queue ahead."""
BASIC = GPU_PHASES[0]
PAIRS = (("gpu-v1", BASIC), ("gpu-v2", "gpu-v1"))

QUANTITIES: dict[str, Quantity] = {
    "parameters": Quantity("", lambda _: Architecture().parameter_count),
    "features in the latent": Quantity("", lambda _: Architecture().latent_features),
    **{
        f"{which} loss, {images:,} images": Quantity("", partial(loss, images=images))
        for which, loss in (("training", _training_loss), ("test", _test_loss))
        for images in (1000, IMAGES_PER_EPOCH)
    },
    **{
        f"{BASIC}: share of {kind}": Quantity("%", partial(_share, phase=BASIC, operations=kind))
        for kind in OPERATIONS
    },
    f"{BASIC}: backward over forward": Quantity("x", partial(_backward, phase=BASIC)),
    **{f"{p} over {q}": Quantity("x", partial(speedup, after=p, before=q)) for p, q in PAIRS},
    **{
        f"{kind}: {p} over {q}": Quantity("x", partial(_gain, operations=kind, after=p, before=q))
        for kind in ("forward convolutions", "backward convolutions")
        for p, q in PAIRS
    },
    "SVM: accuracy on training images": Quantity(
        "%", partial(_accuracy, which="train_accuracy"), counted=TRAINING_IMAGES
    ),
    "SVM: accuracy on test images": Quantity(
        "%", partial(_accuracy, which="test_accuracy"), counted=TEST_IMAGES
    ),
    "four easiest classes": Quantity("", partial(_classes, lambda r: _by_recall(r)[::-1][:4])),
    "three hardest classes": Quantity("", partial(_classes, lambda r: _by_recall(r)[:3])),
    "most confused classes": Quantity(
        "", partial(_classes, lambda r: list(classification.most_confused(r, 1)[0][:2]))
    ),
}
"""By name; a test holds that a claim asks for each."""
