"""Files of features, Parquet or CSV: written and read in blocks, never all in memory twice.

A row an image: its index in the split, its label, its latent features as float32. Parquet keeps
them as one fixed-size list column, since thousands of columns make for a slow file; CSV spells the
columns out, as text. Either knows what it was made from, and the digest of its rows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pydantic import PositiveInt, ValidationError

from ae_core import files
from ae_core.classifying.engines import Engine
from ae_core.data.cifar10 import Identity
from ae_core.devices.device import Array
from ae_core.errors import InputError
from ae_core.records.base import Model

BLOCK = 1000
"""Images that are encoded, written and read at once: 33 MB of the book's features."""
KEY, DIGEST_KEY = b"ae_core", b"ae_core digest"
"""Of what it was made from and the rows' digest, in a Parquet file's metadata; a CSV file has both
behind `#` in its first line."""
EARLIER = "ae_core features 1"
"""The format without a digest: a changed digit in such a file goes unseen."""
SplitName = Literal["train", "test"]


class FeatureError(InputError):
    """A file of features that can't be used: says which, what was expected, what was found."""


class FeatureOrigin(Model):
    """What a file of features was made from."""

    format: Literal["ae_core features 2"] = "ae_core features 2"
    split: SplitName
    images: PositiveInt
    features: PositiveInt
    dataset: Identity
    classes: tuple[str, ...]
    parameters_digest: str
    """SHA-256 of the parameters of the autoencoder whose encoder it was: `Autoencoder.digest`."""


@dataclass(frozen=True)
class Features:
    """A split's features, where an engine computes."""

    x: Array
    """`(N, features)` float32, on the engine's device."""
    labels: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.integer]
    """Each row's image in the split."""
    origin: FeatureOrigin | None = None
    """None for features that no file holds."""


Write = Callable[[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]], None]


class Digest:
    """SHA-256 over a file's description and its rows, in whatever blocks they come."""

    def __init__(self, origin: FeatureOrigin) -> None:
        self._origin = hashlib.sha256(origin.model_dump_json().encode())
        self._columns = [hashlib.sha256() for _ in range(3)]

    def update(
        self, rows: npt.NDArray[Any], labels: npt.NDArray[Any], features: npt.NDArray[Any]
    ) -> None:
        """Add a block."""
        typed = zip((rows, labels, features), (np.int32, np.uint8, np.float32), strict=True)
        for sha, (column, dtype) in zip(self._columns, typed, strict=True):
            sha.update(np.ascontiguousarray(column, dtype).data)

    def hexdigest(self) -> str:
        """Of the description and the rows so far."""
        parts = (self._origin, *self._columns)
        return hashlib.sha256(b"".join(sha.digest() for sha in parts)).hexdigest()


@contextmanager
def writing(path: str | Path, origin: FeatureOrigin) -> Iterator[Write]:
    """Appends blocks of image numbers, labels and features to a file that is whole or absent.

    Raises:
        FeatureError: a name that ends in neither `.parquet` nor `.csv`.
        BusyError: another process is writing it.
        UnwritableError: no room, no permission, or something else than a file is there.
    """
    path = files.for_file(path)
    _check_suffix(path)
    written = _parquet if path.suffix == ".parquet" else _csv
    with (
        files.replacing(path, wait=False) as draft,
        draft.open("wb") as file,
        written(file, origin) as write,
    ):
        yield write


def load(path: str | Path, engine: Engine, like: FeatureOrigin | None = None) -> Features:
    """Read a file of features to where `engine` computes.

    Args:
        path: as `features.extract` wrote it.
        engine: reads it, with cuDF or without.
        like: what the file must have been made from; how many images may differ.

    Raises:
        FeatureError: no file, damaged, cut short, of another encoder or data, or with a NaN.
    """
    path = files.expanded(path)
    origin, expected = _described(path)
    if like:
        _check_origin(path, origin, like)
    x = engine.xp.empty((origin.images, origin.features), np.float32)
    rows, labels = np.empty(origin.images, np.int32), np.empty(origin.images, np.uint8)
    blocks = engine.parquet(path) if path.suffix == ".parquet" else engine.csv(path, BLOCK)
    start, digest = 0, Digest(origin)
    try:
        for block_rows, block_labels, block in blocks:
            here = slice(start, start + len(block))
            if not np.isin(block_labels, np.arange(len(origin.classes))).all():
                raise ValueError(f"expected labels from 0 to {len(origin.classes) - 1}")
            x[here], rows[here], labels[here] = block, block_rows, block_labels
            digest.update(rows[here], labels[here], engine.to_host(x[here]))
            start = here.stop
    except (KeyError, OSError, RuntimeError, ValueError, pa.ArrowException) as error:
        raise FeatureError(f"{path}: damaged at row {start}: {str(error)[:200]}") from error
    if start != origin.images:
        raise FeatureError(f"{path}: expected {origin.images:,} rows, found {start:,}: cut short")
    if digest.hexdigest() != expected:
        raise FeatureError(
            f"{path}: expected what was written, found something else (its digest differs): "
            f"the file is damaged; extract it anew"
        )
    if not bool(engine.xp.isfinite(x).all()):
        raise FeatureError(f"{path}: expected finite features, found NaN or infinity")
    return Features(x, labels, rows, origin)


def inspect(path: str | Path) -> FeatureOrigin:
    """What a file of features says it was made from, without reading the features.

    Whether they are still those that were written, `load` finds out.

    Raises:
        FeatureError: no file, without an end, or not written by this package.
    """
    return _described(files.expanded(path))[0]


def _described(path: Path) -> tuple[FeatureOrigin, str]:
    """What a file was made from, and the digest of its rows."""
    files.expect(path, "a file of features", files.FILE, error=FeatureError)
    _check_suffix(path)
    try:
        if path.suffix == ".parquet":
            with path.open("rb") as file:  # Arrow takes no name that is not UTF-8
                metadata = pq.read_metadata(file).metadata or {}
            text, digest = metadata.get(KEY, b""), metadata.get(DIGEST_KEY, b"")
        else:
            with path.open("rb") as file:
                line = file.readline(10_000).removeprefix(b"#").strip()
            text, _, digest = line.rpartition(b" ")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FeatureError(
            f"{path}: expected a whole Parquet file, found a damaged or unfinished one ({error})"
        ) from None
    try:
        origin = FeatureOrigin.model_validate_json(text, strict=True)
    except ValidationError:
        if EARLIER.encode() in text:
            raise FeatureError(
                f"{path}: expected features with a digest, found {EARLIER!r}, of an earlier "
                f"version: extract them anew"
            ) from None
        raise FeatureError(
            f"{path}: expected features written by `python -m ae_core features`, found no "
            f"description of them"
        ) from None
    if path.suffix == ".csv" and not _ends_with_newline(path):
        raise FeatureError(f"{path}: expected a newline after the last row, found none: cut short")
    return origin, digest.decode("ascii", "replace")


@contextmanager
def _parquet(file: BinaryIO, origin: FeatureOrigin) -> Iterator[Write]:
    vector = pa.list_(pa.field("item", pa.float32(), nullable=False), origin.features)
    columns = {"image": pa.int32(), "label": pa.uint8(), "features": vector}
    schema = pa.schema(
        [pa.field(name, kind, nullable=False) for name, kind in columns.items()],
        {KEY: origin.model_dump_json().encode()},
    )
    digest = Digest(origin)
    # A dictionary of floats that hardly repeat only costs; half of them are zero, so that a light
    # compression pays.
    with pq.ParquetWriter(
        file, schema, compression="snappy", use_dictionary=False, write_page_checksum=True
    ) as writer:

        def write(
            rows: npt.NDArray[Any], labels: npt.NDArray[Any], features: npt.NDArray[Any]
        ) -> None:
            flat = pa.array(np.ascontiguousarray(features, np.float32).ravel())
            column = pa.FixedSizeListArray.from_arrays(flat, type=vector)
            arrays = [pa.array(rows, pa.int32()), pa.array(labels, pa.uint8()), column]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            digest.update(rows, labels, features)

        yield write
        writer.add_key_value_metadata({DIGEST_KEY: digest.hexdigest()})


@contextmanager
def _csv(file: BinaryIO, origin: FeatureOrigin) -> Iterator[Write]:
    names = [f"f{number}" for number in range(origin.features)]
    schema = pa.schema(
        {"image": pa.int32(), "label": pa.uint8(), **dict.fromkeys(names, pa.float32())}
    )
    description = b"# " + origin.model_dump_json().encode() + b" "
    digest = Digest(origin)
    file.write(description + digest.hexdigest().encode() + b"\n")  # of no rows yet
    with pyarrow.csv.CSVWriter(file, schema) as writer:

        def write(
            rows: npt.NDArray[Any], labels: npt.NDArray[Any], features: npt.NDArray[Any]
        ) -> None:
            columns = [rows.astype(np.int32), labels, *features.astype(np.float32).T]
            writer.write(pa.Table.from_arrays([pa.array(c) for c in columns], schema=schema))
            digest.update(rows, labels, features)

        yield write
    file.seek(len(description))
    file.write(digest.hexdigest().encode())


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".parquet", ".csv"):
        raise FeatureError(f"{path}: expected a name that ends in .parquet or .csv")


def _check_origin(path: Path, origin: FeatureOrigin, like: FeatureOrigin) -> None:
    then, now = origin.model_dump(), like.model_dump()
    for field in ("split", "dataset", "parameters_digest", "features"):
        if then[field] != now[field]:
            raise FeatureError(
                f"{path}: expected features with {field} {now[field]}, found {then[field]}; "
                f"extract them anew"
            )


def _ends_with_newline(path: Path) -> bool:
    """As every row does: without it, a number cut within its digits would still be a number."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"
