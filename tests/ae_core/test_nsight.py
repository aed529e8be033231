from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest

from ae_book.showing import tables
from ae_core import phases
from ae_core.autoencoder import Autoencoder
from ae_core.devices.kernels import DeviceError
from ae_core.measuring import nsight
from ae_core.phases.feed import Feed
from tests.conftest import SMALL

HEAD = '"ID","Kernel Name","Grid Size","Metric Name","Metric Unit","Metric Value"'
KERNEL = '"void conv2d_gemm<0, 16, 16, 16, 4, 4>(const float *, int)","(64, 16, 1)"'
VALUES = {
    nsight.DURATION: "11,456",
    nsight.OCCUPANCY: "22.56",
    nsight.ARITHMETIC: "46.96",
    nsight.MEMORY: "49.83",
    nsight.REGISTERS: "116",
}
LINES = ["==PROF== Connected", "done", HEAD] + [
    f'"0",{KERNEL},"{metric}","unit","{value}"' for metric, value in VALUES.items()
]


def test_a_launch_is_read_from_its_lines_of_csv():
    (found,) = nsight.figures(LINES)
    assert found.kernel == "conv2d_gemm<0, 16, 16, 16, 4, 4>" and found.grid == "(64, 16, 1)"
    assert found.seconds == pytest.approx(11.456e-6)
    assert (found.occupancy, found.arithmetic) == (pytest.approx(0.2256), pytest.approx(0.4696))
    assert found.memory_traffic == pytest.approx(0.4983) and found.registers == 116


def test_what_ncu_sees_is_each_convolution_of_one_step(random):
    """However a phase calls its kernels."""
    autoencoder = Autoencoder(phases.create("cpu-parallel", SMALL, batch_size=2))
    autoencoder.take_from(Feed(autoencoder.device, random.random((2, 3, 8, 8), dtype=np.float32)))
    steps, calls = autoencoder.steps(2), []
    watched = [replace(s, run=lambda name=s.name: calls.append(name)) for s in steps]
    autoencoder.steps = lambda images: watched
    nsight.walk(autoencoder, lambda: calls.append("start"), lambda: calls.append("stop"))
    assert [name for name in calls if name not in ("start", "stop")] == [s.name for s in steps]
    seen = [calls[n + 1] for n, call in enumerate(calls) if call == "start"]
    assert seen == [s.name for s in steps if s.kind == "convolution"] and len(seen) == 14
    assert all(calls[n + 2] == "stop" for n, call in enumerate(calls) if call == "start")


@pytest.fixture
def ncu(monkeypatch):
    """Stand-ins for a GPU and for ncu, whose answer a test sets."""
    answer = subprocess.CompletedProcess([], 0, "\n".join(LINES), "")
    device = type("Device", (), {"name": "card", "kind": "gpu"})
    device.memory = lambda self: {"host": 1, "device": 2}
    monkeypatch.setattr(nsight, "available", lambda: True)
    monkeypatch.setattr(nsight, "open_device", lambda _: device())
    answer.commands = []

    def run(command, **_):
        answer.commands.append(command)
        return answer

    monkeypatch.setattr(nsight.subprocess, "run", run)
    return answer


def test_a_record_and_its_table(dataset, ncu):
    record = nsight.measure("gpu-v2", dataset, 32)
    assert (record.phase, record.batch_size, record.device_kind) == ("gpu-v2", 32, "gpu")
    assert ncu.commands[-1][-3:] == ["ae_core.measuring.nsight", "gpu-v2", "32"]
    (row,) = tables.kernels(record).to_dict("records")
    assert (row["us"], row["occupancy"], row["memory"]) == ("11.5", "23 %", "50 %")


@pytest.mark.parametrize(("code", "out"), [(1, "\n".join(LINES)), (0, "==ERROR== no permission")])
def test_what_ncu_says_when_it_fails_is_passed_on(dataset, ncu, code, out):
    ncu.returncode, ncu.stdout = code, out
    with pytest.raises(DeviceError, match=r"ncu failed: .*(116|no permission)"):
        nsight.measure("gpu-v2", dataset)


@pytest.mark.parametrize(
    ("line", "other"),
    [(-1, '"0",' + KERNEL + ',"another","unit","1"'), (-1, LINES[-1].replace("116", "n/a"))],
)
def test_an_answer_without_its_numbers_is_told_in_a_line(dataset, ncu, line, other):
    ncu.stdout = "\n".join([*LINES[:line], other])
    with pytest.raises(DeviceError, match=r"^ncu: expected .* found another answer") as caught:
        nsight.measure("gpu-v2", dataset)
    assert "\n" not in str(caught.value)


def test_an_ncu_that_can_not_be_run_is_told(dataset, monkeypatch, tmp_path):
    device = type("Device", (), {"name": "card"})
    monkeypatch.setattr(nsight, "open_device", lambda _: device())
    (tmp_path / "ncu").write_text("\x7fELF")
    (tmp_path / "ncu").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match=f"^{tmp_path}/ncu: can't be run .Exec format error."):
        nsight.measure("gpu-v2", dataset)


def test_without_ncu_it_says_where_to_get_it(dataset, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match=r"expected ncu.*CUDA toolkit"):
        nsight.measure("gpu-v2", dataset)
