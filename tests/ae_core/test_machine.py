"""What the driver says of the card, in place of a driver."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Event
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from ae_core import machine
from ae_core.errors import InputError
from ae_core.records import provenance

H200 = machine.Gpu("NVIDIA H200", "580.1", 143771 * 2**20, "9.0")


def fail(code: int) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise pynvml.NVMLError(code)

    return call


@pytest.fixture
def driver(monkeypatch) -> list[str]:
    """A driver with one card; returns what was opened and closed."""
    calls: list[str] = []
    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: calls.append("init"),
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda _: H200.model,
        "nvmlSystemGetDriverVersion": lambda: H200.driver,
        "nvmlSystemGetCudaDriverVersion": lambda: 13010,
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=H200.memory_bytes),
        "nvmlDeviceGetCudaComputeCapability": lambda _: (9, 0),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    return calls


def test_the_gpu_is_what_the_driver_says(driver):
    assert machine.gpu() == provenance.current().gpu == H200
    assert machine.cuda_version() == 13
    assert driver == ["init", "shutdown"] * 3


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nvmlInit", pynvml.NVML_ERROR_LIBRARY_NOT_FOUND),
        ("nvmlInit", pynvml.NVML_ERROR_DRIVER_NOT_LOADED),
        ("nvmlDeviceGetHandleByIndex", pynvml.NVML_ERROR_INVALID_ARGUMENT),
    ],
)
def test_without_a_driver_or_a_card_there_is_no_gpu(driver, monkeypatch, name, error):
    monkeypatch.setattr(pynvml, name, fail(error))
    assert machine.gpu() is None
    assert driver in ([], ["init", "shutdown"])


def test_memory_that_the_driver_does_not_tell_is_0(driver, monkeypatch):
    not_supported = fail(pynvml.NVML_ERROR_NOT_SUPPORTED)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", not_supported)
    assert machine.gpu() == machine.Gpu(H200.model, H200.driver, 0, "9.0")


def test_without_the_library_there_is_no_gpu(driver, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert machine.gpu() is None
    assert machine.cuda_version() is None


def test_a_driver_that_never_answers_is_an_error_not_a_machine_without_a_gpu(driver, monkeypatch):
    answered = Event()
    monkeypatch.setattr(pynvml, "nvmlInit", answered.wait)
    monkeypatch.setattr(machine, "LONGEST", 0.01)
    with pytest.raises(InputError, match="NVIDIA driver: expected an answer, found none in"):
        machine.gpu()
    answered.set()
