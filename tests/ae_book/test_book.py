"""The book's machinery on a small book of its own, and the real chapters' form."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import papermill
import pytest
from sphinx.errors import ExtensionError

from ae_book.making import chapters, execution
from ae_book.making.chapters import BookError
from ae_book.site import html
from ae_core.data import locate
from tests.ae_book.small_book import BODY, PARAMETERS, quick, write_chapter

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted((ROOT / "book").glob("*.ipynb"))


def outputs(root: Path, name: str) -> str:
    notebook = nbformat.read(quick().executed(name), 4)
    return "".join(o.text for c in notebook.cells if c.cell_type == "code" for o in c.outputs)


def source(root: Path, name: str) -> dict:
    return json.loads((root / "book" / f"{name}.ipynb").read_text())


def test_chapters_are_executed_with_the_presets_parameters_and_sources_stay_clean(small_book):
    before = (small_book / "book" / "a.ipynb").read_text()
    execution.execute(quick(), [])
    assert outputs(small_book, "a") == "xxx\n"
    assert outputs(small_book, "b") == "b 1\n"
    assert (small_book / "book" / "a.ipynb").read_text() == before
    text = quick().executed("a").read_text()
    assert '"papermill":' not in text
    assert "iopub" not in text


def test_html_of_another_checkout_is_not_built_with_this_package(small_book, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "ae_book" / "site" / "sphinx")
    executed = importlib.import_module("executed")
    executed.refuse_other_package(SimpleNamespace(srcdir=str(small_book)))
    told = f"expected ae_book from {ROOT}, found that of {small_book}"
    with pytest.raises(ExtensionError, match=told):
        executed.refuse_other_package(SimpleNamespace(srcdir=str(ROOT)))


def test_only_what_is_missing_or_changed_runs_again(small_book, capsys):
    def ran() -> list[str]:
        execution.execute(quick(), [])
        lines = capsys.readouterr().out.splitlines()
        return [line.split(":")[0] for line in lines if line.endswith(": executing")]

    assert ran() == ["a", "b"]
    assert ran() == []
    write_chapter(small_book, "a", PARAMETERS, BODY, prose="# Another title")
    assert ran() == []  # prose always comes from the source
    write_chapter(small_book, "a", PARAMETERS, BODY + "  # changed")
    assert ran() == ["a"]
    (small_book / "book" / "presets" / "quick.yml").write_text("a:\n  times: 4\n")
    assert ran() == ["a"]
    (small_book / "ae_core" / "package.py").write_text("x = 2\n")
    assert ran() == ["a"]  # which imports it
    (small_book / "ae_book" / "making" / "execution.py").write_text("x = 2\n")
    assert ran() == []
    quick().executed("b").unlink()
    assert ran() == ["b"]
    execution.execute(quick(), ["b"], force=True)
    assert "b: executing" in capsys.readouterr().out


def test_a_failing_chapter_is_named_with_cell_and_error_and_the_rest_is_kept(small_book):
    write_chapter(small_book, "a", PARAMETERS, "print('before')", "1 / (times - 3)")
    with pytest.raises(BookError, match=r"a: cell 4 failed: ZeroDivisionError") as caught:
        execution.execute(quick(), [])
    assert "1 / (times - 3)" in str(caught.value)
    assert not quick().executed("a").exists()
    assert outputs(small_book, "b") == "b 1\n"


def test_a_damaged_copy_is_made_again(small_book, capsys):
    execution.execute(quick(), ["a"])
    for damage in ("{", "{}", '{"cells": [], "metadata": {}}'):
        quick().executed("a").write_text(damage)
        with pytest.raises(BookError, match="a: stale outputs"):
            quick().with_outputs("a")
        execution.execute(quick(), ["a"])
        assert outputs(small_book, "a") == "xxx\n"


def test_a_chapter_that_ends_early_is_a_failure(small_book):
    write_chapter(small_book, "a", PARAMETERS, "import sys; sys.exit()", "print('after')")
    with pytest.raises(BookError, match="a: cell 4 did not run"):
        execution.execute(quick(), ["a"])


def test_a_preset_may_leave_a_chapter_empty(small_book):
    (small_book / "book" / "presets" / "quick.yml").write_text("a:\n  # times: 9\n")
    assert chapters.read_preset("quick") == {"a": {}}


def test_a_dying_kernel_is_named_with_its_cell_and_the_rest_is_kept(small_book):
    write_chapter(small_book, "a", PARAMETERS, "import os; os._exit(3)", "print('after')")
    with pytest.raises(BookError, match=r"a: DeadKernelError(.|\n)*os\._exit\(3\)"):
        execution.execute(quick(), [])
    assert outputs(small_book, "b") == "b 1\n"


def test_what_a_cell_writes_to_stderr_is_a_failure(small_book):
    write_chapter(small_book, "a", PARAMETERS, "import sys; print('careful', file=sys.stderr)")
    with pytest.raises(BookError, match=r"a: cell 3 wrote to stderr:\ncareful"):
        execution.execute(quick(), ["a"])
    assert not quick().executed("a").exists()


RECORDING = """
import os, pathlib
folder = pathlib.Path(os.environ["AE_RECORDS_DIR"])
folder.mkdir(parents=True, exist_ok=True)
(folder / "r.json").write_text(str(times))
"""


def test_records_and_copy_take_their_place_together(small_book, monkeypatch):
    write_chapter(small_book, "a", PARAMETERS, RECORDING)
    execution.execute(quick(), ["a"])
    path = quick().record_path("r.json")
    assert path.read_text() == "3"
    assert "AE_RECORDS_DIR" not in os.environ
    write_chapter(small_book, "a", PARAMETERS, RECORDING, "1 / 0")
    with pytest.raises(BookError, match="ZeroDivisionError"):
        execution.execute(quick(), ["a"], force=True)
    assert path.read_text() == "3"
    path.unlink()
    write_chapter(small_book, "a", PARAMETERS, RECORDING)
    with pytest.raises(BookError, match="changed since: records"):
        quick().with_outputs("a")
    execution.execute(quick(), ["a"])
    assert path.read_text() == "3"
    with pytest.raises(BookError, match=r"no chapter wrote other\.json"):
        quick().record_path("other.json")


def test_chapters_must_have_run_on_the_same_data(small_book, tmp_path, monkeypatch):
    execution.execute(quick(), ["a"])
    other = tmp_path / "other"
    locate.synthesize(other, seed=9)
    monkeypatch.setenv("AE_CIFAR10_DIR", str(other))
    execution.execute(quick(), ["b"])
    quick().with_outputs("a")
    with pytest.raises(BookError, match="b: stale outputs: changed since: data"):
        quick().with_outputs("b")


@pytest.mark.parametrize(
    ("preset", "told"),
    [
        ("c:\n  x: 1\n", "c: no such chapter"),
        (
            "a:\n  tymes: 1\n",
            "a: tymes: no such parameter of a; did you mean times. it has times, name",
        ),
        ("a:\n  times: 1e-3\n", "a: times: expected a whole number from 1 .*, found '1e-3'"),
        ("a:\n  times: 2.5\n", "a: times: expected a whole number from 1 .*, found 2.5"),
        ("a:\n  times: 0\n", "a: times: expected a whole number from 1 .*, found 0"),
        ("a:\n  name: 7\n", "a: name: expected text, found 7"),
        ("b:\n  x:\n", "b: x: expected a whole number from 0 .*, found None"),
        ("a:\n  data: x\n", "a: set AE_CIFAR10_DIR instead"),
        ("- a\n", "expected chapters, each with parameters"),
        ("a: 7\n", "expected chapters, each with parameters"),
        ("a: [\n", "expected YAML"),
    ],
)
def test_mistakes_in_a_preset_are_errors(small_book, preset, told):
    (small_book / "book" / "presets" / "quick.yml").write_text(preset)
    with pytest.raises(BookError, match=told):
        execution.execute(quick(), [])


def test_a_chapter_without_its_parameters_cell_is_told(small_book):
    write_chapter(small_book, "a", BODY)
    notebook = source(small_book, "a")
    notebook["cells"][1]["metadata"] = {}
    (small_book / "book" / "a.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(BookError, match="a: name: expected text, found nothing"):
        execution.execute(quick(), [])


def test_outputs_are_merged_into_the_source(small_book):
    execution.execute(quick(), [])
    write_chapter(small_book, "a", PARAMETERS, BODY, prose="# New prose")
    merged = quick().with_outputs("a")
    assert (
        merged["cells"][0]["source"] == ["# New prose"]
        or merged["cells"][0]["source"] == "# New prose"
    )
    injected = [
        c for c in merged["cells"] if "injected-parameters" in c["metadata"].get("tags", [])
    ]
    assert len(injected) == 1
    assert "times = 3" in injected[0]["source"]
    assert merged["cells"][-1]["outputs"][0]["text"] in ("xxx\n", ["xxx\n"])


def test_missing_and_stale_copies_are_refused(small_book):
    with pytest.raises(BookError, match=r"a: no executed copy at .*make book PRESET=quick"):
        quick().with_outputs("a")
    execution.execute(quick(), [])
    write_chapter(small_book, "a", PARAMETERS, BODY + "\nprint(1)")
    (small_book / "ae_core" / "package.py").write_text("x = 2\n")
    with pytest.raises(
        BookError, match="a: stale outputs: changed since: code, package; run: make"
    ):
        quick().with_outputs("a")
    with pytest.raises(BookError, match="stale"):
        html.build([quick()])


# --- the real chapters ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_are_clean(path):
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0].source.splitlines():
        assert ": " in line.split("=")[0] and "  # " in line, f"typed and commented: {line}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_figures_have_a_name_a_caption_and_alt_text(path):
    for cell in nbformat.read(path, 4).cells:
        if "figures.show" not in cell.source:
            continue
        about = cell.metadata["mystnb"]
        assert about["figure"]["name"].startswith("fig-")
        assert len(about["figure"]["caption"]) > 20
        assert len(about["image"]["alt"]) > 20


@pytest.mark.parametrize("folder", [".", "book"])
def test_plain_papermill_works_from_the_root_and_from_book(folder, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("AE_CIFAR10_DIR", str(dataset.directory))
    chapter = "01_problem.ipynb" if folder == "book" else "book/01_problem.ipynb"
    out = tmp_path / "out.ipynb"
    command = [Path(sys.executable).with_name("papermill"), chapter, out, "-p", "per_class", "2"]
    subprocess.run(command, cwd=ROOT / folder, check=True, capture_output=True)
    assert "per_class = 2" in out.read_text()


def test_presets_fit_the_chapters():
    for path in (ROOT / "book" / "presets").glob("*.yml"):
        assert chapters.read_preset(path.stem)


def test_the_second_chapter_is_parameterised_as_the_readme_says():
    assert "epochs" in papermill.inspect_notebook(str(ROOT / "book" / "02_cpu_baseline.ipynb"))
