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
| has another SHA-256 | has changed since its last download | not verified |
| cannot be read | - | not verified |
| - | was never downloaded | not verified |
| is a folder | - | missing |
| is a link, a pipe, a socket or a device | - | different |
| does not exist, or is outdated | has no PDF (404 at the last request) | not available |
| does not exist | has or had a PDF | missing |
| - | does not exist, and all listings are complete | extra |
| - | may be in a listing that failed | not verified |
"""

import enum
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from invoicefs.cli.entries import Entry

SUMS_NAME: Final = "SHA256SUMS"
"""A file of this name at the top of an archive is no extra file: ``verify --sums`` writes it."""

_CHUNK_BYTES: Final = 256 * 1024
_CHANGED: Final = "it changed while the archive was read"
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
    """The files of an archive by path, and why some of its folders were not read.

    The path of the archive itself is empty. `mounts` are the device numbers of mounts.
    """

    files: Mapping[str, os.stat_result]
    unread: Mapping[str, str]
    mounts: frozenset[int] = frozenset()

    def has_read(self, path: str) -> bool:
        """Return whether the folders above a path were read."""
        return not any(path.startswith(f"{folder}/") for folder in self.unread if folder)


class _Unread(Exception):
    """A file that could not be read; the message says why."""


def scan(archive: str, mounts: Mapping[str, int]) -> Scan:
    """Return everything in an archive but its folders.

    `mounts` has the device numbers of folders, by their paths without links, that are not entered.
    """
    files: dict[str, os.stat_result] = {}
    unread: dict[str, str] = {}
    folders = [""]
    while folders:
        folder = folders.pop()
        whole_path = os.path.join(archive, folder).rstrip("/")
        if os.path.realpath(whole_path) in mounts:
            unread[folder] = f"{whole_path} is a mount of invoicefs, not a copy."
            continue
        try:
            folders += _scan_folder(archive, folder, files)
        except OSError as error:
            unread[folder] = f"{whole_path} cannot be read: {error.strerror}."
    return Scan(files, unread, frozenset(mounts.values()))


def _scan_folder(archive: str, folder: str, files: dict[str, os.stat_result]) -> list[str]:
    """Add what is in a folder to `files`, and return the folders in it; raises `OSError`."""
    folders = []
    with os.scandir(os.path.join(archive, folder)) as entries:
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if path == SUMS_NAME:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(path)
                continue
            with suppress(FileNotFoundError):  # it was removed in the meantime
                files[path] = entry.stat(follow_symlinks=False)
    return folders


def scan_file(archive: str, name: str) -> Scan:
    """Return one file of an archive, if it exists."""
    path = os.path.join(archive, name)
    try:
        return Scan({name: os.lstat(path)}, {})
    except FileNotFoundError:
        return Scan({}, {})
    except OSError as error:
        return Scan({}, {"": f"{path} cannot be read: {error.strerror}."})


def compare(
    archive: str,
    scanned: Scan,
    expected: Mapping[str, Entry],
    threads: int,
    *,
    may_be_invoice: Callable[[str], bool],
) -> Generator[Finding]:
    """Yield a finding for each expected invoice, and for each other file.

    `may_be_invoice` returns whether another file may belong to an invoice that was not listed.
    """
    missing_by_digest: dict[str, str] = {}
    stop = threading.Event()
    with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:

        def judged(path: str) -> Finding:
            return _judged(archive, path, scanned, expected[path], stop)

        try:
            for finding in pool.map(judged, expected):
                if finding.state is State.MISSING and finding.expected:
                    missing_by_digest[finding.expected] = finding.path
                yield finding
        finally:  # the consumer may have been interrupted
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    sizes = {expected[path].size_bytes for path in missing_by_digest.values()}
    for path, status in scanned.files.items():
        if path in expected:
            continue
        words = _special(status)
        if not words and status.st_size in sizes and status.st_dev not in scanned.mounts:
            words = _other_name(os.path.join(archive, path), status, missing_by_digest)
        if may_be_invoice(path):
            yield Finding(path, State.NOT_VERIFIED, words or "no listing has it", is_fault=True)
        else:
            yield Finding(path, State.EXTRA, words)


def _judged(archive: str, path: str, scanned: Scan, entry: Entry, stop: threading.Event) -> Finding:
    def found(state: State, words: str = "") -> Finding:
        is_excused = state is State.NOT_AVAILABLE and entry.is_unpaid
        is_fault = state is not State.RIGHT and not is_excused
        return Finding(path, state, words, entry.sha256, is_fault)

    status = scanned.files.get(path)
    whole_path = os.path.join(archive, path)
    if status is None:
        if not scanned.has_read(path):
            return found(State.NOT_VERIFIED, "its folder cannot be read")
        if not entry.is_available and entry.sha256 is None:
            return found(State.NOT_AVAILABLE, _no_pdf(entry))
        is_folder = os.path.isdir(whole_path)
        return found(State.MISSING, "it is a folder" if is_folder else entry.open_error or "")
    if words := _special(status):
        return found(State.DIFFERENT, words)
    if status.st_dev in scanned.mounts:
        return found(State.DIFFERENT, "it is the invoice in a mount, not a copy")
    if entry.fetch_error is not None:
        return found(State.NOT_VERIFIED, entry.fetch_error)
    if entry.sha256 is None:
        return found(State.NOT_VERIFIED, "it has not been downloaded through this mount")
    try:
        digest = _digest(whole_path, status, stop)
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
            return State.NOT_AVAILABLE, f"{_no_pdf(entry)}; the archive has an earlier version"
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


def _other_name(path: str, status: os.stat_result, missing_by_digest: Mapping[str, str]) -> str:
    try:
        missing = missing_by_digest.get(_digest(path, status, threading.Event()))
    except (FileNotFoundError, _Unread):
        return ""
    return f"it has the content of {missing}" if missing else ""


def _digest(path: str, scanned: os.stat_result, stop: threading.Event) -> str:
    """Return the SHA-256 of a file that was scanned, in hex.

    Raises `FileNotFoundError`, and `_Unread` if it is no longer that file, or `stop` is set.
    """
    digest = hashlib.sha256()
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            # A link, a pipe or another file may have taken its place.
            if _identity(os.fstat(fd)) != _identity(scanned):
                raise _Unread(_CHANGED)
            left_bytes = scanned.st_size
            while chunk := os.read(fd, _CHUNK_BYTES):
                left_bytes -= len(chunk)
                if left_bytes < 0:  # a file that grows might never end
                    raise _Unread(_CHANGED)
                if stop.is_set():
                    raise _Unread("the comparison was stopped")
                digest.update(chunk)
            if _identity(os.fstat(fd)) != _identity(scanned):
                raise _Unread(_CHANGED)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _Unread(f"it cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """Return what stays the same as long as a file is not replaced or written to."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
