"""How long opens of stored invoices take on a mount that does nothing else, as a program.

    python -m tests.soak.cached_opens FOLDER

The invoices are much smaller in sum than the store, and are opened before. Prints a `Timing`.
"""

import json
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from time import perf_counter_ns

from tests.soak.tenant import Truth, soak_tenant

_THREADS = 4
_FILES = 20  # the smallest final ones: some 100 kB in sum
_ROUNDS = 50  # of each thread
_YOUNG_S = 6.0  # so soon after a download an open has the kernel ask for the size once more
_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Timing:
    """The median of many opens, and what only one in a hundred takes longer than."""

    opens: int
    p50_ms: float
    p99_ms: float


def _time_opens(paths: Sequence[Path]) -> list[int]:
    times_ns = []
    for _ in range(_ROUNDS):
        for path in paths:
            began_ns = perf_counter_ns()
            handle = os.open(path, os.O_RDONLY)
            times_ns.append(perf_counter_ns() - began_ns)
            os.close(handle)
    return times_ns


def _smallest_final(folder: Path) -> list[Path]:
    tenant = soak_tenant()
    final = {
        f"{namespace.name}/{invoice.name}.pdf"
        for namespace in tenant.namespaces
        for invoice in namespace.invoices
        if not invoice.active
    }
    files = Truth(tenant).files
    return [folder / path for path in sorted(final, key=lambda path: len(files[path]))[:_FILES]]


def main(folder: str) -> None:
    """Time the opens of a few invoices by a few threads."""
    paths = _smallest_final(Path(folder))
    for path in paths * 2:  # the first time, each may push one that was stored before out
        path.read_bytes()
    threading.Event().wait(_YOUNG_S)
    for path in paths:
        path.stat()  # a list that is too old by now is asked for again
    with ThreadPoolExecutor(_THREADS) as pool:
        # Each thread has invoices of its own: one that somebody holds open is not looked for.
        shares = [paths[number::_THREADS] for number in range(_THREADS)]
        times_ns = [each for times in pool.map(_time_opens, shares) for each in times]
    cuts_ns = quantiles(times_ns, n=100)
    timing = Timing(len(times_ns), cuts_ns[49] / _NS_PER_MS, cuts_ns[98] / _NS_PER_MS)
    print(json.dumps(asdict(timing)))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
