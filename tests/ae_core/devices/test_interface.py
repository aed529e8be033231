"""What phases ask of a device that runs kernels: the same tests on the emulator and on a GPU."""

from __future__ import annotations

import ctypes
import re
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from ae_core import machine, phases
from ae_core.devices.emulated import WARP_ORDERS, EmulatedDevice
from ae_core.devices.kernel_device import open_device
from ae_core.devices.kernels import DeviceError, KernelSource, kernels_directory
from ae_core.devices.signature import ELEMENTS, Parameter, Signature, read
from ae_core.measuring.profiling import CEILINGS

GPU = ["gpu"] if machine.gpu() else []
KERNELS = Path(__file__).parent / "kernels"
BF16 = np.dtype(ml_dtypes.bfloat16)
SOURCE = KernelSource("arguments.cu", ("line<float>", "line<bf16>", "count_up", "add", "reach"))
ONE = (1, 1, 1)


class Line(ctypes.Structure):
    _fields_ = (
        ("slope", ctypes.c_float),
        ("intercept", ctypes.c_float),
        ("start", ctypes.c_int64),
        ("steps", ctypes.c_int * 3),
    )


LINE = Line(2, 0.5, 2**40, (7, 3, -2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The kernels, and those of the tests."""
    folder = tmp_path_factory.mktemp("sources") / "kernels"
    shutil.copytree(kernels_directory(), folder)
    shutil.copytree(KERNELS, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(params=[*WARP_ORDERS, *GPU])
def device(request, folder):
    if request.param == "gpu":
        return open_device("cuda", folder)
    return EmulatedDevice(folder, request.param)


def put(device, values, dtype=np.float32):
    host = np.asarray(values, dtype)
    array = device.empty(host.shape, host.dtype)
    device.upload(host, array)
    return array


# Memory


@pytest.mark.parametrize("dtype", ELEMENTS, ids=str)
def test_every_dtype_comes_back_as_it_went(device, dtype):
    host = np.arange(1, 25).astype(dtype).reshape(2, 3, 4)
    array, other = device.empty(host.shape, dtype), device.empty((24,), dtype)
    device.upload(host, array)
    device.copy(array, other)
    for back in (device.download(array), device.download(other).reshape(host.shape)):
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, host)
    part = array[1].reshape(-1)[4:8]
    np.testing.assert_array_equal(device.download(part), host[1, 1])
    device.upload(host[0, 0], part)
    np.testing.assert_array_equal(device.download(array)[1, 1], host[0, 0])


def test_memory_that_nobody_wrote_shows_on_the_emulator():
    device = EmulatedDevice()
    for dtype in ELEMENTS:
        for array in (
            device.empty((2, 3), dtype),
            device.empty((), dtype),
            device.pinned(3, dtype),
        ):
            if np.issubdtype(dtype, np.integer):
                assert set(array.tobytes()) == {0xA5}
            else:
                assert np.isnan(array.astype(np.float32)).all()


def test_other_dtypes_are_refused(device):
    told = "dtype: expected one of float32, bfloat16, uint8, int32, uint32, int64, found float64"
    for allocate in (device.empty, device.pinned):
        with pytest.raises(DeviceError, match=told):
            allocate((1,), np.float64)


def test_copies_between_arrays_that_differ_are_refused(device):
    x = device.empty((4, 2))
    for other, told in (
        (device.empty((7,)), "expected 7 elements of float32, found 8 of float32"),
        (device.empty((8,), np.int32), "expected 8 elements of int32, found 8 of float32"),
        (device.empty((2, 8))[:, :4], "expected C-ordered arrays, found strides"),
    ):
        with pytest.raises(DeviceError, match=f"copy: {told}"):
            device.copy(x, other)
        with pytest.raises(DeviceError, match=f"copy: {told}"):
            device.upload_async(device.pinned((4, 2)), other)


# Arguments


@pytest.mark.parametrize(("kernel", "dtype"), [("line<float>", np.float32), ("line<bf16>", BF16)])
def test_bf16_a_struct_and_dynamic_shared_memory(device, kernel, dtype):
    x = np.arange(100, dtype=np.float32).astype(dtype)
    y = put(device, np.zeros(100), BF16)
    args = (put(device, x, dtype), y, LINE, 96, 0.25)
    itemsize = np.dtype(dtype).itemsize
    device.launch(
        device.load(SOURCE)[kernel], (3, 1, 1), (32, 1, 1), args, shared_bytes=32 * itemsize
    )
    found = device.download(y)
    expected = 2 * x[:96].astype(np.float32).reshape(3, 32)[:, ::-1].ravel() + 0.75
    np.testing.assert_array_equal(found[:96], expected.astype(BF16))
    np.testing.assert_array_equal(found[96:], 0)


@pytest.mark.parametrize("line", [LINE, bytes(LINE), np.void(bytes(LINE))], ids=type)
def test_integers_of_all_sizes_and_structs_of_all_spellings(device, line):
    numbers, offsets = device.empty((5,), np.int32), device.empty((5,), np.int64)
    words = device.empty((5,), np.uint32)
    args = (put(device, [1, 2, 3, 4, 255], np.uint8), numbers, words, offsets, line, -(2**31))
    device.launch(device.load(SOURCE)["count_up"], ONE, (5, 1, 1), args)
    np.testing.assert_array_equal(device.download(numbers), -(2**31) + 3 * np.arange(5))
    np.testing.assert_array_equal(device.download(offsets), 2**40 - 2 * np.arange(5))
    np.testing.assert_array_equal(device.download(words), 2**32 - 256 + np.array([1, 2, 3, 4, 255]))


def test_views_and_addresses_are_arguments(device):
    x, y = put(device, np.arange(12).reshape(3, 4)), put(device, np.zeros((3, 4)))
    add = device.load(SOURCE)["add"]
    device.launch(add, ONE, (32, 1, 1), (x[1:], y.reshape(-1)[4:8], 4))
    device.launch(add, ONE, (32, 1, 1), (device.address(x) + 8, device.address(y) + 32, 2))
    np.testing.assert_array_equal(device.download(y), [[0, 0, 0, 0], [4, 5, 6, 7], [2, 3, 0, 0]])


def test_arguments_that_do_not_fit_are_refused_by_name(device):
    kernels = device.load(SOURCE)
    x, y, n = device.empty((4, 4)), device.empty((4, 4)), 16
    other, host = device.empty((4,), np.int32), object()
    line = (device.empty((4,), BF16), device.empty((4,), BF16))
    launches = device.launches
    for kernel, args, told in (
        ("add", (), "add: expected 3 arguments (x, y, count), found 0"),
        ("add", (x, y), "add: expected 3 arguments (x, y, count), found 2"),
        ("add", (x, y, n, n), "add: expected 3 arguments (x, y, count), found 4"),
        ("add", (x, y, 3.5), "argument 2 (count): expected an int, found 3.5"),
        ("add", (x, y, np.float64(3)), "argument 2 (count): expected an int, found"),
        ("add", (x, y, 2**31), "argument 2 (count): expected an int, found 2147483648"),
        ("add", (x, y, x), "argument 2 (count): expected an int, found a "),
        ("add", (x, y, None), "argument 2 (count): expected an int, found None"),
        ("add", (x, other, n), "argument 1 (y): expected a C-ordered float32 array of this device"),
        ("add", (x, y.T, n), "argument 1 (y): expected a C-ordered float32 array of this device"),
        ("add", (x, y[:, 1:], n), "found a "),
        ("add", (host, y, n), "argument 0 (x): expected a C-ordered float32 array of this device"),
        ("add", (-1, y, n), "argument 0 (x): expected a C-ordered float32 array of this device"),
        ("add", (x, 1.0, n), "found 1.0"),
        ("line<bf16>", (x, line[0], LINE, 4, 0.5), "argument 0 (x): expected a C-ordered bfloat16"),
        ("line<float>", (x, line[0], LINE, 2**63, 0.5), "argument 3 (count): expected an int64"),
        (
            "line<bf16>",
            (*line, LINE, 4, "0.5"),
            "argument 4 (shift): expected a float, found '0.5'",
        ),
        ("line<bf16>", (*line, LINE, 4, 1e40), "argument 4 (shift): expected a float, found 1e+40"),
        ("line<bf16>", (*line, b"123", 4, 1.0), "(at): expected a Line of 32 bytes, found 3 bytes"),
        ("line<bf16>", (*line, 7, 4, 1.0), "argument 2 (at): expected a Line of 32 bytes, found 7"),
    ):
        with pytest.raises(DeviceError, match=re.escape(told)) as caught:
            device.launch(kernels[kernel], ONE, (32, 1, 1), args)
        assert str(caught.value).startswith(f"{kernel}: ") and "\n" not in str(caught.value)
    assert device.launches == launches


def test_numbers_of_numpy_and_whole_floats_mean_what_they_say(device):
    """The declaration converts them: an int for a float is that number, not its bits."""
    x, y = put(device, [1, 2]), put(device, [0.0], BF16)
    args = (x, y, LINE, np.int64(1), 2)
    device.launch(device.load(SOURCE)["line<float>"], ONE, ONE, args, shared_bytes=4)
    assert device.download(y) == 4.5


def test_dynamic_shared_memory_beyond_48_kb(device):
    """As much as every card of compute capability 7.5 and later has; less again, and too much."""
    y, reach = device.empty((1,)), device.load(SOURCE)["reach"]
    for shared_bytes in (400, 65536, 49152):
        args = (y, shared_bytes // 4)
        device.launch(reach, ONE, (32, 1, 1), args, shared_bytes=shared_bytes)
        assert device.download(y) == shared_bytes // 4
    with pytest.raises(DeviceError, match=r"reach: expected at most .*dynamic shared memory"):
        device.launch(reach, ONE, (32, 1, 1), (y, 1), shared_bytes=300_000)


def test_the_emulator_takes_what_is_written_for_hopper(folder):
    device = EmulatedDevice(folder)
    (kernel,) = device.load(KernelSource("clustered.cu", ("clustered",), "90a")).values()
    y = device.empty((4,))
    device.launch(kernel, (4, 1, 1), ONE, (y,))
    np.testing.assert_array_equal(y, range(4))


# Declarations


def declared(tmp_path, text: str, *instantiations: str) -> list[list[str]]:
    (tmp_path / "a.cu").write_text(text)
    found = read(KernelSource("a.cu", instantiations), tmp_path)
    return [[f"{p.type} {p.name}" for p in found[name]] for name in instantiations]


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("__global__ void k() {}", "k", []),
        (
            "__global__ void __launch_bounds__(256, (2)) k(const float *x, // a, b\n"
            "int /* ( */ n) {",
            "k",
            ["float* x", "int n"],
        ),
        (
            "template <int N, typename T>\n__global__ void __cluster_dims__(2, 1, 1)\n"
            "k(T* __restrict__ const x, const T y, unsigned  char * z) {",
            "k<3, float>",
            ["float* x", "float y", "unsigned char* z"],
        ),
        (
            "template <class T, int N = 4> __global__ void k(Box<T, N> box, long  long n) {",
            "k<bf16, 8>",
            ["Box<bf16, 8> box", "long long n"],
        ),
        ("template <class T = float> __global__ void k(T* x) {", "k<>", ["T* x"]),
        (
            'extern "C" __global__ void k(const __grid_constant__ struct Map map, float** xs);',
            "k",
            ["Map map", "float** xs"],
        ),
        (
            "// __global__ void k(int wrong) {}\n__global__ void other(int n) {}\n"
            "__global__ void k(float x) {}",
            "k",
            ["float x"],
        ),
    ],
)
def test_a_declaration_is_read(tmp_path, text, name, parameters):
    assert declared(tmp_path, text, name) == [parameters]


def test_a_kernel_may_stand_in_a_header(tmp_path):
    (tmp_path / "b.cuh").write_text("template <int N> __global__ void k(int64 n) {}")
    assert declared(tmp_path, '#include "b.cuh"\n', "k<1>", "k<2>") == [["int64 n"]] * 2


def test_what_can_not_be_read_is_told(tmp_path):
    with pytest.raises(DeviceError, match=r"a\.cu: expected a kernel __global__ void k\(\.\.\.\)"):
        declared(tmp_path, "__global__ void other() {}", "k")
    with pytest.raises(
        DeviceError, match=r"a\.cu: k: expected parameters like .*, found `float\*`"
    ):
        declared(tmp_path, "__global__ void k(float*, int n) {}", "k")


def test_reader_and_compiler_agree_on_every_kernel(folder):
    """Loading compares them; here it is all that phases and tests launch."""
    device = EmulatedDevice(folder)
    names = [name for name, phase in phases.PHASES.items() if phase.cuda]
    sources = {source for name in names for source in phases.implementation(name).sources}
    for source in (*sources, CEILINGS, SOURCE, KernelSource("measure.cu", ("hold",))):
        for name, kernel in device.load(source).items():
            parameters = kernel.signature.parameters
            assert all(p.dtype for p in parameters if p.is_pointer), (name, parameters)
    assert (
        Parameter("Line", "at", ctypes.sizeof(Line))
        in device.load(SOURCE)["count_up"].signature.parameters
    )


def test_a_type_that_only_the_compiler_knows_is_told(tmp_path):
    folder = Path(shutil.copytree(kernels_directory(), tmp_path / "kernels"))
    text = '#include "portable.cuh"\ntypedef int Count;\n__global__ void k(float* y, Count n) {}\n'
    (folder / "a.cu").write_text(text)
    with pytest.raises(
        DeviceError, match=r"k: expected parameters of kinds p i .* spell their types"
    ):
        EmulatedDevice(folder).load(KernelSource("a.cu", ("k",)))


def test_arguments_lie_at_multiples_of_eight_bytes():
    signature = Signature(
        "k", [Parameter("int", "a"), Parameter("Odd", "b", 9), Parameter("float", "c")]
    )
    slots = signature.slots()
    signature.write(slots, (-1, b"123456789", 0.5), address=id)
    memory = bytes(slots.memory)
    assert (memory[:4], memory[8:17], memory[24:28]) == (b"\xff" * 4, b"123456789", b"\0\0\0\x3f")
    assert len(memory) == 32
    assert list(slots.addresses) == [ctypes.addressof(slots.memory) + k for k in (0, 8, 24)]


# Streams


def sums(device, batches: int = 5, *, fault: str = "") -> list[float]:
    """Stream batches through two pinned buffers: a copy beside each sum, and each sum behind it."""
    (side,) = device.side_streams(1)
    add = device.load(SOURCE)["add"]
    hosts = [device.pinned((64,)) for _ in range(2)]
    arrays, copied, used = [device.empty((64,)) for _ in range(2)], [None, None], [None, None]
    total = put(device, np.zeros(64))
    for batch in range(batches):
        k = batch % 2
        if copied[k] and fault != "overwritten while it is copied":
            device.wait(copied[k])
        hosts[k][...] = 10.0**batch
        if used[k] and fault != "copied while it is read":
            device.follow(used[k], side)
        device.upload_async(hosts[k], arrays[k], side)
        copied[k] = device.record(side)
        if fault != "read while it is copied":
            device.follow(copied[k])
        device.launch(add, (2, 1, 1), (32, 1, 1), (arrays[k], total, 64))
        used[k] = device.record()
    return device.download(total).tolist()


def test_a_stream_of_batches_through_two_buffers(device):
    assert sums(device) == [11111.0] * 64


@pytest.mark.parametrize(
    ("fault", "order"),
    [
        ("overwritten while it is copied", "forward"),
        ("overwritten while it is copied", "reverse"),
        ("copied while it is read", "forward"),
        ("read while it is copied", "reverse"),
    ],
)
def test_an_event_that_is_missing_shows(folder, fault, order):
    assert sums(EmulatedDevice(folder, order), fault=fault) != [11111.0] * 64


def test_waiting_for_an_event_leaves_other_work_queued(folder):
    device = EmulatedDevice(folder)
    first, second = device.side_streams(2)
    x, y, z = (put(device, [value]) for value in (1.0, 10.0, 100.0))
    add = device.load(SOURCE)["add"]
    device.launch(add, ONE, ONE, (x, y, 1), first)
    device.follow(device.record(first), second)
    device.launch(add, ONE, ONE, (y, z, 1), second)
    event = device.record(second)
    device.launch(add, ONE, ONE, (x, y, 1), first)
    device.launch(add, ONE, ONE, (x, z, 1), second)
    device.wait(event)
    assert (y.item(), z.item()) == (11.0, 111.0)
    device.wait(event)
    device.synchronize()
    assert (y.item(), z.item()) == (12.0, 112.0)


def test_an_event_that_nothing_records_is_not_waited_for(folder):
    device, other = EmulatedDevice(folder), EmulatedDevice(folder)
    (side,) = other.side_streams(1)
    with pytest.raises(DeviceError, match="nothing records"):
        device.wait(other.record(side))


def test_events_order_each_replay_of_a_graph_anew(device):
    (side,) = device.side_streams(1)
    x, y = put(device, np.ones(4)), put(device, np.ones(4))
    add = device.load(SOURCE)["add"]

    def work():
        device.launch(add, ONE, (4, 1, 1), (y, x, 4))
        device.fork([side])
        device.launch(add, ONE, (4, 1, 1), (x, y, 4), side)
        device.join([side])

    replay = device.capture(work)
    for _ in range(3):
        replay()
    assert (device.download(x).tolist(), device.download(y).tolist()) == ([13.0] * 4, [21.0] * 4)
