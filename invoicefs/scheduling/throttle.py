"""The rate limit of a kind of request: cool-downs, slots, and a pace.

Rate limits are not published, and differ by endpoint: 60 to 300 requests a minute and bursts of 18
to 60 have been seen. So a limit is discovered by reaching it, and avoided from then on:

- A 429 starts a cool-down. One from the foreground delays every request of its kind; one from the
  background only delays the background.
- All requests in flight when a limit is reached are refused, so the background begins with
  `FIRST_SLOTS` slots. With one request in the foreground, the requests in flight double to 4, 8 and
  so on when as many have succeeded. A 429 removes half of the slots; from then on another one is
  gained after every `SUCCESSES_PER_SLOT`. These are slow start and congestion avoidance, see
  RFC 5681.
- After a 429, requests begin at larger intervals than the server has recently admitted, counting
  the cool-down. Each success reduces the interval, at first slightly, because the limit is near,
  and then by more. Each further 429 doubles it, up to `_MAX_GUESS_S`; it only grows beyond that if
  enough requests were admitted to know the limit. Fewer slots alone do not help if responses are
  fast: two slots with 10 ms a request are two hundred requests a second. The pace delays requests
  and never makes one fail.
- Slow requests of the background begin at even intervals, so that they also end one by one. When
  all slots are in use, a foreground request then waits for a fraction of a request's time, not for
  a whole one. Intervals that nobody would notice are left out.

If several requests that were in flight together are refused, they count as one 429.

Threading: one `Throttle` is guarded by the lock of its owner.
"""

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

FIRST_SLOTS: Final = 2
SUCCESSES_PER_SLOT: Final = 8
FIRST_BACKOFF_S: Final = 0.5
LONGEST_COOL_DOWN_S: Final = 300.0

_IDLE_S = 60.0  # after that time without a request, the slots begin at `FIRST_SLOTS` again
_MAX_INTERVAL_S = 1.25  # 60 requests a minute is the strictest limit that has been seen
_MAX_GUESS_S = 0.25  # otherwise one bad minute would slow down the next copy by many minutes
_ENOUGH_ADMITTED = 8  # to know the limit; with fewer, the server may just have been busy
_ENOUGH_SINCE_429 = 2
_CAUTION = 1.25  # the interval, as a multiple of the interval that was admitted
_GAIN = 0.0005  # twice as fast after 53 successes, 12 times after 100
_NOTICEABLE_S = 0.05
_LATENCY_WEIGHT = 0.25  # of the last request, in the mean
_MAX_TIMED = 1000
_TIMED_FOR_S = 10.0
_MAX_DOUBLINGS = 10


class Priority(enum.IntEnum):
    """The priority of a request: in the foreground, a caller waits for it in a system call."""

    FOREGROUND = 0
    BACKGROUND = 1


@dataclass(slots=True)
class _CoolDown:
    """A cool-down that requests of one priority have started."""

    began_s: float = 0.0
    until_s: float = 0.0
    in_a_row: int = 0


class Throttle:
    """The limits of a kind of request; `max_slots` is the maximum number of background slots."""

    def __init__(self, max_slots: int, jitter: Callable[[], float]) -> None:
        self._max_slots = max_slots
        self._jitter = jitter
        self._slots = min(FIRST_SLOTS, max_slots)
        self._successes = 0  # since the last 429
        self._cool_downs = {priority: _CoolDown() for priority in Priority}
        self._admitted_s: deque[float] = deque(maxlen=_MAX_TIMED)
        self._last_begin_s: float | None = None
        self._refused_s: float | None = None
        self._interval_s = 0.0
        self._latency_s = 0.0

    @property
    def slots(self) -> int:
        """The number of background requests that may be in flight."""
        return self._slots

    def cool_until_s(self, priority: Priority) -> float:
        """Return the end of the cool-downs that delay this priority."""
        until_s = self._cool_downs[Priority.FOREGROUND].until_s
        if priority is Priority.FOREGROUND:
            return until_s
        return max(until_s, self._cool_downs[Priority.BACKGROUND].until_s)

    @property
    def next_in_pace_s(self) -> float:
        """The earliest time at which the pace allows the next request."""
        return 0.0 if self._last_begin_s is None else self._last_begin_s + self._interval_s

    @property
    def next_even_s(self) -> float:
        """The earliest time at which the next request of the background may begin, see above."""
        interval_s = self._latency_s / (self._slots + 1)
        if self._last_begin_s is None or interval_s < _NOTICEABLE_S:
            return 0.0
        return self._last_begin_s + interval_s

    def begin(self, now_s: float) -> None:
        """Note that a request begins."""
        if self._last_begin_s is not None and now_s - self._last_begin_s > _IDLE_S:
            self._slots = min(FIRST_SLOTS, self._slots)
            if self._refused_s is None:
                self._successes = 0
        self._last_begin_s = now_s

    def succeed(self, priority: Priority, began_s: float, now_s: float) -> None:
        """Note that a request that began at this time has succeeded."""
        took_s = now_s - began_s
        weight = _LATENCY_WEIGHT if self._latency_s else 1.0
        self._latency_s += weight * (took_s - self._latency_s)
        self._cool_downs[priority].in_a_row = 0
        self._admitted_s.append(began_s)
        self._successes += 1
        self._interval_s /= 1 + _GAIN * self._successes
        self._slots = min(self._slots_after_success(), self._max_slots)

    def refuse(
        self, priority: Priority, began_s: float, now_s: float, retry_after_s: float | None
    ) -> None:
        """Note that a request that began at this time was refused with 429."""
        cool_down_s = self._begin_cool_down(priority, began_s, now_s, retry_after_s)
        if self._refused_s is None or began_s >= self._refused_s:
            self._slow_down(now_s, cool_down_s)
            self._refused_s = now_s

    def _slots_after_success(self) -> int:
        if self._refused_s is not None:
            return self._slots + (self._successes % SUCCESSES_PER_SLOT == 0)
        in_flight: int = 2 ** (self._successes.bit_length() - 1)
        return max(self._slots, in_flight - 1)

    def _begin_cool_down(
        self, priority: Priority, began_s: float, now_s: float, retry_after_s: float | None
    ) -> float:
        cool_down = self._cool_downs[priority]
        if began_s >= cool_down.began_s:
            cool_down.in_a_row += 1
            cool_down.began_s = now_s
        if retry_after_s is None:
            doublings = min(cool_down.in_a_row - 1, _MAX_DOUBLINGS)
            cool_down_s = jittered(FIRST_BACKOFF_S * 2.0**doublings, self._jitter)
        else:
            cool_down_s = max(retry_after_s, jittered(FIRST_BACKOFF_S, self._jitter))
        cool_down_s = min(cool_down_s, LONGEST_COOL_DOWN_S)
        cool_down.until_s = max(cool_down.until_s, now_s + cool_down_s)
        return cool_down_s

    def _slow_down(self, now_s: float, cool_down_s: float) -> None:
        self._slots = max(1, self._slots // 2)
        self._successes = 0
        guess_s = min(2 * self._interval_s, _MAX_GUESS_S)
        admitted_s = self._admitted_interval_s(now_s, now_s + cool_down_s)
        since_429_s = self._interval_since_429_s(now_s)
        self._interval_s = max(self._interval_s, guess_s, admitted_s, since_429_s)

    def _interval_since_429_s(self, now_s: float) -> float:
        """Return a little more than the mean interval of the requests admitted since the last 429.

        Nothing is left of a burst by then, so even two of them tell the limit. Returns 0 for fewer.
        """
        if self._refused_s is None:
            return 0.0
        admitted = sum(began_s >= self._refused_s for began_s in self._admitted_s)
        if admitted < _ENOUGH_SINCE_429:
            return 0.0
        return min(_CAUTION * (now_s - self._refused_s) / admitted, _MAX_INTERVAL_S)

    def _admitted_interval_s(self, now_s: float, until_s: float) -> float:
        """Return a little more than the mean interval of recently admitted requests.

        The interval is 0 if there were none: then another client has used up the limit.
        """
        recent_s = [began_s for began_s in self._admitted_s if now_s - began_s < _TIMED_FOR_S]
        if not recent_s:
            return 0.0
        is_known = len(recent_s) >= _ENOUGH_ADMITTED
        longest_s = _MAX_INTERVAL_S if is_known else _MAX_GUESS_S
        return min(_CAUTION * (until_s - min(recent_s)) / len(recent_s), longest_s)


def jittered(wait_s: float, jitter: Callable[[], float]) -> float:
    """Return between half and all of a wait, at random, so that retries are spread out."""
    return wait_s * (1 + jitter()) / 2
