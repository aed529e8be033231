from __future__ import annotations

import os

import pytest

from ae_core.errors import InputError
from ae_core.records import provenance


def test_provenance_names_machine_and_code():
    facts = provenance.current()
    assert facts.cpu
    assert facts.cores >= 1
    assert facts.memory_bytes > 2**28
    assert facts.versions["numpy"]
    assert facts.commit is None or len(facts.commit) == 40


def test_the_command_can_be_named(monkeypatch):
    monkeypatch.setenv("AE_COMMAND", "papermill a.ipynb b.ipynb")
    assert provenance.current().command == "papermill a.ipynb b.ipynb"
    monkeypatch.delenv("AE_COMMAND")
    monkeypatch.setattr("sys.argv", ["/x/ipykernel_launcher.py", "-f", "/tmp/x.json"])
    assert "run all cells" in provenance.current().command
    monkeypatch.setattr("sys.argv", ["/x/ae_core/__main__.py", "train", "--out", "a b"])
    assert provenance.current().command == "python -m ae_core train --out 'a b'"


def test_a_name_that_is_not_utf8_is_spelled_out_in_the_command(monkeypatch):
    name = os.fsdecode(b"w\xff.json")
    monkeypatch.setattr("sys.argv", ["/x/ae_core/__main__.py", "train", "--out", name])
    facts = provenance.current()
    assert facts.command == r"python -m ae_core train --out 'w\udcff.json'"
    assert provenance.Provenance.model_validate_json(facts.model_dump_json()) == facts
    monkeypatch.setenv("AE_COMMAND", name)
    assert provenance.current().command == r"w\udcff.json"


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        ("file", "expected a folder to write, found a file"),
        ("file/deeper", "expected a folder .*, found "),
        ("~nosuch", "expected a folder to write, found no such home folder"),
        ("/proc/none", "expected a folder that can be written, found /proc/none: No such file"),
        ("locked", "expected a folder that can be written, found locked: Permission denied"),
    ],
)
def test_a_wrong_folder_for_records_names_the_variable(tmp_path, monkeypatch, folder, told):
    """Root may write anywhere, so that one refusal is played."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir()
    access = os.access
    monkeypatch.setattr(
        "os.access", lambda path, mode: path.name != "locked" and access(path, mode)
    )
    monkeypatch.setenv("AE_RECORDS_DIR", folder)
    with pytest.raises(InputError, match=f"^AE_RECORDS_DIR: {told}"):
        provenance.records_directory()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "locked"}


def test_the_folder_for_records_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AE_RECORDS_DIR", "~/new/runs")
    assert provenance.records_directory() == tmp_path / "new" / "runs"
    assert (tmp_path / "new" / "runs").is_dir()
