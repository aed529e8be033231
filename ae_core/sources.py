"""Where the data comes from: a folder, the cache, a download, or the synthetic stand-in."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ae_core.cifar10 import (
    ARCHIVE_URL,
    FILES,
    FOLDER,
    RECORDS,
    SYNTHETIC_MARKER,
    Dataset,
    open_folder,
)

DIRECTORY_VARIABLE = "AE_CIFAR10_DIR"
CACHE_VARIABLE = "AE_CACHE_DIR"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"


def find(directory: str | Path | None = None) -> Dataset:
    """Open CIFAR-10 from the first place that has it.

    In order: `directory`; the folder that `AE_CIFAR10_DIR` names; the cache; a download into the
    cache; and, where there is no network, the synthetic stand-in (with a warning that says so).
    A folder that was named but is wrong is an error, never passed over.

    Raises:
        DataError: the named folder, or the cache, holds something else.
    """
    here = locate(directory)
    if here:
        return here
    try:
        return fetch()
    except OSError as error:
        warnings.warn(
            f"CIFAR-10 is not here. {error}. Using the synthetic stand-in. For the real images set "
            f"{DIRECTORY_VARIABLE} to a folder with {FILES[0]} and the other batches.",
            stacklevel=2,
        )
    return synthesize()


def locate(directory: str | Path | None = None) -> Dataset | None:
    """Like `find`, but without a download or the stand-in: None if the data is not here."""
    named = directory or os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return open_folder(named)
    cached = cache_directory() / FOLDER
    return open_folder(cached) if cached.exists() else None


def cache_directory() -> Path:
    """Where downloads and the synthetic stand-in are kept between runs."""
    import pooch  # noqa: PLC0415

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("ae-core"))


def fetch(url: str = ARCHIVE_URL, md5: str = ARCHIVE_MD5) -> Dataset:
    """Download and unpack the binary archive into the cache, with progress, retries and checksum.

    Everything happens in a folder of this process that is renamed at the end, so an interrupted
    download leaves nothing that looks like data, and two at once do the work twice but never mix.

    Raises:
        OSError: the network failed, or what came has another checksum.
        DataError: the archive does not hold the six batches.
    """
    import pooch  # noqa: PLC0415

    target = cache_directory() / FOLDER
    if target.exists():
        return open_folder(target)
    base, _, name = url.rpartition("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as aside:
        source = pooch.create(aside, f"{base}/", registry={name: f"md5:{md5}"}, retry_if_failed=2)
        try:
            archive = source.fetch(name, downloader=_downloader())
        except (OSError, ValueError) as error:  # no route, no name, refused, or another's page
            reason = "another checksum" if isinstance(error, ValueError) else type(error).__name__
            raise OSError(f"Downloading {url} failed ({reason})") from error
        with _renamed_when_whole(target) as folder, tarfile.open(archive) as tar:
            for member in tar:
                member.name = Path(member.name).name
                if member.isfile() and member.name in (*FILES, "batches.meta.txt"):
                    tar.extract(member, folder, filter="data")
            open_folder(folder)
    return open_folder(target)


def _downloader() -> Any:
    import pooch  # noqa: PLC0415

    return pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=20)


def synthesize(directory: str | Path | None = None, seed: int = 0) -> Dataset:
    """Write the synthetic stand-in (see `ae_core.synthetic`) and open it; in the cache by default.

    Raises:
        FileExistsError: `directory` exists and is not empty.
    """
    from ae_core import synthetic  # noqa: PLC0415

    cached = cache_directory() / f"synthetic-{synthetic.VERSION}-{seed}"
    target = Path(directory).resolve() if directory else cached
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


@contextmanager
def _renamed_when_whole(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target` that takes its name when the block succeeds.

    If another process got there first, its folder stands and ours is dropped.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)  # mkdtemp's folders are private; data may be shared
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
