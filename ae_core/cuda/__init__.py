"""CUDA: where the kernels' sources are."""

from __future__ import annotations

from pathlib import Path


def kernels_directory() -> Path:
    """The folder of `*.cu` sources: the checkout's, or the one that an installed wheel carries.

    Raises:
        FileNotFoundError: neither is there; the package was copied without it.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "kernels", package.parent / "kernels"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"expected the kernels' sources in {package / 'kernels'} or {package.parent / 'kernels'}, "
        f"found neither: install the wheel, or run from a checkout"
    )
