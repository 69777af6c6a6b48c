"""How calls are made: how many at once, for whom, and until when."""

import contextlib
import gc
import random
import threading
import traceback
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from invoicefs.clock import Deadline
from invoicefs.errors import (
    CredentialRenewed,
    InvoicefsError,
    NoAnswer,
    NotFound,
    RateLimited,
    TimedOut,
    Unavailable,
    Unreachable,
)
from invoicefs.scheduling.failures import FAILURE_MEMORY_S
from invoicefs.scheduling.scheduler import (
    FOREGROUND_SLOTS,
    IDLE_WORKER_S,
)
from tests.support.scheduler_stage import HANG_S, MAX_WAIT_S, SetStage, Stage

A_MOMENT_S = 0.25
A_WHILE_S = 10.0  # for what happens at once, where a failure would show in no other way

RETRIED = (RateLimited, Unavailable, Unreachable)


# One call.


def test_fetch_returns_what_the_call_brings(stage: Stage) -> None:
    content = object()

    assert stage.fetch("a", stage.call(content)) is content


def test_call_that_brings_nothing_is_an_answer(stage: Stage) -> None:
    call = stage.call(None)

    assert stage.fetch("a", call) is None
    assert call.attempts == 1


def test_call_is_given_the_deadline_of_its_caller(stage: Stage) -> None:
    call = stage.call()
    deadline = Deadline.after(17.0, stage.clock)

    stage.scheduler.fetch("a", "pdf", call, deadline)

    assert [each.at_s for each in call.deadlines] == [deadline.at_s]


def test_result_is_not_kept(stage: Stage) -> None:
    call = stage.call("first", "second")

    assert [stage.fetch("a", call), stage.fetch("a", call)] == ["first", "second"]


def test_background_call_is_made_while_nobody_waits(stage: Stage) -> None:
    call = stage.call()

    stage.start("a", call)

    call.until_begun()


def test_start_does_not_wait_for_the_call(stage: Stage) -> None:
    call = stage.held_call()

    stage.start("a", call)

    assert call.until_begun().attempts == 1


# A bounded pool.


@pytest.mark.parametrize("parallel", [1, 2, 3, 8])
def test_at_most_parallel_calls_run_at_one_time(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    calls = [stage.held_call() for _ in range(parallel + 3)]
    callers = [stage.caller(f"key {n}", call) for n, call in enumerate(calls)]
    stage.settle()
    running_first = stage.running

    for call in calls:
        call.let_all_go()

    assert [caller.result(HANG_S) for caller in callers] == ["content"] * len(calls)
    assert running_first == parallel
    assert stage.most_running == parallel


def test_at_most_parallel_calls_run_with_background_and_retries(set_stage: SetStage) -> None:
    stage = set_stage(parallel=4)
    for n in range(12):
        stage.start(f"background {n}", stage.call(Unavailable("503"), "content"))
    callers = [
        stage.caller(f"foreground {n}", stage.held_call(Unreachable("lost"), "content"))
        for n in range(6)
    ]
    stage.settle()
    for _ in range(10):
        stage.let_all_go()
        stage.pass_time(1.0)

    assert [caller.result(HANG_S) for caller in callers] == ["content"] * 6
    assert stage.most_running == 4


def test_threads_are_used_again(set_stage: SetStage) -> None:
    stage = set_stage(parallel=2)
    seen = set()

    for n in range(30):
        stage.fetch(f"key {n}", lambda _: seen.add(threading.current_thread()))

    assert len(seen) <= 2


def test_slow_call_does_not_hold_up_others(set_stage: SetStage) -> None:
    stage = set_stage(parallel=2)
    stage.occupy(1)

    assert [stage.fetch(f"key {n}", stage.call(n)) for n in range(5)] == [0, 1, 2, 3, 4]


def test_call_waits_for_a_slot_and_gets_it(set_stage: SetStage) -> None:
    stage = set_stage(parallel=2)
    first, _ = stage.occupy(2)
    call = stage.call()
    caller = stage.caller("a", call)
    stage.settle()
    assert call.attempts == 0

    first.let_go()

    assert caller.result(HANG_S) == "content"


def test_every_slot_is_usable_after_all_were_busy(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    for call in stage.occupy(3):
        call.let_go()
    stage.settle()

    stage.occupy(3)

    assert stage.running == 3


def test_no_lock_is_held_during_a_call(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    other = stage.call("other")

    def call(_: Deadline) -> Any:
        stage.start("background", stage.call())
        return stage.fetch("b", other)

    assert stage.fetch("a", call) == "other"


# Two priorities.


@pytest.mark.parametrize("parallel", [3, 4, 8])
def test_background_leaves_two_slots(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    stage.win_all_slots(parallel)
    for n in range(parallel + 2):
        stage.start(f"key {n}", stage.held_call())

    stage.settle()

    assert stage.running == parallel - FOREGROUND_SLOTS


def test_two_slots_are_kept() -> None:
    assert FOREGROUND_SLOTS == 2


def test_foreground_calls_are_made_at_once_beside_a_busy_background(set_stage: SetStage) -> None:
    stage = set_stage(parallel=4)
    background = [stage.held_call() for _ in range(10)]
    for n, call in enumerate(background):
        stage.start(f"background {n}", call)
    stage.settle()

    foreground = stage.occupy(2)

    assert [call.attempts for call in foreground] == [1, 1]
    assert stage.running == 4


def test_background_goes_on_when_one_of_its_calls_ends(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    first, second = stage.held_call(), stage.held_call()
    stage.start("first", first)
    stage.start("second", second)
    first.until_begun()
    stage.settle()
    assert second.attempts == 0

    first.let_go()

    second.until_begun()


@pytest.mark.parametrize("parallel", [1, 2])
def test_background_never_takes_a_slot_of_the_foreground(
    set_stage: SetStage, parallel: int
) -> None:
    stage = set_stage(parallel=parallel)
    background = stage.call()
    stage.start("background", background)

    assert stage.fetch("foreground", stage.call()) == "content"
    stage.settle()
    assert background.attempts == 0


def test_foreground_goes_first(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    running = stage.held_call()
    stage.start("running", running)
    running.until_begun()
    stage.occupy(2)
    background, foreground = stage.held_call(), stage.held_call()
    stage.start("background", background)
    stage.caller("foreground", foreground)
    stage.settle()

    running.let_go()
    foreground.until_begun()
    stage.settle()
    assert background.attempts == 0
    foreground.let_go()

    background.until_begun()


def test_who_came_first_goes_first(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    order: list[int] = []
    callers = []
    for n in range(5):
        callers.append(stage.caller(f"key {n}", lambda _, n=n: order.append(n)))  # type: ignore[misc]
        stage.settle()

    running.let_go()
    for caller in callers:
        caller.result(HANG_S)

    assert order == [0, 1, 2, 3, 4]


# Single-flight.


def test_many_callers_share_one_call(stage: Stage) -> None:
    content = object()
    call = stage.held_call(content)
    callers = [stage.caller("a", call) for _ in range(12)]
    stage.settle()

    call.let_go()

    assert all(caller.result(HANG_S) is content for caller in callers)
    assert call.attempts == 1


def test_many_callers_share_one_failure(stage: Stage) -> None:
    error = NotFound("no such invoice")
    call = stage.held_call(error)
    callers = [stage.caller("a", call) for _ in range(12)]
    stage.settle()

    call.let_go()

    assert all(caller.exception(HANG_S) is error for caller in callers)
    assert call.attempts == 1


def test_callers_share_a_call_that_is_tried_again(stage: Stage) -> None:
    call = stage.call(Unavailable("503", retry_after_s=2.0), "content")
    first = stage.caller("a", call)
    stage.settle()
    second = stage.caller("a", stage.call("of another call"))
    stage.settle()

    stage.pass_time(2.5)

    assert (first.result(HANG_S), second.result(HANG_S)) == ("content", "content")
    assert call.attempts == 2


def test_different_keys_do_not_share(stage: Stage) -> None:
    stage.caller("a", stage.held_call("of a"))

    assert stage.fetch("b", stage.call("of b")) == "of b"


@pytest.mark.parametrize(
    "outcome",
    ["content", NotFound("404"), ValueError("unexpected")],
    ids=["ends", "fails", "raises"],
)
def test_single_flight_is_over_when_its_call_is(stage: Stage, outcome: Any) -> None:
    with contextlib.suppress(NotFound, ValueError):
        stage.fetch("a", stage.call(outcome))
    stage.clock.advance(FAILURE_MEMORY_S)

    assert stage.fetch("a", stage.call("new")) == "new"


def test_background_does_not_call_for_what_is_under_way(stage: Stage) -> None:
    foreground, background = stage.held_call(), stage.call()
    caller = stage.caller("a", foreground)
    foreground.until_begun()

    stage.start("a", background)
    foreground.let_go()

    assert caller.result(HANG_S) == "content"
    stage.settle()
    assert background.attempts == 0


def test_caller_joins_a_background_call(stage: Stage) -> None:
    background = stage.held_call("of the background")
    stage.start("a", background)
    background.until_begun()
    caller = stage.caller("a", stage.call("of the caller"))
    stage.settle()

    background.let_go()

    assert caller.result(HANG_S) == "of the background"


def test_joining_lifts_a_call_that_waits_for_a_background_slot(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    stage.start("running", stage.held_call())
    call = stage.call()
    stage.start("a", call)
    stage.settle()
    assert call.attempts == 0

    assert stage.fetch("a", stage.call("of the caller")) == "content"


@pytest.mark.parametrize("parallel", [1, 2])
def test_nothing_is_queued_where_every_slot_is_kept_for_the_foreground(
    set_stage: SetStage, parallel: int
) -> None:
    """It would wait there until somebody wants it, and be outdated by then."""
    stage = set_stage(parallel=parallel)
    stage.start("a", stage.call("of the background"))
    stage.settle()

    assert stage.fetch("a", stage.call("of the caller")) == "of the caller"


def test_joining_lifts_a_call_out_of_its_backoff(stage: Stage) -> None:
    call = stage.call(Unavailable("503", retry_after_s=4.0), "content")
    stage.start("a", call)
    stage.settle()
    assert call.attempts == 1

    assert stage.fetch("a", stage.call("of the caller")) == "content"


def test_joining_lifts_a_call_out_of_the_cool_down_of_the_background(stage: Stage) -> None:
    call = stage.call(RateLimited("429", retry_after_s=4.0), "content")
    stage.start("a", call)
    stage.settle()
    assert call.attempts == 1

    assert stage.fetch("a", stage.call("of the caller")) == "content"


def test_lifted_call_is_tried_again_like_any_of_the_foreground(set_stage: SetStage) -> None:
    """It waited long for a background slot; that is no time in which anybody waited for it."""
    stage = set_stage(parallel=3)
    stage.start("running", stage.held_call())
    stage.start("a", stage.call(Unavailable("503", retry_after_s=1.0), "content"))
    stage.pass_time(MAX_WAIT_S + 1.0)
    caller = stage.caller("a", stage.call("of the caller"))
    stage.settle()

    stage.pass_time(1.5)

    assert caller.result(HANG_S) == "content"


def test_background_does_not_make_a_foreground_call_wait_again(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    stage.start("running", stage.held_call())
    call = stage.held_call()
    stage.caller("a", call)
    call.until_begun()

    stage.start("a", stage.call())
    stage.settle()

    assert stage.running == 2


# Deadlines.


def test_caller_does_not_wait_past_his_deadline(stage: Stage) -> None:
    caller = stage.caller("a", stage.held_call(), timeout_s=10.0)
    stage.settle()
    stage.pass_time(9.9)
    assert not caller.done()

    stage.clock.advance(0.2)

    assert isinstance(caller.exception(HANG_S), TimedOut)


def test_call_that_outlasts_its_caller_holds_up_nobody(set_stage: SetStage) -> None:
    stage = set_stage(parallel=2)
    caller = stage.caller("a", stage.held_call(), timeout_s=10.0)
    stage.settle()
    stage.clock.advance(10.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)

    assert stage.fetch("b", stage.call()) == "content"


def test_slot_of_a_call_that_outlasts_its_caller_is_free_when_it_ends(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    call = stage.held_call()
    caller = stage.caller("a", call, timeout_s=10.0)
    stage.settle()
    stage.clock.advance(10.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)

    call.let_go()

    assert stage.fetch("b", stage.call()) == "content"


def test_caller_in_the_queue_does_not_wait_past_his_deadline(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    stage.occupy(1)
    caller = stage.caller("a", stage.call(), timeout_s=10.0)
    stage.settle()

    stage.clock.advance(10.0)

    assert isinstance(caller.exception(HANG_S), TimedOut)


def test_no_call_begins_after_its_deadline(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    call = stage.call()
    caller = stage.caller("a", call, timeout_s=10.0)
    stage.settle()
    stage.clock.advance(10.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)

    running.let_go()
    stage.settle()

    assert call.attempts == 0


def test_no_background_call_begins_after_its_deadline(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    running, call = stage.held_call(), stage.call()
    stage.start("running", running)
    running.until_begun()
    stage.start("a", call, timeout_s=10.0)
    stage.pass_time(10.0)

    running.let_go()
    stage.settle()

    assert call.attempts == 0


def test_caller_without_time_makes_no_call(stage: Stage) -> None:
    call = stage.call()

    with pytest.raises(TimedOut):
        stage.fetch("a", call, timeout_s=0.0)

    stage.settle()
    assert call.attempts == 0


def test_who_joins_waits_until_his_own_deadline(stage: Stage) -> None:
    call = stage.held_call()
    patient = stage.caller("a", call, timeout_s=30.0)
    call.until_begun()
    hurried = stage.caller("a", call, timeout_s=10.0)
    stage.settle()

    stage.clock.advance(10.0)
    assert isinstance(hurried.exception(HANG_S), TimedOut)
    call.let_go()

    assert patient.result(HANG_S) == "content"


def test_who_joins_a_queued_call_is_not_bound_by_its_deadline(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    hurried = stage.caller("a", stage.call(), timeout_s=10.0)
    stage.settle()
    patient = stage.caller("a", stage.call(), timeout_s=25.0)
    stage.settle()
    stage.pass_time(10.0)
    assert isinstance(hurried.exception(HANG_S), TimedOut)
    stage.pass_time(FAILURE_MEMORY_S)

    running.let_go()

    assert patient.result(HANG_S) == "content"


def test_who_joins_a_queued_call_in_a_hurry_does_not_cut_it_short(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    patient = stage.caller("a", stage.call(), timeout_s=25.0)
    stage.settle()
    hurried = stage.caller("a", stage.call(), timeout_s=10.0)
    stage.settle()
    stage.pass_time(10.0)
    assert isinstance(hurried.exception(HANG_S), TimedOut)

    running.let_go()

    assert patient.result(HANG_S) == "content"


def test_who_comes_after_a_queued_call_ran_out_of_time_gets_a_call(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    hurried = stage.caller("a", stage.call(), timeout_s=10.0)
    stage.settle()
    stage.pass_time(10.0)
    assert isinstance(hurried.exception(HANG_S), TimedOut)
    stage.pass_time(FAILURE_MEMORY_S)
    late = stage.caller("a", stage.call(), timeout_s=10.0)
    stage.settle()

    running.let_go()

    assert late.result(HANG_S) == "content"


def test_who_lifts_a_background_call_is_not_bound_by_its_deadline(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    stage.start("running", stage.held_call())
    stage.start("a", stage.call(Unavailable("503", retry_after_s=2.0), "content"), timeout_s=10.0)
    stage.pass_time(9.0)
    caller = stage.caller("a", stage.call())
    stage.settle()

    stage.pass_time(3.0)

    assert caller.result(HANG_S) == "content"


def test_who_comes_to_a_call_that_does_not_end_is_told_at_once(stage: Stage) -> None:
    """Its key stays taken: to make the call once more could take all slots, one by one."""
    stuck, again = stage.held_call(), stage.call()
    caller = stage.caller("a", stuck, timeout_s=10.0)
    stage.settle()
    stage.clock.advance(10.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)

    with pytest.raises(TimedOut):
        stage.fetch("a", again)

    assert again.attempts == 0


def test_key_is_free_when_a_call_that_did_not_end_ends_after_all(stage: Stage) -> None:
    stuck = stage.held_call("late")
    caller = stage.caller("a", stuck, timeout_s=10.0)
    stage.settle()
    stage.clock.advance(20.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)
    stuck.let_go()
    stage.settle()

    assert stage.fetch("a", stage.call("new")) == "new"


def test_who_joins_a_call_that_runs_does_not_prolong_it(stage: Stage) -> None:
    call = stage.held_call()
    deadline = Deadline.after(10.0, stage.clock)
    stage.caller("a", call, timeout_s=10.0)
    call.until_begun()

    stage.caller("a", call, timeout_s=25.0)
    stage.settle()

    assert [each.at_s for each in call.deadlines] == [deadline.at_s]


def test_attempt_for_who_joined_has_his_deadline(stage: Stage) -> None:
    call = stage.call(Unavailable("503", retry_after_s=2.0), "content")
    stage.caller("a", call, timeout_s=10.0)
    stage.settle()
    patient = Deadline.after(25.0, stage.clock)
    caller = stage.caller("a", call, timeout_s=25.0)
    stage.settle()

    stage.pass_time(2.5)

    assert caller.result(HANG_S) == "content"
    assert call.deadlines[-1].at_s == patient.at_s


# What nobody expects.


class Unexpected(Exception):
    """An exception that is none of the domain."""


def test_unexpected_exception_reaches_every_caller(stage: Stage) -> None:
    error = Unexpected()
    call = stage.held_call(error)
    callers = [stage.caller("a", call) for _ in range(4)]
    stage.settle()

    call.let_go()

    assert all(caller.exception(HANG_S) is error for caller in callers)
    assert call.attempts == 1


def test_unexpected_exception_is_not_remembered(stage: Stage) -> None:
    with pytest.raises(Unexpected):
        stage.fetch("a", stage.call(Unexpected()))

    assert stage.fetch("a", stage.call()) == "content"


@pytest.mark.parametrize("parallel", [1, 3])
def test_unexpected_exception_kills_no_worker(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    for n in range(parallel + 1):
        with pytest.raises(Unexpected):
            stage.fetch(f"key {n}", stage.call(Unexpected()))

    stage.occupy(parallel)

    assert stage.running == parallel


def test_unexpected_exception_in_the_background_is_logged_and_nobodys(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    background = stage.call(Unexpected())
    stage.start("a", background)
    background.until_begun()
    stage.settle()

    assert stage.fetch("a", stage.call()) == "content"
    (record,) = caplog.records
    assert record.getMessage() == "Unexpected failure of a"
    assert record.exc_info is not None


def test_expected_failure_in_the_background_is_not_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    background = stage.call(NotFound("404"))
    stage.start("a", background)
    background.until_begun()
    stage.settle()

    assert caplog.records == []


def test_unexpected_exception_says_where_it_happened(stage: Stage) -> None:
    def call_that_breaks(_: Deadline) -> None:
        raise Unexpected

    with pytest.raises(Unexpected) as raised:
        stage.fetch("a", call_that_breaks)

    frames = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert call_that_breaks.__name__ in frames


class Answer:
    """Something large that a call has brought."""


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_remembered_failure_does_not_keep_its_answer_alive(
    stage: Stage, *, background: bool
) -> None:
    answers: list[weakref.ref[Answer]] = []

    def call(_: Deadline) -> None:
        answer = Answer()
        answers.append(weakref.ref(answer))
        try:
            raise ValueError(answer)
        except ValueError as error:
            raise NotFound("404") from error

    if background:
        stage.start("a", call)
    else:
        with pytest.raises(NotFound):
            stage.fetch("a", call)
    stage.settle()
    gc.collect()

    assert answers[0]() is None


def test_result_is_not_kept_alive(stage: Stage) -> None:
    answer = stage.fetch("a", lambda _: Answer())
    stage.settle()
    alive = weakref.ref(answer)

    del answer
    gc.collect()

    assert alive() is None


def test_traceback_of_a_shared_error_does_not_grow(stage: Stage) -> None:
    def frames() -> int:
        with pytest.raises(NotFound) as raised:
            stage.fetch("a", stage.call(NotFound("404")))
        return len(traceback.extract_tb(raised.value.__traceback__))

    frames()
    second = frames()

    assert [frames() for _ in range(10)] == [second] * 10


@pytest.fixture
def refuse_a_thread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the next start of a thread fail, as the system does when it has none to spare."""

    def refuse(_: threading.Thread) -> None:
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.parametrize("next_key", ["a", "b"])
def test_thread_that_cannot_be_started_costs_neither_slot_nor_key(
    set_stage: SetStage, refuse_a_thread: Callable[[], None], next_key: str
) -> None:
    stage = set_stage(parallel=1)
    refuse_a_thread()
    with pytest.raises((RuntimeError, InvoicefsError)):
        stage.fetch("a", stage.call())

    stage.clock.advance(FAILURE_MEMORY_S)
    caller = stage.caller(next_key, stage.call())

    assert caller.result(A_WHILE_S) == "content"


def test_call_waits_for_the_threads_there_are_where_no_more_can_be_started(
    set_stage: SetStage, refuse_a_thread: Callable[[], None]
) -> None:
    stage = set_stage(parallel=2)
    (running,) = stage.occupy(1)
    caller = Future[str]()

    def fetch() -> None:
        refuse_a_thread()
        try:
            caller.set_result(stage.fetch("a", stage.call()))
        except Exception as error:
            caller.set_exception(error)

    threading.Thread(target=fetch).start()
    stage.settle()
    running.let_go()

    assert caller.result(HANG_S) == "content"


def test_read_ahead_that_gets_no_thread_fails_nobody(
    set_stage: SetStage, refuse_a_thread: Callable[[], None]
) -> None:
    stage = set_stage(parallel=3)
    stage.occupy(1)
    refuse_a_thread()

    stage.start("a", stage.call())

    assert stage.fetch("b", stage.call()) == "content"


# The end.


def test_close_ends_callers_in_the_queue(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    call = stage.call()
    callers = [stage.caller("a", call), stage.caller("b", call)]
    stage.settle()

    stage.scheduler.close()

    assert all(isinstance(caller.exception(HANG_S), NoAnswer) for caller in callers)
    running.let_go()
    stage.settle()
    assert call.attempts == 0


def test_close_ends_callers_that_wait_for_another_attempt(stage: Stage) -> None:
    call = stage.call(Unavailable("503", retry_after_s=4.0), "content")
    caller = stage.caller("a", call)
    stage.settle()

    stage.scheduler.close()

    assert isinstance(caller.exception(HANG_S), NoAnswer)
    stage.pass_time(4.5)
    assert call.attempts == 1


def test_close_does_not_wait_for_calls(stage: Stage) -> None:
    call = stage.held_call()
    caller = stage.caller("a", call)
    call.until_begun()

    stage.scheduler.close()

    assert not caller.done()
    call.let_go()
    assert caller.result(HANG_S) == "content"


@pytest.mark.parametrize("error", [*RETRIED, CredentialRenewed])
def test_no_call_is_tried_again_after_close(stage: Stage, error: type[InvoicefsError]) -> None:
    failure = error("the server said so")
    call = stage.held_call(failure, "content")
    caller = stage.caller("a", call)
    call.until_begun()
    stage.scheduler.close()

    call.let_go()
    stage.settle()

    assert caller.done()
    assert caller.exception(HANG_S) is failure
    assert call.attempts == 1


def test_no_call_is_made_after_close(stage: Stage) -> None:
    call = stage.call()
    stage.fetch("before", stage.call())
    stage.scheduler.close()

    with pytest.raises(NoAnswer):
        stage.fetch("a", call)
    stage.start("b", call)

    stage.settle()
    assert call.attempts == 0


def test_close_ends_the_threads(stage: Stage) -> None:
    (running,) = stage.occupy(1)
    stage.start("a", stage.call())
    stage.settle()
    assert stage.threads()

    stage.scheduler.close()
    running.let_go()
    for thread in stage.threads():
        thread.join(HANG_S)

    assert not stage.threads()


def test_close_twice_is_harmless(stage: Stage) -> None:
    stage.scheduler.close()
    stage.scheduler.close()


def test_fetcher_that_is_not_used_has_no_threads(stage: Stage) -> None:
    assert not stage.threads()


# Everything together.


@pytest.mark.parametrize("seed", range(3))
def test_pool_and_single_flight_hold_under_pressure(set_stage: SetStage, seed: int) -> None:
    parallel, keys = 4, 6
    stage = set_stage(parallel=parallel)
    lock = threading.Lock()
    running: Counter[str] = Counter()
    broken: list[str] = []
    together = threading.Barrier(8)

    def call_for(key: str, *, fails: bool) -> Callable[[Deadline], str]:
        def call(_: Deadline) -> str:
            with lock:
                running[key] += 1
                if running[key] > 1 or running.total() > parallel:
                    broken.append(f"{running}")
            gc.isenabled()  # a moment in which others may run
            with lock:
                running[key] -= 1
            if fails:
                raise Unexpected
            return key

        return call

    def ask_often(number: int) -> None:
        choice = random.Random(f"{seed}/{number}")  # noqa: S311 # for variety, not for secrets
        together.wait(HANG_S)
        for _ in range(60):
            key = f"key {choice.randrange(keys)}"
            call = call_for(key, fails=choice.random() < 0.2)
            if choice.random() < 0.3:
                stage.start(key, call)
                continue
            with contextlib.suppress(Unexpected):
                if stage.fetch(key, call) != key:
                    broken.append(f"the answer of another key than {key}")

    threads = [threading.Thread(target=ask_often, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)

    assert not [thread for thread in threads if thread.is_alive()]
    assert broken == []


def test_a_worker_that_has_nothing_to_do_ends_and_gives_back_what_it_holds(
    set_stage: SetStage,
) -> None:
    ended: list[str] = []
    stage = set_stage(on_worker_end=lambda: ended.append(threading.current_thread().name))
    stage.fetch("one", stage.call())
    stage.pass_time(IDLE_WORKER_S - 1)
    assert len(stage.threads()) == 1

    stage.pass_time(1)

    assert stage.threads() == frozenset()
    assert ended == ["call-1"]
    assert stage.fetch("two", stage.call("again")) == "again"


def test_a_worker_waits_without_end_for_what_others_have_to_finish_first(stage: Stage) -> None:
    """It looked again and again, with a processor of its own."""
    running = [stage.held_call(), stage.held_call()]
    for number, call in enumerate(running):
        stage.start(f"background {number}", call, timeout_s=100)
        call.until_begun()
    stage.start("waits for a slot", stage.call(), timeout_s=100)
    stage.fetch("has a third worker", stage.call())

    stage.pass_time(IDLE_WORKER_S + 1)

    assert stage.clock.waiting()  # and `pass_time` has seen all come to rest
    for call in running:
        call.let_go()
    stage.settle()
    assert [call.attempts for call in stage.calls] == [1, 1, 1, 1]
