"""A process that opens the files of each round and compares every byte, as a program.

    python -m tests.stress.reader FOLDER POSITION SEED

The process that reads a mount must not serve its API: a thread that waits in a page fault holds
the global interpreter lock.

For each line of stdin, the number of a round, it prints a `Report` as JSON in one line.
"""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.stress.kernel_size import kernel_size
from tests.stress.position import Position
from tests.stress.report import Report
from tests.stress.tenant import File, schedule
from tests.stress.ways import WAYS, Piece, pread_all

_HEAD_BYTES = 128  # includes the version
_HELD_BYTES = 4096  # read before other files are opened
_HELD_FOR = 10  # files
_HELD = "read of a file that was kept open"
_O_PATH_AHEAD = 5  # files between an open with O_PATH and the open of its descriptor
_O_PATH_SHARE = 0.2
_HELD_SHARE = 0.1
_REST_BYTES = 1 << 20


@dataclass(frozen=True)
class _Held:
    """A file that is kept open while other files are opened and read."""

    file: File
    handle: int
    size_bytes: int
    beginning: Piece
    until: int


class Reader:
    """One of several processes that open the same files in the same order."""

    def __init__(self, folder: Path, position: Position, seed: str, pool: Executor) -> None:
        self._folder = folder
        self._position = position
        self._random = Random(seed)  # noqa: S311 # varies the ways, repeatably
        self._pool = pool
        self._report = Report()
        self._held: list[_Held] = []
        self._path_handles: dict[int, int] = {}

    def read_round(self, number: int) -> Report:
        """Open and read all files of a round."""
        self._report = Report()
        files = schedule(number)
        for index, file in enumerate(files):
            self._open_path_ahead(files, index + _O_PATH_AHEAD)
            self._position.set(index)
            if self._random.random() < _HELD_SHARE:
                self._hold(file, index)
            else:
                self._read(file, index)
            self._finish_held(index)
        self._finish_held(len(files) + _HELD_FOR)
        return self._report

    def _read(self, file: File, index: int) -> None:
        way = self._random.choice(tuple(WAYS))
        with self._counting_errors(way), self._opened(file, index) as (handle, size_bytes):
            pieces = list(WAYS[way](handle, self._random, self._pool))
            self._compare(way, file, size_bytes, pieces)

    def _hold(self, file: File, index: int) -> None:
        with self._counting_errors(_HELD):
            handle, size_bytes = self._open(file, index)
            beginning = pread_all(handle, _HELD_BYTES, 0)
            self._held.append(_Held(file, handle, size_bytes, beginning, index + _HELD_FOR))

    def _finish_held(self, index: int) -> None:
        while self._held and self._held[0].until <= index:
            held = self._held.pop(0)
            with self._counting_errors(_HELD), _closing(held.handle):
                rest = pread_all(held.handle, _REST_BYTES, _HELD_BYTES)
                self._compare(_HELD, held.file, held.size_bytes, [held.beginning, rest])

    def _open_path_ahead(self, files: Sequence[File], index: int) -> None:
        if index < len(files) and self._random.random() < _O_PATH_SHARE:
            with self._counting_errors("O_PATH"):
                path = self._folder / files[index].path
                self._path_handles[index] = os.open(path, os.O_PATH)

    def _open(self, file: File, index: int) -> tuple[int, int]:
        """Return a handle, and the size that the kernel had directly after the open."""
        path_handle = self._path_handles.pop(index, None)
        if path_handle is None:
            handle = os.open(self._folder / file.path, os.O_RDONLY)
        else:
            with _closing(path_handle):
                handle = os.open(f"/proc/self/fd/{path_handle}", os.O_RDONLY)
        return handle, kernel_size(handle)

    @contextmanager
    def _opened(self, file: File, index: int) -> Iterator[tuple[int, int]]:
        handle, size_bytes = self._open(file, index)
        with _closing(handle):
            yield handle, size_bytes

    @contextmanager
    def _counting_errors(self, way: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._report.errors[f"{way}: {errno.errorcode.get(error.errno or 0, str(error))}"] += 1

    def _compare(self, way: str, file: File, size_bytes: int, pieces: Sequence[Piece]) -> None:
        """Compare pieces with one version of a file, the one that the first bytes name."""
        self._report.reads[way] += 1
        beginning = next(piece.found for piece in pieces if piece.offset == 0)
        version = file.version_of(beginning[:_HEAD_BYTES]) if file.is_draft else 0
        if version is None:
            words = f"{file.path} begins with {beginning[:_HEAD_BYTES]!r}"
            self._report.note_wrong(way, words)
            return
        truth = file.content(version)
        sizes = f"{file.path} ({len(truth)} bytes, {size_bytes} for the kernel after open)"
        if size_bytes != len(truth):
            self._report.note_not_applied("draft" if file.is_draft else "final invoice", sizes)
        for piece in pieces:
            wanted = truth[piece.offset : piece.offset + piece.length]
            if piece.found != wanted:
                self._report.note_wrong(way, f"{sizes} {difference(piece, wanted)}")
                return


def difference(piece: Piece, wanted: bytes) -> str:
    """Return the first difference between what was read and what should have been read."""
    found = piece.found
    shorter = min(len(found), len(wanted))
    first = next((at for at in range(shorter) if found[at] != wanted[at]), shorter)
    rest = found[first:]
    if not rest:
        return f"ends at {piece.offset + first}, {len(wanted) - first} bytes too early"
    kind = "zeros" if not rest.strip(b"\0") else "bytes that are not all zeros"
    expected = wanted[first : first + 8].hex() or "the end"
    return (
        f"is wrong from {piece.offset + first}: {expected} expected, {rest[:8].hex()} found, "
        f"{len(rest)} {kind}"
    )


@contextmanager
def _closing(handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(handle)


def main(folder: str, position: str, seed: str) -> None:
    """Read rounds until stdin ends."""
    with ThreadPoolExecutor(1) as pool:
        reader = Reader(Path(folder), Position(Path(position)), seed, pool)
        for line in iter(sys.stdin.readline, ""):
            report = reader.read_round(int(line))
            print(report.encoded(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
