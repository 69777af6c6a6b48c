"""How many calls of the background run at one time, after a 429 and after it is over."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invoicefs.errors import InvoicefsError, NotFound, RateLimited, ServerFault
from invoicefs.scheduling.scheduler import FOREGROUND_SLOTS, Pressure
from tests.support.scheduler_stage import Call, SetStage, Stage

COOL_DOWN_S = 60.0  # longer than any call waits to be tried again
ENOUGH = 100
A_DISTANCE_S = 1.0  # after a 429, calls begin no further apart

with_any_number_of_slots = pytest.mark.parametrize("parallel", [3, 4, 5, 8, 12])
_numbers = count()


def start(stage: Stage, call: Call, kind: str = "pdf") -> None:
    """Have a call made in the background, for a key of its own."""
    stage.start(f"key {next(_numbers)}", call, kind)


def succeed(stage: Stage, times: int = ENOUGH, kind: str = "pdf") -> None:
    """Have so many calls of the background succeed."""
    for _ in range(times):
        start(stage, stage.call(), kind)
    stage.settle()


def refuse(stage: Stage, kind: str = "pdf") -> None:
    """Have one call of the background refused, and wait until its cool-down is over."""
    call = stage.call(RateLimited("429", retry_after_s=COOL_DOWN_S))
    start(stage, call, kind)
    call.until_begun()
    stage.settle()
    stage.pass_time(COOL_DOWN_S)


def crowd(stage: Stage, kind: str = "pdf", calls: int = 30) -> list[Call]:
    """Start more calls of the background than can run, each of which lasts; those that run."""
    started = [stage.held_call() for _ in range(calls)]
    for call in started:
        start(stage, call, kind)
    stage.settle()
    return [call for call in started if call.attempts]


def free_slots(parallel: int) -> int:
    """The slots that the background may have."""
    return parallel - FOREGROUND_SLOTS


def half(slots: int) -> int:
    return max(1, slots // 2)


@with_any_number_of_slots
def test_background_never_has_more_than_all_slots_but_two(
    set_stage: SetStage, parallel: int
) -> None:
    stage = set_stage(parallel=parallel)
    assert 1 <= len(crowd(stage)) <= free_slots(parallel)


@with_any_number_of_slots
def test_after_enough_successes_the_background_has_all_slots_but_two(
    set_stage: SetStage, parallel: int
) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage)
    assert len(crowd(stage)) == free_slots(parallel)


@with_any_number_of_slots
def test_a_429_of_the_background_halves_its_parallelism(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage)
    refuse(stage)
    assert 1 <= len(crowd(stage)) <= half(free_slots(parallel))


@with_any_number_of_slots
def test_another_429_halves_it_again(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage)
    refuse(stage)
    refuse(stage)
    assert 1 <= len(crowd(stage)) <= half(half(free_slots(parallel)))


@with_any_number_of_slots
def test_after_any_number_of_429_one_call_may_still_run(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    for _ in range(10):
        refuse(stage)
    assert len(crowd(stage)) == 1


@with_any_number_of_slots
def test_successes_win_it_back_one_at_a_time(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage)
    refuse(stage)
    most = half(free_slots(parallel))
    crowd(stage)
    for _ in range(parallel):
        assert 1 <= stage.running <= most
        next(call for call in stage.calls if call.is_running).let_all_go()
        stage.pass_time(A_DISTANCE_S)
        most = min(most + 1, free_slots(parallel))


@with_any_number_of_slots
@pytest.mark.parametrize("refusals", [1, 5])
def test_enough_successes_win_all_of_it_back(
    set_stage: SetStage, parallel: int, refusals: int
) -> None:
    stage = set_stage(parallel=parallel)
    for _ in range(refusals):
        refuse(stage)
    succeed(stage)
    assert len(crowd(stage)) == free_slots(parallel)


@with_any_number_of_slots
def test_calls_that_are_refused_side_by_side_leave_one_at_least(
    set_stage: SetStage, parallel: int
) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage)
    refused = [
        stage.held_call(RateLimited("429", retry_after_s=COOL_DOWN_S)) for _ in range(parallel)
    ]
    for call in refused:
        start(stage, call)
    stage.settle()
    for call in refused:
        call.let_all_go()
    stage.settle()
    stage.pass_time(COOL_DOWN_S)
    assert 1 <= len(crowd(stage)) <= half(free_slots(parallel))


@with_any_number_of_slots
def test_a_429_of_the_foreground_halves_the_background_too(
    set_stage: SetStage, parallel: int
) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage)
    with pytest.raises(RateLimited):
        stage.fetch("limited", stage.call(RateLimited("429", retry_after_s=COOL_DOWN_S)))
    stage.pass_time(COOL_DOWN_S)
    assert 1 <= len(crowd(stage)) <= half(free_slots(parallel))


@with_any_number_of_slots
def test_a_429_halves_only_its_kind_of_call(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    succeed(stage, kind="pdf")
    succeed(stage, kind="list")
    refuse(stage, kind="pdf")
    assert len(crowd(stage, kind="list")) == free_slots(parallel)


def test_successes_of_another_kind_win_nothing_back(set_stage: SetStage) -> None:
    stage = set_stage(parallel=12)
    succeed(stage, kind="pdf")
    refuse(stage, kind="pdf")
    succeed(stage, kind="list")
    assert len(crowd(stage, kind="pdf")) <= half(free_slots(12))


@with_any_number_of_slots
def test_two_kinds_share_the_slots_of_the_background(set_stage: SetStage, parallel: int) -> None:
    stage = set_stage(parallel=parallel)
    for kind in ("pdf", "list"):
        succeed(stage, kind=kind)
    running = [*crowd(stage, "pdf"), *crowd(stage, "list")]
    assert len(running) == free_slots(parallel)


@with_any_number_of_slots
@pytest.mark.parametrize("is_over", [False, True])
def test_a_429_of_the_background_leaves_the_foreground_all_slots(
    set_stage: SetStage, parallel: int, is_over: bool
) -> None:
    stage = set_stage(parallel=parallel)
    limited = stage.call(RateLimited("429", retry_after_s=COOL_DOWN_S))
    start(stage, limited)
    limited.until_begun()
    stage.settle()
    if is_over:
        stage.pass_time(COOL_DOWN_S)
    calls = [stage.held_call() for _ in range(parallel)]
    for number, call in enumerate(calls):
        stage.caller(f"foreground {number}", call)
        call.until_begun()
    assert stage.running == parallel


@pytest.mark.parametrize("error", [NotFound, ServerFault])
def test_other_failures_do_not_halve_it(set_stage: SetStage, error: type[InvoicefsError]) -> None:
    stage = set_stage(parallel=8)
    succeed(stage)
    for _ in range(10):
        start(stage, stage.call(error("the server said so")))
    stage.settle()
    assert len(crowd(stage)) == free_slots(8)


def test_during_the_cool_down_none_of_the_background_runs(set_stage: SetStage) -> None:
    stage = set_stage(parallel=8, max_wait_s=5.0)
    succeed(stage)
    limited = stage.call(RateLimited("429", retry_after_s=4.0), "content")
    start(stage, limited)
    limited.until_begun()
    stage.settle()
    assert crowd(stage) == []
    stage.pass_time(3.875)
    assert stage.running == 0


def test_what_waited_for_the_cool_down_comes_back_by_halves(set_stage: SetStage) -> None:
    """All of it at one moment would be refused again."""
    stage = set_stage(parallel=12, max_wait_s=5.0)
    succeed(stage)
    limited = stage.held_call(RateLimited("429", retry_after_s=4.0), "content")
    start(stage, limited)
    limited.until_begun()
    waiting = [stage.held_call() for _ in range(30)]
    limited.let_go()
    stage.settle()
    for call in waiting:
        start(stage, call)
    stage.settle()
    stage.pass_time(4.5)
    assert 1 <= stage.running <= half(free_slots(12))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.lists(st.sampled_from(["content", "429", "404"]), max_size=40))
def test_whatever_the_answers_no_more_calls_run_than_allowed(
    parallel: int, answers: list[str]
) -> None:
    with Stage(parallel=parallel) as stage:
        for answer in answers:
            outcome = {"429": RateLimited("429"), "404": NotFound("404")}.get(answer, answer)
            start(stage, stage.held_call(outcome, "content"))
            if answer == "content":
                stage.caller(f"caller {next(_numbers)}", stage.held_call())
        for _ in range(5):
            stage.let_all_go()
            stage.pass_time(1.0)
        assert stage.most_running <= parallel
        assert len(crowd(stage)) <= max(0, free_slots(parallel))


# The pace.


def slowed_down(set_stage: SetStage, max_wait_s: float) -> Stage:
    """A stage on which calls begin a second apart, and one has just begun."""
    stage = set_stage(parallel=8, max_wait_s=max_wait_s)
    stage.fetch("before", stage.call())
    call = stage.call(RateLimited("429", retry_after_s=COOL_DOWN_S))
    start(stage, call)
    call.until_begun()
    stage.settle()
    stage.pass_time(A_DISTANCE_S)
    stage.fetch("first", stage.call())
    return stage


def test_a_call_of_the_foreground_keeps_the_pace(set_stage: SetStage) -> None:
    stage = slowed_down(set_stage, max_wait_s=5.0)
    call = stage.call()
    caller = stage.caller("second", call)
    stage.settle()
    assert call.attempts == 0
    stage.play(until=caller)
    assert caller.result() == "content"


def test_a_call_of_the_foreground_waits_for_the_pace_no_longer_than_max_wait(
    set_stage: SetStage,
) -> None:
    stage = slowed_down(set_stage, max_wait_s=0.0)
    assert stage.fetch("second", stage.call()) == "content"


def test_nobody_is_refused_for_the_pace(set_stage: SetStage) -> None:
    stage = slowed_down(set_stage, max_wait_s=2.0)
    callers = [stage.caller(f"caller {number}", stage.call()) for number in range(10)]
    for caller in callers:
        stage.play(until=caller)
    assert {caller.result() for caller in callers} == {"content"}


def test_the_pressure_is_what_runs_and_waits(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3)
    assert stage.scheduler.pressure() == Pressure(0, 0, {})

    running = crowd(stage, calls=5)

    pressure = stage.scheduler.pressure()
    assert (pressure.running, pressure.waiting) == (len(running), 5 - len(running))
    assert pressure.cool_downs_s == {}
    assert len(running) == free_slots(3)


def test_the_pressure_tells_how_long_a_kind_pauses(set_stage: SetStage) -> None:
    stage = set_stage(parallel=3, max_wait_s=5.0)
    stage.caller("limited", stage.call(RateLimited("429", retry_after_s=4.0), "content"))
    stage.settle()
    stage.pass_time(1.0)

    (left_s,) = stage.scheduler.pressure().cool_downs_s.values()

    assert 2.0 < left_s <= 3.5
