from __future__ import annotations

import errno
import functools
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ae_core.data import cifar10, locate, synthetic
from ae_core.data.cifar10 import FILES, DataError
from ae_core.data.locate import DownloadError, find
from ae_core.errors import InputError
from ae_core.files import BusyError, UnwritableError
from tests.conftest import ROOT


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
    monkeypatch.setenv(locate.DIRECTORY_VARIABLE, str(folder))
    assert find().directory == folder
    assert find(dataset.directory).directory == dataset.directory
    monkeypatch.setenv(locate.DIRECTORY_VARIABLE, str(tmp_path / "wrong"))
    with pytest.raises(DataError, match="wrong"):
        find()


def test_without_a_network_the_stand_in_is_used_and_said(empty_cache, dataset, monkeypatch):
    def unreachable(*_):
        raise DownloadError("no route to host")

    empty_cache.mkdir()
    (empty_cache / f"synthetic-{synthetic.VERSION}-0").symlink_to(dataset.directory)
    monkeypatch.setattr(locate, "fetch", unreachable)
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
    fetched = locate.fetch(url, hashlib.md5(archive).hexdigest())
    np.testing.assert_array_equal(fetched.test.images[:9], dataset.test.images[:9])
    assert [path.name for path in empty_cache.iterdir()] == [cifar10.FOLDER]
    locate.fetch(url, "unused")
    assert len(seen) == 1


def test_an_archive_with_another_checksum_leaves_nothing(server, empty_cache, monkeypatch):
    site, url, seen = server
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (site / "cifar-10-binary.tar.gz").write_bytes(b"half an archive")
    with pytest.raises(OSError, match="another checksum"):
        locate.fetch(url, hashlib.md5(b"a whole archive").hexdigest())
    assert not any(empty_cache.iterdir())
    assert len(seen) == 3  # tried again twice


def test_an_archive_of_something_else_leaves_no_data(server, empty_cache):
    site, url, _ = server
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"))
    (site / "cifar-10-binary.tar.gz").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="found an empty folder"):
        locate.fetch(url, hashlib.md5(buffer.getvalue()).hexdigest())
    assert not (empty_cache / cifar10.FOLDER).exists()
    assert not any(path.is_dir() for path in empty_cache.iterdir())


def test_what_is_here_is_told_without_a_download(empty_cache, folder, monkeypatch):
    monkeypatch.setattr(locate, "fetch", lambda: pytest.fail("downloaded"))
    assert locate.locate() is None
    assert not empty_cache.exists()
    assert locate.locate(folder).directory == folder


def test_another_page_in_place_of_the_archive_counts_as_no_network(
    server, empty_cache, monkeypatch, dataset
):
    """As behind a hotel's log-in page."""
    site, url, _ = server
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (site / "cifar-10-binary.tar.gz").write_bytes(b"<html>please log in</html>")
    fetch = locate.fetch
    monkeypatch.setattr(locate, "fetch", lambda: fetch(url))
    monkeypatch.setattr(locate, "synthesize", lambda: dataset)
    with pytest.warns(UserWarning, match="another checksum"):
        assert find() is dataset


FETCH = """
import sys
from ae_core.data import locate
print(locate.fetch(*sys.argv[1:]).identity.digest)
"""


def test_of_two_at_once_one_downloads_and_both_have_it(server, archive, empty_cache):
    site, url, seen = server
    (site / "cifar-10-binary.tar.gz").write_bytes(archive)
    md5 = hashlib.md5(archive).hexdigest()
    both = [
        subprocess.Popen([sys.executable, "-c", FETCH, url, md5], stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(2)
    ]
    (first, _), (second, _) = (process.communicate() for process in both)
    assert first == second != b""
    assert [path.name for path in empty_cache.iterdir()] == [cifar10.FOLDER]
    assert len(seen) == 1


def test_of_two_threads_one_downloads_and_both_have_it(server, archive, empty_cache):
    site, url, seen = server
    (site / "cifar-10-binary.tar.gz").write_bytes(archive)
    md5 = hashlib.md5(archive).hexdigest()
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda _: locate.fetch(url, md5).identity, range(2))
    assert first == second
    assert [path.name for path in empty_cache.iterdir()] == [cifar10.FOLDER]
    assert len(seen) == 1


def test_a_damaged_download_is_found_in_the_cache(server, archive, empty_cache):
    site, url, _ = server
    (site / "cifar-10-binary.tar.gz").write_bytes(archive)
    locate.fetch(url, hashlib.md5(archive).hexdigest())
    batch = empty_cache / cifar10.FOLDER / FILES[3]
    content = bytearray(batch.read_bytes())
    content[12345] ^= 1
    batch.write_bytes(content)
    told = f"{empty_cache / cifar10.FOLDER}: .* digest differs.*: remove it.*; AE_CACHE_DIR"
    for find_it in (find, locate.locate, lambda: locate.fetch(url)):
        with pytest.raises(DataError, match=told):
            find_it()


SYNTHESIZE = """
import sys
import numpy as np
from ae_core.data import locate, synthetic

def rows(count, seed):
    if seed[1] == 1:
        print("here", flush=True)
        sys.stdin.read()
    found = np.zeros((count, 3073), np.uint8)
    found[:, 1] = seed[1]
    return found

synthetic.rows = rows
print(locate.synthesize(*sys.argv[1:]).identity.digest)
"""
"""Fast, but waits with the first batch written."""


@pytest.fixture
def synthesizing(empty_cache):
    """Starts a synthesis in another process."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", SYNTHESIZE, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=ROOT,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_of_two_at_once_one_synthesizes_and_both_have_it(synthesizing, empty_cache):
    first = synthesizing()
    assert first.stdout.readline() == "here\n"
    second = synthesizing()
    digest, _ = first.communicate("")
    assert second.communicate()[0] == digest != ""  # it never came to be "here"
    assert len(list(empty_cache.iterdir())) == 1


def test_a_second_synthesis_into_a_named_folder_is_refused(synthesizing, tmp_path):
    assert synthesizing(tmp_path / "new").stdout.readline() == "here\n"
    with pytest.raises(BusyError, match=f"{tmp_path}/new: another process is writing it"):
        locate.synthesize(tmp_path / "new")


def test_what_a_killed_synthesis_left_is_gone_after_the_next(
    synthesizing, empty_cache, dataset, monkeypatch
):
    process = synthesizing()
    assert process.stdout.readline() == "here\n"
    process.kill()
    process.wait()
    (left,) = empty_cache.iterdir()
    assert sum(path.stat().st_size for path in left.rglob("*.bin")) == cifar10.FILE_BYTES
    monkeypatch.setattr(synthetic, "rows", lambda count, seed: np.zeros((count, 3073), np.uint8))
    locate.synthesize()
    assert [path.name for path in empty_cache.iterdir()] == [f"synthetic-{synthetic.VERSION}-0"]


def test_a_damaged_stand_in_is_found_in_the_cache(empty_cache, monkeypatch):
    monkeypatch.setattr(synthetic, "rows", lambda count, seed: np.zeros((count, 3073), np.uint8))
    batch = locate.synthesize().directory / FILES[0]
    content = bytearray(batch.read_bytes())
    content[5] ^= 1
    batch.write_bytes(content)
    with pytest.raises(DataError, match=r"digest differs.*: remove it.*; AE_CACHE_DIR"):
        locate.synthesize()
    (batch.parent / cifar10.SYNTHETIC_MARKER).unlink()  # which does not switch the check off
    with pytest.raises(DataError, match=r"the marker is gone\): remove it.*; AE_CACHE_DIR"):
        locate.synthesize()
    batch.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"data_batch_1.bin: .*truncated.*: remove it"):
        locate.synthesize()


def test_changed_class_names_are_found_in_the_cache(empty_cache, monkeypatch):
    monkeypatch.setattr(synthetic, "rows", lambda count, seed: np.zeros((count, 3073), np.uint8))
    names = locate.synthesize().directory / "batches.meta.txt"
    names.write_text(names.read_text().replace("disc\nring", "ring\ndisc"))
    for _ in range(2):
        with pytest.raises(DataError, match=r"or the class names.*: remove it.*; AE_CACHE_DIR"):
            locate.synthesize()
        names.unlink(missing_ok=True)


def promises_nothing(told):
    """`find` ends in an error, without a warning that speaks of the stand-in."""
    with warnings.catch_warnings(), pytest.raises(UnwritableError, match=told):
        warnings.simplefilter("error")
        find()


def test_a_cache_that_is_a_file_is_told_and_nothing_is_promised(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("")
    monkeypatch.setenv("AE_CACHE_DIR", str(tmp_path / "cache"))
    for open_it in (find, locate.locate, locate.fetch, locate.synthesize):
        told = f"^AE_CACHE_DIR: expected a folder, found a file: {tmp_path}/cache: name another$"
        with pytest.raises(InputError, match=told):
            open_it()


def test_a_cache_in_a_home_that_there_is_not_makes_no_folder_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AE_CACHE_DIR", "~nosuch/cache")
    for open_it in (find, locate.locate, locate.fetch, locate.synthesize):
        with pytest.raises(InputError, match=r"^AE_CACHE_DIR: .* no such home folder: ~nosuch/"):
            open_it()
    assert not any(tmp_path.iterdir())


def test_a_cache_that_can_not_be_written_is_told_and_nothing_is_promised(empty_cache, monkeypatch):
    """Root may write anywhere, so the refusal is played."""

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    promises_nothing(f"^{empty_cache}/.*: can't be written: Permission denied: .* AE_CACHE_DIR$")


def test_a_full_disk_while_downloading_is_told_and_nothing_is_promised(
    server, archive, empty_cache, full_at, monkeypatch
):
    site, url, _ = server
    (site / "cifar-10-binary.tar.gz").write_bytes(archive)
    fetch = locate.fetch
    monkeypatch.setattr(locate, "fetch", lambda: fetch(url, hashlib.md5(archive).hexdigest()))
    for size in (2**20, len(archive) - 1):
        with full_at(size):
            promises_nothing(f"^{empty_cache}/.*: can't be written: File too large.*AE_CACHE_DIR$")
    assert not any(empty_cache.iterdir())


def test_a_full_disk_while_synthesizing_is_told(empty_cache, full_at, monkeypatch):
    monkeypatch.setattr(synthetic, "rows", lambda count, seed: np.zeros((count, 3073), np.uint8))
    with full_at(2**20), pytest.raises(UnwritableError, match=r"written: File too.* AE_CACHE_DIR$"):
        locate.synthesize()
    assert not any(empty_cache.iterdir())


def test_synthesis_refuses_what_is_no_folder(tmp_path):
    (tmp_path / "a file").write_text("precious")
    os.mkfifo(tmp_path / "a FIFO")
    (tmp_path / "a device").symlink_to("/dev/null")
    (tmp_path / "none").symlink_to("none")
    for name in sorted(path.name for path in tmp_path.iterdir()):
        told = f"^{tmp_path}/{name}: .*, found {name}"
        with pytest.raises((FileExistsError, UnwritableError), match=told):
            locate.synthesize(tmp_path / name)


def test_synthesis_refuses_a_folder_with_files(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="expected a new or empty folder"):
        locate.synthesize(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_synthesis_fills_an_empty_folder_even_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(locate.synthesize(".").test.images) == 10_000
    assert sorted(path.name for path in tmp_path.iterdir())[0] == cifar10.SYNTHETIC_MARKER
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_an_interrupted_synthesis_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ae_core.data.synthetic.rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        locate.synthesize(tmp_path / "new")
    assert not any(tmp_path.iterdir())
