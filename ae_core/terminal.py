"""What a person at the terminal sees on stderr; there may be neither a person nor a stderr."""

from __future__ import annotations

import sys


def watched() -> bool:
    """Whether a terminal shows what is written to stderr; it may be closed, as with `2>&-`."""
    return sys.stderr is not None and sys.stderr.isatty()


def tell_interrupted(interrupt: KeyboardInterrupt) -> None:
    """Say in a line that Ctrl-C ended the run, with what it was told of it."""
    line = ": ".join(["interrupted", *map(str, interrupt.args)])
    print("\n" * watched() + line, file=sys.stderr)
