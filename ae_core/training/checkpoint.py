"""Weights and what is needed to go on training from them, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from ae_core import files
from ae_core.errors import InputError
from ae_core.records import EpochResult, TrainingSettings
from ae_core.records.base import Model

FORMAT = "ae_core checkpoint 2"
EARLIER = ("ae_core checkpoint 1",)
"""Without a digest: a flipped bit in such a file goes unseen."""


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
    """Write a checkpoint: at every moment `path` is whole, old or absent."""
    path, state = files.for_file(path), checkpoint.state.model_dump_json()
    metadata = {"format": FORMAT, "digest": _digest(checkpoint.parameters, state), "state": state}
    with files.replacing(path) as draft:
        draft.write_bytes(to_bytes(dict(checkpoint.parameters), metadata))
    return path


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint, and make sure that every bit is as it was saved.

    Raises:
        CheckpointError: no file, damaged, not written by this version of the package, or with
            other tensors than its network has.
    """
    path = files.expect(path, "a checkpoint", files.FILE, error=CheckpointError)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            _check_format(path, metadata.get("format"))
            parameters = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, AttributeError) as error:
        # NumPy has no bfloat16 (TypeError) unless ml_dtypes is imported, and no float8.
        raise CheckpointError(
            f"{path}: expected a whole safetensors file, found a damaged or other one ({error})"
        ) from None
    text = metadata.get("state", "")
    if metadata.get("digest") != _digest(parameters, text):
        raise CheckpointError(
            f"{path}: expected the tensors and the state that were saved, found others (their "
            f"digest differs): the file is damaged; take a copy of it, or train anew"
        )
    state = _state(path, text)
    _check_tensors(path, parameters, state)
    return Checkpoint(parameters, state)


def _digest(parameters: Mapping[str, npt.NDArray[Any]], state: str) -> str:
    """SHA-256 over the state and every tensor, by name: its dtype, shape and bytes."""
    sha = hashlib.sha256(state.encode())
    for name, tensor in sorted(parameters.items()):
        sha.update(f"\0{name}\0{tensor.dtype.str}\0{tensor.shape}\0".encode())
        sha.update(tensor.tobytes())  # not its buffer: bfloat16 has none
    return sha.hexdigest()


def _check_format(path: Path, found: str | None) -> None:
    if found in EARLIER:
        raise CheckpointError(
            f"{path}: expected {FORMAT!r}, found {found!r}, of an earlier version and "
            f"without a digest to check it by: train anew"
        )
    if found != FORMAT:
        raise CheckpointError(
            f"{path}: expected {FORMAT!r} in the file's metadata, found {found!r}: give a file "
            f"that `train --checkpoint` wrote"
        )


def _state(path: Path, text: str) -> TrainingState:
    """The state, of which nothing may be left to a default: it may have been another one then."""
    try:
        state = TrainingState.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "state"
        raise CheckpointError(f"{path}: training state: {where}: {first['msg']}") from None
    missing = next(_left_out(json.loads(text), json.loads(state.model_dump_json())), None)
    if missing:
        raise CheckpointError(
            f"{path}: training state: expected {missing}, found none: another version of this "
            f"package wrote the file; train anew"
        )
    return state


def _left_out(given: Any, whole: Any, place: str = "") -> Iterator[str]:
    """Fields of `whole` that `given` lacks: `settings.seed`, ..."""
    if isinstance(whole, list):
        whole, given = dict(enumerate(whole)), dict(enumerate(given))
    if isinstance(whole, dict):
        for name, value in whole.items():
            if name not in given:
                yield f"{place}{name}"
            else:
                yield from _left_out(given[name], value, f"{place}{name}.")


def _check_tensors(
    path: Path, parameters: Mapping[str, npt.NDArray[Any]], state: TrainingState
) -> None:
    """They must be those of the network in the settings: nothing is cast or cut to fit."""
    network = state.settings.architecture
    expected = {s.name: f"float32 {s.shape}" for s in network.parameters}
    found = {name: f"{tensor.dtype} {tensor.shape}" for name, tensor in parameters.items()}
    for name in sorted(expected.keys() | found.keys()):
        wanted, there = expected.get(name, "no such tensor"), found.get(name, "none")
        if wanted != there:
            raise CheckpointError(f"{path}: {name}: expected {wanted}, found {there}")
        if not np.isfinite(parameters[name]).all():
            raise CheckpointError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
