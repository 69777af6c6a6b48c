"""How calls are made: a bounded pool of our own threads, and everything that is gentle about it.

It knows neither invoices nor HTTP. A call is a function of a deadline, has a key that says what
it brings and a kind that says which endpoint it strains.

Invariants:

1. At most `parallel` calls run at one time, and background calls leave `FOREGROUND_SLOTS` of
   them free. The foreground goes first.
2. Single-flight: at any time there is at most one job per key. Who asks for a key that is under
   way waits for that job; a foreground caller lifts a background job into the foreground.
3. Retrying lives here and nowhere else. Only what a moment may mend is tried again, and only as
   long as the wait ends within `max_wait_s` of the job's start and before its deadline.
4. A 429 starts a cool-down of its kind of call, and slows such calls down: see `throttle`. A
   person waits for the pace no longer than `max_wait_s`, and never in vain.
5. A failure is remembered for `FAILURE_MEMORY_S` and answered from memory: one ``open`` of a
   program is several FUSE calls, and each would wait again (measured: 40 s with the API down).
   Of one of the background only a refusal counts for the foreground.
6. Nobody waits past his deadline, and no call begins after that of its job, which is the latest
   of those who wait for it.

Threading: one lock guards every field of `Scheduler` and `_Job`; it is never held during a call.
`_work` wakes workers, `_done` wakes callers; both are conditions on that lock. Workers wait out
neither a retry nor a cool-down: the job goes back to the queue with the moment it may run again.
"""

import logging
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from invoicefs.clock import Clock, Deadline
from invoicefs.errors import (
    CredentialRenewed,
    InvoicefsError,
    NoAnswer,
    OutOfMemory,
    RateLimited,
    TimedOut,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from invoicefs.scheduling.throttle import FIRST_BACKOFF_S, Priority, Throttle, jittered
from invoicefs.threads import start_thread

T = TypeVar("T")

log = logging.getLogger(__name__)

FOREGROUND_SLOTS = 2
FAILURE_MEMORY_S = 5.0
IDLE_WORKER_S = 30.0
"""After it a worker that has nothing to do ends, and gives back what it holds."""

MOST_RENEWALS = 3  # of a credential during one call: those beside it may have it renewed, too

_SPREAD_S = 0.25  # callers that were told to come back at one moment do not come all at once
_FAILURES_REMEMBERED = 10_000
_WORTH_ANOTHER_TRY = (RateLimited, Unavailable, Unreachable)
_TOO_LATE = "no answer within --timeout"
_ENDING = "the mount is ending"
_NO_MEMORY = "this machine has no more memory just now"
_COOLING_DOWN = "the server's rate limit is still in force"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many calls run at one time, and how long a call may wait to be tried again."""

    parallel: int
    max_wait_s: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """How many calls run and wait now, and for how long kinds of calls pause because of a 429."""

    running: int
    waiting: int
    cool_downs_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


@dataclass(eq=False, slots=True)
class _Job:
    """One call to be made, with its retries; `outcome` is set once, when it is over.

    `began_s` is when somebody began to wait for it. `attempt_*` are those of the attempt that
    runs or ran last.
    """

    key: str
    kind: str
    call: Callable[[Deadline], Any]
    deadline: Deadline
    priority: Priority
    began_s: float
    not_before_s: float = 0.0
    attempts: int = 0
    attempt_began_s: float = 0.0
    attempt_deadline_s: float = 0.0
    renewals: int = 0
    last_error: InvoicefsError | None = None
    outcome: _Outcome | None = None


@dataclass(frozen=True, slots=True)
class _Failure:
    """How a job ended; `priority` is that of the job."""

    error: InvoicefsError
    until_s: float
    priority: Priority

    def counts_for(self, priority: Priority, now_s: float) -> bool:
        """Whether a call of this priority would end like this, so that it is not made."""
        if now_s >= self.until_s:
            return False
        # What kept the background from an answer need not keep a person from his, nor need a
        # credential that may have been renewed since.
        is_about_the_call = not isinstance(self.error, NoAnswer | Unauthenticated)
        return self.priority <= priority or is_about_the_call


class Scheduler:
    """Makes calls on behalf of callers that wait, and of nobody.

    Each worker calls `on_worker_end` as its last.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        on_worker_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._limits = limits
        self._on_worker_end = on_worker_end
        self._most_background = limits.parallel - FOREGROUND_SLOTS
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._queue: list[_Job] = []
        self._running: list[_Job] = []
        self._jobs: dict[str, _Job] = {}
        self._workers = 0
        self._idle_workers = 0
        self._throttles: defaultdict[str, Throttle] = defaultdict(
            lambda: Throttle(self._most_background, jitter)
        )
        self._failures: dict[str, _Failure] = {}
        self._is_closed = False

    def fetch(self, key: str, kind: str, call: Callable[[Deadline], T], deadline: Deadline) -> T:
        """The result of `call`, made now or already under way for the same key.

        Raises what the call raised, a failure that is still remembered, or `TimedOut` at the
        deadline.
        """
        with self._lock:
            job = self._join_or_queue(key, kind, call, deadline, Priority.FOREGROUND)
            while job.outcome is None and deadline.left_s() > 0:
                self._clock.wait(self._done, deadline.left_s())
            outcome = job.outcome or _Outcome(error=TimedOut(_TOO_LATE))
        if isinstance(outcome.error, InvoicefsError):
            # Many callers raise this one object: without this its traceback grows with each.
            raise outcome.error.with_traceback(None)
        if outcome.error is not None:
            raise outcome.error
        result: T = outcome.value
        return result

    def start(
        self, key: str, kind: str, call: Callable[[Deadline], object], deadline: Deadline
    ) -> None:
        """Have `call` made in the background, unless its key is under way or has just failed.

        Where `parallel` leaves no slot to the background it is not made.
        """
        if self._most_background <= 0:
            return
        with self._lock:
            self._join_or_queue(key, kind, call, deadline, Priority.BACKGROUND)

    def pressure(self) -> Pressure:
        """What it does just now; a pause counts that holds back who waits for a call."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            left_s = {
                kind: throttle.cool_until_s(Priority.FOREGROUND) - now_s
                for kind, throttle in self._throttles.items()
            }
            cool_downs_s = {kind: each_s for kind, each_s in left_s.items() if each_s > 0}
            return Pressure(len(self._running), len(self._queue), cool_downs_s)

    def close(self) -> None:
        """Make no further call. Those that run end by their deadlines; nobody waits for them."""
        with self._lock:
            self._is_closed = True
            for job in tuple(self._queue):
                self._finish(job, _Outcome(error=TimedOut(_ENDING)))
            self._work.notify_all()

    # Every function from here to the workers is called with the lock held.

    def _join_or_queue(
        self,
        key: str,
        kind: str,
        call: Callable[[Deadline], Any],
        deadline: Deadline,
        priority: Priority,
    ) -> _Job:
        now_s = self._clock.monotonic_s()
        under_way = self._jobs.get(key)
        if under_way is not None and not self._is_stuck(under_way, now_s):
            self._join(under_way, deadline, priority, now_s)
            return under_way
        job = _Job(key, kind, call, deadline, priority, began_s=now_s)
        failure = self._failures.get(key)
        if self._is_closed:
            job.outcome = _Outcome(error=TimedOut(_ENDING))
        elif under_way is not None:
            job.outcome = _Outcome(error=TimedOut(_TOO_LATE))
        elif failure is not None and failure.counts_for(priority, now_s):
            job.outcome = _Outcome(error=failure.error)
        else:
            self._ensure_worker()
            self._jobs[key] = job
            self._queue.append(job)
            self._give_up_hopeless(now_s)
            self._work.notify()
        return job

    def _is_stuck(self, job: _Job, now_s: float) -> bool:
        """Whether a call still runs after its deadline: a resolver, say, that nothing can end."""
        return job in self._running and now_s >= job.attempt_deadline_s

    def _join(self, job: _Job, deadline: Deadline, priority: Priority, now_s: float) -> None:
        """Let one more wait for a job, if it is a background job for the first time."""
        job.deadline = max(job.deadline, deadline, key=lambda each: each.at_s)
        if priority < job.priority:
            job.priority = priority
            job.began_s = now_s
            job.not_before_s = 0.0
        self._work.notify_all()

    def _ensure_worker(self) -> None:
        """Start one more worker if all are busy; raises `OutOfMemory` if none can be had."""
        # A worker that was just woken still counts as idle, so compare with all that waits.
        if self._idle_workers <= len(self._queue) and self._workers < self._limits.parallel:
            name = f"call-{self._workers + 1}"
            try:
                start_thread(self._work_until_closed, name)
            except OutOfMemory:
                if self._workers == 0:
                    raise
                return  # those that there are will do
            self._workers += 1

    def _take(self, now_s: float) -> _Job | None:
        """The next job that may run, moved from the queue to the running ones."""
        self._give_up_hopeless(now_s)
        for job in sorted(self._queue, key=lambda each: each.priority):  # stable: first come
            if self._begin_s(job) <= now_s and self._has_slot_for(job):
                self._queue.remove(job)
                self._running.append(job)
                self._throttles[job.kind].begin(now_s)
                job.attempts += 1
                job.attempt_began_s = now_s
                job.attempt_deadline_s = job.deadline.at_s
                return job
        return None

    def _has_slot_for(self, job: _Job) -> bool:
        if job.priority is Priority.FOREGROUND:
            return True  # there are no more workers than slots
        background = [each for each in self._running if each.priority is Priority.BACKGROUND]
        of_its_kind = sum(each.kind == job.kind for each in background)
        return (
            len(background) < self._most_background
            and of_its_kind < self._throttles[job.kind].slots
        )

    def _begin_s(self, job: _Job) -> float:
        """The moment from which on the job may run: when it is ready, and in pace."""
        in_pace_s = self._throttles[job.kind].next_in_pace_s
        if job.priority is Priority.FOREGROUND:
            in_pace_s = min(in_pace_s, job.began_s + self._limits.max_wait_s)
        return max(self._ready_s(job), in_pace_s)

    def _ready_s(self, job: _Job) -> float:
        """The moment at which the job's own backoff and the cool-downs have ended."""
        return max(job.not_before_s, self._throttles[job.kind].cool_until_s(job.priority))

    def _give_up_hopeless(self, now_s: float) -> None:
        """Finish the jobs that could only run too late."""
        for job in tuple(self._queue):
            if now_s >= job.deadline.at_s:
                self._finish(job, _Outcome(error=job.last_error or TimedOut(_TOO_LATE)))
                continue
            ready_s = self._ready_s(job)
            latest_s = min(job.began_s + self._limits.max_wait_s, job.deadline.at_s)
            if ready_s > now_s and ready_s > latest_s:
                self._finish(job, _Outcome(error=job.last_error or RateLimited(_COOLING_DOWN)))

    def _next_change_s(self, now_s: float) -> float | None:
        """Seconds until a queued job may run or has to be given up; None where none is queued."""
        moments = [min(self._begin_s(job), job.deadline.at_s) for job in self._queue]
        later = [moment for moment in moments if moment > now_s]
        return min(later) - now_s if later else None

    def _settle(self, job: _Job, outcome: _Outcome) -> None:
        """Note what an attempt brought: finish the job, or queue it to be tried again."""
        self._running.remove(job)
        error, throttle = outcome.error, self._throttles[job.kind]
        now_s = self._clock.monotonic_s()
        if error is None:
            throttle.succeed(job.priority, job.attempt_began_s)
        if isinstance(error, RateLimited):
            throttle.refuse(job.priority, job.attempt_began_s, now_s, error.retry_after_s)
        if isinstance(error, _WORTH_ANOTHER_TRY) and not self._is_closed:
            job.last_error = error
            job.not_before_s = now_s + self._backoff_s(job, error)
            self._queue.append(job)
            self._give_up_hopeless(now_s)
        elif isinstance(error, CredentialRenewed) and self._may_try_renewed(job):
            job.renewals += 1
            self._queue.append(job)
        else:
            self._finish(job, outcome)
        self._work.notify()  # a slot is free, also for what only this kind of slot may run

    def _may_try_renewed(self, job: _Job) -> bool:
        """Whether to try with the credential that has taken the place of the refused one."""
        return job.renewals < MOST_RENEWALS and not self._is_closed

    def _backoff_s(self, job: _Job, error: InvoicefsError) -> float:
        """The job's own wait until it is tried again; a cool-down comes on top."""
        own_s = jittered(FIRST_BACKOFF_S * 2.0 ** (job.attempts - 1), self._jitter)
        asked_s: float | None = getattr(error, "retry_after_s", None)
        # A server that asks for no wait at all gets its calls one by one all the same.
        return own_s if asked_s is None else max(asked_s + self._jitter() * _SPREAD_S, own_s)

    def _finish(self, job: _Job, outcome: _Outcome) -> None:
        if job in self._queue:
            self._queue.remove(job)
        del self._jobs[job.key]
        self._remember_failure(job, outcome.error)
        job.outcome = outcome
        self._done.notify_all()

    def _remember_failure(self, job: _Job, error: Exception | None) -> None:
        now_s = self._clock.monotonic_s()
        self._failures.pop(job.key, None)
        if not isinstance(error, InvoicefsError) or job.attempts == 0:
            return  # a call that was never made has not failed
        until_s = now_s + FAILURE_MEMORY_S
        if isinstance(error, RateLimited):
            if job.priority is Priority.BACKGROUND:
                return  # the foreground makes its own call
            until_s = self._throttles[job.kind].cool_until_s(job.priority)
        if len(self._failures) >= _FAILURES_REMEMBERED:
            self._failures = {k: f for k, f in self._failures.items() if now_s < f.until_s}
        self._failures[job.key] = _Failure(error, until_s, job.priority)

    # The workers.

    def _work_until_closed(self) -> None:
        try:
            while self._work_once():
                pass  # between two jobs a worker holds on to nothing of the last one
        finally:
            self._on_worker_end()

    def _work_once(self) -> bool:
        job = self._wait_for_job()
        if job is None:
            return False
        outcome = _attempt(job)
        if job.priority is Priority.BACKGROUND and _is_unexpected(outcome.error):
            log.error("Unexpected failure of %s", job.key, exc_info=outcome.error)
        with self._lock:
            self._settle(job, outcome)
        return True

    def _wait_for_job(self) -> _Job | None:
        with self._lock:
            idle_since_s = self._clock.monotonic_s()
            while not self._is_closed:
                # One look at the clock for all: what becomes ready in between would be missed.
                now_s = self._clock.monotonic_s()
                job = self._take(now_s)
                if job is not None:
                    return job
                if self._queue:
                    wait_s = self._next_change_s(now_s)
                elif (wait_s := idle_since_s + IDLE_WORKER_S - now_s) <= 0:
                    break
                self._idle_workers += 1
                self._clock.wait(self._work, wait_s)
                self._idle_workers -= 1
            self._workers -= 1
        return None


def _attempt(job: _Job) -> _Outcome:
    try:
        return _Outcome(value=job.call(Deadline(job.attempt_deadline_s, job.deadline.clock)))
    except InvoicefsError as error:
        return _Outcome(error=_bare(error))
    except MemoryError:
        return _Outcome(error=OutOfMemory(_NO_MEMORY))
    except Exception as error:  # raised, with its traceback, where somebody waits for it
        return _Outcome(error=error)


def _is_unexpected(error: Exception | None) -> bool:
    return error is not None and not isinstance(error, InvoicefsError)


def _bare(error: InvoicefsError) -> InvoicefsError:
    """The error without what it holds on to, for it is kept for a while.

    Its causes and their frames hold whole answers: 24 of them took a gigabyte (measured). The
    request that failed, a note of the cause, stays for the log.
    """
    for note in getattr(error.__cause__, "__notes__", ()):
        error.add_note(note)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
