"""How calls are made gently: trying again, cool-downs, and failures that are remembered."""

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from invoicefs.clock import Deadline
from invoicefs.errors import (
    CredentialRenewed,
    Denied,
    InvoicefsError,
    NotFound,
    RateLimited,
    ServerFault,
    TimedOut,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from invoicefs.scheduling.scheduler import MAX_RENEWALS
from invoicefs.scheduling.throttle import LONGEST_COOL_DOWN_S
from tests.support.fake_clock import FakeClock
from tests.support.scheduler_stage import HANG_S, MAX_WAIT_S, SetStage, Stage

A_MOMENT_S = 0.25
A_WHILE_S = 10.0  # for what happens at once, where a failure would show in no other way

RETRIED = (RateLimited, Unavailable, Unreachable)


def all_subclasses(error: type[InvoicefsError]) -> set[type[InvoicefsError]]:
    return {error}.union(*(all_subclasses(each) for each in error.__subclasses__()))


NOT_RETRIED = sorted(
    all_subclasses(InvoicefsError) - {*RETRIED, CredentialRenewed}, key=lambda each: each.__name__
)


# Trying again.


@pytest.mark.parametrize("error", RETRIED)
def test_what_a_moment_may_mend_is_tried_again(stage: Stage, error: type[InvoicefsError]) -> None:
    call = stage.call(error("the server said so"), error("the server said so"), "content")
    caller = stage.caller("a", call)

    stage.play(until=caller)

    assert caller.result(HANG_S) == "content"
    assert call.attempts == 3


@pytest.mark.parametrize("error", RETRIED)
def test_background_calls_are_tried_again(stage: Stage, error: type[InvoicefsError]) -> None:
    call = stage.call(error("the server said so"), "content")
    stage.start("a", call)
    call.until_begun()
    stage.settle()

    stage.clock.advance(1.0)

    call.until_begun()


@pytest.mark.parametrize("error", RETRIED)
def test_nothing_is_tried_again_at_once(stage: Stage, error: type[InvoicefsError]) -> None:
    call = stage.call(error("the server said so"), "content")
    stage.caller("a", call)

    stage.settle()

    assert call.attempts == 1


@pytest.mark.parametrize("jitter", [0.0, 0.999])
@pytest.mark.parametrize("error", RETRIED)
def test_trying_again_ends_within_max_wait(
    set_stage: SetStage, error: type[InvoicefsError], jitter: float
) -> None:
    stage = set_stage(jitter=jitter)
    last = error("for the last time")
    call = stage.call(last)
    caller = stage.caller("a", call)

    answered_s = stage.play(until=caller)

    assert caller.exception(HANG_S) is last
    assert answered_s <= MAX_WAIT_S
    assert call.attempts >= 3


@pytest.mark.parametrize("error", RETRIED)
def test_pauses_between_attempts_do_not_get_shorter(
    stage: Stage, error: type[InvoicefsError]
) -> None:
    call = stage.call(error("the server said so"))
    stage.play(until=stage.caller("a", call))

    pauses_s = [
        later - before for before, later in zip(call.began_s, call.began_s[1:], strict=False)
    ]

    assert pauses_s == sorted(pauses_s)
    assert pauses_s[0] > 0


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

    answered_s = stage.play(until=caller)

    assert caller.result(HANG_S) == "content"
    assert 3.0 <= answered_s <= 3.0 + 2 * A_MOMENT_S


@pytest.mark.parametrize("error", [RateLimited, Unavailable])
def test_server_that_asks_for_no_wait_is_not_hammered(
    stage: Stage, error: type[RateLimited | Unavailable]
) -> None:
    call = stage.call(error("at once", retry_after_s=0.0))
    caller = stage.caller("a", call)
    stage.settle()
    assert call.attempts == 1

    stage.play(until=caller)

    assert call.attempts <= 1 + MAX_WAIT_S / A_MOMENT_S


@pytest.mark.parametrize("error", [RateLimited, Unavailable])
@pytest.mark.parametrize("asked_s", [MAX_WAIT_S + 0.5, 3600.0, 1e12])
def test_wait_longer_than_max_wait_is_an_error_at_once(
    stage: Stage, error: type[RateLimited | Unavailable], asked_s: float
) -> None:
    call = stage.call(error("wait", retry_after_s=asked_s), "content")

    with pytest.raises(error, match="wait"):
        stage.fetch("a", call)

    assert call.attempts == 1


@pytest.mark.parametrize(("asked_s", "attempts"), [(1.0, 2), (2.0, 1)])
def test_max_wait_counts_from_the_start_of_the_call(
    stage: Stage, asked_s: float, attempts: int
) -> None:
    call = stage.held_call(Unavailable("503", retry_after_s=asked_s), "content")
    caller = stage.caller("a", call)
    call.until_begun()
    stage.pass_time(MAX_WAIT_S - 1.5)
    call.let_all_go()

    stage.play(until=caller)

    assert call.attempts == attempts


@pytest.mark.parametrize("error", RETRIED)
def test_without_max_wait_nothing_is_tried_again(
    set_stage: SetStage, error: type[InvoicefsError]
) -> None:
    stage = set_stage(max_wait_s=0.0)
    call = stage.call(error("the server said so"), "content")

    with pytest.raises(error):
        stage.fetch("a", call)

    assert call.attempts == 1


def test_nothing_is_tried_again_past_the_deadline(stage: Stage) -> None:
    call = stage.call(Unavailable("503", retry_after_s=4.0), "content")

    with pytest.raises(Unavailable):
        stage.fetch("a", call, timeout_s=3.0)

    assert call.attempts == 1


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
def test_jitter_spreads_the_attempts(error: InvoicefsError) -> None:
    def second_attempt_s(jitter: float) -> float:
        with Stage(jitter=jitter) as stage:
            call = stage.call(error, "content")
            stage.play(until=stage.caller("a", call), step_s=1 / 64)
        return call.began_s[1]

    early_s, late_s = second_attempt_s(0.0), second_attempt_s(0.999)

    assert (getattr(error, "retry_after_s", None) or 0.0) <= early_s < late_s


@pytest.mark.parametrize("error", NOT_RETRIED)
def test_other_errors_are_not_tried_again(stage: Stage, error: type[InvoicefsError]) -> None:
    call = stage.call(error("the server said so"), "content")

    with pytest.raises(error):
        stage.fetch("a", call)
    stage.pass_time(MAX_WAIT_S)

    assert call.attempts == 1


def test_error_after_a_retry_is_the_one_that_is_raised(stage: Stage) -> None:
    call = stage.call(Unavailable("503"), NotFound("404"))
    caller = stage.caller("a", call)

    stage.play(until=caller)

    assert isinstance(caller.exception(HANG_S), NotFound)


def test_waiting_to_try_again_occupies_no_slot(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    call = stage.call(Unavailable("503", retry_after_s=4.0), "content")
    stage.caller("a", call)
    call.until_begun()

    assert stage.fetch("b", stage.call()) == "content"
    assert call.attempts == 1


@pytest.mark.parametrize("looks", range(1, 16))
def test_moment_to_try_again_is_not_missed_between_two_looks_at_the_clock(
    set_stage: SetStage, looks: int
) -> None:
    clock = LeapingClock()
    stage = set_stage(parallel=1, clock=clock)

    def call(_: Deadline) -> str:
        if not clock.has_been_armed:
            clock.leap_after(looks, seconds=2.0)
            raise Unavailable("503", retry_after_s=1.0)
        return "content"

    caller = stage.caller("a", call)
    stage.until_all_wait()  # not `settle`, which wakes the workers
    clock.advance(2.0)

    assert caller.result(A_WHILE_S) == "content"


def test_first_of_several_moments_wakes_a_worker(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    soon = stage.call(Unavailable("503", retry_after_s=1.0), "content")
    late = stage.call(Unavailable("503", retry_after_s=4.0), "content")
    callers = [stage.caller("soon", soon), stage.caller("late", late)]
    stage.settle()

    stage.clock.advance(1.5)

    assert callers[0].result(HANG_S) == "content"
    assert late.attempts == 1


class LeapingClock(FakeClock):
    """Time leaps between two looks, as it may for a thread that has to wait for a processor."""

    def __init__(self) -> None:
        super().__init__()
        self._looks_left = 0
        self._leap_s = 0.0
        self._leapt_s = 0.0
        self.has_been_armed = False

    def leap_after(self, looks: int, seconds: float) -> None:
        self.has_been_armed = True
        self._looks_left, self._leap_s = looks, seconds

    def monotonic_s(self) -> float:
        now_s = super().monotonic_s() + self._leapt_s
        if self._looks_left:
            self._looks_left -= 1
            if not self._looks_left:
                self._leapt_s = self._leap_s
        return now_s


# A credential that was renewed.


def test_renewed_credential_is_tried_at_once(stage: Stage) -> None:
    call = stage.call(CredentialRenewed("401"), "content")

    assert stage.fetch("a", call) == "content"
    assert call.attempts == 2


def test_credential_may_be_renewed_again_and_again_but_not_for_ever(stage: Stage) -> None:
    renewed = [CredentialRenewed(f"401, {number}") for number in range(MAX_RENEWALS + 1)]
    assert stage.fetch("a", stage.call(*renewed[:-1], "content")) == "content"
    call = stage.call(*renewed, "content")

    with pytest.raises(CredentialRenewed, match=str(MAX_RENEWALS)):
        stage.fetch("b", call)

    stage.pass_time(MAX_WAIT_S)
    assert call.attempts == MAX_RENEWALS + 1


def test_credential_that_is_refused_after_all_is_reported(stage: Stage) -> None:
    call = stage.call(CredentialRenewed("401"), Unauthenticated("401"), "content")

    with pytest.raises(Unauthenticated):
        stage.fetch("a", call)

    assert call.attempts == 2


def test_credential_may_be_renewed_between_two_attempts(stage: Stage) -> None:
    call = stage.call(Unavailable("503"), CredentialRenewed("401"), "content")
    caller = stage.caller("a", call)

    stage.play(until=caller)

    assert caller.result(HANG_S) == "content"


def test_renewed_credential_does_not_use_up_the_other_attempts(stage: Stage) -> None:
    call = stage.call(CredentialRenewed("401"), Unavailable("503"), "content")
    caller = stage.caller("a", call)

    stage.play(until=caller)

    assert caller.result(HANG_S) == "content"


def test_an_outage_in_between_allows_no_more_renewals(stage: Stage) -> None:
    renewed = [CredentialRenewed("401")] * MAX_RENEWALS
    call = stage.call(*renewed, Unavailable("503"), CredentialRenewed("401 again"), "content")
    caller = stage.caller("a", call)

    stage.play(until=caller)

    assert isinstance(caller.exception(HANG_S), CredentialRenewed)
    assert call.attempts == MAX_RENEWALS + 2


# Cool-downs.


def begin_cool_down(stage: Stage, seconds: float, kind: str = "pdf") -> None:
    """Have a call of the foreground refused, for longer than anybody waits."""
    with pytest.raises(RateLimited):
        stage.fetch("limited", stage.call(RateLimited("429", retry_after_s=seconds)), kind)


def begin_background_cool_down(stage: Stage, seconds: float, kind: str = "pdf") -> None:
    """Have a call of the background refused, for longer than any is kept."""
    call = stage.call(RateLimited("429", retry_after_s=seconds))
    stage.start("limited", call, kind)
    call.until_begun()
    stage.settle()


def test_cool_down_is_shared_by_all_callers(stage: Stage) -> None:
    begin_cool_down(stage, 60.0)
    calls = [stage.call() for _ in range(5)]

    for n, call in enumerate(calls):
        with pytest.raises(RateLimited):
            stage.fetch(f"key {n}", call)

    assert [call.attempts for call in calls] == [0] * 5


def test_cool_down_ends(stage: Stage) -> None:
    begin_cool_down(stage, 60.0)
    stage.clock.advance(60.0)

    assert stage.fetch("a", stage.call()) == "content"


def test_caller_waits_for_a_cool_down_that_ends_within_max_wait(stage: Stage) -> None:
    begin_cool_down(stage, 60.0)
    stage.clock.advance(57.0)
    call = stage.call()
    caller = stage.caller("a", call)
    stage.settle()
    stage.pass_time(2.875)
    assert call.attempts == 0

    stage.clock.advance(0.25)

    assert caller.result(HANG_S) == "content"


def test_caller_does_not_wait_for_a_cool_down_beyond_his_deadline(stage: Stage) -> None:
    begin_cool_down(stage, 60.0)
    stage.clock.advance(57.0)

    with pytest.raises(RateLimited):
        stage.fetch("a", stage.call(), timeout_s=2.0)


def test_cool_down_holds_back_calls_that_wait_for_a_slot(set_stage: SetStage) -> None:
    stage = set_stage(parallel=1)
    limited, waiting = stage.held_call(RateLimited("429", retry_after_s=60.0)), stage.call()
    first = stage.caller("limited", limited)
    limited.until_begun()
    second = stage.caller("waiting", waiting)
    stage.settle()

    limited.let_go()

    assert isinstance(first.exception(HANG_S), RateLimited)
    assert isinstance(second.exception(HANG_S), RateLimited)
    assert waiting.attempts == 0


def test_cool_down_holds_back_other_retries(stage: Stage) -> None:
    retried = stage.call(Unavailable("503", retry_after_s=1.0), "content")
    caller = stage.caller("retried", retried)
    stage.settle()
    begin_cool_down(stage, 60.0)
    stage.settle()

    assert isinstance(caller.exception(HANG_S), Unavailable)
    assert retried.attempts == 1


def test_other_kinds_of_call_are_not_held_back(stage: Stage) -> None:
    begin_cool_down(stage, 60.0, kind="pdf")

    assert stage.fetch("a", stage.call(), kind="namespaces") == "content"


@settings(deadline=None)
@given(st.floats(MAX_WAIT_S + 1.0))
@example(LONGEST_COOL_DOWN_S + 1.0)
@example(math.inf)
def test_cool_down_lasts_as_long_as_asked_and_five_minutes_at_most(asked_s: float) -> None:
    with Stage() as stage:
        begin_cool_down(stage, asked_s)
        stage.clock.advance(min(asked_s, LONGEST_COOL_DOWN_S) - MAX_WAIT_S - A_MOMENT_S)
        with pytest.raises(RateLimited):
            stage.fetch("a", stage.call())

        stage.clock.advance(MAX_WAIT_S + 2 * A_MOMENT_S)

        assert stage.fetch("b", stage.call()) == "content"
        assert stage.fetch("limited", stage.call()) == "content"


def test_429_that_asks_for_no_wait_begins_a_cool_down(stage: Stage) -> None:
    refused, other = stage.call(RateLimited("429", retry_after_s=0.0), "content"), stage.call()
    stage.caller("refused", refused)
    refused.until_begun()
    stage.settle()

    caller = stage.caller("other", other)
    stage.settle()

    assert other.attempts == 0
    stage.play(until=caller)
    assert other.attempts == 1


def test_cool_down_is_not_cut_short_by_another_429(stage: Stage) -> None:
    long, short = (
        stage.held_call(RateLimited("429", retry_after_s=seconds)) for seconds in (60.0, 10.0)
    )
    callers = [stage.caller("long", long), stage.caller("short", short)]
    stage.settle()
    for call in (long, short):
        call.let_go()
        stage.settle()
    assert all(isinstance(caller.exception(HANG_S), RateLimited) for caller in callers)
    stage.clock.advance(30.0)

    with pytest.raises(RateLimited):
        stage.fetch("a", stage.call())


def test_cool_down_is_not_ended_by_an_older_call_that_succeeds(stage: Stage) -> None:
    older = stage.held_call()
    caller = stage.caller("older", older)
    older.until_begun()
    begin_cool_down(stage, 60.0)
    older.let_go()
    assert caller.result(HANG_S) == "content"

    with pytest.raises(RateLimited):
        stage.fetch("a", stage.call())


@pytest.mark.parametrize("refused", [2, 4])
def test_calls_that_are_refused_side_by_side_are_one_event(refused: int) -> None:
    assert cool_down_s(side_by_side=refused) == cool_down_s(side_by_side=1)


def cool_down_s(*, side_by_side: int) -> float:
    """How long nobody calls after so many calls were refused that ran at one time."""
    with Stage(parallel=side_by_side) as stage:
        calls = [stage.held_call(RateLimited("429"), "content") for _ in range(side_by_side)]
        for n, call in enumerate(calls):
            stage.caller(f"refused {n}", call)
            call.until_begun()
        for call in calls:
            stage.clock.advance(1 / 64)
            call.let_all_go()
            stage.settle()
        began_s = stage.clock.monotonic_s()
        return stage.play(until=stage.caller("a", stage.call()), step_s=1 / 64) - began_s


def test_background_is_held_back_by_the_cool_down_of_the_foreground(stage: Stage) -> None:
    begin_cool_down(stage, 60.0)
    stage.clock.advance(57.0)
    call = stage.call()
    stage.start("a", call)
    stage.pass_time(2.875)
    assert call.attempts == 0

    stage.clock.advance(0.125)

    call.until_begun()


def test_background_is_held_back_by_its_own_cool_down(stage: Stage) -> None:
    begin_background_cool_down(stage, 60.0)
    stage.clock.advance(57.0)
    call = stage.call()
    stage.start("a", call)
    stage.pass_time(2.875)
    assert call.attempts == 0

    stage.clock.advance(0.125)

    call.until_begun()


def test_foreground_calls_during_the_cool_down_of_the_background(stage: Stage) -> None:
    begin_background_cool_down(stage, 60.0)

    assert stage.fetch("a", stage.call()) == "content"


def test_foreground_calls_for_the_very_key_that_the_background_was_refused(stage: Stage) -> None:
    begin_background_cool_down(stage, 60.0)

    assert stage.fetch("limited", stage.call()) == "content"


def test_foreground_call_does_not_end_the_cool_down_of_the_background(stage: Stage) -> None:
    begin_background_cool_down(stage, 60.0)
    stage.clock.advance(57.0)
    stage.fetch("a", stage.call())
    call = stage.call()
    stage.start("b", call)

    stage.settle()

    assert call.attempts == 0


def test_foreground_refused_during_the_cool_down_of_the_background_begins_its_own(
    stage: Stage,
) -> None:
    begin_background_cool_down(stage, 60.0)
    begin_cool_down(stage, 60.0)

    with pytest.raises(RateLimited):
        stage.fetch("a", stage.call())


def test_background_call_beyond_its_cool_down_is_dropped(stage: Stage) -> None:
    begin_background_cool_down(stage, 60.0)
    call = stage.call()
    stage.start("a", call)

    stage.pass_time(60.0)

    assert call.attempts == 0


# Failures are remembered, but not for long.


@pytest.mark.parametrize("error", [each for each in NOT_RETRIED if each is not InvoicefsError])
def test_failure_is_remembered_for_five_seconds(stage: Stage, error: type[InvoicefsError]) -> None:
    failure, again = error("the server said so"), stage.call("new")
    with pytest.raises(error):
        stage.fetch("a", stage.call(failure))
    stage.clock.advance(4.9)

    with pytest.raises(error) as raised:
        stage.fetch("a", again)

    assert raised.value is failure
    assert again.attempts == 0


@pytest.mark.parametrize("error", [NotFound, Denied, ServerFault, TimedOut])
def test_failure_is_not_remembered_longer(stage: Stage, error: type[InvoicefsError]) -> None:
    with pytest.raises(error):
        stage.fetch("a", stage.call(error("the server said so")))
    stage.clock.advance(5.0)

    assert stage.fetch("a", stage.call()) == "content"


def test_memory_of_a_failure_is_not_prolonged_by_asking(stage: Stage) -> None:
    for _ in range(3):
        with pytest.raises(NotFound):
            stage.fetch("a", stage.call(NotFound("404")))
        stage.clock.advance(2.0)

    assert stage.fetch("a", stage.call()) == "content"


@pytest.mark.parametrize("error", [Unavailable, Unreachable])
def test_failure_counts_from_the_last_attempt(stage: Stage, error: type[InvoicefsError]) -> None:
    caller = stage.caller("a", stage.call(error("the server said so")))
    stage.play(until=caller)
    stage.clock.advance(4.5)
    again = stage.call()

    with pytest.raises(error):
        stage.fetch("a", again)
    stage.clock.advance(0.5)

    assert stage.fetch("a", again) == "content"


@pytest.mark.parametrize("asked_s", [6.0, 60.0])
def test_rate_limit_is_remembered_until_its_cool_down_ends(stage: Stage, asked_s: float) -> None:
    begin_cool_down(stage, asked_s)
    again = stage.call()
    stage.clock.advance(asked_s - 0.1)
    with pytest.raises(RateLimited):
        stage.fetch("limited", again)
    assert again.attempts == 0

    stage.clock.advance(0.125)

    assert stage.fetch("limited", again) == "content"


def test_rate_limit_is_not_remembered_longer_than_a_short_cool_down(set_stage: SetStage) -> None:
    stage = set_stage(max_wait_s=0.0)
    begin_cool_down(stage, 2.0)
    stage.clock.advance(2.0)

    assert stage.fetch("limited", stage.call()) == "content"


def test_failure_of_one_key_says_nothing_of_another(stage: Stage) -> None:
    with pytest.raises(NotFound):
        stage.fetch("a", stage.call(NotFound("404")))

    assert stage.fetch("b", stage.call()) == "content"


def test_failure_of_the_background_is_remembered(stage: Stage) -> None:
    background, foreground = stage.call(NotFound("404")), stage.call()
    stage.start("a", background)
    background.until_begun()
    stage.settle()

    with pytest.raises(NotFound):
        stage.fetch("a", foreground)

    assert foreground.attempts == 0


def test_background_does_not_call_for_what_has_just_failed(stage: Stage) -> None:
    with pytest.raises(NotFound):
        stage.fetch("a", stage.call(NotFound("404")))
    call = stage.call()

    stage.start("a", call)
    stage.settle()

    assert call.attempts == 0


@pytest.mark.parametrize(("parallel", "running"), [(1, 0), (2, 0), (3, 1)])
def test_background_call_that_was_never_made_has_not_failed(
    set_stage: SetStage, parallel: int, running: int
) -> None:
    """Its time ran out in the queue; who opens the invoice afterwards has not to do with that."""
    stage = set_stage(parallel=parallel)
    for n in range(running):
        stage.start(f"running {n}", stage.held_call())
    background = stage.call()
    stage.start("a", background, timeout_s=10.0)
    stage.settle()
    stage.pass_time(11.0)
    stage.fetch("other", stage.call())
    assert background.attempts == 0

    assert stage.fetch("a", stage.call()) == "content"
