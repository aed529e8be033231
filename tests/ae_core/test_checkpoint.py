from __future__ import annotations

import errno
import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ae_core.files import UnwritableError
from ae_core.records import EpochResult, TrainingSettings
from ae_core.training import checkpoint as checkpoints
from ae_core.training.checkpoint import FORMAT, Checkpoint, CheckpointError, TrainingState
from ae_core.training.loop import restore
from tests.conftest import SMALL

SETTINGS = TrainingSettings(architecture=SMALL, learning_rate=0.1 + 0.2)
EPOCH = EpochResult(epoch=1, loss=1 / 3, seconds=0.5, images=1000, trace=(0.25, 2 / 3))
STATE = TrainingState(settings=SETTINGS, dataset_digest="abc", epochs=(EPOCH,))


@pytest.fixture
def tensors():
    random = np.random.default_rng(0)
    return {spec.name: random.random(spec.shape, np.float32) for spec in SMALL.parameters}


@pytest.fixture
def saved(tmp_path, tensors):
    return checkpoints.save(tmp_path / "deep" / "x.safetensors", Checkpoint(tensors, STATE))


def test_a_checkpoint_comes_back_to_the_bit(saved, tensors):
    loaded = checkpoints.load(saved)
    assert loaded.state == STATE
    assert loaded.parameters.keys() == tensors.keys()
    for name, tensor in loaded.parameters.items():
        np.testing.assert_array_equal(tensor.view(np.uint32), tensors[name].view(np.uint32))
    assert [path.name for path in saved.parent.iterdir()] == ["x.safetensors"]


def test_other_programs_read_it(saved, tensors):
    np.testing.assert_array_equal(load_file(saved)["conv1.biases"], tensors["conv1.biases"])


def test_a_full_disk_ends_in_a_line_and_keeps_the_old_file(saved, full_at):
    before = saved.read_bytes()
    told = f"^{re.escape(str(saved))}: can't be written: {os.strerror(errno.EFBIG)}: make room"
    with full_at(4000), pytest.raises(UnwritableError, match=told):
        checkpoints.save(saved, checkpoints.load(saved))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["x.safetensors"]


def refused(path, told="."):
    for read in (checkpoints.load, restore):
        with pytest.raises(CheckpointError, match=told) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_found_anywhere(saved, random):
    """In every byte of the header, which holds the state, and in many of the tensors."""
    content = saved.read_bytes()
    (header,) = struct.unpack("<Q", content[:8])
    for place in [*range(8 + header), *range(8 + header, len(content), 5), len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(random.integers(8))
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError) as caught:
            checkpoints.load(saved)
        assert str(caught.value).startswith(f"{saved}: ")


def test_a_file_cut_short_anywhere_is_refused(saved):
    content = saved.read_bytes()
    for length in [*range(0, len(content), 61), len(content) - 1]:
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(saved))}: "):
            checkpoints.load(saved)


def metadata(path) -> dict[str, str]:
    with safe_open(path, framework="numpy") as file:
        return dict(file.metadata())


def changed(path, change) -> None:
    """Swap something in the file, under the digest that was there."""
    tensors, described = load_file(path), metadata(path)
    change(tensors, described)
    save_file(tensors, path, metadata=described)


def with_digest(change):
    """Likewise, under a right digest: what only another program or version would write."""

    def damage(path):
        tensors, described = load_file(path), metadata(path)
        change(tensors)
        described["digest"] = checkpoints._digest(tensors, described["state"])
        save_file(tensors, path, metadata=described)

    return damage


def with_state(*place, value=None):
    """A state with another value at a place, or without it, under a right digest."""

    def damage(path):
        described, tensors = metadata(path), load_file(path)
        state = part = json.loads(described["state"])
        *parents, last = place
        for parent in parents:
            part = part[parent]
        if value is None:
            del part[last]
        else:
            part[last] = value
        text = json.dumps(state)
        save_file(
            tensors,
            path,
            {**described, "state": text, "digest": checkpoints._digest(tensors, text)},
        )

    return damage


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, _: tensors.update({"conv1.biases": tensors["conv1.biases"] + 1}),
        lambda tensors, _: tensors.update({"conv1.biases": tensors["conv4.biases"]}),
        lambda tensors, _: tensors.update({"conv1.biases": np.zeros(6)}),
        lambda tensors, _: tensors.update(extra=np.zeros(1, np.float32)),
        lambda tensors, _: tensors.pop("conv1.biases"),
        lambda _, described: described.update(state=described["state"].replace("0.5", "0.6")),
        lambda _, described: described.update(digest="0" * 64),
        lambda _, described: described.pop("digest"),
    ],
)
def test_what_does_not_fit_its_digest_is_refused(saved, change):
    changed(saved, change)
    refused(saved, "expected the tensors and the state that were saved.*damaged")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (Path.unlink, "expected a checkpoint, found nothing"),
        (lambda path: path.write_bytes(b"\xff" * 300), "expected a whole safetensors file"),
        (
            lambda path: save_file({"a": np.zeros(1, np.float32)}, path),
            f"expected '{FORMAT}' in the file's metadata, found None: give",
        ),
        (
            lambda path: changed(path, lambda _, d: d.update(format="ae_core checkpoint 1")),
            "found 'ae_core checkpoint 1', of an earlier version and without a digest.*train anew",
        ),
        (with_state("settings"), "training state: settings: Field required"),
        (with_state("settings", "epochs", value=0), r"training state: settings\.epochs: Input"),
        (with_state("settings", "epochs", value="2"), r"settings\.epochs: .* valid integer"),
        (with_state("settings", "seed"), r"training state: expected settings\.seed, found none"),
        (with_state("settings", "architecture", "width"), r"settings\.architecture\.width, found"),
        (with_state("epochs", 0, "trace"), r"expected epochs\.0\.trace, found none: another"),
        (with_state("settings", "speed", value=1), r"settings\.speed: Extra inputs"),
        (
            with_digest(lambda t: t.update({"conv1.biases": np.zeros(6)})),
            r"conv1\.biases: expected float32 \(6,\), found float64 \(6,\)",
        ),
        (
            with_digest(lambda t: t.update({"conv1.biases": np.zeros((2, 3), np.float32)})),
            r"conv1\.biases: expected float32 \(6,\), found float32 \(2, 3\)",
        ),
        (with_digest(lambda t: t.pop("conv1.biases")), r"biases: expected .* found none"),
        (with_digest(lambda t: t.update(x=t["conv1.biases"])), "x: expected no such tensor, found"),
        (with_digest(lambda t: t["conv1.biases"].fill(np.nan)), "expected finite numbers, found"),
    ],
)
def test_what_is_no_checkpoint_of_ours_is_refused_with_a_reason(saved, damage, told):
    damage(saved)
    refused(saved, told)


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F4", "X"])
def test_another_dtype_is_refused(saved, dtype):
    tensor = {"dtype": dtype, "shape": [2], "data_offsets": [0, 4 if dtype == "BF16" else 2]}
    header = json.dumps({"__metadata__": {"format": FORMAT}, "a": tensor}).encode()
    saved.write_bytes(struct.pack("<Q", len(header)) + header + bytes(tensor["data_offsets"][1]))
    refused(saved, "damaged")


def test_other_things_than_a_file_are_told_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, found in {
        "": "a folder",
        "fifo": "a FIFO",
        "loop": "none .Too many",
        "x\0y": "none .embedded null",
        "x" * 300: "none .File name",
    }.items():
        refused(tmp_path / name, f"expected a checkpoint, found {found}")
    with pytest.raises(UnwritableError, match="expected a file's name, found a folder"):
        checkpoints.save(tmp_path, Checkpoint({}, STATE))
