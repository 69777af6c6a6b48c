"""Reads files in the way that is timed, as a program, identically on every filesystem.

    python -m tests.bench.reading each FOLDER       mean seconds to open, read and close a file
    python -m tests.bench.reading drop FOLDER       drops the pages of the files from the page cache
    python -m tests.bench.reading crowd FOLDER      many threads read the only file at the same time

``crowd`` prints how many different contents were read.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from statistics import median
from time import perf_counter

CROWD = 64
_PASSES = 5
_CHUNK_BYTES = 128 * 1024


def _read_whole(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(handle, _CHUNK_BYTES), b""))
    finally:
        os.close(handle)


def _mean_s(paths: list[Path]) -> float:
    began_s = perf_counter()
    for path in paths:
        _read_whole(path)
    return (perf_counter() - began_s) / len(paths)


def _each(paths: list[Path]) -> float:
    return median(_mean_s(paths) for _ in range(_PASSES))


def _drop(paths: list[Path]) -> int:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    return len(paths)


def _crowd(paths: list[Path]) -> int:
    (path,) = paths
    together = threading.Barrier(CROWD)

    def read(_: int) -> bytes:
        together.wait()
        return sha256(_read_whole(path)).digest()

    with ThreadPoolExecutor(CROWD) as pool:
        return len(set(pool.map(read, range(CROWD))))


_WAYS = {"each": _each, "drop": _drop, "crowd": _crowd}


def main(way: str, folder: str) -> None:
    """Read a folder in one of these ways and print one number."""
    paths = sorted(Path(folder, name) for name in os.listdir(folder))
    print(_WAYS[way](paths))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
