"""The devices themselves: queues, errors, memory; the GPU's own errors with a stand-in for CuPy."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ae_core import files, machine, phases
from ae_core.devices import kernels, native
from ae_core.devices.emulated import WARP_ORDERS, EmulatedDevice, Event, Record, Wait
from ae_core.devices.kernel_device import open_device
from ae_core.devices.kernels import DeviceError, KernelSource, kernels_directory, listing
from ae_core.files import UnwritableError
from ae_core.measuring.profiling import CEILINGS
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the kernels, to damage."""
    return Path(shutil.copytree(kernels_directory(), tmp_path / "kernels"))


def double(device: EmulatedDevice, x: object) -> None:
    """x += x, by the update's kernel."""
    rate = device.empty((1,))
    device.upload(np.full(1, -1, np.float32), rate)
    phases.operations("gpu-v1", device).sgd(x, x, rate)


def test_auto_takes_the_emulator_only_where_there_is_no_gpu(monkeypatch):
    monkeypatch.setattr(machine, "gpu", lambda: None)
    assert open_device("auto").kind == "emulator"
    monkeypatch.setattr(machine, "gpu", lambda: machine.Gpu("card", "1", 1, "9.0"))
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"expected CuPy.*cuda13.*choose the device emulated"):
        open_device("auto")
    assert open_device("emulated").kind == "emulator"
    for choice in ("tpu", "cuda:", "cuda:x", "cuda1"):
        told = f"one of auto, cuda, emulated, or cuda:1 for the second GPU, found '{choice}'"
        with pytest.raises(DeviceError, match=told):
            open_device(choice)


def test_memory_is_counted_and_starts_as_nan():
    device = EmulatedDevice()
    x, y = device.empty((10, 10)), device.empty((5,))
    assert np.isnan(device.download(x)).all()
    assert device.memory().device_in_use == device.memory().device == 420
    del y
    assert (device.memory().device_in_use, device.memory().device) == (400, 420)


def test_a_library_is_built_once_and_again_when_a_header_changes(folder, cache, monkeypatch):
    def libraries() -> set[str]:
        return {path.name for path in cache.glob("bias_batched-*.so")}

    source = KernelSource("bias_batched.cu", ("bias_add",))
    EmulatedDevice(folder).load(source)
    before = libraries()
    monkeypatch.setenv("CPLUS_INCLUDE_PATH", "/nowhere")
    EmulatedDevice(folder).load(source)
    assert libraries() == before
    header = folder / "portable.cuh"
    header.write_text(header.read_text() + "// changed\n")
    EmulatedDevice(folder).load(source)
    assert len(libraries()) == len(before) + 1


def test_an_error_of_compilation_names_file_line_and_message(folder):
    path = folder / "bias_batched.cu"
    path.write_text(path.read_text().replace("sum = warp_sum(sum);", "sum = warp_som(sum);"))
    line = path.read_text().splitlines().index("    sum = warp_som(sum);") + 1
    with pytest.raises(DeviceError) as caught:
        EmulatedDevice(folder).load(KernelSource("bias_batched.cu", ("bias_sum<256>",)))
    assert f"bias_batched.cu:{line}:" in str(caught.value)
    assert "warp_som" in str(caught.value)
    assert "\n" not in str(caught.value)


SOURCE = KernelSource("bias_batched.cu", ("bias_add",))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Where libraries go: nothing is there yet."""
    monkeypatch.setenv("AE_CACHE_DIR", str(tmp_path / "cache"))
    native._own_folder.cache_clear()
    return tmp_path / "cache" / "emulator"


def adds(device: EmulatedDevice) -> bool:
    """Whether the kernel that the device has loaded works."""
    x, b = device.empty((1, 1, 2, 2)), device.empty((1,))
    device.upload(np.ones(x.shape), x)
    device.upload(np.ones(1), b)
    phases.operations("gpu-v1", device).bias_forward(x, b)
    return bool((device.download(x) == 2).all())


LOAD = """
import os, sys
from ae_core.devices.emulated import EmulatedDevice
from ae_core.devices.kernels import KernelSource
print(list(EmulatedDevice().load(KernelSource("bias_batched.cu", ("bias_add",)))))
"""


def loaded(**options) -> str:
    """What another process prints that loads SOURCE."""
    command = [sys.executable, "-c", LOAD]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, **options
    ).stdout


def test_a_damaged_library_is_never_loaded_and_built_anew(cache):
    """In other processes: the system keeps a library that it has loaded, whatever becomes of it.

    So it is with the compiled runtime, which is in every library.
    """
    assert loaded() == "['bias_add']\n"
    library, runtime = sorted(cache.iterdir())
    assert (library.suffix, runtime.suffix) == (".so", ".o")
    for path in (library, runtime):
        content = path.read_bytes()
        assert native._is_whole(path)
        for place in range(0, len(content), 5003):
            path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
            assert not native._is_whole(path)
        for length in (0, 1, 31, 32, 33, len(content) - 1, len(content) // 2):
            path.write_bytes(content[:length])
            assert not native._is_whole(path)
    assert loaded() == "['bias_add']\n"
    assert native._is_whole(library) and native._is_whole(runtime)


def compiler(folder: Path, text: str, mode: int = 0o755) -> dict[str, str]:
    """A g++ of these words, first on the PATH."""
    folder.mkdir()
    (folder / "g++").write_text(text)
    (folder / "g++").chmod(mode)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_of_two_at_once_one_builds_and_both_load(cache, tmp_path):
    real = shutil.which("g++")
    words = f'#!/bin/sh\necho "$@" >> {tmp_path}/log\nexec {real} "$@"\n'
    environment = os.environ | compiler(tmp_path / "bin", words)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD], env=environment, cwd=ROOT, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    assert [process.communicate()[0] for process in both] == [b"['bias_add']\n"] * 2
    calls = (tmp_path / "log").read_text().splitlines()
    assert len([call for call in calls if call != "--version"]) == 3
    assert sorted(path.suffix for path in cache.iterdir()) == [".o", ".so"]


def test_what_a_killed_build_left_is_gone_after_the_next(cache, tmp_path):
    """Also what g++ itself keeps for a while."""
    words = f"""#!/bin/sh
[ "$1" = --version ] && exec {shutil.which("g++")} "$@"
touch "$TMPDIR/cc1234.s"
echo $$
exec sleep 1000
"""
    code = LOAD.replace("import os, sys", "import subprocess\nfrom ae_core.devices import native")
    code = code.replace("print(", "native.subprocess = Loud\nprint(")
    code = (
        """
import subprocess as real
class Loud:
    DEVNULL = real.DEVNULL
    @staticmethod
    def run(command, **options):
        if "--version" in command:
            return real.run(command, **options)
        real.run(command, env=options["env"])
"""
        + code
    )
    environment = os.environ | compiler(tmp_path / "bin", words)
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    sleeper = int(process.stdout.readline())
    process.kill()
    process.wait()
    os.kill(sleeper, signal.SIGKILL)
    process.stdout.close()
    assert {path.name for path in cache.glob("*/*")} == {"cc1234.s"}
    EmulatedDevice().load(SOURCE)
    assert sorted(path.suffix for path in cache.iterdir()) == [".o", ".so"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("#!/bin/sh\necho 'g++: internal error: no' >&2; exit 4\n", "does not work .*error: no.:"),
        ("#!/bin/sh\nexit 1\n", r"does not work \(it said nothing\): install"),
        ("#!/nowhere\n", r"can't be run \(No such file or directory\): install"),
        ("\x7fELF", r"can't be run \(Exec format error\): install"),
        (
            "#!/bin/sh\n[ $1 = --version ] && exit\n"
            "printf 'In file\\nx.h:1:2: fatal error: cstdio: No such file\\nmore' >&2; exit 1\n",
            r"does not work \(x.h:1:2: fatal error: cstdio: No such file\): install",
        ),
        (
            "#!/bin/sh\n[ $1 = --version ] && exit\nexec kill -9 $$\n",
            r"does not work \(it said nothing\): install",
        ),
        (
            "#!/bin/sh\nexit 0\n",
            r"expected a compiled file, found that it wrote nothing: install",
        ),
    ],
)
def test_a_compiler_that_fails_is_told_in_a_line(cache, tmp_path, monkeypatch, words, told):
    found = compiler(tmp_path / "bin", words)
    monkeypatch.setenv("PATH", found["PATH"])
    with pytest.raises(DeviceError, match=f"^{tmp_path}/bin/g.+: {told}") as caught:
        EmulatedDevice().load(SOURCE)
    assert "\n" not in str(caught.value)
    assert not cache.exists() or not any(cache.iterdir())


def test_a_compiler_that_may_not_be_executed_is_none(tmp_path, monkeypatch):
    compiler(tmp_path / "bin", "#!/bin/sh\n", mode=0o644)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DeviceError, match=r"g\+\+, found none: install it"):
        EmulatedDevice()


def test_where_the_cache_can_not_be_written_each_run_compiles_for_itself(cache, monkeypatch):
    cache.parent.write_text("a file, not a folder")
    told = rf"^{cache}: can't be written: .*Not a directory.* AE_CACHE_DIR\. Until then each run"
    with pytest.warns(UserWarning, match=told) as warned:
        assert adds(EmulatedDevice())
        monkeypatch.setenv("CPLUS_INCLUDE_PATH", "/nowhere")
        assert adds(EmulatedDevice())
    assert len(warned) == 1
    assert cache.parent.read_text() == "a file, not a folder"


def test_its_own_libraries_are_gone_when_a_run_ends(cache):
    """In a folder for temporary files whose path is short enough, however long pytest's own is."""
    cache.parent.write_text("")
    command = [sys.executable, "-c", LOAD + "print(os.listdir(os.environ['TMPDIR']))"]
    with files.scratch() as folder:
        environment = os.environ | {"TMPDIR": str(folder)}
        done = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "ae-draft" in done.stdout
        assert not any(folder.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        'for last; do :; done; echo rubbish > "$last"',
        # A library, but of no kernels.
        f'for last; do :; done; echo | {shutil.which("g++")} -xc++ -shared - -o "$last"',
    ],
)
def test_what_is_no_library_is_told_and_never_kept(cache, tmp_path, monkeypatch, words):
    with monkeypatch.context() as patch:
        lying = f"#!/bin/sh\n[ $1 = --version ] && exec {shutil.which('g++')} $1\n{words}\n"
        patch.setenv("PATH", compiler(tmp_path / "bin", lying)["PATH"])
        for _ in range(2):
            with pytest.raises(DeviceError, match=r"\.so: compiled, but can't .*install g\+\+"):
                EmulatedDevice().load(SOURCE)
            assert not any(cache.iterdir())
    assert loaded() == "['bias_add']\n"


@pytest.mark.parametrize(
    "said",
    [
        "as: error: can't write: No space left on device",
        "as: error: File size limit exceeded signal terminated program as",
    ],
)
def test_a_full_disk_while_compiling_is_told_as_such(cache, tmp_path, monkeypatch, said):
    """In the cache, and then in the temporary folder as well."""
    words = f'#!/bin/sh\n[ $1 = --version ] && exit\necho "{said}" >&2; exit 1\n'
    monkeypatch.setenv("PATH", compiler(tmp_path / "bin", words)["PATH"])
    with (
        pytest.warns(UserWarning, match=rf"^{cache}: .*{said}.* {native.CACHE_VARIABLE}"),
        pytest.raises(UnwritableError, match=r"^/[^:]*: can't be written: as: .*: make room there"),
    ):
        EmulatedDevice().load(SOURCE)


def test_a_library_that_may_not_be_executed_is_told(cache, monkeypatch):
    """As on a file system without that right."""

    def refuse(path):
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(native.ctypes, "CDLL", refuse)
    with pytest.raises(DeviceError, match=r"\.so: compiled, but can't be loaded .*AE_CACHE_DIR"):
        EmulatedDevice().load(SOURCE)


def test_without_a_compiler_the_emulator_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DeviceError, match=r"g\+\+, found none: install it"):
        EmulatedDevice()


def test_a_grid_that_no_gpu_takes_is_refused():
    device = EmulatedDevice()
    kernel = device.load(KernelSource("bias_batched.cu", ("bias_add",)))["bias_add"]
    x = device.empty((1,))
    with pytest.raises(DeviceError, match="65535"):
        device.launch(kernel, (1, 70000, 1), (32, 1, 1), (x, x, 1, 1))
    with pytest.raises(DeviceError, match="1 to 1024 threads"):
        device.launch(kernel, (1, 1, 1), (1025, 1, 1), (x, x, 1, 1))
    with pytest.raises(DeviceError, match=r"expected 4 arguments \(y, .*, parts\), found 2"):
        device.launch(kernel, (1, 1, 1), (32, 1, 1), (x, 1))


def test_a_graph_is_not_executed_when_captured_and_as_often_as_replayed():
    device = EmulatedDevice()
    x = device.empty((3,))
    device.upload(np.ones(3), x)
    replay = device.capture(lambda: double(device, x))
    np.testing.assert_array_equal(device.download(x), 1)
    replay()
    replay()
    np.testing.assert_array_equal(device.download(x), 4)


SHUFFLES = """
#include "portable.cuh"
__global__ void missing_lanes(float* y) {
    y[threadIdx.x] = __shfl_down_sync(0xffffffffu, float(threadIdx.x), 4);
}
__global__ void finished_lanes(float* y) {
    if (threadIdx.x >= 16) return;
    y[threadIdx.x] = __shfl_down_sync(0xffffffffu, float(threadIdx.x), 4);
}
"""


@pytest.mark.parametrize(("kernel", "threads"), [("missing_lanes", 16), ("finished_lanes", 32)])
@pytest.mark.parametrize("order", WARP_ORDERS)
def test_a_lane_that_is_not_there_gives_nan(folder, kernel, threads, order):
    (folder / "shuffles.cu").write_text(SHUFFLES)
    device = EmulatedDevice(folder, order)
    kernels = device.load(KernelSource("shuffles.cu", ("missing_lanes", "finished_lanes")))
    y = device.empty((32,))
    device.launch(kernels[kernel], (1, 1, 1), (threads, 1, 1), (y,))
    np.testing.assert_array_equal(y[:12], np.arange(4, 16))
    assert np.isnan(y[12:16]).all()


def test_random_order_takes_turns_in_other_orders_each_time(folder):
    (folder / "turns.cu").write_text(
        '#include "portable.cuh"\n'
        "__global__ void turns(float* counter, float* y)"
        " { y[blockIdx.x * 64 + threadIdx.x] = counter[0]++; }\n"
    )
    device = EmulatedDevice(folder, "random")
    (kernel,) = device.load(KernelSource("turns.cu", ("turns",))).values()
    seen = set()
    for _ in range(4):
        counter, y = device.empty((1,)), device.empty((192,))
        device.upload(np.zeros(1), counter)
        device.launch(kernel, (3, 1, 1), (64, 1, 1), (counter, y))
        seen.add(tuple(y))
    assert len(seen) == 4 and tuple(range(192)) not in seen


def test_the_ceilings_kernels_do_what_they_say():
    device = EmulatedDevice()
    kernels = device.load(CEILINGS)
    x, y = device.empty((4096,)), device.empty((4096,))
    device.upload(np.arange(4096), x)
    device.launch(kernels["copy"], (1, 1, 1), (256, 1, 1), (x, y))
    np.testing.assert_array_equal(y, x)
    device.launch(kernels["multiply_add"], (16, 1, 1), (256, 1, 1), (y, 0.5, 10))
    np.testing.assert_allclose(y, 16, rtol=1e-5)  # eight chains that tend to 1 / (1 - 0.5)


def test_a_batch_may_have_more_images_than_a_grid_is_deep():
    device = EmulatedDevice()
    y, biases = device.empty((65_537, 1, 1, 1)), device.empty((1,))
    device.upload(np.ones(y.shape), y)
    device.upload(np.ones(1), biases)
    phases.operations("gpu-v2", device).bias_forward(y, biases)
    np.testing.assert_array_equal(device.download(y), 2)


def test_streams_that_wait_for_each_other_are_found_out():
    device = EmulatedDevice()
    (stream,) = device.side_streams(1)
    (event, other) = Event(), Event()
    for queue, first, second in ((stream, event, other), (device._main, other, event)):
        device._queue(queue, Wait(first))
        device._queue(queue, Record(second))
    with pytest.raises(DeviceError, match="nothing can run"):
        device.wait(event)
    with pytest.raises(DeviceError, match="nothing can run"):
        device.synchronize()


def test_a_listing_is_one_function_with_its_comment():
    text = listing("conv_basic.cu", "correlate")
    assert text.startswith("// y (+)=") and text.endswith("}")
    assert "correlate_gradient" not in text
    with pytest.raises(DeviceError, match="expected a function nonsense"):
        listing("conv_basic.cu", "nonsense")


class Cuda:
    """As much of CuPy as opening a device, allocating, loading and launching need."""

    class CUDARuntimeError(RuntimeError):
        pass

    class OutOfMemoryError(MemoryError):
        pass

    def __init__(self, count=1, capability=(9, 0), driver=13000, runtime=13000, failure=None):
        def get_device_count():
            if failure:
                raise self.CUDARuntimeError(failure)
            return count

        def refuse(*_):
            raise self.OutOfMemoryError

        major, minor = capability
        self.current, self.launched = [0], []
        self.runtime = types.SimpleNamespace(
            CUDARuntimeError=self.CUDARuntimeError,
            getDeviceCount=get_device_count,
            getDeviceProperties=lambda index: {
                "name": b"Some Card",
                "major": major,
                "minor": minor,
                "sharedMemPerBlockOptin": 101_376,
            },
            driverGetVersion=lambda: driver,
            runtimeGetVersion=lambda: runtime,
            memGetInfo=lambda: (5 * 2**20, 2**31),
        )
        self.driver = types.SimpleNamespace(launchKernel=self.launch)
        self.memory = types.SimpleNamespace(OutOfMemoryError=self.OutOfMemoryError)
        self.compiler = types.SimpleNamespace(CompileException=SyntaxError)
        self.MemoryPool = lambda: types.SimpleNamespace(malloc=refuse)
        self.Event = lambda **_: None
        self.Stream = lambda **_: Stream()
        self.Device = lambda index: Card(self, index)
        self.using_allocator = lambda _: Stream()
        self.empty = refuse

    def launch(self, function, *rest):
        """Reads three arguments of 8 bytes, as the driver would."""
        *_, shared_bytes, _, parameters, _ = rest
        addresses = (ctypes.c_void_p * 3).from_address(parameters)
        slots = [ctypes.c_uint64.from_address(address).value for address in addresses]
        self.launched.append((self.current[-1], slots, shared_bytes))

    def module(self):
        function = types.SimpleNamespace(
            kernel=types.SimpleNamespace(ptr=2),
            shared_size_bytes=1024,
            max_dynamic_shared_size_bytes=None,
        )
        raw = types.SimpleNamespace(get_function=lambda name: function)
        return types.SimpleNamespace(cuda=self, empty=self.empty, RawModule=lambda **_: raw)


class Card:
    """CuPy's current device, within its context."""

    def __init__(self, cuda, index):
        self.cuda, self.index = cuda, index

    def __enter__(self):
        self.cuda.current.append(self.index)

    def __exit__(self, *_):
        self.cuda.current.pop()


class Stream:
    ptr = 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class CardArray:
    """As much of a CuPy array as a launch looks at."""

    shape, strides = (2,), (8,)

    def __init__(self, address, dtype="float32", in_order=True):
        self.data = types.SimpleNamespace(ptr=address)
        self.dtype, self._c_contiguous = np.dtype(dtype), in_order


def test_an_unknown_order_or_system_is_refused(monkeypatch):
    with pytest.raises(DeviceError, match="order: expected one of forward, reverse, random"):
        EmulatedDevice(order="sideways")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(DeviceError, match=r"runs on Linux.*found darwin"):
        EmulatedDevice()


@pytest.mark.parametrize(
    ("cuda", "told"),
    [
        (Cuda(failure="cudaErrorInsufficientDriver"), r"driver is missing, too old.*nvidia-smi"),
        (Cuda(count=0), "expected an NVIDIA GPU, found none"),
        (Cuda(driver=12080), r"expected a driver for CUDA 13, found one for CUDA 12\.8.*cuda12"),
        (Cuda(capability=(7, 0)), r"Some Card: expected compute capability 7\.5.*found 7\.0"),
    ],
)
def test_a_gpu_that_cant_be_used_says_why(monkeypatch, cuda, told):
    monkeypatch.setitem(sys.modules, "cupy", cuda.module())
    with pytest.raises(DeviceError, match=told):
        open_device("cuda")


@pytest.mark.parametrize(("count", "expected"), [(1, "cuda:0"), (4, "cuda:0 to cuda:3")])
def test_a_gpu_that_is_not_there_says_which_are(monkeypatch, count, expected):
    monkeypatch.setitem(sys.modules, "cupy", Cuda(count).module())
    with pytest.raises(DeviceError, match=f"device: expected {expected}, found cuda:4"):
        open_device("cuda:4")


@pytest.mark.parametrize("choice", ["cuda", "cuda:1"])
def test_a_launch_is_checked_and_laid_out_as_its_kernel_declares(monkeypatch, choice):
    """On the card that was asked for; and nothing of a launch before it is left in the slots."""
    cuda = Cuda(count=2)
    monkeypatch.setitem(sys.modules, "cupy", cuda.module())
    device = open_device(choice)
    relu = device.load(KernelSource("elementwise.cu", ("relu_forward",)))["relu_forward"]
    x, y = CardArray(1000), CardArray(2000)
    device.launch(relu, (1, 1, 1), (1, 1, 1), (x, y, -3))
    for args, told in (
        ((x, y), r"relu_forward: expected 3 arguments \(x, y, count\), found 2"),
        ((x, y, 3.5), r"relu_forward: argument 2 \(count\): expected an int64, found 3\.5"),
        ((x, CardArray(9, "int32"), 3), r"argument 1 \(y\): expected .* float32 .* of int32"),
        ((x, CardArray(9, in_order=False), 3), r"argument 1 \(y\): expected a C-ordered float32"),
        ((x, np.zeros(2, "f4"), 3), r"argument 1 \(y\): .* found a numpy\.ndarray of float32"),
    ):
        with pytest.raises(DeviceError, match=told):
            device.launch(relu, (1, 1, 1), (1, 1, 1), args)
    device.launch(relu, (1, 1, 1), (1, 1, 1), (x, 4000, 5), shared_bytes=100_352)
    card = 1 if choice == "cuda:1" else 0
    assert cuda.launched == [(card, [1000, 2000, 2**64 - 3], 0), (card, [1000, 4000, 5], 100_352)]
    assert device.launches == 2 and cuda.current == [0]
    assert relu.function.max_dynamic_shared_size_bytes == 100_352
    with pytest.raises(DeviceError, match=r"at most 100,352 bytes of .* Some Card, found 100,353"):
        device.launch(relu, (1, 1, 1), (1, 1, 1), (x, y, 5), shared_bytes=100_353)


def test_prepared_launches_are_laid_out_once_and_queued_as_often_as_called(monkeypatch):
    """Each with arguments of its own, and not one while they are prepared."""
    cuda = Cuda()
    monkeypatch.setitem(sys.modules, "cupy", cuda.module())
    device = open_device("cuda")
    relu = device.load(KernelSource("elementwise.cu", ("relu_forward",)))["relu_forward"]

    def work():
        for count in (3, 4):
            device.launch(relu, (1, 1, 1), (1, 1, 1), (1000, 2000, count))

    queue = device.prepare(work)
    assert (cuda.launched, device.launches) == ([], 0)
    queue()
    device.launch(relu, (1, 1, 1), (1, 1, 1), (1000, 2000, 5))
    queue()
    counts = [arguments[2] for _, arguments, _ in cuda.launched]
    assert (counts, device.launches) == ([3, 4, 5, 3, 4], 5)
    with pytest.raises(DeviceError, match="expected 3 arguments"):
        device.prepare(lambda: device.launch(relu, (1, 1, 1), (1, 1, 1), (1000,)))
    with pytest.raises(DeviceError, match="launches on the main stream alone, found side streams"):
        device.prepare(lambda: device.fork([]))
    device.launch(relu, (1, 1, 1), (1, 1, 1), (1000, 2000, 6))  # as ever after one that failed
    assert cuda.launched[-1][1] == [1000, 2000, 6]


def test_the_emulator_prepares_as_strictly_as_a_card():
    """A number that changes afterwards is not seen, and nothing but launches is taken."""
    device = EmulatedDevice()
    x, rate = device.empty((4,)), device.empty((1,))
    device.upload(np.ones(4, np.float32), x)
    device.upload(np.full(1, -1, np.float32), rate)
    sgd = device.load(KernelSource("elementwise.cu", ("sgd",)))["sgd"]
    count = 2
    queue = device.prepare(lambda: device.launch(sgd, (1, 1, 1), (32, 1, 1), (x, x, rate, count)))
    assert (device.launches, list(x)) == (0, [1, 1, 1, 1])
    count = 4
    queue()
    queue()
    assert (device.launches, list(x)) == (2, [4, 4, 1, 1])
    (side,) = device.side_streams(1)
    for work in (
        lambda: device.copy(x, x),
        lambda: device.fork([side]),
        lambda: device.launch(sgd, (1, 1, 1), (32, 1, 1), (x, x, rate, 4), side),
    ):
        with pytest.raises(DeviceError, match="prepare: expected launches on the main stream"):
            device.prepare(work)


@pytest.mark.parametrize(
    ("capability", "architecture", "runs"),
    [
        *[((9, 0), architecture, True) for architecture in (None, "75", "80", "90", "90a")],
        *[
            ((8, 0), architecture, architecture in {None, "80"})
            for architecture in (None, "80", "90a")
        ],
        ((10, 0), "90a", False),
        ((10, 0), "90", True),
        ((12, 0), "100a", False),
    ],
)
def test_kernels_for_another_card_are_refused(monkeypatch, capability, architecture, runs):
    monkeypatch.setitem(sys.modules, "cupy", Cuda(capability=capability).module())
    device, source = open_device("cuda"), KernelSource("elementwise.cu", ("sgd",), architecture)
    if runs:
        assert list(device.load(source)) == ["sgd"]
    else:
        told = rf"elementwise\.cu: expected a card for sm_{architecture}, found Some Card \(sm_"
        with pytest.raises(DeviceError, match=told):
            device.load(source)


def test_a_full_card_says_how_much_is_free(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", Cuda().module())
    with pytest.raises(DeviceError, match=r"Some Card: expected 10 MiB.*found 5 of 2,048 MiB"):
        open_device("cuda").empty((10, 2**18))


def test_compiler_output_is_cut_to_its_first_error():
    log = "\nnote\na.cu(4): warning: x\n b.cu(3): error: no such thing\nc.cu(5): error: y\n"
    assert kernels.compiler_error(log) == "b.cu(3): error: no such thing"
    assert kernels.compiler_error("killed\n") == "killed"
    assert kernels.compiler_error("a note\n\0ptxas error : no\n\0") == "ptxas error : no"
    assert kernels.compiler_error("\n") == "it said nothing"
