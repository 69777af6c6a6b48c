"""How hard a kind of call may press the server: cool-downs, slots, and a pace.

Rate limits are not published, and differ by endpoint: 60 to 300 calls a minute and bursts of 18 to
60 have been seen. So a limit is found by running into it, and from then on kept away from:

- A 429 begins a cool-down. One begun by the foreground holds back every call of its kind, one
  begun by the background holds back the background only.
- Background calls begin with `FIRST_SLOTS` at one time and win one more after each
  `SUCCESSES_PER_SLOT`. A 429 takes half of the slots away. They begin with few because all that
  are on their way when a limit is reached are refused: the fewer, the better.
- After a 429 calls begin further apart than the server has admitted them of late, the cool-down
  counted in. Each success lets them come closer, at first by little, because the limit is near,
  and by more the longer it goes well. Each further 429 doubles the distance, up to what can be
  guessed; further apart they begin only where enough were admitted to know the limit. Fewer slots
  alone are no help where answers come fast: two calls at one time, 10 ms each, are two hundred a
  second. The pace delays calls, and is no reason to refuse one.

Calls that were on their way together are refused together: that is one event, not several.

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

_IDLE_S = 60.0  # after it the slots are few again: whoever comes next begins anew
_LONGEST_DISTANCE_S = 1.25  # 60 calls a minute is the strictest limit that has been seen
_LONGEST_GUESS_S = 0.25  # else one bad minute would make the next copy take many
_ENOUGH_ADMITTED = 8  # to know what a server admits; with fewer it may have been busy just once
_CAUTION = 1.25  # how much further apart than admitted
_GAIN = 0.0005  # twice as fast after 53 successes, 12 times after 100
_MOST_TIMED = 1000
_TIMED_FOR_S = 10.0
_MOST_DOUBLINGS = 10


class Priority(enum.IntEnum):
    """Who waits for a call: somebody inside a system call, or nobody."""

    FOREGROUND = 0
    BACKGROUND = 1


@dataclass(slots=True)
class _CoolDown:
    """The pause that calls make, begun by one priority."""

    began_s: float = 0.0
    until_s: float = 0.0
    in_a_row: int = 0


class Throttle:
    """What one kind of call has to observe; `most_slots` are those of the background."""

    def __init__(self, most_slots: int, jitter: Callable[[], float]) -> None:
        self._most_slots = most_slots
        self._jitter = jitter
        self._slots = min(FIRST_SLOTS, most_slots)
        self._successes = 0  # since the last 429
        self._cool_downs = {each: _CoolDown() for each in Priority}
        self._admitted_s: deque[float] = deque(maxlen=_MOST_TIMED)
        self._last_begin_s: float | None = None
        self._refused_s: float | None = None
        self._distance_s = 0.0

    @property
    def slots(self) -> int:
        """How many background calls may run at one time."""
        return self._slots

    def cool_until_s(self, priority: Priority) -> float:
        """The end of the cool-downs that hold back calls of this priority."""
        until_s = self._cool_downs[Priority.FOREGROUND].until_s
        if priority is Priority.FOREGROUND:
            return until_s
        return max(until_s, self._cool_downs[Priority.BACKGROUND].until_s)

    @property
    def next_in_pace_s(self) -> float:
        """The moment from which on the next call keeps its distance from the last one."""
        return 0.0 if self._last_begin_s is None else self._last_begin_s + self._distance_s

    def begin(self, now_s: float) -> None:
        """Note that a call begins."""
        if self._last_begin_s is not None and now_s - self._last_begin_s > _IDLE_S:
            self._slots = min(FIRST_SLOTS, self._slots)
        self._last_begin_s = now_s

    def succeed(self, priority: Priority, began_s: float) -> None:
        """Note that a call that began then has been admitted and answered."""
        self._cool_downs[priority].in_a_row = 0
        self._admitted_s.append(began_s)
        self._successes += 1
        self._distance_s /= 1 + _GAIN * self._successes
        if self._successes % SUCCESSES_PER_SLOT == 0:
            self._slots = min(self._slots + 1, self._most_slots)

    def refuse(
        self, priority: Priority, began_s: float, now_s: float, retry_after_s: float | None
    ) -> None:
        """Note that a call that began then has been refused with 429."""
        pause_s = self._begin_cool_down(priority, began_s, now_s, retry_after_s)
        if self._refused_s is None or began_s >= self._refused_s:
            self._slow_down(now_s, pause_s)
            self._refused_s = now_s

    def _begin_cool_down(
        self, priority: Priority, began_s: float, now_s: float, retry_after_s: float | None
    ) -> float:
        cool_down = self._cool_downs[priority]
        if began_s >= cool_down.began_s:
            cool_down.in_a_row += 1
            cool_down.began_s = now_s
        if retry_after_s is None:
            doublings = min(cool_down.in_a_row - 1, _MOST_DOUBLINGS)
            pause_s = jittered(FIRST_BACKOFF_S * 2.0**doublings, self._jitter)
        else:
            pause_s = max(retry_after_s, jittered(FIRST_BACKOFF_S, self._jitter))
        pause_s = min(pause_s, LONGEST_COOL_DOWN_S)
        cool_down.until_s = max(cool_down.until_s, now_s + pause_s)
        return pause_s

    def _slow_down(self, now_s: float, pause_s: float) -> None:
        self._slots = max(1, self._slots // 2)
        self._successes = 0
        guess_s = min(2 * self._distance_s, _LONGEST_GUESS_S)
        admitted_s = self._admitted_distance_s(now_s, now_s + pause_s)
        self._distance_s = max(self._distance_s, guess_s, admitted_s)

    def _admitted_distance_s(self, now_s: float, until_s: float) -> float:
        """A little more than the distance at which calls were admitted lately, up to `until_s`.

        0 where none were: then somebody else has used up what the server allows.
        """
        lately_s = [each for each in self._admitted_s if now_s - each < _TIMED_FOR_S]
        if not lately_s:
            return 0.0
        is_known = len(lately_s) >= _ENOUGH_ADMITTED
        longest_s = _LONGEST_DISTANCE_S if is_known else _LONGEST_GUESS_S
        return min(_CAUTION * (until_s - min(lately_s)) / len(lately_s), longest_s)


def jittered(wait_s: float, jitter: Callable[[], float]) -> float:
    """A part of the wait, at least half: callers that began together should not meet again."""
    return wait_s * (1 + jitter()) / 2
