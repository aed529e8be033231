"""Kernels as native code: a C++ compiler makes a library of a source, a kernel is its function."""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from ae_core import files
from ae_core.data.locate import CACHE_VARIABLE, cache_directory
from ae_core.devices.kernel_device import Argument, Dimensions
from ae_core.devices.kernels import DeviceError, KernelSource, compiler_error, digest
from ae_core.devices.signature import (
    SIZES,
    Address,
    Parameter,
    Signature,
    read,
    sized,
    sizes_declaration,
    structs,
)

RUNTIME = Path(__file__).parent / "emulator"
RUNTIME_SOURCES = (RUNTIME / "emulator.cpp", RUNTIME / "operations.cpp")
RUNTIME_FILES = (*sorted(RUNTIME.glob("*.h")), *RUNTIME_SOURCES)
COMPILERS = ("g++", "c++", "clang++")
"""What is looked for where the variable CXX names no compiler."""
FLAGS = (
    *("-std=c++17", "-O2", "-g1", "-fPIC", "-Wall", "-Wno-unknown-pragmas"),
    "-fvisibility=hidden",  # each library has its own shared memory, also that of templates
    "-ffp-contract=off",  # the same bits on every processor
)
SANITIZERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "": ((), ()),
    "address": (
        ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
        ("-DEMULATOR_ASAN",),
    ),
    "thread": (("-fsanitize=thread",), ("-DEMULATOR_TSAN",)),
}
"""What kernels are instrumented with, and how the runtime, which is not, is told."""
DIGEST_BYTES = hashlib.sha256().digest_size
INSTALL = "install g++ anew (Debian: apt install g++), or use an NVIDIA GPU"
NO_ROOM = (*map(os.strerror, files.FULL), signal.strsignal(signal.SIGXFSZ) or "SIGXFSZ")
"""What a compiler says where it may write no more: an error, or the signal that ended a part."""


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel: its entry in the library, and its parameters."""

    entry: Any
    signature: Signature

    def bind(
        self,
        grid: Dimensions,
        block: Dimensions,
        args: Sequence[Argument],
        address: Address,
        order: int,
        shared_bytes: int,
    ) -> Callable[[], None]:
        """A function that runs this kernel with these arguments, as often as it is called.

        Raises:
            DeviceError: arguments that don't fit the parameters; and, when it runs, a divergent
                barrier or an impossible grid.
        """
        slots = self.signature.slots()
        self.signature.write(slots, args, address)
        shape = (ctypes.c_uint * 6)(*grid, *block)

        def run(_keep_alive: Any = args) -> None:
            error = self.entry(shape, slots.addresses, order, shared_bytes)
            if error:
                raise DeviceError(f"{self.signature.kernel}: {error.decode()}")

        return run


def load(source: KernelSource, folder: Path, sanitizer: str = "") -> Mapping[str, Kernel]:
    """A source's kernels by instantiation, compiled into the cache or found there.

    Args:
        source: what to compile.
        folder: where the sources of kernels are.
        sanitizer: a key of `SANITIZERS`.

    Raises:
        DeviceError: it does not compile, with file, line and message; or the compiler fails.
    """
    declared = read(source, folder)
    path = _built(source, declared, folder, sanitizer)
    try:
        library = ctypes.CDLL(str(path))
        passed = structs(declared)
        sizes = list((ctypes.c_uint32 * len(passed)).in_dll(library, SIZES)) if passed else []
        return {
            name: _kernel(library, n, signature)
            for n, (name, signature) in enumerate(sized(declared, sizes).items())
        }
    except (OSError, AttributeError) as error:  # no library, or none of these kernels
        for compiled in (path, _runtime(path.parent, sanitizer)):  # the next run compiles again
            with suppress(OSError):
                compiled.unlink()
        raise DeviceError(
            f"{path}: compiled, but can't be loaded ({error}): let {CACHE_VARIABLE} name a folder "
            f"whose files may be executed; or {INSTALL}"
        ) from None


def _built(
    source: KernelSource, declared: Mapping[str, Sequence[Parameter]], folder: Path, sanitizer: str
) -> Path:
    """The library of this source, from the cache; or compiled, by one process for all that ask.

    The cache's copy ends with its SHA-256, which the loader passes over, and so does the linker
    behind the runtime: to load a library that was cut short would end the process without a word.
    """
    entries = "".join(
        f"\nENTRY launch_{n}"
        f"(const unsigned* shape, void** slots, int order, unsigned shared_bytes) "
        f"{{ return emulator::launch(&{name}, shape, slots, order, shared_bytes); }}"
        f"\nENTRY signature_{n}() {{ return emulator::signature(&{name}); }}"
        for n, name in enumerate(source.instantiations)
    )
    sizes = sizes_declaration(declared)
    code = (
        f'#define AE_EMULATED\n#include "{source.file}"\n'
        f'#define PUBLIC __attribute__((visibility("default")))\n'
        f'#define ENTRY extern "C" PUBLIC const char*{entries}\n'
    )
    if sizes:
        code += f'extern "C" {{ PUBLIC {sizes} }}\n'
    key = _key(
        code,
        digest(source, folder, *RUNTIME_FILES),
        *FLAGS,
        *SANITIZERS[sanitizer][0],
        _compiler("--version"),
    )
    library = cache_directory() / "emulator" / f"{Path(source.file).stem}-{key}.so"
    build = partial(_build, code, source, folder, sanitizer)
    try:
        return _once(library, build)
    except files.UnwritableError as error:
        _, _, reason = str(error).partition(": ")
        return _once(_own_folder(f"{library.parent}: {reason}") / library.name, build)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _once(compiled: Path, build: Callable[[Path, Path], None]) -> Path:
    """A file that is there and whole, or compiled now; of processes that ask one compiles it."""
    if not _is_whole(compiled):
        with files.claimed(compiled, wait=True) as drafts:
            if not _is_whole(compiled):
                build(compiled, drafts)
    return compiled


def _build(
    code: str, source: KernelSource, folder: Path, sanitizer: str, library: Path, drafts: Path
) -> None:
    build_runtime = partial(_build_runtime, SANITIZERS[sanitizer][1])
    runtime = _once(_runtime(library.parent, sanitizer), build_runtime)
    instrument = SANITIZERS[sanitizer][0]
    entries, kernels, linked = drafts / "entries.cpp", drafts / "kernels.o", drafts / "linked.so"
    with files.naming(library):
        entries.write_text(code, "utf8")
    own = partial(_compiler, *FLAGS, *instrument, drafts=drafts)
    includes = (f"-I{folder}", f"-I{RUNTIME}")
    own(*includes, "-c", str(entries), "-o", str(kernels), file=source.file)
    own("-shared", str(kernels), str(runtime), "-o", str(linked))
    _keep(linked, library)


def _runtime(folder: Path, sanitizer: str) -> Path:
    """The file of the runtime, one for all kernels that are compiled alike."""
    sources = (path.read_text("utf8") for path in RUNTIME_FILES)
    key = _key(*sources, *FLAGS, *SANITIZERS[sanitizer][1], _compiler("--version"))
    return folder / f"runtime-{key}.o"


def _build_runtime(tell: Sequence[str], runtime: Path, drafts: Path) -> None:
    linked = drafts / "linked.o"
    sources = map(str, RUNTIME_SOURCES)
    _compiler(*FLAGS, *tell, "-r", "-nostdlib", *sources, "-o", str(linked), drafts=drafts)
    _keep(linked, runtime)


def _keep(written: Path, compiled: Path) -> None:
    """Move what the compiler wrote into its place, with its SHA-256 behind it."""
    if files.found_at(written) != files.FILE:
        raise DeviceError(
            f"{compiler_command()[0]}: expected a compiled file, found that it wrote nothing: "
            f"{INSTALL}"
        )
    content = written.read_bytes()
    with files.replacing(compiled) as draft:
        draft.write_bytes(content + hashlib.sha256(content).digest())


def _compiler(*arguments: str, file: str | None = None, drafts: Path | None = None) -> str:
    """Run the compiler; what it printed.

    Args:
        arguments: of the compiler.
        file: whose errors they are; without one the compiler is to blame.
        drafts: where its temporary files go, so that they are gone if this process dies.

    Raises:
        DeviceError: it can't be run, or failed: with its first line that names an error.
        UnwritableError: it found no room.
    """
    environment = os.environ | ({"TMPDIR": str(drafts)} if drafts else {}) | {"LC_ALL": "C"}
    command = compiler_command()
    compiler = command[0]
    try:
        done = subprocess.run(
            (*command, *arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            check=False,
        )
    except OSError as error:
        raise DeviceError(f"{compiler}: can't be run ({error.strerror}): {INSTALL}") from None
    if not done.returncode:
        return done.stdout
    told = compiler_error(done.stderr)
    if drafts and any(words in done.stderr for words in NO_ROOM):
        raise files.UnwritableError(
            f"{drafts}: can't be written: {told}: make room there, or name another place"
        )
    if file:
        raise DeviceError(f"{file} does not compile: {told}")
    raise DeviceError(f"{compiler}: does not work ({told}): {INSTALL}")


def compiler_command() -> tuple[str, ...]:
    """The C++ compiler's path: of what the variable CXX names, or else of the first in `COMPILERS`.

    CXX may name a launcher before the compiler, such as `ccache g++`.

    Raises:
        DeviceError: there is none.
    """
    named = shlex.split(os.environ.get("CXX", ""))
    if named:
        paths = [shutil.which(named[0]), *named[1:]]
        if paths[0]:
            return tuple(filter(None, paths))
        raise DeviceError(
            f"CXX: expected the name of a C++ compiler, found {named[0]!r}, which is no program: "
            f"correct the variable, or unset it to take {', '.join(COMPILERS)}"
        )
    for name in COMPILERS:
        if path := shutil.which(name):
            return (path,)
    raise DeviceError(
        f"the emulator compiles kernels with {', '.join(COMPILERS[:-1])} or {COMPILERS[-1]}, "
        f"found none: install it (Debian: apt install g++), or use an NVIDIA GPU"
    )


def _is_whole(compiled: Path) -> bool:
    if files.found_at(compiled) != files.FILE:
        return False
    content = compiled.read_bytes()
    return hashlib.sha256(content[:-DIGEST_BYTES]).digest() == content[-DIGEST_BYTES:]


@cache
def _own_folder(reason: str) -> Path:
    """A temporary folder of this process, for libraries that the cache can't take; warns of it."""
    warnings.warn(
        f"{reason} with {CACHE_VARIABLE}. Until then each run compiles its kernels anew.",
        stacklevel=2,
    )
    held = ExitStack()
    atexit.register(held.close)
    return held.enter_context(files.scratch())


def _kernel(library: ctypes.CDLL, number: int, signature: Signature) -> Kernel:
    """An instantiation.

    Raises:
        DeviceError: the compiler has other parameters than were read from the source.
    """
    entry, kinds = library[f"launch_{number}"], library[f"signature_{number}"]
    entry.restype = kinds.restype = ctypes.c_char_p
    compiled = kinds().decode()
    if compiled != "".join(p.kind for p in signature.parameters):
        raise DeviceError(
            f"{signature.kernel}: expected parameters of kinds {' '.join(compiled)} as compiled, "
            f"read {', '.join(p.described() for p in signature.parameters)}: "
            f"spell their types out"
        )
    return Kernel(entry, signature)
