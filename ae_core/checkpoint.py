"""Weights and what is needed to go on training from them, in one safetensors file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ae_core.errors import InputError
from ae_core.model import Model
from ae_core.records import EpochResult, TrainingSettings

FORMAT = "ae_core checkpoint 1"


class CheckpointError(InputError):
    """A checkpoint that can't be used: says which file, what was expected, what was found."""


class TrainingState(Model):
    """Where training stood. The order of an epoch's images follows from seed and epoch."""

    settings: TrainingSettings
    dataset_digest: str
    epochs: tuple[EpochResult, ...]


@dataclass(frozen=True)
class Checkpoint:
    """Parameters by name, and the state of training that led to them."""

    parameters: Mapping[str, npt.NDArray[Any]]
    state: TrainingState


def save(path: str | Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint, aside and then renamed: at every moment `path` is whole or absent."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "state": checkpoint.state.model_dump_json()}
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
        aside = Path(file.name)
    try:
        save_file(dict(checkpoint.parameters), aside, metadata=metadata)
        aside.chmod(0o644)
        aside.rename(path)
    finally:
        aside.unlink(missing_ok=True)
    return path


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: no file, not safetensors (or cut short), or not written by this package.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: expected a checkpoint, found no file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected a whole safetensors file, found a damaged or other one ({error})"
        ) from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected {FORMAT!r} in the file's metadata, found {metadata.get('format')!r}"
        )
    try:
        state = TrainingState.model_validate_json(metadata.get("state", ""))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "state"
        raise CheckpointError(f"{path}: training state: {where}: {first['msg']}") from None
    return Checkpoint(parameters, state)
