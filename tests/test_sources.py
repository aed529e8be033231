from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ae_core import cifar10, sources, synthetic
from ae_core.cifar10 import FILES, DataError
from ae_core.sources import find


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("AE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_named_folder_comes_first_then_the_variable_then_the_cache(
    folder, dataset, empty_cache, monkeypatch, tmp_path
):
    empty_cache.mkdir()
    (empty_cache / cifar10.FOLDER).symlink_to(dataset.directory)
    assert find().directory == dataset.directory
    monkeypatch.setenv(sources.DIRECTORY_VARIABLE, str(folder))
    assert find().directory == folder
    assert find(dataset.directory).directory == dataset.directory
    monkeypatch.setenv(sources.DIRECTORY_VARIABLE, str(tmp_path / "wrong"))
    with pytest.raises(DataError, match="wrong"):
        find()


def test_without_a_network_the_stand_in_is_used_and_said(empty_cache, dataset, monkeypatch):
    def unreachable(*_):
        raise ConnectionError("no route to host")

    empty_cache.mkdir()
    (empty_cache / f"synthetic-{synthetic.VERSION}-0").symlink_to(dataset.directory)
    monkeypatch.setattr(sources, "fetch", unreachable)
    with pytest.warns(UserWarning, match=r"no route.*synthetic stand-in"):
        assert find().identity.kind == "synthetic"


@pytest.fixture(scope="module")
def archive(dataset) -> bytes:
    """An archive like the official one, uncompressed for speed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in FILES:
            tar.add(dataset.directory / name, f"{cifar10.FOLDER}/{name}")
        tar.add(dataset.directory / "batches.meta.txt", f"{cifar10.FOLDER}/batches.meta.txt")
    return buffer.getvalue()


@pytest.fixture
def server(tmp_path):
    """A web server on this machine; yields its folder, its address and the requests it saw."""
    site = tmp_path / "site"
    site.mkdir()
    seen: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, form, *arguments):
            seen.append(form % arguments)

    handler = functools.partial(Handler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield site, f"http://127.0.0.1:{httpd.server_address[1]}/cifar-10-binary.tar.gz", seen
        httpd.shutdown()


def test_fetching_downloads_checks_and_unpacks_once(server, archive, empty_cache, dataset):
    site, url, seen = server
    (site / "cifar-10-binary.tar.gz").write_bytes(archive)
    fetched = sources.fetch(url, hashlib.md5(archive).hexdigest())
    np.testing.assert_array_equal(fetched.test.images[:9], dataset.test.images[:9])
    assert [path.name for path in empty_cache.iterdir()] == [cifar10.FOLDER]
    sources.fetch(url, "unused")
    assert len(seen) == 1


def test_an_archive_with_another_checksum_leaves_nothing(server, empty_cache, monkeypatch):
    site, url, seen = server
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (site / "cifar-10-binary.tar.gz").write_bytes(b"half an archive")
    with pytest.raises(OSError, match="another checksum"):
        sources.fetch(url, hashlib.md5(b"a whole archive").hexdigest())
    assert not any(empty_cache.iterdir())
    assert len(seen) == 3  # tried again twice


def test_an_archive_of_something_else_leaves_no_data(server, empty_cache):
    site, url, _ = server
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"))
    (site / "cifar-10-binary.tar.gz").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="found an empty folder"):
        sources.fetch(url, hashlib.md5(buffer.getvalue()).hexdigest())
    assert not (empty_cache / cifar10.FOLDER).exists()
    assert not any(path.is_dir() for path in empty_cache.iterdir())


def test_what_is_here_is_told_without_a_download(empty_cache, folder, monkeypatch):
    monkeypatch.setattr(sources, "fetch", lambda: pytest.fail("downloaded"))
    assert sources.locate() is None
    assert not empty_cache.exists()
    assert sources.locate(folder).directory == folder


def test_another_page_in_place_of_the_archive_counts_as_no_network(
    server, empty_cache, monkeypatch, dataset
):
    """As behind a hotel's log-in page."""
    site, url, _ = server
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (site / "cifar-10-binary.tar.gz").write_bytes(b"<html>please log in</html>")
    fetch = sources.fetch
    monkeypatch.setattr(sources, "fetch", lambda: fetch(url))
    monkeypatch.setattr(sources, "synthesize", lambda: dataset)
    with pytest.warns(UserWarning, match="another checksum"):
        assert find() is dataset


def test_two_at_once_do_not_collide(server, archive, empty_cache):
    site, url, _ = server
    (site / "cifar-10-binary.tar.gz").write_bytes(archive)
    md5 = hashlib.md5(archive).hexdigest()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: sources.fetch(url, md5), range(2))
    assert first.identity == second.identity
    assert [path.name for path in empty_cache.iterdir()] == [cifar10.FOLDER]


def test_synthesis_refuses_a_folder_with_files(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="expected a new or empty folder"):
        sources.synthesize(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_synthesis_fills_an_empty_folder_even_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(sources.synthesize(".").test.images) == 10_000
    assert sorted(path.name for path in tmp_path.iterdir())[0] == cifar10.SYNTHETIC_MARKER
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_an_interrupted_synthesis_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ae_core.synthetic.records", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sources.synthesize(tmp_path / "new")
    assert not any(tmp_path.iterdir())
