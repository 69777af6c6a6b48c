"""Soak test: 200 threads perform random operations on a mount: ``scripts/soak MINUTES``.

The load runs in phases, and after each one the idle mount is measured. After the first phase, the
warm-up, the mount has allocated all that it needs; whatever has grown by the end is a leak.

Prints a table of the phases, and a sentence for each broken promise. Exits with status 1 if any
promise was broken.
"""

import json
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

from invoicefs.sandbox import Sandbox
from tests.mount.support.mounts import Mount, Mounts
from tests.soak.cached_opens import Timing
from tests.soak.gauges import Gauges, gauges, gauges_at_rest
from tests.soak.running_load import load
from tests.soak.tenant import soak_tenant
from tests.soak.verdict import MIB, PARALLEL, Phase, broken_promises, name_of_phase
from tests.support.timed_run import exit_status, say

_THREADS = 200
_PHASES = 4  # the first is the warm-up
_SAMPLES = 10  # of the mount in each phase, while it is under load
_SECONDS_PER_MINUTE = 60
_LATENCY_S = 0.05  # long enough for --parallel to limit the requests
_OPTIONS = (
    *("--parallel", str(PARALLEL)),
    *("--list-ttl", "2s"),
    *("--active-ttl", "1s"),
    *("--cache-size", "4MiB"),  # a tenth of all invoices
)
_TABLE = "{:>7} {:>10} {:>8} {:>9} | {:>7} {:>5} {:>6} {:>5} | {:>7} {:>5}"
_HEADS = (
    *("", "operations", "requests", "in flight"),
    *("threads", "files", "SQLite", "MiB", "threads", "MiB"),
)


class _SoakedMounts(Mounts):
    """Mounts whose memory consists only of what is in use.

    By default malloc retains a varying amount of freed memory: the memory of an idle mount varied
    by 10 MiB (measured). So it is configured to return large blocks at once, and to use few arenas
    for small ones.
    """

    @property
    def environment(self) -> dict[str, str]:
        malloc = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}
        return {**super().environment, **malloc}


@contextmanager
def _soaked_mounts() -> Iterator[Mounts]:
    with (
        tempfile.TemporaryDirectory(prefix="invoicefs-soak-") as folder,
        Sandbox(soak_tenant(), latency_s=_LATENCY_S) as sandbox,
        closing(_SoakedMounts(sandbox, Path(folder))) as mounts,
    ):
        yield mounts


def _soak(mounts: Mounts, minutes: float) -> list[str]:
    """Soak a mount, print the measurements, and return a sentence for each broken promise."""
    mount = mounts.mount(*_OPTIONS)
    say(_TABLE.format("", "", "", "", "at rest", "", "", "", "maximum", ""))
    say(_TABLE.format(*_HEADS))
    phases = []
    for number in range(_PHASES):
        phase = _phase(mounts, mount, number, minutes * _SECONDS_PER_MINUTE / _PHASES)
        phases.append(phase)
        say(_row(number, phase))
    timing = _timed_opens(mounts, mount)
    say(f"cached opens: p50 {timing.p50_ms:.2f} ms, p99 {timing.p99_ms:.2f} ms of {timing.opens}")
    mounts.umount(mount)
    return list(broken_promises(phases, mount.log.read_text(encoding="utf-8")))


def _phase(mounts: Mounts, mount: Mount, number: int, phase_s: float) -> Phase:
    mounts.sandbox.forget_calls()
    ends_s = monotonic() + phase_s
    with load(mounts, mount, _THREADS, seed=str(number)) as running:
        running.work()
        samples = list(_samples(mount, ends_s, phase_s / _SAMPLES))
        report = running.end()
    return Phase(
        report,
        calls=len(mounts.sandbox.calls),
        peak_requests=mounts.sandbox.peak_concurrency,
        peak_threads=max(sample.threads for sample in samples),
        peak_memory_bytes=max(sample.memory_bytes for sample in samples),
        rest=gauges_at_rest(mount.daemon),
    )


def _samples(mount: Mount, ends_s: float, interval_s: float) -> Iterator[Gauges]:
    """Yield the gauges of the mount under load: now, and at intervals."""
    never = threading.Event()
    yield gauges(mount.daemon)
    while monotonic() < ends_s:
        never.wait(interval_s)
        yield gauges(mount.daemon)


def _row(number: int, phase: Phase) -> str:
    rest = phase.rest
    return _TABLE.format(
        name_of_phase(number),
        *(phase.report.operations, phase.calls, phase.peak_requests),
        *(rest.threads, rest.descriptors, rest.connections, f"{rest.memory_bytes / MIB:.1f}"),
        *(phase.peak_threads, f"{phase.peak_memory_bytes / MIB:.1f}"),
    )


def _timed_opens(mounts: Mounts, mount: Mount) -> Timing:
    with mounts.started_module("tests.soak.cached_opens", mount.path) as program:
        return Timing(**json.loads(program.end().good().out))


def main(arguments: Sequence[str]) -> int:
    """Soak for a number of minutes; return the exit code."""

    def broken() -> Sequence[str]:
        with _soaked_mounts() as mounts:
            return _soak(mounts, float(arguments[0]))

    return exit_status(broken)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
