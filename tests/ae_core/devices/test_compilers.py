"""The emulator with other compilers and on other processors: the same bits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ae_core import phases
from ae_core.autoencoder import Autoencoder
from ae_core.devices import native
from ae_core.devices.emulated import EmulatedDevice
from ae_core.devices.kernels import DeviceError, KernelSource, kernels_directory
from ae_core.phases.feed import Feed
from tests.ae_core.devices.test_whole_network import CUDA
from tests.conftest import SMALL

PROGRAM = Path(__file__).parent / "programs" / "orders.cpp"
ARM = ("aarch64-linux-gnu-g++", "qemu-aarch64")
CLANG = pytest.mark.skipif(not shutil.which("clang++"), reason="needs clang++")


def printed(compiler: str, into: Path, *flags: str, runtime=native.RUNTIME, runner=()) -> str:
    """What the program prints, compiled by this compiler; or how it ended."""
    program = into / "orders"
    sources = [PROGRAM, *(runtime / source.name for source in native.RUNTIME_SOURCES)]
    includes = (f"-I{kernels_directory()}", f"-I{runtime}")
    command = [compiler, *native.FLAGS, *flags, *includes, *map(str, sources), "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True)
    done = subprocess.run(
        [*runner, str(program)], cwd=into, capture_output=True, text=True, check=False
    )
    return done.stdout if not done.returncode else f"ended with {done.returncode}"


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> str:
    """What the program prints on this processor: 12 sums, the same in each order of warps."""
    lines = printed(native.compiler_command()[-1], tmp_path_factory.mktemp("native"))
    sums = [line.split(" ", 1) for line in lines.splitlines()]
    by_order = [[rest for order, rest in sums if order == wanted] for wanted in "012"]
    assert by_order[0] == by_order[1] == by_order[2] and len(set(by_order[0])) == 4
    return lines


def on_arm(into: Path, **options) -> str:
    for tool in ARM:
        if not shutil.which(tool):
            pytest.skip(f"needs {tool} (Debian: apt install g++-aarch64-linux-gnu qemu-user)")
    return printed(ARM[0], into, runner=(ARM[1], "-L", "/usr/aarch64-linux-gnu"), **options)


def test_arm_gives_the_same_bits(tmp_path, expected):
    assert on_arm(tmp_path) == expected


@pytest.mark.parametrize("lost", ["ldp d8,d9,[sp,#96]", "ldp x19,x20,[sp],#160", "ldp x29,x30"])
def test_a_register_that_the_switch_on_arm_loses_is_found(lost, tmp_path, expected):
    runtime = Path(shutil.copytree(native.RUNTIME, tmp_path / "emulator"))
    text = (runtime / "emulator.cpp").read_text()
    assert text.count(lost) == 1
    kept = {"ldp d8,d9,[sp,#96]": "nop", "ldp x29,x30": "ldp x9,x10"}.get(lost, "add sp,sp,#160")
    (runtime / "emulator.cpp").write_text(text.replace(lost, kept))
    assert on_arm(tmp_path, runtime=runtime) != expected


def test_processors_without_a_switch_of_their_own_give_the_same_bits(tmp_path, expected):
    compiler = native.compiler_command()[-1]
    assert printed(compiler, tmp_path, "-DEMULATOR_UCONTEXT") == expected


@CLANG
def test_clang_gives_the_same_bits(tmp_path, expected):
    assert printed("clang++", tmp_path) == expected


def path_with(folder: Path, **programs: str) -> str:
    """A folder that has these compilers under these names, and what they need."""
    folder.mkdir()
    for name, program in {**programs, "as": "as", "ld": "ld"}.items():
        (folder / name.replace("_", "+")).symlink_to(shutil.which(program))
    return str(folder)


def weights_after_a_step(phase: str) -> np.ndarray:
    device = EmulatedDevice()
    autoencoder = Autoencoder(phases.create(phase, SMALL, 2, device))
    images = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
    autoencoder.take_from(Feed(device, images))
    autoencoder.learning_rate = 0.01
    autoencoder.step()
    return np.concatenate([device.download(p).ravel() for p in autoencoder.parameters().values()])


@CLANG
@pytest.mark.parametrize(("name", "names"), [("clang__", CUDA), ("c__", CUDA[-1:])])
def test_where_there_is_only_clang_kernels_give_the_same_bits(name, names, tmp_path, monkeypatch):
    """All phases; under its other name, which tells it what to link, the last."""
    before = [weights_after_a_step(phase) for phase in names]
    monkeypatch.setenv("PATH", path_with(tmp_path / "bin", **{name: "clang++"}))
    monkeypatch.setenv("AE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CXX", raising=False)
    assert Path(native.compiler_command()[0]).name == name.replace("_", "+")
    for phase, expected in zip(names, before, strict=True):
        np.testing.assert_array_equal(weights_after_a_step(phase), expected)
    assert any((tmp_path / "cache" / "emulator").glob("*.so"))


def test_the_compiler_is_cxx_or_the_first_that_is_there(tmp_path, monkeypatch):
    folder = path_with(tmp_path / "bin", g__="sh", c__="sh", clang__="sh", mine="sh")
    monkeypatch.setenv("PATH", folder)
    monkeypatch.delenv("CXX", raising=False)
    for name in native.COMPILERS:
        assert native.compiler_command() == (f"{folder}/{name}",)
        Path(folder, name).unlink()
    with pytest.raises(DeviceError, match=r"with g\+\+, c\+\+ or clang\+\+, found none: install"):
        EmulatedDevice()
    monkeypatch.setenv("CXX", "mine --quick g++")
    assert native.compiler_command() == (f"{folder}/mine", "--quick", "g++")
    monkeypatch.setenv("CXX", "nothing")
    with pytest.raises(
        DeviceError, match=r"CXX: expected .* compiler, found 'nothing', which is no"
    ):
        EmulatedDevice()


def test_a_compiler_named_by_cxx_compiles(tmp_path, monkeypatch):
    log = tmp_path / "log"
    wrapper = tmp_path / "wrapped"
    compiler = native.compiler_command()[-1]
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {log}\nshift\nexec {compiler} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("CXX", f"{wrapper} -through")
    monkeypatch.setenv("AE_CACHE_DIR", str(tmp_path / "cache"))
    EmulatedDevice().load(KernelSource("bias_batched.cu", ("bias_add",)))
    assert all(line.startswith("-through ") for line in log.read_text().splitlines())
