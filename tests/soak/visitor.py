"""The random operations of one thread on a mount, each of them checked against the truth."""

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
_MOST_HELD = 2
_LONGEST_HELD = 20  # operations
_PAST_THE_PAGE_CACHE = 0.5  # of the files that are read whole; else the kernel would serve most


class WrongAnswerError(Exception):
    """Wrong bytes, an understated size, a listing that is not whole."""


@dataclass(frozen=True)
class _Held:
    """A file that is kept open for a while."""

    path: str
    handle: int
    until: int  # so many operations have been made


class Visitor:
    """One of many that use a mount at the same time.

    `may_end` is set before somebody ends the mount. Errors from then on are `endings`, those
    before it are `errors`. What is `wrong` is wrong at any time.

    Threading: only one thread calls `act`; others may look at the counters.
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
        self._held: list[_Held] = []
        self.count = 0
        self.wrong: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()

    def act(self) -> None:
        """Make one operation."""
        (operation,) = self._random.choices(*_OPERATIONS)
        try:
            self._let_go(lambda held: held.until <= self.count)
            operation(self)
        except WrongAnswerError as error:
            self.wrong[str(error)] += 1
        except OSError as error:
            noted = self.endings if self._may_end.is_set() else self.errors
            noted[f"{operation.__name__}: {_name_of(error)}"] += 1
        self.count += 1

    def leave(self) -> None:
        """Close what is open."""
        self._let_go(lambda _: True)

    def read_whole(self) -> None:
        path = self._any_path()
        with self._opened(path) as handle:
            self._check_exact_size(path, handle)
            if self._random.random() < _PAST_THE_PAGE_CACHE:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            found = b"".join(iter(lambda: os.read(handle, _CHUNK_BYTES), b""))
        if found != self._truth.files[path]:
            raise WrongAnswerError(f"{path} has {_difference(found, self._truth.files[path])}")

    def hold(self) -> None:
        path = self._any_path()
        handle = os.open(self._folder / path, os.O_RDONLY)
        until = self.count + self._random.randrange(1, _LONGEST_HELD)
        self._held.append(_Held(path, handle, until))
        if len(self._held) > _MOST_HELD:
            os.close(self._held.pop(0).handle)

    def read_held(self) -> None:
        held = self._any_held()
        if held is None:
            return
        whole = self._truth.files[held.path]
        offset = self._random.randrange(len(whole))
        length = self._random.randrange(1, _CHUNK_BYTES)
        wanted = whole[offset : offset + length]
        found = _read(held.handle, length, offset)
        if found != wanted:
            raise WrongAnswerError(f"{held.path} at {offset} has {_difference(found, wanted)}")

    def fstat_held(self) -> None:
        held = self._any_held()
        if held is not None:
            self._check_exact_size(held.path, held.handle)

    def stat(self) -> None:
        path = self._any_path()
        found = os.stat(self._folder / path)
        self._check_mounted(found)
        if found.st_size not in (len(self._truth.files[path]), UPPER_BOUND_BYTES):
            raise WrongAnswerError(f"{path} is said to have {found.st_size} bytes")

    def stat_folder(self) -> None:
        folder = self._random.choice(tuple(self._truth.folders))
        if not stat.S_ISDIR(os.stat(self._folder / folder).st_mode):
            raise WrongAnswerError(f"{folder} is no folder")

    def list_folder(self) -> None:
        folder = self._random.choice(tuple(self._truth.folders))
        with self._opened(folder, os.O_DIRECTORY) as handle:
            found = os.listdir(handle)
        if Counter(found) != Counter(self._truth.folders[folder]):
            raise WrongAnswerError(f"the listing of /{folder} has {len(found)} names, or others")

    def statfs(self) -> None:
        if os.statvfs(self._folder).f_namemax != 255:
            raise WrongAnswerError("statfs tells of another filesystem")

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
        """Raise what a path raises that is gone, where there is another folder below the mount."""
        if found.st_dev != self._device:
            raise FileNotFoundError(errno.ENOENT, "the mount is gone")

    def _check_exact_size(self, path: str, handle: int) -> None:
        size_bytes = os.fstat(handle).st_size
        if size_bytes != len(self._truth.files[path]):
            raise WrongAnswerError(f"{path} is open and said to have {size_bytes} bytes")

    def _let_go(self, is_over: Callable[[_Held], bool]) -> None:
        for held in tuple(filter(is_over, self._held)):
            self._held.remove(held)
            os.close(held.handle)

    def _any_path(self) -> str:
        return self._random.choice(self._paths)

    def _any_held(self) -> _Held | None:
        return self._random.choice(self._held) if self._held else None


_WEIGHTS: dict[Callable[[Visitor], None], int] = {
    Visitor.read_whole: 6,
    Visitor.hold: 1,
    Visitor.read_held: 4,
    Visitor.fstat_held: 1,
    Visitor.stat: 4,
    Visitor.stat_folder: 1,
    Visitor.list_folder: 1,
    Visitor.statfs: 1,
    Visitor.open_missing: 1,
}
_OPERATIONS = (tuple(_WEIGHTS), tuple(_WEIGHTS.values()))


def _read(handle: int, length: int, offset: int) -> bytes:
    """Read as programs do: on and on, until it is enough or there is no more.

    Where the kernel has some of the pages and cannot get the next one, it gives the former, and
    only the read after that fails. So it does when a mount ends in the middle of a read.
    """
    found = b""
    while more := os.pread(handle, length - len(found), offset + len(found)):
        found += more
    return found


def _name_of(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, ascii(error))


def _difference(found: bytes, wanted: bytes) -> str:
    if len(found) != len(wanted):
        return f"{len(found)} bytes in place of {len(wanted)}"
    first = next(at for at, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b)
    return f"a wrong byte at {first}"
