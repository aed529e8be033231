"""Loops compiled by Numba, where they are kept, and the threads that run them.

Loops are compiled without fast-math, so that a kept copy and a new one compute the same bits.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

from ae_core import files
from ae_core.data.locate import cache_directory
from ae_core.errors import InputError

COUNT_VARIABLE = "NUMBA_NUM_THREADS"
LAYER_VARIABLES = ("NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY")
MOST_THREADS = 1024
WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
"""How OpenMP's threads wait for each other: they sleep after some microseconds.

By default they spin for milliseconds. Where another program has one of the cores, the thread that
is waited for does not run while the others spin, and a step takes a time slice for each loop.
"""


def _check_count() -> None:
    """Numba fails while it is imported, or never ends, if the variable holds nonsense."""
    found = os.environ.get(COUNT_VARIABLE, "").strip() or "1"
    if not (found.isdecimal() and 1 <= int(found) <= MOST_THREADS):
        raise InputError(
            f"{COUNT_VARIABLE}: expected a whole number from 1 to {MOST_THREADS}, found {found!r}"
        )


_check_count()

import numba  # noqa: E402
from numba import prange  # noqa: E402
from numba.core.caching import IndexDataCacheFile  # noqa: E402

__all__ = ["compiled", "compiled_parallel", "prange", "start_threads", "threading_layer"]

if not os.environ.get(LAYER_VARIABLES[1]):
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]  # an old TBB makes it warn


def compiled(loops: Any) -> Any:
    """Compile a function of nested loops, as it stands, for one thread."""
    return _compiled(loops)


def compiled_parallel(loops: Any) -> Any:
    """Compile a function of nested loops with its `prange` spread over the threads."""
    return _compiled(loops, parallel=True)


def start_threads() -> int:
    """Start the threads that parallel loops run on, unless they run; how many there are.

    Raises:
        InputError: a variable of Numba's names a layer that is not there.
    """
    ours = {} if WAITING.keys() & os.environ.keys() else WAITING
    os.environ |= ours  # OpenMP reads them once, when it is loaded
    try:
        return numba.get_num_threads()
    except ValueError as error:
        found = ", ".join(f"{v}={os.environ[v]}" for v in LAYER_VARIABLES if v in os.environ)
        reason = " ".join(str(error).split())
        raise InputError(
            f"{found or 'Numba'}: expected one of Numba's threading layers: {reason}; "
            f"unset the variable"
        ) from None
    finally:
        for name in ours:
            del os.environ[name]


def threading_layer() -> str:
    """What runs the threads: `omp`, `tbb` or `workqueue`."""
    start_threads()
    return str(numba.threading_layer())


class KeptLoops(IndexDataCacheFile):  # type: ignore[misc]
    """Numba's cache of one function, with a file for each compiled copy.

    Numba's own files are read as they are: one that was cut short fails every later run, and one
    with a flipped bit ends it without a word. Numba also looks at the source of the function
    alone, and not at what it calls. Here each file holds a digest of its content, a file that does
    not match is as good as none, and its name depends on all of this folder's sources.
    """

    def load(self, key: Any) -> Any:
        """The compiled copy of this key; None if there is none that is whole."""
        with suppress(OSError):
            content = self._path(key).read_bytes()
            digest, data = content[:32], content[32:]
            if hashlib.sha256(data).digest() == digest:
                return pickle.loads(data)
        return None

    def save(self, key: Any, data: Any) -> None:
        """Keep a compiled copy. Where that can't be, this run goes on with the one in memory."""
        content = self._dump(data)
        with suppress(InputError, OSError), files.replacing(self._path(key)) as draft:
            draft.write_bytes(hashlib.sha256(content).digest() + content)

    def flush(self) -> None:
        """Nothing to forget: another source has another name."""

    def _path(self, key: Any) -> Path:
        name = hashlib.sha256(repr((key, self._version, _SOURCES)).encode()).hexdigest()[:16]
        return Path(self._cache_path, f"{Path(self._index_name).stem}.{name}.nbc")


def _digest_of_sources() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()


_SOURCES = _digest_of_sources()


def _compiled(loops: Any, **options: bool) -> Any:
    if numba.config.DISABLE_JIT:
        raise InputError("NUMBA_DISABLE_JIT: expected 0, found 1: as Python the loops take days")
    named = numba.config.CACHE_DIR
    try:
        for folder in (named, str(cache_directory() / "numba")):
            numba.config.CACHE_DIR = folder
            with suppress(RuntimeError):  # neither the package's nor the user's can be written
                dispatcher = numba.njit(cache=True, **options)(loops)
                own = dispatcher._cache._cache_file
                dispatcher._cache._cache_file = KeptLoops(
                    own._cache_path, Path(own._index_name).stem, own._source_stamp
                )
                return dispatcher
    finally:
        numba.config.CACHE_DIR = named
    return numba.njit(**options)(loops)
