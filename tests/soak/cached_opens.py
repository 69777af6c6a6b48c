"""The time to open cached invoices on an otherwise idle mount, as a program.

    python -m tests.soak.cached_opens FOLDER

The invoices are much smaller in total than the cache, and were opened before. Prints a `Timing`.
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
_FILES = 20  # the smallest final invoices: some 100 kB in total
_ROUNDS = 50  # per thread
_AFTER_DOWNLOAD_S = 6.0  # until then the kernel requests the size again on open
_NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Timing:
    """The number of opens, with their median and their 99th percentile."""

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
    for path in paths * 2:  # in the first round, each may evict an earlier one
        path.read_bytes()
    threading.Event().wait(_AFTER_DOWNLOAD_S)
    for path in paths:
        path.stat()  # refreshes an expired listing
    with ThreadPoolExecutor(_THREADS) as pool:
        # Each thread has invoices of its own: an open one needs no lookup in the cache.
        shares = [paths[number::_THREADS] for number in range(_THREADS)]
        times_ns = [time_ns for times in pool.map(_time_opens, shares) for time_ns in times]
    cuts_ns = quantiles(times_ns, n=100)
    timing = Timing(len(times_ns), cuts_ns[49] / _NS_PER_MS, cuts_ns[98] / _NS_PER_MS)
    print(json.dumps(asdict(timing)))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
