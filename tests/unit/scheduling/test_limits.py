"""How many background requests are in flight, before, during and after a rate limit."""

import threading
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicefs.clock import Deadline
from invoicefs.errors import InvoicefsError, NotFound, RateLimited, ServerFault, TimedOut
from invoicefs.scheduling.jobs import Load
from invoicefs.scheduling.limits import FOREGROUND_SLOTS
from tests.support.scheduler_stage import Call, SetStage, Stage

COOL_DOWN_S = 60.0  # longer than any request waits to be retried
ENOUGH = 100
COUNT = 150
LONG_INTERVAL_S = 1.0  # longer than the interval between requests after a 429 here

with_any_number_of_slots = pytest.mark.parametrize("parallel", [3, 4, 5, 8, 12])
_numbers = count()


def start(stage: Stage, call: Call, kind: str = "pdf") -> None:
    """Start a background request with a key of its own."""
    stage.start(f"key {next(_numbers)}", call, kind)


def succeed(stage: Stage, times: int = ENOUGH, kind: str = "pdf") -> None:
    """Let a number of background requests succeed."""
    for _ in range(times):
        start(stage, stage.call(), kind)
    stage.settle()


def refuse(stage: Stage, kind: str = "pdf") -> None:
    """Let one background request be refused, and wait until its cool-down is over."""
    call = stage.call(RateLimited("429", retry_after_s=COOL_DOWN_S))
    start(stage, call, kind)
    call.until_begun()
    stage.settle()
    stage.pass_time(COOL_DOWN_S)


def crowd(stage: Stage, kind: str = "pdf", calls: int = 30) -> list[Call]:
    """Start more background requests than can run, all blocked; return those that run."""
    started = [stage.blocked_call() for _ in range(calls)]
    for call in started:
        start(stage, call, kind)
    stage.settle()
    return [call for call in started if call.attempts]


def background_slots(parallel: int) -> int:
    """Return how many slots the background may use."""
    return parallel - FOREGROUND_SLOTS


def half(slots: int) -> int:
    return max(1, slots // 2)


@with_any_number_of_slots
def test_the_background_gains_all_slots_but_one(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage)
    assert len(crowd(stage)) == background_slots(parallel)


@with_any_number_of_slots
def test_a_background_429_halves_the_background_slots(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage)
    refuse(stage)
    assert 1 <= len(crowd(stage)) <= half(background_slots(parallel))


@with_any_number_of_slots
@pytest.mark.parametrize("refusals", [1, 5])
def test_enough_successes_restore_all_background_slots(
    set_stage: SetStage, parallel: int, refusals: int
) -> None:
    stage = set_stage(parallel=parallel)
    for _ in range(refusals):
        refuse(stage)
    succeed(stage)
    assert len(crowd(stage)) == background_slots(parallel)


@with_any_number_of_slots
def test_a_429_affects_only_its_kind_of_request(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage, kind="pdf")
    succeed(stage, kind="list")
    refuse(stage, kind="pdf")
    assert len(crowd(stage, kind="list")) == background_slots(parallel)


def test_successes_of_another_kind_restore_no_slots(set_stage: SetStage) -> None:
    stage = set_stage(parallel=12)
    succeed(stage, kind="pdf")
    refuse(stage, kind="pdf")
    succeed(stage, kind="list")
    assert len(crowd(stage, kind="pdf")) <= half(background_slots(12))


@with_any_number_of_slots
def test_all_kinds_of_request_share_the_background_slots(
    set_stage: SetStage, parallel: int
) -> None:
    stage = set_stage(parallel=parallel)
    for kind in ("pdf", "list"):
        succeed(stage, kind=kind)
    running = [*crowd(stage, "pdf"), *crowd(stage, "list")]
    assert len(running) == background_slots(parallel)


@with_any_number_of_slots
@pytest.mark.parametrize("is_over", [False, True])
def test_a_background_429_does_not_limit_the_foreground(
    set_stage: SetStage, parallel: int, is_over: bool
) -> None:
    stage = set_stage(parallel=parallel)
    limited = stage.call(RateLimited("429", retry_after_s=COOL_DOWN_S))
    start(stage, limited)
    limited.until_begun()
    stage.settle()
    if is_over:
        stage.pass_time(COOL_DOWN_S)
    calls = [stage.blocked_call() for _ in range(parallel)]
    for number, call in enumerate(calls):
        stage.caller(f"foreground {number}", call)
        call.until_begun()
    assert stage.running == parallel


@pytest.mark.parametrize("error", [NotFound, ServerFault])
def test_other_failures_halve_no_slots(set_stage: SetStage, error: type[InvoicefsError]) -> None:
    stage = set_stage(parallel=8)
    succeed(stage)
    for _ in range(10):
        start(stage, stage.call(error("the server said so")))
    stage.settle()
    assert len(crowd(stage)) == background_slots(8)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.lists(st.sampled_from(["content", "429", "404"]), max_size=40))
def test_requests_in_flight_are_bounded_whatever_the_responses(
    parallel: int, responses: list[str]
) -> None:
    with Stage(parallel=parallel) as stage:
        for response in responses:
            outcome = {"429": RateLimited("429"), "404": NotFound("404")}.get(response, response)
            start(stage, stage.blocked_call(outcome, "content"))
            if response == "content":
                stage.caller(f"caller {next(_numbers)}", stage.blocked_call())
        for _ in range(5):
            stage.release_all()
            stage.pass_time(1.0)
        assert stage.most_running <= parallel
        assert len(crowd(stage)) <= max(0, background_slots(parallel))


# The pace.


def paced_stage(set_stage: SetStage, max_wait_s: float) -> Stage:
    """Return a stage that paces requests after a 429 and has just made one."""
    stage = set_stage(parallel=8, max_wait_s=max_wait_s)
    stage.fetch("before", stage.call())
    call = stage.call(RateLimited("429", retry_after_s=COOL_DOWN_S))
    start(stage, call)
    call.until_begun()
    stage.settle()
    stage.pass_time(LONG_INTERVAL_S)
    stage.fetch("first", stage.call())
    return stage


def test_foreground_requests_are_paced(set_stage: SetStage) -> None:
    stage = paced_stage(set_stage, max_wait_s=5.0)
    call = stage.call()
    caller = stage.caller("second", call)
    stage.settle()
    assert call.attempts == 0
    stage.advance_until_done(caller)
    assert caller.result() == "content"


def test_foreground_requests_are_delayed_at_most_by_max_wait(
    set_stage: SetStage,
) -> None:
    stage = paced_stage(set_stage, max_wait_s=0.0)
    assert stage.fetch("second", stage.call()) == "content"


def test_pacing_fails_no_request(set_stage: SetStage) -> None:
    stage = paced_stage(set_stage, max_wait_s=2.0)
    callers = [stage.caller(f"caller {number}", stage.call()) for number in range(10)]
    for caller in callers:
        stage.advance_until_done(caller)
    assert {caller.result() for caller in callers} == {"content"}


def test_others_wait_for_a_fraction_of_a_request_while_slow_requests_use_all_slots(
    set_stage: SetStage,
) -> None:
    stage, latency_s, step_s = set_stage(parallel=8), 2.0, 0.0625
    time_passes = threading.Condition()

    def slow(deadline: Deadline) -> None:
        end = Deadline.after(latency_s, deadline.clock)
        with time_passes:
            while (left_s := end.left_s()) > 0:
                stage.clock.wait(time_passes, left_s)

    def read_all() -> None:
        for number in range(COUNT):
            with suppress(TimedOut):  # the test has ended
                stage.fetch(f"file {number}", slow, timeout_s=1000)

    for number in range(COUNT):
        stage.start(f"file {number}", slow, timeout_s=1000)
    threading.Thread(target=read_all).start()
    in_flight: list[int] = []
    for _ in range(int(6 * latency_s / step_s)):
        stage.pass_time(step_s)
        in_flight.append(stage.scheduler.load().running)
    assert max(in_flight) == 8
    took_s: list[float] = []
    for number in range(5):
        began_s = stage.clock.monotonic_s()
        other = stage.caller(f"list {number}", slow, "list", is_urgent=True)
        took_s.append(stage.advance_until_done(other, step_s=step_s) - began_s)
    stage.scheduler.close()
    stage.pass_time(latency_s)
    assert max(took_s) <= latency_s + latency_s / 8 + 2 * step_s


def test_load_counts_running_and_queued_requests(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    assert stage.scheduler.load() == Load(0, 0, {})

    running = crowd(stage, calls=5)

    load = stage.scheduler.load()
    assert (load.running, load.waiting) == (len(running), 5 - len(running))
    assert load.cool_downs_s == {}
    assert len(running) == background_slots(3)


def test_load_includes_remaining_cool_downs(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3, max_wait_s=5.0)
    stage.caller("limited", stage.call(RateLimited("429", retry_after_s=4.0), "content"))
    stage.settle()
    stage.pass_time(1.0)

    (left_s,) = stage.scheduler.load().cool_downs_s.values()

    assert 2.0 < left_s <= 3.5
