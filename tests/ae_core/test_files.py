"""Writing: whole or absent, one process at a time, no litter. Other processes are real ones."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ae_core import files
from ae_core.files import BusyError, UnwritableError

HOLD = """
import sys
from ae_core import files
with files.claimed(sys.argv[1]) as drafts:
    (drafts / "half").write_text("half a file")
    (drafts / "folder").mkdir()
    print("claimed", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """A process that has claimed a target and waits, with drafts written."""
    started = []

    def start(target: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(target)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        assert process.stdout.readline() == "claimed\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    target = tmp_path / "new" / "x.txt"
    for text in ("first", "second"):
        with files.replacing(target) as draft:
            draft.write_text(text)
            assert names(target.parent) == [".x.txt.ae-draft", *["x.txt"] * (text == "second")]
        assert target.read_text() == text
        assert names(target.parent) == ["x.txt"]


def test_a_folder_takes_the_place_of_an_old_one(tmp_path):
    for name in ("a", "b"):
        with files.replacing(tmp_path / "made") as draft:
            draft.mkdir()
            (draft / name).write_text(name)
        assert names(tmp_path) == ["made"]
        assert names(tmp_path / "made") == [name]


@pytest.mark.parametrize("name", ["replaced", "old", ".old", "x.old"])
def test_any_name_will_do(tmp_path, name):
    for text in ("first", "second"):
        with files.replacing(tmp_path / name) as draft:
            draft.mkdir()
            (draft / text).touch()
        assert names(tmp_path / name) == [text]
    assert names(tmp_path) == [name]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(target) as draft:
        draft.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_a_claim_within_a_claim_is_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with files.claimed(tmp_path / "x") as outer:
        with files.claimed("x") as inner:
            assert inner == outer
        with files.replacing(tmp_path / "x") as draft:
            draft.write_text("x")
        assert outer.is_dir()
    assert names(tmp_path) == ["x"]


def test_another_process_is_refused_and_named(tmp_path, other):
    other(tmp_path / "x")
    with pytest.raises(BusyError, match=rf"{tmp_path}/x: another process is writing it: wait"):
        files.claimed(tmp_path / "x").__enter__()
    with files.replacing(tmp_path / "y", wait=False) as draft:
        draft.write_text("y")
    assert names(tmp_path) == [".x.ae-draft", "y"]  # a live process's drafts stay


WAIT = """
import fcntl
flock = fcntl.flock
def told(lock, how):
    if how == fcntl.LOCK_EX:
        print("waits", flush=True)
    flock(lock, how)
fcntl.flock = told
""" + HOLD.replace("argv[1]", "argv[1], wait=True")


def test_who_waits_goes_on_when_the_other_has_finished(tmp_path, other):
    process = other(tmp_path / "x")
    command = [sys.executable, "-c", WAIT, str(tmp_path / "x")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as waiting:
        assert waiting.stdout.readline() == "waits\n"
        assert names(tmp_path / ".x.ae-draft") == ["folder", "half"]  # as its owner left them
        process.communicate("")
        assert waiting.communicate("")[0] == "claimed\n"
    assert names(tmp_path) == []


def test_another_thread_is_refused_or_waits(tmp_path):
    def refused():
        with pytest.raises(BusyError), files.claimed(tmp_path / "x"):
            pass

    with files.claimed(tmp_path / "x") as drafts, ThreadPoolExecutor() as threads:
        (drafts / "half").touch()
        threads.submit(refused).result()
        assert names(drafts) == ["half"]


def test_threads_that_write_the_same_file_take_turns(tmp_path):
    begin = threading.Barrier(2)

    def write(letter: str) -> None:
        begin.wait()
        for _ in range(50):
            with files.replacing(tmp_path / "x") as draft:
                assert names(draft.parent) == []
                draft.write_text(letter)
                draft.write_text(draft.read_text() * 3)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(write, "ab"))
    assert (tmp_path / "x").read_text() in ("aaa", "bbb")
    assert names(tmp_path) == ["x"]


def test_a_sweep_that_holds_the_lock_for_a_moment_is_no_other_writer(tmp_path, monkeypatch):
    drafts = tmp_path / ".x.ae-draft"
    drafts.mkdir()
    held = os.open(drafts, files.OPEN)
    fcntl.flock(held, fcntl.LOCK_EX)
    monkeypatch.setattr(files.time, "sleep", lambda _: os.close(held))
    with files.replacing(tmp_path / "x", wait=False) as draft:
        draft.write_text("x")
    assert names(tmp_path) == ["x"]


def test_the_name_of_dead_drafts_is_free_while_they_are_removed(tmp_path, monkeypatch):
    """Which may take long; and a process that is killed in it leaves them to the next sweep."""
    remove = shutil.rmtree
    (tmp_path / ".x.ae-draft" / "folder").mkdir(parents=True)

    def meanwhile(path: Path) -> None:
        monkeypatch.setattr(shutil, "rmtree", remove)
        monkeypatch.setattr(files, "TRIES", 0)
        with files.replacing(tmp_path / "x", wait=False) as draft:
            draft.write_text("x")
        raise InterruptedError

    monkeypatch.setattr(shutil, "rmtree", meanwhile)
    files.sweep(tmp_path)
    left, made = names(tmp_path)
    assert re.fullmatch(r"\.[0-9a-f]+\.ae-draft", left) and made == "x"
    files.sweep(tmp_path)
    assert names(tmp_path) == ["x"]


def test_drafts_that_a_cleaner_has_removed_are_made_anew(tmp_path):
    with files.claimed(tmp_path / "x") as drafts:
        drafts.rmdir()
        for text in ("first", "second"):
            with files.replacing(tmp_path / "x") as draft:
                draft.write_text(text)
    assert (tmp_path / "x").read_text() == "second"
    assert names(tmp_path) == ["x"]


def test_drafts_that_another_has_made_since_stay(tmp_path):
    with files.claimed(tmp_path / "x") as drafts:
        drafts.rmdir()
        drafts.mkdir()
        (drafts / "theirs").touch()
    assert names(drafts) == ["theirs"]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_drafts_is_refused_and_not_followed(tmp_path, there):
    precious = tmp_path / "precious"
    if there:
        precious.mkdir()
        (precious / "thesis").touch()
    (tmp_path / ".x.ae-draft").symlink_to(precious)
    told = (
        rf"{tmp_path}/\.x\.ae-draft: expected a folder .* for drafts of x, found a link: remove it"
    )
    with pytest.raises(UnwritableError, match=told), files.replacing(tmp_path / "x"):
        pass
    assert names(tmp_path) == [".x.ae-draft", *["precious"] * there]
    assert not there or names(precious) == ["thesis"]


def test_another_users_drafts_are_refused_and_stay(tmp_path, monkeypatch):
    (tmp_path / ".x.ae-draft" / "theirs").mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    told = r"\.x\.ae-draft: expected a folder of this user's, .* found another user's: remove it"
    with pytest.raises(UnwritableError, match=told), files.replacing(tmp_path / "x"):
        pass
    assert names(tmp_path / ".x.ae-draft") == ["theirs"]


@pytest.mark.parametrize("again", ["x", "y"])
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, other, again):
    process = other(tmp_path / "x")
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / ".mine.partial").write_text("not ours")
    assert names(tmp_path / ".x.ae-draft") == ["folder", "half"]
    with files.replacing(tmp_path / again) as draft:
        draft.write_text("whole")
    assert names(tmp_path) == [".mine.partial", again]


def test_a_folder_that_was_being_replaced_when_the_process_died_comes_back(tmp_path):
    left = tmp_path / ".made.ae-draft" / "made.old"
    left.mkdir(parents=True)
    (left / "result").write_text("of hours")
    files.sweep(tmp_path)
    assert (tmp_path / "made" / "result").read_text() == "of hours"
    assert names(tmp_path) == ["made"]


def test_an_old_folder_comes_back_where_the_new_one_can_not_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "result").write_text("of hours")
    with pytest.raises(UnwritableError), files.replacing(tmp_path / "made") as draft:
        draft.mkdir()
        rename = Path.rename

        def failing(path: Path, to: Path) -> Path:
            if path == draft:
                raise OSError(errno.ENOSPC, "full")
            return rename(path, to)

        monkeypatch.setattr(Path, "rename", failing)
    assert (tmp_path / "made" / "result").read_text() == "of hours"
    assert names(tmp_path) == ["made"]


def test_scratch_is_private_short_and_gone_afterwards():
    with files.scratch() as one, files.scratch() as two:
        assert one != two
        assert one.stat().st_mode & 0o777 == 0o700
        assert len(str(one / "kernel-12345")) < 100  # a socket's path has 107 characters at most
    assert not one.exists() and not two.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_is_named_with_the_remedy(tmp_path, number):
    told = rf"{tmp_path}/x: can't be written: {os.strerror(number)}: .*name another place"
    with pytest.raises(UnwritableError, match=told), files.replacing(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert names(tmp_path) == []


def test_an_input_that_cannot_be_read_is_not_called_unwritable(tmp_path):
    with pytest.raises(PermissionError, match="/elsewhere"), files.replacing(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "denied", "/elsewhere/input")


def test_a_full_disk_elsewhere_is_named(tmp_path):
    told = "/elsewhere/output: can't be written: No space left on device: make room there"
    with pytest.raises(UnwritableError, match=f"^{told}"), files.replacing(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "full", "/elsewhere/output")


@pytest.mark.parametrize(
    ("named", "beside"),
    [
        ("a/b/.x.ae-draft/x", True),
        ("a", True),  # which had to be made first
        ("a/bc/input", False),
    ],
)
def test_whose_permission_is_lacking(tmp_path, named, beside):
    expected = UnwritableError if beside else PermissionError
    with pytest.raises(expected), files.naming(tmp_path / "a" / "b" / "x"):
        raise PermissionError(errno.EACCES, "denied", str(tmp_path / named))


def test_a_parent_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    told = "file/x: can't be written: .* found none .Not a directory.: name another place"
    with pytest.raises(UnwritableError, match=told), files.replacing(tmp_path / "file" / "x"):
        pass


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "x")
    with files.replacing(tmp_path / "link") as draft:
        draft.write_text("new")
    assert (tmp_path / "disk" / "x").read_text() == "new"
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "disk") == ["x"]


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path)


UNFIT = [
    (fifo, "x", "a FIFO"),
    (lambda path: path.symlink_to("/dev/null"), "x", "a device"),
    (loop, "x", "none (Too many levels of symbolic links)"),
    (lambda path: path.write_text(""), "x/y", "none (Not a directory)"),
    (lambda path: None, "x" * 300, "none (File name too long)"),
    (lambda path: None, "x\0y", "none (embedded null byte)"),
]


@pytest.mark.parametrize(("make", "name", "found"), UNFIT)
def test_what_can_not_be_replaced_is_told_and_stays(tmp_path, make, name, found):
    make(tmp_path / "x")
    before = names(tmp_path)
    assert files.found_at(tmp_path / name) == found
    told = f"{re.escape(str(tmp_path / name))}: can't be written: .* found {re.escape(found)}"
    for write in (files.claimed, files.replacing):
        with pytest.raises(UnwritableError, match=told), write(tmp_path / name):
            pass
    with pytest.raises(UnwritableError, match=told):
        files.for_file(tmp_path / name)
    assert names(tmp_path) == before


def test_a_name_too_long_for_its_drafts_is_told(tmp_path):
    with pytest.raises(UnwritableError, match="xxx: can't be written: File name too long: name"):
        files.claimed(tmp_path / ("x" * 250)).__enter__()


def test_what_is_there_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    found = {name: files.found_at(tmp_path / name) for name in ("", "file", "none", "dangling")}
    assert [*found.values()] == [files.FOLDER, files.FILE, files.NOTHING, files.DANGLING]
    assert files.found_at("~nosuchuser/x") == "no such home folder"


def test_a_file_is_not_written_over_a_folder(tmp_path):
    with pytest.raises(
        UnwritableError, match=f"{tmp_path}: expected a file's name, found a folder"
    ):
        files.for_file(tmp_path)
    assert files.for_file(tmp_path / "new") == tmp_path / "new"


def test_a_home_folder_that_nobody_has_is_a_name_like_others(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert files.expanded("~/x") == Path("/home/me/x")
    assert files.expanded("~nosuchuser/x") == Path("~nosuchuser/x")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a file system of Linux")
def test_where_no_folder_can_be_made_is_told():
    told = "^/proc/none/x: can't be written: no folder can be made at /proc/none: name another"
    with pytest.raises(UnwritableError, match=told), files.replacing("/proc/none/x"):
        pass
