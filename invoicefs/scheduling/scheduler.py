"""The scheduler of requests: a bounded pool of workers, with priorities, retries and rate limits.

It knows nothing about invoices or HTTP. A request is a function of a deadline. It has a key that
identifies its result, and a kind that identifies the endpoint it puts load on.

Invariants:

1. At most `parallel` requests are in flight, and background requests leave a slot free. Foreground
   requests go first, and among them urgent ones, so that a listing does not wait behind many
   downloads.
2. Single-flight: at any time there is at most one job per key. A caller whose key already has a
   job waits for that job; a foreground caller turns a background job into a foreground job. A
   queued job whose last foreground caller has left is dropped.
3. Retrying happens here and nowhere else. Only transient errors are retried, and only if the wait
   ends within `max_wait_s` of the job's start and before its deadline.
4. A 429 starts a cool-down of its kind of request, and slows such requests down: see `throttle`.
   A foreground job is delayed by the pace for at most `max_wait_s`.
5. A failure is remembered for `FAILURE_MEMORY_S` and raised from memory: one ``open`` of a program
   is several FUSE calls, and each would wait again (measured: 40 s with the API down). A failure
   of a background job only applies to foreground callers if the API has refused the request itself.
6. No caller waits beyond its deadline, and no request begins after the deadline of its job, which
   is the latest of its callers' deadlines. A caller that joins a request does not inherit its
   deadline: if it ends by that, it is made again as long as a caller has time left.

Threading: one lock guards every field of `Scheduler` and `Job`; it is never held during a request.
`_work` wakes workers, `_done` wakes callers; both are conditions on that lock. A worker that has
ended a job looks for the next one itself; it wakes another worker if more are queued. Workers do
not wait for a retry or a cool-down: the job goes back to the queue with the time at which it may
run again.
"""

import logging
import random
import threading
from collections.abc import Callable
from typing import TypeVar

from invoicefs.clock import Clock, Deadline
from invoicefs.errors import (
    MOUNT_IS_ENDING,
    TIMED_OUT,
    CredentialRenewed,
    InvoicefsError,
    OutOfMemory,
    RateLimited,
    TimedOut,
    Unavailable,
    Unreachable,
)
from invoicefs.scheduling.failures import FAILURE_MEMORY_S, Failure, FailureMemory
from invoicefs.scheduling.jobs import Job, Load, Outcome
from invoicefs.scheduling.limits import Limits
from invoicefs.scheduling.throttle import FIRST_BACKOFF_S, Priority, jittered
from invoicefs.settings import Settings
from invoicefs.threads import start_thread

T = TypeVar("T")

log = logging.getLogger(__name__)

IDLE_WORKER_S = 30.0
"""How long a worker waits for a job before it ends and releases its resources."""

MAX_RENEWALS = 3  # retries per job after a renewal; several, as the credential may be renewed again

_SPREAD_S = 0.25  # so that jobs with the same Retry-After do not all retry at once
_TRANSIENT_ERRORS = (RateLimited, Unavailable, Unreachable)
_COOLING_DOWN = "the server's rate limit is still in force"


class Scheduler:
    """Makes requests in the foreground, with callers that wait, and in the background, without.

    Each worker calls `on_worker_end` before it ends. The class has more than 20 methods because the
    steps of a job's life share one lock.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        on_worker_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._parallel = settings.parallel
        self._timeout_s = settings.timeout_s
        self._on_worker_end = on_worker_end
        self._clock = clock
        self._jitter = jitter
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._done = threading.Condition(self._lock)
        self._queue: list[Job] = []
        self._running: list[Job] = []
        self._jobs: dict[str, Job] = {}
        self._workers = 0
        self._idle_workers = 0
        self._limits = Limits(settings, jitter)
        self._failures = FailureMemory()
        self._is_closed = False

    def fetch(
        self,
        key: str,
        kind: str,
        call: Callable[[Deadline], T],
        deadline: Deadline,
        *,
        is_urgent: bool = False,
    ) -> T:
        """Return the result of `call`, or that of a job that has the same key.

        An urgent request goes before others that wait. Raises the error of the request, a
        remembered failure, `TimedOut` at the deadline, or `CallerKilled`; a request in flight then
        goes on, for the next caller.
        """
        new = Job(key, kind, call, deadline, Priority.FOREGROUND, is_urgent)
        with self._lock:
            job = self._join_or_queue(new)
            job.callers += 1
        try:
            while not self._is_over(job, deadline):
                deadline.check_caller()
        finally:
            self._leave(job)
        result: T = (job.outcome or Outcome(error=TimedOut(TIMED_OUT))).result()
        return result

    def _is_over(self, job: Job, deadline: Deadline) -> bool:
        """Wait for a while; returns whether the job has ended or the deadline has passed."""
        with self._lock:
            if job.outcome is None and deadline.left_s() > 0:
                self._clock.wait(self._done, deadline.next_check_s())
            return job.outcome is not None or deadline.left_s() <= 0

    def _leave(self, job: Job) -> None:
        """Note that a caller has stopped waiting; a job in the queue that nobody wants is dropped.

        The last caller may have been killed, with hundreds of its threads.
        """
        with self._lock:
            job.callers -= 1
            if job.callers == 0 and job in self._queue:
                self._finish(job, Outcome(error=job.last_error or TimedOut(TIMED_OUT)))

    def start(
        self,
        key: str,
        kind: str,
        call: Callable[[Deadline], object],
        deadline: Deadline,
        is_wanted: Callable[[], bool],
        *,
        is_urgent: bool = False,
    ) -> bool:
        """Queue `call` in the background, unless its key has just failed.

        Returns whether there is a job with this key now. `is_wanted` is asked if there was none
        before; it must not block. The answer cannot be outdated by a job that has ended since.
        If `parallel` leaves no slot for the background, nothing is queued.
        """
        if self._limits.most_background == 0:
            return False
        new = Job(key, kind, call, deadline, Priority.BACKGROUND, is_urgent)
        with self._lock:
            if key in self._jobs or is_wanted():
                self._join_or_queue(new)
            return key in self._jobs

    def recent_failure(self, key: str, within_s: float) -> InvoicefsError | None:
        """Return the error of the last job with this key if it failed within the last `within_s`.

        Takes no lock, because every ``stat`` calls it.
        """
        failure = self._failures.get(key)
        is_recent = failure and self._clock.monotonic_s() - failure.failed_s < within_s
        return failure.error if failure and is_recent else None

    def load(self) -> Load:
        """Return the current load; cool-downs are those of the foreground."""
        with self._lock:
            cool_downs_s = self._limits.cool_downs_s(self._clock.monotonic_s())
            return Load(len(self._running), len(self._queue), cool_downs_s)

    def close(self) -> None:
        """Make no more requests. Those in flight end by their deadlines; this does not wait."""
        with self._lock:
            self._is_closed = True
            for job in tuple(self._queue):
                self._finish(job, Outcome(error=TimedOut(MOUNT_IS_ENDING)))
            self._work.notify_all()

    # The methods from here to the workers are called with the lock held.

    def _join_or_queue(self, job: Job) -> Job:
        """Return the job that has the same key, or else this one, which is queued or over."""
        now_s = self._clock.monotonic_s()
        current = self._jobs.get(job.key)
        if current is not None and not self._is_stuck(current, now_s):
            if current.join(job, now_s):
                self._work.notify()
            return current
        job.began_s = now_s
        failure = self._failures.get(job.key)
        if self._is_closed:
            job.outcome = Outcome(error=TimedOut(MOUNT_IS_ENDING))
        elif current is not None:
            job.outcome = Outcome(error=TimedOut(TIMED_OUT))
        elif failure is not None and failure.counts_for(job.priority, now_s):
            job.outcome = Outcome(error=failure.error)
        else:
            self._ensure_worker()
            self._jobs[job.key] = job
            self._queue.append(job)
            self._fail_hopeless_jobs(now_s)
            self._work.notify()
        return job

    def _is_stuck(self, job: Job, now_s: float) -> bool:
        """Return whether a request exceeds its deadline, as in a name resolver that hangs."""
        return job in self._running and now_s >= job.attempt_deadline_s

    def _ensure_worker(self) -> None:
        """Start another worker if all are busy; raises `OutOfMemory` if there are none at all."""
        # A worker that was just woken still counts as idle, so compare with all that is queued.
        if self._idle_workers <= len(self._queue) and self._workers < self._parallel:
            try:
                start_thread(self._work_until_closed, f"request-{self._workers + 1}")
            except OutOfMemory:
                if self._workers == 0:
                    raise
                return  # the existing workers are enough
            self._workers += 1

    def _take(self, now_s: float) -> Job | None:
        """Return the next job that may run, moved from the queue to those in flight."""
        self._fail_hopeless_jobs(now_s)
        # Sorting is stable: first come, first served.
        for job in sorted(self._queue, key=lambda job: (job.priority, not job.is_urgent)):
            may_begin = self._limits.begin_s(job) <= now_s
            if may_begin and self._limits.has_slot_for(job, self._running):
                self._queue.remove(job)
                self._running.append(job)
                self._limits.begin(job, now_s)
                job.begin_attempt(now_s, self._timeout_s)
                return job
        return None

    def _fail_hopeless_jobs(self, now_s: float) -> None:
        """Fail the jobs that could only run after their deadline, or after `max_wait_s`."""
        for job in tuple(self._queue):
            if now_s >= job.deadline.at_s:
                self._finish(job, Outcome(error=job.last_error or TimedOut(TIMED_OUT)))
                continue
            if self._limits.is_hopeless(job, now_s):
                self._finish(job, Outcome(error=job.last_error or RateLimited(_COOLING_DOWN)))

    def _next_change_s(self, now_s: float) -> float | None:
        """Return the seconds until a queued job may run or must fail; None if there is none."""
        times_s = [min(self._limits.begin_s(job), job.deadline.at_s) for job in self._queue]
        later = [time_s for time_s in times_s if time_s > now_s]
        return min(later) - now_s if later else None

    def _settle(self, job: Job, outcome: Outcome) -> None:
        """Finish a job after an attempt, or queue it to be retried."""
        self._running.remove(job)
        error, now_s = outcome.error, self._clock.monotonic_s()
        self._limits.end(job, error, now_s)
        if self._is_closed:
            self._finish(job, outcome)
        elif isinstance(error, _TRANSIENT_ERRORS):
            job.last_error = error
            job.not_before_s = now_s + self._backoff_s(job, error)
            self._queue.append(job)
            self._fail_hopeless_jobs(now_s)
        elif isinstance(error, TimedOut) and job.has_later_caller(now_s):
            self._queue.append(job)
        elif isinstance(error, CredentialRenewed) and job.renewals < MAX_RENEWALS:
            job.renewals += 1
            self._queue.append(job)
        else:
            self._finish(job, outcome)

    def _backoff_s(self, job: Job, error: InvoicefsError) -> float:
        """Return the backoff of the job itself, in seconds; cool-downs are not included."""
        own_s = jittered(FIRST_BACKOFF_S * 2.0 ** (job.attempts - 1), self._jitter)
        asked_s: float | None = getattr(error, "retry_after_s", None)
        # The job's own backoff is the minimum, even if the server asks for no wait.
        return own_s if asked_s is None else max(asked_s + self._jitter() * _SPREAD_S, own_s)

    def _finish(self, job: Job, outcome: Outcome) -> None:
        if job in self._queue:
            self._queue.remove(job)
        del self._jobs[job.key]
        self._remember_failure(job, outcome.error)
        job.outcome = outcome
        self._done.notify_all()

    def _remember_failure(self, job: Job, error: Exception | None) -> None:
        now_s = self._clock.monotonic_s()
        self._failures.forget(job.key)
        if not isinstance(error, InvoicefsError) or job.attempts == 0:
            return  # a request that was never made has not failed
        until_s = now_s + FAILURE_MEMORY_S
        if isinstance(error, RateLimited):
            if job.priority is Priority.BACKGROUND:
                return  # the foreground makes its own request
            until_s = self._limits.cool_until_s(job)
        self._failures.add(job.key, Failure(error, now_s, until_s, job.priority))

    # The workers.

    def _work_until_closed(self) -> None:
        try:
            while self._work_once():
                pass  # an idle worker keeps no reference to its last job
        finally:
            self._on_worker_end()

    def _work_once(self) -> bool:
        job = self._wait_for_job()
        if job is None:
            return False
        outcome = job.attempt()
        if job.priority is Priority.BACKGROUND and outcome.is_unexpected:
            log.error("Unexpected failure of %s", job.key, exc_info=outcome.error)
        with self._lock:
            self._settle(job, outcome)
        return True

    def _wait_for_job(self) -> Job | None:
        with self._lock:
            idle_since_s = self._clock.monotonic_s()
            while not self._is_closed:
                # With two readings, a job that becomes ready between them would be missed.
                now_s = self._clock.monotonic_s()
                job = self._take(now_s)
                if job is not None:
                    if self._queue:
                        self._work.notify()  # there may be a slot for another one
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
