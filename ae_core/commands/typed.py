"""How a Typer program of this project is made and run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from ae_core import terminal

UsageError: Any = typer.BadParameter.__base__
"""Of Click, which newer releases of Typer bring along under a name of their own."""


class Commands(TyperGroup):
    """The commands; Ctrl-C ends any of them with a line, and exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run one."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            terminal.tell_interrupted(interrupt)
            raise


def program(described: str | None) -> typer.Typer:
    """A program without commands yet, as its help describes it."""
    return typer.Typer(
        cls=Commands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=described,
    )


def run(app: typer.Typer, arguments: Sequence[str] | None = None) -> Any:
    """Run a command; its exit code. A command line that can't be understood is told in a line."""
    try:
        return app(arguments, standalone_mode=False)
    except UsageError as error:
        told = error.format_message()
        if told:  # else a group was called without a command, and its help was printed
            print(f"error: {told}", file=sys.stderr)
        return error.exit_code
