"""CIFAR-10 in its binary layout: read, checked, and known for what it really is.

Six files of 10,000 rows; a row is 1 label byte and 3,072 pixel bytes (red, green and blue
planes of 32 x 32). Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ae_core import files
from ae_core.errors import InputError

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAIN_FILES, TEST_FILE)
IMAGE_SHAPE = (3, 32, 32)
ROW_BYTES = 1 + 3 * 32 * 32
ROWS = 10_000
FILE_BYTES = ROWS * ROW_BYTES

ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE = ARCHIVE_URL.rpartition("/")[2]
FOLDER = "cifar-10-batches-bin"
"""The folder inside the official archive."""
SYNTHETIC_MARKER = "SYNTHETIC.txt"
"""Beside synthetic batches: says so, and holds their digest and the names of their classes."""

Kind = Literal["official", "other", "synthetic"]

KNOWN: dict[tuple[str, ...], tuple[Kind, str]] = {
    # MD5 of the files in the order of FILES.
    (
        "5dd7e06a14cb22eb9f671a540d1b7c25", "5ea93a67294ea407fff1d09f752e9692",
        "942cd6a4bcdd0dd3c604fbe906cb4421", "ae636b3ba5c66a11e91e8cb52e771fcb",
        "53f37980c15c3d472c316c40844f3f0d", "803d5f7f4d78ea53de84dbe85f74fb6d",
    ): ("official", "CIFAR-10, official files"),
    (
        "5a5142663b2c457eb7edf61944cf14cd", "a03813b579934887e19fffa24f57e096",
        "9338b8beb58f9f053aa7e7f6d2ca26a1", "5d6a4b059305fb3437429da7d5355351",
        "b543e7acd6f6cab339de5ace5ae323ae", "11e2161f06e495577766fe4411c65d23",
    ): ("other", "CIFAR-10, JPEG-75 re-encoding"),
}  # fmt: skip


class DataError(InputError):
    """Data that is not what it should be: says which file, what was expected, what was found."""


@dataclass(frozen=True)
class Identity:
    """What a dataset really is, by its bytes."""

    kind: Kind
    label: str
    """As the book prints it."""
    digest: str
    """SHA-256 over the six files' MD5 sums."""


class Images:
    """Images of several memory-mapped files, indexed as one `(N, 3, 32, 32)` uint8 array.

    An index, slice or index array gives a copy of those images; `numpy.asarray` gives all.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: list[npt.NDArray[np.uint8]]) -> None:
        self._parts = parts
        self.shape = (sum(len(part) for part in parts), *IMAGE_SHAPE)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> npt.NDArray[np.uint8]:
        wanted = np.arange(len(self))[index]
        flat = np.ravel(wanted)
        images = np.empty((len(flat), *IMAGE_SHAPE), np.uint8)
        part, row = np.divmod(flat, ROWS)
        for number in np.unique(part):
            here = part == number
            images[here] = self._parts[number][row[here]]
        return images.reshape(*wanted.shape, *IMAGE_SHAPE)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[:].astype(dtype or np.uint8, copy=False)


@dataclass(frozen=True)
class Split:
    """Images `(N, 3, 32, 32)` uint8 and their labels `(N,)` uint8."""

    images: Images
    labels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Dataset:
    """A folder in CIFAR-10's binary layout, checked when opened."""

    directory: Path
    train: Split
    test: Split
    classes: tuple[str, ...]

    @cached_property
    def identity(self) -> Identity:
        """Official, the layout with other bytes, or synthetic; reads all files once."""
        sums = tuple(_md5(self.directory / name) for name in FILES)
        digest = hashlib.sha256("".join(sums).encode()).hexdigest()
        kind, label = KNOWN.get(sums, ("other", "CIFAR-10 layout, other bytes"))
        if kind != "official" and is_about(self.directory / SYNTHETIC_MARKER, digest):
            kind, label = "synthetic", "synthetic stand-in for CIFAR-10"
        return Identity(kind, label, digest)


def is_about(marker: Path, told: str) -> bool:
    """Whether a file beside the batches holds their digest, or what else is told of them."""
    return files.found_at(marker) == files.FILE and told.encode() in marker.read_bytes()


def normalise(images: npt.NDArray[np.uint8], side: int = 32) -> npt.NDArray[np.float32]:
    """uint8 images `(N, C, 32, 32)` as float32 in [0, 1], averaged down to `side` x `side`.

    Raises:
        InputError: `side` does not divide 32.
    """
    if 32 % side:
        raise InputError(f"side: expected a divisor of 32, found {side}")
    scaled = images.astype(np.float32) / np.float32(255)
    if side == 32:
        return scaled
    count, channels, block = len(images), images.shape[1], 32 // side
    return scaled.reshape(count, channels, side, block, side, block).mean((3, 5))


def sized(images: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8 | np.float32]:
    """Images as a network of `side` x `side` takes them: as they are, or averaged down to float32.

    Raises:
        InputError: `side` does not divide 32.
    """
    return images if side == 32 else normalise(images, side)


def open_folder(directory: str | Path) -> Dataset:
    """Open the six batches in `directory`, or in the archive's folder inside it.

    Raises:
        DataError: a batch is missing, has another size, holds a label above 9, cannot be read...
    """
    refuse_archive(directory)
    wanted = f"a folder with {FILES[0]} and so on"
    folder = files.expect(directory, wanted, files.FOLDER, error=DataError)
    try:
        list(folder.iterdir())
    except OSError as error:
        found = f"one that can't be read ({error.strerror})"
        raise DataError(f"{folder}: expected {wanted}, found {found}") from None
    if not (folder / FILES[0]).exists() and (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    _refuse_other_versions(folder)
    parts = [_open_batch(folder / name) for name in FILES]
    images = [rows[:, 1:].reshape(-1, *IMAGE_SHAPE) for rows, _ in parts]
    labels = [labels for _, labels in parts]
    return Dataset(
        directory=folder.resolve(),
        train=Split(Images(images[:5]), np.concatenate(labels[:5])),
        test=Split(Images(images[5:]), labels[5]),
        classes=_class_names(folder),
    )


def _open_batch(path: Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The rows `(10000, 3073)` as a memory map, and their labels."""
    if files.found_at(path) == files.NOTHING:
        raise DataError(f"{path}: this batch is missing; expected all of {', '.join(FILES)}")
    files.expect(path, f"a file of {FILE_BYTES:,} bytes", files.FILE, error=DataError)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
        if size != FILE_BYTES:
            raise DataError(f"{path}: {_wrong_size(size, start)}")
        rows = np.memmap(path, np.uint8, mode="r", shape=(ROWS, ROW_BYTES))
    except OSError as error:
        raise DataError(f"{path}: expected a readable file, found {error.strerror}") from error
    labels = np.fromfile(path, np.uint8)[::ROW_BYTES].copy()  # not through the map: it would
    if (labels > 9).any():  # keep every page of the file in memory
        row = int(np.argmax(labels > 9))
        raise DataError(
            f"{path}: expected labels 0 to 9, found {labels[row]} in row {row}; "
            f"is this CIFAR-100, or a file of another format?"
        )
    return rows, labels


def _wrong_size(size: int, start: bytes) -> str:
    text = "; it looks like a text file" if start and start.isascii() and b"\0" not in start else ""
    expected = f"expected {ROWS:,} rows of {ROW_BYTES:,} bytes = {FILE_BYTES:,} bytes"
    short = "truncated" if size < FILE_BYTES else "too long"
    return f"{expected}, found {size:,} bytes ({short}){text}"


def _refuse_other_versions(folder: Path) -> None:
    for other in (folder, folder / "cifar-10-batches-py"):
        if (other / "data_batch_1").exists() and not (other / FILES[0]).exists():
            raise DataError(
                f"{other}: found the Python (pickle) version of CIFAR-10, expected the binary "
                f"version: {ARCHIVE_URL}"
            )
    if (folder / "data_batch_1.mat").exists():
        raise DataError(
            f"{folder}: found the Matlab version of CIFAR-10, expected the binary version: "
            f"{ARCHIVE_URL}"
        )
    if any((folder / name).exists() for name in FILES):
        return
    refuse_archive(folder / ARCHIVE)
    found = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "an empty folder"
    raise DataError(f"{folder}: expected {', '.join(FILES)}, found {found}")


def refuse_archive(path: str | Path) -> None:
    """Refuse the official archive where the folder in it is meant.

    Raises:
        DataError: it is there; says how to unpack it.
    """
    path = files.expanded(path)
    if path.name == ARCHIVE and files.found_at(path) == files.FILE:
        unpack = shlex.join(["tar", "-xzf", str(path), "-C", str(path.parent)])
        raise DataError(f"{path}: expected the folder that is in this archive; unpack it: {unpack}")


def _class_names(folder: Path) -> tuple[str, ...]:
    """The names in `batches.meta.txt`, so that a stand-in can have its own; else CIFAR-10's."""
    path = folder / "batches.meta.txt"
    if files.found_at(path) != files.FILE:
        return CLASSES
    try:
        names = path.read_text("utf8").split()
    except (OSError, UnicodeDecodeError):
        return CLASSES
    return tuple(names) if len(names) == len(CLASSES) else CLASSES


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
