"""Parameters of chapters and options of commands: declared once, and a fault told in one line."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args, get_type_hints

import nbformat
import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from pydantic.fields import FieldInfo
from typer.models import OptionInfo, ParameterInfo

from ae_book.analysis import comparison
from ae_book.making import chapters, parameters, runs
from ae_book.making.parameters import CHAPTERS, refuse
from ae_core import machine, phases
from ae_core import parameters as declared_parameters
from ae_core.__main__ import main
from ae_core.architecture import Architecture
from ae_core.autoencoder import Autoencoder
from ae_core.classifying.features import stratified
from ae_core.commands import program
from ae_core.commands.options import declared, kind_of, spelled
from ae_core.data import cifar10
from ae_core.errors import InputError
from ae_core.measuring.timing import time_steps
from ae_core.measuring.verification import compare
from ae_core.parameters import ParameterError
from ae_core.records import TrainingSettings

ROOT = Path(__file__).resolve().parents[2]
THERE = ", ".join(run.name for run in runs.editions()) or "none is there"
EACH = [(chapter, name) for chapter, kind in CHAPTERS.items() for name in kind.model_fields]
CARD = machine.Gpu("some card", "580.1", 2**34, "9.0")
FEW = settings(max_examples=20, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module", autouse=True)
def without_a_gpu():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "gpu", lambda: None)
        yield


def limits(field: FieldInfo) -> tuple[Any, Any]:
    """The least and the largest value: of a whole number, or of a float that is good."""
    found = {n: getattr(m, n) for m in field.metadata for n in ("ge", "gt", "le") if hasattr(m, n)}
    least = found.get("ge", found.get("gt"))
    if "gt" in found:
        least = math.nextafter(least, math.inf)
    return least, found.get("le", sys.float_info.max)


def good(field: FieldInfo) -> st.SearchStrategy:
    """Values that a declaration allows."""
    if choices := get_args(field.annotation):
        return st.sampled_from([c for c in choices if c not in ("cuda", "rapids")])
    if field.annotation is int:
        return st.integers(*limits(field))
    if field.annotation is float:
        return st.floats(*limits(field), allow_nan=False) | st.just(1)
    if field.annotation is bool:
        return st.booleans()
    return st.just("")


def bad(field: FieldInfo) -> st.SearchStrategy:
    """Values of other kinds, just out of range and far out of it, and places that are not there."""
    other = [st.none(), st.lists(st.integers(), max_size=2), st.binary(max_size=3)]
    nowhere = st.text().map("/nowhere/".__add__) | st.sampled_from(["/etc/hostname/x", "a\0b"])
    if choices := get_args(field.annotation):
        other += [st.text().filter(lambda t: t not in choices), st.booleans(), st.integers()]
        other += [st.sampled_from([c for c in choices if c in ("cuda", "rapids")] or [None])]
    elif field.annotation is bool:
        other += [st.text(), st.integers(), st.floats()]
    elif field.annotation is str:
        other += [st.booleans(), st.integers(), st.floats(), nowhere]
    else:
        least, most = limits(field)
        other += [st.booleans(), st.text(), st.sampled_from(["3", "1e-3", "nan", ""])]
        other += [st.sampled_from([math.nan, math.inf, -math.inf, -1, 10**5000, -(10**5000)])]
        if field.annotation is int:
            other += [st.floats(), st.integers(max_value=least - 1), st.integers(most + 1)]
            other += [st.sampled_from([least - 1, most + 1])]
        else:
            below, above = math.nextafter(least, -math.inf), math.nextafter(most, math.inf)
            other += [st.floats(max_value=below), st.floats(min_value=above)]
            other += [st.sampled_from([below, above])]
    return st.one_of(other)


def told(chapter: str, values: dict[str, Any]) -> list[str]:
    """The lines that refuse a chapter's parameters."""
    with pytest.raises(ParameterError) as caught:
        refuse(chapter, values)
    return str(caught.value).splitlines()


# --- the declarations and the notebooks ----------------------------------------------------------


def test_every_chapter_is_declared():
    assert list(CHAPTERS) == chapters.names()


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapters_cell_and_its_declaration_agree(chapter):
    (cell,) = [
        cell
        for cell in chapters.code_cells(chapters.read(chapters.source_path(chapter)))
        if "parameters" in cell["metadata"].get("tags", [])
    ]
    types = {s.target.id: s.annotation.id for s in ast.parse(cell["source"]).body}
    fields = CHAPTERS[chapter].model_fields
    assert types.keys() == fields.keys()
    for name, field in fields.items():
        kind = str if get_args(field.annotation) else field.annotation
        assert types[name] == kind.__name__, name
    refuse(chapter, chapters.defaults(chapter))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_checks_itself_right_after_its_parameters_and_keeps_them(chapter):
    cells = chapters.read(chapters.source_path(chapter))["cells"]
    number = next(n for n, c in enumerate(cells) if "parameters" in c["metadata"].get("tags", []))
    check = f'from ae_book.making import parameters\n\nparameters.check("{chapter}")'
    assert cells[number + 1]["source"] == check
    for cell in cells[number + 2 :]:
        if cell["cell_type"] == "code":  # else the check could not be executed again
            assert not parameters._assigned(cell["source"]) & CHAPTERS[chapter].model_fields.keys()


@pytest.mark.parametrize(("chapter", "name"), EACH)
def test_good_values_pass(chapter, name):
    field = CHAPTERS[chapter].model_fields[name]
    values = chapters.defaults(chapter)
    if chapter == "06_svm":
        values |= {"batch_size": 1} if name == "images" else {"images": 50_000}

    @FEW
    @given(good(field))
    def passes(value):
        refuse(chapter, values | {name: value})

    passes()


@pytest.mark.parametrize(("chapter", "name"), EACH)
def test_a_bad_value_is_told_in_one_line(chapter, name):
    values = chapters.defaults(chapter)

    @FEW
    @given(bad(CHAPTERS[chapter].model_fields[name]))
    def is_told(value):
        (line,) = told(chapter, values | {name: value})
        assert line.startswith(f"{name}: expected ")
        assert ", found " in line
        assert len(line) < 200

    is_told()


def test_every_wrong_parameter_has_its_line():
    values = chapters.defaults("02_cpu_baseline")
    del values["budget"]
    assert told("02_cpu_baseline", values | {"epochs": 0, "seed": -1}) == [
        "epochs: expected a whole number from 1 to 1,000,000, found 0",
        "seed: expected a whole number from 0 to 4,294,967,295, found -1",
        "budget: expected a finite number from 0 to 1,000,000, found nothing",
    ]


@pytest.mark.parametrize(
    ("chapter", "changed", "line"),
    [
        ("02_cpu_baseline", {"test_images": 0}, "a whole number from 1 to 10,000, found 0"),
        ("03_gpu_basic", {"device": "tpu"}, "one of auto, cuda, emulated, found 'tpu'"),
        ("04_gpu_v1", {"device": "cuda"}, "an NVIDIA GPU for 'cuda', found none: choose auto"),
        ("06_svm", {"device": "emulated"}, "one of auto, cuda, found 'emulated'"),
        ("06_svm", {"search": 1}, "True or False, found 1"),
        ("06_svm", {"C": "3"}, "a finite number above 0, at most 1e+09, found '3'"),
        ("06_svm", {"batch_size": 1001}, "at most images, 1000, found 1001"),
        ("06_svm", {"checkpoint": "/nope"}, "an existing file, found nothing: '/nope'"),
        ("07_performance", {"executed": "/nope"}, "an existing folder, found nothing: '/nope'"),
        ("07_performance", {"edition": "x"}, f"a published edition ({THERE}), found 'x'"),
        ("01_problem", {"data": __file__}, f"an existing folder, found a file: '{__file__}'"),
        ("01_problem", {"data": 7}, "the path of a folder or file, as text, found 7"),
    ],
)
def test_what_was_expected_is_said_in_words(chapter, changed, line):
    (name,) = changed
    found = told(chapter, chapters.defaults(chapter) | changed)
    assert [parameters.shown(f) for f in found] == [parameters.shown(f"{name}: expected {line}")]


def test_folders_that_are_there_pass_and_must_hold_what_is_read(tmp_path):
    refuse("01_problem", {"data": str(tmp_path), "per_class": 1})
    expected = "executed: expected a folder of executed chapters, found none in it: "
    (line,) = told("08_claims", {"executed": str(tmp_path)})
    assert line.startswith(expected)
    (tmp_path / "02_cpu_baseline" / "records").mkdir(parents=True)
    refuse("08_claims", {"executed": str(tmp_path)})


@pytest.mark.parametrize("chapter", ["01_problem", "08_claims"])
def test_a_home_that_nobody_has_is_told(chapter):
    (name,) = {"data", "executed"} & CHAPTERS[chapter].model_fields.keys()
    (line,) = told(chapter, chapters.defaults(chapter) | {name: "~nobody-here/x"})
    assert line.endswith("expected an existing folder, found no such home folder: '~nobody-here/x'")


def test_with_a_gpu_the_card_may_be_chosen(monkeypatch):
    monkeypatch.setattr(machine, "gpu", lambda: CARD)
    refuse("05_gpu_v2", chapters.defaults("05_gpu_v2") | {"device": "cuda"})


# --- in a notebook -------------------------------------------------------------------------------

DEFAULTS = chapters.defaults("03_gpu_basic")
CHECK = 'from ae_book.making import parameters\nparameters.check("03_gpu_basic")'


def found_after(*cells: str) -> dict[str, Any]:
    """The parameters that are found after these cells, with the chapter's defaults."""
    names = dict(DEFAULTS)
    for cell in cells:
        exec(cell, names)
    return parameters.parameters_of("03_gpu_basic", names, ["", "device = 'auto'", *cells, CHECK])


def test_names_that_papermill_sets_and_the_chapter_lacks_are_refused():
    (line,) = told("03_gpu_basic", found_after("# Parameters\nepohs = 3\nsteps = 4\n"))
    assert line.startswith("epohs: no such parameter of 03_gpu_basic; did you mean epochs? it has ")
    assert line.endswith(", ".join(CHAPTERS["03_gpu_basic"].model_fields))


@pytest.mark.parametrize(
    "cells",
    [
        (),
        ("# Parameters\nepochs = 3",),
        ("# Parameters\nepohs = 3", "mine = 1"),  # executed again, later
        ("mine = 1; images_again = 2",),
        ("mine = 1\n# Parameters\nother = 2",),
    ],
)
def test_a_readers_own_names_are_not_papermills(cells):
    assert found_after(*cells).keys() == DEFAULTS.keys()


def test_a_notebook_shows_the_line_and_no_traceback(capsys, monkeypatch):
    shell = InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    shell.user_ns |= DEFAULTS | {"epochs": 0}
    assert not shell.run_cell(CHECK, store_history=True).success
    line = "epochs: expected a whole number from 1 to 1,000,000, found 0"
    assert capsys.readouterr().out.strip() == line
    shell.user_ns["epochs"] = 1
    assert shell.run_cell(CHECK, store_history=True).success


@pytest.mark.parametrize("name", ["In", "_ih", "Out", "get_ipython", "CHAPTERS"])
def test_a_name_of_ipythons_own_is_refused_like_any_other(capsys, monkeypatch, name):
    shell = InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    shell.user_ns |= DEFAULTS
    shell.run_cell(f"# Parameters\n{name} = []\n", store_history=True)
    assert not shell.run_cell(CHECK, store_history=True).success
    assert f"{name}: no such parameter of 03_gpu_basic; " in capsys.readouterr().out


def test_the_check_needs_a_notebook(monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    with pytest.raises(ParameterError, match="expected 01_problem to run in Jupyter"):
        parameters.check("01_problem")


def test_plain_papermill_tells_every_kind_of_bad_value_before_anything_runs(tmp_path):
    out = tmp_path / "out.ipynb"
    given = ["-p", "epochs", "null", "-p", "seconds", "nan", "-p", "seed", "-1", "-r", "steps", "3"]
    given += ["-p", "images", "None", "-y", "budget: .inf", "-p", "data", "/nope", "-p", "epohs", 1]
    command = [Path(sys.executable).with_name("papermill"), "book/05_gpu_v2.ipynb", out, *given]
    done = subprocess.run(
        [*map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    cells = [c for c in nbformat.read(out, 4).cells if c.cell_type == "code"]
    (error,) = [o for c in cells for o in c.outputs if o.output_type == "error"]
    known = ", ".join(CHAPTERS["05_gpu_v2"].model_fields)
    assert error.traceback == [
        "seconds: expected a finite number above 0, at most 1,000,000, found nan",
        "images: expected a whole number from 1 to 50,000, found None",
        "epochs: expected a whole number from 1 to 1,000,000, found 'null'",
        "seed: expected a whole number from 0 to 4,294,967,295, found -1",
        "steps: expected a whole number from 3 to 1,000,000, found '3'",
        "data: expected an existing folder, found nothing: '/nope'",
        "budget: expected a finite number from 0 to 1,000,000, found inf",
        f"epohs: no such parameter of 05_gpu_v2; did you mean epochs? it has {known}",
    ]
    assert "\n".join(error.traceback) in done.stderr
    assert "parameters.py" not in json.dumps(error.traceback)


# --- functions that would take nonsense silently -------------------------------------------------

SMALLEST = Architecture(channels=1, height=4, width=4, filters=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (
            lambda data: [*compare(["cpu"], data, images=-1)],
            "images: expected a whole number from 1",
        ),
        (lambda data: [*compare(["cpu"], data, steps=-1)], "steps: expected a whole number from 0"),
        (lambda data: stratified(data.test.labels, -1), "images: expected a whole number from 0"),
        (
            lambda _: Autoencoder(phases.create("cpu", SMALLEST, 0)),
            "batch_size: expected a whole number from 1",
        ),
        (
            lambda _: time_steps("cpu", np.zeros((1, 3, 32, 32), np.float32), steps=0),
            "steps: expected a whole number from 1",
        ),
        (
            lambda _: comparison.read("/nope"),
            "executed: expected an existing folder, found nothing",
        ),
        (lambda _: comparison.read(edition="nope"), "edition: expected a published edition"),
        (
            lambda _: declared_parameters.validated(TrainingSettings, images=5, batch_size=6),
            "batch_size: expected at most images, 5, found 6",
        ),
    ],
)
def test_functions_refuse_it_as_well(dataset, call, line):
    with pytest.raises(InputError, match=f"^{line}"):
        call(dataset)


# --- on the command line -------------------------------------------------------------------------


def registered() -> dict[tuple[str, ...], Any]:
    """Typer's entry for each command, by its words."""
    app = program.app
    groups = [((), app), *(((g.name,), g.typer_instance) for g in app.registered_groups)]
    return {
        (*words, info.name or info.callback.__name__): info
        for words, group in groups
        for info in group.registered_commands
    }


def options_of(command: Callable) -> dict[str, Any]:
    """A command's options and arguments that take a value, as they are annotated."""
    hints = get_type_hints(command, include_extras=True).items()
    return {n: a for n, a in hints if n != "return" and get_args(a)[0] is not bool}


def note_of(annotation: Any) -> ParameterInfo:
    (note,) = [note for note in get_args(annotation) if isinstance(note, ParameterInfo)]
    return note


COMMANDS = {words: inspect.unwrap(info.callback) for words, info in registered().items()}
OPTIONS = [(words, name) for words, command in COMMANDS.items() for name in options_of(command)]


def test_every_command_declares_what_its_options_may_be():
    for words, info in registered().items():
        for name, annotation in options_of(COMMANDS[words]).items():
            assert info.callback is not COMMANDS[words], f"{words}: not declared"
            field = FieldInfo.from_annotation(kind_of(annotation))
            limited = [m for m in field.metadata if not isinstance(m, ParameterInfo)]
            assert limited or get_args(field.annotation), f"{words}: {name} may be anything"


class WorkBeganError(Exception):
    pass


@pytest.fixture(scope="module")
def without_work():
    """The command line, whose commands do no more than tell that they were called."""

    def idle(command: Callable) -> Callable:
        @wraps(command)
        def call(**_):
            raise WorkBeganError

        return declared(call)

    with pytest.MonkeyPatch.context() as patch:
        for words, info in registered().items():
            patch.setattr(info, "callback", idle(COMMANDS[words]))
        patch.setattr(program, "app", typer.main.get_command(program.app))
        patch.setattr("warnings.formatwarning", None)
        yield


def run(arguments: list[str]) -> tuple[int, str]:
    """A command line's exit code, and what it tells on stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as stderr, pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, stderr.getvalue()


def call(
    words: tuple[str, ...], place: Path, name: str = "", value: str = ""
) -> tuple[list[str], str]:
    """A call in which one option has this value, and what an error calls the option."""
    options, arguments, called = [], [], name
    signature = inspect.signature(COMMANDS[words]).parameters
    for each, annotation in options_of(COMMANDS[words]).items():
        note = note_of(annotation)
        if each == name and isinstance(note, OptionInfo):
            called = spelled(name, annotation)
            options = [f"{called}={value}"]
        elif each == name:
            arguments.append(value)
        elif signature[each].default is inspect.Parameter.empty:
            arguments.append(str(place / "file" if each == "checkpoint" else place))
    return [*words, *options, "--", *arguments], called


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a file in it."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "file").touch()
    return folder


def bad_text(annotation: Any, place: Path) -> st.SearchStrategy[str]:
    """What no option of this kind may be, as typed."""
    field, kind = FieldInfo.from_annotation(kind_of(annotation)), kind_of(annotation)
    text = st.text(st.characters(exclude_categories=["Cs"]))
    if field.annotation in (int, float):
        least, most = limits(field)
        words = text.filter(lambda t: not any(c.isdecimal() for c in t))
        words |= st.sampled_from(["nan", "inf", "-inf", "1e400", "", "None", "3 4", "0x10", "1,5"])
        if field.annotation is int:
            numbers = st.integers(max_value=least - 1) | st.integers(most + 1) | st.just(2.5)
        else:
            numbers = st.floats(max_value=math.nextafter(least, -math.inf))
        return words | numbers.map(str)
    if choices := get_args(field.annotation):
        machines = [c for c in choices if c in ("cuda", "rapids")]
        return text.filter(lambda t: t not in choices) | st.sampled_from([*machines, ""])
    if "name of" in str(field.description):
        return text.map("/".__add__) | st.sampled_from(["", "..", "a/b", "a b"])
    if field.annotation is Path:
        inside = str(place / "file" / "x")
        other = str(place / "file") if "_new_folder" in str(kind) else str(place)
        return st.sampled_from(
            ["", inside, other, "/dev/null", "a\0b", "x" * 300, "~nobody-here/x"]
        )
    return text.map("/nowhere/".__add__) | st.sampled_from(["", "a\0b", "x" * 300])


@pytest.mark.parametrize(("words", "name"), OPTIONS)
def test_a_bad_option_is_told_in_one_line_and_nothing_begins(without_work, words, name, place):
    @settings(FEW, max_examples=12)
    @given(bad_text(options_of(COMMANDS[words])[name], place))
    def is_told(value):
        arguments, called = call(words, place, name, value)
        code, stderr = run(arguments)
        (line,) = stderr.splitlines()
        assert code == 1
        assert line.startswith(f"error: {called}: expected ")
        assert ", found " in line

    is_told()


@pytest.mark.parametrize("words", COMMANDS)
def test_a_commands_defaults_are_good(without_work, words, place):
    with pytest.raises(WorkBeganError):
        main(call(words, place)[0])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train", "--epohs", "3"], "error: No such option: --epohs"),
        (["features"], "error: Missing argument"),
        (["train", "--epochs"], "error: Option '--epochs' requires an argument."),
        (["train", "--graph=1"], "error: Option '--graph' does not take a value."),
        (["nonsense"], "error: No such command 'nonsense'."),
    ],
)
def test_other_mistakes_are_told_in_one_line_too(without_work, arguments, line):
    code, stderr = run(arguments)
    assert code == 2
    assert stderr.startswith(line) and stderr.count("\n") == 1


def test_the_archive_of_the_data_is_told_how_to_unpack(tmp_path, without_work):
    archive = tmp_path / cifar10.ARCHIVE
    archive.touch()
    expected = f"{archive}: expected the folder that is in this archive; unpack it: tar -xzf "
    (line,) = told("01_problem", {"data": str(archive), "per_class": 1})
    assert line.startswith(f"data: {expected}")
    _, stderr = run(["data", "info", "--data", str(archive)])
    assert stderr.startswith(f"error: --data: {expected}")
    assert stderr.count("\n") == 1
