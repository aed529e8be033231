from __future__ import annotations

import json
import os

import pytest
from pydantic import ValidationError

from ae_core import records
from ae_core.architecture import Architecture
from ae_core.commands.output import writable
from ae_core.errors import InputError
from ae_core.files import UnwritableError
from ae_core.records import RecordError, TrainingRecord, TrainingSettings
from ae_core.training.loop import train
from tests import handmade
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def record(dataset) -> TrainingRecord:
    settings = TrainingSettings(architecture=SMALL, images=8, test_images=4, learning_rate=0.01)
    return train(settings, dataset)[1]


@pytest.fixture
def path(record, tmp_path):
    return records.save(record, tmp_path / "deep" / "record.json")


def test_a_record_comes_back_equal(record, path):
    assert records.load(path) == record
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


def change(path, key, value):
    content = json.loads(path.read_text())
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    if value is None:
        del place[last]
    else:
        place[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("kind", "poem", "poem"),
        ("kind", None, "kind"),
        ("provenance.cpu", None, "provenance.cpu"),
        ("provenance.cores", 0, "provenance.cores"),
        ("epochs.0.loss", "low", "epochs.0.loss"),
        ("epochs.0.loss", -1.0, "epochs.0.loss"),
        ("epochs.0.seconds", float("nan"), "epochs.0.seconds"),
        ("epochs.0.images", 1.5, "epochs.0.images"),
        ("epochs.0.images", "8", "epochs.0.images"),
        ("settings.graph", 1, "settings.graph"),
        ("epochs.0.trace", [0.5, float("inf")], "epochs.0.trace"),
        ("settings.learning_rate", 0, "settings.learning_rate"),
        ("settings.architecture.height", 30, "settings.architecture"),
        ("dataset.kind", "invented", "dataset.kind"),
        ("mood", "good", "mood"),
    ],
)
def test_invalid_records_are_refused_with_the_field_named(path, key, value, told):
    change(path, key, value)
    with pytest.raises(RecordError, match=told) as caught:
        records.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b'"text"'])
def test_files_that_are_no_records_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"record\.json"):
        records.load(path)


def test_other_things_than_a_file_are_told_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name, found in (("none.json", "nothing"), ("", "a folder"), ("fifo", "a FIFO")):
        with pytest.raises(RecordError, match=f"{name}: expected a record, found {found}"):
            records.load(tmp_path / name)


def test_a_record_cut_short_anywhere_is_refused(path):
    content = path.read_bytes().rstrip()
    for length in range(0, len(content), 37):
        path.write_bytes(content[:length])
        with pytest.raises(RecordError, match="not a valid record"):
            records.load(path)


def test_a_full_disk_ends_in_a_line_and_leaves_the_old_record(record, path, full_at):
    before = path.read_bytes()
    with (
        full_at(100),
        pytest.raises(UnwritableError, match=rf"^{path}: can't be written: File too"),
    ):
        records.save(record, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


def test_a_record_is_not_written_over_something_else(record, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "device").symlink_to("/dev/null")
    for name, found in (("", "a folder"), ("fifo", "a FIFO"), ("device", "a device")):
        with pytest.raises(UnwritableError, match=f"found {found}"):
            records.save(record, tmp_path / name)
        with pytest.raises(UnwritableError, match=f"found {found}"):
            writable(tmp_path / name)


@pytest.mark.parametrize("content", [b"{", b"PAR1", b'{"kind": 1}', b"[1]", b"\xff", b"[" * 9999])
def test_a_record_takes_the_place_of_a_record_only(record, path, content):
    path.write_bytes(content)
    with pytest.raises(InputError, match="expected a new file or an earlier record, found another"):
        records.save(record, path)
    assert path.read_bytes() == content


def test_an_earlier_versions_record_is_replaced(record, path):
    change(path, "mood", "good")
    assert records.load(records.save(record, path)) == record
    path.write_bytes(b"")  # as `mktemp` leaves it
    assert records.load(records.save(record, path)) == record


@pytest.mark.parametrize(
    "settings",
    [{"epochs": 0}, {"images": -1}, {"learning_rate": float("inf")}, {"seed": -1}, {"speed": 9}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValidationError, match=next(iter(settings))):
        TrainingSettings(**settings)


def test_settings_keep_the_architecture():
    settings = TrainingSettings(architecture=SMALL)
    back = TrainingSettings.model_validate_json(settings.model_dump_json())
    assert back.architecture == SMALL != Architecture()


def test_a_benchmarks_steps_are_found_by_their_fields():
    steps = [
        handmade.step("gpu-v2", 1.0, graph=True),
        handmade.step("gpu-v2", 2.0),
        handmade.step("gpu-v2", 3.0, batch_size=128),
        handmade.step("PyTorch", 4.0, graph=True, precision="bf16", peer=True),
    ]
    record = handmade.benchmark(*steps)
    assert record.step("gpu-v2").median == 2.0  # launch by launch, unless a graph is asked for
    assert record.step("gpu-v2", graph=True).median == 1.0
    assert record.step("gpu-v2", batch_size=128).per_image == 3 / 128
    assert record.step("PyTorch", graph=True, precision="bf16").median == 4.0
    with pytest.raises(RecordError, match=r"expected a step with .*'batch_size': 128"):
        record.step("gpu-v2", graph=True, batch_size=128)


def test_an_entry_of_several_operations_keeps_its_own_name():
    alone, _, relu = handmade.profile("gpu-v2", 1.0).operations
    both = (*alone.operations, *relu.operations)
    fused = alone.model_copy(update={"name": "conv1 + ReLU", "operations": both})
    assert (alone.label, fused.label) == ("conv2d_forward", "conv1 + ReLU")
    assert fused.does("relu_forward") and not alone.does("relu_forward")
