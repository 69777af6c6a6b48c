"""The random operations of one thread on a mount, each checked against the truth."""

import errno
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.mount.support.files import UPPER_BOUND_BYTES
from tests.soak.tenant import Truth

_CHUNK_BYTES = 64 * 1024
_MAX_OPEN_FILES = 2
_MAX_OPEN_FOR = 20  # operations
_WITHOUT_PAGE_CACHE = 0.5  # of the files read whole; otherwise the kernel would serve most


class WrongAnswerError(Exception):
    """Raised for wrong bytes, a wrong size or an incomplete listing."""


@dataclass(frozen=True)
class _OpenFile:
    """A file that is kept open for a while."""

    path: str
    handle: int
    until: int  # the number of the operation before which it is closed


class Visitor:
    """One of many concurrent users of a mount.

    `may_end` is set before the mount is ended. Errors from then on are counted as `endings`,
    earlier ones as `errors`. `wrong` counts wrong answers at any time.

    Threading: only one thread calls `act`; others may read the counters.
    """

    def __init__(
        self, folder: Path, device: int, truth: Truth, seed: str, may_end: threading.Event
    ) -> None:
        self._folder = folder
        self._device = device
        self._truth = truth
        self._paths = tuple(truth.files)
        self._random = Random(seed)  # noqa: S311 # the same on every run
        self._may_end = may_end
        self._open_files: list[_OpenFile] = []
        self.count = 0
        self.wrong: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()

    def act(self) -> None:
        """Perform one operation."""
        (operation,) = self._random.choices(*_OPERATIONS)
        try:
            self._close_files(lambda file: file.until <= self.count)
            operation(self)
        except WrongAnswerError as error:
            self.wrong[str(error)] += 1
        except OSError as error:
            counter = self.endings if self._may_end.is_set() else self.errors
            counter[f"{operation.__name__}: {_name_of(error)}"] += 1
        self.count += 1

    def leave(self) -> None:
        """Close all open files."""
        self._close_files(lambda _: True)

    def read_whole(self) -> None:
        path = self._any_path()
        with self._opened(path) as handle:
            self._check_exact_size(path, handle)
            if self._random.random() < _WITHOUT_PAGE_CACHE:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            found = b"".join(iter(lambda: os.read(handle, _CHUNK_BYTES), b""))
        if found != self._truth.files[path]:
            raise WrongAnswerError(f"{path} has {_difference(found, self._truth.files[path])}")

    def keep_open(self) -> None:
        path = self._any_path()
        handle = os.open(self._folder / path, os.O_RDONLY)
        until = self.count + self._random.randrange(1, _MAX_OPEN_FOR)
        self._open_files.append(_OpenFile(path, handle, until))
        if len(self._open_files) > _MAX_OPEN_FILES:
            os.close(self._open_files.pop(0).handle)

    def read_open_file(self) -> None:
        file = self._any_open_file()
        if file is None:
            return
        whole = self._truth.files[file.path]
        offset = self._random.randrange(len(whole))
        length = self._random.randrange(1, _CHUNK_BYTES)
        wanted = whole[offset : offset + length]
        found = _read(file.handle, length, offset)
        if found != wanted:
            raise WrongAnswerError(f"{file.path} at {offset} has {_difference(found, wanted)}")

    def fstat_open_file(self) -> None:
        file = self._any_open_file()
        if file is not None:
            self._check_exact_size(file.path, file.handle)

    def stat(self) -> None:
        path = self._any_path()
        found = os.stat(self._folder / path)
        self._check_mounted(found)
        if found.st_size not in (len(self._truth.files[path]), UPPER_BOUND_BYTES):
            raise WrongAnswerError(f"{path} has a size of {found.st_size} bytes in stat")

    def stat_folder(self) -> None:
        folder = self._random.choice(tuple(self._truth.folders))
        if not stat.S_ISDIR(os.stat(self._folder / folder).st_mode):
            raise WrongAnswerError(f"{folder} is not a folder")

    def list_folder(self) -> None:
        folder = self._random.choice(tuple(self._truth.folders))
        with self._opened(folder, os.O_DIRECTORY) as handle:
            found = os.listdir(handle)
        if Counter(found) != Counter(self._truth.folders[folder]):
            raise WrongAnswerError(f"the listing of /{folder} is wrong, with {len(found)} names")

    def statfs(self) -> None:
        if os.statvfs(self._folder).f_namemax != 255:
            raise WrongAnswerError("statfs describes another filesystem")

    def open_missing(self) -> None:
        folder = self._random.choice(("system", "nowhere", "."))
        path = self._folder / folder / f"missing-{self._random.randrange(1000)}.pdf"
        try:
            os.close(os.open(path, os.O_RDONLY))
        except FileNotFoundError:
            return
        raise WrongAnswerError(f"{path} can be opened")

    @contextmanager
    def _opened(self, path: str, flags: int = 0) -> Iterator[int]:
        handle = os.open(self._folder / path, os.O_RDONLY | flags)
        try:
            self._check_mounted(os.fstat(handle))
            yield handle
        finally:
            os.close(handle)

    def _check_mounted(self, found: os.stat_result) -> None:
        """Raise FileNotFoundError if this is the folder under the mount instead of the mount."""
        if found.st_dev != self._device:
            raise FileNotFoundError(errno.ENOENT, "the mount is gone")

    def _check_exact_size(self, path: str, handle: int) -> None:
        size_bytes = os.fstat(handle).st_size
        if size_bytes != len(self._truth.files[path]):
            raise WrongAnswerError(f"{path} is open and has a size of {size_bytes} bytes in fstat")

    def _close_files(self, is_over: Callable[[_OpenFile], bool]) -> None:
        for file in tuple(filter(is_over, self._open_files)):
            self._open_files.remove(file)
            os.close(file.handle)

    def _any_path(self) -> str:
        return self._random.choice(self._paths)

    def _any_open_file(self) -> _OpenFile | None:
        return self._random.choice(self._open_files) if self._open_files else None


_WEIGHTS: dict[Callable[[Visitor], None], int] = {
    Visitor.read_whole: 6,
    Visitor.keep_open: 1,
    Visitor.read_open_file: 4,
    Visitor.fstat_open_file: 1,
    Visitor.stat: 4,
    Visitor.stat_folder: 1,
    Visitor.list_folder: 1,
    Visitor.statfs: 1,
    Visitor.open_missing: 1,
}
_OPERATIONS = (tuple(_WEIGHTS), tuple(_WEIGHTS.values()))


def _read(handle: int, length: int, offset: int) -> bytes:
    """Read as programs do: repeatedly, until the length or the end of the file is reached.

    If the kernel has some of the pages and cannot get the next one, it returns the former, and
    only the following read fails. This happens when a mount ends during a read.
    """
    found = b""
    while more := os.pread(handle, length - len(found), offset + len(found)):
        found += more
    return found


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, ascii(error))


def _difference(found: bytes, wanted: bytes) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} bytes instead of {len(wanted)}"
    first = next(at for at, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
    return f"a wrong byte at {first}"
