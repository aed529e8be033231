"""Every instantiation that a phase launches compiles for old and new cards: no GPU needed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from ae_core import phases
from ae_core.devices.kernels import KernelSource, altered, kernels_directory
from ae_core.measuring.profiling import CEILINGS
from ae_core.phases import gpu_elementwise

if sys.platform != "linux":
    pytest.skip("NVRTC comes for Linux", allow_module_level=True)
from cuda.bindings import nvrtc

REGISTERS = {"conv_implicit_gemm.cu": 128}
"""Two blocks of 256 threads fit a processor (65,536 registers); elsewhere, four do."""
CUDA = [name for name, phase in phases.PHASES.items() if phase.cuda]
SOURCES = sorted(
    {CEILINGS, *(source for name in CUDA for source in phases.implementation(name).sources)},
    key=lambda source: source.file,
)


def compile(
    source: KernelSource, architecture: str, folder: Path | None = None
) -> tuple[dict[str, bytes], str]:
    """Each instantiation's mangled name, and the compiler's report."""

    def done(result):
        error, *values = result
        assert error == nvrtc.nvrtcResult.NVRTC_SUCCESS, log() if program else error
        return values[0] if values else None

    def log():
        size = nvrtc.nvrtcGetProgramLogSize(program)[1]
        text = b" " * size
        nvrtc.nvrtcGetProgramLog(program, text)
        return text.decode()

    program = None
    code = f'#include "{source.file}"\n'.encode()
    program = done(nvrtc.nvrtcCreateProgram(code, b"kernels.cu", 0, [], []))
    for name in source.instantiations:
        done(nvrtc.nvrtcAddNameExpression(program, name.encode()))
    options = [
        f"-arch={architecture}", "-std=c++17", "--ptxas-options=-v",
        f"-I{folder or kernels_directory()}",
    ]  # fmt: skip
    done(nvrtc.nvrtcCompileProgram(program, len(options), [o.encode() for o in options]))
    names = {n: done(nvrtc.nvrtcGetLoweredName(program, n.encode())) for n in source.instantiations}
    return names, log()


def check(source: KernelSource, architecture: str, folder: Path | None = None) -> None:
    names, report = compile(source, architecture, folder)
    for name, mangled in names.items():
        pattern = rf"Function properties for {mangled.decode()}\n(.*)\n.*Used (\d+) registers"
        properties, registers = re.search(pattern, report).groups()
        assert "0 bytes spill stores, 0 bytes spill loads" in properties, (name, properties)
        assert int(registers) <= REGISTERS.get(source.file, 64), (name, registers)


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.file)
def test_kernels_compile_within_registers_and_do_not_spill(source, architecture):
    check(source, architecture)


@pytest.mark.parametrize(
    ("right", "wrong", "found"),
    [
        ("__launch_bounds__(THREADS)", "__launch_bounds__(1024, 2)", "spill"),
        ("constexpr int THREADS = 256", "constexpr int THREADS = 128", "<= 128"),
    ],
)
def test_registers_that_spill_or_are_too_many_are_found(right, wrong, found, tmp_path):
    """Fewer registers than the kernel needs; and half the threads, each with twice the loads."""
    folder = altered("conv_implicit_gemm.cu", right, wrong, tmp_path / "kernels")
    source = next(s for s in SOURCES if s.file == "conv_implicit_gemm.cu")
    with pytest.raises(AssertionError, match=found):
        check(source, "sm_90", folder)


def test_what_no_card_can_hold_is_found():
    tiles_too_large = KernelSource(
        "conv_implicit_gemm.cu", ("conv2d_gemm<FORWARD, 32, 32, 16, 4, 4>",)
    )
    with pytest.raises(AssertionError, match="uses too much shared data"):
        compile(tiles_too_large, "sm_90")


def test_every_phase_names_what_it_launches():
    assert gpu_elementwise.SOURCE in SOURCES
    assert {s.file for s in SOURCES} >= {
        "conv_basic.cu", "conv_batched.cu", "conv_implicit_gemm.cu", "bias_batched.cu",
    }  # fmt: skip
