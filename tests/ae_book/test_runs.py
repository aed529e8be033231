"""Runs of this machine and editions: what makes them stale, and how they are shown together."""

from __future__ import annotations

import json
import re
import shutil

import nbformat
import pytest

from ae_book.analysis import headline
from ae_book.making import execution, runs
from ae_book.making.chapters import BookError
from ae_book.site import html, status
from ae_core import machine
from tests.ae_book.small_book import DECLARATION, PARAMETERS, git, quick, write_chapter
from tests.conftest import ROOT, made_small_book

RECORDING = """
import os, pathlib
pathlib.Path(os.environ["AE_RECORDS_DIR"], "r.json").write_text(str(times))
if not times:  # reached by its text
    import ae_core.package
    print("k.cu")
"""
COUNTING = """
from ae_book.making import runs
files = [p for p in runs.current().folder.glob("*/records/*.json")]
print(runs.current().name, [p.read_text() for p in files])
"""


def card():
    """A card, as far as the book's machinery looks."""
    return machine.Gpu("Some Card", "1.0", 2**34, "9.0")


@pytest.fixture(scope="module")
def published(tmp_path_factory, dataset):
    """A checkout with an edition, in which `b` analyses what `a` recorded; to copy."""
    with pytest.MonkeyPatch.context() as patch:
        root = made_small_book(tmp_path_factory.mktemp("published") / "book", patch, dataset)
        patch.setattr(machine, "gpu", card)
        shutil.copy(root / "book/presets/quick.yml", root / "book/presets/full.yml")
        write_chapter(root, "a", PARAMETERS, RECORDING)
        write_chapter(root, "b", "x: int = 1  # number", COUNTING, analyses=True)
        execution.execute(runs.edition("card"), [])
    return root


@pytest.fixture
def edition(small_book, published, monkeypatch):
    """A published run of the small book, executed in another checkout."""
    shutil.copytree(published, small_book, dirs_exist_ok=True)
    monkeypatch.setattr(machine, "gpu", card)
    return runs.edition("card")


def ran(run, capsys) -> list[str]:
    capsys.readouterr()
    execution.execute(run, [])
    lines = capsys.readouterr().out.splitlines()
    return [line.split(":")[0] for line in lines if line.endswith(": executing")]


def printed(run, chapter) -> str:
    outputs = [c.get("outputs", []) for c in run.with_outputs(chapter)["cells"]]
    return "".join("".join(o["text"]) for each in outputs for o in each)


def test_an_edition_is_executed_once_under_the_full_preset_and_goes_on_where_it_stopped(
    edition, small_book, capsys
):
    assert edition.folder == small_book / "editions" / "card"
    assert (edition.path("a") / "records" / "r.json").read_text() == "3"
    assert printed(edition, "b") == "card ['3']\n"
    assert ran(edition, capsys) == []
    shutil.rmtree(edition.path("b"))
    assert ran(edition, capsys) == ["b"]
    assert runs.editions() == [edition]


def test_a_later_package_kernel_or_parameter_leaves_an_edition_standing(edition, small_book):
    then = edition.metadata("a")["made_from"]
    (small_book / "ae_core" / "package.py").write_text("x = 2\n")
    (small_book / "kernels" / "k.cu").write_text("// 2\n")
    (small_book / "book/presets/full.yml").write_text("a:\n  times: 9\n")
    write_chapter(small_book, "a", PARAMETERS, RECORDING, prose="# Other words")
    assert "Other words" in edition.with_outputs("a")["cells"][0]["source"]
    now = edition.inputs("a", {"times": 9}, then["data"])
    assert [n for n in now if now[n] != then[n]] == ["parameters", "package", "kernels"]


def test_other_code_makes_an_edition_stale_and_the_message_says_how_to_refresh_it(
    edition, small_book, capsys
):
    write_chapter(small_book, "a", PARAMETERS, RECORDING + "1 + 1")
    with pytest.raises(BookError, match=r"a: stale .*changed since: code; run: make edition NAME"):
        html.build([edition])
    assert ran(edition, capsys) == ["a"]
    edition.with_outputs("b")  # the same records as before


def test_an_analysis_is_stale_when_what_it_analyses_changed(edition, small_book, capsys):
    write_chapter(small_book, "a", PARAMETERS, RECORDING.replace("times", "times + 1"))
    execution.execute(edition, ["a"])
    with pytest.raises(BookError, match="b: stale outputs: changed since: analysed"):
        edition.with_outputs("b")
    assert ran(edition, capsys) == ["b"]
    assert printed(edition, "b") == "card ['4']\n"


def test_a_damaged_record_makes_an_edition_stale(edition):
    (edition.path("a") / "records" / "r.json").write_text("4")
    with pytest.raises(BookError, match="a: stale outputs: changed since: records"):
        edition.with_outputs("a")


def test_without_a_gpu_nothing_is_measured_for_an_edition(edition, small_book, monkeypatch, capsys):
    monkeypatch.setattr(machine, "gpu", lambda: None)
    assert ran(edition, capsys) == []
    write_chapter(small_book, "b", "x: int = 1  # number", COUNTING + "1 + 1", analyses=True)
    assert ran(edition, capsys) == ["b"]
    with pytest.raises(BookError, match="a: an edition is measured on an NVIDIA GPU, found none"):
        execution.execute(edition, ["a"], force=True)
    assert (edition.path("a") / "records" / "r.json").exists()


def test_a_run_of_this_machine_is_stale_when_an_edition_beside_it_changed(edition, capsys):
    assert ran(quick(), capsys) == ["a", "b"]
    (edition.path("a") / "records" / "s.json").write_text("{}")
    assert ran(quick(), capsys) == ["b"]


def test_a_run_says_what_it_ran_on(edition):
    execution = edition.execution("a")
    assert execution.provenance.gpu.model == "Some Card" and execution.seconds > 0
    assert "-p times 3" in execution.provenance.command
    assert re.fullmatch(r"Some Card, \d{4}-\d\d-\d\d", edition.detail)
    assert (edition.title, quick().title) == ("card edition", "This machine")
    assert quick().detail == "not executed" and quick().execution("a") is None
    assert edition.again == "make edition NAME=card"


def test_the_status_has_a_row_for_each_chapter_of_each_run(edition):
    lines = status.markdown(quick(), [edition])
    assert [line for line in lines if line.startswith("**")] == [
        "**This machine**, not executed",
        f"**card edition**, {edition.detail}",
    ]
    here, there = (
        [line.split(" | ") for line in lines if line.startswith(f"| {{doc}}`{chapter}`")]
        for chapter in ("a", "b")
    )
    for missing, made in (here, there):
        assert set(missing[1:]) <= {"", " |"} and "Some Card" in made
    took = sum(edition.execution(chapter).seconds for chapter in ("a", "b")) / 60
    assert [line for line in lines if "minutes" in line] == [
        "0 chapters, executed in 0.0 minutes.",
        f"2 chapters, executed in {took:.1f} minutes.",
    ]


def test_the_current_run_is_named_by_the_environment(small_book, monkeypatch):
    assert runs.current() == quick()
    for run in (runs.edition("card"), runs.local("full")):
        for name, value in run.environment.items():
            monkeypatch.setenv(name, value)
        assert runs.current() == run


def test_records_are_found_by_name_and_a_missing_one_is_told(edition):
    assert edition.record_path("r.json").read_text() == "3"
    with pytest.raises(BookError, match=r"no chapter wrote s\.json; run: make edition NAME=card"):
        edition.record_path("s.json")
    with pytest.raises(BookError, match=r"make book PRESET=quick"):
        headline.markdown(quick())


def test_sites_are_joined_page_by_page(edition, small_book, monkeypatch):
    """This machine's book at the root, the edition below, each page linked to its twin."""
    for name in ("ae_core", "ae_book", "book/_static"):
        shutil.copytree(ROOT / name, small_book / name, dirs_exist_ok=True)
    for name in ("_config.yml", "book/references.bib"):
        shutil.copy(ROOT / name, small_book / name)
    with (small_book / "ae_book" / "making" / "parameters.py").open("a") as declarations:
        declarations.write(DECLARATION)
    (small_book / "book" / "index.md").write_text("# A small book\n")
    monkeypatch.setattr(machine, "gpu", lambda: None)
    execution.execute(quick(), [])
    git(small_book, "init")
    git(small_book, "remote", "add", "origin", "git@github.com:o/r.git")
    git(small_book, "add", "ae_core")
    git(small_book, "commit", "-m", "the package")
    first = html.build([quick(), edition])
    assert first == small_book / "_build" / "html" / "index.html"
    pages = {
        "here": first.parent / "book" / "b.html",
        "there": first.parent / "editions" / "card" / "book" / "b.html",
    }
    texts = {name: path.read_text() for name, path in pages.items()}
    assert "quick [" in texts["here"] and "card [" in texts["there"]
    for name, (twin, current) in {
        "here": ("../editions/card/book/b.html", "This machine"),
        "there": ("../../../book/b.html", "card edition"),
    }.items():
        nav = re.search(r"<nav class='runs'.*?</nav>", texts[name], re.S).group()
        assert f"href='{twin}'" in nav
        assert re.search(rf"aria-current='page'>{current} <small>", nav)
        assert (pages[name].parent / twin).exists()
        made = re.search(r"How this page was made.*?</details>", texts[name], re.S).group()
        assert "papermill book/b.ipynb out.ipynb" in made
        assert re.search(r"duration</th><td>\d+ s<", made)
        assert ("Some Card" in made) == (name == "there")
    assert_buttons_lead_to_copies(small_book, texts.values())
    git(small_book, "remote", "remove", "origin")
    alone = html.build([edition])
    text = (alone.parent / "book" / "b.html").read_text()
    assert "<nav class='runs'" not in text
    assert buttons(text) == {"download-source": "../_sources/book/b.ipynb"}
    assert not (alone.parent / "colab").exists()
    assert json.loads((edition.executed("b")).read_text())["metadata"]["ae"]["execution"]


def buttons(page: str) -> dict[str, str]:
    """Where the links in a page's header lead, by name."""
    found = re.findall(
        r'<a href="([^"]*)" target="_blank"\s+class="btn btn-sm btn-([\w-]+?)-button', page
    )
    return {name: link for link, name in found}


def assert_buttons_lead_to_copies(root, pages):
    """Each page: to the repository, to its source, and to a copy of it with a cell in front."""
    for page in pages:
        assert buttons(page) == {
            "source-repository": "https://github.com/o/r",
            "colab": "https://colab.research.google.com/github/o/r/blob/gh-pages/colab/b.ipynb",
            "download-source": "../_sources/book/b.ipynb",
        }
    site_root = root / "_build" / "html"
    for chapter, accelerator in {"a": "GPU", "b": None}.items():
        copy = nbformat.read(site_root / "colab" / f"{chapter}.ipynb", 4)
        nbformat.validate(copy)
        source = nbformat.read(root / "book" / f"{chapter}.ipynb", 4)
        assert nbformat.read(site_root / "_sources" / "book" / f"{chapter}.ipynb", 4) == source
        first, *others = copy.cells
        assert others == source.cells
        assert f'commit = "{git(root, "rev-parse", "HEAD")}"' in first.source
        assert copy.metadata.get("accelerator") == accelerator
