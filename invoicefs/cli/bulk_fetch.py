"""Downloads of all invoices below some paths of a mount, by opening several at the same time.

The mount makes the requests: cached invoices need none, its limits apply, and the next run retries
failed downloads.
"""

import errno
import os
import stat
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from invoicefs.errors import UserError

OpenError = Callable[[str], str | None]
"""A function that returns why the last open of a path failed, in words, or None."""

Download = Callable[[str], "Fetched"]
"""A function that downloads a file, and returns the outcome."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome for a file or folder: its size in bytes, or the reason of a failure.

    `errno_name` is the errno that the failure had for this program, such as ``EACCES``, if any.
    """

    path: str
    size_bytes: int = 0
    failure: str | None = None
    errno_name: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The files below some paths, those of them to download, and paths that failed."""

    files: tuple[str, ...]
    missing: tuple[str, ...]
    failures: tuple[Fetched, ...]


def find(
    paths: Iterable[str], evicted: Callable[[], Container[str]], open_error: OpenError
) -> Found:
    """Find all files below some paths, and those that have to be downloaded.

    A file that was never downloaded has no blocks (``du``). Files that were evicted still have
    blocks: `evicted` returns them, and is called last, because a mount only knows the files that
    have been listed.
    """
    failures: list[Fetched] = []
    # The keys are unique, because a path may be inside another one.
    files = dict(
        _walk(paths, lambda path, error: failures.append(_failed(path, error, open_error)))
    )
    evicted_paths = evicted()
    missing = tuple(path for path, blocks in files.items() if not blocks or path in evicted_paths)
    return Found(tuple(files), missing, tuple(failures))


def fetch(files: Sequence[str], parallel: int, download: Download) -> Generator[Fetched]:
    """Download the files, `parallel` at the same time, and yield each outcome.

    When the generator is closed, no further download begins.
    """
    with ThreadPoolExecutor(parallel, thread_name_prefix="fetch") as threads:
        try:
            for done in as_completed([threads.submit(download, path) for path in files]):
                yield done.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def downloader(open_error: OpenError) -> Download:
    """Return a function that downloads a file unless it is cached."""

    def download(path: str) -> Fetched:
        try:
            with open(path, "rb") as file:
                return Fetched(path, os.fstat(file.fileno()).st_size)
        except OSError as error:
            return _failed(path, error, open_error)

    return download


def replacing_downloader(download_again: Callable[[str], None]) -> Download:
    """Return a function that downloads a file, even if it is cached, with `download_again`.

    `download_again` may raise `UserError`, which becomes the failure of the outcome.
    """

    def download(path: str) -> Fetched:
        try:
            download_again(path)
            return Fetched(path, os.stat(path).st_size)
        except UserError as error:
            return Fetched(path, failure=str(error))
        except OSError as error:
            return _failed(path, error, lambda _: None)

    return download


def _walk(paths: Iterable[str], fail: Callable[[str, OSError], None]) -> Iterator[tuple[str, int]]:
    """Yield the files at and below some paths with their blocks, in directory order."""
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


def _failed(path: str, error: OSError, open_error: OpenError) -> Fetched:
    words = open_error(path) or error.strerror or str(error)
    return Fetched(path, failure=words, errno_name=errno.errorcode.get(error.errno or 0))
