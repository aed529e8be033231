"""What several commands print and write."""

from __future__ import annotations

from pathlib import Path

from ae_core import files, records
from ae_core.data.cifar10 import Dataset


def describe(dataset: Dataset) -> None:
    """Which data it is, and where."""
    print(f"data: {dataset.identity.label} ({dataset.directory})")


def writable(path: Path) -> Path:
    """`path`, if a record can be written there: found out before the work, not after."""
    path = records.for_record(path)
    with files.claimed(path, wait=True):
        return path


def save(record: records.Record, path: Path) -> None:
    """Write a record, and say where."""
    print(f"record: {records.save(record, path)}")
