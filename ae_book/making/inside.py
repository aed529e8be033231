"""What the book does inside the process that executes a chapter.

What libraries warn of there is kept from the page, and told to whoever executes the chapter. What
the package or a chapter warns of, and all else that is written to stderr, is left as it is.
"""

from __future__ import annotations

import logging
import site
import sysconfig
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
"""The folder that both packages lie in."""
PACKAGES = (ROOT / "ae_core", ROOT / "ae_book")
told: list[tuple[int, str]] = []
"""What libraries warned of: in which cell of code, from 1, and the words."""


def is_library(file: str) -> bool:
    """Whether code in this file is neither the package's nor a chapter's: a cell has no file."""
    if file.startswith("<frozen "):  # Python's import, in the name of what it imports
        return True
    path = Path(file).resolve()
    paths = sysconfig.get_paths()
    libraries = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    libraries += [*site.getsitepackages(), site.getusersitepackages()]
    return not any(map(path.is_relative_to, PACKAGES)) and any(
        path.is_relative_to(Path(folder).resolve()) for folder in libraries
    )


def listen() -> None:
    """From now on keep what libraries warn of: through `warnings`, or through `logging` where
    nobody has said what becomes of it, so that it would go to stderr."""
    from IPython import get_ipython  # noqa: PLC0415

    cell = 0

    def begin(*_: Any) -> None:
        nonlocal cell
        cell += 1

    def keep(words: str) -> None:
        told.append((cell, words))

    get_ipython().events.register("pre_run_cell", begin)
    show, last_resort = warnings.showwarning, logging.lastResort

    def showwarning(
        message: Warning | str, category: type[Warning], filename: str, *others: Any
    ) -> None:
        if is_library(filename):
            keep(f"{filename}: {category.__name__}: {message}")
        else:
            show(message, category, filename, *others)

    class LastResort(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if is_library(record.pathname):
                keep(f"{record.name}: {record.getMessage()}")
            elif last_resort:
                last_resort.handle(record)

    warnings.showwarning = showwarning  # type: ignore[assignment]
    logging.lastResort = LastResort(logging.WARNING)
