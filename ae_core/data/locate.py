"""Where the data comes from: a folder, the cache, a download, or the synthetic stand-in."""

from __future__ import annotations

import os
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ae_core import files, terminal
from ae_core.data.cifar10 import (
    ARCHIVE_URL,
    FILES,
    FOLDER,
    ROWS,
    SYNTHETIC_MARKER,
    DataError,
    Dataset,
    is_about,
    open_folder,
)
from ae_core.errors import InputError

DIRECTORY_VARIABLE = "AE_CIFAR10_DIR"
CACHE_VARIABLE = "AE_CACHE_DIR"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
DOWNLOAD_MARKER = "DOWNLOADED.txt"
"""Beside downloaded batches: from where, and their digest."""
SYNTHETIC_FOLDER = "synthetic-"
"""What folders of the cache with the stand-in begin with."""


class DownloadError(OSError):
    """The network failed, or something else than the archive came."""


def find(directory: str | Path | None = None) -> Dataset:
    """Open CIFAR-10 from the first place that has it.

    In order: `directory`; the folder that `AE_CIFAR10_DIR` names; the cache; a download into the
    cache; and, where there is no network, the synthetic stand-in (with a warning that says so).
    A folder that was named but is wrong is an error, never passed over.

    Raises:
        DataError: the named folder, or the cache, holds something else.
        UnwritableError: the cache can't be written.
    """
    here = locate(directory)
    if here:
        return here
    try:
        return fetch()
    except DownloadError as error:
        made = synthesize()
        warnings.warn(
            f"CIFAR-10 is not here. {error}. Using the synthetic stand-in. For the real images set "
            f"{DIRECTORY_VARIABLE} to a folder with {FILES[0]} and the other batches.",
            stacklevel=2,
        )
        return made


def locate(directory: str | Path | None = None) -> Dataset | None:
    """Like `find`, but without a download or the stand-in: None if the data is not here."""
    named = directory or os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return open_folder(named)
    cached = cache_directory() / FOLDER
    return None if files.found_at(cached) == files.NOTHING else _open_cached(cached)


def cache_directory() -> Path:
    """Where downloads and the synthetic stand-in are kept between runs.

    Raises:
        InputError: `AE_CACHE_DIR` begins with a home folder that there is not.
    """
    import pooch  # noqa: PLC0415

    named = os.environ.get(CACHE_VARIABLE)
    folder = files.expanded(named or pooch.os_cache("ae-core"))
    if named and str(folder).startswith("~"):
        raise InputError(
            f"{CACHE_VARIABLE}: expected a folder, found no such home folder: {folder}: name "
            f"another"
        )
    return folder


def fetch(url: str = ARCHIVE_URL, md5: str = ARCHIVE_MD5) -> Dataset:
    """Download and unpack the binary archive into the cache, with progress, retries and checksum.

    Of two processes at once the second waits for the first, and takes what that one has fetched.

    Raises:
        DownloadError: the network failed, or what came has another checksum.
        UnwritableError: the cache can't be written.
        DataError: the archive does not hold the six batches.
    """

    def download(drafts: Path) -> None:
        archive = _download(url, md5, drafts)
        with files.replacing(target) as folder, tarfile.open(archive) as tar:
            folder.mkdir()
            for member in tar:
                member.name = Path(member.name).name
                if member.isfile() and member.name in (*FILES, "batches.meta.txt"):
                    tar.extract(member, folder, filter="data")
            digest = open_folder(folder).identity.digest
            (folder / DOWNLOAD_MARKER).write_text(f"{url}\n{digest}\n", "utf8")

    target = cache_directory() / FOLDER
    return _cached(target, download)


def _download(url: str, md5: str, folder: Path) -> Path:
    import pooch  # noqa: PLC0415

    base, _, name = url.rpartition("/")
    source = pooch.create(folder, f"{base}/", registry={name: f"md5:{md5}"}, retry_if_failed=2)
    try:
        return Path(source.fetch(name, downloader=_downloader()))
    except (OSError, ValueError) as error:  # no route, no name, refused, or another's page
        if isinstance(error, OSError) and error.errno in files.FULL | files.FORBIDDEN:
            raise  # nothing of the network's
        reason = "another checksum" if isinstance(error, ValueError) else type(error).__name__
        raise DownloadError(f"Downloading {url} failed ({reason})") from error


def _downloader() -> Any:
    import pooch  # noqa: PLC0415

    return pooch.HTTPDownloader(progressbar=terminal.watched(), timeout=20)


def synthesize(directory: str | Path | None = None, seed: int = 0) -> Dataset:
    """Write the synthetic stand-in of `ae_core.data.synthetic`, in the cache by default; open it.

    Raises:
        FileExistsError: `directory` exists and is not empty.
        UnwritableError: the folder can't be written.
    """
    from ae_core.data import synthetic  # noqa: PLC0415

    if directory is None:
        target = cache_directory() / f"{SYNTHETIC_FOLDER}{synthetic.VERSION}-{seed}"
        return _cached(target, lambda _: _synthesize(target, seed))
    target = files.expanded(directory)
    with files.claimed(target):
        target = target.resolve()  # `.` will be another folder afterwards
        found = files.found_at(target)
        if found == files.FOLDER and any(target.iterdir()):
            found = "other files"
        if found not in (files.NOTHING, files.FOLDER):
            raise FileExistsError(f"{target}: expected a new or empty folder, found {found}")
        _synthesize(target, seed)
    return open_folder(target)


def _synthesize(target: Path, seed: int) -> None:
    from ae_core.data import synthetic  # noqa: PLC0415

    with files.replacing(target) as folder:
        folder.mkdir()
        for number, name in enumerate(FILES):
            (folder / name).write_bytes(synthetic.rows(ROWS, seed=(seed, number)).data)
        (folder / "batches.meta.txt").write_text("\n".join(synthetic.CLASSES) + "\n", "utf8")
        digest = open_folder(folder).identity.digest
        (folder / SYNTHETIC_MARKER).write_text(
            f"Synthetic stand-in for CIFAR-10, made by ae_core with seed {seed}.\n"
            f"{digest}\n{' '.join(synthetic.CLASSES)}\n",
            "utf8",
        )


def _cached(target: Path, make: Callable[[Path], None]) -> Dataset:
    """A folder of the cache; of processes that find it missing one makes it, the others wait.

    Args:
        target: the folder.
        make: writes it; is given a folder for drafts.
    """
    if files.found_at(target) == files.NOTHING:
        try:
            with files.claimed(target, wait=True) as drafts, files.naming(target):
                if files.found_at(target) == files.NOTHING:
                    make(drafts)
        except files.UnwritableError as error:
            raise files.UnwritableError(f"{error} with {CACHE_VARIABLE}") from error
    return _open_cached(target)


def _open_cached(folder: Path) -> Dataset:
    """Open what this package wrote into the cache, if it still is what it wrote.

    Raises:
        DataError: it is not, and the message says to remove it; or the cache is no folder.
    """
    found = files.found_at(folder.parent)
    if found != files.FOLDER:
        raise DataError(
            f"{CACHE_VARIABLE}: expected a folder, found {found}: {folder.parent}: name another"
        )
    remedy = f"remove it, to have it made anew; {CACHE_VARIABLE} names the cache"
    try:
        dataset = open_folder(folder)
    except DataError as error:
        raise DataError(f"{error}: {remedy}") from None
    if not _is_as_written(dataset, folder):
        raise DataError(
            f"{folder}: expected the images that were written here, found others (their "
            f"digest differs, or the class names, or the marker is gone): {remedy}"
        )
    return dataset


def _is_as_written(dataset: Dataset, folder: Path) -> bool:
    """Whether the marker that this package wrote beside the batches is about them.

    A stand-in has one that names the classes as well. A folder of CIFAR-10 may have none: a person
    may have put it into the cache.
    """
    synthetic, downloaded = folder / SYNTHETIC_MARKER, folder / DOWNLOAD_MARKER
    digest = dataset.identity.digest
    if folder.name.startswith(SYNTHETIC_FOLDER) or synthetic.exists():
        return is_about(synthetic, digest) and is_about(synthetic, " ".join(dataset.classes))
    return not downloaded.exists() or is_about(downloaded, digest)
