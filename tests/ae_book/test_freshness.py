"""What a chapter's outputs depend on, and what leaves them as they are."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path

import pytest

from ae_book.making import chapters, freshness
from ae_book.making.chapters import BookError
from tests.ae_book.small_book import PARAMETERS, write_chapter

CODE = """
from ae_core.phases import named
from ae_book.showing import notes

notes.source(named)
"""
PACKAGE = {
    "ae_core/__init__.py": "",
    "ae_core/phases/__init__.py": """
        TABLE = {"slow": "ae_core.phases.loops"}

        def named(name):
            \"\"\"What a reader sees.\"\"\"
            return TABLE[name]
    """,
    "ae_core/phases/loops.py": """
        \"\"\"Loops.\"\"\"
        import numpy

        KERNEL = "used.cu"

        def run():
            from ae_core import deep
            return deep.x  # why
    """,
    "ae_core/phases/native.cpp": "int x;",
    "ae_core/phases/__pycache__/loops.nbc": "1",
    "ae_core/phases/.draft.cpp": "1",
    "ae_core/deep.py": """
        x = 1
        \"\"\"Of a field.\"\"\"
    """,
    "ae_core/unreached.py": "x = 1",
    "ae_core/commands/__init__.py": "x = 1",
    "ae_book/__init__.py": "",
    "ae_book/showing/__init__.py": "",
    "ae_book/showing/notes.py": """
        from ae_book.making import runs

        LIST = "used.yml"
    """,
    "ae_book/making/__init__.py": "",
    "ae_book/making/runs.py": "from ae_core import unreached",
    "kernels/used.cu": "// 1",
    "kernels/other.cu": "// 1",
    "kernels/header.cuh": "// 1",
    "book/used.yml": "- 1",
    "book/other.yml": "- 1",
}


@pytest.fixture
def book(small_book) -> Path:
    """A book whose chapter `a` reaches a phase through the table and shows a function of it."""
    for name, text in PACKAGE.items():
        path = small_book / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(inspect.cleandoc(text) + "\n")
    write_chapter(small_book, "a", PARAMETERS, CODE)
    return small_book


def changed(root: Path, name: str, old: str, new: str) -> list[str]:
    """What of the chapter's inputs is another when a text in a file is replaced."""
    then, path = freshness.inputs("a", {}, ""), root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    return freshness.differences(then, freshness.inputs("a", {}, ""), published=False)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("ae_core/phases/loops.py", "why", "a comment in a reached module"),
        ("ae_core/phases/loops.py", "Loops.", "A docstring."),
        ("ae_core/deep.py", "Of a field", "A field's docstring"),
        ("ae_core/unreached.py", "1", "2"),
        ("ae_core/phases/__pycache__/loops.nbc", "1", "2"),
        ("ae_core/phases/.draft.cpp", "1", "2"),
        ("ae_core/commands/__init__.py", "1", "2"),
        ("ae_book/making/runs.py", "unreached", "deep"),
        ("kernels/other.cu", "1", "2"),
        ("book/other.yml", "1", "2"),
    ],
)
def test_what_no_output_can_show_leaves_a_chapter_as_it_is(book, name, old, new):
    assert changed(book, name, old, new) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("ae_core/phases/loops.py", "deep.x", "deep.x + 1", "package"),
        ("ae_core/deep.py", "1", "2", "package"),
        ("ae_core/phases/__init__.py", "What a reader sees", "Source that is shown", "package"),
        ("ae_core/phases/native.cpp", "x", "y", "package"),
        ("ae_book/showing/notes.py", "LIST", "NAME", "package"),
        ("kernels/used.cu", "1", "2", "kernels"),
        ("kernels/header.cuh", "1", "2", "kernels"),
        ("book/used.yml", "1", "2", "lists of the book"),
        ("ae_core/phases/loops.py", "import numpy", "import numpy, pandas", "package, versions"),
    ],
)
def test_what_an_output_may_show_makes_a_chapter_stale(book, name, old, new, told):
    assert ", ".join(changed(book, name, old, new)) == told


def test_a_module_is_reached_by_its_name(book):
    then = freshness.inputs("a", {}, "")
    (book / "ae_core" / "deep.py").rename(book / "ae_core" / "deeper.py")
    loops = book / "ae_core" / "phases" / "loops.py"
    loops.write_text(loops.read_text().replace("import deep", "import deeper as deep"))
    now = freshness.inputs("a", {}, "")
    assert freshness.differences(then, now, published=False) == ["package"]


def test_of_a_published_chapter_only_its_code_its_records_and_what_it_analyses_count():
    then = dict.fromkeys(("code", "records", "analysed", "package", "kernels", "versions"), "1")
    now = dict.fromkeys(then, "2")
    assert freshness.differences(then, now, published=True) == ["code", "records", "analysed"]
    assert freshness.differences(then, now, published=False) == list(now)


def test_a_cell_that_is_not_python_is_told(small_book):
    write_chapter(small_book, "a", PARAMETERS, "%matplotlib inline")
    with pytest.raises(BookError, match="a: expected Python in every cell"):
        freshness.inputs("a", {}, "")


# --- the real chapters ---------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", chapters.names())
def test_chapters_take_nothing_from_the_machinery_but_the_check_of_their_parameters(chapter):
    imports = freshness.parsed(text_of(chapter)).imports & freshness.modules().keys()
    machinery = set(filter(freshness.is_machinery, imports))
    assert machinery == {"ae_book.making", "ae_book.making.parameters"}


@pytest.mark.parametrize("chapter", chapters.names())
def test_the_text_of_every_module_whose_source_a_chapter_shows_counts(chapter):
    names: dict[str, object] = {}
    tree = ast.parse(text_of(chapter))
    shown = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            exec(ast.unparse(node), names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "notes.source":
            function = eval(ast.unparse(node.args[0]), names)
            function = inspect.unwrap(getattr(function, "py_func", function))
            shown.add(inspect.getmodule(function).__name__)
    assert shown == freshness.reach(chapter).shown


def test_every_phase_is_reached_by_a_chapter_that_trains():
    there = {name for name in freshness.modules() if name.startswith("ae_core.phases.")}
    assert there <= freshness.reach("02_cpu_baseline").modules.keys()


def text_of(chapter: str) -> str:
    notebook = json.loads(chapters.source_path(chapter).read_text())
    return "\n".join("".join(cell["source"]) for cell in chapters.code_cells(notebook))
