"""What a person at the terminal sees; there may be neither a person nor a stderr."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable

from ae_core.errors import InputError


def watched() -> bool:
    """Whether a terminal shows what is written to stderr; it may be closed, as with `2>&-`."""
    return sys.stderr is not None and sys.stderr.isatty()


def tell_interrupted(interrupt: KeyboardInterrupt) -> None:
    """Say in a line that Ctrl-C ended the run, with what it was told of it."""
    line = ": ".join(["interrupted", *map(str, interrupt.args)])
    print("\n" * watched() + line, file=sys.stderr)


def run(program: Callable[[], object]) -> None:
    """Run a program to its exit code; what a person can mend is told in a line, not a traceback.

    Args:
        program: imports what it needs itself, so that Ctrl-C is told while it does; returns the
            exit code.
    """
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that is not UTF-8 can be printed, too
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(program())  # type: ignore[arg-type]
    except KeyboardInterrupt as interrupt:
        tell_interrupted(interrupt)
        sys.exit(130)
    except (InputError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(1)
