"""Kernels as native code: g++ makes a library of a source, and a kernel is a function of it."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ae_core.cuda.device import Argument, Dimensions, slot
from ae_core.cuda.kernels import DeviceError, KernelSource, compiler_errors, digest
from ae_core.sources import cache_directory

RUNTIME = Path(__file__).parent / "emulator"
RUNTIME_FILES = (RUNTIME / "emulator.h", RUNTIME / "emulator.cpp")
FLAGS = ("-std=c++17", "-O2", "-g1", "-fPIC", "-fno-gnu-unique", "-Wall", "-Wno-unknown-pragmas")
SANITIZERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "": ((), ()),
    "address": (
        ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
        ("-DEMULATOR_ASAN",),
    ),
    "thread": (("-fsanitize=thread",), ("-DEMULATOR_TSAN",)),
}
"""What kernels are instrumented with, and how the runtime, which is not, is told."""
KINDS = {"p": "a float32 array", "i": "an int", "l": "an int64", "f": "a float"}
INT_RANGE = range(-(2**31), 2**31)


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel: its entry in the library, and its parameters' kinds (p, i, l, f)."""

    name: str
    entry: Any
    kinds: str

    def bind(
        self, grid: Dimensions, block: Dimensions, args: Sequence[Argument], order: int
    ) -> Callable[[], None]:
        """A function that runs this kernel with these arguments, as often as it is called.

        Raises:
            DeviceError: arguments that don't fit the parameters; and, when it runs, a divergent
                barrier or an impossible grid.
        """
        slots = (ctypes.c_uint64 * len(args))(*_checked(self, args))
        first, size = ctypes.addressof(slots), ctypes.sizeof(ctypes.c_uint64)
        pointers = (ctypes.c_void_p * len(args))(*(first + k * size for k in range(len(args))))
        shape = (ctypes.c_uint * 6)(*grid, *block)

        def run(_keep_alive: Any = (slots, args)) -> None:
            error = self.entry(shape, pointers, order)
            if error:
                raise DeviceError(f"{self.name}: {error.decode()}")

        return run


def load(source: KernelSource, folder: Path, sanitizer: str = "") -> Mapping[str, Kernel]:
    """A source's kernels by instantiation, compiled into the cache or found there.

    Args:
        source: what to compile.
        folder: where the sources of kernels are.
        sanitizer: a key of `SANITIZERS`.

    Raises:
        DeviceError: it does not compile; with file, line and message.
    """
    library = ctypes.CDLL(str(_build(source, folder, sanitizer)))
    return {name: _kernel(library, n, name) for n, name in enumerate(source.instantiations)}


def _build(source: KernelSource, folder: Path, sanitizer: str) -> Path:
    """The library of this source, made aside and renamed so that it is never half there."""
    entries = "".join(
        f'\nextern "C" const char* launch_{n}(const unsigned* shape, void** slots, int order) '
        f"{{ return emulator::launch(&{name}, shape, slots, order); }}"
        f'\nextern "C" const char* signature_{n}() {{ return emulator::signature(&{name}); }}'
        for n, name in enumerate(source.instantiations)
    )
    code = f'#define AE_EMULATED\n#include "{source.file}"\n{entries}\n'
    instrument, tell = SANITIZERS[sanitizer]
    compiler = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)
    key = (
        code,
        digest(source, folder, *RUNTIME_FILES),
        *FLAGS,
        *instrument,
        compiler.stdout,
    )
    name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:24]
    library = cache_directory() / "emulator" / f"{Path(source.file).stem}-{name}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as aside:
        work = Path(aside)
        (work / "entries.cpp").write_text(code, "utf8")
        includes = (f"-I{folder}", f"-I{RUNTIME}")
        kernels, runtime = str(work / "kernels.o"), str(work / "runtime.o")
        for command in (
            (*FLAGS, *instrument, *includes, "-c", str(work / "entries.cpp"), "-o", kernels),
            (*FLAGS, *tell, *includes, "-c", str(RUNTIME / "emulator.cpp"), "-o", runtime),
            (
                *FLAGS,
                *instrument,
                "-shared",
                kernels,
                runtime,
                "-o",
                str(work / "library.so"),
            ),
        ):
            done = subprocess.run(("g++", *command), capture_output=True, text=True, check=False)
            if done.returncode:
                raise DeviceError(
                    f"{source.file} does not compile:\n{compiler_errors(done.stderr)}"
                )
        (work / "library.so").rename(library)
    return library


def _kernel(library: ctypes.CDLL, number: int, name: str) -> Kernel:
    entry, signature = library[f"launch_{number}"], library[f"signature_{number}"]
    entry.restype = signature.restype = ctypes.c_char_p
    return Kernel(name, entry, signature().decode())


def _checked(kernel: Kernel, args: Sequence[Argument]) -> list[int]:
    """The arguments' slots; a mismatch that a GPU would take for data is an error here."""
    if len(args) != len(kernel.kinds):
        raise DeviceError(
            f"{kernel.name}: expected {len(kernel.kinds)} arguments, found {len(args)}"
        )
    slots = []
    for position, (kind, argument) in enumerate(zip(kernel.kinds, args, strict=True)):
        kind_given = type(argument)
        if isinstance(argument, np.ndarray):
            fits = kind == "p" and argument.dtype == np.float32 and argument.flags.c_contiguous
            slots.append(argument.ctypes.data)
        elif kind_given is float:
            fits = kind == "f"
            slots.append(slot(argument))
        else:
            fits = kind_given is int and (kind in "pl" or (kind == "i" and argument in INT_RANGE))
            slots.append(slot(argument) if fits else 0)
        if not fits:
            raise DeviceError(
                f"{kernel.name}: argument {position}: expected {KINDS[kind]}, "
                f"found {argument!r:.80}"
            )
    return slots
