"""The parameters of each chapter, and how a running chapter checks its own."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ae_core import parameters
from ae_core.files import expanded
from ae_core.parameters import (
    PATH,
    BatchSize,
    Budget,
    CheckedImages,
    CheckedSteps,
    CheckpointFile,
    ClassifiedImages,
    ClassifiedTestImages,
    Compared,
    Cost,
    DataFolder,
    Device,
    Duration,
    Encoders,
    EncodingDevice,
    EngineChoice,
    Epochs,
    Gamma,
    InitialScale,
    LearningRate,
    ParameterError,
    PerClass,
    ReportEpochs,
    Search,
    Seed,
    SomeTestImages,
    Steps,
    Timed,
    TrainingImages,
    batch_within_images,
    folder,
    or_none,
    shown,
)

INJECTED = "# Parameters"
"""The first line of the cell that papermill adds with the given parameters."""


def _published(edition: str) -> str:
    from ae_book.making import runs  # noqa: PLC0415

    there = [run.name for run in runs.editions()]
    if edition not in there:
        names = ", ".join(there) or "none is there"
        raise ValueError(f"expected a published edition ({names}), found {shown(edition)}")
    return edition


def _executed(path: str) -> str:
    if not any(expanded(folder(path)).glob("*/records")):
        raise ValueError(f"expected a folder of executed chapters, found none in it: {shown(path)}")
    return path


_NAME = Field(strict=True, description="the name of a published edition, as text")
NewEdition = Annotated[
    str, Field(pattern=r"^\w[\w.-]*$", description="a name of letters and digits")
]
PublishedEdition = Annotated[str, _NAME, AfterValidator(_published)]
Edition = Annotated[str, _NAME, or_none(_published)]


ExecutedFolder = Annotated[str, PATH, or_none(_executed)]


class Parameters(BaseModel):
    """A chapter's parameters; their defaults stand in its cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Problem(Parameters):
    """Of `01_problem`."""

    data: DataFolder
    per_class: PerClass


class CpuBaseline(Parameters):
    """Of `02_cpu_baseline`."""

    epochs: Epochs
    images: TrainingImages
    test_images: SomeTestImages
    learning_rate: LearningRate
    seed: Seed
    plain_steps: Steps
    parallel_steps: Steps
    budget: Budget
    data: DataFolder


class CudaPhase(Parameters):
    """Of `03_gpu_basic` and `04_gpu_v1`."""

    device: Device
    seconds: Duration
    images: TrainingImages
    epochs: Epochs
    test_images: SomeTestImages
    learning_rate: LearningRate
    seed: Seed
    checked_images: CheckedImages
    checked_steps: CheckedSteps
    steps: Steps
    data: DataFolder


class LastCudaPhase(CudaPhase):
    """Of `05_gpu_v2`."""

    budget: Budget


class Svm(Parameters):
    """Of `06_svm`."""

    images: ClassifiedImages
    test_images: ClassifiedTestImages
    epochs: Epochs
    batch_size: BatchSize
    learning_rate: LearningRate
    initial_scale: InitialScale
    report_epochs: ReportEpochs
    encoders: Encoders
    untrained: Encoders
    C: Cost
    gamma: Gamma
    search: Search
    timed: Timed
    compared: Compared
    checkpoint: CheckpointFile
    engine: EngineChoice
    device: EncodingDevice
    data: DataFolder

    _batch = model_validator(mode="after")(batch_within_images)


class Performance(Parameters):
    """Of `07_performance`."""

    edition: Edition
    executed: ExecutedFolder


class Analysis(Parameters):
    """Of the chapters that only read what others measured."""

    executed: ExecutedFolder


CHAPTERS: dict[str, type[Parameters]] = {
    "01_problem": Problem,
    "02_cpu_baseline": CpuBaseline,
    "03_gpu_basic": CudaPhase,
    "04_gpu_v1": CudaPhase,
    "05_gpu_v2": LastCudaPhase,
    "06_svm": Svm,
    "07_performance": Performance,
    "08_claims": Analysis,
    "09_lessons": Analysis,
    "10_next": Analysis,
}


def check(chapter: str) -> None:
    """Refuse the parameters of the notebook that is running, if its chapter can't use them.

    Also refuses names that papermill was given and the chapter does not have. Papermill only warns
    of them, and the chapter would run with its defaults.

    Raises:
        ParameterError: a line for each that is wrong.
    """
    from IPython import get_ipython  # noqa: PLC0415

    shell = get_ipython()
    if shell is None:
        raise ParameterError(f"check: expected {chapter} to run in Jupyter, found no notebook")
    cells = shell.history_manager.input_hist_raw  # not `In`, a name that papermill may be given
    refuse(chapter, parameters_of(chapter, shell.user_ns, cells))


def parameters_of(
    chapter: str, namespace: Mapping[str, Any], cells: Sequence[str]
) -> dict[str, Any]:
    """Of a notebook's names, the chapter's parameters, and what papermill's cell set besides.

    Args:
        chapter: whose parameters.
        namespace: IPython's.
        cells: the source of each executed cell: the last is the one that asks, and only the one
            before it can be papermill's.
    """
    before = cells[-2] if len(cells) > 1 else ""
    injected = _assigned(before) if before.startswith(INJECTED) else set()
    names = [*CHAPTERS[chapter].model_fields, *sorted(injected)]
    return {name: namespace[name] for name in names if name in namespace}


def refuse(chapter: str, values: Mapping[str, Any]) -> None:
    """Refuse a chapter's parameters that it can't use.

    Raises:
        ParameterError: a line for each that is wrong.
    """
    parameters.validate(CHAPTERS[chapter], values, chapter)


def _assigned(source: str) -> set[str]:
    """The names that a cell of assignments sets."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a reader's cell, with a magic in it
        return set()
    nodes = (node for statement in statements for node in ast.walk(statement))
    return {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
