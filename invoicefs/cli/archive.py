"""Compares the files of an archive with the invoices that a mount knows.

Nothing is downloaded or written, no link is followed, and no mount of invoicefs in the archive is
entered. A file is read only if its path is that of an invoice, or if it may be a missing invoice
under another name.

| the file | the invoice | state |
|---|---|---|
| has the SHA-256 of the last download | has not changed since | right |
| has the SHA-256 of the last download | has changed since | outdated |
| has the SHA-256 of an earlier download | - | outdated |
| has another SHA-256 | has not changed since its download | different |
| has another SHA-256, or cannot be read | was not downloaded in this version | not verified |
| does not exist, or is outdated | has no PDF (404 at the last request) | not available |
| does not exist | - | missing |
| - | does not exist, and all lists are complete | extra |
"""

import enum
import hashlib
import os
import stat
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from invoicefs.cli.inventory import Entry

SUMS_NAME: Final = "SHA256SUMS"
"""A file of this name at the top of an archive is no extra file: ``verify --sums`` writes it."""

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class State(enum.StrEnum):
    """What is known of an invoice in an archive, or of a file that belongs to none."""

    RIGHT = "right"
    OUTDATED = "outdated"
    DIFFERENT = "different"
    MISSING = "missing"
    NOT_VERIFIED = "not verified"
    NOT_AVAILABLE = "not available"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of a path, which is relative to the archive.

    `words` say more, or are empty. `expected` is the SHA-256 that the file should have, if known.
    With `is_fault`, the archive is not a complete copy.
    """

    path: str
    state: State
    words: str = ""
    expected: str | None = None
    is_fault: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """The files of an archive: their types and sizes by path, and folders that cannot be read."""

    files: Mapping[str, os.stat_result]
    failures: tuple[str, ...]


class _Unread(Exception):
    """A file that could not be read; the message says why."""


def scan(archive: str, mounts: Container[str] = ()) -> Scan:
    """Return everything in an archive but its folders; `mounts` are folders not to be entered."""
    files: dict[str, os.stat_result] = {}
    failures: list[str] = []
    folders = [""]
    while folders:
        folder = folders.pop()
        whole_path = os.path.join(archive, folder).rstrip("/")
        if os.path.realpath(whole_path) in mounts:
            failures.append(f"{whole_path} is a mount of invoicefs, not a copy.")
            continue
        try:
            folders += _scan_folder(archive, folder, files)
        except OSError as error:
            failures.append(f"{whole_path} cannot be read: {error.strerror}.")
    return Scan(files, tuple(failures))


def _scan_folder(archive: str, folder: str, files: dict[str, os.stat_result]) -> list[str]:
    """Add what is in a folder to `files`, and return the folders in it; raises `OSError`."""
    folders = []
    with os.scandir(os.path.join(archive, folder)) as entries:
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
                continue
            with suppress(FileNotFoundError):  # it was removed in the meantime
                files[path] = entry.stat(follow_symlinks=False)
    return folders


def scan_file(archive: str, name: str) -> Scan:
    """Return one file of an archive, if it exists."""
    try:
        return Scan({name: os.lstat(os.path.join(archive, name))}, ())
    except FileNotFoundError:
        return Scan({}, ())
    except OSError as error:
        return Scan({}, (f"{os.path.join(archive, name)} cannot be read: {error.strerror}.",))


def _scan(archive: str, folder: str, files: dict[str, os.stat_result], failures: list[str]) -> None:
    try:
        with os.scandir(os.path.join(archive, folder)) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        failures.append(f"{os.path.join(archive, folder)} cannot be read: {error.strerror}.")
        return
    for entry in inside:
        path = os.path.join(folder, entry.name)
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # it was removed in the meantime
            continue
        if stat.S_ISDIR(status.st_mode):
            _scan(archive, path, files, failures)
        else:
            files[path] = status


def compare(
    archive: str,
    scanned: Scan,
    expected: Mapping[str, Entry],
    threads: int,
    *,
    is_complete: bool = True,
) -> Generator[Finding]:
    """Yield a finding for each expected invoice, and for each other file.

    Without `is_complete`, other files may belong to invoices that could not be listed.
    """
    missing_by_digest: dict[str, str] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:

        def judged(path: str) -> Finding:
            return _judged(archive, path, scanned.files.get(path), expected[path])

        try:
            for finding in pool.map(judged, expected):
                if finding.state is State.MISSING and finding.expected:
                    missing_by_digest[finding.expected] = finding.path
                yield finding
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    sizes = {expected[path].size_bytes for path in missing_by_digest.values()}
    for path, status in scanned.files.items():
        if path in expected or path == SUMS_NAME:
            continue
        words = _special(status)
        if not words and status.st_size in sizes:
            words = _other_name(os.path.join(archive, path), missing_by_digest)
        if is_complete:
            yield Finding(path, State.EXTRA, words)
        else:
            yield Finding(path, State.NOT_VERIFIED, words or "no list has it", is_fault=True)


def _judged(archive: str, path: str, status: os.stat_result | None, entry: Entry) -> Finding:
    def found(state: State, words: str = "") -> Finding:
        is_excused = state is State.NOT_AVAILABLE and entry.is_unpaid
        is_fault = state is not State.RIGHT and not is_excused
        return Finding(path, state, words, entry.sha256, is_fault)

    whole_path = os.path.join(archive, path)
    if status is None:
        if not entry.is_available:
            return found(State.NOT_AVAILABLE, _no_pdf(entry))
        is_folder = os.path.isdir(whole_path)
        return found(State.MISSING, "it is a folder" if is_folder else entry.open_error or "")
    if words := _special(status):
        return found(State.DIFFERENT, words)
    if entry.sha256 is None:
        return found(State.NOT_VERIFIED, "it has not been downloaded through this mount")
    try:
        digest = _digest(whole_path)
    except FileNotFoundError:
        return found(State.MISSING, "it was removed while the archive was read")
    except _Unread as error:
        return found(State.NOT_VERIFIED, str(error))
    return found(*_state_of(digest, entry))


def _state_of(digest: str, entry: Entry) -> tuple[State, str]:
    if digest == entry.sha256 and entry.is_current:
        return State.RIGHT, ""
    if digest == entry.sha256 or digest in entry.earlier:
        if not entry.is_available:
            return State.NOT_AVAILABLE, f"{_no_pdf(entry)}; the archive has the one before"
        return State.OUTDATED, "the invoice has changed since"
    if not entry.is_current:
        return State.NOT_VERIFIED, "the invoice has changed since it was last downloaded"
    return State.DIFFERENT, ""


def _no_pdf(entry: Entry) -> str:
    status = f"its status is {entry.status}" if entry.status else "its status is unknown"
    return f"the API has no PDF of it{', ' if entry.is_unpaid else ', although '}{status}"


def _special(status: os.stat_result) -> str:
    """Return what a file is that is not a regular one, or nothing."""
    if stat.S_ISREG(status.st_mode):
        return ""
    return f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no regular file')}"


def _other_name(path: str, missing_by_digest: Mapping[str, str]) -> str:
    try:
        missing = missing_by_digest.get(_digest(path))
    except (FileNotFoundError, _Unread):
        return ""
    return f"it has the content of {missing}" if missing else ""


def _digest(path: str) -> str:
    """Return the SHA-256 of a regular file, in hex; raises `FileNotFoundError` and `_Unread`."""
    try:
        # A link or a pipe may have taken the place of the file since it was listed.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                raise _Unread("it changed while the archive was read")
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _Unread(f"it cannot be read: {error.strerror}") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _Unread("it changed while the archive was read")
    return digest


def sums(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the lines of a file for ``sha256sum -c``, by path, with what each file should be.

    An invoice that the API does not have is only included if the archive has an earlier version.
    """
    for finding in sorted(findings, key=lambda finding: finding.path):
        if finding.expected:
            yield _sum_line(finding.expected, finding.path)


def _sum_line(digest: str, path: str) -> str:
    # Lines with an escaped name begin with a backslash, see sha256sum(1).
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    mark = "" if escaped == path else "\\"
    return f"{mark}{digest}  {escaped}\n"
