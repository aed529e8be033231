"""What a run measured, with where it came from, as JSON that is validated when read.

Every number that the book prints comes from one of these records.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)

from ae_core.architecture import Architecture
from ae_core.provenance import Model, Provenance

Seconds = Annotated[FiniteFloat, Field(ge=0)]
Positive = Annotated[FiniteFloat, Field(gt=0)]


class RecordError(ValueError):
    """A record that can't be used: says which file and which field."""


class DatasetIdentity(Model):
    """What data it really was; see `ae_core.cifar10.Identity`."""

    kind: Literal["official", "other", "synthetic"]
    label: str
    digest: str


class TrainingSettings(Model):
    """Everything that decides the result of a training run, besides the data."""

    phase: str = "cpu-parallel"
    architecture: Architecture = Architecture()
    epochs: PositiveInt = 1
    images: PositiveInt = 1000
    """The first so many training images."""
    test_images: NonNegativeInt = 10_000
    """The first so many test images, looked at after the last epoch."""
    batch_size: PositiveInt = 1
    learning_rate: Positive = 0.002
    seed: NonNegativeInt = 0


class EpochResult(Model):
    """One pass over the training images."""

    epoch: PositiveInt
    loss: Annotated[FiniteFloat, Field(ge=0)]
    """Mean over the images seen, each before the update it caused."""
    seconds: Seconds
    images: PositiveInt


class TestResult(Model):
    """Reconstruction of images that were not trained on."""

    __test__ = False  # not one of pytest's

    images: PositiveInt
    mse: Annotated[FiniteFloat, Field(ge=0)]
    psnr: FiniteFloat
    """Mean over images of 10 log10(1 / MSE), in dB."""
    seconds: Seconds


class TrainingRecord(Model):
    """A training run."""

    kind: Literal["training"] = "training"
    provenance: Provenance
    dataset: DatasetIdentity
    settings: TrainingSettings
    epochs: tuple[EpochResult, ...]
    test: TestResult | None
    threads: PositiveInt
    peak_host_bytes: PositiveInt
    peak_device_bytes: NonNegativeInt | None
    parameters_digest: str
    """SHA-256 of the final parameter buffer."""

    @property
    def seconds_per_image(self) -> float:
        """Training time per image over all epochs."""
        return sum(e.seconds for e in self.epochs) / sum(e.images for e in self.epochs)


class StepTime(Model):
    """Time of one training step: a distribution, not a number."""

    name: str
    threads: PositiveInt
    batch_size: PositiveInt
    n: PositiveInt
    median: Seconds
    low: Seconds
    """First decile."""
    high: Seconds
    """Ninth decile."""


class BenchmarkRecord(Model):
    """Training steps of several implementations, timed in one run on the same images."""

    kind: Literal["benchmark"] = "benchmark"
    provenance: Provenance
    dataset: DatasetIdentity
    architecture: Architecture
    steps: tuple[StepTime, ...]


class OperationTime(Model):
    """Time of one operation of one layer within a training step."""

    layer: str
    operation: str
    n: PositiveInt
    median: Seconds
    low: Seconds
    high: Seconds
    flops: NonNegativeInt
    bytes: PositiveInt


class ProfileRecord(Model):
    """Where the time of a training step goes."""

    kind: Literal["profile"] = "profile"
    provenance: Provenance
    phase: str
    threads: PositiveInt
    architecture: Architecture
    batch_size: PositiveInt
    step: StepTime
    operations: tuple[OperationTime, ...]


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


class VerificationRecord(Model):
    """A phase held against its reference."""

    kind: Literal["verification"] = "verification"
    provenance: Provenance
    phase: str
    reference: str
    architecture: Architecture
    images: PositiveInt
    steps: NonNegativeInt
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Whether every quantity is within tolerance."""
        return all(difference.passed for difference in self.differences)


Record = TrainingRecord | BenchmarkRecord | ProfileRecord | VerificationRecord
_ANY: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


def save(record: Record, path: str | Path) -> Path:
    """Write a record as JSON, aside and then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf8") as file:
        file.write(record.model_dump_json(indent=1) + "\n")
    Path(file.name).chmod(0o644)
    Path(file.name).rename(path)
    return path


def load(path: str | Path) -> Record:
    """Read and validate a record.

    Raises:
        RecordError: no file, not JSON, or a field that is missing, unknown or out of range.
    """
    path = Path(path)
    try:
        return _ANY.validate_json(path.read_text("utf8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: expected a record, found no file") from None
    except UnicodeDecodeError:
        raise RecordError(f"{path}: expected JSON text, found other bytes") from None
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()[:5]
        )
        raise RecordError(f"{path}: not a valid record: {found}") from None
