from __future__ import annotations

import functools
import hashlib
import http.server
import io
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ae_core import cifar10
from ae_core.cifar10 import FILE_BYTES, FILES, DataError, find, normalise, open_folder

# --- reading -------------------------------------------------------------------------------------


def test_images_and_labels_come_from_the_records(folder, dataset):
    opened = open_folder(folder)
    assert opened.train.images.shape == (50_000, 3, 32, 32)
    assert len(opened.test.images) == len(opened.test.labels) == 10_000
    for number in (0, 9_999, 10_000, 37_123, 49_999):
        raw = (dataset.directory / FILES[number // 10_000]).read_bytes()
        record = raw[(number % 10_000) * 3073 :][:3073]
        assert opened.train.labels[number] == record[0]
        assert opened.train.images[number].tobytes() == record[1:]


def test_images_are_indexed_like_an_array(dataset, random):
    images = dataset.train.images
    whole = np.asarray(images)
    assert whole.dtype == np.uint8
    order = random.permutation(50_000)[:300]
    np.testing.assert_array_equal(images[order], whole[order])
    np.testing.assert_array_equal(images[9_990:10_010:3], whole[9_990:10_010:3])
    np.testing.assert_array_equal(images[-1], whole[-1])
    np.testing.assert_array_equal(
        images[np.arange(6).reshape(2, 3)], whole[:6].reshape(2, 3, 3, 32, 32)
    )
    assert images[:0].shape == (0, 3, 32, 32)
    with pytest.raises(IndexError):
        images[50_000]


def test_normalised_pixels_lie_between_0_and_1(dataset):
    pixels = normalise(dataset.train.images[:50])
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(np.rint(pixels * 255), dataset.train.images[:50])
    assert 0 <= pixels.min() < pixels.max() <= 1


def test_smaller_images_are_averages(dataset):
    small = normalise(dataset.train.images[:3], side=8)
    block = dataset.train.images[2][1, 4:8, 28:32]
    assert small.shape == (3, 3, 8, 8)
    assert np.isclose(small[2, 1, 1, 7], block.mean() / 255)
    with pytest.raises(ValueError, match="side: expected a divisor of 32, found 12"):
        normalise(dataset.train.images[:1], side=12)


def test_the_archives_folder_may_be_named_by_its_parent(folder, tmp_path):
    folder.rename(tmp_path / cifar10.FOLDER)
    assert open_folder(tmp_path).directory == tmp_path / cifar10.FOLDER


# --- bad input -----------------------------------------------------------------------------------


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def break_label(folder: Path) -> None:
    content = bytearray((folder / FILES[2]).read_bytes())
    content[3073 * 17] = 10
    replace(folder / FILES[2], bytes(content))


def swap_for_folder(folder: Path) -> None:
    (folder / FILES[3]).unlink()
    (folder / FILES[3]).mkdir()


def only_files(*names: str):
    def change(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        for name in names:
            (folder / name).write_bytes(b"x")

    return change


def python_archive(folder: Path) -> None:
    only_files()(folder)
    (folder / "cifar-10-batches-py").mkdir()
    (folder / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"x")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / FILES[1]).unlink(), r"data_batch_2\.bin: this batch is missing"),
        (lambda f: (f / FILES[5]).unlink(), r"test_batch\.bin: this batch is missing"),
        (lambda f: replace(f / FILES[0], bytes(5000)), r"found 5,000 bytes \(truncated\)"),
        (lambda f: replace(f / FILES[0], b""), r"found 0 bytes \(truncated\)"),
        (
            lambda f: replace(f / FILES[4], bytes(FILE_BYTES + 1)),
            r"found 30,730,001 bytes \(too long",
        ),
        (lambda f: replace(f / FILES[4], b"hello\n"), "it looks like a text file"),
        (break_label, r"data_batch_3\.bin: expected labels 0 to 9, found 10 in record 17"),
        (swap_for_folder, r"data_batch_4\.bin: expected a file .*, found a folder"),
        (only_files(), "found an empty folder"),
        (only_files("a.txt", "b.txt"), r"found a\.txt, b\.txt"),
        (only_files("data_batch_1", "test_batch"), r"Python \(pickle\) version.*binary"),
        (python_archive, r"Python \(pickle\) version"),
        (only_files("data_batch_1.mat"), "Matlab version"),
    ],
)
def test_bad_folders_are_refused_and_left_alone(folder, damage, told):
    damage(folder)
    before = sorted(path.name for path in folder.rglob("*"))
    with pytest.raises(DataError, match=told):
        open_folder(folder)
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="found nothing"):
        open_folder(tmp_path / "none")


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(DataError, match="found a file"):
        open_folder(tmp_path / "x")


def test_no_permission(folder, monkeypatch):
    """Root may read anything, so the refusal is played."""
    opener = Path.open

    def refuse(path, *arguments, **options):
        if path.name == FILES[1]:
            raise PermissionError(13, "Permission denied", str(path))
        return opener(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"data_batch_2\.bin: .*no permission"):
        open_folder(folder)


# --- what it is ----------------------------------------------------------------------------------


def test_synthetic_data_is_told_apart(dataset):
    assert dataset.identity.kind == "synthetic"
    assert len(set(dataset.classes)) == 10
    assert dataset.classes != cifar10.CLASSES


def test_other_bytes_in_the_layout_are_told_apart(folder):
    """The same batches without the marker, or with a marker that is about other bytes."""
    assert open_folder(folder).identity.kind == "other"
    (folder / cifar10.SYNTHETIC_MARKER).write_text("seed 0\n0000\n")
    assert open_folder(folder).identity.kind == "other"
    assert open_folder(folder).identity.label == "CIFAR-10 layout, other bytes"


def test_official_files_are_known_by_their_checksums(folder, monkeypatch):
    sums = dict(zip(FILES, next(iter(cifar10.KNOWN)), strict=True))
    monkeypatch.setattr(cifar10, "_md5", lambda path: sums[path.name])
    assert open_folder(folder).identity.kind == "official"


def test_class_names_fall_back_to_cifar10s(folder):
    assert open_folder(folder).classes == cifar10.CLASSES
    (folder / "batches.meta.txt").write_bytes(b"\xff\xfe")
    assert open_folder(folder).classes == cifar10.CLASSES
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij"))
    assert open_folder(folder).classes == tuple("abcdefghij")


# --- where it comes from -------------------------------------------------------------------------


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
    monkeypatch.setenv(cifar10.DIRECTORY_VARIABLE, str(folder))
    assert find().directory == folder
    assert find(dataset.directory).directory == dataset.directory
    monkeypatch.setenv(cifar10.DIRECTORY_VARIABLE, str(tmp_path / "wrong"))
    with pytest.raises(DataError, match="wrong"):
        find()


def test_without_a_network_the_stand_in_is_used_and_said(empty_cache, dataset, monkeypatch):
    def unreachable(*_):
        raise ConnectionError("no route to host")

    empty_cache.mkdir()
    (empty_cache / "synthetic-0").symlink_to(dataset.directory)
    monkeypatch.setattr(cifar10, "fetch", unreachable)
    with pytest.warns(UserWarning, match="downloading failed.*synthetic stand-in"):
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
    fetched = cifar10.fetch(url, hashlib.md5(archive).hexdigest())
    np.testing.assert_array_equal(fetched.test.images[:9], dataset.test.images[:9])
    assert [path.name for path in empty_cache.iterdir()] == [cifar10.FOLDER]
    cifar10.fetch(url, "unused")
    assert len(seen) == 1


def test_an_archive_with_another_checksum_leaves_nothing(server, empty_cache, monkeypatch):
    site, url, seen = server
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (site / "cifar-10-binary.tar.gz").write_bytes(b"half an archive")
    with pytest.raises(ValueError, match="hash"):
        cifar10.fetch(url, hashlib.md5(b"a whole archive").hexdigest())
    assert not any(empty_cache.iterdir())
    assert len(seen) == 3  # tried again twice


def test_an_archive_of_something_else_leaves_no_data(server, empty_cache):
    site, url, _ = server
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"))
    (site / "cifar-10-binary.tar.gz").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match="found an empty folder"):
        cifar10.fetch(url, hashlib.md5(buffer.getvalue()).hexdigest())
    assert not (empty_cache / cifar10.FOLDER).exists()
    assert not any(path.is_dir() for path in empty_cache.iterdir())


def test_two_at_once_do_not_collide(server, archive, empty_cache):
    site, url, _ = server
    (site / "cifar-10-binary.tar.gz").write_bytes(archive)
    md5 = hashlib.md5(archive).hexdigest()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: cifar10.fetch(url, md5), range(2))
    assert first.identity == second.identity
    assert [path.name for path in empty_cache.iterdir()] == [cifar10.FOLDER]


# --- the stand-in --------------------------------------------------------------------------------


def test_synthesis_refuses_a_folder_with_files(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="expected a new or empty folder"):
        cifar10.synthesize(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_synthesis_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("ae_core.synthetic.records", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cifar10.synthesize(tmp_path / "new")
    assert not any(tmp_path.iterdir())


def test_classes_are_balanced_and_seeds_differ(dataset):
    assert set(np.bincount(dataset.test.labels)) == {1000}
    assert set(np.bincount(dataset.train.labels)) == {5000}
    first, second = dataset.train.images[:100], dataset.train.images[10_000:10_100]
    assert not np.array_equal(first, second)


def test_a_linear_model_gets_about_half_of_the_stand_in_right(dataset):
    """Ridge regression on raw pixels onto the ten classes; chance is 10 %."""
    x = normalise(dataset.train.images[:10_000]).reshape(10_000, -1)
    test = normalise(dataset.test.images[:2_000]).reshape(2_000, -1)
    mean = x.mean(0)
    x, test = x - mean, test - mean
    targets = np.eye(10, dtype=np.float32)[dataset.train.labels[:10_000]]
    weights = np.linalg.solve(x.T @ x + 300 * np.eye(x.shape[1], dtype=np.float32), x.T @ targets)
    accuracy = ((test @ weights).argmax(1) == dataset.test.labels[:2_000]).mean()
    assert 0.4 < accuracy < 0.6
