"""A book of two chapters, for tests of the machinery."""

from __future__ import annotations

import inspect
import subprocess
from pathlib import Path
from typing import Annotated

import nbformat
from pydantic import Field

from ae_book.making import runs
from ae_book.making.parameters import Parameters
from ae_core.parameters import Epochs, Seed


class A(Parameters):
    """Of chapter `a`."""

    times: Epochs
    name: Annotated[str, Field(strict=True)]


class B(Parameters):
    """Of chapter `b`."""

    x: Seed


DECLARED = {"a": A, "b": B}
DECLARATION = f"""

{inspect.getsource(A)}

{inspect.getsource(B)}

CHAPTERS |= {{"a": A, "b": B}}
"""
PARAMETERS = "times: int = 2  # how often\nname: str = 'x'  # who"
BODY = """
if not times:  # reached by its text; what runs is this process's package, which has no such module
    import ae_core.package
print(name * times)
"""


def quick() -> runs.Run:
    """What the small book's quick preset made."""
    return runs.local("quick")


def write_chapter(
    root: Path, name: str, *code: str, prose: str = "# Title", analyses: bool = False
) -> None:
    """`book/NAME.ipynb`: a cell of prose, one of parameters, others of code."""
    cells = [nbformat.v4.new_markdown_cell(prose)]
    cells += [nbformat.v4.new_code_cell(source) for source in code]
    if code:
        cells[1].metadata["tags"] = ["parameters"]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, **({"ae": {"analyses": True}} if analyses else {})}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.write(notebook, root / "book" / f"{name}.ipynb")


def make(root: Path) -> Path:
    """A checkout with two chapters, `a` and `b`."""
    for folder in ("book/presets", "ae_core", "ae_book/making", "ae_book/showing", "kernels"):
        (root / folder).mkdir(parents=True)
    listed = "".join(f"\n      - file: book/{name}" for name in ("a", "b"))
    (root / "_toc.yml").write_text(
        f"format: jb-book\nroot: book/index\nparts:\n  - chapters:{listed}\n"
    )
    (root / "book" / "presets" / "quick.yml").write_text("a:\n  times: 3\n")
    (root / "ae_core" / "package.py").write_text("x = 1\n")
    (root / "ae_book" / "showing" / "shown.py").write_text("x = 1\n")
    (root / "kernels" / "k.cu").write_text("// 1\n")
    write_chapter(root, "a", PARAMETERS, BODY)
    write_chapter(root, "b", "x: int = 1  # number", "print('b', x)")
    return root


def git(root: Path, *arguments: str) -> str:
    """What a git command in this folder prints, whoever the user is."""
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
