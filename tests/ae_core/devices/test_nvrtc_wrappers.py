"""The wrapped instructions compile for the cards that have them: no GPU needed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from ae_core.devices import nvrtc
from ae_core.devices.kernels import DeviceError, KernelSource, kernels_directory

if sys.platform != "linux":
    pytest.skip("NVRTC comes for Linux", allow_module_level=True)

PRODUCTS = tuple(
    f"product<{n}, false, false>" for n in (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256)
)
TRANSPOSED = tuple(f"product<128, {a}, {b}>" for a in ("true", "false") for b in ("true", "false"))
SMALL = tuple(f"small_product<{swizzle}>" for swizzle in (0, 32, 64, 128))
NUMBERS = KernelSource("numbers.cu", ("round_to_bf16", "round_pairs", "widen", "reverse"))
AMPERE = KernelSource("ampere_product.cu", ("product_bf16", "product_tf32"))
HOPPER = KernelSource("hopper_product.cu", (*PRODUCTS, *TRANSPOSED))
PIECES = KernelSource(
    "hopper_pieces.cu",
    (
        *SMALL,
        "load_box<1>",
        "load_box<2>",
        "load_box<4>",
        "double_by_tiles",
        "hand_over",
        "elections",
    ),
)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "kernels"
    shutil.copytree(kernels_directory(), folder)
    return Path(shutil.copytree(Path(__file__).parent / "kernels", folder, dirs_exist_ok=True))


@pytest.mark.parametrize(
    ("source", "architecture"),
    [
        *((NUMBERS, architecture) for architecture in ("75", "80", "90a")),
        *((AMPERE, architecture) for architecture in ("80", "90a")),
        *((source, "90a") for source in (HOPPER, PIECES)),
    ],
    ids=lambda value: getattr(value, "file", value),
)
def test_wrappers_compile_and_products_run_side_by_side(source, architecture, folder):
    """The compiler warns (C75..) of products that wait for each other, and of no setmaxnreg."""
    used = nvrtc.compile(source, architecture, folder)
    assert set(used) == set(source.instantiations)
    for name, usage in used.items():
        assert (usage.spilled_bytes, usage.advice) == (0, ()), (name, usage)


def test_registers_that_the_compiler_can_not_set_are_told(folder):
    path = folder / "hopper_product.cu"
    path.write_text(path.read_text().replace("(2 * GROUP, 1)", "(2 * GROUP)"))
    for usage in nvrtc.compile(HOPPER, "90a", folder).values():
        assert any("C7508" in line for line in usage.advice)


def test_products_are_none_of_an_older_cards(folder):
    with pytest.raises(DeviceError, match=r"hopper_product\.cu does not compile: .*target sm_90"):
        nvrtc.compile(HOPPER, "80", folder)
