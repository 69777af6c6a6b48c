"""How requests are scheduled: how many at once, with which priority, and until when."""

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

from invoicefs.clock import CALLER_CHECK_S, Deadline
from invoicefs.errors import (
    CallerKilled,
    CredentialRenewed,
    InvoicefsError,
    NoResponse,
    NotFound,
    RateLimited,
    TimedOut,
    Unavailable,
    Unreachable,
)
from invoicefs.scheduling.failures import FAILURE_MEMORY_S
from invoicefs.scheduling.scheduler import IDLE_WORKER_S
from tests.support.scheduler_stage import HANG_S, MAX_WAIT_S, TIMEOUT_S, SetStage, Stage

A_MOMENT_S = 0.25
A_WHILE_S = 10.0  # a deadline for what should happen at once

RETRIED = (RateLimited, Unavailable, Unreachable)


# One request.


def test_fetch_returns_the_result_of_the_request(stage: Stage) -> None:
    content = object()

    assert stage.fetch("a", stage.call(content)) is content


def test_a_request_has_the_deadline_of_its_caller(stage: Stage) -> None:
    call = stage.call()
    deadline = Deadline.after(17.0, stage.clock)

    stage.scheduler.fetch("a", "pdf", call, deadline)

    assert [given.at_s for given in call.deadlines] == [deadline.at_s]


def test_start_makes_a_request_without_waiting_for_it(stage: Stage) -> None:
    call = stage.blocked_call()

    stage.start("a", call)

    assert call.until_begun().attempts == 1


# A bounded pool.


@pytest.mark.parametrize("parallel", [1, 2, 3, 8])
def test_at_most_parallel_requests_are_in_flight(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    calls = [stage.blocked_call() for _ in range(parallel + 3)]
    callers = [stage.caller(f"key {n}", call) for n, call in enumerate(calls)]
    stage.settle()
    running_first = stage.running

    for call in calls:
        call.release_all()

    assert [caller.result(HANG_S) for caller in callers] == ["content"] * len(calls)
    assert running_first == parallel
    assert stage.most_running == parallel


def test_threads_are_reused(set_stage: SetStage) -> None:
    stage = set_stage(parallel=2)
    seen = set()

    for n in range(30):
        stage.fetch(f"key {n}", lambda _: seen.add(threading.current_thread()))

    assert len(seen) <= 2


def test_a_request_may_use_the_scheduler_itself(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    other = stage.call("other")

    def call(_: Deadline) -> Any:
        stage.start("background", stage.call())
        return stage.fetch("b", other)

    assert stage.fetch("a", call) == "other"


# Two priorities.


def test_a_busy_background_leaves_a_slot_to_the_foreground(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    background = [stage.blocked_call() for _ in range(10)]
    for n, call in enumerate(background):
        stage.start(f"background {n}", call)
    stage.settle()
    assert stage.running == 2

    stage.occupy(1)

    assert stage.running == 3


def test_all_slots_are_used_while_a_caller_waits_for_the_background(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    for n in range(10):
        stage.start(f"background {n}", stage.blocked_call())
    stage.settle()

    stage.caller("background 0", stage.call())
    stage.settle()

    assert stage.running == 3


def test_the_foreground_has_priority(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    running = stage.blocked_call()
    stage.start("running", running)
    running.until_begun()
    stage.occupy(2)
    background, foreground = stage.blocked_call(), stage.blocked_call()
    stage.start("background", background)
    stage.caller("foreground", foreground)
    stage.settle()

    running.release_one()
    foreground.until_begun()
    stage.settle()
    assert background.attempts == 0
    foreground.release_one()

    background.until_begun()


def test_an_urgent_request_goes_before_others(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    downloads = [stage.blocked_call() for _ in range(3)]
    for n, call in enumerate(downloads):
        stage.caller(f"download {n}", call)
    listing = stage.blocked_call()
    stage.caller("listing", listing, is_urgent=True)
    stage.settle()

    running.release_one()
    listing.until_begun()

    assert [call.attempts for call in downloads] == [0, 0, 0]


def test_requests_are_made_in_order_of_arrival(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    order: list[int] = []
    callers = []
    for n in range(5):
        callers.append(stage.caller(f"key {n}", lambda _, n=n: order.append(n)))  # type: ignore[misc]
        stage.settle()

    running.release_one()
    for caller in callers:
        caller.result(HANG_S)

    assert order == [0, 1, 2, 3, 4]


# Single-flight.


def test_many_callers_share_one_request(stage: Stage) -> None:
    content = object()
    call = stage.blocked_call(content)
    callers = [stage.caller("a", call) for _ in range(12)]
    stage.settle()

    call.release_one()

    assert all(caller.result(HANG_S) is content for caller in callers)
    assert call.attempts == 1


@pytest.mark.parametrize(
    "outcome",
    ["content", NotFound("404"), ValueError("unexpected")],
    ids=["ends", "fails", "raises"],
)
def test_a_finished_request_is_not_shared(stage: Stage, outcome: Any) -> None:
    with contextlib.suppress(NotFound, ValueError):
        stage.fetch("a", stage.call(outcome))
    stage.clock.advance(FAILURE_MEMORY_S)

    assert stage.fetch("a", stage.call("new")) == "new"


def test_the_background_does_not_repeat_a_request_in_flight(stage: Stage) -> None:
    foreground, background = stage.blocked_call(), stage.call()
    caller = stage.caller("a", foreground)
    foreground.until_begun()

    stage.start("a", background)
    foreground.release_one()

    assert caller.result(HANG_S) == "content"
    stage.settle()
    assert background.attempts == 0


def test_the_background_asks_whether_a_request_is_still_wanted(stage: Stage) -> None:
    call = stage.call()

    assert not stage.start("a", call, is_wanted=lambda: False)

    stage.settle()
    assert call.attempts == 0


def test_a_request_in_flight_is_joined_even_if_its_result_is_not_needed(stage: Stage) -> None:
    call = stage.blocked_call()
    assert stage.start("a", call)
    assert stage.start("a", call, is_wanted=lambda: False)


def test_joining_promotes_a_request_queued_for_a_background_slot(set_stage: SetStage) -> None:
    stage = set_stage(parallel=2)
    stage.start("running", stage.blocked_call())
    call = stage.call()
    stage.start("a", call)
    stage.settle()
    assert call.attempts == 0

    assert stage.fetch("a", stage.call("of the caller")) == "content"


def test_background_requests_are_dropped_without_background_slots(set_stage: SetStage) -> None:
    """A queued one would wait until the foreground wants its key, and be outdated by then."""
    stage = set_stage(parallel=1)
    assert not stage.start("a", stage.call("of the background"))
    stage.settle()

    assert stage.fetch("a", stage.call("of the caller")) == "of the caller"


@pytest.mark.parametrize(
    "failure",
    [Unavailable("503", retry_after_s=4.0), RateLimited("429", retry_after_s=4.0)],
    ids=["backoff", "cool-down"],
)
def test_joining_ends_the_wait_of_a_background_request(
    stage: Stage, failure: InvoicefsError
) -> None:
    call = stage.call(failure, "content")
    stage.start("a", call)
    stage.settle()
    assert call.attempts == 1

    assert stage.fetch("a", stage.call("of the caller")) == "content"


def test_max_wait_of_a_promoted_request_begins_when_it_is_joined(set_stage: SetStage) -> None:
    """The time that it was queued in the background does not count."""
    stage = set_stage(parallel=2)
    stage.start("running", stage.blocked_call())
    stage.start("a", stage.call(Unavailable("503", retry_after_s=1.0), "content"))
    stage.pass_time(MAX_WAIT_S + 1.0)
    caller = stage.caller("a", stage.call("of the caller"))
    stage.settle()

    stage.pass_time(1.5)

    assert caller.result(HANG_S) == "content"


def test_the_background_does_not_affect_a_running_foreground_request(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    stage.start("running", stage.blocked_call())
    call = stage.blocked_call()
    stage.caller("a", call)
    call.until_begun()

    stage.start("a", stage.call())
    stage.settle()

    assert stage.running == 2


# Deadlines.


def test_a_request_that_outlasts_its_caller_delays_no_other(set_stage: SetStage) -> None:
    stage = set_stage(parallel=2)
    caller = stage.caller("a", stage.blocked_call(), timeout_s=10.0)
    stage.settle()
    stage.clock.advance(10.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)

    assert stage.fetch("b", stage.call()) == "content"


def test_a_request_past_its_deadline_frees_its_slot_when_it_ends(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    call = stage.blocked_call()
    caller = stage.caller("a", call, timeout_s=10.0)
    stage.settle()
    stage.clock.advance(10.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)

    call.release_one()

    assert stage.fetch("b", stage.call()) == "content"


def test_no_request_begins_after_its_deadline(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    call = stage.call()
    caller = stage.caller("a", call, timeout_s=10.0)
    stage.settle()
    stage.clock.advance(10.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)

    running.release_one()
    stage.settle()

    assert call.attempts == 0


def test_no_background_request_begins_after_its_deadline(set_stage: SetStage) -> None:
    stage = set_stage(parallel=2)  # one slot for the background
    running, call = stage.blocked_call(), stage.call()
    stage.start("running", running)
    running.until_begun()
    stage.start("a", call, timeout_s=10.0)
    stage.pass_time(10.0)

    running.release_one()
    stage.settle()

    assert call.attempts == 0


def test_an_expired_deadline_makes_no_request(stage: Stage) -> None:
    call = stage.call()

    with pytest.raises(TimedOut):
        stage.fetch("a", call, timeout_s=0.0)

    stage.settle()
    assert call.attempts == 0


def test_callers_that_join_have_their_own_deadline(stage: Stage) -> None:
    call = stage.blocked_call()
    patient = stage.caller("a", call, timeout_s=30.0)
    call.until_begun()
    hurried = stage.caller("a", call, timeout_s=10.0)
    stage.settle()

    stage.clock.advance(10.0)
    assert isinstance(hurried.exception(HANG_S), TimedOut)
    call.release_one()

    assert patient.result(HANG_S) == "content"


def test_a_killed_caller_stops_waiting_and_the_request_goes_on(stage: Stage) -> None:
    call, is_killed = stage.blocked_call(), threading.Event()
    killed = stage.caller("a", call, is_killed=is_killed.is_set)
    call.until_begun()
    stage.settle()
    stage.pass_time(CALLER_CHECK_S)
    assert not killed.done()

    is_killed.set()
    stage.pass_time(CALLER_CHECK_S)
    assert isinstance(killed.exception(HANG_S), CallerKilled)

    other = stage.caller("a", call)
    stage.settle()
    call.release_one()
    assert other.result(HANG_S) == "content"
    assert call.attempts == 1


def test_a_queued_request_is_dropped_when_its_last_caller_is_killed(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    call, is_killed = stage.call(), threading.Event()
    killed = [stage.caller("a", call, is_killed=is_killed.is_set) for _ in range(2)]
    wanted = stage.call()
    stage.caller("b", wanted, is_killed=is_killed.is_set)
    waiting = stage.caller("b", wanted)
    stage.settle()

    is_killed.set()
    stage.pass_time(CALLER_CHECK_S)
    running.release_one()

    assert all(isinstance(caller.exception(HANG_S), CallerKilled) for caller in killed)
    assert waiting.result(HANG_S) == "content"
    stage.settle()
    assert call.attempts == 0


def test_joining_does_not_shorten_the_deadline_of_a_queued_request(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    patient = stage.caller("a", stage.call(), timeout_s=25.0)
    stage.settle()
    hurried = stage.caller("a", stage.call(), timeout_s=10.0)
    stage.settle()
    stage.pass_time(10.0)
    assert isinstance(hurried.exception(HANG_S), TimedOut)

    running.release_one()

    assert patient.result(HANG_S) == "content"


def test_a_request_can_be_queued_again_after_it_timed_out(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    hurried = stage.caller("a", stage.call(), timeout_s=10.0)
    stage.settle()
    stage.pass_time(10.0)
    assert isinstance(hurried.exception(HANG_S), TimedOut)
    stage.pass_time(FAILURE_MEMORY_S)
    late = stage.caller("a", stage.call(), timeout_s=10.0)
    stage.settle()

    running.release_one()

    assert late.result(HANG_S) == "content"


def test_callers_that_join_a_stuck_request_fail_at_once(stage: Stage) -> None:
    """Its key stays taken: repeating the request could occupy one slot after another."""
    stuck, again = stage.blocked_call(), stage.call()
    caller = stage.caller("a", stuck, timeout_s=10.0)
    stage.settle()
    stage.clock.advance(10.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)

    with pytest.raises(TimedOut):
        stage.fetch("a", again)

    assert again.attempts == 0


def test_the_key_of_a_stuck_request_is_free_when_it_ends(stage: Stage) -> None:
    stuck = stage.blocked_call("late")
    caller = stage.caller("a", stuck, timeout_s=10.0)
    stage.settle()
    stage.clock.advance(20.0)
    assert isinstance(caller.exception(HANG_S), TimedOut)
    stuck.release_one()
    stage.settle()

    assert stage.fetch("a", stage.call("new")) == "new"


def test_joining_does_not_prolong_a_running_request(stage: Stage) -> None:
    call = stage.blocked_call()
    deadline = Deadline.after(10.0, stage.clock)
    stage.caller("a", call, timeout_s=10.0)
    call.until_begun()

    stage.caller("a", call, timeout_s=25.0)
    stage.settle()

    assert [given.at_s for given in call.deadlines] == [deadline.at_s]


def test_a_request_that_ends_by_the_deadline_of_an_earlier_caller_is_made_again(
    stage: Stage,
) -> None:
    call = stage.blocked_call(TimedOut("at the deadline"), "content")
    impatient = stage.caller("a", call, timeout_s=10.0)
    call.until_begun()
    patient = stage.caller("a", call, timeout_s=25.0)
    stage.settle()
    stage.pass_time(10.0)

    call.release_one()
    call.until_begun().release_one()

    assert isinstance(impatient.exception(HANG_S), TimedOut)
    assert patient.result(HANG_S) == "content"
    assert call.attempts == 2


@pytest.mark.parametrize("callers", [0, 1])
def test_a_request_that_ends_by_the_deadline_of_its_last_caller_is_not_made_again(
    stage: Stage, callers: int
) -> None:
    call = stage.blocked_call(TimedOut("at the deadline"))
    for _ in range(callers):
        stage.caller("a", call, timeout_s=10.0)
    stage.start("a", call, timeout_s=10.0)
    call.until_begun()
    stage.pass_time(TIMEOUT_S)

    call.release_all()

    stage.settle()
    assert call.attempts == 1


def test_a_request_of_the_background_has_the_whole_timeout_from_its_begin(
    set_stage: SetStage,
) -> None:
    stage = set_stage(parallel=2)
    first, second = stage.blocked_call(), stage.call()
    stage.start("first", first)
    stage.start("second", second)
    stage.settle()
    stage.pass_time(TIMEOUT_S - 1.0)
    begins = Deadline.after(TIMEOUT_S, stage.clock)

    first.release_one()

    second.until_begun()
    assert [given.at_s for given in second.deadlines] == [begins.at_s]


def test_retries_have_the_deadline_of_callers_that_joined(stage: Stage) -> None:
    call = stage.call(Unavailable("503", retry_after_s=2.0), "content")
    stage.caller("a", call, timeout_s=10.0)
    stage.settle()
    patient = Deadline.after(25.0, stage.clock)
    caller = stage.caller("a", call, timeout_s=25.0)
    stage.settle()

    stage.pass_time(2.5)

    assert caller.result(HANG_S) == "content"
    assert call.deadlines[-1].at_s == patient.at_s


# Unexpected exceptions.


class Unexpected(Exception):
    """An exception that is not an `InvoicefsError`."""


@pytest.mark.parametrize("parallel", [1, 3])
def test_unexpected_exceptions_end_no_worker(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    for n in range(parallel + 1):
        with pytest.raises(Unexpected):
            stage.fetch(f"key {n}", stage.call(Unexpected()))

    stage.occupy(parallel)

    assert stage.running == parallel


def test_unexpected_background_exceptions_are_only_logged(
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


def test_expected_background_failures_are_not_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    background = stage.call(NotFound("404"))
    stage.start("a", background)
    background.until_begun()
    stage.settle()

    assert caplog.records == []


def test_unexpected_exceptions_keep_their_traceback(stage: Stage) -> None:
    def call_that_breaks(_: Deadline) -> None:
        raise Unexpected

    with pytest.raises(Unexpected) as raised:
        stage.fetch("a", call_that_breaks)

    frames = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert call_that_breaks.__name__ in frames


class Response:
    """A large response."""


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_a_recent_failure_does_not_keep_its_response_alive(
    stage: Stage, *, background: bool
) -> None:
    responses: list[weakref.ref[Response]] = []

    def call(_: Deadline) -> None:
        response = Response()
        responses.append(weakref.ref(response))
        try:
            raise ValueError(response)
        except ValueError as error:
            raise NotFound("404") from error

    if background:
        stage.start("a", call)
    else:
        with pytest.raises(NotFound):
            stage.fetch("a", call)
    stage.settle()
    gc.collect()

    assert responses[0]() is None


def test_result_is_not_kept_alive(stage: Stage) -> None:
    response = stage.fetch("a", lambda _: Response())
    stage.settle()
    alive = weakref.ref(response)

    del response
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
    """Make the next start of a thread fail, as if the system had none left."""

    def refuse(_: threading.Thread) -> None:
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


@pytest.mark.parametrize("next_key", ["a", "b"])
def test_a_thread_that_cannot_start_costs_neither_slot_nor_key(
    set_stage: SetStage, refuse_a_thread: Callable[[], None], next_key: str
) -> None:
    stage = set_stage(parallel=1)
    refuse_a_thread()
    with pytest.raises((RuntimeError, InvoicefsError)):
        stage.fetch("a", stage.call())

    stage.clock.advance(FAILURE_MEMORY_S)
    caller = stage.caller(next_key, stage.call())

    assert caller.result(A_WHILE_S) == "content"


def test_requests_use_existing_threads_if_no_more_can_start(
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
    running.release_one()

    assert caller.result(HANG_S) == "content"


def test_background_requests_without_a_thread_fail_no_other(
    set_stage: SetStage, refuse_a_thread: Callable[[], None]
) -> None:
    stage = set_stage(parallel=3)
    stage.occupy(1)
    refuse_a_thread()

    stage.start("a", stage.call())

    assert stage.fetch("b", stage.call()) == "content"


# Close.


def test_close_ends_queued_requests(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    (running,) = stage.occupy(1)
    call = stage.call()
    callers = [stage.caller("a", call), stage.caller("b", call)]
    stage.settle()

    stage.scheduler.close()

    assert all(isinstance(caller.exception(HANG_S), NoResponse) for caller in callers)
    running.release_one()
    stage.settle()
    assert call.attempts == 0


def test_close_ends_requests_in_backoff(stage: Stage) -> None:
    call = stage.call(Unavailable("503", retry_after_s=4.0), "content")
    caller = stage.caller("a", call)
    stage.settle()

    stage.scheduler.close()

    assert isinstance(caller.exception(HANG_S), NoResponse)
    stage.pass_time(4.5)
    assert call.attempts == 1


def test_close_does_not_wait_for_requests_in_flight(stage: Stage) -> None:
    call = stage.blocked_call()
    caller = stage.caller("a", call)
    call.until_begun()

    stage.scheduler.close()

    assert not caller.done()
    call.release_one()
    assert caller.result(HANG_S) == "content"


@pytest.mark.parametrize("error", [*RETRIED, CredentialRenewed])
def test_no_request_is_retried_after_close(stage: Stage, error: type[InvoicefsError]) -> None:
    failure = error("the server said so")
    call = stage.blocked_call(failure, "content")
    caller = stage.caller("a", call)
    call.until_begun()
    stage.scheduler.close()

    call.release_one()
    stage.settle()

    assert caller.done()
    assert caller.exception(HANG_S) is failure
    assert call.attempts == 1


def test_no_request_is_made_after_close(stage: Stage) -> None:
    call = stage.call()
    stage.fetch("before", stage.call())
    stage.scheduler.close()

    with pytest.raises(NoResponse):
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
    running.release_one()
    for thread in stage.threads():
        thread.join(HANG_S)

    assert not stage.threads()


def test_an_unused_scheduler_has_no_threads(stage: Stage) -> None:
    assert not stage.threads()


# Everything together.


@pytest.mark.parametrize("seed", range(3))
def test_limit_and_single_flight_hold_under_load(set_stage: SetStage, seed: int) -> None:
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
            gc.isenabled()  # lets other threads run
            with lock:
                running[key] -= 1
            if fails:
                raise Unexpected
            return key

        return call

    def make_many_requests(number: int) -> None:
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
                    broken.append(f"the response of another key than {key}")

    threads = [threading.Thread(target=make_many_requests, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_S)

    assert not [thread for thread in threads if thread.is_alive()]
    assert broken == []


def test_idle_workers_end_and_release_their_resources(
    set_stage: SetStage,
) -> None:
    ended: list[str] = []
    stage = set_stage(on_worker_end=lambda: ended.append(threading.current_thread().name))
    stage.fetch("one", stage.call())
    stage.pass_time(IDLE_WORKER_S - 1)
    assert len(stage.threads()) == 1

    stage.pass_time(1)

    assert stage.threads() == frozenset()
    assert ended == ["request-1"]
    assert stage.fetch("two", stage.call("again")) == "again"


def test_workers_do_not_spin_while_they_wait_for_a_slot(stage: Stage) -> None:
    """Busy waiting would occupy a processor."""
    running = [stage.blocked_call(), stage.blocked_call()]
    for number, call in enumerate(running):
        stage.start(f"background {number}", call, timeout_s=100)
        call.until_begun()
    stage.start("waits for a slot", stage.call(), timeout_s=100)
    stage.fetch("has a third worker", stage.call())

    stage.pass_time(IDLE_WORKER_S + 1)

    assert stage.clock.waiting()  # and `pass_time` has seen all threads come to rest
    for call in running:
        call.release_one()
    stage.settle()
    assert [call.attempts for call in stage.calls] == [1, 1, 1, 1]
