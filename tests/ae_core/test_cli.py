from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ae_core import files, numbers, records
from ae_core.__main__ import main
from ae_core.measuring import verification
from ae_core.phases import PHASES
from ae_core.training.loop import restore

SPLITS = ("train", "test")
FILE = __file__


@dataclass
class Done:
    """What a call of the command line came to."""

    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str) -> Done:
    """Call the command line in this process."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        pytest.raises(SystemExit) as ended,
    ):
        patch.setenv("COLUMNS", "200")
        patch.setattr("warnings.formatwarning", None)  # which the command line replaces
        main(arguments)
    return Done(ended.value.code or 0, stdout.getvalue(), stderr.getvalue())


def spawned(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ae_core", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_command_line_is_a_program():
    done = spawned("data", "info", "--data", "/nowhere")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --data: expected an existing folder, found nothing: '/nowhere'\n"


def test_without_a_command_its_help_is_shown():
    done = run()
    assert done.returncode == 2
    assert "Commands" in done.stdout and done.stderr == ""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["data", "train", "features", "classify", "verify", "profile", "bench", "kernel"]),
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
        (["kernel"], ["operation", "--layer", "--compile-only", "--order", "Exits with 1"]),
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
    for words in (told, "8,192", numbers.mean_percent([result.test_accuracy])):
        assert words in done.stdout
    assert (result.train_images, result.test_images, result.dimensions) == (images, 10, 8192)
    assert (sum(map(sum, result.confusion)), len(result.confusion)) == (10, 10)
    assert record.parameters_digest == restore(weights)[0].digest()
    assert "--search" in options or result.settings.C == 3


def test_verify_passes_and_says_so(on_data, tmp_path, monkeypatch):
    """All phases and tensors; each in more depth is the matter of other tests."""
    check = verification.check_gradients

    def few(*arguments, **options):
        return check(*arguments, **options | {"per_tensor": 2})

    monkeypatch.setattr(verification, "check_gradients", few)
    done = run("verify", "--images", "1", "--steps", "0", *on_data, "--out", str(tmp_path))
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
        (["train", "--data", "/nowhere"], "error: --data: expected an existing folder"),
        (["train", "--phase", "gpu-9"], "error: --phase: expected one of cpu, cpu-parallel"),
        (
            ["train", "--learning-rate", "-1"],
            "error: --learning-rate: expected a finite number from 1e-38 to 1e+38, found -1",
        ),
        (["train", "--phase", "all"], "error: --phase: expected one of"),
        (["train", "--out", "/proc/none/r.json"], "error: "),
        (["bench", "--peer", "torch", "--out", "/proc/none/r.json"], "error: "),
        (
            ["train", "--checkpoint", "."],
            "error: --checkpoint: expected a file to write, found a folder",
        ),
        (
            ["train", "--checkpoint", "/dev/null"],
            "expected a file to write, found a device: '/dev/null'",
        ),
        (["train", "--out", "/dev/full"], "error: --out: expected a file to write, found a device"),
        (["train", "--out", "."], "error: --out: expected a file to write, found a folder"),
        (
            ["train", "--data", "~nosuchuser/x"],
            "error: --data: expected an existing folder, found n",
        ),
        (
            ["train", "--data", "/dev/null"],
            "error: --data: expected an existing folder, found a dev",
        ),
        (["train", "--resume"], "error: --resume: expected --checkpoint"),
        (["train", "--epochs", "0"], "error: --epochs: expected a whole number from 1"),
        (["train", "--epochs", "many"], "error: --epochs: expected a whole number from 1"),
        (["train", "--images", "60000"], "error: --images: expected a whole number from 1 to 50,0"),
        (["train", "--images", "5", "--batch-size", "6"], "error: batch_size: expected at most im"),
        (["features", ".", "f"], "error: checkpoint: expected an existing file, found a folder"),
        (["features", "/nowhere/w", "f"], "error: checkpoint: expected an existing file, found n"),
        (["features", FILE, "f"], f"error: {FILE}: "),
        (["features", FILE, "f", "--format", "xlsx"], "error: --format: expected one of parquet"),
        (["features", FILE, "f", "--phase", "gpu-9"], "error: --phase: expected one of"),
        (["features", FILE, "f", "--images", "5"], "error: --images: expected a whole number fro"),
        (["features", "w"], "error: Missing argument"),
        (["classify", "/nowhere"], "error: directory: expected an existing folder"),
        (["classify", "."], "error: .: expected train.parquet or train.csv"),
        (["classify", ".", "--classifier", "tree"], "error: --classifier: expected one of svc"),
        (["classify", ".", "--C", "0"], "error: --C: expected a finite number above 0"),
        (["classify", ".", "--gamma", "nan"], "error: --gamma: expected a finite number above 0"),
        (["classify", ".", "--engine", "torch"], "error: --engine: expected one of auto, rapids"),
        (["classify", ".", "--out", "/proc/none/r.json"], "error: "),
        (["verify", "--phase", "gpu-9"], "error: --phase: expected one of"),
        (["train", "--device", "tpu", "--phase", "gpu-v1"], "error: --device: expected one of au"),
        (["train", "--graph"], "error: graph: expected a phase whose steps"),
        (["bench", "--phase", "gpu-v2", "--device", "emulated"], "expected an NVIDIA GPU"),
        (["bench", "--peer", "jax"], "error: --peer: expected torch, found 'jax'"),
        (["nonsense"], "error: No such command 'nonsense'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(dataset, arguments, told, tmp_path, monkeypatch):
    monkeypatch.setenv("AE_CIFAR10_DIR", str(dataset.directory))
    monkeypatch.setenv("AE_RECORDS_DIR", str(tmp_path))
    done = run(*arguments)
    assert done.returncode in (1, 2)
    (line,) = done.stderr.splitlines()
    assert told in line


@pytest.fixture
def damaged(weights, tmp_path):
    """A checkpoint with a flipped bit."""
    content = bytearray(Path(weights).read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(content)
    return tmp_path / "damaged.safetensors"


def test_a_checkpoint_in_use_or_damaged_is_told_before_data_is_looked_for(damaged, tmp_path):
    arguments = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "r.json"), "--resume"]
    done = run(*arguments, "--checkpoint", str(damaged))
    assert done.stderr.startswith(f"error: {damaged}: expected the tensors and the state that were")
    with files.claimed(tmp_path / "w"):
        done = spawned(*arguments, "--checkpoint", str(tmp_path / "w"))
    assert done.stderr.startswith(f"error: {tmp_path}/w: another process is writing it")
    assert [path.name for path in tmp_path.iterdir()] == [damaged.name]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--out", "verification_cpu.json"],
        ["train", "--checkpoint", "new", "--out", "../{here}/new"],
        ["classify", ".", "--out", "verification_cpu.json"],
        ["profile", "--out", "verification_cpu.json"],
        ["bench", "--phase", "cpu", "--out", "verification_cpu.json"],
        ["verify", "--phase", "cpu", "--out", "."],
    ],
)
def test_a_record_never_takes_the_place_of_another_file(weights, tmp_path, monkeypatch, arguments):
    """Found out before the work, and before data is looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AE_CIFAR10_DIR", "/nowhere")
    content = Path(weights).read_bytes()
    Path("verification_cpu.json").write_bytes(content)
    done = run(*(argument.format(here=tmp_path.name) for argument in arguments))
    (line,) = done.stderr.splitlines()
    found = "expected a new file or an earlier record, found another file: name a new one"
    same = "error: --out: expected another file than --checkpoint, found the same: "
    assert line.startswith(same) or line == f"error: verification_cpu.json: {found}"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [
        ("verification_cpu.json", content)
    ]


@pytest.mark.parametrize("command", ["train", "features"])
def test_a_full_disk_ends_in_one_line(weights, on_data, tmp_path, full_at, command):
    folder = tmp_path / "full"
    name = "w.safetensors" if command == "train" else "train.parquet"
    arguments = {
        "train": ["--images", "2", "--test-images", "0", "--checkpoint", str(folder / name),
                  "--out", str(tmp_path / "r.json")],
        "features": [weights, str(folder), "--images", "100", "--test-images", "10"],
    }  # fmt: skip

    with full_at(1_000_000):  # compiled loops, which are kept, are smaller
        done = run(command, *arguments[command], *on_data)
    told = f"error: {folder / name}: can't be written: File too large: make room there"
    assert done.returncode == 1
    assert done.stderr.startswith(told) and len(done.stderr.splitlines()) == 1
    assert not any(folder.iterdir())


def test_ctrl_c_while_modules_are_imported_is_told_as_at_any_other_time(monkeypatch):
    class Interrupts:
        def find_spec(self, name, *_):
            if name == "ae_core.commands.program":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "ae_core.commands.program", raising=False)
    monkeypatch.delattr("ae_core.commands.program", raising=False)
    monkeypatch.setattr("sys.meta_path", [Interrupts(), *sys.meta_path])
    assert run("data", "info") == Done(130, "", "interrupted\n")


def test_the_entry_imports_little_before_it_can_tell_of_ctrl_c():
    words = (
        "import sys, ae_core.__main__; print(*{'numpy', 'typer', 'pydantic'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", words], text=True) == "\n"


def test_names_that_are_not_utf8_and_a_closed_stderr_lose_nothing(on_data, tmp_path):
    """From training to classes, with the real streams of a process."""
    weights, features, out = (tmp_path / os.fsdecode(n) for n in (b"w\xff", b"f\xff", b"r\xff"))
    calls = [
        ["train", "--images=2", "--test-images=2", "--out", out, *on_data, "--checkpoint", weights],
        ["features", weights, features, "--images=20", "--test-images=10", *on_data],
        ["classify", features, "--engine=scikit-learn", "--classifier=least-squares", "--out", out],
    ]
    for call in calls:
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "ae_core", *call]
        environment = os.environ | {"PYTHONIOENCODING": "utf8:strict"}
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=False)
        assert done.returncode == 0, done.stdout
    assert rf"record: {tmp_path}/r\udcff" in done.stdout.decode()
    assert r"f\udcff" in records.load(out).provenance.command


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
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr == "interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
