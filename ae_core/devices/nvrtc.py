"""Compile kernels for an architecture without its card, by NVIDIA's NVRTC; what each one uses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ae_core.devices.kernels import DeviceError, KernelSource, compiler_error, kernels_directory
from ae_core.devices.signature import Parameter, read, sizes_declaration

FUNCTION = re.compile(
    r"Function properties for (?P<name>\S+)\s.*?(?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads\s.*?Used (?P<registers>\d+) registers(?P<rest>[^\n]*)",
    re.DOTALL,
)
"""What `--ptxas-options=-v` tells of a kernel."""
ADVICE = re.compile(r"\(C\d{4}\)")
"""The number of a piece of advice in the same log."""


@dataclass(frozen=True)
class Usage:
    """What a kernel uses of a card, as compiled for one architecture."""

    registers: int
    """Of each thread."""
    shared_bytes: int
    """Static shared memory of a block; dynamic shared memory is the launch's."""
    spilled_bytes: int
    """Stored to and loaded from memory, by each thread, for want of registers."""
    advice: tuple[str, ...] = ()
    """What the assembler says of lost speed: of this kernel, or of the file."""


def compile(
    source: KernelSource, architecture: str, folder: Path | None = None
) -> dict[str, Usage]:
    """Compile a file; what each instantiation uses.

    Args:
        source: the file and what a phase launches from it.
        architecture: what to compile for: `75` (Turing), `80`, `90`, `90a` (all that Hopper has).
        folder: the folder of kernel sources; this package's by default.

    Raises:
        DeviceError: it does not compile, with file, line and message; it is written for another
            architecture; or NVRTC is not installed.
    """
    if not source.compiles_for(architecture):
        raise DeviceError(
            f"{source.file}: expected the architecture {source.architecture}, found {architecture}"
        )
    folder = folder or kernels_directory()
    flags = (f"-arch=sm_{architecture}", "--ptxas-options=-v", *options(folder))
    program = _program(unit(source, read(source, folder)), source.instantiations)
    try:
        symbols, log = program.compile(flags)
    except _CompilationError as error:
        raise DeviceError(f"{source.file} does not compile: {compiler_error(str(error))}") from None
    found = {match["name"]: match for match in FUNCTION.finditer(log)}
    advice = [line.strip() for line in log.splitlines() if ADVICE.search(line)]
    return {
        name: _usage(
            found[symbols[name]],
            tuple(a for a in advice if symbols[name] in a or "function" not in a),
        )
        for name in source.instantiations
    }


def unit(source: KernelSource, declared: Mapping[str, Sequence[Parameter]]) -> str:
    """What the compiler reads: the file, and the sizes of the structs that kernels are passed."""
    sizes = sizes_declaration(declared)
    return f'#include "{source.file}"\n' + (f'extern "C" __constant__ {sizes}\n' if sizes else "")


def options(folder: Path) -> tuple[str, ...]:
    """Of NVRTC, whatever the architecture."""
    return "-std=c++17", f"-I{folder}"


class _CompilationError(Exception):
    """With the compiler's log."""


class _Bindings:
    """A program, by NVIDIA's own package."""

    def __init__(self, nvrtc: Any, code: str, names: Sequence[str]) -> None:
        self._nvrtc, self._names = nvrtc, names
        self._program = self._done(
            nvrtc.nvrtcCreateProgram(code.encode(), b"kernels.cu", 0, [], [])
        )
        for name in names:
            self._done(nvrtc.nvrtcAddNameExpression(self._program, name.encode()))

    def compile(self, flags: Sequence[str]) -> tuple[dict[str, str], str]:
        """Symbols by instantiation, and the log."""
        nvrtc, program = self._nvrtc, self._program
        encoded = [flag.encode() for flag in flags]
        (error,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
        log = b" " * self._done(nvrtc.nvrtcGetProgramLogSize(program))
        self._done(nvrtc.nvrtcGetProgramLog(program, log))
        if error:
            raise _CompilationError(log.decode())
        symbols = {
            name: self._done(nvrtc.nvrtcGetLoweredName(program, name.encode())).decode()
            for name in self._names
        }
        return symbols, log.decode()

    def _done(self, result: tuple[Any, ...]) -> Any:
        error, *values = result
        if error:
            raise DeviceError(f"NVRTC: {error.name}")
        return values[0] if values else None

    def __del__(self) -> None:
        self._nvrtc.nvrtcDestroyProgram(self._program)


class _Cupy:
    """A program, by CuPy, which needs no card for this."""

    def __init__(self, nvrtc: Any, code: str, names: Sequence[str]) -> None:
        self._nvrtc, self._names = nvrtc, names
        self._program = nvrtc.createProgram(code, "kernels.cu", (), ())
        for name in names:
            nvrtc.addNameExpression(self._program, name)

    def compile(self, flags: Sequence[str]) -> tuple[dict[str, str], str]:
        """Symbols by instantiation, and the log."""
        try:
            self._nvrtc.compileProgram(self._program, flags)
        except self._nvrtc.NVRTCError:
            raise _CompilationError(self._nvrtc.getProgramLog(self._program)) from None
        symbols = {n: self._nvrtc.getLoweredName(self._program, n) for n in self._names}
        return symbols, self._nvrtc.getProgramLog(self._program)

    def __del__(self) -> None:
        self._nvrtc.destroyProgram(self._program)


def _program(code: str, names: Sequence[str]) -> _Bindings | _Cupy:
    """By the package `cuda-bindings` if it is there, else by CuPy."""
    try:
        from cuda.bindings import nvrtc  # noqa: PLC0415

        return _Bindings(nvrtc, code, names)
    except (ImportError, RuntimeError):  # not installed, or without the library
        pass
    try:
        from cupy.cuda import nvrtc  # noqa: PLC0415

        return _Cupy(nvrtc, code, names)
    except (ImportError, RuntimeError) as error:
        raise DeviceError(
            f"expected NVRTC, which compiles kernels without a GPU ({error}): install the extra "
            f"nvrtc, or cuda13 (cuda12)"
        ) from None


def _usage(match: re.Match[str], advice: tuple[str, ...]) -> Usage:
    shared = re.search(r"(\d+) bytes smem", match["rest"])
    return Usage(
        registers=int(match["registers"]),
        shared_bytes=int(shared[1]) if shared else 0,
        spilled_bytes=int(match["stores"]) + int(match["loads"]),
        advice=advice,
    )
