from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ae_core import files, records, tables
from ae_core.phases import PHASES
from ae_core.training import restore

SPLITS = ("train", "test")


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ae_core", *arguments],
        capture_output=True, text=True, check=False, timeout=120,
        env=os.environ | {"COLUMNS": "200"}, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["data", "train", "features", "classify", "verify", "profile", "bench", "book"]),
        (["data"], ["fetch", "info", "synthesize"]),
        (
            ["train"],
            ["--epochs", "--resume", "--learning-rate", "default: 0.002", "--device", "--graph"],
        ),
        (
            ["features"],
            ["train --checkpoint", "--format", "parquet, or csv", "--images", "default: 50000"],
        ),
        (
            ["classify"],
            ["library-svc", "least-squares", "default: 10", "--search", "auto, rapids or"],
        ),
        (["verify"], ["--phase", "--images", "default: 100", "exits with 1"]),
        (["profile"], ["--phase", "Nsight", "emulator"]),
        (["bench"], ["--peer", "torch", "median", "--budget"]),
        (["book"], ["execute", "html", "make", "pdf", "zip"]),
        (["book", "execute"], ["--profile", "--force"]),
    ],
)
def test_help_tells_what_there_is(command, words):
    done = run(*command, "--help")
    assert done.returncode == 0
    for word in words:
        assert word in done.stdout


@pytest.fixture
def on_data(dataset):
    return ["--data", str(dataset.directory)]


def test_train_writes_a_checkpoint_and_a_record_and_resumes(on_data, tmp_path):
    checkpoint, out = tmp_path / "w.safetensors", tmp_path / "r.json"
    arguments = ["train", "--images", "6", "--test-images", "4", "--checkpoint", str(checkpoint)]
    done = run(*arguments, *on_data, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "synthetic stand-in" in done.stdout
    assert records.load(out).settings.images == 6
    assert "test (4 images): MSE" in done.stdout
    assert "memory: host peak" in done.stdout

    again = run(*arguments, *on_data)
    assert again.returncode == 1
    assert again.stderr.startswith("error: ") and "this checkpoint exists" in again.stderr
    resumed = run(*arguments, *on_data, "--resume", "--epochs", "2", "--out", str(out))
    assert resumed.returncode == 0, resumed.stderr
    assert len(records.load(out).epochs) == 2


@pytest.fixture(scope="module")
def weights(dataset, tmp_path_factory):
    """A checkpoint of the book's network, hardly trained."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    done = run(
        "train", "--images", "2", "--test-images", "0", "--checkpoint", str(path),
        "--data", str(dataset.directory), "--out", str(path.with_name("r.json")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(path)


@pytest.mark.parametrize(
    ("file_format", "images", "options", "told"),
    [
        ("parquet", 20, ["--search"], "RBF SVC"),
        ("csv", 10, ["--classifier", "least-squares", "--C", "3"], "RBF least squares"),
    ],
)
def test_images_are_classified_from_files_of_features(
    weights, on_data, tmp_path, file_format, images, options, told
):
    folder, out = tmp_path / "features", tmp_path / "r.json"
    done = run(
        "features", weights, str(folder), "--images", str(images), "--test-images", "10",
        "--format", file_format, "--batch-size", "10", *on_data,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "synthetic stand-in" in done.stdout
    assert f"{folder}/train.{file_format}: {images} images, " in done.stdout
    assert f"{folder}/test.{file_format}: 10 images, " in done.stdout
    assert {path.name for path in folder.iterdir()} == {f"{s}.{file_format}" for s in SPLITS}

    done = run("classify", str(folder), "--engine", "scikit-learn", *options, "--out", str(out))
    assert done.returncode == 0, done.stderr
    record = records.load(out)
    (result,) = record.results
    for words in (told, "8,192", tables.percent([result.test_accuracy])):
        assert words in done.stdout
    assert (result.train_images, result.test_images, result.dimensions) == (images, 10, 8192)
    assert (sum(map(sum, result.confusion)), len(result.confusion)) == (10, 10)
    assert record.parameters_digest == restore(weights)[0].digest()
    assert "--search" in options or result.settings.C == 3


def test_verify_passes_and_says_so(on_data, tmp_path):
    done = run("verify", "--images", "1", "--steps", "1", *on_data, "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1] == "passed"
    assert "gradient of conv5.biases" in done.stdout
    assert done.stdout.count("second run: the same bits") == len(PHASES)
    written = {path.name: records.load(path) for path in tmp_path.iterdir()}
    expected = {"gradients_cpu.json", *(f"verification_{phase}.json" for phase in PHASES)}
    assert set(written) == expected
    assert all(record.passed for record in written.values())


def test_a_cuda_phase_trains_and_is_profiled_without_a_gpu(on_data, tmp_path):
    out = tmp_path / "p.json"
    done = run(
        "profile", "--phase", "gpu-v1", "--device", "emulated", "--steps", "3", *on_data,
        "--out", str(out),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "conv2.conv2d_weight_gradient" in done.stdout
    assert "emulator" in records.load(out).device


def test_records_go_to_their_folder_by_default(on_data, tmp_path, monkeypatch):
    monkeypatch.setenv("AE_RECORDS_DIR", str(tmp_path))
    assert run("train", "--images", "1", "--test-images", "0", *on_data).returncode == 0
    assert records.load(tmp_path / "training_cpu-parallel.json").test is None


def test_data_info_tells_what_is_here_and_writes_nothing(on_data, tmp_path, monkeypatch):
    assert "synthetic stand-in" in run("data", "info", *on_data).stdout
    monkeypatch.setenv("AE_CACHE_DIR", str(tmp_path / "cache"))
    assert "none here" in run("data", "info").stdout
    assert not any(tmp_path.iterdir())


def test_bench_measures_both_cpu_phases(on_data, tmp_path):
    done = run(
        "bench", "--phase", "cpu", "--steps", "3", *on_data, "--out", str(tmp_path / "b.json")
    )
    assert done.returncode == 0, done.stderr
    record = records.load(tmp_path / "b.json")
    assert [step.name for step in record.steps] == ["cpu", "cpu-parallel"]
    assert all(step.n == 3 and step.low <= step.median <= step.high for step in record.steps)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--data", "/nowhere"], "error: /nowhere: expected a folder"),
        (["train", "--phase", "gpu-9"], "error: phase: expected one of cpu, cpu-parallel"),
        (
            ["train", "--learning-rate", "-1"],
            "error: learning_rate: Input should be greater",
        ),
        (["train", "--phase", "all"], "error: phase: expected one of"),
        (["train", "--out", "/proc/none/r.json"], "error: "),
        (["bench", "--peer", "torch", "--out", "/proc/none/r.json"], "error: "),
        (["train", "--checkpoint", "."], "error: .: expected a file's name, found a folder"),
        (["train", "--checkpoint", "/dev/null"], "error: /dev/null: can't be written: "),
        (["train", "--out", "/dev/full"], "error: /dev/full: can't be written: "),
        (["train", "--out", "."], "error: .: expected a file's name, found a folder"),
        (["train", "--data", "~nosuchuser/x"], "error: ~nosuchuser/x: expected a folder"),
        (["train", "--data", "/dev/null"], "error: /dev/null: expected a folder"),
        (["train", "--resume"], "error: --resume: expected --checkpoint"),
        (["train", "--epochs", "0"], "--epochs"),
        (["train", "--epochs", "many"], "--epochs"),
        (["train", "--images", "60000"], "images: expected at most 50,000"),
        (["features", "w", "f", "--format", "xlsx"], "error: --format: expected parquet or csv"),
        (["features", "w", "f", "--phase", "gpu-9"], "error: phase: expected one of"),
        (["features", "/nowhere/w.safetensors", "f"], "error: /nowhere/w.safetensors: "),
        (["features", "w", "f", "--images", "5"], "--images"),
        (["features", "w"], "Missing argument"),
        (["classify", "/nowhere"], "error: /nowhere: expected a folder with train.parquet"),
        (["classify", "f", "--classifier", "tree"], "error: classifier: Input should be 'svc'"),
        (["classify", "f", "--C", "0"], "error: C: Input should be greater than 0, found 0"),
        (["classify", "f", "--gamma", "nan"], "error: gamma: Input should be"),
        (["classify", "f", "--engine", "torch"], "error: engine: expected auto, rapids or"),
        (["classify", "f", "--out", "/proc/none/r.json"], "error: "),
        (["verify", "--phase", "gpu-9"], "error: phase: expected one of"),
        (["train", "--device", "tpu", "--phase", "gpu-v1"], "error: device: expected one of auto"),
        (["train", "--graph"], "error: graph: expected a phase whose steps"),
        (["bench", "--phase", "gpu-v2", "--device", "emulated"], "expected an NVIDIA GPU"),
        (["bench", "--peer", "jax"], "expected torch"),
        (["book", "execute", "--profile", "fast"], "profile 'fast': expected one of full, quick"),
        (["book", "execute", "99_none"], "unknown chapter 99_none"),
        (["nonsense"], "nonsense"),
    ],
)
def test_mistakes_are_told_in_a_sentence(dataset, arguments, told, tmp_path, monkeypatch):
    monkeypatch.setenv("AE_CIFAR10_DIR", str(dataset.directory))
    monkeypatch.setenv("AE_RECORDS_DIR", str(tmp_path))
    done = run(*arguments)
    assert done.returncode not in (0, 70)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stderr.startswith("error: ") or len(done.stderr.splitlines()) == 1


@pytest.fixture
def damaged(weights, tmp_path):
    """A checkpoint with a flipped bit."""
    content = bytearray(Path(weights).read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(content)
    return tmp_path / "damaged.safetensors"


def test_a_checkpoint_in_use_or_damaged_is_told_before_data_is_looked_for(damaged, tmp_path):
    arguments = ["train", "--data", "/nowhere", "--out", str(tmp_path / "r.json"), "--resume"]
    done = run(*arguments, "--checkpoint", str(damaged))
    assert done.stderr.startswith(f"error: {damaged}: expected the tensors and the state that were")
    with files.claimed(tmp_path / "w"):
        done = run(*arguments, "--checkpoint", str(tmp_path / "w"))
    assert done.stderr.startswith(f"error: {tmp_path}/w: another process is writing it")
    assert [path.name for path in tmp_path.iterdir()] == [damaged.name]


@pytest.mark.parametrize("command", ["train", "features"])
def test_a_full_disk_ends_in_one_line(weights, on_data, tmp_path, command):
    folder = tmp_path / "full"
    name = "w.safetensors" if command == "train" else "train.parquet"
    arguments = {
        "train": ["--images", "2", "--test-images", "0", "--checkpoint", str(folder / name),
                  "--out", str(tmp_path / "r.json")],
        "features": [weights, str(folder), "--images", "10", "--test-images", "10"],
    }  # fmt: skip

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = run(command, *arguments[command], *on_data, preexec_fn=limit)
    told = f"error: {folder / name}: can't be written: File too large: make room there"
    assert done.returncode == 1
    assert done.stderr.startswith(told) and len(done.stderr.splitlines()) == 1
    assert not any(folder.iterdir())


def test_ctrl_c_ends_cleanly_and_training_goes_on_later(on_data, tmp_path):
    checkpoint = tmp_path / "w.safetensors"
    arguments = ["train", "--images", "40", "--test-images", "0", "--epochs", "500", *on_data]
    # Tests that a shell started in the background ignore SIGINT, and their children would as well.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "ae_core", *arguments, "--checkpoint", str(checkpoint)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 100
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr == "interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
