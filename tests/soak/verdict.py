"""The promises of a soak, and the sentences about broken ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.soak.gauges import Gauges
from tests.soak.load import Report

PARALLEL = 8
MIB = 1024 * 1024

_ALARMING = ("WARNING", "ERROR", "Traceback")
_MAX_SENTENCES = 5  # of one kind
# Each worker thread adds a connection to the API and, for each of two caches, a connection with
# descriptors for the database and its log. On a slow machine the warm-up may need fewer than
# --parallel workers.
_OF_ONE_WORKER: Mapping[str, int] = {"threads": 1, "descriptors": 5, "SQLite connections": 2}

# After the warm-up, the memory at rest is 30 to 35 MiB. Its growth slows down until the page
# caches of SQLite are full: 5 to 14 % in all (measured, in runs of half a minute to three).
# A leak of one response body in a hundred, 200 kB each, adds 2 MB per 1000 requests, which exceeds
# this limit within the 2500 requests of a minute, and by far in a longer soak.
_MAX_GROWTH = 1.2


@dataclass(frozen=True)
class Phase:
    """A period under load, and the idle period after it."""

    report: Report
    calls: int
    peak_requests: int
    peak_threads: int
    peak_memory_bytes: int
    rest: Gauges


def name_of_phase(number: int) -> str:
    """Return the name of the phase with this number, counted from 0."""
    return f"phase {number}" if number else "warm-up"


def broken_promises(phases: Sequence[Phase], log: str) -> Iterator[str]:
    """Yield one sentence for each broken promise. The first phase is the warm-up."""
    for number, phase in enumerate(phases):
        yield from _seen_by_load(number, phase)
    yield from _leaks(phases)
    peak = max(phase.peak_requests for phase in phases)
    if peak > PARALLEL:
        yield f"{peak} requests were in flight at the same time, with --parallel {PARALLEL}."
    alarming = [line for line in log.splitlines() if any(word in line for word in _ALARMING)]
    yield from _shortened([f"The log says: {line}" for line in alarming])


def _seen_by_load(number: int, phase: Phase) -> Iterator[str]:
    report = phase.report
    for kind, seen in (("a wrong answer", report.wrong), ("an error", report.errors)):
        sentences = [
            f"In {name_of_phase(number)} there was {kind} ({times} times): {words}."
            for words, times in seen.items()
        ]
        yield from _shortened(sentences)


def _leaks(phases: Sequence[Phase]) -> Iterator[str]:
    """Yield a sentence for each resource that an idle mount has more of than after the warm-up."""
    before, after = phases[0].rest, phases[-1].rest
    counted: Mapping[str, tuple[int, int]] = {
        "threads": (before.threads, after.threads),
        "descriptors": (before.descriptors, after.descriptors),
        "SQLite connections": (before.connections, after.connections),
    }
    missing_workers = max(0, PARALLEL - phases[0].peak_requests)
    for name, (first, last) in counted.items():
        if last > first + missing_workers * _OF_ONE_WORKER[name]:
            yield f"At rest the mount has {last} {name}, and had {first} after the warm-up."
    growth = after.memory_bytes / before.memory_bytes
    if growth > _MAX_GROWTH:
        count = sum(phase.calls for phase in phases[1:])
        yield f"At rest the mount has {growth:.2f} times the memory it had {count} requests before."


def _shortened(sentences: Sequence[str]) -> Iterator[str]:
    yield from sentences[:_MAX_SENTENCES]
    if len(sentences) > _MAX_SENTENCES:
        yield f"... and {len(sentences) - _MAX_SENTENCES} more like that."
