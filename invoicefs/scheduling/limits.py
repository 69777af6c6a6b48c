"""Whether and when a job may run: the slots of the pool, and the rate limits of each kind.

Threading: a `Limits` is guarded by the lock of its owner.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from invoicefs.errors import RateLimited
from invoicefs.scheduling.jobs import Job
from invoicefs.scheduling.throttle import Priority, Throttle
from invoicefs.settings import Settings

FOREGROUND_SLOTS: Final = 1
"""How many slots the background leaves free.

A program that reads sequentially waits in the foreground for one of the requests that were started
ahead of it, so with one slot for it, all slots are in use.
"""


class Limits:
    """The limits of a scheduler; `most_background` is the number of slots for the background."""

    def __init__(self, settings: Settings, jitter: Callable[[], float]) -> None:
        self._max_wait_s = settings.max_wait_s
        self.most_background = max(0, settings.parallel - FOREGROUND_SLOTS)
        self._throttles: defaultdict[str, Throttle] = defaultdict(
            lambda: Throttle(self.most_background, jitter)
        )

    def has_slot_for(self, job: Job, running: Iterable[Job]) -> bool:
        """Return whether a job may run beside those that are in flight."""
        if job.priority is Priority.FOREGROUND:
            return True  # there are no more workers than slots
        background = [other for other in running if other.priority is Priority.BACKGROUND]
        of_its_kind = sum(other.kind == job.kind for other in background)
        return (
            len(background) < self.most_background and of_its_kind < self._throttles[job.kind].slots
        )

    def begin_s(self, job: Job) -> float:
        """Return the earliest time at which the job may run: ready, and within the pace."""
        throttle = self._throttles[job.kind]
        in_pace_s = throttle.next_in_pace_s
        if job.priority is Priority.FOREGROUND:
            in_pace_s = min(in_pace_s, job.began_s + self._max_wait_s)
        else:
            in_pace_s = max(in_pace_s, throttle.next_even_s)
        return max(self._ready_s(job), in_pace_s)

    def is_hopeless(self, job: Job, now_s: float) -> bool:
        """Return whether the job could only run after its deadline, or after `max_wait_s`."""
        ready_s = self._ready_s(job)
        latest_s = min(job.began_s + self._max_wait_s, job.deadline.at_s)
        return ready_s > now_s and ready_s > latest_s

    def begin(self, job: Job, now_s: float) -> None:
        """Note that a request begins."""
        self._throttles[job.kind].begin(now_s)

    def end(self, job: Job, error: Exception | None, now_s: float) -> None:
        """Note how a request has ended."""
        throttle = self._throttles[job.kind]
        if error is None:
            throttle.succeed(job.priority, job.attempt_began_s, now_s)
        if isinstance(error, RateLimited):
            throttle.refuse(job.priority, job.attempt_began_s, now_s, error.retry_after_s)

    def cool_until_s(self, job: Job) -> float:
        """Return the end of the cool-downs that delay a job."""
        return self._throttles[job.kind].cool_until_s(job.priority)

    def cool_downs_s(self, now_s: float) -> Mapping[str, float]:
        """Return the seconds left of the cool-downs of the foreground, by kind of request."""
        left_s = {
            kind: throttle.cool_until_s(Priority.FOREGROUND) - now_s
            for kind, throttle in self._throttles.items()
        }
        return {kind: kind_s for kind, kind_s in left_s.items() if kind_s > 0}

    def _ready_s(self, job: Job) -> float:
        """Return the time at which the job's own backoff and the cool-downs have ended."""
        return max(job.not_before_s, self.cool_until_s(job))
