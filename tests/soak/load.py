"""Many threads that perform random operations on a mount, as a separate program.

    python -m tests.soak.load FOLDER THREADS SEED

The process that accesses a mount must not serve its API: a thread that waits in a page fault holds
the global interpreter lock.

It executes each line of stdin and prints the same word in response:

- ``work``: once all threads together have performed some more operations.
- ``ending``: errors are expected from now on, because the caller ends the mount.

At the end of stdin the threads stop, and a `Report` is printed.
"""

import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from tests.soak.tenant import Truth, soak_tenant
from tests.soak.visitor import Visitor

_WORK = 10  # operations per thread, on average
_LONGEST_PAUSE_S = 0.05
_POLL_S = 0.02


@dataclass(frozen=True)
class Report:
    """The operations and observations of a load; each message has a count."""

    operations: int
    wrong: dict[str, int]
    errors: dict[str, int]
    endings: dict[str, int]


class Load:
    """The threads, from construction to `stop`."""

    def __init__(self, folder: Path, threads: int, seed: str) -> None:
        self._has_stopped = threading.Event()
        self._may_end = threading.Event()
        device, truth = os.stat(folder).st_dev, Truth(soak_tenant())
        self._visitors = [
            Visitor(folder, device, truth, f"{seed}/{number}", self._may_end)
            for number in range(threads)
        ]
        self._threads = [
            threading.Thread(target=self._visit, args=(visitor,)) for visitor in self._visitors
        ]
        for thread in self._threads:
            thread.start()

    def execute(self, word: str) -> None:
        """Execute one line of stdin."""
        match word:
            case "work":
                self._work()
            case "ending":
                self._may_end.set()
            case _:
                raise ValueError(word)

    def stop(self) -> Report:
        """Stop the threads and return their report."""
        self._has_stopped.set()
        for thread in self._threads:
            thread.join()
        return Report(
            operations=self._count(),
            wrong=_sum([visitor.wrong for visitor in self._visitors]),
            errors=_sum([visitor.errors for visitor in self._visitors]),
            endings=_sum([visitor.endings for visitor in self._visitors]),
        )

    def _work(self) -> None:
        goal = self._count() + _WORK * len(self._visitors)
        while self._count() < goal:
            self._has_stopped.wait(_POLL_S)

    def _count(self) -> int:
        return sum(visitor.count for visitor in self._visitors)

    def _visit(self, visitor: Visitor) -> None:
        random = Random()  # noqa: S311 # only for the pauses
        while not self._has_stopped.wait(random.uniform(0, _LONGEST_PAUSE_S)):
            visitor.act()
        with suppress(OSError):  # the mount may have been ended
            visitor.leave()


def _sum(counters: Sequence[Counter[str]]) -> dict[str, int]:
    return dict(sum(counters, Counter[str]()).most_common())


def main(folder: str, threads: str, seed: str) -> None:
    """Put the mount on this folder under load until stdin ends."""
    load = Load(Path(folder), int(threads), seed)
    for line in iter(sys.stdin.readline, ""):
        load.execute(line.strip())
        print(line.strip(), flush=True)  # noqa: T201
    print(json.dumps(asdict(load.stop())))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
