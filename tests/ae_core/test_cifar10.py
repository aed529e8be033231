from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ae_core.data import cifar10
from ae_core.data.cifar10 import FILE_BYTES, FILES, DataError, normalise, open_folder

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


def swap_for_fifo(folder: Path) -> None:
    (folder / FILES[3]).unlink()
    os.mkfifo(folder / FILES[3])


def swap_for_link(target: str):
    def change(folder: Path) -> None:
        (folder / FILES[3]).unlink()
        (folder / FILES[3]).symlink_to(target)

    return change


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
        (break_label, r"data_batch_3\.bin: expected labels 0 to 9, found 10 in row 17"),
        (swap_for_fifo, r"data_batch_4\.bin: expected a file .*, found a FIFO"),
        (swap_for_link("/dev/zero"), r"data_batch_4\.bin: expected a file .*, found a device"),
        (
            swap_for_link(FILES[3]),
            r"data_batch_4\.bin: expected a file .*, found none .Too many levels",
        ),
        (
            swap_for_link("nowhere"),
            r"data_batch_4\.bin: expected a file .*, found a link that leads nowh",
        ),
        (only_files(cifar10.ARCHIVE), r"unpack it: tar -xzf /.*data/cifar-10-b.*gz -C /.*data$"),
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


def test_a_home_folder_that_nobody_has(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"^~nosuchuser/x: expected a folder .* found no such home folder$"
    ):
        open_folder("~nosuchuser/x")


@pytest.mark.parametrize(
    ("make", "name", "found"),
    [
        (lambda path: path.write_text("x"), "x", "a file"),
        (os.mkfifo, "x", "a FIFO"),
        (lambda path: path.symlink_to("x"), "x", "none .Too many levels"),
        (lambda path: path.symlink_to("/dev/null"), "x", "a device"),
        (lambda path: path.write_text("x"), "x/y", "none .Not a directory"),
        (lambda path: None, "x" * 300, "none .File name too long"),
        (lambda path: None, "x\0y", "none .embedded null byte"),
    ],
)
def test_something_else_in_place_of_the_folder(tmp_path, make, name, found):
    make(tmp_path / "x")
    with pytest.raises(DataError, match=f"^{tmp_path}/{name}: expected a folder .*, found {found}"):
        open_folder(tmp_path / name)


def test_the_archive_in_place_of_its_folder_comes_with_the_command_that_unpacks_it(tmp_path):
    archive = tmp_path / "my data" / cifar10.ARCHIVE
    archive.parent.mkdir()
    archive.write_bytes(b"x")
    told = f"^{archive}: .* unpack it: tar -xzf '{archive}' -C '{archive.parent}'$"
    with pytest.raises(DataError, match=told):
        open_folder(archive)
    with pytest.raises(DataError, match=told):
        open_folder(archive.parent)


def test_what_lies_beside_the_batches_is_never_waited_for(folder):
    os.mkfifo(folder / "batches.meta.txt")
    os.mkfifo(folder / cifar10.SYNTHETIC_MARKER)
    opened = open_folder(folder)
    assert (opened.classes, opened.identity.kind) == (cifar10.CLASSES, "other")


def test_no_permission_for_the_folder(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"one that can't be read \(Permission denied\)"):
        open_folder(folder)


def test_no_permission(folder, monkeypatch):
    """Root may read anything, so the refusal is played."""
    opener = Path.open

    def refuse(path, *arguments, **options):
        if path.name == FILES[1]:
            raise PermissionError(13, "Permission denied", str(path))
        return opener(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"data_batch_2\.bin: .*found Permission denied"):
        open_folder(folder)


# --- what it is ----------------------------------------------------------------------------------


def test_synthetic_data_is_told_apart(dataset):
    assert dataset.identity.kind == "synthetic"
    assert len(set(dataset.classes)) == 10
    assert dataset.classes != cifar10.CLASSES


def test_other_bytes_in_the_layout_are_told_apart(folder):
    """The same batches without the marker, or with a marker that is about other bytes."""
    assert open_folder(folder).identity.kind == "other"
    (folder / cifar10.SYNTHETIC_MARKER).write_bytes(b"seed 0\n0000\n\xff")
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
