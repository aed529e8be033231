"""The book's headline: every phase in one table, from the records of one run of the book."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ae_book.making import runs
from ae_book.making.chapters import BookError
from ae_book.making.runs import Run
from ae_book.showing import tables
from ae_core import records
from ae_core.numbers import count
from ae_core.records import BenchmarkRecord, TrainingRecord

BENCHMARK = "cpu_benchmark.json"
TRAINING = "cpu_training.json"
GPU_BENCHMARK = "gpu_benchmark.json"
"""All phases; written where there is a GPU."""
GPU_TRAINING = "training_gpu-v2.json"
PAIRS = ((GPU_BENCHMARK, GPU_TRAINING), (BENCHMARK, TRAINING))
"""Pairs of a benchmark and a training record, the best first."""
MARKS = re.compile(
    r"(?P<begin><!-- headline of editions/(?P<edition>\S+) -->)\n.*?"
    r"(?P<end><!-- headline ends -->)",
    re.DOTALL,
)
"""Around what a README has of an edition."""


def markdown(run: Run, others: Sequence[Run] = ()) -> list[str]:
    """A run's table and, each under its name, those of other runs, as lines of Markdown.

    Raises:
        BookError: a run has no such records.
        RecordError: a record is not what its name says.
    """
    lines = of_records(*_paths(run))
    for other in others:
        lines += ["", f"**Published: {other.title}**, {other.detail}", ""]
        lines += of_records(*_paths(other))
    return lines


def readme(text: str) -> str:
    """A README with the table of the edition that its marks name, made anew between them.

    Raises:
        BookError: it has no such marks, or no edition of that name has the records.
    """
    marked = MARKS.search(text)
    if not marked:
        raise BookError(
            "README: expected text between <!-- headline of editions/NAME --> and "
            "<!-- headline ends -->, found no such marks"
        )
    table = "\n".join(markdown(runs.edition(marked["edition"]))).strip()
    return text[: marked.end("begin")] + f"\n{table}\n" + text[marked.start("end") :]


def of_records(benchmark_path: Path, training_path: Path) -> list[str]:
    """The table and a sentence on what it was measured on, as lines of Markdown.

    Raises:
        RecordError: a record is missing or not what its name says.
    """
    benchmark, training = records.load(benchmark_path), records.load(training_path)
    if not isinstance(benchmark, BenchmarkRecord) or not isinstance(training, TrainingRecord):
        raise records.RecordError(
            f"{benchmark_path}, {training_path}: expected a benchmark and a training record, "
            f"found {benchmark.kind} and {training.kind}"
        )
    frame = tables.benchmark(benchmark).drop(columns=["10-90 %"])
    facts = benchmark.provenance
    lines = tables.markdown(frame)
    lines += [
        "",
        f"Median training steps, with one image each unless a row names a batch size; measured "
        f"{facts.created:%Y-%m-%d} on {facts.cpu}, {facts.cores} cores"
        f"{f' and {facts.gpu.model}' if facts.gpu else ''}; data: **{benchmark.dataset.label}**.",
    ]
    if training.test:
        lines += [
            f"After {len(training.epochs)} epochs over {count(training.settings.images)} images, "
            f"the mean squared error on {count(training.test.images)} test images was "
            f"{training.test.mse:.4f}, and the mean of their PSNRs {training.test.psnr:.1f} dB."
        ]
    return lines


def _paths(run: Run) -> list[Path]:
    """The first pair of records that a run has; those of a GPU come first."""
    *better, last = PAIRS
    for names in better:
        try:
            return [run.record_path(name) for name in names]
        except BookError:
            continue
    return [run.record_path(name) for name in last]
