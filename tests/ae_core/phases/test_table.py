"""What the table of phases says that a machine must have."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from ae_core import machine, phases
from ae_core.commands.options import selected
from ae_core.devices.emulated import EmulatedDevice
from ae_core.devices.kernels import DeviceError
from ae_core.errors import InputError
from ae_core.measuring.benchmark import timeable
from tests.conftest import SMALL


@pytest.mark.parametrize(
    ("capability", "device", "lacks"),
    [
        ("9.0", "auto", ""),
        ("8.0", "auto", r"a card for sm_90a, found Some Card \(sm_80\)"),
        ("8.0", "emulated", "a GPU, since the emulator can't run its kernels"),
        (None, "auto", "a GPU, since the emulator can't run its kernels"),
    ],
)
def test_a_phase_for_one_card_is_left_out_elsewhere(monkeypatch, capsys, capability, device, lacks):
    card = machine.Gpu("Some Card", "580", 2**36, capability) if capability else None
    monkeypatch.setattr(machine, "gpu", lambda: card)
    hopper = replace(phases.named("gpu-v2"), requires="sm_90a", emulated=False)
    monkeypatch.setitem(phases.PHASES, "gpu-hopper", hopper)
    assert re.fullmatch(lacks, phases.lacking("gpu-hopper", device))
    assert ("gpu-hopper" in selected("all", device)) == (lacks == "")
    assert ("gpu-hopper: left out: it needs a" in capsys.readouterr().out) == (lacks != "")
    assert ("gpu-hopper" in timeable()) == (capability == "9.0")
    assert ("gpu-v2" in timeable()) == (capability is not None)
    assert selected("gpu-hopper", device) == ["gpu-hopper"]  # asked for by name: told why not
    with pytest.raises(DeviceError, match="expected a GPU: the emulator can't run its kernels"):
        phases.create("gpu-hopper", SMALL, device=EmulatedDevice())


def test_one_image_is_not_spread_over_a_batch():
    for plan in (phases.create("cpu", SMALL, 3), phases.create("gpu-v1", SMALL, 3, "emulated")):
        with pytest.raises(
            InputError, match=r"expected shape \(3, 3, 8, 8\), found \(1, 3, 8, 8\)"
        ):
            plan.set_images(np.zeros((1, 3, 8, 8), np.float32))
