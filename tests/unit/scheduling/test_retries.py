"""How the load on the server is limited: backoff, cool-downs, and recent failures."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from invoicefs.clock import Deadline
from invoicefs.errors import (
    CredentialRenewed,
    InvoicefsError,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from invoicefs.scheduling.scheduler import MAX_RENEWALS
from invoicefs.scheduling.throttle import LONGEST_COOL_DOWN_S
from tests.support.fake_clock import FakeClock
from tests.support.scheduler_stage import HANG_S, MAX_WAIT_S, SetStage, Stage

A_MOMENT_S = 0.25
A_WHILE_S = 10.0  # a deadline for what should happen at once

RETRIED = (RateLimited, Unavailable, Unreachable)


def all_subclasses(error: type[InvoicefsError]) -> set[type[InvoicefsError]]:
    return {error}.union(*(all_subclasses(subclass) for subclass in error.__subclasses__()))


NOT_RETRIED = sorted(
    all_subclasses(InvoicefsError) - {*RETRIED, CredentialRenewed}, key=lambda error: error.__name__
)


# Retries.


@pytest.mark.parametrize("error", RETRIED)
def test_transient_errors_are_retried(stage: Stage, error: type[InvoicefsError]) -> None:
    call = stage.call(error("the server said so"), error("the server said so"), "content")
    caller = stage.caller("a", call)

    stage.advance_until_done(caller)

    assert caller.result(HANG_S) == "content"
    assert call.attempts == 3


@pytest.mark.parametrize("jitter", [0.0, 0.999])
@pytest.mark.parametrize("error", RETRIED)
def test_retries_end_within_max_wait(
    set_stage: SetStage, error: type[InvoicefsError], jitter: float
) -> None:
    stage = set_stage(jitter=jitter)
    last = error("for the last time")
    call = stage.call(last)
    caller = stage.caller("a", call)

    answered_s = stage.advance_until_done(caller)

    assert caller.exception(HANG_S) is last
    assert answered_s <= MAX_WAIT_S
    assert call.attempts >= 3


@pytest.mark.parametrize("error", RETRIED)
def test_backoff_does_not_get_shorter(stage: Stage, error: type[InvoicefsError]) -> None:
    call = stage.call(error("the server said so"))
    stage.advance_until_done(stage.caller("a", call))

    backoffs_s = [
        later - before for before, later in zip(call.began_s, call.began_s[1:], strict=False)
    ]

    assert backoffs_s == sorted(backoffs_s)
    assert backoffs_s[0] > 0


@pytest.mark.parametrize("error", [RateLimited, Unavailable])
@pytest.mark.parametrize("jitter", [0.0, 0.999])
def test_retry_after_is_honoured(
    set_stage: SetStage, error: type[RateLimited | Unavailable], jitter: float
) -> None:
    stage = set_stage(jitter=jitter)
    call = stage.call(error("wait", retry_after_s=3.0), "content")
    caller = stage.caller("a", call)
    stage.settle()
    stage.pass_time(2.875)
    assert call.attempts == 1

    answered_s = stage.advance_until_done(caller)

    assert caller.result(HANG_S) == "content"
    assert 3.0 <= answered_s <= 3.0 + 2 * A_MOMENT_S


@pytest.mark.parametrize("error", [RateLimited, Unavailable])
def test_retry_after_zero_does_not_disable_backoff(
    stage: Stage, error: type[RateLimited | Unavailable]
) -> None:
    call = stage.call(error("at once", retry_after_s=0.0))
    caller = stage.caller("a", call)
    stage.settle()
    assert call.attempts == 1

    stage.advance_until_done(caller)

    assert call.attempts <= 1 + MAX_WAIT_S / A_MOMENT_S


@pytest.mark.parametrize("error", [RateLimited, Unavailable])
@pytest.mark.parametrize("asked_s", [MAX_WAIT_S + 0.5, 3600.0, 1e12])
def test_retry_after_beyond_max_wait_fails_at_once(
    stage: Stage, error: type[RateLimited | Unavailable], asked_s: float
) -> None:
    call = stage.call(error("wait", retry_after_s=asked_s), "content")

    with pytest.raises(error, match="wait"):
        stage.fetch("a", call)

    assert call.attempts == 1


@pytest.mark.parametrize(("asked_s", "attempts"), [(1.0, 2), (2.0, 1)])
def test_max_wait_counts_from_the_start_of_the_request(
    stage: Stage, asked_s: float, attempts: int
) -> None:
    call = stage.blocked_call(Unavailable("503", retry_after_s=asked_s), "content")
    caller = stage.caller("a", call)
    call.until_begun()
    stage.pass_time(MAX_WAIT_S - 1.5)
    call.release_all()

    stage.advance_until_done(caller)

    assert call.attempts == attempts


@pytest.mark.parametrize(
    "error",
    [
        RateLimited("429"),
        RateLimited("429", retry_after_s=2.0),
        Unavailable("503"),
        Unavailable("503", retry_after_s=2.0),
        Unreachable("lost"),
    ],
    ids=repr,
)
def test_jitter_spreads_retries(error: InvoicefsError) -> None:
    def second_attempt_s(jitter: float) -> float:
        with Stage(jitter=jitter) as stage:
            call = stage.call(error, "content")
            stage.advance_until_done(stage.caller("a", call), step_s=1 / 64)
        return call.began_s[1]

    early_s, late_s = second_attempt_s(0.0), second_attempt_s(0.999)

    assert (getattr(error, "retry_after_s", None) or 0.0) <= early_s < late_s


def test_backoff_occupies_no_slot(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    call = stage.call(Unavailable("503", retry_after_s=4.0), "content")
    stage.caller("a", call)
    call.until_begun()

    assert stage.fetch("b", stage.call()) == "content"
    assert call.attempts == 1


@pytest.mark.parametrize("readings", range(1, 16))
def test_a_retry_due_between_two_clock_readings_is_not_missed(
    set_stage: SetStage, readings: int
) -> None:
    clock = LeapingClock()
    stage = set_stage(parallel=1, clock=clock)

    def call(_: Deadline) -> str:
        if not clock.has_been_armed:
            clock.leap_after(readings, seconds=2.0)
            raise Unavailable("503", retry_after_s=1.0)
        return "content"

    caller = stage.caller("a", call)
    stage.until_all_wait()  # not `settle`, which wakes the workers
    clock.advance(2.0)

    assert caller.result(A_WHILE_S) == "content"


def test_a_worker_wakes_for_the_earliest_retry(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    soon = stage.call(Unavailable("503", retry_after_s=1.0), "content")
    late = stage.call(Unavailable("503", retry_after_s=4.0), "content")
    callers = [stage.caller("soon", soon), stage.caller("late", late)]
    stage.settle()

    stage.clock.advance(1.5)

    assert callers[0].result(HANG_S) == "content"
    assert late.attempts == 1


class LeapingClock(FakeClock):
    """A clock that leaps between two readings, as for a thread that waits for a processor."""

    def __init__(self) -> None:
        super().__init__()
        self._readings_left = 0
        self._leap_s = 0.0
        self._leapt_s = 0.0
        self.has_been_armed = False

    def leap_after(self, readings: int, seconds: float) -> None:
        self.has_been_armed = True
        self._readings_left, self._leap_s = readings, seconds

    def monotonic_s(self) -> float:
        now_s = super().monotonic_s() + self._leapt_s
        if self._readings_left:
            self._readings_left -= 1
            if not self._readings_left:
                self._leapt_s = self._leap_s
        return now_s


# Renewed credentials.


def test_renewed_credentials_are_retried_a_limited_number_of_times(stage: Stage) -> None:
    renewed = [CredentialRenewed(f"401, {number}") for number in range(MAX_RENEWALS + 1)]
    assert stage.fetch("a", stage.call(*renewed[:-1], "content")) == "content"
    call = stage.call(*renewed, "content")

    with pytest.raises(CredentialRenewed, match=str(MAX_RENEWALS)):
        stage.fetch("b", call)

    stage.pass_time(MAX_WAIT_S)
    assert call.attempts == MAX_RENEWALS + 1


def test_a_renewed_credential_that_is_refused_is_reported(stage: Stage) -> None:
    call = stage.call(CredentialRenewed("401"), Unauthenticated("401"), "content")

    with pytest.raises(Unauthenticated):
        stage.fetch("a", call)

    assert call.attempts == 2


def test_an_outage_does_not_reset_the_limit_of_renewals(stage: Stage) -> None:
    renewed = [CredentialRenewed("401")] * MAX_RENEWALS
    call = stage.call(*renewed, Unavailable("503"), CredentialRenewed("401 again"), "content")
    caller = stage.caller("a", call)

    stage.advance_until_done(caller)

    assert isinstance(caller.exception(HANG_S), CredentialRenewed)
    assert call.attempts == MAX_RENEWALS + 2


# Cool-downs.


def begin_cool_down(stage: Stage, seconds: float, kind: str = "pdf") -> None:
    """Start a cool-down by refusing a foreground request."""
    with pytest.raises(RateLimited):
        stage.fetch("limited", stage.call(RateLimited("429", retry_after_s=seconds)), kind)


def begin_background_cool_down(stage: Stage, seconds: float, kind: str = "pdf") -> None:
    """Start a background cool-down by refusing a background request."""
    call = stage.call(RateLimited("429", retry_after_s=seconds))
    stage.start("limited", call, kind)
    call.until_begun()
    stage.settle()


def test_a_cool_down_applies_to_all_keys(stage: Stage) -> None:
    begin_cool_down(stage, 60.0)
    calls = [stage.call() for _ in range(5)]

    for n, call in enumerate(calls):
        with pytest.raises(RateLimited):
            stage.fetch(f"key {n}", call)

    assert [call.attempts for call in calls] == [0] * 5


def test_callers_wait_for_a_cool_down_that_ends_within_max_wait(stage: Stage) -> None:
    begin_cool_down(stage, 60.0)
    stage.clock.advance(57.0)
    call = stage.call()
    caller = stage.caller("a", call)
    stage.settle()
    stage.pass_time(2.875)
    assert call.attempts == 0

    stage.clock.advance(0.25)

    assert caller.result(HANG_S) == "content"


def test_callers_do_not_wait_for_a_cool_down_past_their_deadline(stage: Stage) -> None:
    begin_cool_down(stage, 60.0)
    stage.clock.advance(57.0)

    with pytest.raises(RateLimited):
        stage.fetch("a", stage.call(), timeout_s=2.0)


def test_a_cool_down_applies_to_queued_requests(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    limited, waiting = stage.blocked_call(RateLimited("429", retry_after_s=60.0)), stage.call()
    first = stage.caller("limited", limited)
    limited.until_begun()
    second = stage.caller("waiting", waiting)
    stage.settle()

    limited.release_one()

    assert isinstance(first.exception(HANG_S), RateLimited)
    assert isinstance(second.exception(HANG_S), RateLimited)
    assert waiting.attempts == 0


def test_a_cool_down_applies_to_retries(stage: Stage) -> None:
    retried = stage.call(Unavailable("503", retry_after_s=1.0), "content")
    caller = stage.caller("retried", retried)
    stage.settle()
    begin_cool_down(stage, 60.0)
    stage.settle()

    assert isinstance(caller.exception(HANG_S), Unavailable)
    assert retried.attempts == 1


@settings(deadline=None)
@given(st.floats(MAX_WAIT_S + 1.0))
@example(LONGEST_COOL_DOWN_S + 1.0)
@example(math.inf)
def test_a_cool_down_lasts_for_retry_after_but_at_most_five_minutes(asked_s: float) -> None:
    with Stage() as stage:
        begin_cool_down(stage, asked_s)
        stage.clock.advance(min(asked_s, LONGEST_COOL_DOWN_S) - MAX_WAIT_S - A_MOMENT_S)
        with pytest.raises(RateLimited):
            stage.fetch("a", stage.call())

        stage.clock.advance(MAX_WAIT_S + 2 * A_MOMENT_S)

        assert stage.fetch("b", stage.call()) == "content"
        assert stage.fetch("limited", stage.call()) == "content"


def test_a_429_with_retry_after_zero_starts_a_cool_down(stage: Stage) -> None:
    refused, other = stage.call(RateLimited("429", retry_after_s=0.0), "content"), stage.call()
    stage.caller("refused", refused)
    refused.until_begun()
    stage.settle()

    caller = stage.caller("other", other)
    stage.settle()

    assert other.attempts == 0
    stage.advance_until_done(caller)
    assert other.attempts == 1


def test_another_429_does_not_shorten_a_cool_down(stage: Stage) -> None:
    long, short = (
        stage.blocked_call(RateLimited("429", retry_after_s=seconds)) for seconds in (60.0, 10.0)
    )
    callers = [stage.caller("long", long), stage.caller("short", short)]
    stage.settle()
    for call in (long, short):
        call.release_one()
        stage.settle()
    assert all(isinstance(caller.exception(HANG_S), RateLimited) for caller in callers)
    stage.clock.advance(30.0)

    with pytest.raises(RateLimited):
        stage.fetch("a", stage.call())


def test_success_of_an_older_request_does_not_end_a_cool_down(stage: Stage) -> None:
    older = stage.blocked_call()
    caller = stage.caller("older", older)
    older.until_begun()
    begin_cool_down(stage, 60.0)
    older.release_one()
    assert caller.result(HANG_S) == "content"

    with pytest.raises(RateLimited):
        stage.fetch("a", stage.call())


@pytest.mark.parametrize("refused", [2, 4])
def test_concurrent_429s_start_one_cool_down(refused: int) -> None:
    assert cool_down_s(side_by_side=refused) == cool_down_s(side_by_side=1)


def cool_down_s(*, side_by_side: int) -> float:
    """Return how long no request begins after concurrent ones were refused."""
    with Stage(parallel=side_by_side) as stage:
        calls = [stage.blocked_call(RateLimited("429"), "content") for _ in range(side_by_side)]
        for n, call in enumerate(calls):
            stage.caller(f"refused {n}", call)
            call.until_begun()
        for call in calls:
            stage.clock.advance(1 / 64)
            call.release_all()
            stage.settle()
        began_s = stage.clock.monotonic_s()
        return stage.advance_until_done(stage.caller("a", stage.call()), step_s=1 / 64) - began_s


def test_the_foreground_requests_a_key_refused_in_the_background(stage: Stage) -> None:
    begin_background_cool_down(stage, 60.0)

    assert stage.fetch("limited", stage.call()) == "content"


def test_foreground_success_does_not_end_a_background_cool_down(stage: Stage) -> None:
    begin_background_cool_down(stage, 60.0)
    stage.clock.advance(57.0)
    stage.fetch("a", stage.call())
    call = stage.call()
    stage.start("b", call)

    stage.settle()

    assert call.attempts == 0


def test_a_foreground_429_during_a_background_cool_down_counts(
    stage: Stage,
) -> None:
    begin_background_cool_down(stage, 60.0)
    begin_cool_down(stage, 60.0)

    with pytest.raises(RateLimited):
        stage.fetch("a", stage.call())


def test_background_requests_are_dropped_during_a_long_cool_down(stage: Stage) -> None:
    begin_background_cool_down(stage, 60.0)
    call = stage.call()
    stage.start("a", call)

    stage.pass_time(60.0)

    assert call.attempts == 0


# Recent failures.


@pytest.mark.parametrize("error", [error for error in NOT_RETRIED if error is not InvoicefsError])
def test_a_failure_is_raised_again_for_five_seconds(
    stage: Stage, error: type[InvoicefsError]
) -> None:
    failure, again = error("the server said so"), stage.call("new")
    with pytest.raises(error):
        stage.fetch("a", stage.call(failure))
    stage.clock.advance(4.9)

    with pytest.raises(error) as raised:
        stage.fetch("a", again)

    assert raised.value is failure
    assert again.attempts == 0


@pytest.mark.parametrize("error", [Unavailable, Unreachable])
def test_the_five_seconds_begin_with_the_last_attempt(
    stage: Stage, error: type[InvoicefsError]
) -> None:
    caller = stage.caller("a", stage.call(error("the server said so")))
    stage.advance_until_done(caller)
    stage.clock.advance(4.5)
    again = stage.call()

    with pytest.raises(error):
        stage.fetch("a", again)
    stage.clock.advance(0.5)

    assert stage.fetch("a", again) == "content"


@pytest.mark.parametrize("asked_s", [6.0, 60.0])
def test_a_429_is_raised_again_until_its_cool_down_ends(stage: Stage, asked_s: float) -> None:
    begin_cool_down(stage, asked_s)
    again = stage.call()
    stage.clock.advance(asked_s - 0.1)
    with pytest.raises(RateLimited):
        stage.fetch("limited", again)
    assert again.attempts == 0

    stage.clock.advance(0.125)

    assert stage.fetch("limited", again) == "content"


def test_a_429_is_forgotten_with_its_short_cool_down(set_stage: SetStage) -> None:
    stage = set_stage(max_wait_s=0.0)
    begin_cool_down(stage, 2.0)
    stage.clock.advance(2.0)

    assert stage.fetch("limited", stage.call()) == "content"


def test_a_failure_applies_only_to_its_key(stage: Stage) -> None:
    with pytest.raises(NotFound):
        stage.fetch("a", stage.call(NotFound("404")))

    assert stage.fetch("b", stage.call()) == "content"


def test_a_background_failure_is_raised_in_the_foreground(stage: Stage) -> None:
    background, foreground = stage.call(NotFound("404")), stage.call()
    stage.start("a", background)
    background.until_begun()
    stage.settle()

    with pytest.raises(NotFound):
        stage.fetch("a", foreground)

    assert foreground.attempts == 0


def test_the_background_does_not_request_a_key_that_just_failed(stage: Stage) -> None:
    with pytest.raises(NotFound):
        stage.fetch("a", stage.call(NotFound("404")))
    call = stage.call()

    stage.start("a", call)
    stage.settle()

    assert call.attempts == 0


@pytest.mark.parametrize(("parallel", "running"), [(1, 0), (2, 1), (3, 2)])
def test_a_background_request_that_timed_out_in_the_queue_is_no_failure(
    set_stage: SetStage, parallel: int, running: int
) -> None:
    """The next caller must cause a request instead of getting the old timeout."""
    stage = set_stage(parallel=parallel)
    for n in range(running):
        stage.start(f"running {n}", stage.blocked_call())
    background = stage.call()
    stage.start("a", background, timeout_s=10.0)
    stage.settle()
    stage.pass_time(11.0)
    stage.fetch("other", stage.call())
    assert background.attempts == 0

    assert stage.fetch("a", stage.call()) == "content"
