"""What this book measured, by the names under which claims ask for it.

A quantity is None where a run has not measured it, or not under the claim's conditions: a small
network, an emulator's time, made-up images, a part of the training set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    VerificationRecord,
)

Records = Mapping[str, Record]
"""A run's, by file name without `.json`."""
Answer = float | tuple[str, ...] | None
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
            found = {step.name: step for step in singly}
            if all(name in found for name in names):
                return [found[name] for name in names]
    return None


def profile(records: Records, phase: str) -> ProfileRecord | None:
    """A phase's profile of the book's network on a GPU, of its kernels alone, one image a step."""
    found = find(records, f"profile_{phase}", ProfileRecord)
    if found is None or found.device_kind != "gpu" or found.includes_launches:
        return None
    if found.step.batch_size != 1:
        return None
    return found if found.architecture == Architecture() else None


def training(records: Records, images: int) -> TrainingRecord | None:
    """The longest training of the book's network on the first `images` photographs, one a step."""
    found = [
        record
        for record in records.values()
        if isinstance(record, TrainingRecord)
        and record.settings.images == images
        and record.settings.batch_size == 1
        and record.settings.architecture == Architecture()
        and record.dataset.kind != "synthetic"
        and record.epochs
    ]
    return max(found, key=lambda record: len(record.epochs), default=None)


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


def svm(records: Records, features: str = REPORTS_ENCODER) -> ClassificationResult | None:
    """The first of them."""
    return next(iter(svms(records, features)), None)


def svm_accuracy(records: Records, features: str) -> float | None:
    """The mean test accuracy over them, 0 to 1."""
    found = svms(records, features)
    return sum(result.test_accuracy for result in found) / len(found) if found else None


def seconds_of(record: ProfileRecord, operations: str) -> float:
    """Seconds of a step that a kind of operations takes."""
    return sum(o.median for o in record.operations if o.label in OPERATIONS[operations])


def backward_over_forward(record: ProfileRecord) -> float:
    """The time of backward convolutions over that of forward ones."""
    return seconds_of(record, "backward convolutions") / seconds_of(record, "forward convolutions")


def _step_time(phase: str, scale: float) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        found = steps(records, phase)
        return scale * found[0].seconds_per_epoch / IMAGES_PER_EPOCH if found else None

    return of


def _speedup(after: str, before: str) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        found = steps(records, before, after)
        return found[0].seconds_per_epoch / found[1].seconds_per_epoch if found else None

    return of


def _profiled(phase: str, value: Callable[[ProfileRecord], Answer]) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        found = profile(records, phase)
        return value(found) if found else None

    return of


def _gain(operations: str, after: str, before: str) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        old, new = profile(records, before), profile(records, after)
        if old is None or new is None or old.device != new.device:
            return None
        return seconds_of(old, operations) / seconds_of(new, operations)

    return of


def _milliseconds(operations: str) -> Callable[[ProfileRecord], Answer]:
    return lambda record: 1e3 * IMAGES_PER_EPOCH * seconds_of(record, operations)


def _percent(operations: str) -> Callable[[ProfileRecord], Answer]:
    return lambda record: 100 * seconds_of(record, operations) / record.seconds


def _bound(record: ProfileRecord) -> Answer:
    if record.ceilings is None:
        return None
    if record.convolution_rate >= BOUND * record.ceilings.flops:
        return ("compute",)
    traffic = record.convolution_rate / record.convolution_intensity
    return ("memory",) if traffic >= BOUND * record.ceilings.bandwidth else ("neither",)


def _loss(images: int, test: bool) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        found = training(records, images)
        if found and test:
            return found.test.mse if found.test else None
        return found.epochs[-1].loss if found else None

    return of


def _memory(name: str, where: str, unit: float) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        found = find(records, name, TrainingRecord)
        if found is None or found.settings.architecture != Architecture():
            return None
        held = getattr(found.memory, where)
        return held / unit if held else None

    return of


def _difference(which: str) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        found = find(records, "verification_gpu-basic", VerificationRecord)
        if found is None or found.architecture != Architecture():
            return None
        rows = [d for d in found.differences if d.quantity == "reconstruction"]
        return float(getattr(rows[0], which)) if rows else None

    return of


def _classified(value: Callable[[ClassificationResult], Answer]) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        found = svm(records)
        return value(found) if found else None

    return of


def _classes(labels: Callable[[ClassificationResult], list[int]]) -> Callable[[Records], Answer]:
    def of(records: Records) -> Answer:
        found = svm(records)
        record = find(records, "classification_controls", ClassificationRecord)
        return tuple(record.classes[label] for label in labels(found)) if found and record else None

    return of


def _by_recall(result: ClassificationResult) -> list[int]:
    """Labels from the hardest class to the easiest."""
    return sorted(range(len(result.recalls)), key=lambda label: result.recalls[label])


GPU_PHASES = ("gpu-basic-filter", "gpu-v1", "gpu-v2")
"""Those whose kernels' own times can be taken: a launch per pair is too many to queue ahead."""
PAIRS = (("gpu-v1", "gpu-basic-filter"), ("gpu-v2", "gpu-v1"))

QUANTITIES: dict[str, Quantity] = {
    "parameters": Quantity("", lambda _: Architecture().parameter_count),
    "features in the latent": Quantity("", lambda _: Architecture().latent_features),
    "cpu: 1,000 images": Quantity("s", _step_time("cpu", 1000)),
    **{
        f"{phase}: 50,000 images": Quantity("s", _step_time(phase, IMAGES_PER_EPOCH))
        for phase in ("cpu", "gpu-basic", *GPU_PHASES)
    },
    **{f"{p}: an image": Quantity("ms", _step_time(p, 1000)) for p in ("cpu", GPU_PHASES[0])},
    **{f"{p} over cpu": Quantity("x", _speedup(p, "cpu")) for p in GPU_PHASES},
    **{f"{new} over {old}": Quantity("x", _speedup(new, old)) for new, old in PAIRS},
    "gpu-v1 over gpu-basic": Quantity("x", _speedup("gpu-v1", "gpu-basic")),
    **{
        f"{phase}: {kind}": Quantity("ms", _profiled(phase, _milliseconds(kind)))
        for phase in GPU_PHASES
        for kind in OPERATIONS
    },
    **{
        f"{phase}: share of {kind}": Quantity("%", _profiled(phase, _percent(kind)))
        for phase in GPU_PHASES
        for kind in OPERATIONS
    },
    **{
        f"{phase}: backward over forward": Quantity("x", _profiled(phase, backward_over_forward))
        for phase in GPU_PHASES
    },
    **{
        f"{kind}: {new} over {old}": Quantity("x", _gain(kind, new, old))
        for kind in OPERATIONS
        for new, old in PAIRS
    },
    "what bounds gpu-v2": Quantity("", _profiled("gpu-v2", _bound)),
    "training loss, 1,000 images": Quantity("", _loss(1000, test=False)),
    "test loss, 1,000 images": Quantity("", _loss(1000, test=True)),
    "training loss, 50,000 images": Quantity("", _loss(IMAGES_PER_EPOCH, test=False)),
    "test loss, 50,000 images": Quantity("", _loss(IMAGES_PER_EPOCH, test=True)),
    "gpu-basic: largest difference": Quantity("", _difference("max_absolute")),
    "gpu-basic: mean difference": Quantity("", _difference("mean_absolute")),
    "cpu-parallel: host memory": Quantity("MiB", _memory("cpu_training", "host", 2**20)),
    "gpu-v2: host memory": Quantity("MiB", _memory("training_gpu-v2", "host", 2**20)),
    "gpu-basic-filter: device memory, MB": Quantity(
        "MB", _memory(f"training_{GPU_PHASES[0]}", "device", 1e6)
    ),
    **{
        f"{phase}: device memory": Quantity("MiB", _memory(f"training_{phase}", "device", 2**20))
        for phase in GPU_PHASES
    },
    "SVM: training": Quantity("s", _classified(lambda r: r.fit_seconds)),
    "SVM: accuracy on training images": Quantity(
        "%", _classified(lambda r: 100 * r.train_accuracy), counted=TRAINING_IMAGES
    ),
    "SVM: accuracy on test images": Quantity(
        "%", _classified(lambda r: 100 * r.test_accuracy), counted=TEST_IMAGES
    ),
    "four easiest classes": Quantity("", _classes(lambda r: _by_recall(r)[::-1][:4])),
    "three hardest classes": Quantity("", _classes(lambda r: _by_recall(r)[:3])),
    "most confused classes": Quantity(
        "", _classes(lambda r: list(classification.most_confused(r, 1)[0][:2]))
    ),
}
"""By name; the phases are those of `ae_core.phases`."""
