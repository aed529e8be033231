"""The command line: data, train, features, classify, verify, profile, bench, book."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from ae_core.commands import book, data
from ae_core.commands.classification import classify, features
from ae_core.commands.timing import bench, profile
from ae_core.commands.training import train
from ae_core.commands.verification import verify
from ae_core.errors import InputError


class Commands(TyperGroup):
    """The commands; Ctrl-C ends any of them with a line, and exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run one."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            line = ": ".join(["interrupted", *map(str, interrupt.args)])
            print("\n" * sys.stderr.isatty() + line, file=sys.stderr)
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__,
)
app.add_typer(data.app, name="data")
for command in (train, features, classify, verify, profile, bench):
    app.command()(command)
app.add_typer(book.app, name="book")


def main() -> None:
    """Run the command line; what a person can mend is told in a line, not a traceback."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        app()
    except (InputError, ArithmeticError, OSError, ImportError, MemoryError) as error:
        print(f"error: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
