from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from ae_book.making import chapters, freshness, parameters
from ae_core.architecture import Architecture
from ae_core.data import cifar10, locate
from tests.ae_book import small_book as small

ROOT = Path(__file__).resolve().parents[1]
collect_ignore = [] if "AE_HTML" in os.environ else ["browser"]  # make browse names the HTML
SMALL = Architecture(channels=3, height=8, width=8, filters=(6, 4, 4, 6))
"""The book's network in small: images averaged down to 8 x 8, few filters."""


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory):
    """Tests never see or change the user's data, and never download.

    Of workers that run beside each other, one compiles and makes the stand-in for all.
    """
    folder = tmp_path_factory.getbasetemp()
    together = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    os.environ["AE_CACHE_DIR"] = str(together / "cache")
    for name in (locate.DIRECTORY_VARIABLE, "AE_RECORDS_DIR", "AE_COMMAND", "AE_BOOK"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def dataset(private_cache: None) -> cifar10.Dataset:
    """The synthetic stand-in: full size, made once."""
    return locate.synthesize()


@pytest.fixture
def folder(dataset: cifar10.Dataset, tmp_path: Path) -> Path:
    """A good data folder made of links, for tests to damage: replace links, don't write to them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in cifar10.FILES:
        (folder / name).symlink_to(dataset.directory / name)
    return folder


@pytest.fixture
def full_at() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which the system refuses to write a file beyond so many bytes."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def small_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: cifar10.Dataset) -> Path:
    """A checkout with two chapters; returns its root."""
    return made_small_book(tmp_path, monkeypatch, dataset)


def made_small_book(root: Path, patch: pytest.MonkeyPatch, dataset: cifar10.Dataset) -> Path:
    """The small book in this folder, which is the checkout from now on."""
    small.make(root)
    patch.setattr(chapters, "root", lambda: root)
    patch.setattr(parameters, "CHAPTERS", small.DECLARED)
    patch.setattr(freshness, "kernels_directory", lambda: root / "kernels")
    patch.setenv(locate.DIRECTORY_VARIABLE, str(dataset.directory))
    return root
