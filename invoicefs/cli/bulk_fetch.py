"""Downloads all invoices below some paths of a mount, by opening them, several at one time.

The mount does the work: what it has already costs no call, its limits hold, and whatever fails
is tried again by the next run.
"""

import os
import stat
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from invoicefs.errors import UserError

Why = Callable[[str], str | None]
"""Why the last open of a path failed, in words, if somebody knows."""

Bring = Callable[[str], "Fetched"]
"""Has a file downloaded, and tells what became of it."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one file or folder: its size in bytes, or why it could not be had."""

    path: str
    size_bytes: int = 0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What is below some paths: all files, those to fetch, and folders that are closed."""

    files: tuple[str, ...]
    missing: tuple[str, ...]
    failures: tuple[Fetched, ...]


def find(paths: Iterable[str], dropped: Callable[[], Container[str]], why: Why) -> Found:
    """Look for invoices that were not downloaded yet: they have no blocks, see README.

    Those that were `dropped` from the store since have. A mount knows them once they are listed.
    """
    failures: list[Fetched] = []
    # A path may be inside of another one.
    files = dict(_walk(paths, lambda path, error: failures.append(_failed(path, error, why))))
    gone = dropped()
    missing = tuple(path for path, blocks in files.items() if not blocks or path in gone)
    return Found(tuple(files), missing, tuple(failures))


def fetch(files: Sequence[str], parallel: int, bring: Bring) -> Generator[Fetched]:
    """Bring each file, `parallel` at one time; tells of each when it is over.

    Whoever stops listening stops it: no further file is brought then.
    """
    with ThreadPoolExecutor(parallel, thread_name_prefix="fetch") as threads:
        try:
            for done in as_completed([threads.submit(bring, each) for each in files]):
                yield done.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def opening(why: Why) -> Bring:
    """Brings what the mount does not have."""

    def bring(path: str) -> Fetched:
        try:
            with open(path, "rb") as file:
                return Fetched(path, os.fstat(file.fileno()).st_size)
        except OSError as error:
            return _failed(path, error, why)

    return bring


def replacing(download_again: Callable[[str], None]) -> Bring:
    """Brings what the mount has as well; `download_again` raises a `UserError`."""

    def bring(path: str) -> Fetched:
        try:
            download_again(path)
            return Fetched(path, os.stat(path).st_size)
        except UserError as error:
            return Fetched(path, failure=str(error))
        except OSError as error:
            return Fetched(path, failure=error.strerror)

    return bring


def _walk(paths: Iterable[str], fail: Callable[[str, OSError], None]) -> Iterator[tuple[str, int]]:
    """The files at and below some paths with their blocks, in the order of the mount."""
    for path in paths:
        try:
            status = os.stat(path)
            if not stat.S_ISDIR(status.st_mode):
                yield path, status.st_blocks
                continue
            with os.scandir(path) as entries:
                inside = [entry.path for entry in entries]
        except OSError as error:
            fail(path, error)
            continue
        yield from _walk(inside, fail)


def _failed(path: str, error: OSError, why: Why) -> Fetched:
    return Fetched(path, failure=why(path) or error.strerror or str(error))
