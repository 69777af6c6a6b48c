"""The verdict of a soak test: the promises that were broken."""

from dataclasses import replace

import pytest

from tests.soak.gauges import Gauges
from tests.soak.load import Report
from tests.soak.verdict import MIB, PARALLEL, Phase, broken_promises

GOOD = Phase(
    Report(operations=9000, wrong={}, errors={}, endings={}),
    calls=1000,
    peak_requests=PARALLEL,
    peak_threads=200,
    peak_memory_bytes=60 * MIB,
    rest=Gauges(threads=20, descriptors=60, connections=22, memory_bytes=40 * MIB),
)


def sentences(*phases: Phase, log: str = "") -> list[str]:
    return list(broken_promises(phases, log))


def test_a_soak_without_a_failure_breaks_no_promise() -> None:
    assert sentences(GOOD, GOOD) == []


@pytest.mark.parametrize(
    ("field", "words"),
    [("threads", "21 threads"), ("descriptors", "61 descriptors"), ("connections", "23 SQLite")],
)
def test_more_at_rest_than_after_the_warm_up_is_a_leak(field: str, words: str) -> None:
    rest = replace(GOOD.rest, **{field: getattr(GOOD.rest, field) + 1})
    (sentence,) = sentences(GOOD, replace(GOOD, rest=rest))
    assert words in sentence


def test_a_worker_unused_in_the_warm_up_is_not_a_leak() -> None:
    rest = replace(GOOD.rest, threads=19, descriptors=56, connections=20)
    assert sentences(replace(GOOD, peak_requests=PARALLEL - 1, rest=rest), GOOD) == []


@pytest.mark.parametrize(("growth_mib", "is_leak"), [(-5, False), (5, False), (9, True)])
def test_memory_at_rest_may_grow_a_little(growth_mib: int, is_leak: bool) -> None:
    grown = replace(GOOD.rest, memory_bytes=GOOD.rest.memory_bytes + growth_mib * MIB)
    found = sentences(GOOD, replace(GOOD, rest=grown))
    assert bool(found) is is_leak
    assert all("memory" in sentence for sentence in found)


def test_too_many_concurrent_requests_are_reported() -> None:
    (sentence,) = sentences(GOOD, replace(GOOD, peak_requests=PARALLEL + 1))
    assert "--parallel" in sentence


def test_wrong_answers_and_errors_are_reported_with_their_phase() -> None:
    report = replace(GOOD.report, wrong={"a.pdf has a wrong byte at 7": 2}, errors={"stat: EIO": 1})
    wrong, error = sentences(GOOD, replace(GOOD, report=report))
    assert wrong == "In phase 1 there was a wrong answer (2 times): a.pdf has a wrong byte at 7."
    assert error == "In phase 1 there was an error (1 times): stat: EIO."


@pytest.mark.parametrize("line", ["1:00 WARNING: x", "1:00 ERROR: x", "Traceback (most recent"])
def test_warnings_errors_and_tracebacks_in_the_log_are_reported(line: str) -> None:
    (sentence,) = sentences(GOOD, GOOD, log=f"1:00 INFO: fine\n{line}\n")
    assert line in sentence


def test_many_sentences_of_one_kind_are_shortened() -> None:
    log = "\n".join(f"WARNING: {number}" for number in range(30))
    found = sentences(GOOD, GOOD, log=log)
    assert len(found) == 6
    assert "25 more" in found[-1]
