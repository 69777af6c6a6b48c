"""Compares the files of an archive with the invoices that a mount knows.

Nothing is downloaded or written. A file is read only if its path is that of an invoice, or if it
may be a missing invoice under another name.

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
import os
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from invoicefs.cli.archive_files import Scan, Unread, sha256_of, special
from invoicefs.cli.entries import Entry


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
        words = special(status)
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
    if words := special(status):
        return found(State.DIFFERENT, words)
    if status.st_dev in scanned.mounts:
        return found(State.DIFFERENT, "it is the invoice in a mount, not a copy")
    if entry.fetch_error is not None:
        return found(State.NOT_VERIFIED, entry.fetch_error)
    if entry.sha256 is None:
        return found(State.NOT_VERIFIED, "it has not been downloaded through this mount")
    try:
        digest = sha256_of(whole_path, status, stop)
    except FileNotFoundError:
        return found(State.MISSING, "it was removed while the archive was read")
    except Unread as error:
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


def _other_name(path: str, status: os.stat_result, missing_by_digest: Mapping[str, str]) -> str:
    try:
        missing = missing_by_digest.get(sha256_of(path, status, threading.Event()))
    except (FileNotFoundError, Unread):
        return ""
    return f"it has the content of {missing}" if missing else ""
