"""What a run measured, with where it came from, as JSON that is validated when read.

Every number that the book prints comes from one of these records.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from ae_core import files
from ae_core.architecture import Architecture
from ae_core.data.cifar10 import Identity
from ae_core.errors import InputError
from ae_core.machine import DeviceKind, Memory
from ae_core.parameters import (
    BatchSize,
    Cost,
    Epochs,
    Gamma,
    InitialScale,
    LearningRate,
    Precision,
    Seed,
    StepKind,
    TestImages,
    TrainingImages,
    batch_within_images,
)
from ae_core.records.base import Model
from ae_core.records.load import Load
from ae_core.records.provenance import Provenance

NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Seconds = NonNegative
Positive = Annotated[FiniteFloat, Field(gt=0)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Classifier = Literal["svc", "library-svc", "least-squares"]
"""`svc` is `svc.OneVsOneSVC`, `library-svc` the engine's own for all classes."""
IMAGES_PER_EPOCH = 50_000


class RecordError(InputError):
    """A record that can't be used: says which file and which field."""


class RunRecord(Model):
    """What every run tells: where it comes from, what data it used, how much memory it took."""

    provenance: Provenance
    dataset: Identity
    device: str
    """What did the arithmetic: the processor's or the card's model."""
    device_kind: DeviceKind
    memory: Memory
    """Peaks of the process, at the end of the run."""


class TrainingSettings(Model):
    """Everything that decides the result of a training run, besides the data."""

    phase: str = "cpu-parallel"
    architecture: Architecture = Architecture()
    epochs: Epochs = 1
    images: TrainingImages = 1000
    """The first so many training images."""
    test_images: TestImages = 10_000
    """The first so many test images, looked at after the last epoch."""
    batch_size: BatchSize = 1
    learning_rate: LearningRate = 0.002
    initial_scale: InitialScale = 1.0
    """Of the initial weights, times He's."""
    seed: Seed = 0
    graph: bool = False
    """Whether steps are queued as CUDA graphs; changes no bit of the result."""

    _batch = model_validator(mode="after")(batch_within_images)


class EpochResult(Model):
    """One pass over the training images."""

    epoch: PositiveInt
    loss: NonNegative
    """Mean over the images seen, each before the update it caused."""
    seconds: Seconds
    images: PositiveInt
    trace: tuple[NonNegative, ...] = ()
    """Mean loss of successive equal parts of the epoch; none in records from before it was kept."""


class TestResult(Model):
    """Reconstruction of images that were not trained on."""

    __test__ = False  # not one of pytest's

    images: PositiveInt
    mse: NonNegative
    psnr: FiniteFloat
    """Mean over images of 10 log10(1 / MSE), in dB."""
    seconds: Seconds


class TrainingRecord(RunRecord):
    """A training run."""

    kind: Literal["training"] = "training"
    settings: TrainingSettings
    epochs: tuple[EpochResult, ...]
    resumed_after: NonNegativeInt = 0
    """Epochs that came with a checkpoint: measured earlier, maybe elsewhere."""
    test: TestResult | None
    precision: Precision = "float32"
    gpus: NonNegativeInt
    """0 where none did the arithmetic."""
    threads: PositiveInt
    threading_layer: str | None = None
    """What runs more than one thread: `omp`, ...; None also in records from before it was kept."""
    parameters_digest: str
    """SHA-256 of the final parameter buffer."""

    @property
    def own_epochs(self) -> tuple[EpochResult, ...]:
        """Those that this run did itself."""
        return self.epochs[self.resumed_after :]

    @property
    def seconds_per_image(self) -> float:
        """Training time per image over this run's own epochs; NaN if it had none."""
        own = self.own_epochs
        return sum(e.seconds for e in own) / sum(e.images for e in own) if own else math.nan


class StepTime(Model):
    """Time of one training step: a distribution, not a number."""

    name: str
    """The phase, a key of `ae_core.phases.PHASES`; or the library."""
    peer: bool = False
    """Whether this is another library, measured as a yardstick."""
    precision: Precision = "float32"
    graph: bool = False
    """Whether a step is queued as one CUDA graph."""
    device: str
    device_kind: DeviceKind
    gpus: NonNegativeInt
    """0 where none did the arithmetic."""
    threads: PositiveInt
    threading_layer: str | None = None
    """As in `TrainingRecord`."""
    batch_size: PositiveInt
    n: PositiveInt
    median: Seconds
    low: Seconds
    """First decile."""
    high: Seconds
    """Ninth decile."""
    total: Seconds
    """All `n` together."""

    @property
    def per_image(self) -> float:
        """Seconds of the median step for each of its images: what comparisons are made of."""
        return self.median / self.batch_size

    @property
    def extrapolated(self) -> bool:
        """Whether fewer images were measured than an epoch has."""
        return self.n * self.batch_size < IMAGES_PER_EPOCH

    @property
    def seconds_per_epoch(self) -> float:
        """Seconds for 50,000 images: measured, or extrapolated from the mean step."""
        return IMAGES_PER_EPOCH * self.total / (self.n * self.batch_size)


class BenchmarkRecord(RunRecord):
    """Training steps of several implementations, timed in one run on the same images."""

    kind: Literal["benchmark"] = "benchmark"
    architecture: Architecture
    seed: NonNegativeInt
    steps: tuple[StepTime, ...]
    load: Load | None = None
    """Of the machine, meanwhile; None in records from before it was kept."""

    def step(self, name: str, **fields: Any) -> StepTime:
        """The first step of a phase or library with these fields: `graph=True`, `batch_size=128`.

        Raises:
            RecordError: there is none.
        """
        wanted = {"name": name, "graph": False, **fields}
        for step in self.steps:
            if all(getattr(step, field) == value for field, value in wanted.items()):
                return step
        raise RecordError(f"benchmark: expected a step with {wanted}, found none")


class OperationTime(Model):
    """Time of one entry of a training step: of an operation, or of several in one."""

    name: str
    kind: StepKind
    operations: tuple[str, ...]
    """Those of the network that it does, as `conv1.bias_forward`."""
    n: PositiveInt
    median: Seconds
    low: Seconds
    high: Seconds
    flops: NonNegativeInt
    bytes: PositiveInt
    launches: NonNegativeInt = 0
    """Kernels that it takes."""

    @property
    def label(self) -> str:
        """The operation without its layer, to add up over layers; of several, the entry's name."""
        return self.operations[0].split(".")[1] if len(self.operations) == 1 else self.name

    def does(self, operation: str) -> bool:
        """Whether it does this operation, named without its layer, for some layer."""
        return any(each.split(".")[1] == operation for each in self.operations)


class Ceilings(Model):
    """What a device can do at most, as measured on it."""

    flops: Positive
    """Float32 operations per second, in registers."""
    bandwidth: Positive
    """Bytes per second that a copy reads and writes, beyond the caches."""

    def seconds(self, flops: float, nbytes: float) -> float:
        """The least time for so much arithmetic and traffic: the roofline."""
        return max(flops / self.flops, nbytes / self.bandwidth)


class ProfileRecord(RunRecord):
    """Where the time of a training step goes."""

    kind: Literal["profile"] = "profile"
    phase: str
    architecture: Architecture
    seed: NonNegativeInt
    step: StepTime
    operations: tuple[OperationTime, ...]
    ceilings: Ceilings | None = None
    """None where they were not measured: on a CPU."""
    includes_launches: bool = False
    """Whether operations' times are of launching them: a step has too many to queue ahead."""

    @property
    def gaps(self) -> float:
        """Seconds of a step in which no operation ran: waiting for launches, mostly."""
        return max(self.step.median - self.seconds, 0.0)

    @property
    def seconds(self) -> float:
        """The operations' medians together; the step's own median also holds the gaps."""
        return sum(o.median for o in self.operations)

    @property
    def convolution_share(self) -> float:
        """Part of `seconds` that convolutions take, 0 to 1."""
        return sum(o.median for o in self._convolutions()) / self.seconds

    @property
    def convolution_rate(self) -> float:
        """Convolutions' floating-point operations per second, products with padding counted."""
        found = self._convolutions()
        return sum(o.flops for o in found) / sum(o.median for o in found)

    @property
    def convolution_intensity(self) -> float:
        """Convolutions' floating-point operations per byte of least memory traffic."""
        found = self._convolutions()
        return sum(o.flops for o in found) / sum(o.bytes for o in found)

    @property
    def roofline_share(self) -> float | None:
        """The least time that the ceilings allow the convolutions, over theirs; None without any.

        Their time has that of launching them in it, if `includes_launches`.
        """
        if not self.ceilings:
            return None
        found = self._convolutions()
        least = sum(self.ceilings.seconds(o.flops, o.bytes) for o in found)
        return least / sum(o.median for o in found)

    def _convolutions(self) -> list[OperationTime]:
        return [o for o in self.operations if o.kind == "convolution"]


class Difference(Model):
    """How far a tensor is from its reference."""

    quantity: str
    max_absolute: FiniteFloat
    mean_absolute: FiniteFloat
    relative: FiniteFloat
    """Norm of the difference over the norm of the reference."""
    tolerance: Positive
    """The largest `relative` that passes."""

    @property
    def passed(self) -> bool:
        """Whether the difference is within tolerance."""
        return self.relative <= self.tolerance


class VerificationRecord(RunRecord):
    """A phase held against its reference."""

    kind: Literal["verification"] = "verification"
    phase: str
    reference: str
    architecture: Architecture
    precision: Precision = "float32"
    not_materialised: tuple[str, ...] = ()
    """Outputs that the phase never writes in whole, so that they were not compared."""
    images: PositiveInt
    steps: NonNegativeInt
    batch_size: PositiveInt = 1
    """Of the steps."""
    learning_rate: Positive | None
    """Of the compared training steps."""
    seed: NonNegativeInt
    differences: tuple[Difference, ...]
    repeatable: bool | None = None
    """Whether a second run came to the same bits; None if there was none."""

    @property
    def worst(self) -> Difference:
        """The largest relative difference of a single pass, before any training step."""
        single = [d for d in self.differences if not d.quantity.startswith("after")]
        return max(single, key=lambda difference: difference.relative)

    @property
    def passed(self) -> bool:
        """Whether every quantity is within tolerance, and the same when computed again."""
        within = all(difference.passed for difference in self.differences)
        return within and self.repeatable is not False


class KernelFigures(Model):
    """What Nsight Compute says of one launch."""

    kernel: str
    grid: str
    seconds: Seconds
    occupancy: NonNegative
    """Warps that were active, of those that a multiprocessor can hold: 0 to 1, over the launch."""
    arithmetic: NonNegative
    """Use of the multiprocessors' pipelines, of their peak: 0 to 1."""
    memory_traffic: NonNegative
    """Use of caches and memory, of their peak: 0 to 1."""
    registers: PositiveInt
    """Per thread."""


class KernelsRecord(RunRecord):
    """A phase's main kernels under Nsight Compute."""

    kind: Literal["kernels"] = "kernels"
    phase: str
    batch_size: PositiveInt = 1
    architecture: Architecture
    kernels: tuple[KernelFigures, ...]


class ClassifierSettings(Model):
    """Everything that decides a classifier, besides its features."""

    classifier: Classifier = "svc"
    C: Cost = 10.0
    """What a misclassified image costs the SVC; 1 / (2 alpha) of the least-squares classifier."""
    gamma: Gamma = 1.0
    """Of the RBF kernel, in units of 1 / (features x variance): scikit-learn's `scale` is 1."""


class ClassificationResult(Model):
    """One classifier on one kind of features."""

    features: str
    """What was classified: `trained encoder`, `raw pixels`, ..."""
    seed: NonNegativeInt
    """Of the encoder's parameters, where it has some."""
    dimensions: PositiveInt
    scaled: bool
    """Whether each feature was brought to mean 0 and deviation 1 on the training set."""
    settings: ClassifierSettings
    train_images: PositiveInt
    test_images: PositiveInt
    fit_seconds: Seconds
    predict_seconds: Seconds
    """For the test images."""
    train_accuracy: Share
    confusion: tuple[tuple[NonNegativeInt, ...], ...]
    """Test images by class, a row, and predicted class, a column."""

    @property
    def test_accuracy(self) -> float:
        """Part of the test images that were classified right, 0 to 1."""
        return sum(row[label] for label, row in enumerate(self.confusion)) / self.test_images

    @property
    def recalls(self) -> tuple[float, ...]:
        """By class, the part of its test images that were classified right; NaN without any."""
        return tuple(
            row[label] / sum(row) if sum(row) else math.nan
            for label, row in enumerate(self.confusion)
        )


class FormatTime(Model):
    """What a file format of features costs."""

    suffix: str
    images: PositiveInt
    features: PositiveInt
    """Of each image."""
    bytes: PositiveInt
    write_seconds: Seconds
    """Writing alone, the encoding apart."""
    read_seconds: Seconds


class ClassificationRecord(RunRecord):
    """Classifiers on features, compared in one run on the same images."""

    kind: Literal["classification"] = "classification"
    engine: str
    """Whose classifiers they are: `rapids` or `scikit-learn`."""
    classes: tuple[str, ...]
    parameters_digest: str | None
    """Of the trained encoder; None if none of the features are of one."""
    results: tuple[ClassificationResult, ...]
    formats: tuple[FormatTime, ...] = ()


Record = (
    TrainingRecord
    | BenchmarkRecord
    | ProfileRecord
    | VerificationRecord
    | KernelsRecord
    | ClassificationRecord
)
_ANY: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def for_record(path: str | Path) -> Path:
    """Where a record will be written, `~` spelled out; an earlier one may be there already.

    Raises:
        InputError: something else is there, which must not be lost: a checkpoint, features, ...
    """
    path = files.for_file(path)
    if files.found_at(path) == files.FILE and path.stat().st_size and not _is_record(path):
        raise InputError(
            f"{path}: expected a new file or an earlier record, found another file: name a new one"
        )
    return path


def save(record: Record, path: str | Path) -> Path:
    """Write a record as JSON: at every moment `path` is whole, old or absent.

    Raises:
        InputError: another file than a record is there.
        UnwritableError: no room, no permission, or something else than a file is there.
    """
    path = for_record(path)
    with files.replacing(path) as draft:
        draft.write_text(record.model_dump_json(indent=1) + "\n", "utf8")
    return path


def load(path: str | Path) -> Record:
    """Read and validate a record; no value is converted to the type that is expected.

    Raises:
        RecordError: no file, not JSON, or a field that is missing, unknown or out of range.
    """
    path = files.expect(path, "a record", files.FILE, error=RecordError)
    try:
        return _ANY.validate_json(path.read_text("utf8"), strict=True)
    except UnicodeDecodeError:
        raise RecordError(f"{path}: expected JSON text, found other bytes") from None
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()[:5]
        )
        raise RecordError(f"{path}: not a valid record: {found}") from None


def _is_record(path: Path) -> bool:
    """Whether a file is a record of any version of this package, valid today or not."""
    with path.open("rb") as file:
        if file.read(1) != b"{":  # checkpoints and features may be large
            return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"kind", "provenance"} <= content.keys()
