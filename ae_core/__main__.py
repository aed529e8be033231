"""The program's entry: runs a command, and tells in a line whatever ends it early."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence

from ae_core import terminal
from ae_core.errors import InputError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what a person can mend is told in a line, not a traceback."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that is not UTF-8 can be printed, too
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from ae_core.commands import program  # noqa: PLC0415  (takes a second: Ctrl-C may come)

        sys.exit(program.run(arguments))
    except KeyboardInterrupt as interrupt:
        terminal.tell_interrupted(interrupt)
        sys.exit(130)
    except (InputError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
