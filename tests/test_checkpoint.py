from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from ae_core import checkpoint as checkpoints
from ae_core.checkpoint import FORMAT, Checkpoint, CheckpointError, TrainingState
from ae_core.records import TrainingSettings


@pytest.fixture
def saved(tmp_path):
    state = TrainingState(settings=TrainingSettings(), dataset_digest="abc", epochs=())
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(1, np.float32)}
    return checkpoints.save(tmp_path / "deep" / "x.safetensors", Checkpoint(tensors, state))


def test_a_checkpoint_comes_back(saved):
    loaded = checkpoints.load(saved)
    np.testing.assert_array_equal(loaded.parameters["a"], [[0, 1, 2], [3, 4, 5]])
    assert loaded.state.dataset_digest == "abc"
    assert loaded.state.settings == TrainingSettings()


def test_nothing_is_left_beside_it(saved):
    assert [path.name for path in saved.parent.iterdir()] == ["x.safetensors"]


def test_a_failed_save_keeps_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full_disk(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save(saved, checkpoints.load(saved))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["x.safetensors"]


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def scramble(path):
    path.write_bytes(b"\xff" * 300)


def other_program(path):
    save_file({"a": np.zeros(1, np.float32)}, path)


def without_state(path):
    save_file({"a": np.zeros(1, np.float32)}, path, metadata={"format": FORMAT})


def wrong_state(path):
    metadata = {"format": FORMAT, "state": '{"settings": {"epochs": 0}, "dataset_digest": "a"}'}
    save_file({"a": np.zeros(1, np.float32)}, path, metadata=metadata)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "expected a checkpoint, found no file"),
        (truncate, "expected a whole safetensors file"),
        (scramble, "expected a whole safetensors file"),
        (lambda path: path.write_bytes(b""), "expected a whole safetensors file"),
        (other_program, "expected 'ae_core checkpoint 1'"),
        (without_state, "training state: state"),
        (wrong_state, "training state: settings.epochs"),
    ],
)
def test_damaged_checkpoints_are_refused_with_a_reason(saved, damage, told):
    damage(saved)
    with pytest.raises(CheckpointError, match=told):
        checkpoints.load(saved)
