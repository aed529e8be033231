"""The book's program: `python -m ae_book make`."""

from __future__ import annotations

from collections.abc import Sequence

from ae_core import terminal


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""

    def program() -> object:
        from ae_book.commands import app  # noqa: PLC0415
        from ae_core.commands.typed import run  # noqa: PLC0415

        return run(app, arguments)

    terminal.run(program)


if __name__ == "__main__":
    main()
