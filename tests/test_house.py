"""The order of the house: who may import whom, and how large `ae_core` may become."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ae_book.making import freshness
from tests.conftest import ROOT

LAYERS = {
    "ae_core": (
        ("__main__",),
        ("commands",),
        ("training", "measuring", "classifying"),
        ("autoencoder",),
        ("phases",),
        ("devices",),
        ("records",),
        ("parameters",),
        ("architecture", "data", "checkout", "machine", "numbers", "progress"),
        ("files",),
        ("terminal",),
        ("errors",),
    ),
    "ae_book": (
        ("__main__",),
        ("commands",),
        ("site",),
        ("analysis", "report"),
        ("showing", "making"),
    ),
}
"""Each module or room imports those of lower lines alone, and none of its own line but itself.

The table of `phases` names its modules in strings, `devices` imports a device when it is opened;
these count like any import: within functions, and for types.
"""
FOREIGN = {
    *("matplotlib", "seaborn", "cycler", "IPython", "ipykernel", "ipywidgets", "traitlets"),
    *("jupyter_client", "jupyter_core", "jupyter_book", "nbformat", "nbclient", "papermill"),
    *("sphinx", "docutils", "myst_nb", "myst_parser", "yaml", "playwright", "pypdf"),
}
"""What pictures, notebooks and pages are made with: never in `ae_core`."""
MODULES = freshness.modules()


def imports(name: str) -> frozenset[str]:
    """All that a module imports, anywhere in it, and the modules that it names in a string."""
    code = freshness.parsed(MODULES[name].read_text("utf8"))
    return code.imports | {text for text in code.strings if "." in text and text in MODULES}


def crossing(package: str) -> Iterator[tuple[str, str, str, str]]:
    """Imports from one room of a package into another: module, room, imported module, room."""
    for name in MODULES:
        if name.startswith(f"{package}."):
            room = name.split(".")[1]
            for found in imports(name) & MODULES.keys():
                if found.startswith(f"{package}.") and found.split(".")[1] != room:
                    yield name, room, found, found.split(".")[1]


@pytest.mark.parametrize("package", LAYERS)
def test_arrows_point_one_way(package):
    depth = {room: n for n, layer in enumerate(LAYERS[package]) for room in layer}
    rooms = {name.split(".")[1] for name in MODULES if name.startswith(f"{package}.")}
    assert rooms == depth.keys(), "the rooms, and those that have a place in LAYERS"
    wrong = [
        f"{name} imports {found}"
        for name, room, found, other in crossing(package)
        if depth[other] <= depth[room]
    ]
    assert wrong == []


def test_the_core_knows_nothing_of_the_book_and_what_it_is_made_with():
    for name in MODULES:
        if name.split(".")[0] == "ae_core":
            outside = {found.split(".")[0] for found in imports(name)}
            assert not outside & {"ae_book", *FOREIGN}, name


def test_the_book_takes_from_the_cores_command_line_only_for_its_own():
    """What chapters show would otherwise depend on a room that no output depends on."""
    users = {
        name
        for name in MODULES
        if name.startswith("ae_book.")
        and any(found.startswith("ae_core.commands") for found in imports(name))
    }
    assert users <= {"ae_book.commands", "ae_book.__main__"}


# --- size ----------------------------------------------------------------------------------------

ENTRIES, IN_A_ROOM, IN_A_MODULE = 20, 18, 350
REST, WHOLE = 4700, 8000
STORY = ("phases", "devices")


def lines_of_code(path: Path) -> int:
    """Lines with code on them: no comment, no docstring, no blank."""
    nodes = [n for n in ast.walk(ast.parse(path.read_text("utf8"))) if hasattr(n, "lineno")]
    texts = (n for n in nodes if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
    words = {line for n in texts for line in range(n.lineno, n.end_lineno + 1)}
    return len({line for n in nodes for line in (n.lineno, n.end_lineno)} - words)


def test_the_core_stays_small():
    """A stranger opens `ae_core` and sees the story.

    At its top there are as many entries as fit on one screen, with a line for each: the network,
    the autoencoder, eight rooms, and what all of them use. A room is one list, too: the phases have
    14 modules, and four more to come. A module is read at one sitting: the largest today, the
    records, has 309 lines of code, all declarations.

    The book's machinery, which once lay in here, was 3,800 lines. Whatever isn't phases and devices
    has 4,600 today, with training, classifying, measuring (a step, a whole run, one kernel alone),
    records and command line all there: it may grow by a module and not by a machinery. Phases and
    devices are what the story is of, and may take the rest, 3,300: beside 1,300 lines of phases and
    1,200 of devices there is room for three more phases, each with a plan of its own of 250 lines,
    and for what devices lack.
    """
    core = ROOT / "ae_core"
    entries = [path for path in core.iterdir() if path.suffix == ".py" or has_modules(path)]
    assert len(entries) <= ENTRIES, sorted(path.name for path in entries)
    for room in filter(has_modules, core.iterdir()):
        assert len([*room.glob("*.py")]) <= IN_A_ROOM, room.name
    lines = {path.relative_to(core): lines_of_code(path) for path in core.rglob("*.py")}
    long = {str(path): count for path, count in lines.items() if count > IN_A_MODULE}
    assert long == {}
    rest = sum(count for path, count in lines.items() if path.parts[0] not in STORY)
    assert rest <= REST and sum(lines.values()) <= WHOLE, (rest, sum(lines.values()))


def has_modules(path: Path) -> bool:
    """Whether it is a folder with modules in it, and not what an editor or a Python left."""
    return path.is_dir() and any(path.glob("*.py"))


def test_lines_of_code_are_counted_without_words(tmp_path):
    path = tmp_path / "m.py"
    path.write_text('"""Two\nlines."""\n\n# a comment\nx = (\n    1,\n    2,\n)\n"""Of x."""\n')
    assert lines_of_code(path) == 4
