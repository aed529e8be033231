"""CIFAR-10 in its binary layout: found, fetched or synthesised, and always told apart.

Six files of 10,000 records; a record is 1 label byte and 3,072 pixel bytes (red, green and blue
planes of 32 x 32). Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_FILE = "test_batch.bin"
FILES = (*TRAIN_FILES, TEST_FILE)
IMAGE_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + 3 * 32 * 32
RECORDS = 10_000
FILE_BYTES = RECORDS * RECORD_BYTES

DIRECTORY_VARIABLE = "AE_CIFAR10_DIR"
ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"

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


class DataError(ValueError):
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
        found = np.empty((len(flat), *IMAGE_SHAPE), np.uint8)
        part, row = np.divmod(flat, RECORDS)
        for number in np.unique(part):
            here = part == number
            found[here] = self._parts[number][row[here]]
        return found.reshape(*wanted.shape, *IMAGE_SHAPE)

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
        marker = self.directory / SYNTHETIC_MARKER
        if kind != "official" and marker.exists() and digest in marker.read_text("utf8"):
            kind, label = "synthetic", "synthetic stand-in for CIFAR-10"
        return Identity(kind, label, digest)


def normalise(images: npt.NDArray[np.uint8], side: int = 32) -> npt.NDArray[np.float32]:
    """uint8 images `(N, C, 32, 32)` as float32 in [0, 1], averaged down to `side` x `side`.

    Raises:
        ValueError: `side` does not divide 32.
    """
    if 32 % side:
        raise ValueError(f"side: expected a divisor of 32, found {side}")
    scaled = images.astype(np.float32) / np.float32(255)
    if side == 32:
        return scaled
    count, channels, block = len(images), images.shape[1], 32 // side
    return scaled.reshape(count, channels, side, block, side, block).mean((3, 5))


def cache_directory() -> Path:
    """Where downloads and the synthetic stand-in are kept between runs."""
    import pooch  # noqa: PLC0415

    return Path(os.environ.get("AE_CACHE_DIR") or pooch.os_cache("ae-core"))


def find(directory: str | Path | None = None, *, download: bool = True) -> Dataset:
    """Open CIFAR-10 from the first place that has it.

    In order: `directory`; the folder that `AE_CIFAR10_DIR` names; the cache; a download into the
    cache; and, where there is no network, the synthetic stand-in (with a warning that says so).
    A folder that was named but is wrong is an error, never passed over.

    Raises:
        DataError: the named folder, or the cache, holds something else.
    """
    named = directory or os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return open_folder(named)
    cached = cache_directory() / FOLDER
    if cached.exists():
        return open_folder(cached)
    reason = "downloading was not asked for"
    if download:
        try:
            return fetch()
        except OSError as error:  # no route, no name, refused, timed out
            reason = f"downloading failed ({type(error).__name__})"
    warnings.warn(
        f"CIFAR-10 is not here and {reason}: using the synthetic stand-in. For the real images "
        f"set {DIRECTORY_VARIABLE} to a folder with {FILES[0]} and the other batches.",
        stacklevel=2,
    )
    return synthesize()


def open_folder(directory: str | Path) -> Dataset:
    """Open the six batches in `directory`, or in the archive's folder inside it.

    Raises:
        DataError: a batch is missing, has another size, holds a label above 9, cannot be read...
    """
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise DataError(f"{folder}: expected a folder with {FILES[0]} and so on, found {what}")
    if not (folder / FILES[0]).exists() and (folder / FOLDER).is_dir():
        folder = folder / FOLDER
    _refuse_other_versions(folder)
    parts = [_open_batch(folder / name) for name in FILES]
    images = [part[:, 1:].reshape(-1, *IMAGE_SHAPE) for part in parts]
    labels = [np.array(part[:, 0]) for part in parts]
    return Dataset(
        directory=folder.resolve(),
        train=Split(Images(images[:5]), np.concatenate(labels[:5])),
        test=Split(Images(images[5:]), labels[5]),
        classes=_class_names(folder),
    )


def fetch(url: str = ARCHIVE_URL, md5: str = ARCHIVE_MD5) -> Dataset:
    """Download and unpack the binary archive into the cache, with progress, retries and checksum.

    Both steps write aside and rename, so an interrupted one leaves nothing that looks like data,
    and two processes at once do the work twice but never mix.

    Raises:
        OSError: the network failed.
        DataError: the archive does not hold the six batches.
    """
    import pooch  # noqa: PLC0415

    cache = cache_directory()
    if (cache / FOLDER).exists():
        return open_folder(cache / FOLDER)
    base, _, name = url.rpartition("/")
    source = pooch.create(cache, f"{base}/", registry={name: f"md5:{md5}"}, retry_if_failed=2)
    archive = Path(
        source.fetch(name, downloader=pooch.HTTPDownloader(progressbar=True, timeout=20))
    )
    with _renamed_when_whole(cache / FOLDER) as folder, tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and Path(member.name).name in (*FILES, "batches.meta.txt"):
                member.name = Path(member.name).name
                tar.extract(member, folder, filter="data")
        open_folder(folder)
    archive.unlink(missing_ok=True)
    return open_folder(cache / FOLDER)


def synthesize(directory: str | Path | None = None, seed: int = 0) -> Dataset:
    """Write the synthetic stand-in (see `ae_core.synthetic`) and open it; in the cache by default.

    Raises:
        FileExistsError: `directory` exists and is not empty.
    """
    from ae_core import synthetic  # noqa: PLC0415

    target = Path(directory) if directory else cache_directory() / f"synthetic-{seed}"
    if directory is None and target.exists():
        return open_folder(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target}: expected a new or empty folder, found other files")
    with _renamed_when_whole(target) as folder:
        for number, name in enumerate(FILES):
            synthetic.records(RECORDS, seed=(seed, number)).tofile(folder / name)
        (folder / "batches.meta.txt").write_text("\n".join(synthetic.CLASSES) + "\n", "utf8")
        digest = open_folder(folder).identity.digest
        (folder / SYNTHETIC_MARKER).write_text(
            f"Synthetic stand-in for CIFAR-10, made by ae_core with seed {seed}.\n{digest}\n",
            "utf8",
        )
    return open_folder(target)


SYNTHETIC_MARKER = "SYNTHETIC.txt"


@contextmanager
def _renamed_when_whole(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target` that takes its name when the block succeeds.

    If another process got there first, its folder stands and ours is dropped.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_batch(path: Path) -> npt.NDArray[np.uint8]:
    if not path.exists():
        raise DataError(f"{path}: this batch is missing; expected all of {', '.join(FILES)}")
    if not path.is_file():
        raise DataError(f"{path}: expected a file of {FILE_BYTES:,} bytes, found a folder")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(512)
        if size != FILE_BYTES:
            raise DataError(f"{path}: {_wrong_size(size, start)}")
        records = np.memmap(path, np.uint8, mode="r", shape=(RECORDS, RECORD_BYTES))
    except PermissionError as error:
        raise DataError(f"{path}: expected a readable file, found no permission to read") from error
    labels = records[:, 0]
    if labels.max() > 9:
        record = int(np.argmax(labels > 9))
        raise DataError(
            f"{path}: expected labels 0 to 9, found {labels[record]} in record {record}; "
            f"is this CIFAR-100, or a file of another format?"
        )
    return records


def _wrong_size(size: int, start: bytes) -> str:
    text = "; it looks like a text file" if start and start.isascii() and b"\0" not in start else ""
    expected = f"expected {RECORDS:,} records of {RECORD_BYTES:,} bytes = {FILE_BYTES:,} bytes"
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
    if not any((folder / name).exists() for name in FILES):
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:4]) or "an empty folder"
        raise DataError(f"{folder}: expected {', '.join(FILES)}, found {found}")


def _class_names(folder: Path) -> tuple[str, ...]:
    """The names in `batches.meta.txt`, so that a stand-in can have its own; else CIFAR-10's."""
    try:
        names = (folder / "batches.meta.txt").read_text("utf8").split()
    except (OSError, UnicodeDecodeError):
        return CLASSES
    return tuple(names) if len(names) == len(CLASSES) else CLASSES


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
