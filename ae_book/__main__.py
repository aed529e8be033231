"""The book's program: `python -m ae_book make`."""

from __future__ import annotations

from collections.abc import Sequence

from ae_core import terminal
from ae_core.errors import InputError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""

    def program() -> object:
        from ae_book.commands import app  # noqa: PLC0415
        from ae_core.commands.typed import run  # noqa: PLC0415

        try:
            return run(app, arguments)
        except ModuleNotFoundError as error:
            raise InputError(
                f"expected the packages that make the book, found no {error.name}; run: "
                f"pip install 'ae-core[book]', or in a checkout: pip install -e '.[book]'"
            ) from error

    terminal.run(program)


if __name__ == "__main__":
    main()
