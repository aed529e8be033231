"""The book's headline: every phase in one table, from the records of one run of the book."""

from __future__ import annotations

from pathlib import Path

from ae_core import records, tables
from ae_core.records import BenchmarkRecord, TrainingRecord

BENCHMARK = "cpu_benchmark.json"
TRAINING = "cpu_training.json"
GPU_BENCHMARK = "gpu_benchmark.json"
"""All phases; written where there is a GPU."""
GPU_TRAINING = "training_gpu-v2.json"
SOURCES = ((GPU_BENCHMARK, GPU_TRAINING), (BENCHMARK, TRAINING))
"""Pairs of a benchmark and a training record, the best first."""


def markdown(benchmark_path: Path, training_path: Path) -> list[str]:
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
    alignment = ["---", *["--:"] * (len(frame.columns) - 1)]
    rows = [frame.columns, alignment, *frame.to_numpy()]
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    lines += [
        "",
        f"Median training step with one image, measured {facts.created:%Y-%m-%d} on {facts.cpu}, "
        f"{facts.cores} cores{f' and {facts.gpu.model}' if facts.gpu else ''}; "
        f"data: **{benchmark.dataset.label}**. ",
    ]
    if training.test:
        lines += [
            f"After {len(training.epochs)} epochs over {training.settings.images:,} images, the "
            f"mean squared error on {training.test.images:,} test images was "
            f"{training.test.mse:.4f} ({training.test.psnr:.1f} dB)."
        ]
    return lines
