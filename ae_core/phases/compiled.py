"""Loops compiled by Numba, and the threads that run them.

Compiled loops are kept between runs wherever something can be kept. They are compiled without
fast-math, so that a cached copy and a new one compute the same bits.
"""

from __future__ import annotations

import os
from typing import Any

from ae_core.errors import InputError
from ae_core.sources import cache_directory

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
    found = os.environ.get(COUNT_VARIABLE, "1").strip()
    if not (found.isdecimal() and 1 <= int(found) <= MOST_THREADS):
        raise InputError(
            f"{COUNT_VARIABLE}: expected a whole number from 1 to {MOST_THREADS}, found {found!r}"
        )


_check_count()

import numba  # noqa: E402
from numba import prange  # noqa: E402

__all__ = ["compiled", "compiled_parallel", "prange", "start_threads", "threading_layer"]

if LAYER_VARIABLES[1] not in os.environ:
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


def _compiled(loops: Any, **options: bool) -> Any:
    for folder in (numba.config.CACHE_DIR, str(cache_directory() / "numba")):
        numba.config.CACHE_DIR = folder
        try:
            return numba.njit(cache=True, **options)(loops)
        except RuntimeError:  # neither the package's folder nor the user's cache can be written
            continue
    return numba.njit(**options)(loops)
