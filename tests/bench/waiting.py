"""Opens many files that take long, and watches the mount meanwhile; as two programs.

    python -m tests.bench.waiting open FOLDER        opens some files at once, each in a thread
    python -m tests.bench.waiting watch FOLDER       stats the other files, and lists the folder

``watch`` prints a line when it begins. It ends with its stdin, and prints the seconds of the
slowest stat and of the slowest ``ls``.
"""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from random import Random
from time import perf_counter

OPENS = 40
_STATS_PER_LS = 50


def chosen(paths: Sequence[Path]) -> tuple[Sequence[Path], Sequence[Path]]:
    """Return the files to open and the others; the same ones in every process.

    They are in no order, so that no filesystem reads files ahead.
    """
    shuffled = Random(0).sample(paths, len(paths))  # noqa: S311
    return shuffled[:OPENS], shuffled[OPENS:]


def _open_at_once(paths: Sequence[Path]) -> None:
    with ThreadPoolExecutor(OPENS) as pool:
        for handle in pool.map(lambda path: os.open(path, os.O_RDONLY), paths):
            os.close(handle)


def _watch(folder: Path, paths: Sequence[Path]) -> None:
    slowest = {"stat": _stat_s(paths[0]), "ls": _ls_s(folder)}
    print("watching", flush=True)  # noqa: T201
    for action, seconds in _accesses_s(folder, paths):
        slowest[action] = max(slowest[action], seconds)
        if select.select([sys.stdin], [], [], 0)[0]:
            break
    print(json.dumps(slowest))  # noqa: T201


def _accesses_s(folder: Path, paths: Sequence[Path]) -> Iterator[tuple[str, float]]:
    for number, path in enumerate(cycle(paths)):
        yield "stat", _stat_s(path)
        if number % _STATS_PER_LS == 0:
            yield "ls", _ls_s(folder)


def _stat_s(path: Path) -> float:
    began_s = perf_counter()
    os.stat(path)
    return perf_counter() - began_s


def _ls_s(folder: Path) -> float:
    began_s = perf_counter()
    subprocess.run(("ls", folder), stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - began_s


def main(way: str, folder: Path) -> None:
    """Open or watch."""
    opened, others = chosen(sorted(folder / name for name in os.listdir(folder)))
    if way == "open":
        _open_at_once(opened)
    else:
        _watch(folder, others)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
