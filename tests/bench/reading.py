"""Accesses files in the way that is timed, as a program, identically on every filesystem.

    python -m tests.bench.reading each FOLDER       mean seconds to open, read and close a file
    python -m tests.bench.reading same FOLDER       ... the same file again and again
    python -m tests.bench.reading fresh FOLDER      ... that was read for the first time just before
    python -m tests.bench.reading stat FOLDER       mean seconds of a stat
    python -m tests.bench.reading stat-at-once FOLDER       ... while 4 processes do the same
    python -m tests.bench.reading drop FOLDER       drops the pages of the files from the page cache
    python -m tests.bench.reading crowd FOLDER      many threads read the only file at the same time

``crowd`` prints how many different contents were read.
"""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from random import Random
from statistics import mean, median
from time import perf_counter

CROWD = 64
PROCESSES = 4
_PASSES = 10
STATS_PER_FILE = 100  # in short passes, most of which another busy process does not interrupt
_SAME = 200
_FRESH_FILES = 20
_FRESH_READS = 50  # of each file, which take less than 5 s
_CHUNK_BYTES = 128 * 1024


def _read_whole(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(handle, _CHUNK_BYTES), b""))
    finally:
        os.close(handle)


def _mean_s(access: Callable[[Path], object], paths: Sequence[Path]) -> float:
    began_s = perf_counter()
    for path in paths:
        access(path)
    return (perf_counter() - began_s) / len(paths)


def _each(paths: Sequence[Path]) -> float:
    return median(_mean_s(_read_whole, paths) for _ in range(_PASSES))


def _same(paths: Sequence[Path]) -> float:
    return _each([paths[0]] * _SAME)


def _fresh(paths: Sequence[Path]) -> float:
    # In random order, so that no filesystem reads files ahead.
    chosen = Random(0).sample(paths, _FRESH_FILES)  # noqa: S311 # the same in every process
    return median(_mean_s_after_first_read(path) for path in chosen)


def _mean_s_after_first_read(path: Path) -> float:
    _read_whole(path)
    return _mean_s(_read_whole, [path] * _FRESH_READS)


def _stat(paths: Sequence[Path]) -> float:
    return median(_mean_s(os.stat, paths) for _ in range(STATS_PER_FILE))


def _stat_at_once(paths: Sequence[Path]) -> float:
    context = get_context("fork")
    with context.Pool(PROCESSES, _share, (context.Barrier(PROCESSES),)) as pool:
        # Because of the barrier, each process executes exactly one of the calls.
        return mean(pool.map(_stat_together, [paths] * PROCESSES, chunksize=1))


_shared: list[Barrier] = []  # of the processes of a pool


def _share(together: Barrier) -> None:
    _shared.append(together)


def _stat_together(paths: Sequence[Path]) -> float:
    _shared[0].wait()
    return _stat(paths)


def _drop(paths: Sequence[Path]) -> int:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    return len(paths)


def _crowd(paths: Sequence[Path]) -> int:
    (path,) = paths
    together = threading.Barrier(CROWD)

    def read(_: int) -> bytes:
        together.wait()
        return sha256(_read_whole(path)).digest()

    with ThreadPoolExecutor(CROWD) as pool:
        return len(set(pool.map(read, range(CROWD))))


_WAYS: dict[str, Callable[[Sequence[Path]], float]] = {
    "each": _each,
    "same": _same,
    "fresh": _fresh,
    "stat": _stat,
    "stat-at-once": _stat_at_once,
    "drop": _drop,
    "crowd": _crowd,
}


def main(way: str, folder: str) -> None:
    """Access a folder in one of these ways and print one number."""
    paths = sorted(Path(folder, name) for name in os.listdir(folder))
    print(_WAYS[way](paths))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
