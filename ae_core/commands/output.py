"""What several commands print and write."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ae_core import records
from ae_core.cifar10 import Dataset


def describe(dataset: Dataset) -> None:
    """Which data it is, and where."""
    print(f"data: {dataset.identity.label} ({dataset.directory})")


def writable(path: Path) -> Path:
    """`path`, whose folder exists and can be written to: found out before the work, not after."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        return path


def save(record: records.Record, path: Path) -> None:
    """Write a record, and say where."""
    print(f"record: {records.save(record, path)}")
