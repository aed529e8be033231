"""Files of features: what goes in comes out to the bit, and whatever else they hold is refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ae_core import phases
from ae_core.autoencoder import Autoencoder
from ae_core.classifying import feature_files
from ae_core.classifying.engines import ScikitLearn
from ae_core.classifying.feature_files import FeatureError, inspect, load
from ae_core.classifying.features import encoded, extract, stratified, time_formats
from ae_core.data.cifar10 import normalise
from ae_core.files import BusyError, UnwritableError
from ae_core.records import TrainingSettings
from ae_core.training import checkpoint as checkpoints
from ae_core.training import loop
from ae_core.training.checkpoint import Checkpoint, TrainingState
from tests.conftest import ROOT, SMALL

ENGINE = ScikitLearn()
WIDTH = SMALL.latent_features
ROWS = np.array([9999, 3, 17, 3, *range(500, 528)])
"""In no order, one image twice; with BLOCK = 7 the last block is ragged."""
COUNTED = pa.proxy_memory_pool(pa.default_memory_pool())
"""Kept to the end: Arrow's threads may still return memory to it after the read that took it."""
each_format = pytest.mark.parametrize("suffix", [".parquet", ".csv"])


def new_autoencoder(seed: int = 1) -> Autoencoder:
    return Autoencoder(phases.create("cpu", SMALL, 5), seed=seed)


@pytest.fixture
def autoencoder(monkeypatch) -> Autoencoder:
    """Encodes for small blocks."""
    monkeypatch.setattr(feature_files, "BLOCK", 7)
    return new_autoencoder()


@pytest.fixture
def whole(autoencoder, dataset, tmp_path):
    """Writes the features of ROWS in a format."""

    def write(suffix):
        path = tmp_path / "deep" / f"train{suffix}"
        extract(autoencoder, dataset, "train", path, ROWS)
        return path

    return write


def encode_to(monkeypatch, autoencoder, values):
    """Make the autoencoder's features these, in order; returns how many images each call had."""
    calls, start = [], 0

    def encode(images):
        nonlocal start
        calls.append(len(images))
        start += len(images)
        return values[start - len(images) : start]

    monkeypatch.setattr(autoencoder, "encode", encode)
    return calls


def bits(x):
    assert x.dtype == np.float32
    return x.view(np.uint32)


@each_format
def test_features_come_back_to_the_bit(whole, autoencoder, dataset, suffix):
    path = whole(suffix)
    loaded = load(path, ENGINE)
    images = normalise(dataset.train.images[ROWS], SMALL.height)
    np.testing.assert_array_equal(bits(loaded.x), bits(autoencoder.encode(images)))
    np.testing.assert_array_equal(loaded.rows, ROWS)
    np.testing.assert_array_equal(loaded.labels, dataset.train.labels[ROWS])
    assert (loaded.labels.dtype, loaded.origin) == (np.uint8, inspect(path))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@each_format
def test_any_float_survives(autoencoder, dataset, tmp_path, monkeypatch, random, suffix):
    """Of every size and sign, subnormal too: CSV spells enough digits, and pandas reads them."""
    values = random.integers(0, 2**32, (3000, WIDTH), np.uint32).view(np.float32)
    values[~np.isfinite(values)] = -0.0
    encode_to(monkeypatch, autoencoder, values)
    path = tmp_path / f"test{suffix}"
    extract(autoencoder, dataset, "test", path, np.arange(len(values)))
    np.testing.assert_array_equal(bits(load(path, ENGINE).x), bits(values))


def test_all_images_are_encoded_by_default_in_blocks(autoencoder, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "BLOCK", 3000)
    calls = encode_to(monkeypatch, autoencoder, np.zeros((10_000, WIDTH), np.float32))
    extract(autoencoder, dataset, "test", tmp_path / "test.parquet")
    loaded = load(tmp_path / "test.parquet", ENGINE)
    assert calls == [3000, 3000, 3000, 1000]
    np.testing.assert_array_equal(loaded.rows, np.arange(10_000))
    np.testing.assert_array_equal(loaded.labels, dataset.test.labels)


def test_features_straight_from_the_encoder_equal_those_of_a_file(whole, autoencoder, dataset):
    from_file = load(whole(".parquet"), ENGINE)
    straight = encoded(autoencoder, dataset, "train", ENGINE, ROWS)
    np.testing.assert_array_equal(bits(straight.x), bits(from_file.x))
    np.testing.assert_array_equal(straight.labels, from_file.labels)
    np.testing.assert_array_equal(straight.rows, from_file.rows)


def test_a_restored_encoder_gives_the_same_features_and_digest(autoencoder, dataset, tmp_path):
    state = TrainingState(
        settings=TrainingSettings(architecture=SMALL, phase="cpu"),
        dataset_digest=dataset.identity.digest,
        epochs=(),
    )
    path = tmp_path / "weights.safetensors"
    checkpoints.save(path, Checkpoint(autoencoder.parameters(), state))
    restored, its_state = loop.restore(path, batch_size=3)
    assert its_state == state
    assert restored.digest() == autoencoder.digest() != new_autoencoder(seed=2).digest()
    first, second = (encoded(a, dataset, "test", ENGINE, ROWS) for a in (autoencoder, restored))
    np.testing.assert_array_equal(bits(first.x), bits(second.x))


def test_a_file_says_what_it_was_made_from(whole, autoencoder, dataset):
    source = inspect(whole(".parquet"))
    assert source == inspect(whole(".csv"))
    assert (source.split, source.images, source.features) == ("train", len(ROWS), WIDTH)
    assert (source.dataset, source.classes) == (dataset.identity, dataset.classes)
    assert source.parameters_digest == autoencoder.digest()


def test_other_programs_read_the_files(whole):
    table, frame = pq.read_table(whole(".parquet")), pd.read_csv(whole(".csv"), comment="#")
    assert table.column_names == ["image", "label", "features"]
    assert list(frame) == ["image", "label", *(f"f{n}" for n in range(WIDTH))]
    np.testing.assert_array_equal(frame["image"], table["image"].to_numpy())
    np.testing.assert_allclose(frame.iloc[:, 2:], table["features"].to_pylist(), rtol=1e-6)


@each_format
def test_a_file_is_read_block_by_block(whole, suffix):
    """Whatever the size: a block more than the result, which alone grows."""
    path = whole(suffix)
    blocks = ENGINE.parquet(path) if suffix == ".parquet" else ENGINE.csv(path, 7)
    assert [len(x) for *_, x in blocks] == [7, 7, 7, 7, 4]
    if suffix == ".parquet":
        assert pq.ParquetFile(path).num_row_groups == 5


def test_reading_never_holds_the_features_twice(autoencoder, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, "BLOCK", 100)
    values = np.ones((10_000, WIDTH), np.float32)
    encode_to(monkeypatch, autoencoder, values)
    path = tmp_path / "test.parquet"
    extract(autoencoder, dataset, "test", path)
    load(path, ENGINE)  # whatever is imported or cached the first time
    before = pa.default_memory_pool()
    pa.set_memory_pool(COUNTED)
    tracemalloc.start()
    try:
        load(path, ENGINE)
        by_numpy = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert values.nbytes < by_numpy + COUNTED.max_memory() < 1.6 * values.nbytes


class Stop(BaseException):
    """Not an Exception, as a KeyboardInterrupt is not."""


@each_format
@pytest.mark.parametrize("error", [Stop, OSError])
def test_an_interrupted_extract_leaves_what_was_there(
    whole, autoencoder, dataset, monkeypatch, suffix, error
):
    path = whole(suffix)
    before, encode, calls = path.read_bytes(), autoencoder.encode, []

    def interrupted(images):
        calls.append(len(images))
        if len(calls) == 3:
            raise error
        return encode(images)

    monkeypatch.setattr(autoencoder, "encode", interrupted)
    for target in (path, path.with_stem("new")):
        with pytest.raises(error):
            extract(autoencoder, dataset, "train", target, ROWS)
        calls.clear()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_name_with_another_ending_is_refused_before_any_work(autoencoder, dataset, tmp_path):
    autoencoder.encode = pytest.fail
    with pytest.raises(FeatureError, match=r"train\.npy: expected a name that ends in \.parquet"):
        extract(autoencoder, dataset, "train", tmp_path / "new" / "train.npy", ROWS)
    assert not any(tmp_path.iterdir())


def refused(path, told="found|damaged", like=None):
    with pytest.raises(FeatureError, match=told) as caught:
        load(path, ENGINE, like)
    assert str(path) in str(caught.value)


def foreign_table(path):
    pq.write_table(pa.table({"image": [1], "label": [2], "features": [[0.5] * WIDTH]}), path)


def fewer_rows(path):
    pq.write_table(pq.read_table(path).slice(0, 20), path)


def a_name_that_is_no_text(path):
    path.write_bytes(path.read_bytes().replace(b"label", b"\x93abel"))


def more_rows(path):
    pq.write_table(pa.concat_tables([pq.read_table(path)] * 2), path)


def narrower(path):
    table = pq.read_table(path)
    narrow = pa.array([row[1:] for row in table["features"].to_pylist()], pa.list_(pa.float32()))
    pq.write_table(table.set_column(2, "features", narrow), path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "expected a file of features, found nothing"),
        (lambda path: path.write_bytes(b""), "expected a whole Parquet file, found a damaged"),
        (lambda path: path.write_text("image,label\n1,2\n"), "expected a whole Parquet file"),
        (a_name_that_is_no_text, "expected a whole Parquet file, found a damaged"),
        (foreign_table, "expected features written by .* found no description"),
        (fewer_rows, "expected 32 rows, found 20: cut short"),
        (more_rows, "damaged at row"),
        (narrower, "damaged at row 0"),
    ],
)
def test_damaged_parquet_files_are_refused_with_a_reason(whole, damage, told):
    path = whole(".parquet")
    damage(path)
    refused(path, told)


def test_a_described_file_without_a_column_is_refused(whole):
    path = whole(".parquet")
    pq.write_table(pq.read_table(path).drop_columns("features"), path)
    refused(path)


def only_the_description(path):
    path.write_text(path.read_text().partition("\n")[0] + "\n")


def without_a_column(path):
    lines = path.read_text().splitlines()
    shorter = [lines[0], *(line.rpartition(",")[0] for line in lines[1:])]
    path.write_text("\n".join(shorter) + "\n")


def with_a_word(path):
    *lines, last = path.read_text().splitlines()
    path.write_text("\n".join([*lines, last.replace(",0.", ",none.", 1)]) + "\n")


def with_label(label):
    def damage(path):
        *lines, last = path.read_text().splitlines()
        image, _, features = last.split(",", 2)
        path.write_text("\n".join([*lines, f"{image},{label},{features}"]) + "\n")

    return damage


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "expected a file of features, found nothing"),
        (lambda path: path.write_bytes(b""), "found no description"),
        (with_label(""), "expected labels from 0 to 9"),
        (with_label(10), "expected labels from 0 to 9"),
        (lambda path: path.write_bytes(b"# \xff\xfe\n1,2\n"), "found no description"),
        (lambda path: path.write_text("image,label,f0\n1,2,0.5\n"), "found no description"),
        (only_the_description, "damaged at row 0"),
        (without_a_column, "damaged at row 0"),
        (with_a_word, "damaged at row 28"),
    ],
)
def test_damaged_csv_files_are_refused_with_a_reason(whole, damage, told):
    path = whole(".csv")
    damage(path)
    refused(path, told)


def test_a_parquet_file_cut_short_anywhere_is_refused(whole):
    path = whole(".parquet")
    content = path.read_bytes()
    for length in range(0, len(content), 61):
        path.write_bytes(content[:length])
        refused(path)
    path.write_bytes(content[:-1])
    refused(path)


def lengths_to_cut_to(content):
    """Ends of the description, the names and each row but the last; all places in that one."""
    ends = [place + 1 for place, byte in enumerate(content[:-1]) if byte == ord("\n")]
    return [0, 1, *ends], range(ends[-1] + 1, content.rindex(b","))


def test_a_csv_file_cut_between_rows_is_refused(whole):
    path = whole(".csv")
    content = path.read_bytes()
    for length in lengths_to_cut_to(content)[0]:
        path.write_bytes(content[:length])
        refused(path)


def test_a_csv_file_cut_within_a_row_is_refused(whole):
    path = whole(".csv")
    content = path.read_bytes()
    for length in lengths_to_cut_to(content)[1]:
        path.write_bytes(content[:length])
        refused(path, "cut short")


def test_a_csv_file_cut_within_its_last_number_is_refused(whole):
    path = whole(".csv")
    path.write_bytes(path.read_bytes()[:-3])
    refused(path, "expected a newline after the last row, found none: cut short")


def test_flipped_bytes_in_a_parquet_file_never_change_a_feature(whole):
    path = whole(".parquet")
    content, good = path.read_bytes(), load(path, ENGINE)
    for start in range(0, len(content), 61):
        damaged = bytearray(content)
        damaged[start : start + 4] = bytes(byte ^ 0xFF for byte in damaged[start : start + 4])
        path.write_bytes(damaged)
        try:
            loaded = load(path, ENGINE)
        except FeatureError:
            continue
        np.testing.assert_array_equal(bits(loaded.x), bits(good.x))
        np.testing.assert_array_equal(loaded.labels, good.labels)
        np.testing.assert_array_equal(loaded.rows, good.rows)
        assert loaded.origin == good.origin


def test_a_flipped_bit_in_a_csv_file_is_found_anywhere(whole, random):
    """But where it changes no number: a blank for another, a digit too many to matter."""
    path = whole(".csv")
    content, good = path.read_bytes(), load(path, ENGINE)
    for place in range(0, len(content), 41):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            loaded = load(path, ENGINE)
        except FeatureError as error:
            assert str(error).startswith(f"{path}: ")
            continue
        np.testing.assert_array_equal(bits(loaded.x), bits(good.x))
        np.testing.assert_array_equal(loaded.labels, good.labels)
        np.testing.assert_array_equal(loaded.rows, good.rows)
        assert loaded.origin == good.origin


def with_another_digit(path):
    *lines, last = path.read_text().splitlines()
    start, _, digit = last.rpartition(".")
    path.write_text(
        "\n".join([*lines, f"{start}.{'1' if digit[0] != '1' else '2'}{digit[1:]}"]) + "\n"
    )


def with_rows_swapped(path):
    *lines, one, other = path.read_text().splitlines()
    path.write_text("\n".join([*lines, other, one]) + "\n")


def of_another_encoder(path):
    text, digest = path.read_text(), inspect(path).parameters_digest
    path.write_text(text.replace(digest, "0" * 64))


@pytest.mark.parametrize(
    "change", [with_another_digit, with_rows_swapped, of_another_encoder, with_label(4)]
)
def test_a_csv_file_with_another_number_is_refused(whole, change):
    path = whole(".csv")
    change(path)
    refused(path, "expected what was written, found something else .* damaged; extract it anew")


def test_a_parquet_file_with_another_number_is_refused_whoever_reads_it(whole):
    """Page checksums do not tell what wrote a page, and cuDF does not look at them."""
    path = whole(".parquet")
    table = pq.read_table(path)
    labels = table["label"].to_numpy().copy()
    labels[3] = (labels[3] + 1) % 10
    pq.write_table(table.set_column(1, "label", pa.array(labels)), path)
    refused(path, "expected what was written, found something else")


@each_format
def test_a_file_of_an_earlier_version_is_refused_as_such(whole, suffix):
    path = whole(suffix)
    path.write_bytes(path.read_bytes().replace(b"ae_core features 2", b"ae_core features 1"))
    refused(path, "found 'ae_core features 1', of an earlier version: extract them anew")


def test_other_things_than_a_file_are_told_and_never_waited_for(tmp_path, autoencoder, dataset):
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    for name, found in (("fifo", "a FIFO"), ("folder", "a folder"), ("device", "a device")):
        refused(tmp_path / f"{name}.csv", f"expected a file of features, found {found}")
        with pytest.raises(UnwritableError, match=f"{name}.csv: .*found {found}"):
            extract(autoencoder, dataset, "train", tmp_path / f"{name}.csv", ROWS)


@each_format
@pytest.mark.parametrize("size", [100, 2000, 10**9])
def test_a_full_disk_ends_in_a_line_and_leaves_what_was_there(
    whole, autoencoder, dataset, full_at, suffix, size
):
    """At the start, in the middle and at the very end."""
    path = whole(suffix)
    before = path.read_bytes()
    told = f"^{path}: can't be written: {os.strerror(errno.EFBIG)}: make room"
    with full_at(min(size, len(before) - 1)), pytest.raises(UnwritableError, match=told):
        extract(autoencoder, dataset, "train", path, ROWS)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


EXTRACT = """
import sys
from ae_core.data import cifar10; from ae_core.classifying import feature_files
from ae_core.classifying.features import extract
from tests.ae_core.test_features import ROWS, new_autoencoder

feature_files.BLOCK = 7
autoencoder = new_autoencoder()
encode, calls = autoencoder.encode, []

def encode_twice(images):
    calls.append(images)
    if len(calls) == 3:
        print("here", flush=True)
        sys.stdin.read()
    return encode(images)

autoencoder.encode = encode_twice
extract(autoencoder, cifar10.open_folder(sys.argv[1]), "train", sys.argv[2], ROWS)
"""
"""Waits with two blocks written."""


@pytest.fixture
def other(dataset):
    """Starts an extraction in another process; returns when it waits."""
    started = []

    def start(path):
        process = subprocess.Popen(
            [sys.executable, "-c", EXTRACT, str(dataset.directory), str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_before_it_encodes(autoencoder, dataset, tmp_path, other):
    path = tmp_path / "train.parquet"
    process = other(path)
    autoencoder.encode = pytest.fail
    with pytest.raises(BusyError, match=f"^{path}: another process is writing it"):
        extract(autoencoder, dataset, "train", path, ROWS)
    process.communicate("")
    assert load(path, ENGINE).origin.images == len(ROWS)


@each_format
def test_what_a_killed_process_left_is_gone_after_the_next(
    autoencoder, dataset, tmp_path, other, suffix
):
    path = tmp_path / f"train{suffix}"
    process = other(path)
    process.kill()
    process.wait()
    assert [file.name for file in tmp_path.iterdir()] == [f".train{suffix}.ae-draft"]
    extract(autoencoder, dataset, "test", tmp_path / "test.parquet", np.arange(9))
    assert [file.name for file in tmp_path.iterdir()] == ["test.parquet"]


def test_formats_are_timed_in_a_folder_that_is_gone_afterwards(
    autoencoder, dataset, tmp_path, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    times = time_formats(autoencoder, dataset, ROWS, ENGINE)
    assert [(t.suffix, t.images, t.features) for t in times] == [
        (".parquet", len(ROWS), WIDTH),
        (".csv", len(ROWS), WIDTH),
    ]
    assert not any(tmp_path.iterdir())


@each_format
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(whole, autoencoder, monkeypatch, suffix, number):
    values = np.zeros((len(ROWS), WIDTH), np.float32)
    values[20, 3] = number
    encode_to(monkeypatch, autoencoder, values)
    refused(whole(suffix), "expected finite features, found NaN or infinity")


@each_format
def test_features_of_something_else_are_refused_by_name(whole, dataset, suffix):
    path = whole(suffix)
    like = inspect(path)
    official = like.dataset.__class__("official", "CIFAR-10", "0" * 64)
    for field, value, found in (
        ("parameters_digest", new_autoencoder(seed=2).digest(), like.parameters_digest),
        ("dataset", official, like.dataset.digest),
        ("split", "test", "train"),
        ("features", 8192, str(WIDTH)),
    ):
        wanted = like.model_copy(update={field: value})
        refused(path, rf"expected features with {field} .*, found .*{found}", like=wanted)
    assert load(path, ENGINE, like.model_copy(update={"images": 9})).origin == like


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_stratified_images_keep_the_shares_ascending_and_the_same_again(counts, share, seed):
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8) + 3, counts)
    np.random.default_rng(seed).shuffle(labels)
    count = int(share * len(labels))
    chosen = stratified(labels, count, seed)
    assert (np.diff(chosen) > 0).all()
    of_class = np.array([np.count_nonzero(labels[chosen] == n + 3) for n in range(len(counts))])
    assert len(chosen) == count
    assert (abs(of_class - count * np.array(counts) / len(labels)) < 1 + 1e-9).all()
    np.testing.assert_array_equal(chosen, stratified(labels, count, seed))


@pytest.mark.parametrize("count", [12, 13, 10**9])
def test_asked_for_as_many_as_there_are_or_more_all_are_taken(count):
    labels = np.array([0] * 10 + [1] * 2, np.uint8)
    np.testing.assert_array_equal(stratified(labels, count), np.arange(12))


def test_another_seed_chooses_other_images(dataset):
    first, second = (stratified(dataset.train.labels, 100, seed) for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("count", [0, 7, 60, 105, 1000])
def test_of_classes_that_are_alike_as_many_are_taken_or_one_more(dataset, count):
    chosen = stratified(dataset.test.labels, count)
    of_class = np.bincount(dataset.test.labels[chosen], minlength=10)
    assert of_class.sum() == count and np.ptp(of_class) <= 1
