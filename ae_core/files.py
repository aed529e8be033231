"""Files that are whole or absent, written by one process at a time, with no litter.

What is being written lies in a folder of drafts beside its target, `.NAME.ae-draft`. The process
that writes holds a lock on that folder (`flock`), which ends with the process, however it ends. So
the folder tells all that others need. Locked: somebody is writing this target. Not locked: a
process died, and the next one of the same user that writes something there removes what it left.

The lock holds between the processes of one host. On a file system that several hosts share, let one
of them at a time write into a folder: the others take its drafts for those of a dead process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ae_core.errors import InputError
from ae_core.terminal import watched

SUFFIX = ".ae-draft"
REPLACED = ".old"
"""Behind a folder's name, among its drafts: the old one, while the new one takes its place."""
TRIES, PAUSE = 20, 0.05
"""How often a lock is asked for, and seconds in between: a sweep holds it for a moment."""
OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
"""How a folder of drafts is opened: a link in its place would lead to what is nobody's draft."""
LONGEST = 64
"""Bytes of the path of the folder for temporary files."""
FILE, FOLDER, NOTHING, DANGLING = "a file", "a folder", "nothing", "a link that leads nowhere"
HOMELESS = "no such home folder"
"""Of what `found_at` finds."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
UNFIT = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR}
_claims: dict[tuple[int, Path], int] = {}
"""The locks that this process holds, by thread and target."""


class BusyError(InputError):
    """Another process, or thread, is writing the same file or folder."""


class UnwritableError(InputError):
    """A file or folder can't be written: says which, why, and what to do."""


def expanded(path: str | Path) -> Path:
    """A path as a person gave it, with `~` spelled out where there is such a home folder."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (pathlib's raises where there is none)


def found_at(path: str | Path) -> str:
    """What is at a path, in words for an error: `FILE`, `FOLDER`, `NOTHING`, `a FIFO`, ...

    It opens nothing: a FIFO or a device may make a reader wait for ever.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  (pathlib's takes some errors for absence)
    except FileNotFoundError:
        if Path(path).is_symlink():
            return DANGLING
        return HOMELESS if str(path).startswith("~") else NOTHING
    except OSError as error:
        return f"none ({error.strerror})"
    except ValueError as error:  # a NUL in its name
        return f"none ({error})"
    kinds = {
        stat.S_IFREG: FILE,
        stat.S_IFDIR: FOLDER,
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def expect(path: str | Path, wanted: str, *things: str, error: type[InputError]) -> Path:
    """A path, `~` spelled out, at which there is one of `things`, as `found_at` says it.

    Raises:
        InputError: of the kind `error`: something else is there.
    """
    path = expanded(path)
    found = found_at(path)
    if found not in things:
        raise error(f"{path}: expected {wanted}, found {found}")
    return path


def for_file(path: str | Path) -> Path:
    """Where a file will be written, `~` spelled out; it may be there already.

    Raises:
        UnwritableError: something else is there: a folder, a device, ...
    """
    path = expanded(path)
    if found_at(path) == FOLDER:
        raise UnwritableError(f"{path}: expected a file's name, found a folder")
    _resolved(path)
    return path


@contextmanager
def replacing(target: str | Path, *, wait: bool = True) -> Iterator[Path]:
    """A path to write a file or folder at, which takes the place of `target` when the block ends.

    If the block fails, or the process dies in it, `target` stays as it was.

    Args:
        target: the file or folder; the folders above it are made if need be.
        wait: for another process or thread that is writing it. If false, that is an error.

    Raises:
        BusyError: another one is writing it.
        UnwritableError: no room, no permission, or a read-only file system.
    """
    target = _resolved(target)
    with claimed(target, wait=wait) as drafts, naming(target):
        draft, replaced = drafts / target.name, drafts / f"{target.name}{REPLACED}"
        yield draft
        if draft.is_dir():
            if target.exists():
                target.rename(replaced)
            draft.rename(target)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            with draft.open("rb") as file:
                os.fsync(file.fileno())  # the bytes before the name, should the machine fail
            draft.replace(target)


@contextmanager
def claimed(target: str | Path, *, wait: bool = False) -> Iterator[Path]:
    """The sole right to write `target` until the block ends; yields an empty folder for drafts.

    The folder lies beside `target`, so that a rename puts a draft in its place. Within the block
    this thread may claim the same target again, and gets the same folder.

    Args:
        target: a file or folder, there or not.
        wait: for another process or thread that has it. If false, that is an error.

    Raises:
        BusyError: another one has it.
        UnwritableError: nothing can be written beside it, it is neither file nor folder, or
            something else is in the place of its drafts.
    """
    target = _resolved(target)  # a link stays, and what it leads to is replaced
    drafts, claim = target.with_name(f".{target.name}{SUFFIX}"), (threading.get_ident(), target)
    if claim in _claims and _is_at(_claims[claim], drafts):  # not removed by a cleaner
        yield drafts
        return
    with naming(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # a file system that has no place for new folders
            raise UnwritableError(
                f"{target}: can't be written: no folder can be made at {error.filename}: name "
                f"another place"
            ) from error
        sweep(target.parent)
        lock = _locked(drafts, wait)
    _claims[claim] = lock
    try:
        yield drafts
    finally:
        _claims.pop(claim, None)
        with suppress(OSError):
            if _is_at(lock, drafts):
                _empty(drafts)
                drafts.rmdir()
        os.close(lock)


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder for temporary files, with a short path; gone when the block ends.

    Short enough for a socket, whose path has about a hundred characters at most: in `/tmp` where
    the folder for temporary files (`TMPDIR`) is too far down.

    Raises:
        UnwritableError: that one is too far down, and `/tmp` can't be written to.
    """
    name = secrets.token_hex(6)  # that nobody guesses, in a folder that others write to as well
    named = Path(tempfile.gettempdir()).resolve()
    short = len(os.fsencode(named)) <= LONGEST
    if not short and not os.access("/tmp", os.W_OK | os.X_OK):
        raise UnwritableError(
            f"TMPDIR={named}: expected at most {LONGEST} bytes, for sockets, found "
            f"{len(os.fsencode(named))}: set TMPDIR to a shorter path"
        )
    with claimed(named / name if short else Path("/tmp", name)) as folder:
        yield folder


def sweep(folder: Path) -> None:
    """Remove the drafts that dead processes of this user left in `folder`."""
    for drafts in folder.glob(f".*{SUFFIX}"):
        with suppress(OSError):  # another user's, or another process is faster
            lock = os.open(drafts, OPEN)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(lock, drafts) and os.fstat(lock).st_uid == os.geteuid():
                    _bring_back(drafts)
                    # Its name is free at once: removing what it holds may take a while.
                    dead = drafts.rename(folder / f".{secrets.token_hex(6)}{SUFFIX}")
                    shutil.rmtree(dead)
            finally:
                os.close(lock)


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Errors of writing `target` say so: what can't be written, why, and what to do.

    Raises:
        UnwritableError: in place of the system's error.
    """
    try:
        yield
    except OSError as error:
        beside = _is_beside(target, error.filename)
        if error.errno in FULL:
            remedy = "make room there, or name another place"
        elif error.errno in FORBIDDEN and beside:
            remedy = "allow it, or name another place"
        elif error.errno in UNFIT and beside:
            remedy = "name another place"
        else:
            raise
        place, reason = target if beside else error.filename, os.strerror(error.errno)
        raise UnwritableError(f"{place}: can't be written: {reason}: {remedy}") from error


def _resolved(target: str | Path) -> Path:
    """The place that links lead to; an error if a rename would replace a device or a FIFO there."""
    found = found_at(target)
    if found not in (FILE, FOLDER, NOTHING, DANGLING):
        raise UnwritableError(
            f"{target}: can't be written: expected a file, a folder or nothing there, found "
            f"{found}: name another place"
        )
    return Path(target).resolve()


def _is_beside(target: Path, name: object) -> bool:
    """Whether the file that an error names, if it does, is or would be at the target's place."""
    if not isinstance(name, str):
        return True
    named, place = Path(os.path.realpath(name)), Path(os.path.realpath(target.parent))
    return named.is_relative_to(place) or place.is_relative_to(named)


def _locked(drafts: Path, wait: bool) -> int:
    """A descriptor that holds the lock on a folder, made if need be, and emptied."""
    refused = 0
    while True:
        lock = _opened(drafts)
        try:
            if not _lock(lock, drafts, wait and refused >= TRIES):
                refused += 1
                if refused > TRIES:
                    raise BusyError(
                        f"{_target(drafts)}: another process is writing it: wait for it to end, or "
                        f"name another"
                    )
                time.sleep(PAUSE)
            elif _is_at(lock, drafts):  # else its owner finished while this process waited
                _empty(drafts)
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _opened(drafts: Path) -> int:
    """A descriptor of a folder, made if need be, and no other than this user's own."""
    while True:
        try:
            drafts.mkdir(mode=0o700)
            made = True
        except FileExistsError:
            made = False
        try:
            folder = os.open(drafts, OPEN)
        except FileNotFoundError:  # its owner has just finished
            continue
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            found = "a link" if drafts.is_symlink() else found_at(drafts)
        else:
            if made or os.fstat(folder).st_uid == os.geteuid():
                return folder
            os.close(folder)
            found = "another user's"
        raise UnwritableError(
            f"{drafts}: expected a folder of this user's, for drafts of {_target(drafts).name}, "
            f"found {found}: remove it, or name another place"
        )


def _lock(lock: int, drafts: Path, wait: bool) -> bool:
    """Whether the lock is held now; it always is where this process waits."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            return False
        if watched():
            print(
                f"{_target(drafts)}: waiting for another process that is writing it",
                file=sys.stderr,
            )
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        # Some network file systems have no locks. Two at once then go unnoticed there.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _empty(drafts: Path) -> None:
    """Remove what a dead process left, but for a folder that it was about to replace."""
    _bring_back(drafts)
    for path in drafts.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _bring_back(drafts: Path) -> None:
    target = _target(drafts)
    replaced = drafts / f"{target.name}{REPLACED}"
    if replaced.exists() and not target.exists():
        replaced.rename(target)


def _target(drafts: Path) -> Path:
    return drafts.with_name(drafts.name.removeprefix(".").removesuffix(SUFFIX))
