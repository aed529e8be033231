"""Every instantiation that a phase launches compiles for old and new cards: no GPU needed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from ae_core import phases
from ae_core.devices import nvrtc
from ae_core.devices.kernels import DeviceError, KernelSource, altered, kernels_directory
from ae_core.measuring.profiling import CEILINGS
from ae_core.phases import gpu_elementwise

if sys.platform != "linux":
    pytest.skip("NVRTC comes for Linux", allow_module_level=True)

REGISTERS = {"conv_implicit_gemm.cu": 128}
"""Two blocks of 256 threads fit a processor (65,536 registers); elsewhere, four do."""
CUDA = [name for name, phase in phases.PHASES.items() if phase.cuda]
SOURCES = sorted(
    {CEILINGS, *(source for name in CUDA for source in phases.implementation(name).sources)},
    key=lambda source: source.file,
)
ARCHITECTURES = ("75", "80", "90", "90a")
ARGUMENTS = KernelSource("arguments.cu", ("line<float>", "line<bf16>", "count_up", "add", "reach"))
CLUSTERED = KernelSource("clustered.cu", ("clustered",), "90a")


@pytest.fixture
def folder(tmp_path) -> Path:
    """The kernels, and those of the tests."""
    shutil.copytree(kernels_directory(), tmp_path / "kernels")
    own = Path(__file__).parent / "kernels"
    return Path(shutil.copytree(own, tmp_path / "kernels", dirs_exist_ok=True))


def check(source: KernelSource, architecture: str, folder: Path | None = None) -> None:
    for name, usage in nvrtc.compile(source, architecture, folder).items():
        assert usage.spilled_bytes == 0, (name, usage)
        assert usage.registers <= REGISTERS.get(source.file, 64), (name, usage)


@pytest.mark.parametrize(
    ("source", "architecture"),
    [(s, a) for s in SOURCES for a in ARCHITECTURES if s.compiles_for(a)],
    ids=lambda value: getattr(value, "file", value),
)
def test_kernels_compile_within_registers_and_do_not_spill(source, architecture):
    check(source, architecture)


def test_every_source_compiles_for_some_architecture():
    assert all(any(map(source.compiles_for, ARCHITECTURES)) for source in SOURCES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bf16_structs_and_dynamic_shared_memory_compile_for_all(architecture, folder):
    check(ARGUMENTS, architecture, folder)


def test_static_shared_memory_is_told(folder):
    (folder / "a.cu").write_text(
        "__global__ void k(float* y) { __shared__ float x[300]; x[threadIdx.x] = y[threadIdx.x];"
        " __syncthreads(); y[threadIdx.x] = x[threadIdx.x ^ 1]; }\n"
        "__global__ void none(float* y) { y[0] = 1; }\n"
    )
    usage = nvrtc.compile(KernelSource("a.cu", ("k", "none")), "80", folder)
    assert [usage[name].shared_bytes for name in ("k", "none")] == [1200, 0]


def test_what_is_written_for_hopper_compiles_for_nothing_else(folder):
    check(CLUSTERED, "90a", folder)
    for architecture in ("80", "90"):
        told = rf"clustered\.cu: expected the architecture 90a, found {architecture}"
        with pytest.raises(DeviceError, match=told):
            nvrtc.compile(CLUSTERED, architecture, folder)


@pytest.mark.parametrize("first", ["sm_90", "sm_90a"])
def test_of_two_architectures_the_more_specific_is_taken(first):
    """CuPy adds the card's own to what a source asks for."""
    second = {"sm_90": "sm_90a", "sm_90a": "sm_90"}[first]
    code = "#ifdef __CUDA_ARCH_FEAT_SM90_ALL\n__global__ void k() {}\n#endif\n"
    program = nvrtc._program(code, ["k"])
    symbols, _ = program.compile([f"-arch={first}", f"-arch={second}"])
    assert list(symbols) == ["k"]


def test_an_error_of_compilation_names_file_line_and_message(folder):
    (folder / "a.cu").write_text("__global__ void k(float* y) {\n    y[0] = nonsense;\n}\n")
    with pytest.raises(DeviceError) as caught:
        nvrtc.compile(KernelSource("a.cu", ("k",)), "80", folder)
    assert str(caught.value).startswith("a.cu does not compile: ") and "a.cu(2)" in str(
        caught.value
    )
    assert "nonsense" in str(caught.value) and "\n" not in str(caught.value)


def test_without_nvrtc_it_is_told_what_to_install(monkeypatch):
    for name in ("cuda.bindings", "cupy", "cupy.cuda"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DeviceError, match=r"expected NVRTC.*install the extra nvrtc, or cuda13"):
        nvrtc.compile(CEILINGS, "80")


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
        check(source, "90", folder)


def test_what_no_card_can_hold_is_found():
    tiles_too_large = KernelSource(
        "conv_implicit_gemm.cu", ("conv2d_gemm<FORWARD, 32, 32, 16, 4, 4>",)
    )
    with pytest.raises(DeviceError, match="uses too much shared data"):
        nvrtc.compile(tiles_too_large, "90")


def test_every_phase_names_what_it_launches():
    assert gpu_elementwise.SOURCE in SOURCES
    assert {s.file for s in SOURCES} >= {
        "conv_basic.cu", "conv_batched.cu", "conv_implicit_gemm.cu", "bias_batched.cu",
    }  # fmt: skip
