"""A process that asks for the sizes of the files that readers are opening, as a program.

    python -m tests.stress.stat_caller FOLDER POSITION SEED

So replies with the size from before a download are in flight when it ends. The kernel applies a
reply in the process that called stat. So processes with an odd seed have the lowest priority: they
may apply an old size long after the reply was sent.

For each line of stdin, the number of a round, it follows the readers in that round. First it prints
a `Report`, as JSON in one line, of what it has seen since the line before.
"""

import errno
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.stress.position import Position
from tests.stress.report import Report
from tests.stress.tenant import folder, schedule

_BEFORE, _AFTER = 2, 6  # files before and after the position of the readers
_STATS_PER_LISTING = 200


class StatCaller:
    """One of several processes that call ``stat`` and list folders all the time."""

    def __init__(self, mount: Path, position: Position, seed: str) -> None:
        self._mount = mount
        self._position = position
        self._random = Random(seed)  # noqa: S311 # varies the calls, repeatably
        self._calls: tuple[Callable[[str], object], ...] = (os.stat, os.lstat)
        self.report = Report()

    def follow(self, number: int) -> None:
        """Call stat on the files of a round until stdin has more."""
        paths = [str(self._mount / file.path) for file in schedule(number)]
        directory = str(self._mount / folder(number))
        while True:
            for _ in range(_STATS_PER_LISTING):
                position = self._position.get()
                index = position + self._random.randint(-_BEFORE, _AFTER)
                path = paths[min(max(index, 0), len(paths) - 1)]
                self._count(self._random.choice(self._calls), path)
                if select.select([0], [], [], 0)[0]:
                    return
            self._count(self._random.choice((os.listdir, _scan)), directory)

    def _count(self, call: Callable[[str], object], path: str) -> None:
        try:
            call(path)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error))
            self.report.errors[f"{call.__name__.strip('_')}: {name}"] += 1
        self.report.stats += 1


def _scan(directory: str) -> None:
    """List a folder, and call stat on some of its files."""
    with os.scandir(directory) as entries:
        for entry in list(entries)[::20]:
            entry.stat()


def main(mount: str, position: str, seed: str) -> None:
    """Call stat until stdin ends."""
    if int(seed) % 2:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    caller = StatCaller(Path(mount), Position(Path(position)), seed)
    for line in iter(_next_line, ""):
        print(caller.report.encoded(), flush=True)  # noqa: T201
        caller.report = Report()
        caller.follow(int(line))


def _next_line() -> str:
    """Read a line from stdin without reading ahead, so that `select` sees the next one."""
    return b"".join(iter(lambda: os.read(0, 1).strip(b"\n"), b"")).decode()


if __name__ == "__main__":
    main(*sys.argv[1:])
