"""The kernels' sources: where they are, and which instantiations a phase launches."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from ae_core.errors import InputError


class DeviceError(InputError):
    """A device can't be used, or can't do what was asked: says what to do about it."""


@dataclass(frozen=True)
class KernelSource:
    """A file of `kernels/` and what a phase launches from it.

    `instantiations` are C++ expressions that name a kernel: `relu_forward`, `correlate<16, true>`.
    `architecture` is what they are written for: `90a` for instructions of Hopper alone, `80` for
    Ampere or later; None for any.
    """

    file: str
    instantiations: tuple[str, ...]
    architecture: str | None = None

    def compiles_for(self, architecture: str) -> bool:
        """Whether these kernels can be compiled for an architecture: `75`, `80`, `90a`."""
        return _compiles(self.architecture, architecture)


def runs_on(needed: str | None, capability: str) -> bool:
    """Whether a card runs kernels that are written for an architecture.

    Args:
        needed: as in `KernelSource.architecture`.
        capability: the card's, as `80` or `90`.
    """
    return any(_compiles(needed, capability + suffix) for suffix in ("", "a"))


def _compiles(needed: str | None, architecture: str) -> bool:
    if needed is None:
        return True
    if needed.isdigit():
        return int(architecture.rstrip("af")) >= int(needed)
    return architecture == needed


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


def digest(source: KernelSource, folder: Path, *more: Path) -> str:
    """Of all that a compilation may include: a changed header must not meet an old binary."""
    sha = hashlib.sha256()
    for path in (folder / source.file, *sorted(folder.glob("*.cuh")), *more):
        sha.update(f"{path.name}\0{path.read_text('utf8')}\0".encode())
    return sha.hexdigest()[:16]


def listing(file: str, name: str) -> str:
    """One kernel or function of a file, from the comment above it to its closing brace.

    Raises:
        DeviceError: the file has no such function.
    """
    text = (kernels_directory() / file).read_text("utf8")
    for block in re.split(r"\n\n(?=//|template|__global__|__device__|struct|enum)", text):
        code = "\n".join(line for line in block.splitlines() if not line.startswith("//"))
        if re.search(rf"\b{re.escape(name)}\b[^;{{]*\{{", code):
            return block.strip()
    raise DeviceError(f"{file}: expected a function {name}, found none")


def altered(file: str, right: str, wrong: str, into: Path) -> Path:
    """A copy of the kernels in which one file differs: to see a planted fault found.

    Args:
        file: the file to change.
        right: text in it.
        wrong: what to put in its place, everywhere.
        into: a new folder.

    Raises:
        DeviceError: the file does not have the text.
    """
    shutil.copytree(kernels_directory(), into)
    text = (into / file).read_text("utf8")
    if right not in text:
        raise DeviceError(f"{file}: expected the text {right!r}, found none")
    (into / file).write_text(text.replace(right, wrong), "utf8")
    return into


def compiler_error(log: str) -> str:
    """The first line of a compiler's output that names an error, with file and line."""
    told = log.replace("\0", "\n")  # NVRTC's, behind what each of its parts says
    lines = [line for line in told.splitlines() if line.strip()] or ["it said nothing"]
    return next((line for line in lines if re.search(r"\berror\b", line)), lines[0]).strip()
