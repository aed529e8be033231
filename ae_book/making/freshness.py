"""What a chapter's outputs depend on, found in one place.

An executed copy carries digests of all that it was made from (`inputs`). It is out of date if one
of them is another today (`differences`).

Outputs must be those that today's code would produce. So each statement of `ae_core` and `ae_book`
that a chapter reaches counts: a table's wording is part of the output. What can't be seen in an
output does not count:

- modules that the chapter does not reach. It reaches what its cells import, what these import, also
  within functions, and modules that they name in a string, as the table of phases does;
- comments and docstrings, except in a module whose source text the chapter shows;
- `MACHINERY`: rooms that run chapters, lay out pages and read command lines. Chapters take
  from them files alone (parameters, data, other chapters' records), whose contents count.

Of other files, those count whole that the reached code names: kernels, with every header, and the
book's lists. So does every file that lies in a reached room beside its modules, such as the
emulator's sources.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from ae_book.making import chapters
from ae_book.making.chapters import BookError
from ae_core import machine
from ae_core.devices.kernels import kernels_directory
from ae_core.records import provenance

PACKAGES = ("ae_core", "ae_book")
MACHINERY = ("making", "site", "commands", "__main__")
"""Rooms of either package that never count."""
KEPT = ("code", "records", "analysed")
"""What must be as it was for a published chapter: a later package or kernel leaves it standing."""


@dataclass(frozen=True)
class Code:
    """What a text of Python says of its dependencies."""

    digest: str
    """Of its statements, without comments and docstrings."""
    imports: frozenset[str]
    """Modules that it imports, anywhere; and names in them, which may be modules as well."""
    strings: frozenset[str]
    """Its strings, which may name a module or a file."""


@dataclass(frozen=True)
class Reach:
    """What a chapter's cells lead to."""

    modules: Mapping[str, Path]
    """Of both packages, by name."""
    shown: frozenset[str]
    """Those of them whose source text the chapter shows."""
    libraries: frozenset[str]
    """Packages of others that are imported, by the name that is imported."""
    strings: frozenset[str]
    """All strings in the cells and modules."""


def inputs(
    chapter: str, parameters: Mapping[str, Any], data: str, analysed: Iterable[Path] = ()
) -> dict[str, str]:
    """Digests of all that an execution depends on, by a name that tells a reader what changed.

    Args:
        chapter: its name.
        parameters: what papermill gives it.
        data: the digest of the images.
        analysed: the records that a chapter reads which measures nothing.

    Raises:
        BookError: a cell of the chapter is not Python.
    """
    source = chapters.read(chapters.source_path(chapter))
    cells = chapters.code_cells(source)
    found, gpu, book = reach(chapter), machine.gpu(), chapters.root() / "book"
    code = [(cell["source"], cell["metadata"].get("tags", [])) for cell in cells]
    lists = [path for path in book.glob("*.yml") if path.name in found.strings]
    digests = {
        "code": _digest(json.dumps(code)),
        "parameters": _digest(json.dumps(parameters, sort_keys=True)),
        "package": _package(found),
        "kernels": digest_of(_kernels(found), kernels_directory()),
        "lists of the book": digest_of(lists, book),
        "versions": _digest(sys.version, *sorted(map(_version, _distributions(found.libraries)))),
        "gpu": f"{gpu.model}, {gpu.driver}" if gpu else "none",
        "data": data,
    }
    if chapters.analyses(chapter):
        digests["analysed"] = digest_of([*analysed, *book.glob("*.yml")], chapters.root())
    return digests


def differences(then: Mapping[str, str], now: Mapping[str, str], *, published: bool) -> list[str]:
    """Names of the inputs that are not as they were; of a published chapter, of those `KEPT`."""
    return [n for n in now if then.get(n) != now[n] and (n in KEPT or not published)]


def reach(chapter: str) -> Reach:
    """What a chapter's cells lead to, by their text: nothing is imported for it.

    Raises:
        BookError: a cell of the chapter is not Python.
    """
    cells = chapters.code_cells(chapters.read(chapters.source_path(chapter)))
    text = "\n".join(cell["source"] for cell in cells)
    try:
        codes = [parsed(text)]
    except SyntaxError as error:
        raise BookError(f"{chapter}: expected Python in every cell: {error}") from None
    there, known = modules(), set[str]()
    waiting = _named(codes[0], there)
    while waiting:
        name = waiting.pop()
        if name not in known and not is_machinery(name):
            known.add(name)
            codes.append(parsed(there[name].read_text("utf8")))
            waiting += _named(codes[-1], there)
    imported = {name.split(".")[0] for code in codes for name in code.imports}
    return Reach(
        modules={name: there[name] for name in sorted(known)},
        shown=frozenset(known.intersection(_shown(text, there))),
        libraries=frozenset(imported - {*PACKAGES} - sys.stdlib_module_names),
        strings=frozenset[str]().union(*(code.strings for code in codes)),
    )


def is_machinery(module: str) -> bool:
    """Whether a module of either package is in a room that no output depends on."""
    return len(parts := module.split(".")) > 1 and parts[1] in MACHINERY


def modules() -> dict[str, Path]:
    """All modules of both packages in the checkout, by name."""
    found = {}
    for package in PACKAGES:
        for path in sorted(_files(chapters.root() / package)):
            if path.suffix != ".py":
                continue
            parts = path.relative_to(chapters.root()).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def parsed(text: str) -> Code:
    """What a text of Python depends on.

    Raises:
        SyntaxError: it is not Python.
    """
    tree = ast.parse(text)
    imports, strings = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.add(node.value)
    bare = ast.dump(_WithoutText().visit(tree))
    return Code(_digest(bare), frozenset(imports), frozenset(strings))


def digest_of(paths: Iterable[Path], folder: Path) -> str:
    """One digest over the contents of files and their names from `folder`."""
    named = sorted((path.relative_to(folder).as_posix(), path) for path in set(paths))
    return _digest(*(part for name, path in named for part in (name, _text(path))))


class _WithoutText(ast.NodeTransformer):
    """Takes off docstrings, those of fields as well: strings that stand as a statement."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        constant = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if constant else node


def _named(code: Code, there: Mapping[str, Path]) -> list[str]:
    """The modules that code imports or names in a string, and the packages that they lie in."""
    named = (name.split(".") for name in code.imports | code.strings if name in there)
    found = (".".join(parts[:depth]) for parts in named for depth in range(1, len(parts) + 1))
    return [name for name in found if name in there]


def _shown(text: str, there: Mapping[str, Path]) -> Iterator[str]:
    """The modules that a text imports, from which it shows something by a call of `source`."""
    tree = ast.parse(text)
    origin: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                origin[alias.asname or alias.name] = inner if inner in there else node.module
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "source":
            for name in (n for argument in node.args for n in ast.walk(argument)):
                if isinstance(name, ast.Name):
                    yield origin.get(name.id, "")


def _package(found: Reach) -> str:
    parts = []
    for name, path in found.modules.items():
        text = path.read_text("utf8")
        parts += [name, text if name in found.shown else parsed(text).digest]
    rooms = {path.parent for name, path in found.modules.items() if name.count(".") > 1}
    beside = [path for room in rooms for path in _files(room) if path.suffix != ".py"]
    return _digest(*parts, digest_of(beside, chapters.root()))


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder but hidden ones and caches, in which other processes write."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


def _kernels(found: Reach) -> list[Path]:
    files = kernels_directory().iterdir()
    return [path for path in files if path.suffix == ".cuh" or path.name in found.strings]


def _distributions(libraries: Iterable[str]) -> set[str]:
    """Packages as they are installed, for names that are imported; and what records tell of."""
    installed = _installed()
    imported = {d for name in libraries for d in installed.get(name, [name])}
    return imported | {*provenance.PACKAGES}


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} absent"


def _text(path: Path) -> str:
    return path.read_text("utf8", "surrogateescape")  # any file: a picture is no UTF-8


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf8", "surrogateescape")).hexdigest()[:16]
